/* ngram_advice: how much a table would help a corpus: n-grams are counted in most of a sample, a
 * table of each size is indexed in memory, and the held-out rest is looked up in it. */
#ifndef EMB_NGRAM_NGRAM_ADVICE_H
#define EMB_NGRAM_NGRAM_ADVICE_H

#include "base/threads.h"
#include "ngram/ngram_sample.h"
#include "ngram/ngram_writer.h"

typedef struct emb_ngram_advise_params {
    const int32_t *k; /* [n_k] longest n-grams, 2 .. 8 */
    size_t n_k;
    const uint64_t *rows; /* [n_rows] sizes of tables */
    size_t n_rows;
    double held_out;
    uint64_t min_count;
    int32_t width, dtype; /* of the rows, for the bytes on disk */
    const uint64_t *special;
    int32_t vocab;
    int32_t reserved;
    emb_ngram_tell_fn tell; /* or NULL */
    void *user;
} emb_ngram_advise_params;

/* One cell for each k and size, k outermost: cells has room for n_k * n_rows. The sample is split
 * anew. */
embed_status emb_ngram_advise(emb_ngram_sample *sample, emb_pool *pool,
                              const emb_ngram_advise_params *params, embed_advise_cell *cells);

/* Positions (ngram_sample.h) that fit into so much memory together with the largest table;
 * EMBED_ERR_ARG naming the least memory if that is too little for anything. */
embed_status emb_ngram_advise_positions(const emb_ngram_advise_params *params, uint64_t memory,
                                        uint64_t *positions);

#endif
