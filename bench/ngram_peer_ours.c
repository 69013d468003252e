/* This library: the index alone where values are numbers, else a table through the public calls. */
#define _GNU_SOURCE
#include "ngram_peer.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/dtype.h"
#include "ngram/ngram_index.h"
#include "ngram/ngram_writer.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define LOAD 0.75

struct ours {
    emb_env env;
    emb_ngram_index index; /* numbers */
    uint64_t *special;
    embed_table *table; /* vectors */
    char path[512];
};

void peer_vector_f16(uint64_t row, int32_t width, uint16_t *out) {
    for (int32_t c = 0; c < width; c++)
        out[c] = emb_f32_to_f16(peer_value(row, c));
}

static void widen_plain(const uint16_t *in, int32_t from, int32_t width, float *out) {
    for (int32_t c = from; c < width; c++)
        out[c] = emb_f16_to_f32(in[c]);
}

#if defined(__x86_64__)
__attribute__((target("avx,f16c"))) static void widen_f16c(const uint16_t *in, int32_t width,
                                                           float *out) {
    int32_t c = 0;
    for (; c + 8 <= width; c += 8)
        _mm256_storeu_ps(out + c, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(in + c))));
    widen_plain(in, c, width, out);
}
#endif

void peer_widen(const uint16_t *in, int32_t width, float *out) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports(
            "avx2")) { /* such processors have F16C; clang 14 cannot ask for that */
        widen_f16c(in, width, out);
        return;
    }
#endif
    widen_plain(in, 0, width, out);
}

static int failed(void) {
    fprintf(stderr, "%s\n", embed_last_error());
    return 0;
}

static embed_status gram_at(void *user, uint32_t row, emb_ngram_fgram *out) {
    *out = ((const peer_data *)user)->grams[row];
    return EMBED_OK;
}

static int build_index(peer *p, struct ours *o) {
    const peer_data *d = p->data;
    uint64_t buckets;
    o->special = calloc((size_t)d->vocab / 64 + 1, sizeof *o->special);
    if (o->special == NULL || emb_ngram_index_buckets(d->n, LOAD, &buckets) != EMBED_OK)
        return failed();
    const size_t bytes = buckets * sizeof(emb_ngram_bucket);
    void *m = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (m == MAP_FAILED)
        return failed();
    (void)madvise(m, bytes, MADV_HUGEPAGE);
    emb_ngram_filler f = {.buckets = m,
                          .n_buckets = buckets,
                          .seed = 1,
                          .recall = gram_at,
                          .user = (void *)(uintptr_t)d};
    o->index = (emb_ngram_index){.buckets = m,
                                 .n_buckets = buckets,
                                 .seed = 1,
                                 .special = o->special,
                                 .vocab = d->vocab,
                                 .k = d->k};
    if (emb_ngram_filler_add(&f, d->grams, 0, d->n) != EMBED_OK || f.clash ||
        emb_ngram_filler_link(&f, d->grams, d->n) != EMBED_OK || f.clash)
        return failed();
    p->disk_bytes = p->memory_bytes = bytes; /* index.bin is the very same bytes */
    return 1;
}

static embed_status read_grams(void *user, uint64_t first, size_t n, emb_ngram_fgram *out) {
    memcpy(out, ((const peer_data *)user)->grams + first, n * sizeof *out);
    return EMBED_OK;
}

static embed_status make_vectors(void *user, uint64_t first, size_t n, float *out) {
    const peer_data *d = user;
    for (size_t i = 0; i < n; i++)
        for (int32_t c = 0; c < d->width; c++)
            out[i * (size_t)d->width + (size_t)c] = peer_value(first + i, c);
    return EMBED_OK;
}

static int open_table(struct ours *o) {
    const embed_table_params params = {.struct_size = sizeof params, .cache_bytes = 1};
    return embed_table_open(&o->table, o->path, NULL, &params) == EMBED_OK ? 1 : failed();
}

static int build_table(peer *p, struct ours *o) {
    const peer_data *d = p->data;
    emb_ngram_manifest m = {
        .k = d->k, .mode = EMB_NGRAM_REPLACE, .provenance = {.min_count = -1, .min_documents = -1}};
    m.layout.width = d->width;
    m.layout.dtype = EMBED_F16;
    memset(m.binding.tokenizer, '0', 32);
    memset(m.binding.embedding, '0', 32);
    memset(m.binding.model, '0', 32);
    m.binding.hidden = d->width;
    m.binding.vocab = d->vocab;
    const emb_ngram_write_params params = {.manifest = &m};
    const emb_ngram_source source = {
        .rows = d->n, .user = (void *)(uintptr_t)d, .fgrams = read_grams, .vectors = make_vectors};
    (void)snprintf(o->path, sizeof o->path, "%s/table", d->dir);
    if (emb_ngram_write(&o->env, o->path, &params, &source) != EMBED_OK || !open_table(o))
        return failed();
    embed_table_info facts = {.struct_size = sizeof facts};
    if (embed_table_get_info(o->table, &facts) != EMBED_OK)
        return failed();
    p->disk_bytes = facts.index_bytes + facts.rows_bytes;
    return 1;
}

static int build(peer *p) {
    struct ours *o = p->state = calloc(1, sizeof *o);
    if (o == NULL || emb_env_init(&o->env, NULL, NULL, NULL) != EMBED_OK)
        return failed();
    return p->data->width == 0 ? build_index(p, o) : build_table(p, o);
}

static int drop(peer *p) {
    struct ours *o = p->state;
    embed_table_info facts = {.struct_size = sizeof facts};
    if (embed_table_get_info(o->table, &facts) != EMBED_OK)
        return failed();
    const int32_t parts = facts.parts;
    embed_table_free(o->table);
    o->table = NULL;
    for (int32_t i = 0; i < parts; i++) {
        char name[600];
        (void)snprintf(name, sizeof name, "%s/rows-%03d.bin", o->path, i);
        const int fd = open(name, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) != 0)
            perror(name);
        if (fd >= 0)
            close(fd);
    }
    return open_table(o);
}

static int look_up(peer *p, const int32_t *ids, const int32_t *offsets, size_t texts,
                   uint32_t *rows) {
    struct ours *o = p->state;
    uint8_t *lengths = malloc((size_t)offsets[texts] + 1);
    if (lengths == NULL)
        return 0;
    emb_ngram_index_lookup(&o->index, ids, offsets, texts, rows, lengths);
    free(lengths);
    return 1;
}

static long fetch_texts(peer *p, const int32_t *ids, const int32_t *offsets, size_t texts,
                        float *out) {
    struct ours *o = p->state;
    const size_t n = (size_t)(offsets[texts] - offsets[0]), width = (size_t)p->data->width;
    embed_ids *spans = malloc((texts + 1) * sizeof *spans);
    int64_t *rows = malloc((n + 1) * sizeof *rows);
    int32_t *lengths = malloc((n + 1) * sizeof *lengths);
    long hits = -1;
    if (spans != NULL && rows != NULL && lengths != NULL) {
        for (size_t i = 0; i < texts; i++)
            spans[i] = (embed_ids){ids + offsets[i], (size_t)(offsets[i + 1] - offsets[i])};
        embed_status st = embed_table_lookup(o->table, spans, texts, rows, lengths, n);
        hits = 0;
        for (size_t i = 0; i < n && st == EMBED_OK; i++)
            if (rows[i] >= 0)
                rows[hits++] = rows[i];
        if (st == EMBED_OK)
            st = embed_table_fetch(o->table, rows, (size_t)hits, out, (size_t)hits * width, NULL);
        if (st != EMBED_OK)
            hits = failed() - 1;
    }
    free(spans);
    free(rows);
    free(lengths);
    return hits;
}

static int fetch_grams(peer *p, const uint32_t *which, size_t n, float *out) {
    struct ours *o = p->state;
    int64_t *rows = malloc((n + 1) * sizeof *rows);
    if (rows == NULL)
        return 0;
    for (size_t i = 0; i < n; i++)
        rows[i] = which[i];
    const embed_status st =
        embed_table_fetch(o->table, rows, n, out, n * (size_t)p->data->width, NULL);
    free(rows);
    return st == EMBED_OK ? 1 : failed();
}

static void close_ours(peer *p) {
    struct ours *o = p->state;
    if (o == NULL)
        return;
    embed_table_free(o->table);
    if (o->index.buckets != NULL)
        munmap((void *)(uintptr_t)o->index.buckets, o->index.n_buckets * sizeof *o->index.buckets);
    free(o->special);
    free(o);
    p->state = NULL;
}

peer peer_ours(const peer_data *data) {
    const int numbers = data->width == 0;
    return (peer){.name = numbers ? "embed index" : "embed table",
                  .data = data,
                  .build = build,
                  .drop = numbers ? NULL : drop,
                  .look_up = numbers ? look_up : NULL,
                  .fetch_texts = numbers ? NULL : fetch_texts,
                  .fetch_grams = numbers ? NULL : fetch_grams,
                  .close = close_ours};
}
