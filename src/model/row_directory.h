/* row_directory: which rows are in a device's cache, and where. Sets of places by row number; of
 * those the row goes whose last use lies in the earliest batch. Lies on the host and knows nothing
 * of the device: whoever gets a place brings the row there.
 *
 * Batches have numbers, run in that order, and may ask here in another one: a batch does not find
 * what a later one brings, nor takes a place that a later one uses. */
#ifndef EMB_MODEL_ROW_DIRECTORY_H
#define EMB_MODEL_ROW_DIRECTORY_H

#include "base/alloc.h"
#include "ngram/ngram_format.h"

#define EMB_NO_PLACE UINT64_MAX

typedef struct emb_row_directory emb_row_directory;

/* n: rows that there is room for, at least 1. One thread at a time. */
embed_status emb_row_directory_create(emb_row_directory **out, const emb_env *env, uint64_t n);
void emb_row_directory_free(emb_row_directory *d); /* NULL is a no-op */
uint64_t emb_row_directory_places(const emb_row_directory *d);
/* Before it is made: the places there will be of so many, in whole sets; and the bytes of so many.
 */
uint64_t emb_row_directory_round(uint64_t places);
uint64_t emb_row_directory_bytes(uint64_t places);

/* The place of a row that is there for this batch, and its header; or EMB_NO_PLACE. */
uint64_t emb_row_directory_find(emb_row_directory *d, uint32_t row, uint64_t batch,
                                emb_ngram_row_header *header);
/* A place for a row that was not found, which this batch brings; or EMB_NO_PLACE: it goes without.
 */
uint64_t emb_row_directory_take(emb_row_directory *d, uint32_t row, uint64_t batch);
/* The row has been checked; from now on it is found. */
void emb_row_directory_ready(emb_row_directory *d, uint64_t place,
                             const emb_ngram_row_header *header);
/* Empty again. */
void emb_row_directory_clear(emb_row_directory *d);

#endif
