/* ngram_fetching: what is inside a fetcher, for the two that fill it: ngram_fetch brings decoded
 * floats, ngram_carry bytes for a device. */
#ifndef EMB_NGRAM_NGRAM_FETCHING_H
#define EMB_NGRAM_NGRAM_FETCHING_H

#include "kernels/exec.h"
#include "ngram/ngram_bring.h"
#include "ngram/ngram_carry.h"

struct emb_ngram_fetcher {
    emb_env env;
    embed_table *table;
    emb_ngram_rowset set;
    emb_ngram_rowset single; /* one row, for a shorter match in the place of a foreign row */
    emb_ngram_bringer bringer;
    emb_exec exec;    /* for the projection; no pool without one */
    float *projected; /* [capacity, hidden stride] */
    size_t projected_stride, projected_capacity;
    void **targets; /* by slot */
    size_t target_capacity;
    emb_ngram_cargo *cargo; /* [n_cargo] */
    uint32_t *missing;      /* [target_capacity] rows of the cargo that must be brought */
    size_t n_cargo, cargo_capacity, missing_capacity;
};

/* Room for `more` rows behind the cargo that is there. */
embed_status emb_ngram_carry_reserve(emb_ngram_fetcher *f, size_t more);
/* last: where the n-gram of `length` tokens ends. */
int emb_ngram_is_row_of(const emb_ngram_row_header *header, const int32_t *last, int32_t length);
/* *vectors: what the rows in the bringer's slots are handed out from, *stride floats apart. */
embed_status emb_ngram_project(emb_ngram_fetcher *f, const float **vectors, size_t *stride);
/* A fetch that began at `start` has ended. */
void emb_ngram_count_fetch(emb_ngram_fetcher *f, emb_ngram_stats *here, uint64_t start,
                           emb_ngram_stats *stats);

#endif
