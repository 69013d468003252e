/* ngram_journal: what a table in the making has finished. A text file in the table's directory; a
 * line is durable before the next step begins, and a last line that was cut is as if never written.
 * It also is the lock against a second run. */
#ifndef EMB_NGRAM_NGRAM_JOURNAL_H
#define EMB_NGRAM_NGRAM_JOURNAL_H

#include "ngram/ngram_manifest.h"

#define EMB_NGRAM_JOURNAL_NAME "journal"

typedef struct emb_ngram_journal {
    int fd;
    int32_t fresh; /* 1: nothing was there to go on from */
    char *path;
    uint8_t table_id[16], salt[32];
    emb_ngram_file *files; /* finished ones, in the order they were finished */
    size_t n_files, capacity;
    uint64_t keys, n_buckets, seed; /* of a finished index, else 0 */
    uint64_t length_rows[EMB_NGRAM_MAX_K + 1];
} emb_ngram_journal;

/* Open or begin the journal in directory `dir` and lock it. table_id and salt are for a fresh one;
 * an old one must have the same table_id, or EMBED_ERR_MISMATCH, and its salt counts. A journal
 * without a whole first line is fresh. EMBED_ERR_IO if another process has it locked. */
embed_status emb_ngram_journal_open(emb_ngram_journal *j, const emb_env *env, const char *dir,
                                    const uint8_t table_id[16], const uint8_t salt[32]);
void emb_ngram_journal_close(emb_ngram_journal *j,
                             const emb_env *env); /* zeroed with fd -1: no-op */

/* 1: a run has the journal in `dir` locked at this moment. */
int emb_ngram_journal_busy(const emb_env *env, const char *dir);

/* A finished file; for the index with its numbers. The file itself must be durable by then. */
embed_status emb_ngram_journal_add_file(emb_ngram_journal *j, const emb_env *env, const char *name,
                                        uint64_t bytes, const char sha256[65]);
embed_status emb_ngram_journal_add_index(emb_ngram_journal *j, uint64_t keys, uint64_t n_buckets,
                                         uint64_t seed,
                                         const uint64_t length_rows[EMB_NGRAM_MAX_K + 1]);
const emb_ngram_file *emb_ngram_journal_find(const emb_ngram_journal *j, const char *name);

#endif
