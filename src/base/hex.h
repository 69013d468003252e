/* hex: bytes as lower-case hexadecimal digits, as manifests and journals hold them. */
#ifndef EMB_BASE_HEX_H
#define EMB_BASE_HEX_H

#include <stddef.h>
#include <stdint.h>

/* out: 2 * n digits and NUL. */
void emb_hex_write(const uint8_t *bytes, size_t n, char *out);
/* 1 if hex starts with 2 * n such digits, which are then in bytes; else 0. */
int emb_hex_read(const char *hex, size_t n, uint8_t *bytes);

#endif
