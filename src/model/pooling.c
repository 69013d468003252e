#include "model/pooling.h"

#include "kernels/pool/pool.h"

/* The modes side by side, in the order of the checkpoint. */
static embed_status pool_batch(emb_forward *f, const emb_batch *b, int32_t skip, float *out,
                               int64_t stride) {
    embed_status st = EMBED_OK;
    const emb_pipeline_config *p = &f->model->config.pipeline;
    const int64_t hidden = f->model->config.encoder.hidden;
    int32_t *skips = emb_forward_at(f, f->plan.at.skip);
    for (int64_t i = 0; i < b->texts; i++)
        skips[i] = skip;
    for (int32_t i = 0; i < p->n_pooling; i++)
        EMB_TRY(emb_pool_texts(&f->exec, &(emb_pool_args){
                                             .x = emb_forward_states(f),
                                             .offsets = b->offsets,
                                             .skip = skip > 0 ? skips : NULL,
                                             .out = out + i * hidden,
                                             .texts = b->texts,
                                             .dim = hidden,
                                             .ldo = stride,
                                             .modes = p->pooling_order[i],
                                         }));
fail:
    return st;
}

embed_status emb_pooling_run(emb_forward *f, const emb_batch *b, const emb_pooling_options *o,
                             const float **vectors, int64_t *stride) {
    embed_status st = EMBED_OK;
    const emb_pipeline_config *p = &f->model->config.pipeline;
    float *now = emb_forward_at(f, f->plan.at.vectors[0]);
    float *next = emb_forward_at(f, f->plan.at.vectors[1]);
    int64_t width = (int64_t)f->model->config.encoder.hidden * p->n_pooling;
    EMB_TRY(pool_batch(f, b, o->skip, now, width));
    for (int32_t i = 0; i < p->n_dense; i++) {
        const emb_gemm_group dense = {
            .w = &f->model->weights.dense[i].w,
            .bias = f->model->weights.dense[i].bias,
            .x = now,
            .y = next,
            .m = b->texts,
            .ldx = width,
            .ldy = p->dense[i].out,
        };
        EMB_TRY(emb_gemm(&f->exec, &dense, 1, (emb_activation)p->dense[i].activation));
        float *const swap = now;
        now = next;
        next = swap;
        width = p->dense[i].out;
    }
    if (o->normalize)
        emb_l2_normalize(now, b->texts, o->dim, width);
    *vectors = now;
    *stride = width;
fail:
    return st;
}
