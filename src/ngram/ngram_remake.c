#define _DEFAULT_SOURCE
#include "ngram/ngram_remake.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "io/file.h"
#include "ngram/access_log.h"
#include "ngram/ngram_builder.h"
#include "ngram/ngram_fetch.h"
#include "ngram/ngram_spill.h"
#include "ngram/ngram_tell.h"
#include "ngram/ngram_writer.h"

#define PIECE ((size_t)4096)
#define MAX_PROJECTION ((size_t)16 << 30)

typedef struct remake {
    emb_env env;
    const embed_compact_params *params;
    embed_table *table;
    emb_ngram_fetcher *fetcher;
    emb_ngram_spill spill; /* n-grams in the new order */
    uint32_t *order;       /* [kept] old row of each new one */
    uint64_t kept;
    const float **vectors;
    const emb_ngram_row_header **headers;
    char parent[33];
    char *projection;
    size_t projection_bytes;
    uint8_t log_digest[16];
    emb_ngram_teller teller;
} remake;

/* ------------------------------------------------------------------------------ which rows */

static embed_status fetch(remake *r, uint64_t first, size_t n, int vectors) {
    return emb_ngram_fetch_rows(r->fetcher, r->order + first, n, vectors ? r->vectors : NULL,
                                r->headers, NULL);
}

static void take_header(const emb_ngram_row_header *h, emb_ngram_fgram *g) {
    *g = (emb_ngram_fgram){.count = h->count, .length = h->length};
    memcpy(g->ids, h->ids, sizeof g->ids);
}

/* Leave out rows of too few occurrences. Reads all rows, front to back. */
static embed_status drop(remake *r) {
    const uint64_t least = r->params->drop_below, rows = r->kept;
    embed_status st = EMBED_OK;
    uint64_t kept = 0;
    for (uint64_t first = 0; first < rows && least > 0;) {
        const size_t n = rows - first < PIECE ? (size_t)(rows - first) : PIECE;
        EMB_TRY(fetch(r, first, n, 0));
        for (size_t i = 0; i < n; i++)
            if (r->headers[i]->count >= least)
                r->order[kept++] = r->order[first + i];
        first += n;
        EMB_TRY(emb_ngram_tell(&r->teller, "choose rows", "rows", first, rows));
    }
    if (least > 0)
        r->kept = kept;
fail:
    return st;
}

static int compare(const void *a, const void *b) {
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Most hits first, equal ones in the old order. */
static embed_status sort(remake *r) {
    const uint64_t rows = r->table->manifest.rows;
    uint32_t *hits = NULL;
    uint64_t *keys = NULL;
    embed_status st = EMBED_OK;
    if (r->params->access_log == NULL)
        return EMBED_OK;
    EMB_TRY(emb_new_array(&r->env, (size_t)rows, sizeof *hits, (void **)&hits));
    EMB_TRY(emb_access_log_read(&r->env, r->params->access_log, hits, rows, r->log_digest));
    EMB_TRY(emb_new_array(&r->env, (size_t)r->kept, sizeof *keys, (void **)&keys));
    for (uint64_t i = 0; i < r->kept; i++)
        keys[i] = (uint64_t)(UINT32_MAX - hits[r->order[i]]) << 32 | r->order[i];
    qsort(keys, (size_t)r->kept, sizeof *keys, compare);
    for (uint64_t i = 0; i < r->kept; i++)
        r->order[i] = (uint32_t)keys[i];
fail:
    emb_free(&r->env, hits);
    emb_free(&r->env, keys);
    return st;
}

static embed_status choose(remake *r) {
    const uint64_t rows = r->table->manifest.rows;
    embed_status st = EMBED_OK;
    EMB_TRY(emb_new_array(&r->env, (size_t)rows + 1, sizeof *r->order, (void **)&r->order));
    for (uint64_t i = 0; i < rows; i++)
        r->order[i] = (uint32_t)i;
    r->kept = rows;
    EMB_TRY(drop(r));
    EMB_TRY(sort(r));
fail:
    return st;
}

/* ------------------------------------------------------------------------------ the source */

static embed_status spill_fgrams(remake *r) {
    emb_ngram_fgram *piece = NULL;
    embed_status st = EMBED_OK;
    EMB_TRY(emb_new_array(&r->env, PIECE, sizeof *piece, (void **)&piece));
    for (uint64_t first = 0; first < r->kept;) {
        const size_t n = r->kept - first < PIECE ? (size_t)(r->kept - first) : PIECE;
        EMB_TRY(fetch(r, first, n, 0));
        for (size_t i = 0; i < n; i++)
            take_header(r->headers[i], &piece[i]);
        EMB_TRY(emb_ngram_spill_add(&r->spill, piece, n));
        first += n;
        EMB_TRY(emb_ngram_tell(&r->teller, "read n-grams", "rows", first, r->kept));
    }
fail:
    emb_free(&r->env, piece);
    return st;
}

static embed_status source_fgrams(void *user, uint64_t first, size_t n, emb_ngram_fgram *out) {
    const remake *r = user;
    return emb_ngram_spill_read(&r->spill, first, n, out);
}

static embed_status source_vectors(void *user, uint64_t first, size_t n, float *out) {
    remake *r = user;
    const size_t width = (size_t)r->table->manifest.layout.width;
    for (size_t done = 0; done < n;) {
        const size_t here = n - done < PIECE ? n - done : PIECE;
        const embed_status st = fetch(r, first + done, here, 1);
        if (st != EMBED_OK)
            return st;
        for (size_t i = 0; i < here; i++)
            memcpy(out + (done + i) * width, r->vectors[i], width * sizeof *out);
        done += here;
    }
    return EMBED_OK;
}

static void identify(const remake *r, uint8_t identity[16]) {
    const emb_ngram_manifest *m = &r->table->manifest;
    XXH3_state_t x;
    XXH128_canonical_t sum;
    XXH3_128bits_reset(&x);
    (void)XXH3_128bits_update(&x, m->table_id, sizeof m->table_id);
    for (size_t i = 0; i < m->n_files; i++)
        (void)XXH3_128bits_update(&x, m->files[i].sha256, sizeof m->files[i].sha256);
    (void)XXH3_128bits_update(&x, &r->params->drop_below, sizeof r->params->drop_below);
    (void)XXH3_128bits_update(&x, r->log_digest, sizeof r->log_digest);
    XXH128_canonicalFromHash(&sum, XXH3_128bits_digest(&x));
    memcpy(identity, sum.digest, 16);
}

/* ------------------------------------------------------------------------------ the whole */

static embed_status open_input(remake *r, const char *input) {
    const embed_compact_params *p = r->params;
    const embed_table_params params = {
        .struct_size = sizeof params,
        .mode = EMBED_TABLE_READ, /* mapped pages would count as memory */
        .flags = p->flags | EMBED_TABLE_ALLOW_MISMATCH,
        .cache_bytes = 1,
        .key_path = p->key_path,
        .key = p->key,
        .key_user = p->key_user};
    char *path = NULL;
    embed_status st = EMBED_OK;
    EMB_TRY(emb_ngram_table_open(&r->table, &r->env, input, &params, NULL));
    EMB_TRY(emb_ngram_fetcher_create(&r->fetcher, &r->env, r->table, PIECE));
    EMB_TRY(emb_new_array(&r->env, PIECE, sizeof *r->vectors, (void **)&r->vectors));
    EMB_TRY(emb_new_array(&r->env, PIECE, sizeof *r->headers, (void **)&r->headers));
    for (int i = 0; i < 16; i++)
        (void)snprintf(r->parent + 2 * i, 3, "%02x", r->table->manifest.table_id[i]);
    if (r->table->manifest.projection != NULL) {
        EMB_TRY(emb_file_join(&r->env, r->table->path, "projection.safetensors", &path));
        EMB_TRY(
            emb_file_read(path, &r->env, MAX_PROJECTION, 0, &r->projection, &r->projection_bytes));
    }
fail:
    emb_free(&r->env, path);
    return st;
}

/* An encrypted table stays one, with the same key, unless asked otherwise. */
static embed_status output_key(const remake *r, uint8_t key[32], int *sealed) {
    const embed_compact_params *p = r->params;
    *sealed = 0;
    if (p->decrypt)
        return EMBED_OK;
    if (p->new_key_path != NULL || p->new_key != NULL)
        return emb_ngram_key_get(&r->env, p->new_key_path, p->new_key, p->new_key_user, key,
                                 sealed);
    if (!r->table->manifest.encrypted)
        return EMBED_OK;
    return emb_ngram_key_get(&r->env, p->key_path, p->key, p->key_user, key, sealed);
}

static embed_status tell(void *user, const embed_job_report *report) {
    return emb_ngram_tell(user, report->phase, report->unit, report->done, report->total);
}

static embed_status write_table(remake *r, const char *output) {
    const embed_compact_params *p = r->params;
    emb_ngram_manifest m = r->table->manifest;
    char by[48];
    uint8_t key[32];
    int sealed;
    embed_status st = EMBED_OK;
    emb_ngram_source source = {
        .rows = r->kept, .user = r, .fgrams = source_fgrams, .vectors = source_vectors};
    (void)snprintf(by, sizeof by, "embed %d.%d.%d", EMBED_VERSION_MAJOR, EMBED_VERSION_MINOR,
                   EMBED_VERSION_PATCH);
    m.encrypted = 0;
    m.layout.dtype = p->dtype != 0 ? p->dtype : m.layout.dtype;
    m.provenance.parent = r->parent;
    m.provenance.created = (char *)(uintptr_t)p->created;
    m.provenance.created_by = by;
    if (p->drop_below > 0 && (int64_t)p->drop_below > m.provenance.min_count)
        m.provenance.min_count = (int64_t)p->drop_below;
    EMB_TRY(output_key(r, key, &sealed));
    const emb_ngram_write_params write = {.manifest = &m,
                                          .projection = r->projection,
                                          .projection_bytes = r->projection_bytes,
                                          .key = sealed ? key : NULL,
                                          .part_bytes = p->part_bytes,
                                          .memory = p->job.memory,
                                          .load = p->load,
                                          .threads = p->job.threads,
                                          .resume = p->job.resume,
                                          .tell = tell,
                                          .tell_user = &r->teller};
    EMB_TRY(emb_ngram_write_estimate(&write, source.rows, &r->teller.memory_bytes,
                                     &r->teller.disk_bytes));
    r->teller.disk_bytes += source.rows * sizeof(emb_ngram_fgram);
    r->teller.memory_bytes += r->table->manifest.rows * 12; /* order, hits and their sort */
    EMB_TRY(emb_ngram_tell(&r->teller, "begin", "rows", 0, source.rows));
    EMB_TRY(emb_ngram_spill_open(&r->spill, &r->env, p->job.temp_dir, output));
    EMB_TRY(spill_fgrams(r));
    identify(r, source.identity);
    EMB_TRY(emb_ngram_write(&r->env, output, &write, &source));
fail:
    explicit_bzero(key, sizeof key);
    return st;
}

embed_status emb_ngram_remake(const emb_env *env, const char *input, const char *output,
                              const embed_compact_params *params) {
    remake *r = NULL;
    embed_status st = EMBED_OK;
    EMB_TRY(emb_ngram_write_ready(env, output, params->job.resume));
    EMB_TRY(emb_new(env, sizeof *r, (void **)&r));
    r->env = *env;
    r->params = params;
    r->spill.fd = -1;
    r->teller.job = &params->job;
    EMB_TRY(open_input(r, input));
    EMB_TRY(choose(r));
    EMB_TRY(write_table(r, output));
fail:
    if (r != NULL) {
        emb_ngram_spill_close(&r->spill, env);
        emb_ngram_fetcher_free(r->fetcher);
        emb_ngram_table_release(r->table);
        emb_free(env, (void *)(uintptr_t)r->vectors);
        emb_free(env, (void *)(uintptr_t)r->headers);
        emb_free(env, r->order);
        emb_free(env, r->projection);
    }
    emb_free(env, r);
    return st;
}
