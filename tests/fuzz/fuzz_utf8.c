/* fuzz_utf8: bytes through validation and repair, against a decoder written the other way round. */
#include "fuzz/fuzz.h"

#include "tokenizer/utf8.h"

/* Bytes of the code point at s, 0 if it is ill-formed; then *bad is the length of its maximal
 * subpart: table 3-7 of the Unicode standard, written as the table stands. */
static size_t one(const uint8_t *s, size_t n, size_t *bad) {
    static const struct {
        uint8_t first[2], second[2], length;
    } rows[] = {{{0x00, 0x7f}, {0, 0}, 1},       {{0xc2, 0xdf}, {0x80, 0xbf}, 2},
                {{0xe0, 0xe0}, {0xa0, 0xbf}, 3}, {{0xe1, 0xec}, {0x80, 0xbf}, 3},
                {{0xed, 0xed}, {0x80, 0x9f}, 3}, {{0xee, 0xef}, {0x80, 0xbf}, 3},
                {{0xf0, 0xf0}, {0x90, 0xbf}, 4}, {{0xf1, 0xf3}, {0x80, 0xbf}, 4},
                {{0xf4, 0xf4}, {0x80, 0x8f}, 4}};
    *bad = 1;
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        if (s[0] < rows[r].first[0] || s[0] > rows[r].first[1])
            continue;
        for (size_t i = 1; i < rows[r].length; i++) {
            const uint8_t least = i == 1 ? rows[r].second[0] : 0x80;
            const uint8_t most = i == 1 ? rows[r].second[1] : 0xbf;
            if (i == n || s[i] < least || s[i] > most)
                return 0;
            *bad = i + 1;
        }
        return rows[r].length;
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *want = malloc(3 * size + 1), *got = malloc(3 * size + 1);
    FUZZ_CHECK(want && got);
    size_t n = 0, valid = size, seen_bad = 0;
    for (size_t at = 0, bad; at < size;) {
        const size_t len = one(data + at, size - at, &bad);
        if (!len && !seen_bad++)
            valid = at;
        memcpy(want + n, len ? (const char *)data + at : "\xef\xbf\xbd", len ? len : 3);
        n += len ? len : 3;
        at += len ? len : bad;
    }
    FUZZ_CHECK(emb_utf8_valid((const char *)data, size) == valid);
    FUZZ_CHECK(emb_utf8_repair((const char *)data, size, got) == n);
    FUZZ_CHECK(memcmp(got, want, n) == 0);
    FUZZ_CHECK(emb_utf8_valid(got, n) == n);
    for (size_t at = 0, len; at < n; at += len) {
        char again[4];
        const uint32_t c = emb_utf8_decode(got + at, &len);
        FUZZ_CHECK(c < 0x110000 && (c < 0xd800 || c > 0xdfff));
        FUZZ_CHECK(emb_utf8_len(got[at]) == len && emb_utf8_encode(c, again) == len);
        FUZZ_CHECK(memcmp(again, got + at, len) == 0);
        FUZZ_CHECK(emb_utf8_back(got, at + len) == at);
    }
    free(want);
    free(got);
    return 0;
}
