/* ngram_cache: rows as they are stored, by row number, with a limit in bytes. Sets of eight places,
 * the clock hand of a set evicts what was not used since it last came by. Safe for several threads.
 */
#ifndef EMB_NGRAM_NGRAM_CACHE_H
#define EMB_NGRAM_NGRAM_CACHE_H

#include "base/alloc.h"
#include "ngram/ngram_format.h"

typedef struct emb_ngram_cache emb_ngram_cache;

/* vector_bytes: of a row as stored. *out is NULL without failure if `bytes` hold not even one row.
 * Memory is taken from the system as rows come. */
embed_status emb_ngram_cache_create(emb_ngram_cache **out, const emb_env *env, uint64_t bytes,
                                    size_t vector_bytes);
void emb_ngram_cache_free(emb_ngram_cache *cache);

/* 1 and a copy of the row if it is there. */
int emb_ngram_cache_get(emb_ngram_cache *cache, uint32_t row, emb_ngram_row_header *header,
                        void *vector);
void emb_ngram_cache_put(emb_ngram_cache *cache, uint32_t row, const emb_ngram_row_header *header,
                         const void *vector);

/* Rows there is room for, and bytes that rows in it take; 0 for NULL. */
uint64_t emb_ngram_cache_rows(const emb_ngram_cache *cache);
uint64_t emb_ngram_cache_bytes(const emb_ngram_cache *cache);

#endif
