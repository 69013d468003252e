/* ngram_manifest: manifest.json of a table, read, checked and written. It says what the table is
 * bound to, how its rows are used and where they come from; README.md lists every key. */
#ifndef EMB_NGRAM_NGRAM_MANIFEST_H
#define EMB_NGRAM_NGRAM_MANIFEST_H

#include "base/alloc.h"
#include "ngram/ngram_row.h"

#define EMB_NGRAM_FORMAT_NAME "embed-ngram-table"
#define EMB_NGRAM_CHECKSUM_KEY "checksum"
#define EMB_NGRAM_SPECIAL_RULE "special tokens take no part and end the history"

typedef enum emb_ngram_mode {
    EMB_NGRAM_REPLACE = 0, /* the row takes the place of the word embedding (SCONE) */
    EMB_NGRAM_ADD = 1      /* the row is added to it (Over-Encoding, arXiv:2501.16975) */
} emb_ngram_mode;

/* What a table must agree on with the model it is used with. Fingerprints are 32 hex digits. */
typedef struct emb_ngram_binding {
    char tokenizer[33]; /* of tokenizer.json: normaliser, vocabulary, post-processing */
    char embedding[33]; /* of the word embedding matrix */
    char model[33];     /* of everything (embed_model_fingerprint) */
    int32_t hidden;     /* width of the word embedding */
    int32_t vocab;      /* ids are 0 .. vocab - 1 */
    int32_t *special;   /* ascending ids of special tokens; they end the history */
    int32_t n_special;
} emb_ngram_binding;

typedef struct emb_ngram_provenance { /* free text for whoever answers for the table; may be NULL */
    char *corpus, *corpus_date, *licence, *created, *created_by, *parent, *fgram_model;
    int64_t min_count, min_documents; /* -1: not stated */
} emb_ngram_provenance;

typedef struct emb_ngram_file {
    char *name;
    uint64_t bytes;
    char sha256[65];
} emb_ngram_file;

typedef struct emb_ngram_manifest {
    uint8_t table_id[16];
    int32_t mode; /* emb_ngram_mode */
    int32_t k;
    emb_ngram_layout layout;
    uint64_t rows, keys, n_buckets, seed;
    uint64_t length_rows[EMB_NGRAM_MAX_K + 1]; /* rows by n-gram length */
    emb_ngram_binding binding;
    char *projection;  /* name of a [hidden, width] tensor in projection.safetensors, or NULL */
    int32_t encrypted; /* 1: AES-256-GCM; salt and key check below */
    uint8_t salt[32], key_check[32];
    emb_ngram_provenance provenance;
    emb_ngram_file *files; /* index.bin, rows-000.bin ..., projection.safetensors */
    size_t n_files;
    int32_t intact; /* 1: the text agrees with the checksum at its end */
} emb_ngram_manifest;

embed_status emb_ngram_manifest_read(emb_ngram_manifest *m, const emb_env *env, const char *path);
/* Written, synced and closed under `path`, which must not exist. */
embed_status emb_ngram_manifest_write(const emb_ngram_manifest *m, const emb_env *env,
                                      const char *path);
/* EMBED_ERR_FORMAT unless it is: a call of its own, so that a table that is newer or of another
 * model is reported as that. */
embed_status emb_ngram_manifest_intact(const emb_ngram_manifest *m, const char *path);
/* The place of the 16 digits of the checksum in a manifest's text, NULL if there is none; and the
 * checksum: XXH3-64 of the text with these digits zero. */
char *emb_ngram_manifest_digits(char *text, size_t len);
uint64_t emb_ngram_manifest_sum(const char *text, size_t len);
const char *emb_ngram_dtype_name(int32_t dtype); /* of rows, as the manifest has it */
void emb_ngram_manifest_clear(emb_ngram_manifest *m, const emb_env *env);

/* EMBED_ERR_MISMATCH naming the first difference with both sides, in the order hidden (unless a
 * projection bridges it), vocab, tokenizer, embedding, special. */
embed_status emb_ngram_binding_check(const emb_ngram_manifest *m, const emb_ngram_binding *model,
                                     const char *path);
/* Its first part alone. */
embed_status emb_ngram_width_check(const emb_ngram_manifest *m, const emb_ngram_binding *model,
                                   const char *path);

#endif
