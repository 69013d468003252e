/* ngram_count: the n-grams of a token array in memory, for analyses of a sample. Larger jobs go
 * through ngram_counter.h. */
#ifndef EMB_NGRAM_NGRAM_COUNT_H
#define EMB_NGRAM_NGRAM_COUNT_H

#include "ngram/ngram_format.h"
#include "ngram/ngram_scan.h"

/* The frequent n-grams of one length, in ascending order of their ids; number i is the i-th. */
typedef struct emb_ngram_survivors {
    uint64_t n;
    uint64_t *keys;   /* [n] number of the n-gram without its last token (for pairs: its first id)
                         << 32 | last id */
    uint64_t *counts; /* [n] */
    uint32_t *at;     /* [positions] number of the n-gram that ends there; EMB_NGRAM_BREAK or above:
                         none is frequent. For length 1 the tokens themselves, not owned */
    size_t capacity[2];
} emb_ngram_survivors;

/* Count the n-grams of 2 .. k tokens that occur at least min_count times. tokens [positions]: ids,
 * EMB_NGRAM_END after each text and EMB_NGRAM_BREAK in place of each special token. out [k + 1] is
 * filled from index 1 on (index 1 has only `at`), to be cleared even on failure. report may be
 * NULL. Takes 4 bytes a position and length, and about 20 bytes for each different n-gram of one
 * length. The same result for any number of threads. */
embed_status emb_ngram_count_array(const emb_env *env, emb_pool *pool, uint32_t *tokens,
                                   size_t positions, int32_t k, uint64_t min_count,
                                   emb_ngram_scan_fn report, void *user, emb_ngram_survivors *out);
void emb_ngram_survivors_clear(emb_ngram_survivors *out, int32_t k, const emb_env *env);

#endif
