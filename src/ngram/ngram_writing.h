/* ngram_writing: what the steps of ngram_writer share while one table is written. */
#ifndef EMB_NGRAM_NGRAM_WRITING_H
#define EMB_NGRAM_NGRAM_WRITING_H

#include "base/threads.h"
#include "ngram/ngram_crypt.h"
#include "ngram/ngram_journal.h"
#include "ngram/ngram_writer.h"

typedef struct emb_ngram_writing {
    emb_env env;
    const emb_ngram_write_params *params;
    const emb_ngram_source *source;
    emb_ngram_manifest manifest; /* texts borrowed from params, files owned */
    char *partial;               /* directory being written */
    emb_ngram_journal journal;
    emb_ngram_cipher *cipher; /* NULL: not encrypted */
    emb_pool *pool;
    uint64_t rows_per_part;
    embed_job_report report;
} emb_ngram_writing;

embed_status emb_ngram_write_index(emb_ngram_writing *w); /* ngram_write_index.c */
embed_status emb_ngram_write_rows(emb_ngram_writing *w);  /* ngram_write_rows.c */

/* Bytes of memory that the two steps take. */
uint64_t emb_ngram_index_memory(uint64_t rows, double load);
uint64_t emb_ngram_rows_memory(const emb_ngram_layout *layout, uint64_t rows_per_part);

/* Where we are; passes on what params->tell says. */
embed_status emb_ngram_writing_tell(emb_ngram_writing *w, const char *phase, uint64_t done,
                                    uint64_t total);

/* A file of the table on its way to disk, with its digest. */
typedef struct emb_ngram_sink {
    int fd;
    char *path;
    char name[32];
    uint64_t bytes;
    emb_ngram_sha256 *sha;
} emb_ngram_sink;
embed_status emb_ngram_sink_open(emb_ngram_sink *s, emb_ngram_writing *w, const char *name);
embed_status emb_ngram_sink_put(emb_ngram_sink *s, const void *data, size_t bytes);
/* The two halves of _put, for two threads at once. */
embed_status emb_ngram_sink_write(emb_ngram_sink *s, const void *data, size_t bytes);
embed_status emb_ngram_sink_digest(emb_ngram_sink *s, const void *data, size_t bytes);
/* The header, sealed, with the zeros after it. */
embed_status emb_ngram_sink_header(emb_ngram_sink *s, const emb_ngram_writing *w,
                                   emb_ngram_file_header *h);
/* Synced, closed and noted in the journal. */
embed_status emb_ngram_sink_finish(emb_ngram_sink *s, emb_ngram_writing *w);
void emb_ngram_sink_abandon(emb_ngram_sink *s, const emb_ngram_writing *w); /* after a failure */

#endif
