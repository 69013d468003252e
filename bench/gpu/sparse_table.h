/* sparse_table: a table of any size on paper. Some n-grams have rows, spread evenly over all; the
 * rows between are holes of a sparse file, and the index has the buckets of a full one, so that
 * finding and fetching rows costs what it costs in a table of that size, at the price of a page of
 * disk for each row that is there. For benchmarks: the SHA-256 sums in its manifest are zeros. */
#ifndef EMB_BENCH_GPU_SPARSE_TABLE_H
#define EMB_BENCH_GPU_SPARSE_TABLE_H

#include "model/model.h"
#include "ngram/ngram_row.h"

/* `path` must not exist. grams [n]: distinct, lengths of 2; rows >= n of `dtype` as wide as the
 * model. Vectors: normal-like numbers of the deviation. */
embed_status sparse_table_write(const emb_env *env, embed_model *model, const char *path,
                                const emb_ngram_fgram *grams, size_t n, uint64_t rows,
                                int32_t dtype, double deviation);

#endif
