/* ngram_carry: rows of one batch for a device: each distinct row once, as it is stored (as floats
 * where the table has a projection), to places that somebody else chooses. The same rows, checks
 * and shorter matches as ngram_fetch. */
#ifndef EMB_NGRAM_NGRAM_CARRY_H
#define EMB_NGRAM_NGRAM_CARRY_H

#include "ngram/ngram_fetch.h"

/* A distinct row of a batch. */
typedef struct emb_ngram_cargo {
    emb_ngram_row_header header;
    unsigned char *into; /* where its bytes go; NULL: they are where they are needed */
    uint64_t at;         /* whoever chose the place says by this where it is */
} emb_ngram_cargo;

/* Who chooses. Called from the thread that carries. */
typedef struct emb_ngram_depot {
    void *self;
    /* n rows, ascending: sets into and at of each, and the header where into is NULL. Called again
     * for single rows that stand in for a foreign one. */
    embed_status (*choose)(void *self, const uint32_t *rows, size_t n, emb_ngram_cargo *cargo);
    /* They have been brought and checked, and all have their headers. May be NULL. */
    void (*brought)(void *self, const uint32_t *rows, size_t n, const emb_ngram_cargo *cargo);
} emb_ngram_depot;

/* A fetcher that only carries: it has no room for floats. */
embed_status emb_ngram_carrier_create(emb_ngram_fetcher **out, const emb_env *env,
                                      embed_table *table, size_t max_positions);

/* Bytes of a row as it is carried, and their embed_dtype. */
size_t emb_ngram_carried_bytes(const embed_table *table);
int32_t emb_ngram_carried_dtype(const embed_table *table);

/* As emb_ngram_fetch: slots[t] is the number of the token's row among the cargo, or
 * EMB_NGRAM_NO_SLOT. */
embed_status emb_ngram_carry(emb_ngram_fetcher *carrier, const int32_t *ids, const int32_t *offsets,
                             size_t texts, const emb_ngram_depot *depot, uint32_t *slots,
                             emb_ngram_stats *stats);
/* Distinct rows by number, ascending; nothing is counted. */
embed_status emb_ngram_carry_rows(emb_ngram_fetcher *carrier, const uint32_t *rows, size_t n,
                                  const emb_ngram_depot *depot);
/* [*n] of the last batch, until the next one. */
const emb_ngram_cargo *emb_ngram_cargo_of(const emb_ngram_fetcher *carrier, size_t *n);

#endif
