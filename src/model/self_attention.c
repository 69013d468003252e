#include <math.h>

#include "kernels/attention/attention.h"
#include "model/forward.h"

/* One fused product, or query, key and value side by side into the same rows. */
static embed_status project_qkv(emb_forward *f, const emb_batch *b, const emb_layer_weights *l,
                                const float *x, float *qkv) {
    emb_gemm_group groups[3];
    const int64_t hidden = f->model->config.encoder.hidden;
    for (int32_t i = 0; i < l->n_qkv; i++)
        groups[i] = (emb_gemm_group){
            .w = &l->qkv[i],
            .bias = l->qkv_bias[i],
            .x = x,
            .y = qkv + i * hidden,
            .m = b->tokens,
            .ldx = hidden,
            .ldy = 3 * hidden,
        };
    return emb_gemm(&f->exec, groups, (size_t)l->n_qkv, EMB_ACT_NONE);
}

/* softmax(q k^T / sqrt(head_dim)) v per head, then the output projection. The heads' outputs go to
 * y; queries, keys and values are not needed after that, so the projection takes their place. */
embed_status emb_self_attention(emb_forward *f, const emb_batch *b, const emb_layer_weights *l,
                                const float **update) {
    embed_status st = EMBED_OK;
    const emb_encoder_config *c = &f->model->config.encoder;
    float *qkv = emb_forward_at(f, f->plan.at.work);
    float *heads = emb_forward_at(f, f->plan.at.y);
    EMB_TRY(project_qkv(f, b, l, emb_forward_states(f), qkv));
    EMB_TRY(emb_attention(&f->exec, &(emb_attention_args){
                                        .qkv = qkv,
                                        .out = heads,
                                        .offsets = b->offsets,
                                        .texts = b->texts,
                                        .heads = c->heads,
                                        .head_dim = c->head_dim,
                                        .rotary_dim = c->rotary_dim,
                                        .scale = (float)(1 / sqrt((double)c->head_dim)),
                                        .cos = f->model->cos,
                                        .sin = f->model->sin,
                                    }));
    const emb_gemm_group projection = {
        .w = &l->out,
        .bias = l->out_bias,
        .x = heads,
        .y = qkv,
        .m = b->tokens,
        .ldx = c->hidden,
        .ldy = c->hidden,
    };
    EMB_TRY(emb_gemm(&f->exec, &projection, 1, EMB_ACT_NONE));
    *update = qkv;
fail:
    return st;
}
