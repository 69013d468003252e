#include "base/hex.h"

#include <string.h>

static const char digits[] = "0123456789abcdef";

void emb_hex_write(const uint8_t *bytes, size_t n, char *out) {
    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    out[2 * n] = '\0';
}

static int value_of(char c) {
    const char *at = c != '\0' ? strchr(digits, c) : NULL;
    return at != NULL ? (int)(at - digits) : -1;
}

int emb_hex_read(const char *hex, size_t n, uint8_t *bytes) {
    for (size_t i = 0; i < n; i++) {
        const int high = value_of(hex[2 * i]);
        const int low = high >= 0 ? value_of(hex[2 * i + 1]) : -1;
        if (low < 0)
            return 0;
        bytes[i] = (uint8_t)(high * 16 + low);
    }
    return 1;
}
