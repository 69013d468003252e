/* ngram_writer: a table from its n-grams and vectors, which stream by and are never in memory as a
 * whole. Everything is written under <path>.partial, synced and renamed. What has been finished is
 * noted in a journal there, so that a killed run can be continued; the bytes of the table depend on
 * the source and the params alone (and on a random salt, if it is encrypted). */
#ifndef EMB_NGRAM_NGRAM_WRITER_H
#define EMB_NGRAM_NGRAM_WRITER_H

#include "ngram/ngram_manifest.h"

#define EMB_NGRAM_PART_BYTES (UINT64_C(4) << 30) /* of a row file, by default */
#define EMB_NGRAM_WRITE_MEMORY (UINT64_C(1) << 30)
#define EMB_NGRAM_LOAD 0.75 /* of the index, by default */

/* Where rows come from. Both functions fill [n] elements from row `first` on, in any order, one
 * call at a time but from any thread; a failure is theirs to describe. */
typedef struct emb_ngram_source {
    uint64_t rows;
    void *user;
    embed_status (*fgrams)(void *user, uint64_t first, size_t n, emb_ngram_fgram *out);
    embed_status (*vectors)(void *user, uint64_t first, size_t n, float *out); /* [n, width] */
    /* Better words for rows with trouble: put before or in place of the message; may be NULL. */
    embed_status (*explain_row)(void *user, uint64_t row);
    embed_status (*explain_same)(void *user, uint64_t row, uint64_t other);
    uint8_t identity[16]; /* digest of all that fgrams and vectors will say */
} emb_ngram_source;

/* Called between pieces of work with the estimates below; a failure ends the run. */
typedef embed_status (*emb_ngram_tell_fn)(void *user, const embed_job_report *report);

typedef struct emb_ngram_write_params {
    /* mode, layout.width and layout.dtype, binding, projection, provenance; the rest is made here.
     * Borrowed. */
    const emb_ngram_manifest *manifest;
    const void *projection; /* bytes of projection.safetensors, NULL if manifest->projection is */
    size_t projection_bytes;
    const uint8_t *key;  /* 32 bytes: encrypt; NULL: do not */
    uint64_t part_bytes; /* a row file has at most so many, 0: the default */
    uint64_t memory;     /* 0: 1 GiB */
    double load;         /* 0: the default */
    int32_t threads;     /* 0: all CPUs of this process */
    int32_t resume;
    emb_ngram_tell_fn tell; /* or NULL */
    void *tell_user;
} emb_ngram_write_params;

/* What it will take: peak memory and the bytes of the table, both upper bounds if path entries are
 * few. EMBED_ERR_ARG if the memory allowed is too small, naming what is needed. */
embed_status emb_ngram_write_estimate(const emb_ngram_write_params *params, uint64_t rows,
                                      uint64_t *memory, uint64_t *disk);

/* Early word of what _write would refuse about the names: `path`, or its left-over <path>.partial
 * without resume. */
embed_status emb_ngram_write_ready(const emb_env *env, const char *path, int resume);

/* Write the table `path`, which must not exist; with resume, a table of the very same source and
 * params that is there already is success.
 * Errors: _ARG; _IO (a left-over <path>.partial without resume among them); _MISMATCH if what is to
 * be resumed was begun from something else; _FORMAT for equal n-grams and vectors that do not fit
 * the type; _CANCELLED; _NOMEM. After _FORMAT nothing is left behind; else what is finished stays
 * in <path>.partial. */
embed_status emb_ngram_write(const emb_env *env, const char *path,
                             const emb_ngram_write_params *params, const emb_ngram_source *source);

#endif
