#include "model/device_weights.h"

#include <string.h>

#include "base/dtype.h"
#include "device/upload.h"

#define SLOT_BYTES ((size_t)4 << 20) /* pinned, twice */
#define PART ((size_t)16384)         /* elements converted at once */

/* Goes through all tensors in one order: first to add up their bytes, then to upload them. */
struct walk {
    size_t at;
    emb_dptr base;
    emb_upload *upload; /* NULL: add up */
    unsigned char *part;
    int32_t rank, ranks; /* of the experts, those with e mod ranks == rank */
    embed_status st;
};

static float element(const unsigned char *from, size_t i, int32_t dtype) {
    float f;
    uint16_t h;
    if (dtype == EMBED_F32) {
        memcpy(&f, from + i * sizeof f, sizeof f);
        return f;
    }
    memcpy(&h, from + i * sizeof h, sizeof h);
    return dtype == EMBED_F16 ? emb_f16_to_f32(h) : emb_bf16_to_f32(h);
}

static void convert(unsigned char *to, int32_t to_dtype, const unsigned char *from,
                    int32_t from_dtype, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const float f = element(from, i, from_dtype);
        const uint16_t h = to_dtype == EMBED_F16    ? emb_f32_to_f16(f)
                           : to_dtype == EMBED_BF16 ? emb_f32_to_bf16(f)
                                                    : 0;
        if (to_dtype == EMBED_F32)
            memcpy(to + i * sizeof f, &f, sizeof f);
        else
            memcpy(to + i * sizeof h, &h, sizeof h);
    }
}

static embed_status send(struct walk *w, const void *data, int32_t from, int32_t to, size_t n) {
    embed_status st = EMBED_OK;
    const size_t size = emb_dtype_bytes(to), from_size = emb_dtype_bytes(from);
    const emb_dptr at = emb_dptr_add(w->base, w->at);
    if (from == to)
        return emb_upload_put(w->upload, at, data, n * size);
    for (size_t i = 0; i < n; i += PART) {
        const size_t part = n - i < PART ? n - i : PART;
        convert(w->part, to, (const unsigned char *)data + i * from_size, from, part);
        EMB_TRY(emb_upload_put(w->upload, emb_dptr_add(at, i * size), w->part, part * size));
    }
fail:
    return st;
}

/* n elements end to end with what came before. */
static void append(struct walk *w, const void *data, int32_t from, int32_t to, size_t n) {
    size_t bytes;
    if (w->st != EMBED_OK)
        return;
    if (w->upload != NULL)
        w->st = send(w, data, from, to, n);
    if (w->st == EMBED_OK)
        w->st = emb_mul(n, emb_dtype_bytes(to), "device weights", &bytes);
    if (w->st == EMBED_OK)
        w->st = emb_add(w->at, bytes, "device weights", &w->at);
}

static emb_dptr start(struct walk *w) {
    if (w->st == EMBED_OK)
        w->st = emb_add(w->at, EMB_DEVICE_ALIGN - 1, "device weights", &w->at);
    w->at = w->at / EMB_DEVICE_ALIGN * EMB_DEVICE_ALIGN;
    return emb_dptr_add(w->base, w->at);
}

static emb_dptr vector(struct walk *w, const float *data, int64_t n) {
    if (data == NULL)
        return (emb_dptr){0};
    const emb_dptr at = start(w);
    append(w, data, EMBED_F32, EMBED_F32, (size_t)n);
    return at;
}

/* See emb_device_bias. */
static emb_dptr bias(struct walk *w, const float *data, int64_t n, int32_t dtype) {
    const emb_dptr at = vector(w, data, n);
    if (data != NULL && dtype != EMBED_F32) {
        (void)start(w);
        append(w, data, EMBED_F32, dtype, (size_t)n);
    }
    return at;
}

static void append_matrix(struct walk *w, const emb_matrix *m, int32_t dtype) {
    append(w, m->data, m->dtype, dtype, (size_t)m->rows * (size_t)m->cols);
}

static emb_dptr matrix(struct walk *w, const emb_matrix *m, int32_t dtype) {
    if (m->data == NULL)
        return (emb_dptr){0};
    const emb_dptr at = start(w);
    append_matrix(w, m, dtype);
    return at;
}

static void walk_experts(struct walk *w, emb_device_layer *to, const emb_layer_weights *l,
                         const emb_encoder_config *c, int32_t dtype) {
    to->up = start(w);
    for (int32_t e = w->rank; e < c->experts; e += w->ranks)
        append_matrix(w, &l->expert_up[e].m, dtype);
    to->down = start(w);
    for (int32_t e = w->rank; e < c->experts; e += w->ranks)
        append_matrix(w, &l->expert_down[e].m, dtype);
}

static void walk_layer(struct walk *w, emb_device_layer *to, const emb_layer_weights *l,
                       const emb_encoder_config *c, int32_t dtype) {
    to->qkv = start(w);
    for (int32_t i = 0; i < l->n_qkv; i++)
        append_matrix(w, &l->qkv[i].m, dtype);
    for (int32_t type = EMBED_F32; l->qkv_bias[0] != NULL; type = dtype) {
        const emb_dptr at = start(w);
        if (type == EMBED_F32)
            to->qkv_bias = at;
        for (int32_t i = 0; i < l->n_qkv; i++)
            append(w, l->qkv_bias[i], EMBED_F32, type, (size_t)l->qkv[i].m.rows);
        if (type == dtype)
            break;
    }
    to->out = matrix(w, &l->out.m, dtype);
    to->out_bias = bias(w, l->out_bias, c->hidden, dtype);
    to->norm1_gamma = vector(w, l->norm1_gamma, c->hidden);
    to->norm1_beta = vector(w, l->norm1_beta, c->hidden);
    if (l->moe) {
        to->router = matrix(w, &l->router, EMBED_F32);
        to->router_bias = vector(w, l->router_bias, c->experts);
        to->down_bias = vector(w, l->expert_bias, c->hidden);
    } else {
        to->up = matrix(w, &l->up.m, dtype);
        to->up_bias = bias(w, l->up_bias, c->inner, dtype);
        to->gate = matrix(w, &l->gate.m, dtype);
        to->gate_bias = bias(w, l->gate_bias, c->inner, dtype);
        to->down = matrix(w, &l->down.m, dtype);
        to->down_bias = bias(w, l->down_bias, c->hidden, dtype);
    }
    to->norm2_gamma = vector(w, l->norm2_gamma, c->hidden);
    to->norm2_beta = vector(w, l->norm2_beta, c->hidden);
}

/* All but the matrices of experts. to->layers NULL: only the bytes are wanted. */
static void walk_common(struct walk *w, emb_device_weights *to, const embed_model *m,
                        int32_t dtype) {
    const emb_weights *from = &m->weights;
    const emb_encoder_config *c = &m->config.encoder;
    const int64_t angles = (int64_t)m->config.pipeline.max_tokens * (c->rotary_dim / 2);
    to->word = matrix(w, &from->word, dtype);
    to->position = matrix(w, &from->position, dtype);
    to->type = matrix(w, &from->type, dtype);
    to->norm_gamma = vector(w, from->norm_gamma, c->hidden);
    to->norm_beta = vector(w, from->norm_beta, c->hidden);
    to->cos = vector(w, m->cos, angles);
    to->sin = vector(w, m->sin, angles);
    for (int32_t i = 0; i < c->layers; i++) {
        emb_device_layer unused;
        walk_layer(w, to->layers != NULL ? &to->layers[i] : &unused, &from->layers[i], c, dtype);
    }
    for (int32_t i = 0; i < m->config.pipeline.n_dense; i++) {
        to->dense[i].w = matrix(w, &from->dense[i].w.m, EMBED_F32);
        to->dense[i].bias = vector(w, from->dense[i].bias, m->config.pipeline.dense[i].out);
    }
}

/* Both parts, of which those in `parts` are uploaded if w has an upload. */
static embed_status walk_all(struct walk *w, emb_device_weights *to, const embed_model *m,
                             int32_t dtype, uint32_t parts) {
    emb_upload *upload = w->upload;
    w->upload = parts & EMB_WEIGHTS_COMMON ? upload : NULL;
    walk_common(w, to, m, dtype);
    to->common_bytes = w->at;
    w->upload = parts & EMB_WEIGHTS_EXPERTS ? upload : NULL;
    for (int32_t i = 0; i < m->config.encoder.layers; i++) {
        emb_device_layer unused;
        if (m->weights.layers[i].moe)
            walk_experts(w, to->layers != NULL ? &to->layers[i] : &unused, &m->weights.layers[i],
                         &m->config.encoder, dtype);
    }
    return w->st;
}

embed_status emb_device_weights_bytes(const embed_model *m, int32_t dtype, size_t *bytes) {
    emb_device_weights none = {.layers = NULL};
    struct walk w = {.st = EMBED_OK, .ranks = 1};
    const embed_status st = walk_all(&w, &none, m, dtype, 0);
    *bytes = w.at;
    return st;
}

embed_status emb_device_weights_create(emb_device_weights *to, emb_device *device,
                                       const embed_model *m, int32_t dtype, int32_t rank,
                                       int32_t ranks) {
    embed_status st = EMBED_OK;
    const emb_env *env = emb_device_env(device);
    *to = (emb_device_weights){.dtype = dtype, .rank = rank, .ranks = ranks};
    emb_device_weights none = *to;
    struct walk w = {.rank = rank, .ranks = ranks, .st = EMBED_OK};
    EMB_TRY(walk_all(&w, &none, m, dtype, 0));
    to->bytes = w.at;
    EMB_TRY(emb_new_array(env, (size_t)m->config.encoder.layers, sizeof *to->layers,
                          (void **)&to->layers));
    st = emb_device_alloc(device, to->bytes, &to->base);
    if (st == EMBED_ERR_NOMEM)
        emb_fail_prefix("weights of %s", m->name);
    EMB_TRY(st);
    w = (struct walk){.base = to->base, .rank = rank, .ranks = ranks, .st = EMBED_OK};
    EMB_TRY(walk_all(&w, to, m, dtype, 0));
fail:
    if (st != EMBED_OK)
        emb_device_weights_free(to, device);
    return st;
}

embed_status emb_device_weights_upload(emb_device_weights *to, emb_device *device,
                                       const embed_model *m, uint32_t parts) {
    embed_status st = EMBED_OK;
    const emb_env *env = emb_device_env(device);
    emb_upload upload = {.device = NULL};
    struct walk w = {
        .base = to->base, .upload = &upload, .rank = to->rank, .ranks = to->ranks, .st = EMBED_OK};
    EMB_TRY(emb_alloc(env, PART * sizeof(float), (void **)&w.part));
    EMB_TRY(emb_upload_create(&upload, device, to->bytes < SLOT_BYTES ? to->bytes : SLOT_BYTES));
    EMB_TRY(walk_all(&w, to, m, to->dtype, parts));
    EMB_TRY(emb_upload_finish(&upload));
fail:
    emb_upload_free(&upload);
    emb_free(env, w.part);
    return st;
}

embed_status emb_device_words_upload(emb_dptr *words, emb_device *device, const embed_model *m,
                                     int32_t dtype) {
    embed_status st = EMBED_OK;
    const emb_env *env = emb_device_env(device);
    const emb_matrix *word = &m->weights.word;
    emb_upload upload = {.device = NULL};
    struct walk sum = {.st = EMBED_OK}, w = {.upload = &upload, .st = EMBED_OK};
    *words = (emb_dptr){0};
    (void)matrix(&sum, word, dtype);
    EMB_TRY(sum.st);
    EMB_TRY(emb_alloc(env, PART * sizeof(float), (void **)&w.part));
    EMB_TRY(emb_device_alloc(device, sum.at, &w.base));
    EMB_TRY(emb_upload_create(&upload, device, sum.at < SLOT_BYTES ? sum.at : SLOT_BYTES));
    (void)matrix(&w, word, dtype);
    EMB_TRY(w.st);
    EMB_TRY(emb_upload_finish(&upload));
    *words = w.base;
fail:
    emb_upload_free(&upload);
    emb_free(env, w.part);
    if (st != EMBED_OK)
        emb_device_free(device, w.base);
    return st;
}

void emb_device_weights_free(emb_device_weights *w, emb_device *device) {
    if (w->base.at != 0)
        emb_device_free(device, w->base);
    emb_free(emb_device_env(device), w->layers);
    *w = (emb_device_weights){.layers = NULL};
}
