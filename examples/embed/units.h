/* units: sizes and amounts as people write and read them. Sizes are binary (K or KiB = 1024 bytes),
 * amounts of things are decimal (k or K = 1000). */
#ifndef EMBED_PROGRAM_UNITS_H
#define EMBED_PROGRAM_UNITS_H

#include <stdint.h>

#define UNITS_SIZE_EXPECTED "a size such as 800M, 1.5GiB or 4096 (bytes)"
#define UNITS_AMOUNT_EXPECTED "an amount such as 5000, 100k or 1.5M"

/* Bytes: digits, a fraction only with a suffix, then nothing or B, K M G T or KiB MiB GiB TiB in
 * either case. 0 if `text` is none. */
int units_parse_size(const char *text, uint64_t *bytes);
/* Things: the same with k, M and G for 1e3, 1e6 and 1e9. */
int units_parse_amount(const char *text, uint64_t *amount);

/* "1.50 GiB", "17 B"; "12.3 M", "999". Both write into out, of 16 bytes, and return it. */
const char *units_size(uint64_t bytes, char out[16]);
const char *units_amount(double amount, char out[16]);

#endif
