#include <math.h>

#include "kernels/attention/attention_cuda.h"
#include "kernels/embed_lookup/embed_lookup_cuda.h"
#include "kernels/layernorm/layernorm_cuda.h"
#include "kernels/moe_combine/moe_combine_cuda.h"
#include "kernels/pool/pool_cuda.h"
#include "kernels/router_topk/router_topk_cuda.h"
#include "model/device_forward.h"

#define RUN(op, args) emb_op_run(f->main, f->ops[op], (args), sizeof *(args))

/* As kernels take addresses. */
static void *ptr(emb_dptr p) {
    return (void *)(uintptr_t)p.at;
}

static void *region(const emb_device_forward *f, emb_device_region i) {
    return ptr(emb_arena_at(&f->arena, i));
}

static void *input(const emb_device_set *set, size_t at) {
    return ptr(emb_dptr_add(set->in_at, at));
}

static embed_status begin(const emb_device_forward *f, emb_device_region i) {
    return emb_arena_begin(&f->arena, f->main, i);
}

/* One of the products that all tokens take part in. */
static embed_status product(emb_device_forward *f, const emb_device_set *set, emb_dense which,
                            const void *x, emb_dptr w, emb_dptr bias, void *y) {
    const emb_dense_args args = {
        .x = x,
        .mul = which == EMB_DENSE_GATE ? y : NULL,
        .y = y,
        .w = w,
        .bias = bias,
        .m = set->tokens,
    };
    return emb_device_products_run(&f->products, f->main, which, &args);
}

embed_status emb_device_layers_lookup(emb_device_forward *f, const emb_device_set *set) {
    embed_status st = EMBED_OK;
    const emb_device_weights *w = f->weights;
    const emb_encoder_config *c = &f->model->config.encoder;
    const emb_cuda_embed_lookup_args args = {
        .ids = input(set, f->plan.at_ids),
        .positions = input(set, f->plan.at_positions),
        .word = ptr(w->word),
        .position = ptr(w->position),
        .type = ptr(w->type),
        .rows = set->has_rows ? input(set, f->plan.at_pointers) : NULL,
        .row_scales = set->has_rows ? input(set, f->plan.at_scales) : NULL,
        .gamma = ptr(w->norm_gamma),
        .beta = ptr(w->norm_beta),
        .y = region(f, EMB_AT_X),
        .tokens = set->tokens,
        .dim = c->hidden,
        .dtype = w->dtype,
        .rows_dtype = set->rows_dtype,
        .add_rows = set->add_rows,
        .eps = c->eps,
    };
    EMB_TRY(begin(f, EMB_AT_X));
    EMB_TRY(RUN(EMB_OP_LOOKUP, &args));
fail:
    return st;
}

/* softmax(q k^T / sqrt(head_dim)) v per head, then the output projection, into EMB_AT_UPDATE. */
static embed_status attention(emb_device_forward *f, const emb_device_set *set,
                              const emb_device_layer *l) {
    embed_status st = EMBED_OK;
    const emb_encoder_config *c = &f->model->config.encoder;
    const emb_cuda_attention_args args = {
        .qkv = region(f, EMB_AT_QKV),
        .out = region(f, EMB_AT_HEADS),
        .offsets = input(set, f->plan.at_offsets),
        .cos = ptr(f->weights->cos),
        .sin = ptr(f->weights->sin),
        .tokens = set->tokens,
        .texts = set->n_texts,
        .heads = c->heads,
        .head_dim = c->head_dim,
        .rotary_dim = c->rotary_dim,
        .dtype = f->weights->dtype,
        .scale = (float)(1 / sqrt((double)c->head_dim)),
    };
    EMB_TRY(begin(f, EMB_AT_QKV));
    EMB_TRY(product(f, set, EMB_DENSE_QKV, region(f, EMB_AT_X), l->qkv, l->qkv_bias,
                    region(f, EMB_AT_QKV)));
    EMB_TRY(begin(f, EMB_AT_HEADS));
    EMB_TRY(RUN(EMB_OP_ATTENTION, &args));
    EMB_TRY(begin(f, EMB_AT_UPDATE));
    EMB_TRY(product(f, set, EMB_DENSE_OUT, region(f, EMB_AT_HEADS), l->out, l->out_bias,
                    region(f, EMB_AT_UPDATE)));
fail:
    return st;
}

/* x = LN(x + r), and the router's logits of x where there is one. */
static embed_status add_norm(emb_device_forward *f, const emb_device_set *set, void *r,
                             emb_dptr gamma, emb_dptr beta, emb_dptr router, emb_dptr bias) {
    const emb_encoder_config *c = &f->model->config.encoder;
    const emb_cuda_layernorm_args args = {
        .x = region(f, EMB_AT_X),
        .r = r,
        .y = region(f, EMB_AT_X),
        .gamma = ptr(gamma),
        .beta = ptr(beta),
        .router = ptr(router),
        .router_bias = ptr(bias),
        .logits = router.at != 0 ? region(f, EMB_AT_LOGITS) : NULL,
        .tokens = set->tokens,
        .dim = c->hidden,
        .dtype = f->weights->dtype,
        .experts = router.at != 0 ? c->experts : 0,
        .eps = c->eps,
    };
    return RUN(EMB_OP_LAYERNORM, &args);
}

/* down(act(up x)), or gated: the up projection is written first, and the gate's product takes it as
 * its factor in place. */
static embed_status dense_layer(emb_device_forward *f, const emb_device_set *set,
                                const emb_device_layer *l) {
    embed_status st = EMBED_OK;
    void *inner = region(f, EMB_AT_INNER);
    EMB_TRY(begin(f, EMB_AT_INNER));
    EMB_TRY(product(f, set, EMB_DENSE_UP, region(f, EMB_AT_X), l->up, l->up_bias, inner));
    if (l->gate.at != 0)
        EMB_TRY(product(f, set, EMB_DENSE_GATE, region(f, EMB_AT_X), l->gate, l->gate_bias, inner));
    EMB_TRY(begin(f, EMB_AT_DOWN));
    EMB_TRY(product(f, set, EMB_DENSE_DOWN, inner, l->down, l->down_bias, region(f, EMB_AT_DOWN)));
    EMB_TRY(add_norm(f, set, region(f, EMB_AT_DOWN), l->norm2_gamma, l->norm2_beta, (emb_dptr){0},
                     (emb_dptr){0}));
fail:
    return st;
}

/* Any other one. */
static embed_status own_product(const emb_device_forward *f, emb_cuda_gemm_args args) {
    return emb_device_products_own(&f->products, f->main, args);
}

static embed_status route(emb_device_forward *f, const emb_device_set *set, int32_t moe_layer) {
    embed_status st = EMBED_OK;
    const emb_encoder_config *c = &f->model->config.encoder;
    const size_t all = (size_t)f->model->moe_layers * (size_t)c->experts,
                 first = (size_t)moe_layer * (size_t)c->experts;
    const emb_cuda_router_topk_args args = {
        .logits = region(f, EMB_AT_LOGITS),
        .gate = region(f, EMB_AT_GATE),
        .expert = region(f, EMB_AT_EXPERT),
        .slot = region(f, EMB_AT_SLOT),
        .rows = region(f, EMB_AT_ROWS),
        .offset = region(f, EMB_AT_OFFSET),
        .expert_tokens = ptr(emb_dptr_add(f->counts, first * sizeof(uint64_t))),
        .gate_sum = ptr(emb_dptr_add(f->counts, all * sizeof(uint64_t) + first * sizeof(double))),
        .scratch = region(f, EMB_AT_SCRATCH),
        .tokens = set->tokens,
        .experts = c->experts,
        .top_k = c->top_k,
        .renormalize = c->renormalize,
    };
    for (int i = EMB_AT_GATE; i <= EMB_AT_SCRATCH; i++)
        EMB_TRY(begin(f, (emb_device_region)i));
    EMB_TRY(RUN(EMB_OP_ROUTER, &args));
fail:
    return st;
}

/* The chosen experts of each token and their weighted sum; their sizes stay on the device. */
static embed_status moe_layer(emb_device_forward *f, const emb_device_set *set,
                              const emb_device_layer *l, int32_t number) {
    embed_status st = EMBED_OK;
    const emb_encoder_config *c = &f->model->config.encoder;
    const int64_t pairs = set->tokens * c->top_k;
    const emb_cuda_moe_combine_args combine = {
        .o = region(f, EMB_AT_EXPERT_OUT),
        .x = region(f, EMB_AT_X),
        .y = region(f, EMB_AT_X),
        .gate = region(f, EMB_AT_GATE),
        .bias = ptr(l->down_bias),
        .gamma = ptr(l->norm2_gamma),
        .beta = ptr(l->norm2_beta),
        .slot = region(f, EMB_AT_SLOT),
        .tokens = set->tokens,
        .dim = c->hidden,
        .dtype = f->weights->dtype,
        .top_k = c->top_k,
        .eps = c->eps,
    };
    EMB_TRY(route(f, set, number));
    EMB_TRY(begin(f, EMB_AT_INNER));
    EMB_TRY(own_product(f, (emb_cuda_gemm_args){.x = region(f, EMB_AT_X),
                                                .x_rows = region(f, EMB_AT_ROWS),
                                                .w = ptr(l->up),
                                                .y = region(f, EMB_AT_INNER),
                                                .offset = region(f, EMB_AT_OFFSET),
                                                .m = pairs,
                                                .n = c->inner,
                                                .k = c->hidden,
                                                .groups = c->experts,
                                                .act = c->expert_activation}));
    EMB_TRY(begin(f, EMB_AT_EXPERT_OUT));
    EMB_TRY(own_product(f, (emb_cuda_gemm_args){.x = region(f, EMB_AT_INNER),
                                                .w = ptr(l->down),
                                                .y = region(f, EMB_AT_EXPERT_OUT),
                                                .offset = region(f, EMB_AT_OFFSET),
                                                .m = pairs,
                                                .n = c->hidden,
                                                .k = c->inner,
                                                .groups = c->experts,
                                                .layout = EMB_CUDA_NN}));
    EMB_TRY(RUN(EMB_OP_COMBINE, &combine));
fail:
    return st;
}

embed_status emb_device_layers_mix(emb_device_forward *f, const emb_device_set *set,
                                   int32_t layer) {
    embed_status st = EMBED_OK;
    const emb_device_layer *l = &f->weights->layers[layer];
    EMB_TRY(attention(f, set, l));
    if (l->router.at != 0)
        EMB_TRY(begin(f, EMB_AT_LOGITS));
    EMB_TRY(add_norm(f, set, region(f, EMB_AT_UPDATE), l->norm1_gamma, l->norm1_beta, l->router,
                     l->router_bias));
fail:
    return st;
}

embed_status emb_device_layers_feed(emb_device_forward *f, const emb_device_set *set, int32_t layer,
                                    int32_t moe) {
    const emb_device_layer *l = &f->weights->layers[layer];
    return l->router.at != 0 ? moe_layer(f, set, l, moe) : dense_layer(f, set, l);
}

embed_status emb_device_layers_run(emb_device_forward *f, const emb_device_set *set) {
    embed_status st = EMBED_OK;
    int32_t moe = 0;
    EMB_TRY(emb_device_layers_lookup(f, set));
    for (int32_t i = 0; i < f->model->config.encoder.layers; i++) {
        EMB_TRY(emb_device_layers_mix(f, set, i));
        EMB_TRY(emb_device_layers_feed(f, set, i, moe));
        moe += f->weights->layers[i].router.at != 0;
    }
fail:
    return st;
}

/* The modes side by side, in the order of the checkpoint. Texts of which nothing is left to pool
 * are zeros. */
static embed_status pool(emb_device_forward *f, const emb_device_set *set, int64_t width) {
    embed_status st = EMBED_OK;
    const emb_pipeline_config *p = &f->model->config.pipeline;
    const int64_t hidden = f->model->config.encoder.hidden;
    float *out = region(f, EMB_AT_VECTORS);
    EMB_TRY(begin(f, EMB_AT_VECTORS));
    EMB_TRY(emb_set_device(f->main, emb_arena_at(&f->arena, EMB_AT_VECTORS), 0,
                           (size_t)(set->n_texts * width) * sizeof *out));
    for (int32_t i = 0; i < p->n_pooling; i++) {
        const emb_cuda_pool_args args = {
            .x = region(f, EMB_AT_X),
            .offsets = input(set, f->plan.at_offsets),
            .skip = set->with_skip ? input(set, f->plan.at_skip) : NULL,
            .out = out + i * hidden,
            .texts = set->n_texts,
            .dim = hidden,
            .ldo = width,
            .modes = p->pooling_order[i],
            .dtype = f->weights->dtype,
        };
        EMB_TRY(RUN(EMB_OP_POOL, &args));
    }
fail:
    return st;
}

embed_status emb_device_layers_pool(emb_device_forward *f, const emb_device_set *set) {
    embed_status st = EMBED_OK;
    const emb_pipeline_config *p = &f->model->config.pipeline;
    emb_device_region now = EMB_AT_VECTORS, next = EMB_AT_VECTORS2;
    int64_t width = (int64_t)f->model->config.encoder.hidden * p->n_pooling;
    EMB_TRY(pool(f, set, width));
    for (int32_t i = 0; i < p->n_dense; i++) {
        EMB_TRY(begin(f, next));
        EMB_TRY(own_product(f, (emb_cuda_gemm_args){.x = region(f, now),
                                                    .w = ptr(f->weights->dense[i].w),
                                                    .bias = ptr(f->weights->dense[i].bias),
                                                    .y = region(f, next),
                                                    .m = set->n_texts,
                                                    .n = p->dense[i].out,
                                                    .k = width,
                                                    .dtype = EMBED_F32,
                                                    .act = p->dense[i].activation}));
        const emb_device_region swap = now;
        now = next;
        next = swap;
        width = p->dense[i].out;
    }
fail:
    return st;
}
