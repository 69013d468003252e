#include "model/forward.h"

/* Rows lo .. lo + m through the layer. Gated: the up projection is written first, and the gate's
 * product takes it as its factor in place. */
static embed_status run_rows(emb_forward *f, const emb_layer_weights *l, const float *x, float *y,
                             int64_t m) {
    embed_status st = EMBED_OK;
    const emb_encoder_config *c = &f->model->config.encoder;
    const emb_activation act = (emb_activation)c->activation;
    float *inner = emb_forward_at(f, f->plan.at.inner);
    emb_gemm_group up = {
        .w = &l->up,
        .bias = l->up_bias,
        .x = x,
        .y = inner,
        .m = m,
        .ldx = c->hidden,
        .ldy = c->inner,
    };
    EMB_TRY(emb_gemm(&f->exec, &up, 1, c->gated ? EMB_ACT_NONE : act));
    if (c->gated) {
        up.w = &l->gate;
        up.bias = l->gate_bias;
        up.mul = inner;
        up.ldmul = c->inner;
        EMB_TRY(emb_gemm(&f->exec, &up, 1, act));
    }
    const emb_gemm_group down = {
        .w = &l->down,
        .bias = l->down_bias,
        .x = inner,
        .y = y,
        .m = m,
        .ldx = c->inner,
        .ldy = c->hidden,
    };
    EMB_TRY(emb_gemm(&f->exec, &down, 1, EMB_ACT_NONE));
fail:
    return st;
}

/* The batch goes through in equal parts that the inner activations have room for. */
embed_status emb_ffn_dense(emb_forward *f, const emb_batch *b, const emb_layer_weights *l,
                           const float **update) {
    embed_status st = EMBED_OK;
    const int64_t hidden = f->model->config.encoder.hidden;
    const float *x = emb_forward_states(f);
    float *y = emb_forward_at(f, f->plan.at.y);
    const int64_t parts = (b->tokens + f->plan.inner_rows - 1) / f->plan.inner_rows;
    const int64_t rows = (b->tokens + parts - 1) / parts;
    for (int64_t lo = 0; lo < b->tokens; lo += rows) {
        const int64_t m = rows < b->tokens - lo ? rows : b->tokens - lo;
        EMB_TRY(run_rows(f, l, x + lo * hidden, y + lo * hidden, m));
    }
    *update = y;
fail:
    return st;
}
