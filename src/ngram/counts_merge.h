/* counts_merge: the sum of several files of counts. */
#ifndef EMB_NGRAM_COUNTS_MERGE_H
#define EMB_NGRAM_COUNTS_MERGE_H

#include "ngram/counts_file.h"

typedef struct emb_counts_job { /* what merging and selecting need of an embed_job */
    uint64_t memory;
    embed_job_fn report; /* or NULL */
    void *user;
} emb_counts_job;

/* Files open at once, more are EMBED_ERR_ARG. */
#define EMB_COUNTS_MERGE_MAX 512

uint64_t emb_counts_merge_least_memory(size_t n);

/* Sum n files into `output`, written as <output>.partial and renamed. All must have one tokenizer,
 * K and way of counting documents, else EMBED_ERR_MISMATCH naming both; min_count and min_documents
 * become the greatest of them. Texts must not be shared between the files. */
embed_status emb_counts_merge(const emb_env *env, const char *const *inputs, size_t n,
                              const char *output, const emb_counts_job *job);

/* "<path>.partial" for emb_free. */
embed_status emb_counts_partial_path(const emb_env *env, const char *path, char **out);

#endif
