#include "ngram/ngram_projection.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/dtype.h"
#include "io/file.h"
#include "io/json_write.h"
#include "io/safetensors.h"

embed_status emb_ngram_split_name(const emb_env *env, const char *spec, char **file, char **name) {
    const char *colon = strrchr(spec, ':');
    embed_status st = EMBED_OK;
    int whole;
    *file = *name = NULL;
    EMB_TRY(emb_file_exists(spec, &whole));
    const size_t n = whole || colon == NULL ? strlen(spec) : (size_t)(colon - spec);
    EMB_TRY(emb_strdup(env, spec, n, file));
    if (n < strlen(spec))
        EMB_TRY(emb_strdup(env, colon + 1, strlen(colon + 1), name));
    return EMBED_OK;
fail:
    emb_free(env, *file);
    *file = NULL;
    return st;
}

static embed_status find(const emb_safetensors *s, const char *path, const char *name,
                         const emb_tensor **out) {
    *out = NULL;
    if (name != NULL)
        *out = emb_safetensors_find(s, name);
    else if (s->n == 1)
        *out = &s->tensors[0];
    if (*out == NULL)
        return emb_fail(EMBED_ERR_FORMAT,
                        "%s: expected a tensor %s, found %zu others; write %s:NAME", path,
                        name != NULL ? name : "alone in its file", s->n, path);
    return EMBED_OK;
}

/* 8 bytes of length, the header, the numbers. */
static embed_status make_file(emb_ngram_projection *p, const emb_env *env, const emb_tensor *t) {
    embed_status st = EMBED_OK;
    emb_json_writer *w = NULL;
    char *text = NULL;
    size_t len, numbers, bytes;
    EMB_TRY(emb_mul((size_t)p->hidden, (size_t)p->width, "projection", &numbers));
    EMB_TRY(emb_mul(numbers, sizeof(float), "projection", &bytes));
    EMB_TRY(emb_json_writer_create(&w, env));
    emb_json_node *object = emb_json_add_object(w, emb_json_writer_root(w), p->name);
    emb_json_add_string(w, object, "dtype", "F32");
    emb_json_node *shape = emb_json_add_array(w, object, "shape");
    emb_json_append_int(w, shape, p->hidden);
    emb_json_append_int(w, shape, p->width);
    emb_json_node *offsets = emb_json_add_array(w, object, "data_offsets");
    emb_json_append_int(w, offsets, 0);
    emb_json_append_int(w, offsets, (int64_t)bytes);
    EMB_TRY(emb_json_writer_text(w, &text, &len));
    const uint64_t head = emb_round_up(len, 8);
    EMB_TRY(emb_alloc(env, 8 + (size_t)head + bytes, (void **)&p->file));
    p->bytes = 8 + (size_t)head + bytes;
    memcpy(p->file, &head, 8);
    memset(p->file + 8, ' ', (size_t)head);
    memcpy(p->file + 8, text, len);
    for (size_t i = 0; i < numbers; i++) {
        float v;
        uint16_t h;
        if (t->dtype == EMBED_F32)
            memcpy(&v, t->data + 4 * i, 4);
        else {
            memcpy(&h, t->data + 2 * i, 2);
            v = t->dtype == EMBED_F16 ? emb_f16_to_f32(h) : emb_bf16_to_f32(h);
        }
        if (!isfinite(v)) {
            st = emb_fail(EMBED_ERR_FORMAT, "projection %s: [%zu, %zu] is %g", p->name,
                          i / (size_t)p->width, i % (size_t)p->width, (double)v);
            goto fail;
        }
        memcpy(p->file + 8 + head + 4 * i, &v, 4);
    }
fail:
    emb_json_writer_free(w);
    emb_free(env, text);
    return st;
}

embed_status emb_ngram_projection_read(emb_ngram_projection *p, const emb_env *env,
                                       const char *spec, int32_t hidden) {
    embed_status st = EMBED_OK;
    emb_safetensors s = {0};
    const emb_tensor *t;
    char *path = NULL, *name = NULL, shape[EMB_SHAPE_SHOWN];
    *p = (emb_ngram_projection){0};
    EMB_TRY(emb_ngram_split_name(env, spec, &path, &name));
    EMB_TRY(emb_safetensors_open(&s, env, path));
    EMB_TRY(find(&s, path, name, &t));
    if (t->rank != 2 || t->dtype == 0 || t->shape[0] != hidden || t->shape[1] < 1 ||
        t->shape[1] > 1 << 16) {
        st = emb_fail(EMBED_ERR_MISMATCH,
                      "%s: %s: expected a matrix [%d, row width] of F32, F16 or BF16, found %s %s",
                      path, t->name, hidden, t->dtype_name, emb_tensor_show_shape(t, shape));
        goto fail;
    }
    p->hidden = hidden;
    p->width = (int32_t)t->shape[1];
    EMB_TRY(emb_strdup(env, t->name, strlen(t->name), &p->name));
    EMB_TRY(make_file(p, env, t));
fail:
    emb_safetensors_close(&s, env);
    emb_free(env, path);
    emb_free(env, name);
    if (st != EMBED_OK)
        emb_ngram_projection_clear(p, env);
    return st;
}

void emb_ngram_projection_clear(emb_ngram_projection *p, const emb_env *env) {
    emb_free(env, p->name);
    emb_free(env, p->file);
    *p = (emb_ngram_projection){0};
}
