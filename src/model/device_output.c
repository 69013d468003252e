#include "model/device_output.h"

#include <string.h>

#include "kernels/quantize/quantize_cuda.h"
#include "model/device_forward.h"
#include "model/output_type.h"

size_t emb_device_output_range_bytes(const embed_model *m) {
    return 2 * (size_t)m->dim * sizeof(float);
}

embed_status emb_device_output_create(emb_device_forward *f) {
    embed_status st = EMBED_OK;
    const size_t bytes = emb_device_output_range_bytes(f->model);
    EMB_TRY(emb_device_host_alloc(f->device, bytes, (void **)&f->ranges));
    EMB_TRY(emb_device_alloc(f->device, bytes, &f->ranges_at));
fail:
    return st;
}

void emb_device_output_free(emb_device_forward *f) {
    emb_device_host_free(f->device, f->ranges);
    emb_device_free(f->device, f->ranges_at);
}

embed_status emb_device_output_begin(emb_device_forward *f, const emb_device_output *o) {
    embed_status st = EMBED_OK;
    f->output = o != NULL ? *o : (emb_device_output){.type = EMBED_F32};
    f->output.ranges = NULL;
    if (o != NULL && (o->type == EMBED_I8 || o->type == EMBED_U8)) {
        const size_t bytes = 2 * (size_t)o->dim * sizeof(float);
        memcpy(f->ranges, o->ranges, bytes);
        EMB_TRY(emb_copy_in(f->main, f->ranges_at, f->ranges, bytes));
    }
fail:
    return st;
}

void emb_device_output_pack(emb_device_set *s, const emb_slot *slot) {
    uint64_t *index = (void *)(s->in + s->at.index);
    for (int64_t i = 0; i < slot->batch.texts; i++)
        index[i] = slot->texts[i].index;
}

/* The region that the last dense module writes, and the floats from vector to vector. */
static emb_device_region vectors(const emb_device_forward *f, int64_t *width) {
    const emb_pipeline_config *p = &f->model->config.pipeline;
    *width = p->n_dense > 0 ? p->dense[p->n_dense - 1].out
                            : (int64_t)f->model->config.encoder.hidden * p->n_pooling;
    return p->n_dense % 2 == 0 ? EMB_AT_VECTORS : EMB_AT_VECTORS2;
}

static embed_status convert(emb_device_forward *f, const emb_device_set *s) {
    const emb_device_output *o = &f->output;
    const int scattered = o->to.at != 0;
    int64_t width;
    const emb_device_region from = vectors(f, &width);
    const emb_cuda_quantize_args args = {
        .x = emb_dptr_raw(emb_arena_at(&f->arena, from)),
        .ranges = emb_dptr_raw(f->ranges_at),
        .out = emb_dptr_raw(scattered ? o->to : s->out_at),
        .index = scattered ? emb_dptr_raw(emb_dptr_add(s->in_at, s->at.index)) : NULL,
        .rows = s->n_texts,
        .dim = s->dim,
        .ldx = width,
        .out_stride = (int64_t)emb_output_row_bytes(o->type, s->dim),
        .output = o->type,
        .normalize = s->pooling.normalize,
    };
    return emb_op_run(f->main, f->ops[EMB_OP_QUANTIZE], &args, sizeof args);
}

embed_status emb_device_output_run(emb_device_forward *f, emb_device_set *s) {
    embed_status st = EMBED_OK;
    if (f->output.after != NULL) {
        EMB_TRY(emb_stream_wait(f->main, f->output.after));
        f->output.after = NULL; /* later batches follow this one */
    }
    EMB_TRY(convert(f, s));
    if (f->output.to.at != 0)
        return emb_event_record(s->back, f->main);
    EMB_TRY(emb_event_record(s->finished, f->main));
    EMB_TRY(emb_stream_wait(f->copy_out, s->finished));
    EMB_TRY(emb_copy_out(f->copy_out, s->out, s->out_at,
                         (size_t)s->n_texts * emb_output_row_bytes(f->output.type, s->dim)));
    EMB_TRY(emb_event_record(s->back, f->copy_out));
fail:
    return st;
}

embed_status emb_device_output_mark(emb_device_forward *f, emb_event *event) {
    return emb_event_record(event, f->main);
}
