#include "model/fingerprint.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/dtype.h"
#include "io/file.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#define READ_BYTES ((size_t)256 << 10)

/* Raised when the bytes that are hashed change their meaning or order. */
#define FINGERPRINT_FORMAT 1

embed_status emb_fingerprint_file(uint64_t hash[2], const emb_env *env, const char *path) {
    embed_status st = EMBED_OK;
    XXH3_state_t state;
    unsigned char *buffer = NULL;
    uint64_t size;
    ssize_t n;
    int fd = -1;
    EMB_TRY(emb_alloc(env, READ_BYTES, (void **)&buffer));
    EMB_TRY(emb_file_open(path, &fd, &size));
    (void)XXH3_128bits_reset(&state);
    while ((n = read(fd, buffer, READ_BYTES)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            st = emb_fail(EMBED_ERR_IO, "%s: %s", path, strerror(errno));
            goto fail;
        }
        (void)XXH3_128bits_update(&state, buffer, (size_t)n);
    }
    const XXH128_hash_t h = XXH3_128bits_digest(&state);
    hash[0] = h.high64;
    hash[1] = h.low64;
fail:
    emb_file_close(fd);
    emb_free(env, buffer);
    return st;
}

static void add_u64(XXH3_state_t *state, uint64_t v) {
    unsigned char bytes[8]; /* little-endian on every machine */
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)(v >> 8 * i);
    (void)XXH3_128bits_update(state, bytes, sizeof bytes);
}

static void add_bytes(XXH3_state_t *state, const void *data, size_t n) {
    add_u64(state, n); /* the length keeps neighbours apart */
    (void)XXH3_128bits_update(state, data, n);
}

static void add_f64(XXH3_state_t *state, double v) {
    uint64_t u;
    memcpy(&u, &v, sizeof u);
    add_u64(state, u);
}

static void add_i32s(XXH3_state_t *state, const int32_t *v, size_t n) {
    for (size_t i = 0; i < n; i++)
        add_u64(state, (uint64_t)(int64_t)v[i]);
}

static void add_encoder(XXH3_state_t *state, const emb_encoder_config *c) {
    const int32_t fields[] = {
        c->arch,
        c->hidden,
        c->layers,
        c->heads,
        c->head_dim,
        c->inner,
        c->vocab,
        c->max_positions,
        c->position_rows,
        c->position_offset,
        c->type_rows,
        c->rotary_dim,
        c->activation,
        c->gated,
        c->qkv_bias,
        c->out_bias,
        c->up_bias,
        c->down_bias,
        c->moe_every,
        c->experts,
        c->top_k,
        c->renormalize,
        c->expert_activation,
        c->expert_bias,
    };
    add_i32s(state, fields, sizeof fields / sizeof fields[0]);
    add_f64(state, (double)c->eps);
    add_f64(state, c->rope_base);
}

static void add_pipeline(XXH3_state_t *state, const emb_pipeline_config *p) {
    const int32_t fields[] = {p->max_tokens, p->n_pooling, p->include_prompt, p->normalize,
                              p->n_dense,    p->n_prompts, p->default_prompt};
    add_i32s(state, fields, sizeof fields / sizeof fields[0]);
    add_i32s(state, p->pooling_order, (size_t)p->n_pooling);
    for (int32_t i = 0; i < p->n_dense; i++) {
        const int32_t dense[] = {p->dense[i].in, p->dense[i].out, p->dense[i].bias,
                                 p->dense[i].activation};
        add_i32s(state, dense, sizeof dense / sizeof dense[0]);
    }
    for (int32_t i = 0; i < p->n_prompts; i++) {
        add_bytes(state, p->prompts[i].name, strlen(p->prompts[i].name));
        add_bytes(state, p->prompts[i].text, p->prompts[i].text_len);
    }
}

static void add_tensor(void *arg, const char *name, int32_t dtype, const void *data, size_t bytes) {
    add_bytes(arg, name, strlen(name));
    add_u64(arg, (uint64_t)dtype);
    add_bytes(arg, data, bytes);
}

void emb_fingerprint_write(const uint64_t hash[2], char out[EMB_FINGERPRINT_CHARS]) {
    (void)snprintf(out, EMB_FINGERPRINT_CHARS, "%016" PRIx64 "%016" PRIx64, hash[0], hash[1]);
}

static void write_digest(const XXH3_state_t *state, char out[EMB_FINGERPRINT_CHARS]) {
    const XXH128_hash_t h = XXH3_128bits_digest(state);
    emb_fingerprint_write((const uint64_t[2]){h.high64, h.low64}, out);
}

static void compute(const embed_model *m, char out[EMB_FINGERPRINT_CHARS]) {
    XXH3_state_t state;
    (void)XXH3_128bits_reset(&state);
    add_u64(&state, FINGERPRINT_FORMAT);
    add_encoder(&state, &m->config.encoder);
    add_pipeline(&state, &m->config.pipeline);
    add_u64(&state, m->tokenizer_hash[0]);
    add_u64(&state, m->tokenizer_hash[1]);
    emb_weights_visit(&m->weights, add_tensor, &state);
    write_digest(&state, out);
}

static void compute_embedding(const emb_matrix *word, char out[EMB_FINGERPRINT_CHARS]) {
    const size_t bytes = (size_t)word->rows * (size_t)word->cols * emb_dtype_bytes(word->dtype);
    XXH3_state_t state;
    (void)XXH3_128bits_reset(&state);
    add_u64(&state, (uint64_t)word->dtype);
    add_u64(&state, (uint64_t)word->rows);
    add_u64(&state, (uint64_t)word->cols);
    add_bytes(&state, word->data, bytes);
    write_digest(&state, out);
}

void emb_fingerprint_get(embed_model *m, char out[EMB_FINGERPRINT_CHARS]) {
    pthread_mutex_lock(&m->mutex);
    if (m->fingerprint[0] == '\0')
        compute(m, m->fingerprint);
    memcpy(out, m->fingerprint, EMB_FINGERPRINT_CHARS);
    pthread_mutex_unlock(&m->mutex);
}

void emb_fingerprint_embedding(embed_model *m, char out[EMB_FINGERPRINT_CHARS]) {
    pthread_mutex_lock(&m->mutex);
    if (m->embedding_hash[0] == '\0')
        compute_embedding(&m->weights.word, m->embedding_hash);
    memcpy(out, m->embedding_hash, EMB_FINGERPRINT_CHARS);
    pthread_mutex_unlock(&m->mutex);
}
