/* counts_select: from counts to an f-gram list, in the order of a table's rows: descending count,
 * then the shorter n-gram, then ascending ids (SCONE, arXiv:2502.01637, sec. 3.1, with its ties
 * decided). In that order every suffix of an n-gram stands before it, so a cut anywhere keeps the
 * set closed under suffixes. */
#ifndef EMB_NGRAM_COUNTS_SELECT_H
#define EMB_NGRAM_COUNTS_SELECT_H

#include "ngram/counts_merge.h"
#include "ngram/ngram_row.h"

typedef struct emb_counts_limits {
    uint64_t rows, min_count, min_documents, bytes; /* 0: no such limit */
    int32_t width, dtype;                           /* of the rows that `bytes` is about */
    uint64_t per_length[EMB_NGRAM_MAX_K + 1];       /* 0: no limit; UINT64_MAX: none */
    int32_t quotas; /* 1: per_length counts, and closure is kept by leaving out more */
    int32_t n_excluded;
    const int32_t *excluded; /* ids: n-grams with one of them are left out */
} emb_counts_limits;

typedef struct emb_counts_selection {
    uint64_t rows, cut_off; /* cut_off: count of the last row */
    uint64_t length_rows[EMB_NGRAM_MAX_K + 1];
    uint64_t positions[EMB_NGRAM_MAX_K + 1]; /* of the corpus whose match is at least so long */
    uint64_t tokens;                         /* of the corpus */
    uint64_t table_bytes;                    /* of a table with rows of width and dtype */
    uint64_t dropped;                        /* for the sake of closure under quotas */
    uint32_t passes;                         /* over the file */
    int32_t width;
} emb_counts_selection;

#define EMB_COUNTS_SELECT_LEAST_MEMORY ((uint64_t)1 << 20)

/* Write the list (JSON lines) under <output>.partial, sync and rename it. */
embed_status emb_counts_select(const emb_env *env, const char *counts, const char *output,
                               const emb_counts_limits *limits, const emb_counts_job *job,
                               emb_counts_selection *result);

#endif
