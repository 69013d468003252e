/* json_number: decimal fractions rounded as serde_json rounds them. */
#ifndef EMB_TOKENIZER_JSON_NUMBER_H
#define EMB_TOKENIZER_JSON_NUMBER_H

#include <stddef.h>

/* The value of a JSON number as the reference tokenizers library reads it: its JSON parser takes at
 * most 19 to 20 digits as an integer, rounds that to double and divides by a power of ten, rounding
 * again. The result is the nearest double or its neighbour; which one decides between segmentations
 * of equal score. text is a well-formed JSON number. Returns 0 if it is out of range. */
int emb_json_number_read(const char *text, size_t len, double *out);

#endif
