/* ngram_fetch: rows of one batch, from disk, cache or map to decoded floats. Three steps that stay
 * apart so that a GPU copy stream can take the place of the last: find rows (ngram_rowset), bring
 * bytes (here, in one batched read over sorted distinct rows), hand to the encoder
 * (model/ngram_stage). */
#ifndef EMB_NGRAM_NGRAM_FETCH_H
#define EMB_NGRAM_NGRAM_FETCH_H

#include "ngram/ngram_table.h"

/* Scratch of one fetching thread: sorted row lists, decoded rows, reads in flight. It borrows the
 * table, which must outlive it; any number of fetchers share a table. */
typedef struct emb_ngram_fetcher emb_ngram_fetcher;
/* max_positions: what to make room for; a larger batch grows it. */
embed_status emb_ngram_fetcher_create(emb_ngram_fetcher **out, const emb_env *env,
                                      embed_table *table, size_t max_positions);
void emb_ngram_fetcher_free(emb_ngram_fetcher *fetcher); /* NULL is a no-op */

/* Look up and fetch for packed texts. rows[t] points to a decoded, projected vector of `hidden`
 * floats for a match, NULL where there is none; the pointers live until the next call. A row of a
 * foreign n-gram falls back to the next shorter match. A corrupt row is EMBED_ERR_FORMAT naming
 * part and row, a file that has become shorter EMBED_ERR_TRUNCATED in read mode. Results never
 * depend on mode, cache, batch or threads.
 *   offsets  [texts + 1] as for emb_ngram_index_lookup
 *   stats    this call's numbers are added, or NULL; the table's totals count them in any case */
embed_status emb_ngram_fetch(emb_ngram_fetcher *fetcher, const int32_t *ids, const int32_t *offsets,
                             size_t texts, const float **rows, emb_ngram_stats *stats);

/* The same for rows by number (EMB_NGRAM_NO_ROW: NULL). vectors[i] points to `width` floats, not
 * projected, headers[i] to the row's header; each may be NULL: not wanted. */
embed_status emb_ngram_fetch_rows(emb_ngram_fetcher *fetcher, const uint32_t *rows, size_t n,
                                  const float **vectors, const emb_ngram_row_header **headers,
                                  emb_ngram_stats *stats);

/* The same straight into out [n, width]; EMB_NGRAM_NO_ROW: zeros. */
embed_status emb_ngram_fetch_into(emb_ngram_fetcher *fetcher, const uint32_t *rows, size_t n,
                                  float *out, const emb_ngram_row_header **headers,
                                  emb_ngram_stats *stats);

#endif
