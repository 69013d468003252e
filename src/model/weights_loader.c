#include "model/weights_loader.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/dtype.h"

static const char word_name[] = "embeddings.word_embeddings.weight";

/* Length of the prefix if `name` is that of word embeddings, -1 if not. */
static int64_t prefix_of(const char *name) {
    const size_t n = strlen(name), m = sizeof word_name - 1;
    if (n < m || strcmp(name + n - m, word_name) != 0 || (n > m && name[n - m - 1] != '.'))
        return -1;
    return (int64_t)(n - m);
}

/* The one tensor whose name ends as word embeddings' do tells the prefix. */
static embed_status find_prefix(const emb_tensor_files *set, const char **name, size_t *len) {
    *name = NULL;
    for (size_t i = 0; i < set->n; i++)
        for (size_t k = 0; k < set->files[i].n; k++) {
            const char *candidate = set->files[i].tensors[k].name;
            const int64_t prefix = prefix_of(candidate);
            if (prefix < 0)
                continue;
            if (*name != NULL)
                return emb_fail(EMBED_ERR_UNSUPPORTED,
                                "%s: expected one encoder, found two: %s and %s",
                                set->files[i].map.path, *name, candidate);
            *name = candidate;
            *len = (size_t)prefix;
        }
    if (*name == NULL)
        return emb_fail(EMBED_ERR_MISMATCH,
                        "%s: expected a tensor %s, with or without a prefix, "
                        "found none",
                        set->files[0].map.path, word_name);
    return EMBED_OK;
}

embed_status emb_loader_init(emb_loader *l, const emb_env *env, emb_weights *weights,
                             emb_tensor_files *set, int has_prefix) {
    const char *prefix = "";
    embed_status st = EMBED_OK;
    void *name;
    size_t room;
    *l = (emb_loader){env, weights, set, NULL, 0, "", 0, 1};
    if (has_prefix)
        st = find_prefix(set, &prefix, &l->prefix_len);
    if (st == EMBED_OK)
        st = emb_add(l->prefix_len, EMB_TENSOR_NAME, "tensor name", &room);
    if (st == EMBED_OK)
        st = emb_alloc(env, room, &name);
    if (st != EMBED_OK)
        return st;
    l->name = name;
    memcpy(l->name, prefix, l->prefix_len);
    return EMBED_OK;
}

void emb_loader_clear(emb_loader *l) {
    emb_free(l->env, l->name);
    l->name = NULL;
}

static const emb_tensor *find(const emb_loader *l, const char *name, const emb_safetensors **file) {
    (void)snprintf(l->name + l->prefix_len, EMB_TENSOR_NAME, "%s", name);
    return emb_tensor_files_find(l->set, l->name, file);
}

/* LayerNorm.gamma and LayerNorm.beta, as the first BERT releases in PyTorch called them. */
static const emb_tensor *find_old_norm(const emb_loader *l, const char *name,
                                       const emb_safetensors **file) {
    static const char *const ends[][2] = {{"LayerNorm.weight", "LayerNorm.gamma"},
                                          {"LayerNorm.bias", "LayerNorm.beta"}};
    char old[EMB_TENSOR_NAME];
    const size_t n = strlen(name);
    for (int i = 0; i < 2; i++) {
        const size_t m = strlen(ends[i][0]);
        if (n < m || strcmp(name + n - m, ends[i][0]) != 0)
            continue;
        (void)snprintf(old, sizeof old, "%.*s%s", (int)(n - m), name, ends[i][1]);
        return find(l, old, file);
    }
    return NULL;
}

/* rank 1 or 2. */
static embed_status take(emb_loader *l, const char *name, int32_t rank, int64_t rows, int64_t cols,
                         const char *keys, const emb_tensor **out) {
    struct emb_weights_files *store = l->weights->files;
    const emb_safetensors *file = NULL;
    char expected[64], found[EMB_SHAPE_SHOWN];
    void *taken = store->taken;
    const char *least = rows < 0 ? ">=" : "";
    const int64_t want = rows < 0 ? -rows : rows;
    if (rank == 1)
        (void)snprintf(expected, sizeof expected, "[%" PRId64 "]", want);
    else
        (void)snprintf(expected, sizeof expected, "[%s%" PRId64 ",%" PRId64 "]", least, want, cols);
    const emb_tensor *t = find(l, name, &file);
    if (t == NULL)
        t = find_old_norm(l, name, &file);
    if (t == NULL) {
        (void)find(l, name, &file); /* the full name again */
        return emb_fail(EMBED_ERR_MISMATCH, "%s: %s: expected %s (%s), found nothing",
                        l->set->files[0].map.path, l->name, expected, keys);
    }
    if (t->rank != rank || (rows < 0 ? t->shape[0] < want : t->shape[0] != want) ||
        (rank == 2 && t->shape[1] != cols))
        return emb_fail(EMBED_ERR_MISMATCH, "%s: %s: expected %s (%s), found %s", file->map.path,
                        t->name, expected, keys, emb_tensor_show_shape(t, found));
    if (t->dtype == 0)
        return emb_fail(EMBED_ERR_UNSUPPORTED, "%s: %s: expected F32, F16 or BF16, found %s",
                        file->map.path, t->name, t->dtype_name);
    const embed_status st =
        emb_grow(l->env, &taken, &store->cap_taken, store->n_taken + 1, sizeof *store->taken);
    store->taken = taken;
    if (st != EMBED_OK)
        return st;
    emb_taken *entry = &store->taken[store->n_taken++];
    (void)snprintf(entry->name, sizeof entry->name, "%s%s", l->folder, name);
    entry->tensor = t;
    file->tensors[t - file->tensors].used = 1;
    const int64_t elements = t->shape[0] * (rank == 2 ? cols : 1);
    l->weights->mapped_bytes += t->bytes;
    l->weights->params_total += elements;
    l->weights->params_active += elements / l->experts * (l->experts - l->idle_experts);
    if (t->bytes > store->largest && l->folder[0] == '\0') {
        store->largest = t->bytes;
        l->weights->dtype = t->dtype;
    }
    *out = t;
    return EMBED_OK;
}

embed_status emb_loader_matrix(emb_loader *l, const char *name, int64_t rows, int64_t cols,
                               const char *keys, emb_matrix *out) {
    const emb_tensor *t;
    const embed_status st = take(l, name, 2, rows, cols, keys, &t);
    if (st == EMBED_OK)
        *out = (emb_matrix){t->data, t->shape[0], t->shape[1], t->dtype, 0};
    return st;
}

static void widen(float *to, const emb_tensor *t) {
    for (int64_t i = 0; i < t->shape[0]; i++) {
        uint16_t half;
        if (t->dtype == EMBED_F32) {
            memcpy(&to[i], t->data + 4 * i, 4);
        } else {
            memcpy(&half, t->data + 2 * i, 2);
            to[i] = t->dtype == EMBED_F16 ? emb_f16_to_f32(half) : emb_bf16_to_f32(half);
        }
    }
}

embed_status emb_loader_vector(emb_loader *l, const char *name, int64_t size, const char *keys,
                               const float **out) {
    struct emb_weights_files *store = l->weights->files;
    void *list = store->owned, *copy;
    const emb_tensor *t;
    embed_status st;
    *out = NULL;
    EMB_TRY(take(l, name, 1, size, 0, keys, &t));
    if (t->dtype == EMBED_F32 && (uintptr_t)t->data % sizeof(float) == 0) {
        *out = (const float *)(const void *)t->data;
        return EMBED_OK;
    }
    st = emb_grow(l->env, &list, &store->cap_owned, store->n_owned + 1, sizeof *store->owned);
    store->owned = list;
    if (st != EMBED_OK)
        return st;
    EMB_TRY(emb_new_array(l->env, (size_t)size, sizeof(float), &copy));
    store->owned[store->n_owned++] = copy;
    l->weights->owned_bytes += (uint64_t)size * sizeof(float);
    widen(copy, t);
    *out = copy;
fail:
    return st;
}

/* Buffers that some releases saved along with the weights. */
static int is_buffer(const emb_tensor *t) {
    static const char *const ends[] = {"position_ids", "token_type_ids", "inv_freq", "norm_factor"};
    const char *dot = strrchr(t->name, '.');
    for (size_t i = 0; dot != NULL && i < sizeof ends / sizeof *ends; i++)
        if (strcmp(dot + 1, ends[i]) == 0)
            return 1;
    return 0;
}

/* The number of the layer that the tensor belongs to, -1 if to the embeddings, -2 if to neither. */
static int64_t place_of(const emb_loader *l, const emb_tensor *t) {
    static const char *const layers[] = {"encoder.layers.", "encoder.layer."};
    if (strncmp(t->name, l->name, l->prefix_len) != 0)
        return -2;
    const char *name = t->name + l->prefix_len;
    if (strncmp(name, "embeddings.", 11) == 0)
        return -1;
    for (int i = 0; i < 2; i++) {
        const size_t n = strlen(layers[i]);
        if (strncmp(name, layers[i], n) == 0 && name[n] >= '0' && name[n] <= '9')
            return strtol(name + n, NULL, 10);
    }
    return -2;
}

embed_status emb_loader_check_rest(const emb_loader *l, const emb_encoder_config *config) {
    char shape[EMB_SHAPE_SHOWN];
    int64_t deepest = -1;
    for (size_t i = 0; i < l->set->n; i++)
        for (size_t k = 0; k < l->set->files[i].n; k++) {
            const emb_tensor *t = &l->set->files[i].tensors[k];
            const int64_t place = place_of(l, t);
            if (place == -2 || t->used || is_buffer(t))
                continue;
            if (place < config->layers)
                return emb_fail(EMBED_ERR_MISMATCH,
                                "%s: %s: expected no such tensor in the encoder that config.json "
                                "describes, found %s",
                                l->set->files[i].map.path, t->name,
                                emb_tensor_show_shape(t, shape));
            deepest = place > deepest ? place : deepest;
        }
    if (deepest >= 0)
        emb_log(l->env, EMBED_LOG_WARN,
                "%s: layers %d to %" PRId64 " are not used: config.json has %d layers",
                l->set->files[0].map.path, config->layers, deepest, config->layers);
    return EMBED_OK;
}
