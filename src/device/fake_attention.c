/* Attention by a library: the definition in backend.h, in double. As cuDNN may not be, it is
 * refused in a capture. */
#include <math.h>
#include <string.h>

#include "base/dtype.h"
#include "device/fake_impl.h"

#define WORKSPACE_BYTES 512

static double load(const unsigned char *p, int64_t i, int32_t dtype) {
    uint16_t h;
    memcpy(&h, p + 2 * i, sizeof h);
    return (double)(dtype == EMBED_F16 ? emb_f16_to_f32(h) : emb_bf16_to_f32(h));
}

static void store(unsigned char *p, int64_t i, int32_t dtype, double v) {
    const uint16_t h = dtype == EMBED_F16 ? emb_f32_to_f16((float)v) : emb_f32_to_bf16((float)v);
    memcpy(p + 2 * i, &h, sizeof h);
}

/* One query of one head: q, k, v and o count elements; keys are 3 rows apart. */
static void attend(const emb_attention_spec *s, const unsigned char *qkv, int64_t q, int64_t k,
                   int64_t v, int32_t keys, unsigned char *out, int64_t o) {
    const int64_t stride = 3 * (int64_t)s->heads * s->head_dim;
    double sum = 0, most = -INFINITY;
    for (int pass = 0; pass < 2; pass++)
        for (int32_t j = 0; j < keys; j++) {
            double dot = 0;
            for (int32_t d = 0; d < s->head_dim; d++)
                dot += load(qkv, q + d, s->dtype) * load(qkv, k + j * stride + d, s->dtype);
            dot *= (double)s->scale;
            if (pass == 0)
                most = fmax(most, dot);
            else
                sum += exp(dot - most);
        }
    for (int32_t d = 0; d < s->head_dim; d++) {
        double y = 0;
        for (int32_t j = 0; j < keys; j++) {
            double dot = 0;
            for (int32_t e = 0; e < s->head_dim; e++)
                dot += load(qkv, q + e, s->dtype) * load(qkv, k + j * stride + e, s->dtype);
            y += exp(dot * (double)s->scale - most) / sum * load(qkv, v + j * stride + d, s->dtype);
        }
        store(out, o + d, s->dtype, y);
    }
}

void emb_fake_attention_run(emb_be_device *d, const fake_op *op) {
    const emb_attention_spec *s = &op->attention;
    const emb_attention_args *a = &op->attention_args;
    const int64_t row = (int64_t)s->heads * s->head_dim;
    const size_t column = ((size_t)s->texts + 1) * sizeof(int32_t);
    const char *what = "attention";
    const int32_t *lengths =
        (const void *)emb_fake_memory_range(d, a->lengths.at, column - sizeof(int32_t), 0, what);
    const int32_t *from =
        (const void *)emb_fake_memory_range(d, a->qkv_offsets.at, column, 0, what);
    const int32_t *to = (const void *)emb_fake_memory_range(d, a->out_offsets.at, column, 0, what);
    unsigned char *work = emb_fake_memory_range(d, a->workspace.at, WORKSPACE_BYTES, 1, what);
    if (d->lost != 0)
        return;
    emb_fake_memory_poison(work, WORKSPACE_BYTES);
    const unsigned char *qkv =
        emb_fake_memory_range(d, a->qkv.at, (size_t)from[s->texts] * 2, 0, what);
    unsigned char *out = emb_fake_memory_range(d, a->out.at, (size_t)to[s->texts] * 2, 1, what);
    for (int64_t b = 0; b < s->texts && d->lost == 0; b++) {
        if (lengths[b] < 0 || lengths[b] > s->longest ||
            from[b] + lengths[b] * 3 * row > from[s->texts]) {
            emb_fake_raise(d, "attention: text %d of %d tokens is longer than planned", (int)b,
                           lengths[b]);
            return;
        }
        for (int64_t i = 0; i < lengths[b] * s->heads; i++) {
            const int64_t token = i / s->heads, head = i % s->heads * s->head_dim;
            attend(s, qkv, from[b] + token * 3 * row + head, from[b] + row + head,
                   from[b] + 2 * row + head, lengths[b], out, to[b] + token * row + head);
        }
    }
}

static int attention_create(emb_be_device *d, const emb_attention_spec *spec,
                            emb_be_attention **out, emb_attention_facts *facts,
                            emb_device_error *err) {
    *out = NULL;
    int code = emb_fake_enter(d->fake, d, EMB_FAKE_GEMM, err);
    if (code == 0 && d->fake->params.no_attention != NULL)
        code = emb_fake_error(err, EMB_DEVICE_UNAVAILABLE, "%s", d->fake->params.no_attention);
    if (code == 0 && emb_new(&d->env, sizeof **out, (void **)out) != EMBED_OK)
        code = emb_fake_error(err, EMB_DEVICE_NO_HOST, "no host memory for attention");
    if (code == 0) {
        **out = (emb_be_attention){d, *spec};
        *facts = (emb_attention_facts){WORKSPACE_BYTES, "query by query"};
        d->fake->live++;
    }
    return emb_fake_leave(d->fake, code);
}

static void attention_free(emb_be_attention *a) {
    emb_fake *f = a->device->fake;
    const emb_env env = a->device->env;
    (void)pthread_mutex_lock(&f->lock);
    f->live--;
    emb_free(&env, a);
    (void)emb_fake_leave(f, 0);
}

static int attention_run(emb_be_attention *a, emb_be_stream *s, const emb_attention_args *args,
                         emb_device_error *err) {
    int code = emb_fake_enter(s->fake, s->device, EMB_FAKE_GEMM, err);
    if (code == 0 && s->capture != NULL) {
        emb_fake_capture_break(s->device, "attention by a library ran during the capture");
        code = emb_fake_error(err, EMB_DEVICE_FAILED, "attention may not run during a capture");
    }
    if (code == 0) {
        fake_op *op = emb_fake_op_new(s->device, FAKE_ATTENTION, 0, err);
        if (op != NULL) {
            op->attention = a->spec;
            op->attention_args = *args;
        }
        code = emb_fake_enqueue(s, op, err);
    }
    return emb_fake_leave(s->fake, code);
}

void emb_fake_fill_attention(emb_backend *t) {
    t->attention_create = attention_create;
    t->attention_free = attention_free;
    t->attention_run = attention_run;
}
