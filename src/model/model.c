#include "model/model.h"

#include <string.h>

#include "io/file.h"
#include "model/device_home.h"
#include "model/fingerprint.h"
#include "model/packing.h"
#include "model/rotary.h"

#define TOKENIZER_FILE "tokenizer.json"

/* The model's own allocator keeps the sum of what the model holds for embed_model_info. */
static void *counted_alloc(void *user, size_t size, size_t align) {
    embed_model *m = user;
    void *p = m->base.allocator.alloc(m->base.allocator.user, size, align);
    if (p != NULL)
        atomic_fetch_add_explicit(&m->allocated, size, memory_order_relaxed);
    return p;
}

static void counted_free(void *user, void *ptr, size_t size) {
    embed_model *m = user;
    atomic_fetch_sub_explicit(&m->allocated, size, memory_order_relaxed);
    m->base.allocator.free(m->base.allocator.user, ptr, size);
}

static embed_status model_create(embed_model **out, const emb_env *base) {
    embed_model *m;
    const embed_status st = emb_new(base, sizeof *m, (void **)&m);
    if (st != EMBED_OK)
        return st;
    m->base = *base;
    m->env = *base;
    m->env.allocator = (embed_allocator){m, counted_alloc, counted_free};
    atomic_init(&m->allocated, sizeof *m);
    atomic_init(&m->refs, 1);
    atomic_init(&m->idle_scratch, NULL);
    atomic_init(&m->homes_pid, 0);
    pthread_mutex_init(&m->mutex, NULL);
    pthread_mutex_init(&m->homes_mutex, NULL);
    *out = m;
    return EMBED_OK;
}

static void model_destroy(embed_model *m) {
    const emb_env base = m->base;
    emb_device_homes_free(m);
    emb_tok_scratch_free(atomic_load(&m->idle_scratch));
    emb_free(&m->env, m->packed);
    emb_free(&m->env, m->sin);
    emb_free(&m->env, m->cos);
    emb_free(&m->env, m->special);
    emb_tokenizer_free(m->tokenizer);
    emb_weights_close(&m->weights, &m->env, &m->config);
    emb_config_clear(&m->config, &m->env);
    pthread_mutex_destroy(&m->homes_mutex);
    pthread_mutex_destroy(&m->mutex);
    emb_free(&base, m);
}

void emb_model_retain(embed_model *m) {
    atomic_fetch_add_explicit(&m->refs, 1, memory_order_relaxed);
}

void emb_model_release(embed_model *m) {
    if (m != NULL && atomic_fetch_sub_explicit(&m->refs, 1, memory_order_acq_rel) == 1)
        model_destroy(m);
}

/* Last component of the path, trailing slashes apart; cut if it is very long. */
static void set_name(embed_model *m, const char *path) {
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/')
        end--;
    size_t start = end;
    while (start > 0 && path[start - 1] != '/')
        start--;
    size_t n = end - start;
    if (n >= sizeof m->name)
        n = sizeof m->name - 1;
    memcpy(m->name, path + start, n);
    m->name[n] = '\0';
}

/* The files of a checkpoint must fit each other: any id that the tokenizer gives must have its row,
 * and the length limit must leave room for text. */
static embed_status check_tokenizer(const embed_model *m) {
    const int32_t vocab = emb_tokenizer_vocab(m->tokenizer);
    const int32_t special = emb_tokenizer_special_count(m->tokenizer);
    if (vocab > m->weights.word.rows)
        return emb_fail(EMBED_ERR_MISMATCH,
                        "%s/" TOKENIZER_FILE ": largest token id is %d, but the word embeddings "
                        "have %lld rows",
                        m->name, vocab - 1, (long long)m->weights.word.rows);
    if (m->config.pipeline.max_tokens <= special)
        return emb_fail(EMBED_ERR_MISMATCH,
                        "%s: limit of %d tokens, but " TOKENIZER_FILE " adds %d special tokens",
                        m->name, m->config.pipeline.max_tokens, special);
    return EMBED_OK;
}

static embed_status open_tokenizer(embed_model *m, const char *dir) {
    embed_status st = EMBED_OK;
    char *path = NULL;
    EMB_TRY(emb_file_join(&m->env, dir, TOKENIZER_FILE, &path));
    EMB_TRY(emb_tokenizer_open(&m->tokenizer, &m->env, path));
    EMB_TRY(emb_fingerprint_file(m->tokenizer_hash, &m->env, path));
    EMB_TRY(check_tokenizer(m));
    EMB_TRY(emb_tokenizer_special_ids(m->tokenizer, &m->env, &m->special, &m->n_special));
fail:
    emb_free(&m->env, path);
    return st;
}

static void set_derived(embed_model *m) {
    const emb_config *c = &m->config;
    for (int32_t i = 0; i < c->encoder.layers; i++)
        m->moe_layers += emb_config_is_moe(&c->encoder, i);
    m->dim = c->encoder.hidden * c->pipeline.n_pooling;
    if (c->pipeline.n_dense > 0)
        m->dim = c->pipeline.dense[c->pipeline.n_dense - 1].out;
}

embed_status emb_model_open(embed_model **out, const char *path, const embed_model_params *params) {
    embed_status st = EMBED_OK;
    embed_model *m = NULL;
    emb_env base;
    *out = NULL;
    EMB_TRY(emb_env_init(&base, params->allocator, params->log, params->log_user));
    EMB_TRY(model_create(&m, &base));
    set_name(m, path);
    EMB_TRY(emb_isa_select(&m->isa, params->isa));
    EMB_TRY(emb_config_read(&m->config, &m->env, path));
    EMB_TRY(emb_weights_open(&m->weights, &m->env, path, &m->config));
    set_derived(m);
    EMB_TRY(open_tokenizer(m, path));
    EMB_TRY(emb_rotary_build(m));
    EMB_TRY(emb_packing_build(m, params->pack_bytes));
    emb_log(&base, EMBED_LOG_INFO, "%s: %d layers, width %d, %lld parameters, %s kernels, %s",
            m->name, m->config.encoder.layers, m->config.encoder.hidden,
            (long long)m->weights.params_total, m->isa->name,
            m->packed != NULL ? "weights rearranged" : "weights used in place");
    *out = m;
    return EMBED_OK;
fail:
    emb_model_release(m);
    return st;
}

embed_status emb_model_borrow_scratch(embed_model *m, emb_tok_scratch **out) {
    *out = atomic_exchange(&m->idle_scratch, NULL);
    return *out != NULL ? EMBED_OK : emb_tok_scratch_create(out, &m->env);
}

void emb_model_return_scratch(embed_model *m, emb_tok_scratch *scratch) {
    emb_tok_scratch *none = NULL;
    if (!atomic_compare_exchange_strong(&m->idle_scratch, &none, scratch))
        emb_tok_scratch_free(scratch);
}
