#include "tokenizer/utf8.h"

#include <string.h>

/* How many bytes at p are one well-formed code point; if they are not, 0 and *bad is the length of
 * the maximal ill-formed subpart. Second bytes are narrowed as in Unicode 15, table 3-7. */
static size_t sequence(const unsigned char *p, size_t left, size_t *bad) {
    unsigned char low = 0x80, high = 0xbf;
    size_t need;
    *bad = 1;
    if (p[0] < 0x80)
        return 1;
    if (p[0] < 0xc2 || p[0] > 0xf4)
        return 0;
    need = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    if (p[0] == 0xe0)
        low = 0xa0; /* overlong */
    else if (p[0] == 0xed)
        high = 0x9f; /* surrogates */
    else if (p[0] == 0xf0)
        low = 0x90; /* overlong */
    else if (p[0] == 0xf4)
        high = 0x8f; /* above U+10FFFF */
    for (size_t i = 1; i < need; i++) {
        if (i >= left || p[i] < low || p[i] > high) {
            *bad = i;
            return 0;
        }
        low = 0x80;
        high = 0xbf;
    }
    return need;
}

/* Length of the ASCII at s. */
static size_t ascii(const char *s, size_t n) {
    size_t i = 0;
    uint64_t word;
    for (; i + 8 <= n; i += 8) {
        memcpy(&word, s + i, 8);
        if (word & 0x8080808080808080u)
            break;
    }
    while (i < n && (unsigned char)s[i] < 0x80)
        i++;
    return i;
}

size_t emb_utf8_valid(const char *s, size_t n) {
    size_t bad, at = ascii(s, n);
    while (at < n) {
        const size_t len = sequence((const unsigned char *)s + at, n - at, &bad);
        if (len == 0)
            return at;
        at += len;
        if (at < n && (unsigned char)s[at] < 0x80)
            at += ascii(s + at, n - at);
    }
    return n;
}

size_t emb_utf8_repair(const char *s, size_t n, char *out) {
    size_t bad, used = 0;
    for (size_t at = 0; at < n;) {
        const size_t good = emb_utf8_valid(s + at, n - at);
        memcpy(out + used, s + at, good);
        used += good;
        at += good;
        if (at == n)
            break;
        (void)sequence((const unsigned char *)s + at, n - at, &bad);
        memcpy(out + used, "\xef\xbf\xbd", 3);
        used += 3;
        at += bad;
    }
    return used;
}
