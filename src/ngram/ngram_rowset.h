/* ngram_rowset: which rows a batch needs, each once and in ascending order, and which of them each
 * position gets. */
#ifndef EMB_NGRAM_NGRAM_ROWSET_H
#define EMB_NGRAM_NGRAM_ROWSET_H

#include "ngram/ngram_table.h"

#define EMB_NGRAM_NO_SLOT UINT32_MAX
#define EMB_NGRAM_SORT_BINS 2048

typedef struct emb_ngram_rowset {
    emb_env env;
    uint32_t *rows; /* [n] distinct rows, ascending */
    size_t n;
    uint32_t *found;    /* [positions] row of the longest match, or EMB_NGRAM_NO_ROW */
    uint8_t *lengths;   /* [positions] its length, or 0 */
    uint32_t *slots;    /* [positions] index into rows, or EMB_NGRAM_NO_SLOT */
    uint64_t *pairs[2]; /* row << 32 | position, before and after a pass of the sort */
    uint32_t (*bins)[EMB_NGRAM_SORT_BINS]; /* a histogram for each pass */
    size_t positions, capacity;
} emb_ngram_rowset;

void emb_ngram_rowset_init(emb_ngram_rowset *set, const emb_env *env);
void emb_ngram_rowset_clear(emb_ngram_rowset *set);
embed_status emb_ngram_rowset_reserve(emb_ngram_rowset *set, size_t positions);

/* The longest matches of packed texts; rows past the end of the table are EMBED_ERR_FORMAT. */
embed_status emb_ngram_rowset_lookup(emb_ngram_rowset *set, const embed_table *table,
                                     const int32_t *ids, const int32_t *offsets, size_t texts);
/* Rows that the caller names; EMB_NGRAM_NO_ROW stays without a slot. */
embed_status emb_ngram_rowset_take(emb_ngram_rowset *set, const embed_table *table,
                                   const uint32_t *rows, size_t n);

#endif
