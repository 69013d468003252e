#include "kernels/embed_lookup/embed_lookup_cuda.h"
#include "kernels/layernorm/layernorm_cuda.h"
#include "kernels/moe_combine/moe_combine_cuda.h"
#include "kernels/pool/pool_cuda.h"
#include "kernels/router_topk/router_topk_cuda.h"
#include "model/device_forward.h"

#define RUN(op, args) emb_op_run(f->main, f->ops[op], (args), sizeof *(args))

static void *region(const emb_device_forward *f, emb_device_region i) {
    return emb_dptr_raw(emb_arena_at(&f->arena, i));
}

static void *input(const emb_device_set *set, size_t at) {
    return emb_dptr_raw(emb_dptr_add(set->in_at, at));
}

static embed_status begin(const emb_device_forward *f, emb_device_region i) {
    return emb_arena_begin(&f->arena, f->main, i);
}

/* The rows that a part of the pass works on: those of all tokens or, behind the last attention, of
 * the pooled ones. */
struct span {
    emb_device_region x;  /* their hidden states */
    int64_t rows;         /* that launches are made for */
    const int32_t *count; /* on the device: how many there are; NULL: all */
};

static const int32_t *header(const emb_device_set *set, size_t word) {
    return set->counted ? input(set, set->at.header + word * sizeof(int32_t)) : NULL;
}

static struct span all_tokens(const emb_device_set *set) {
    return (struct span){EMB_AT_X, set->at.tokens, header(set, EMB_HEADER_TOKENS)};
}

static struct span all_texts(const emb_device_set *set, emb_device_region x) {
    return (struct span){x, set->at.texts, header(set, EMB_HEADER_TEXTS)};
}

/* One layer's product of each kind with its buffers. */
static void examples(const emb_device_forward *f, emb_dense_args args[EMB_DENSES]) {
    const emb_device_layer *layers = f->weights->layers, *dense = layers;
    void *x = region(f, EMB_AT_X), *inner = region(f, EMB_AT_INNER);
    while (dense->router.at != 0 && dense < layers + f->model->config.encoder.layers - 1)
        dense++;
    args[EMB_DENSE_QKV] = (emb_dense_args){
        .x = x, .y = region(f, EMB_AT_QKV), .w = layers->qkv, .bias = layers->qkv_bias};
    args[EMB_DENSE_OUT] = (emb_dense_args){.x = region(f, EMB_AT_HEADS),
                                           .y = region(f, EMB_AT_UPDATE),
                                           .w = layers->out,
                                           .bias = layers->out_bias};
    args[EMB_DENSE_UP] =
        (emb_dense_args){.x = x, .y = inner, .w = dense->up, .bias = dense->up_bias};
    args[EMB_DENSE_GATE] = (emb_dense_args){
        .x = x, .mul = inner, .y = inner, .w = dense->gate, .bias = dense->gate_bias};
    args[EMB_DENSE_DOWN] = (emb_dense_args){
        .x = inner, .y = region(f, EMB_AT_DOWN), .w = dense->down, .bias = dense->down_bias};
}

embed_status emb_device_layers_fill(const emb_device_forward *f) {
    embed_status st = EMBED_OK;
    const size_t guard = emb_round_up(emb_device_guard_bytes(f->device), EMB_DEVICE_ALIGN);
    const emb_dptr at = emb_dptr_add(f->arena.base, guard);
    const size_t bytes = f->arena.bytes - 2 * guard;
    EMB_TRY(emb_region_begin(f->main, at, bytes, "buffers of a trial"));
    EMB_TRY(emb_set_device(f->main, at, 0x3c, bytes)); /* f32 and bf16 0.01, f16 1.06 */
fail:
    return st;
}

embed_status emb_device_layers_prepare(emb_device_forward *f, int64_t tokens) {
    embed_status st = EMBED_OK;
    emb_dense_args args[EMB_DENSES];
    if (emb_device_products_ready(&f->products, tokens, f->plan.tokens))
        return EMBED_OK;
    examples(f, args);
    EMB_TRY(emb_device_layers_fill(f));
    EMB_TRY(emb_device_products_prepare(&f->products, f->main, args, tokens));
fail:
    return st;
}

/* One of the products with a choice of ways, of the span's rows. */
static embed_status product(emb_device_forward *f, const struct span *s, emb_dense which,
                            const void *x, emb_dptr w, emb_dptr bias, void *y) {
    const emb_dense_args args = {
        .x = x,
        .mul = which == EMB_DENSE_GATE ? y : NULL,
        .y = y,
        .w = w,
        .bias = bias,
        .count = s->count,
        .m = s->rows,
        .own = s->x == EMB_AT_LAST,
    };
    return emb_device_products_run(&f->products, f->main, which, &args);
}

/* Any other one. */
static embed_status own_product(const emb_device_forward *f, emb_cuda_gemm_args args) {
    return emb_device_products_own(&f->products, f->main, args);
}

embed_status emb_device_layers_lookup(emb_device_forward *f, const emb_device_set *set) {
    embed_status st = EMBED_OK;
    const emb_device_weights *w = f->weights;
    const emb_encoder_config *c = &f->model->config.encoder;
    const emb_cuda_embed_lookup_args args = {
        .ids = input(set, set->at.ids),
        .positions = input(set, set->at.positions),
        .word = emb_dptr_raw(w->word),
        .position = emb_dptr_raw(w->position),
        .type = emb_dptr_raw(w->type),
        .rows = set->has_rows ? input(set, set->at.pointers) : NULL,
        .row_scales = set->has_rows ? input(set, set->at.scales) : NULL,
        .gamma = emb_dptr_raw(w->norm_gamma),
        .beta = emb_dptr_raw(w->norm_beta),
        .y = region(f, EMB_AT_X),
        .count = header(set, EMB_HEADER_TOKENS),
        .tokens = set->at.tokens,
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

/* softmax(q k^T / sqrt(head_dim)) v per head, into EMB_AT_HEADS. */
static embed_status attention(emb_device_forward *f, const emb_device_set *set,
                              const emb_device_layer *l) {
    embed_status st = EMBED_OK;
    const struct span all = all_tokens(set);
    EMB_TRY(begin(f, EMB_AT_QKV));
    EMB_TRY(product(f, &all, EMB_DENSE_QKV, region(f, EMB_AT_X), l->qkv, l->qkv_bias,
                    region(f, EMB_AT_QKV)));
    EMB_TRY(begin(f, EMB_AT_HEADS));
    EMB_TRY(emb_device_attention_run(f, set));
fail:
    return st;
}

/* The output projection of the span's rows into EMB_AT_UPDATE; where rows is given, of rows[i] for
 * each i. */
static embed_status project(emb_device_forward *f, const struct span *s, const int32_t *rows,
                            const emb_device_layer *l) {
    embed_status st = EMBED_OK;
    const emb_encoder_config *c = &f->model->config.encoder;
    void *heads = region(f, EMB_AT_HEADS), *update = region(f, EMB_AT_UPDATE);
    EMB_TRY(begin(f, EMB_AT_UPDATE));
    if (rows == NULL)
        return product(f, s, EMB_DENSE_OUT, heads, l->out, l->out_bias, update);
    EMB_TRY(own_product(f, (emb_cuda_gemm_args){.x = heads,
                                                .x_rows = rows,
                                                .w = emb_dptr_raw(l->out),
                                                .bias = emb_dptr_raw(l->out_bias),
                                                .y = update,
                                                .count = s->count,
                                                .m = s->rows,
                                                .n = c->hidden,
                                                .k = c->hidden}));
fail:
    return st;
}

/* Of the span's rows; the caller sets what is read, and the norm and router if there are any. */
static embed_status norm(emb_device_forward *f, const struct span *s, emb_cuda_layernorm_args a) {
    embed_status st = EMBED_OK;
    const emb_encoder_config *c = &f->model->config.encoder;
    a.y = region(f, s->x);
    a.count = s->count;
    a.tokens = s->rows;
    a.dim = c->hidden;
    a.dtype = f->weights->dtype;
    a.eps = c->eps;
    if (a.router != NULL) {
        a.experts = c->experts;
        a.logits = region(f, EMB_AT_LOGITS);
        EMB_TRY(begin(f, EMB_AT_LOGITS));
    }
    EMB_TRY(RUN(EMB_OP_LAYERNORM, &a));
fail:
    return st;
}

/* That of all tokens behind attention. */
static emb_cuda_layernorm_args first_norm(const emb_device_forward *f, const emb_device_layer *l) {
    return (emb_cuda_layernorm_args){.x = region(f, EMB_AT_X),
                                     .r = region(f, EMB_AT_UPDATE),
                                     .gamma = emb_dptr_raw(l->norm1_gamma),
                                     .beta = emb_dptr_raw(l->norm1_beta),
                                     .router = emb_dptr_raw(l->router),
                                     .router_bias = emb_dptr_raw(l->router_bias)};
}

/* down(act(up x)), or gated: the up projection is written first, and the gate's product takes it as
 * its factor in place. Then x = LN(x + that). */
static embed_status dense_layer(emb_device_forward *f, const struct span *s,
                                const emb_device_layer *l) {
    embed_status st = EMBED_OK;
    void *inner = region(f, EMB_AT_INNER), *x = region(f, s->x), *down = region(f, EMB_AT_DOWN);
    EMB_TRY(begin(f, EMB_AT_INNER));
    EMB_TRY(product(f, s, EMB_DENSE_UP, x, l->up, l->up_bias, inner));
    if (l->gate.at != 0)
        EMB_TRY(product(f, s, EMB_DENSE_GATE, x, l->gate, l->gate_bias, inner));
    EMB_TRY(begin(f, EMB_AT_DOWN));
    EMB_TRY(product(f, s, EMB_DENSE_DOWN, inner, l->down, l->down_bias, down));
    EMB_TRY(norm(f, s,
                 (emb_cuda_layernorm_args){.x = x,
                                           .r = down,
                                           .gamma = emb_dptr_raw(l->norm2_gamma),
                                           .beta = emb_dptr_raw(l->norm2_beta)}));
fail:
    return st;
}

/* From the logits of the span's rows; number: of the MoE layer whose statistics they add to, or -1.
 */
static embed_status route(emb_device_forward *f, const struct span *s, int32_t number) {
    embed_status st = EMBED_OK;
    const emb_encoder_config *c = &f->model->config.encoder;
    const size_t all = (size_t)f->model->moe_layers * (size_t)c->experts;
    emb_cuda_router_topk_args args = {
        .logits = region(f, EMB_AT_LOGITS),
        .gate = region(f, EMB_AT_GATE),
        .expert = region(f, EMB_AT_EXPERT),
        .slot = region(f, EMB_AT_SLOT),
        .rows = region(f, EMB_AT_ROWS),
        .offset = region(f, EMB_AT_OFFSET),
        .scratch = region(f, EMB_AT_SCRATCH),
        .count = s->count,
        .tokens = s->rows,
        .experts = c->experts,
        .top_k = c->top_k,
        .renormalize = c->renormalize,
    };
    if (number >= 0) {
        const size_t first = (size_t)number * (size_t)c->experts;
        args.expert_tokens = emb_dptr_raw(emb_dptr_add(f->counts, first * sizeof(uint64_t)));
        args.gate_sum =
            emb_dptr_raw(emb_dptr_add(f->counts, all * sizeof(uint64_t) + first * sizeof(double)));
    }
    for (int i = EMB_AT_GATE; i <= EMB_AT_SCRATCH; i++)
        EMB_TRY(begin(f, (emb_device_region)i));
    EMB_TRY(RUN(EMB_OP_ROUTER, &args));
fail:
    return st;
}

/* x = LN(x + the weighted sum of the experts' outputs at o, those of a row at its slots). */
static embed_status combine(emb_device_forward *f, const struct span *s, const emb_device_layer *l,
                            const void *o, const int32_t *slot) {
    const emb_encoder_config *c = &f->model->config.encoder;
    const emb_cuda_moe_combine_args args = {
        .o = o,
        .x = region(f, s->x),
        .y = region(f, s->x),
        .gate = region(f, EMB_AT_GATE),
        .bias = emb_dptr_raw(l->down_bias),
        .gamma = emb_dptr_raw(l->norm2_gamma),
        .beta = emb_dptr_raw(l->norm2_beta),
        .slot = slot,
        .count = s->count,
        .tokens = s->rows,
        .dim = c->hidden,
        .dtype = f->weights->dtype,
        .top_k = c->top_k,
        .eps = c->eps,
    };
    return RUN(EMB_OP_COMBINE, &args);
}

/* The chosen experts of each row and their weighted sum; their sizes stay on the device. Then x =
 * LN(x + that). */
static embed_status moe_layer(emb_device_forward *f, const struct span *s,
                              const emb_device_layer *l) {
    embed_status st = EMBED_OK;
    const emb_encoder_config *c = &f->model->config.encoder;
    const int64_t pairs = s->rows * c->top_k;
    EMB_TRY(begin(f, EMB_AT_INNER));
    EMB_TRY(own_product(f, (emb_cuda_gemm_args){.x = region(f, s->x),
                                                .x_rows = region(f, EMB_AT_ROWS),
                                                .w = emb_dptr_raw(l->up),
                                                .y = region(f, EMB_AT_INNER),
                                                .offset = region(f, EMB_AT_OFFSET),
                                                .m = pairs,
                                                .n = c->inner,
                                                .k = c->hidden,
                                                .groups = c->experts,
                                                .act = c->expert_activation}));
    EMB_TRY(begin(f, EMB_AT_EXPERT_OUT));
    EMB_TRY(own_product(f, (emb_cuda_gemm_args){.x = region(f, EMB_AT_INNER),
                                                .w = emb_dptr_raw(l->down),
                                                .y = region(f, EMB_AT_EXPERT_OUT),
                                                .offset = region(f, EMB_AT_OFFSET),
                                                .m = pairs,
                                                .n = c->hidden,
                                                .k = c->inner,
                                                .groups = c->experts,
                                                .layout = EMB_CUDA_NN}));
    EMB_TRY(combine(f, s, l, region(f, EMB_AT_EXPERT_OUT), region(f, EMB_AT_SLOT)));
fail:
    return st;
}

embed_status emb_device_layers_mix(emb_device_forward *f, const emb_device_set *set,
                                   int32_t layer) {
    embed_status st = EMBED_OK;
    const emb_device_layer *l = &f->weights->layers[layer];
    const struct span s = all_tokens(set);
    EMB_TRY(attention(f, set, l));
    EMB_TRY(project(f, &s, NULL, l));
    EMB_TRY(norm(f, &s, first_norm(f, l)));
fail:
    return st;
}

embed_status emb_device_layers_route(emb_device_forward *f, const emb_device_set *set,
                                     int32_t moe) {
    const struct span s = all_tokens(set);
    return route(f, &s, moe);
}

embed_status emb_device_layers_combine(emb_device_forward *f, const emb_device_set *set,
                                       int32_t layer, const void *o, const int32_t *slot) {
    const struct span s = all_tokens(set);
    return combine(f, &s, &f->weights->layers[layer], o, slot);
}

embed_status emb_device_layers_feed(emb_device_forward *f, const emb_device_set *set, int32_t layer,
                                    int32_t moe) {
    embed_status st = EMBED_OK;
    const emb_device_layer *l = &f->weights->layers[layer];
    const struct span s = all_tokens(set);
    if (l->router.at == 0)
        return dense_layer(f, &s, l);
    EMB_TRY(route(f, &s, moe));
    EMB_TRY(moe_layer(f, &s, l));
fail:
    return st;
}

/* The last layer where one token of each text is pooled: everything behind attention for that one,
 * into EMB_AT_LAST, with the bits it has in whole_layer. Experts are counted for all tokens, so
 * that in a MoE layer the router sees all before the pooled ones are taken out. */
static embed_status last_layer(emb_device_forward *f, const emb_device_set *set,
                               const emb_device_layer *l, int32_t moe) {
    embed_status st = EMBED_OK;
    const struct span all = all_tokens(set), s = all_texts(set, EMB_AT_LAST);
    const int32_t *const pooled = input(set, set->at.last);
    emb_cuda_layernorm_args first = first_norm(f, l);
    EMB_TRY(attention(f, set, l));
    if (l->router.at == 0) {
        first.x_rows = pooled;
        EMB_TRY(project(f, &s, pooled, l));
        EMB_TRY(begin(f, s.x));
        EMB_TRY(norm(f, &s, first));
        return dense_layer(f, &s, l);
    }
    EMB_TRY(project(f, &all, NULL, l));
    EMB_TRY(norm(f, &all, first));
    EMB_TRY(route(f, &all, moe));
    EMB_TRY(begin(f, s.x));
    EMB_TRY(norm(f, &s,
                 (emb_cuda_layernorm_args){.x = first.x,
                                           .x_rows = pooled,
                                           .router = first.router,
                                           .router_bias = first.router_bias}));
    EMB_TRY(route(f, &s, -1));
    EMB_TRY(moe_layer(f, &s, l));
fail:
    return st;
}

/* The first n layers, all tokens. *moe: how many of them are of experts. */
static embed_status layers(emb_device_forward *f, const emb_device_set *set, int32_t n,
                           int32_t *moe) {
    embed_status st = EMBED_OK;
    *moe = 0;
    EMB_TRY(emb_device_layers_lookup(f, set));
    for (int32_t i = 0; i < n; i++) {
        EMB_TRY(emb_device_layers_mix(f, set, i));
        EMB_TRY(emb_device_layers_feed(f, set, i, *moe));
        *moe += f->weights->layers[i].router.at != 0;
    }
fail:
    return st;
}

embed_status emb_device_layers_run(emb_device_forward *f, const emb_device_set *set) {
    int32_t moe;
    return layers(f, set, f->model->config.encoder.layers, &moe);
}

/* The modes side by side, in the order of the checkpoint. Texts of which nothing is left to pool
 * are zeros. */
static embed_status pool(emb_device_forward *f, const emb_device_set *set, emb_device_region x) {
    embed_status st = EMBED_OK;
    const emb_pipeline_config *p = &f->model->config.pipeline;
    const int64_t hidden = f->model->config.encoder.hidden, width = hidden * p->n_pooling;
    float *out = region(f, EMB_AT_VECTORS);
    EMB_TRY(begin(f, EMB_AT_VECTORS));
    EMB_TRY(emb_set_device(f->main, emb_arena_at(&f->arena, EMB_AT_VECTORS), 0,
                           (size_t)(set->at.texts * width) * sizeof *out));
    for (int32_t i = 0; i < p->n_pooling; i++) {
        const emb_cuda_pool_args args = {
            .x = region(f, x),
            .offsets = input(set, set->at.offsets),
            .skip = set->with_skip ? input(set, set->at.skip) : NULL,
            .out = out + i * hidden,
            .count = header(set, EMB_HEADER_TEXTS),
            .texts = set->at.texts,
            .dim = hidden,
            .ldo = width,
            .modes = p->pooling_order[i],
            .dtype = f->weights->dtype,
            .gathered = x == EMB_AT_LAST,
        };
        EMB_TRY(RUN(EMB_OP_POOL, &args));
    }
fail:
    return st;
}

static emb_device_region vectors_of(int32_t modules) {
    return modules % 2 == 0 ? EMB_AT_VECTORS : EMB_AT_VECTORS2;
}

/* The dense modules behind the pooling, from one region to the other. */
static embed_status modules(emb_device_forward *f, const emb_device_set *set) {
    embed_status st = EMBED_OK;
    const emb_pipeline_config *p = &f->model->config.pipeline;
    int64_t width = (int64_t)f->model->config.encoder.hidden * p->n_pooling;
    for (int32_t i = 0; i < p->n_dense; i++) {
        EMB_TRY(begin(f, vectors_of(i + 1)));
        EMB_TRY(own_product(f, (emb_cuda_gemm_args){.x = region(f, vectors_of(i)),
                                                    .w = emb_dptr_raw(f->weights->dense[i].w),
                                                    .bias = emb_dptr_raw(f->weights->dense[i].bias),
                                                    .y = region(f, vectors_of(i + 1)),
                                                    .count = header(set, EMB_HEADER_TEXTS),
                                                    .m = set->at.texts,
                                                    .n = p->dense[i].out,
                                                    .k = width,
                                                    .dtype = EMBED_F32,
                                                    .act = p->dense[i].activation}));
        width = p->dense[i].out;
    }
fail:
    return st;
}

embed_status emb_device_layers_pool(emb_device_forward *f, const emb_device_set *set) {
    embed_status st = EMBED_OK;
    EMB_TRY(pool(f, set, EMB_AT_X));
    EMB_TRY(modules(f, set));
fail:
    return st;
}

embed_status emb_device_layers_end(emb_device_forward *f, const emb_device_set *set, int32_t moe) {
    embed_status st = EMBED_OK;
    const int32_t last = f->model->config.encoder.layers - 1;
    EMB_TRY(last_layer(f, set, &f->weights->layers[last], moe));
    EMB_TRY(pool(f, set, EMB_AT_LAST));
    EMB_TRY(modules(f, set));
fail:
    return st;
}

embed_status emb_device_layers_embed(emb_device_forward *f, const emb_device_set *set) {
    embed_status st = EMBED_OK;
    const int32_t last = f->model->config.encoder.layers - 1;
    int32_t moe;
    if (!emb_device_plan_one_token(f->model) || last < 0) {
        EMB_TRY(emb_device_layers_run(f, set));
        return emb_device_layers_pool(f, set);
    }
    EMB_TRY(layers(f, set, last, &moe));
    EMB_TRY(emb_device_layers_end(f, set, moe));
fail:
    return st;
}
