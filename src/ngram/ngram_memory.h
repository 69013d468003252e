/* ngram_memory: the memory that the files of a table lie in: mappings of the files, private copies
 * on huge pages, the pinned prefix. */
#ifndef EMB_NGRAM_NGRAM_MEMORY_H
#define EMB_NGRAM_NGRAM_MEMORY_H

#include "ngram/ngram_table.h"

/* A shared mapping of a whole file, and a private copy of it; released alike. */
embed_status emb_ngram_memory_map(int fd, const char *path, uint64_t bytes, int populate,
                                  const void **out);
embed_status emb_ngram_memory_copy(int fd, const char *path, uint64_t bytes, const void **out);
/* Zeros that take memory where they are touched. */
embed_status emb_ngram_memory_zeros(const char *what, uint64_t bytes, void **out);
/* Ask for huge pages for the whole ones in a block; a hint. */
void emb_ngram_memory_huge(void *memory, uint64_t bytes);
void emb_ngram_memory_release(const void *memory, uint64_t bytes); /* NULL is a no-op */

/* A part whose fd, rows and payload_bytes are known, as the table's mode wants it. */
embed_status emb_ngram_part_load(embed_table *t, emb_ngram_part *part, int fd, const char *path);
void emb_ngram_part_unload(const embed_table *t, emb_ngram_part *part); /* closes the files too */

/* One block as it was before encryption, by a plain read or from the map. */
embed_status emb_ngram_part_block(const embed_table *t, const emb_ngram_part *part, uint64_t block,
                                  unsigned char *out);
/* Where the tag of a block lies in memory. */
const unsigned char *emb_ngram_part_tag(const emb_ngram_part *part, uint64_t block);

/* Copy the first rows, up to so many bytes, into private memory and lock it there. Refused by the
 * system: EMBED_ERR_NOMEM. */
embed_status emb_ngram_parts_pin(embed_table *t, uint64_t bytes);

#endif
