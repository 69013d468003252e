#define _DEFAULT_SOURCE
#include "ngram/ngram_table.h"

#include <inttypes.h>
#include <string.h>

#include "io/file.h"
#include "ngram/ngram_cache.h"
#include "ngram/ngram_crypt.h"
#include "ngram/ngram_memory.h"
#include "ngram/ngram_parts.h"
#include "ngram/ngram_path.h"
#include "ngram/ngram_probe.h"
#include "ngram/ngram_projector.h"
#include "ngram/ngram_service.h"

#define DEFAULT_CACHE_BYTES ((uint64_t)64 << 20)

/* ------------------------------------------------------------------------------- key */

static embed_status read_key(const emb_env *env, const embed_table_params *params,
                             const char *table, uint8_t key[32]) {
    if (params->key != NULL) {
        if (params->key(params->key_user, key) != 0)
            return emb_fail(EMBED_ERR_ARG, "%s: the key callback refused", table);
        return EMBED_OK;
    }
    if (params->key_path == NULL)
        return emb_fail(EMBED_ERR_ARG, "%s: the table is encrypted; expected a key file", table);
    return emb_ngram_key_read(env, params->key_path, key);
}

embed_status emb_ngram_key_read(const emb_env *env, const char *path, uint8_t key[32]) {
    char *bytes = NULL;
    size_t size = 0;
    embed_status st = emb_file_read(path, env, 1 << 16, 0, &bytes, &size);
    if (st == EMBED_OK && size != 32)
        st = emb_fail(EMBED_ERR_FORMAT, "%s: expected a key of 32 bytes, found %zu", path, size);
    if (st == EMBED_OK)
        memcpy(key, bytes, 32);
    if (bytes != NULL)
        explicit_bzero(bytes, size);
    emb_free(env, bytes);
    return st;
}

static embed_status unlock(embed_table *t, const embed_table_params *params) {
    uint8_t key[32], check[32];
    if (!t->manifest.encrypted)
        return EMBED_OK;
    embed_status st = read_key(&t->env, params, t->path, key);
    if (st == EMBED_OK)
        st = emb_ngram_cipher_create(&t->cipher, &t->env, key, t->manifest.salt, check);
    explicit_bzero(key, sizeof key);
    if (st == EMBED_OK && memcmp(check, t->manifest.key_check, sizeof check) != 0)
        st = emb_fail(EMBED_ERR_ARG, "%s: wrong key: it is not the one the table was made with",
                      t->path);
    return st;
}

/* ----------------------------------------------------------------------------- opening */

static embed_status check_manifest(const embed_table *t) {
    const emb_ngram_manifest *m = &t->manifest;
    uint64_t least;
    if (m->rows > m->keys)
        return emb_fail(EMBED_ERR_FORMAT, "%s: %" PRIu64 " rows but %" PRIu64 " keys", t->path,
                        m->rows, m->keys);
    const embed_status st = emb_ngram_index_buckets(m->keys, 0.9, &least);
    if (st != EMBED_OK)
        return st;
    if (m->keys / EMB_NGRAM_BUCKET_ENTRIES > m->n_buckets)
        return emb_fail(EMBED_ERR_FORMAT, "%s: %" PRIu64 " keys do not fit %" PRIu64 " buckets",
                        t->path, m->keys, m->n_buckets);
    return EMBED_OK;
}

static embed_status read_manifest(embed_table *t, int allow_unsafe) {
    embed_status st = EMBED_OK;
    char *name = NULL;
    uint64_t bytes;
    int fd = -1;
    EMB_TRY(emb_file_join(&t->env, t->path, "manifest.json", &name));
    EMB_TRY(emb_file_open(name, &fd, &bytes));
    if (!allow_unsafe)
        EMB_TRY(emb_ngram_path_check(name, fd));
    EMB_TRY(emb_ngram_manifest_read(&t->manifest, &t->env, name));
    EMB_TRY(check_manifest(t));
fail:
    emb_file_close(fd);
    emb_free(&t->env, name);
    return st;
}

/* For experiments all may differ but what would make rows unusable. */
static embed_status check_binding(const embed_table *t, const emb_ngram_binding *model) {
    if (!t->any_model)
        return emb_ngram_binding_check(&t->manifest, model, t->path);
    if (t->manifest.projection != NULL && t->manifest.binding.hidden != model->hidden)
        return emb_fail(EMBED_ERR_MISMATCH,
                        "%s: rows are projected to %d floats, the model's word embeddings have %d",
                        t->path, t->manifest.binding.hidden, model->hidden);
    return emb_ngram_width_check(&t->manifest, model, t->path);
}

static embed_status make_special(embed_table *t) {
    const emb_ngram_binding *b = &t->manifest.binding;
    uint64_t *bits;
    const embed_status st =
        emb_new_array(&t->env, ((size_t)b->vocab + 63) / 64, sizeof *bits, (void **)&bits);
    if (st != EMBED_OK)
        return st;
    for (int32_t i = 0; i < b->n_special; i++)
        bits[b->special[i] / 64] |= UINT64_C(1) << (b->special[i] % 64);
    t->index.special = bits;
    t->index.vocab = b->vocab;
    t->index.k = t->manifest.k;
    t->index.seed = t->manifest.seed;
    t->index.n_buckets = t->manifest.n_buckets;
    return EMBED_OK;
}

/* Rows that are decoded straight from memory would only be copied once more. */
static embed_status make_cache(embed_table *t, uint64_t bytes) {
    if (t->n_parts == 0 || (t->io == EMBED_TABLE_IO_WILLNEED && t->parts[0].clear))
        return EMBED_OK;
    return emb_ngram_cache_create(&t->cache, &t->env, bytes == 0 ? DEFAULT_CACHE_BYTES : bytes,
                                  emb_ngram_vector_bytes(&t->manifest.layout));
}

embed_status emb_ngram_table_open(embed_table **out, const emb_env *env, const char *path,
                                  const embed_table_params *params,
                                  const emb_ngram_binding *binding) {
    embed_status st = EMBED_OK;
    embed_table *t = NULL;
    const int unsafe = (params->flags & EMBED_TABLE_ALLOW_UNSAFE) != 0;
    *out = NULL;
    EMB_TRY(emb_new(env, sizeof *t, (void **)&t));
    t->env = *env;
    atomic_init(&t->refs, 1);
    (void)pthread_mutex_init(&t->lock, NULL);
    (void)pthread_mutex_init(&t->image_lock, NULL);
    t->mode = params->mode != EMBED_TABLE_AUTO ? params->mode : EMBED_TABLE_LAZY;
    t->io_asked = params->io;
    t->any_model = (params->flags & EMBED_TABLE_ALLOW_MISMATCH) != 0;
    EMB_TRY(emb_isa_select(&t->isa, EMBED_ISA_AUTO));
    EMB_TRY(emb_ngram_path_resolve(&t->path, env, path, unsafe));
    EMB_TRY(read_manifest(t, unsafe));
    if (binding != NULL)
        EMB_TRY(check_binding(t, binding));
    EMB_TRY(emb_ngram_manifest_intact(&t->manifest, t->path));
    EMB_TRY(unlock(t, params));
    EMB_TRY(make_special(t));
    EMB_TRY(emb_ngram_parts_open(t, unsafe));
    EMB_TRY(emb_ngram_projector_open(&t->projection, t, unsafe));
    t->verified_bytes = (t->manifest.rows / 64 + 1) * sizeof *t->verified;
    EMB_TRY(emb_ngram_memory_zeros(t->path, t->verified_bytes, (void **)&t->verified));
    EMB_TRY(emb_ngram_io_choose(t));
    EMB_TRY(emb_ngram_parts_pin(t, params->pin_bytes));
    EMB_TRY(make_cache(t, params->cache_bytes));
    EMB_TRY(emb_ngram_service_create(&t->service, t));
    *out = t;
    return EMBED_OK;
fail:
    emb_ngram_table_release(t);
    return st;
}

void emb_ngram_table_retain(embed_table *t) {
    atomic_fetch_add_explicit(&t->refs, 1, memory_order_relaxed);
}

void emb_ngram_table_release(embed_table *t) {
    if (t == NULL || atomic_fetch_sub_explicit(&t->refs, 1, memory_order_acq_rel) > 1)
        return;
    const emb_env env = t->env;
    emb_ngram_service_free(t->service);
    emb_ngram_cache_free(t->cache);
    emb_ngram_parts_close(t);
    emb_ngram_cipher_free(t->cipher);
    emb_free(&env, (void *)(uintptr_t)t->index.special);
    emb_ngram_manifest_clear(&t->manifest, &env);
    emb_ngram_projector_free(t->projection, &env);
    emb_ngram_memory_release((const void *)(uintptr_t)t->verified, t->verified_bytes);
    emb_free(&env, t->path);
    (void)pthread_mutex_destroy(&t->lock);
    (void)pthread_mutex_destroy(&t->image_lock);
    emb_free(&env, t);
}

void emb_ngram_stats_add(emb_ngram_stats *sum, const emb_ngram_stats *more) {
    sum->positions += more->positions;
    for (int n = 0; n <= EMB_NGRAM_MAX_K; n++)
        sum->hits[n] += more->hits[n];
    sum->distinct_rows += more->distinct_rows;
    sum->cache_hits += more->cache_hits;
    sum->bytes_read += more->bytes_read;
    sum->foreign_rows += more->foreign_rows;
    sum->fetch_ns += more->fetch_ns;
    sum->wait_ns += more->wait_ns;
    sum->device_bytes += more->device_bytes;
    sum->device_hits += more->device_hits;
    sum->device_wait_ns += more->device_wait_ns;
    sum->place = more->place != 0 ? more->place : sum->place;
}

void emb_ngram_table_count(embed_table *t, const emb_ngram_stats *more) {
    (void)pthread_mutex_lock(&t->lock);
    emb_ngram_stats_add(&t->totals, more);
    (void)pthread_mutex_unlock(&t->lock);
}

void emb_ngram_table_totals(embed_table *t, emb_ngram_stats *totals) {
    (void)pthread_mutex_lock(&t->lock);
    *totals = t->totals;
    (void)pthread_mutex_unlock(&t->lock);
}
