#include "model/forward.h"

#include <string.h>

#include "kernels/embed_lookup/embed_lookup.h"
#include "kernels/layernorm/layernorm.h"

embed_status emb_forward_lookup(emb_forward *f, const emb_batch *b) {
    const emb_weights *w = &f->model->weights;
    const emb_encoder_config *c = &f->model->config.encoder;
    return emb_embed_lookup(&f->exec,
                            &(emb_embed_lookup_args){
                                .ids = b->ids,
                                .positions = w->position.data != NULL ? b->positions : NULL,
                                .word = w->word,
                                .position = w->position,
                                .type = w->type,
                                .rows = b->rows,
                                .add_rows = b->add_rows,
                                .eps = c->eps,
                                .gamma = w->norm_gamma,
                                .beta = w->norm_beta,
                                .x = emb_forward_states(f),
                                .tokens = b->tokens,
                                .dim = c->hidden,
                            });
}

/* x = LN(x + r) */
static embed_status add_norm(emb_forward *f, const emb_batch *b, const float *r, const float *gamma,
                             const float *beta) {
    float *x = emb_forward_states(f);
    return emb_layernorm(&f->exec, &(emb_layernorm_args){
                                       .x = x,
                                       .r = r,
                                       .gamma = gamma,
                                       .beta = beta,
                                       .y = x,
                                       .tokens = b->tokens,
                                       .dim = f->model->config.encoder.hidden,
                                       .eps = f->model->config.encoder.eps,
                                   });
}

static int32_t moe_layers_before(const emb_encoder_config *c, int32_t layer) {
    int32_t n = 0;
    for (int32_t i = 0; i < layer; i++)
        n += emb_config_is_moe(c, i);
    return n;
}

/* Row i of x becomes that of the last token of text i; in place, since no row moves up. */
static void keep_last(float *x, const emb_batch *b, int64_t dim) {
    for (int64_t i = 0; i < b->texts; i++)
        memmove(x + i * dim, x + (b->offsets[i + 1] - 1) * dim, (size_t)dim * sizeof *x);
}

static embed_status finish_layer(emb_forward *f, const emb_batch *b, int32_t layer,
                                 const float *update) {
    embed_status st = EMBED_OK;
    const emb_layer_weights *l = &f->model->weights.layers[layer];
    EMB_TRY(add_norm(f, b, update, l->norm1_gamma, l->norm1_beta));
    if (l->moe)
        EMB_TRY(emb_ffn_moe(f, b, l, moe_layers_before(&f->model->config.encoder, layer), &update));
    else
        EMB_TRY(emb_ffn_dense(f, b, l, &update));
    EMB_TRY(add_norm(f, b, update, l->norm2_gamma, l->norm2_beta));
fail:
    return st;
}

embed_status emb_forward_layer(emb_forward *f, const emb_batch *b, int32_t layer) {
    embed_status st = EMBED_OK;
    const float *update;
    EMB_TRY(emb_self_attention(f, b, &f->model->weights.layers[layer], &update));
    EMB_TRY(finish_layer(f, b, layer, update));
fail:
    return st;
}

embed_status emb_forward_layer_last(emb_forward *f, const emb_batch *b, int32_t layer) {
    embed_status st = EMBED_OK;
    const int64_t dim = f->model->config.encoder.hidden;
    const float *update;
    emb_batch last = *b;
    EMB_TRY(emb_self_attention(f, b, &f->model->weights.layers[layer], &update));
    keep_last(emb_forward_states(f), b, dim);
    keep_last((float *)(uintptr_t)update, b, dim); /* it lies in our arena */
    last.tokens = b->texts;
    EMB_TRY(finish_layer(f, &last, layer, update));
fail:
    return st;
}

embed_status emb_forward_run(emb_forward *f, const emb_batch *b) {
    embed_status st = EMBED_OK;
    EMB_TRY(emb_forward_lookup(f, b));
    for (int32_t i = 0; i < f->model->config.encoder.layers; i++)
        EMB_TRY(emb_forward_layer(f, b, i));
fail:
    return st;
}
