#define _XOPEN_SOURCE 700 /* pwrite, ftruncate */
#include "gpu/sparse_table.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "model/ngram_binding.h"
#include "ngram/ngram_index.h"
#include "ngram/ngram_manifest.h"
#include "ngram/ngram_parts.h"

enum { HEADER = EMB_NGRAM_FILE_HEADER_BYTES, PAGE = 4096 };

typedef struct sparse {
    const emb_env *env;
    const char *path;
    const emb_ngram_fgram *grams;
    size_t n;
    uint64_t rows;
    double deviation;
    emb_ngram_manifest manifest;
} sparse;

static uint32_t row_of(const sparse *s, size_t i) {
    return (uint32_t)(i * (s->rows / s->n));
}

static embed_status recall(void *user, uint32_t row, emb_ngram_fgram *out) {
    const sparse *s = user;
    *out = s->grams[row / (s->rows / s->n)];
    return EMBED_OK;
}

static embed_status failed(const sparse *s, const char *name) {
    return emb_fail(EMBED_ERR_IO, "%s/%s: could not be written", s->path, name);
}

static int create(const sparse *s, const char *name, uint64_t bytes) {
    char path[1200];
    (void)snprintf(path, sizeof path, "%s/%s", s->path, name);
    const int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd >= 0 && ftruncate(fd, (off_t)bytes) != 0) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

static int put(int fd, const void *data, size_t bytes, uint64_t at) {
    return pwrite(fd, data, bytes, (off_t)at) == (ssize_t)bytes;
}

static int is_zero(const unsigned char *p, size_t n) {
    return p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
}

static emb_ngram_file_header header_of(const sparse *s, uint64_t magic, uint64_t payload,
                                       uint64_t count) {
    const emb_ngram_layout *l = &s->manifest.layout;
    emb_ngram_file_header h = {
        .magic = magic, .version = EMB_NGRAM_VERSION, .payload_bytes = payload, .count = count};
    memcpy(h.table_id, s->manifest.table_id, sizeof h.table_id);
    if (magic == EMB_NGRAM_ROWS_MAGIC) {
        h.row_bytes = l->row_bytes;
        h.rows_per_block = l->rows_per_block;
        h.block_bytes = l->block_bytes;
    }
    return h;
}

static embed_status fill_index(sparse *s, emb_ngram_bucket *buckets) {
    emb_ngram_manifest *m = &s->manifest;
    embed_status st = EMBED_OK;
    for (m->seed = 1; m->seed < 9; m->seed++) {
        emb_ngram_filler f = {.buckets = buckets,
                              .n_buckets = m->n_buckets,
                              .seed = m->seed,
                              .recall = recall,
                              .user = s};
        for (size_t i = 0; i < s->n && st == EMBED_OK && !f.clash; i++)
            st = emb_ngram_filler_add(&f, &s->grams[i], row_of(s, i), 1);
        if (st == EMBED_OK && !f.clash)
            st = emb_ngram_filler_link(&f, s->grams, s->n);
        if (st != EMBED_OK || !f.clash)
            return st;
        memset(buckets, 0, (size_t)m->n_buckets * sizeof *buckets);
    }
    return emb_fail(EMBED_ERR_INTERNAL, "no seed tells the n-grams apart");
}

static embed_status write_index(sparse *s) {
    emb_ngram_manifest *m = &s->manifest;
    emb_ngram_bucket *buckets = NULL;
    int fd = -1;
    embed_status st = EMBED_OK;
    EMB_TRY(emb_ngram_index_buckets(s->rows, 0.75, &m->n_buckets));
    EMB_TRY(emb_new_array(s->env, (size_t)m->n_buckets, sizeof *buckets, (void **)&buckets));
    EMB_TRY(fill_index(s, buckets));
    const size_t bytes = (size_t)m->n_buckets * sizeof *buckets;
    emb_ngram_file_header h = header_of(s, EMB_NGRAM_INDEX_MAGIC, bytes, m->n_buckets);
    h.keys = m->keys = s->rows; /* as many as a full index would have */
    h.seed = m->seed;
    h.payload_checksum = XXH3_64bits(buckets, bytes);
    emb_ngram_header_seal(&h);
    fd = create(s, "index.bin", HEADER + bytes);
    int ok = fd >= 0 && put(fd, &h, sizeof h, 0);
    for (size_t at = 0; ok && at < bytes; at += PAGE) {
        const size_t n = bytes - at < PAGE ? bytes - at : PAGE;
        const unsigned char *page = (const unsigned char *)buckets + at;
        ok = is_zero(page, n) || put(fd, page, n, HEADER + at);
    }
    if (!ok)
        st = failed(s, "index.bin");
    m->files[0].bytes = HEADER + bytes;
fail:
    if (fd >= 0)
        (void)close(fd);
    emb_free(s->env, buckets);
    return st;
}

static embed_status write_rows(sparse *s) {
    emb_ngram_manifest *m = &s->manifest;
    const emb_ngram_layout *l = &m->layout;
    const uint64_t bytes = emb_ngram_rows_bytes(l, s->rows);
    emb_ngram_file_header h = header_of(s, EMB_NGRAM_ROWS_MAGIC, bytes, s->rows);
    float *vector = NULL;
    unsigned char *row = NULL;
    uint64_t state = 3;
    embed_status st = EMBED_OK;
    EMB_TRY(emb_new_array(s->env, (size_t)l->width, sizeof *vector, (void **)&vector));
    EMB_TRY(emb_alloc(s->env, l->row_bytes, (void **)&row));
    emb_ngram_header_seal(&h);
    const int fd = create(s, "rows-000.bin", HEADER + bytes);
    int ok = fd >= 0 && put(fd, &h, sizeof h, 0);
    for (size_t i = 0; ok && i < s->n && st == EMBED_OK; i++) {
        for (int32_t d = 0; d < l->width; d++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            vector[d] = (float)(s->deviation * ((double)(state >> 40) / 4843279.0 - 1.732));
        }
        st = emb_ngram_row_encode(l, s->grams[i].ids, s->grams[i].length, s->grams[i].count, vector,
                                  row);
        ok = put(fd, row, l->row_bytes, HEADER + emb_ngram_row_offset(l, row_of(s, i)));
    }
    if (fd >= 0)
        (void)close(fd);
    if (!ok && st == EMBED_OK)
        st = failed(s, "rows-000.bin");
    m->files[1].bytes = HEADER + bytes;
fail:
    emb_free(s->env, row);
    emb_free(s->env, vector);
    return st;
}

embed_status sparse_table_write(const emb_env *env, embed_model *model, const char *path,
                                const emb_ngram_fgram *grams, size_t n, uint64_t rows,
                                int32_t dtype, double deviation) {
    static const char none[65] = "0000000000000000000000000000000000000000000000000000000000000000";
    sparse s = {
        .env = env, .path = path, .grams = grams, .n = n, .rows = rows, .deviation = deviation};
    char names[2][16] = {"index.bin", "rows-000.bin"}, manifest[1200];
    emb_ngram_file files[2];
    emb_ngram_manifest *m = &s.manifest;
    embed_status st = EMBED_OK;
    for (int i = 0; i < 2; i++) {
        files[i] = (emb_ngram_file){.name = names[i]};
        memcpy(files[i].sha256, none, sizeof none);
    }
    *m = (emb_ngram_manifest){.mode = EMB_NGRAM_REPLACE,
                              .k = 2,
                              .rows = rows,
                              .files = files,
                              .n_files = 2,
                              .provenance = {.min_count = -1, .min_documents = -1}};
    memcpy(m->table_id, "sparse benchmark", sizeof m->table_id);
    m->length_rows[2] = rows;
    EMB_TRY(emb_ngram_binding_of(model, &m->binding));
    EMB_TRY(emb_ngram_layout_init(&m->layout, m->binding.hidden, dtype));
    if (mkdir(path, 0755) != 0) {
        st = emb_fail(EMBED_ERR_IO, "%s: could not be made", path);
        goto fail;
    }
    EMB_TRY(write_index(&s));
    EMB_TRY(write_rows(&s));
    (void)snprintf(manifest, sizeof manifest, "%s/manifest.json", path);
    EMB_TRY(emb_ngram_manifest_write(m, env, manifest));
fail:
    return st;
}
