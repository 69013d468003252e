/* ngram_parts: the binary files of a table: opened safely, their headers checked against the
 * manifest and each other, mapped or read as the residency mode says. */
#ifndef EMB_NGRAM_NGRAM_PARTS_H
#define EMB_NGRAM_NGRAM_PARTS_H

#include "ngram/ngram_table.h"

/* Fills index.buckets and parts of a table whose path, manifest, mode and cipher are set. */
embed_status emb_ngram_parts_open(embed_table *t, int allow_unsafe);
void emb_ngram_parts_close(embed_table *t);

/* Header of a file, checksum included. */
void emb_ngram_header_seal(emb_ngram_file_header *h);
embed_status emb_ngram_header_check(const emb_ngram_file_header *h, uint64_t magic,
                                    const char *name);
void emb_ngram_part_name(uint32_t part, char out[32]); /* "rows-000.bin" */

#endif
