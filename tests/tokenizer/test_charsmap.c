/* Precompiled: which part of a cluster is replaced, and broken maps. The maps are built here, one
 * block of 256 units for each node; the expected texts are those of
 * tokenizers.normalizers.Precompiled(bytes).normalize_str(text) for the same keys. */
#include "support/test.h"
#include "tokenizer/charsmap.h"

enum { UNITS = 256 * 24 };

typedef struct map_bytes {
    uint32_t units[UNITS];
    uint32_t used;
    unsigned char bytes[4 + UNITS * 4 + 64];
    size_t n;
    char base64[(4 + UNITS * 4 + 64) / 3 * 4 + 8];
} map_bytes;

static uint32_t new_block(map_bytes *m) {
    assert_true(m->used + 256 <= UNITS);
    m->used += 256;
    return m->used - 256;
}

static uint32_t link_to(uint32_t offset) {
    return offset >> 8 << 10 | 1u << 9;
}

/* Keys have no common prefixes but those of inner nodes; every value is `value`. */
static void add_key(map_bytes *m, const char *key, uint32_t value) {
    uint32_t base = 256;
    for (size_t i = 0; key[i] != '\0'; i++) {
        const unsigned char c = (unsigned char)key[i];
        const uint32_t at = base ^ c;
        const int last = key[i + 1] == '\0';
        if (m->units[at] == 0) {
            const uint32_t offset = (at ^ new_block(m)) & ~255u;
            m->units[at] = link_to(offset) | c | (uint32_t)last << 8;
            if (last)
                m->units[at ^ offset] = 1u << 31 | value;
        }
        base = at ^ (m->units[at] >> 10 << 8);
    }
}

static void encode(map_bytes *m) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t out = 0;
    for (size_t i = 0; i < m->n; i += 3) {
        const size_t left = m->n - i;
        const uint32_t bits = (uint32_t)m->bytes[i] << 16 |
                              (left > 1 ? (uint32_t)m->bytes[i + 1] << 8 : 0) |
                              (left > 2 ? m->bytes[i + 2] : 0);
        for (size_t k = 0; k < 4; k++)
            m->base64[out++] = k <= left ? digits[bits >> (18 - 6 * k) & 63] : '=';
    }
    m->base64[out] = '\0';
}

static void put_u32(unsigned char *to, uint32_t x) {
    for (int k = 0; k < 4; k++)
        to[k] = (unsigned char)(x >> 8 * k);
}

static void finish(map_bytes *m, const char *texts, size_t len) {
    put_u32(m->bytes, m->used * 4);
    for (uint32_t i = 0; i < m->used; i++)
        put_u32(m->bytes + 4 + i * 4, m->units[i]);
    memcpy(m->bytes + 4 + m->used * 4, texts, len);
    m->n = 4 + m->used * 4 + len;
    encode(m);
}

static map_bytes map; /* too large for the stack */

static void start(void) {
    memset(&map, 0, sizeof map);
    map.used = 512;
    map.units[0] = link_to(256);
}

static void check(const char *const (*cases)[2], size_t n) {
    const emb_env env = test_env();
    emb_unicode *u;
    emb_charsmap *c;
    emb_text_buf out = {NULL, 0, 0};
    assert_int_equal(emb_unicode_create(&u, &env), EMBED_OK);
    if (emb_charsmap_create(&c, &env, map.base64, strlen(map.base64)) != EMBED_OK)
        fail_msg("%s", emb_fail_message());
    for (size_t i = 0; i < n; i++) {
        size_t zero = 0;
        out.len = 0;
        assert_int_equal(
            emb_charsmap_apply(c, u, &env, cases[i][0], strlen(cases[i][0]), &out, &zero),
            EMBED_OK);
        assert_int_equal(emb_text_reserve(&out, &env, 1), EMBED_OK);
        out.data[out.len] = '\0';
        if (strcmp(out.data, cases[i][1]) != 0)
            fail_msg("case %zu: got \"%s\", want \"%s\"", i, out.data, cases[i][1]);
    }
    emb_free(&env, out.data);
    emb_charsmap_free(c, &env);
    emb_unicode_free(u, &env);
}

static void test_clusters(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"e\u0301x", "ZZ"},
        {"e\u0302", "e\u0302"},
        {"ex\u0301", "eZ"},
        {"x\r\ny", "ZZy"},
        {"\u00e9\u0301\u0302", "Z\u0301\u0302"},
        {"x\u0301\u0302\u0303", "Z\u0301\u0302\u0303"},
        {"x\u200d", "Z"},
        {"\u0600x", "\u0600Z"},
        {"ab", "ab"},
        {"e\u0301\u0301\u0301", "e\u0301\u0301\u0301"},
        {"", ""},
    };
    start();
    add_key(&map, "e\u0301", 0);
    add_key(&map, "\u00e9", 0);
    add_key(&map, "\r", 0);
    add_key(&map, "x", 0);
    finish(&map, "Z\0", 2);
    check(cases, sizeof cases / sizeof *cases);
}

static void test_removal(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"e\u0301x", "x"},
        {"e\u0302", ""},
        {"ex\u0301", "x\u0301"},
        {"e\u0301\u0301\u0301", "\u0301\u0301\u0301"},
    };
    start();
    add_key(&map, "e", 0);
    finish(&map, "\0", 1);
    check(cases, sizeof cases / sizeof *cases);
}

static void refuse(const char *base64, const char *message) {
    const emb_env env = test_env();
    emb_charsmap *c;
    const embed_status st = emb_charsmap_create(&c, &env, base64, strlen(base64));
    if (st != EMBED_ERR_FORMAT || c != NULL || strstr(emb_fail_message(), message) == NULL)
        fail_msg("wanted \"%s\", got \"%s\"", message, emb_fail_message());
}

static void test_broken(void **state) {
    (void)state;
    refuse("AAA", "expected base64 in groups of 4 characters, found 3 characters");
    refuse("AA!A", "expected base64, found byte 0x21 at character 2");
    refuse("AA==AAAA", "expected base64, found byte 0x3d at character 2");
    refuse("", "expected a trie of at most 0 bytes");
    refuse("AAAAAA==", "expected a trie of at most 0 bytes, found a length of 0");
    start();
    add_key(&map, "x", 0);
    finish(&map, "Z\0", 2);
    put_u32(map.bytes, 1u << 30); /* a trie longer than the file */
    encode(&map);
    refuse(map.base64, "expected a trie of at most ");
    finish(&map, "Z\0", 2);
    map.bytes[4] = map.bytes[5] = map.bytes[6] = 0xff; /* the root leads outside */
    encode(&map);
    refuse(map.base64, "expected trie offsets below ");
    start();
    add_key(&map, "x", 1000); /* beyond the replacements */
    finish(&map, "Z\0", 2);
    refuse(map.base64, "expected replacements within 2 bytes, found offset 1000");
    start();
    add_key(&map, "x", 1); /* inside a character */
    finish(&map, "\u00e9", 3);
    refuse(map.base64, "expected replacements to start at a character, found offset 1");
    start();
    add_key(&map, "x", 0);
    finish(&map, "a\xff", 2);
    refuse(map.base64, "expected replacements in UTF-8, found byte 0xff at 1");
}

/* No lookup may leave the trie, whatever its units say. */
static void test_random_units(void **state) {
    (void)state;
    static const char *const texts[] = {"plain", "\u00e9\u4e2d\U0001f600", "e\u0301\r\n",
                                        "\177\177"};
    const emb_env env = test_env();
    uint64_t seed = 5;
    int opened = 0;
    emb_unicode *u;
    emb_text_buf out = {NULL, 0, 0};
    assert_int_equal(emb_unicode_create(&u, &env), EMBED_OK);
    for (int round = 0; round < 3000; round++) {
        emb_charsmap *c;
        start();
        add_key(&map, "e\u0301", 0);
        add_key(&map, "x", 0);
        finish(&map, "Z\0", 2);
        for (int k = 0; k < 1 + round % 4; k++)
            map.bytes[4 + test_rand(&seed) % (map.n - 4)] = (unsigned char)test_rand(&seed);
        encode(&map);
        if (emb_charsmap_create(&c, &env, map.base64, strlen(map.base64)) != EMBED_OK)
            continue;
        opened++;
        for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
            size_t zero = 1;
            out.len = 0;
            assert_int_equal(
                emb_charsmap_apply(c, u, &env, texts[i], strlen(texts[i]), &out, &zero), EMBED_OK);
        }
        emb_charsmap_free(c, &env);
    }
    assert_in_range(opened, 100, 2999);
    emb_free(&env, out.data);
    emb_unicode_free(u, &env);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clusters),
        cmocka_unit_test(test_removal),
        cmocka_unit_test(test_broken),
        cmocka_unit_test(test_random_units),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
