/* utf8: decoding of text that is known to be well-formed, and making it so. */
#ifndef EMB_TOKENIZER_UTF8_H
#define EMB_TOKENIZER_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* The code point at s, which must be well-formed; *len is how many bytes it takes. */
static inline uint32_t emb_utf8_decode(const char *s, size_t *len) {
    const unsigned char *p = (const unsigned char *)s;
    const uint32_t a = p[0];
    if (a < 0x80) {
        *len = 1;
        return a;
    }
    if (a < 0xe0) {
        *len = 2;
        return (a & 0x1f) << 6 | (p[1] & 0x3f);
    }
    if (a < 0xf0) {
        *len = 3;
        return (a & 0xf) << 12 | (uint32_t)(p[1] & 0x3f) << 6 | (p[2] & 0x3f);
    }
    *len = 4;
    return (a & 7) << 18 | (uint32_t)(p[1] & 0x3f) << 12 | (uint32_t)(p[2] & 0x3f) << 6 |
           (p[3] & 0x3f);
}

/* Bytes of the code point whose first byte is `first`. */
static inline size_t emb_utf8_len(char first) {
    const unsigned char a = (unsigned char)first;
    return a < 0x80 ? 1 : a < 0xe0 ? 2 : a < 0xf0 ? 3 : 4;
}

/* Where the code point that ends before s + end starts; end > 0. */
static inline size_t emb_utf8_back(const char *s, size_t end) {
    do
        end--;
    while (((unsigned char)s[end] & 0xc0) == 0x80);
    return end;
}

/* Write a code point; returns its bytes, at most 4. */
static inline size_t emb_utf8_encode(uint32_t c, char *out) {
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xc0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xe0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3f));
        out[2] = (char)(0x80 | (c & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3f));
    out[2] = (char)(0x80 | (c >> 6 & 0x3f));
    out[3] = (char)(0x80 | (c & 0x3f));
    return 4;
}

/* Length of the longest well-formed start of s. */
size_t emb_utf8_valid(const char *s, size_t n);

/* Copy s, each maximal ill-formed subpart as one U+FFFD (Unicode 15, section 3.9, as the WHATWG
 * Encoding Standard decodes); returns the bytes written. out holds 3 * n bytes. */
size_t emb_utf8_repair(const char *s, size_t n, char *out);

#endif
