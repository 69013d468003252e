/* naive_ngrams: n-grams of a stream of positions counted by sorting, for comparison. */
#ifndef EMB_TESTS_SUPPORT_NAIVE_NGRAMS_H
#define EMB_TESTS_SUPPORT_NAIVE_NGRAMS_H

#include "support/test.h"

typedef struct naive_ngram {
    int32_t length;
    uint32_t ids[8];
    uint64_t count;
    uint32_t documents;
} naive_ngram;

typedef struct naive_ngrams {
    naive_ngram *items; /* by length, then ids; for free() */
    size_t n;
} naive_ngrams;

/* Positions as in ngram/ngram_scan.h: ids, UINT32_MAX at the end of a text, UINT32_MAX - 1 for a
 * special token. */
naive_ngrams naive_count(const uint32_t *positions, size_t n, int32_t k, uint64_t min_count,
                         uint64_t min_documents);

/* A stream of skewed random tokens: texts of some 50, special tokens among them. The last position
 * ends a text. */
void naive_stream(uint32_t *positions, size_t n, uint32_t vocab, uint64_t *rng);

#endif
