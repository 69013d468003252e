/* ngram_bring: distinct rows in ascending order to decoded vectors, or to their bytes as stored,
 * each from where it is nearest: memory, row cache, disk. */
#ifndef EMB_NGRAM_NGRAM_BRING_H
#define EMB_NGRAM_NGRAM_BRING_H

#include "ngram/ngram_advise.h"
#include "ngram/ngram_read.h"
#include "ngram/ngram_rowset.h"

/* A row to read: which span brings it, and where in it the row starts. */
typedef struct emb_ngram_miss {
    uint32_t row;
    uint32_t at; /* bytes from the start of its block */
    size_t slot;
} emb_ngram_miss;

typedef struct emb_ngram_bringer {
    emb_env env;
    embed_table *table;
    float *vectors;                /* [vector_capacity, stride] */
    emb_ngram_row_header *headers; /* [capacity] */
    void *const *targets;          /* where the vector of each slot goes instead, or NULL */
    int raw;                       /* 1: bytes as stored go there, not floats */
    size_t stride, capacity, vector_capacity, used;
    int stream;              /* this batch is written past the caches */
    emb_ngram_place *places; /* rows in memory */
    emb_ngram_miss *misses;  /* rows to be read */
    emb_ngram_span *spans; /* pieces of files that hold them; first_miss[i] the first row of each */
    size_t *first_miss;
    size_t n_places, n_misses, n_spans;
    unsigned char *block; /* decrypted */
    emb_ngram_reader *reader;
    emb_ngram_advice advice;
} emb_ngram_bringer;

void emb_ngram_bringer_init(emb_ngram_bringer *b, const emb_env *env, embed_table *table);
void emb_ngram_bringer_clear(emb_ngram_bringer *b);

/* Room for `more` rows after those in use. */
embed_status emb_ngram_bringer_reserve(emb_ngram_bringer *b, size_t more);

/* Bytes of a row that is used for the first time are what they were when it was written, and the
 * row of its own n-gram; bytes that were vouched for once are not looked at again. */
embed_status emb_ngram_vouch(embed_table *table, uint32_t row, const unsigned char *bytes);

/* The set's rows come to stand in slots used .. used + set->n - 1, and `used` moves on. Vectors
 * that are already there may move in memory. */
embed_status emb_ngram_bring(emb_ngram_bringer *b, const emb_ngram_rowset *set,
                             emb_ngram_stats *stats);

#endif
