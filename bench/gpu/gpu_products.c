/* Matrix products: ours beside the library's, a MoE layer beside a dense MLP of the same active
 * flops, and attention. */
#include "gpu/gpu_bench.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/activation/activation_cuda.h"
#include "kernels/attention/attention_cuda.h"
#include "kernels/gemm/gemm_cuda.h"
#include "kernels/layernorm/layernorm_cuda.h"
#include "kernels/moe_combine/moe_combine_cuda.h"
#include "kernels/rotary/rotary_cuda.h"
#include "kernels/router_topk/router_topk_cuda.h"

enum { ELT = 2 };

/* Asked for on another architecture, gemm_sm90 would refuse. */
static int has_op(gpu_bench *b, const char *name) {
    const emb_be_op *op;
    if (strcmp(name, "gemm_sm90") == 0 && (b->kind != EMBED_DEVICE_CUDA || b->capability != 90))
        return 0;
    return emb_op_find(b->device, name, &op) == EMBED_OK;
}

/* ----------------------------------------------------------------------------------- products */

struct library {
    emb_gemm_plan *plan;
    emb_gemm_args args;
};

static embed_status run_library(gpu_bench *b, void *arg) {
    const struct library *l = arg;
    return emb_gemm_plan_run(l->plan, b->stream, &l->args);
}

/* All that runs y = x w^T at this shape, in turns. */
static embed_status one_shape(gpu_bench *b, const char *what, int64_t m, int64_t n, int64_t k) {
    static const char *const ours[] = {"gemm_mma", "gemm_sm90"};
    const emb_gemm_spec spec = {.m = m,
                                .n = n,
                                .k = k,
                                .dtype = EMBED_BF16,
                                .y_dtype = EMBED_BF16,
                                .workspace_bytes = (uint64_t)32 << 20};
    struct library library = {NULL, {{0}, {0}, {0}, {0}, {0}, {0}}};
    const double flops = 2 * (double)m * (double)n * (double)k;
    gpu_op ops[2];
    gpu_work works[3];
    const char *names[3];
    gpu_times t[3];
    size_t count = 0;
    char shape[64];
    embed_status st = EMBED_OK;
    EMB_TRY(gpu_normals(b, (size_t)(m * k), 1, EMBED_BF16, &library.args.x));
    EMB_TRY(gpu_normals(b, (size_t)(n * k), 1, EMBED_BF16, &library.args.w));
    EMB_TRY(gpu_array(b, (size_t)(m * n) * ELT, &library.args.y));
    EMB_TRY(gpu_array(b, (size_t)spec.workspace_bytes, &library.args.workspace));
    const emb_cuda_gemm_args a = {.x = emb_dptr_raw(library.args.x),
                                  .w = emb_dptr_raw(library.args.w),
                                  .y = emb_dptr_raw(library.args.y),
                                  .m = m,
                                  .n = n,
                                  .k = k,
                                  .ldx = k,
                                  .ldy = n,
                                  .dtype = EMBED_BF16};
    st = emb_gemm_plan_create(&library.plan, b->device, &spec);
    if (st == EMBED_OK) {
        names[count] = "library";
        works[count++] = (gpu_work){run_library, &library, 0};
    } else if (st != EMBED_ERR_UNSUPPORTED) {
        goto fail;
    }
    for (size_t i = 0; i < 2; i++)
        if (has_op(b, ours[i])) {
            ops[i] = (gpu_op){ours[i], &a, sizeof a};
            names[count] = ours[i];
            works[count++] = (gpu_work){gpu_run_op, &ops[i], 0};
        }
    EMB_TRY(gpu_time(b, works, count, t));
    (void)snprintf(shape, sizeof shape, "%lldx%lldx%lld", (long long)m, (long long)n, (long long)k);
    for (size_t i = 0; i < count; i++) {
        char label[64];
        (void)snprintf(label, sizeof label, "%s: %s", what, names[i]);
        gpu_row row = {
            .what = label,
            .shape = shape,
            .dtype = "bf16",
            .seconds = gpu_median(&t[i]),
            .bytes = ELT * ((double)m * (double)k + (double)n * (double)k + (double)m * (double)n),
            .flops = flops};
        if (i > 0 && library.plan != NULL) {
            row.against = "library";
            row.ratio = gpu_ratio(&t[i], &t[0], &row.least, &row.most);
        }
        gpu_tell(b, &row);
        if (flops / row.seconds > b->peak && library.plan == NULL) {
            b->peak = flops / row.seconds; /* no library: the best of ours */
            (void)snprintf(b->peak_by, sizeof b->peak_by, "%s %s", names[i], shape);
        }
    }
fail:
    gpu_free_arrays(b);
    emb_gemm_plan_free(library.plan);
    return st;
}

embed_status gpu_section_products(gpu_bench *b) {
    static const struct {
        const char *what;
        int64_t n, k;
    } products[] = {{"qkv", 2304, 768}, {"out", 768, 768}, {"up", 3072, 768}, {"down", 768, 3072}};
    static const int64_t tokens[] = {16, 1024, 16384, 65536};
    embed_status st = EMBED_OK;
    if (b->quick)
        return one_shape(b, "qkv", 16, 48, 32);
    for (size_t i = 0; i < sizeof products / sizeof products[0]; i++)
        for (size_t t = 0; t < sizeof tokens / sizeof tokens[0]; t++)
            EMB_TRY(one_shape(b, products[i].what, tokens[t], products[i].n, products[i].k));
fail:
    return st;
}

/* ---------------------------------------------------------------------------------------- MoE */

typedef struct layer {
    int64_t tokens, dim, inner;
    int32_t experts, top_k;
    const char *gemm; /* the operation that multiplies */
    emb_dptr x, y, inner_rows, out, logits, gate, expert, slot, rows, offset, scratch, up, down,
        dense_up, dense_down, gamma, dense_bias;
    emb_gemm_plan *plan_up, *plan_down; /* dense, by the library; NULL: none */
    emb_dptr workspace;
} layer;

static embed_status multiply(gpu_bench *b, const layer *l, emb_cuda_gemm_args a) {
    gpu_op op = {l->gemm, &a, sizeof a};
    a.dtype = EMBED_BF16;
    return gpu_run_op(b, &op);
}

static embed_status run_moe(gpu_bench *b, void *arg) {
    const layer *l = arg;
    const int64_t pairs = l->tokens * l->top_k;
    const emb_cuda_router_topk_args route = {.logits = emb_dptr_raw(l->logits),
                                             .gate = emb_dptr_raw(l->gate),
                                             .expert = emb_dptr_raw(l->expert),
                                             .slot = emb_dptr_raw(l->slot),
                                             .rows = emb_dptr_raw(l->rows),
                                             .offset = emb_dptr_raw(l->offset),
                                             .scratch = emb_dptr_raw(l->scratch),
                                             .tokens = l->tokens,
                                             .experts = l->experts,
                                             .top_k = l->top_k};
    const emb_cuda_moe_combine_args combine = {.o = emb_dptr_raw(l->out),
                                               .x = emb_dptr_raw(l->x),
                                               .y = emb_dptr_raw(l->y),
                                               .gate = emb_dptr_raw(l->gate),
                                               .gamma = emb_dptr_raw(l->gamma),
                                               .slot = emb_dptr_raw(l->slot),
                                               .tokens = l->tokens,
                                               .dim = l->dim,
                                               .dtype = EMBED_BF16,
                                               .top_k = l->top_k,
                                               .eps = 1e-5f};
    gpu_op first = {"router_topk", &route, sizeof route},
           last = {"moe_combine", &combine, sizeof combine};
    embed_status st = EMBED_OK;
    EMB_TRY(gpu_run_op(b, &first));
    EMB_TRY(multiply(b, l,
                     (emb_cuda_gemm_args){.x = emb_dptr_raw(l->x),
                                          .x_rows = emb_dptr_raw(l->rows),
                                          .w = emb_dptr_raw(l->up),
                                          .y = emb_dptr_raw(l->inner_rows),
                                          .offset = emb_dptr_raw(l->offset),
                                          .m = pairs,
                                          .n = l->inner,
                                          .k = l->dim,
                                          .ldx = l->dim,
                                          .ldy = l->inner,
                                          .groups = l->experts,
                                          .layout = EMB_CUDA_NT,
                                          .act = EMB_CUDA_ACT_GELU}));
    EMB_TRY(multiply(b, l,
                     (emb_cuda_gemm_args){.x = emb_dptr_raw(l->inner_rows),
                                          .w = emb_dptr_raw(l->down),
                                          .y = emb_dptr_raw(l->out),
                                          .offset = emb_dptr_raw(l->offset),
                                          .m = pairs,
                                          .n = l->dim,
                                          .k = l->inner,
                                          .ldx = l->inner,
                                          .ldy = l->dim,
                                          .groups = l->experts,
                                          .layout = EMB_CUDA_NN}));
    EMB_TRY(gpu_run_op(b, &last));
fail:
    return st;
}

static embed_status finish_dense(gpu_bench *b, const layer *l) {
    const emb_cuda_layernorm_args norm = {.x = emb_dptr_raw(l->x),
                                          .r = emb_dptr_raw(l->out),
                                          .y = emb_dptr_raw(l->y),
                                          .gamma = emb_dptr_raw(l->gamma),
                                          .tokens = l->tokens,
                                          .dim = l->dim,
                                          .dtype = EMBED_BF16,
                                          .eps = 1e-5f};
    gpu_op op = {"layernorm", &norm, sizeof norm};
    return gpu_run_op(b, &op);
}

/* The same flops without a choice: one expert, top_k times as wide, that all tokens take. */
static embed_status run_dense(gpu_bench *b, void *arg) {
    const layer *l = arg;
    const int64_t wide = l->inner * l->top_k;
    embed_status st = EMBED_OK;
    EMB_TRY(multiply(b, l,
                     (emb_cuda_gemm_args){.x = emb_dptr_raw(l->x),
                                          .w = emb_dptr_raw(l->dense_up),
                                          .y = emb_dptr_raw(l->inner_rows),
                                          .m = l->tokens,
                                          .n = wide,
                                          .k = l->dim,
                                          .ldx = l->dim,
                                          .ldy = wide,
                                          .act = EMB_CUDA_ACT_GELU}));
    EMB_TRY(multiply(b, l,
                     (emb_cuda_gemm_args){.x = emb_dptr_raw(l->inner_rows),
                                          .w = emb_dptr_raw(l->dense_down),
                                          .y = emb_dptr_raw(l->out),
                                          .m = l->tokens,
                                          .n = l->dim,
                                          .k = wide,
                                          .ldx = wide,
                                          .ldy = l->dim}));
    EMB_TRY(finish_dense(b, l));
fail:
    return st;
}

/* The library has no exact GELU: a pass of its own. */
static embed_status run_dense_library(gpu_bench *b, void *arg) {
    const layer *l = arg;
    const emb_cuda_activation_args gelu = {.x = emb_dptr_raw(l->inner_rows),
                                           .bias = emb_dptr_raw(l->dense_bias),
                                           .y = emb_dptr_raw(l->inner_rows),
                                           .tokens = l->tokens,
                                           .dim = l->inner * l->top_k,
                                           .dtype = EMBED_BF16,
                                           .act = EMB_CUDA_ACT_GELU};
    const emb_gemm_args
        up = {.x = l->x, .w = l->dense_up, .y = l->inner_rows, .workspace = l->workspace},
        down = {.x = l->inner_rows, .w = l->dense_down, .y = l->out, .workspace = l->workspace};
    gpu_op op = {"activation", &gelu, sizeof gelu};
    embed_status st = EMBED_OK;
    EMB_TRY(emb_gemm_plan_run(l->plan_up, b->stream, &up));
    EMB_TRY(gpu_run_op(b, &op));
    EMB_TRY(emb_gemm_plan_run(l->plan_down, b->stream, &down));
    EMB_TRY(finish_dense(b, l));
fail:
    return st;
}

static embed_status make_layer(gpu_bench *b, layer *l) {
    const size_t t = (size_t)l->tokens, d = (size_t)l->dim, i = (size_t)l->inner,
                 e = (size_t)l->experts, k = (size_t)l->top_k;
    emb_gemm_spec spec = {.m = l->tokens,
                          .n = (int64_t)(i * k),
                          .k = l->dim,
                          .dtype = EMBED_BF16,
                          .y_dtype = EMBED_BF16,
                          .workspace_bytes = (uint64_t)32 << 20};
    embed_status st = EMBED_OK;
    EMB_TRY(gpu_normals(b, t * d, 1, EMBED_BF16, &l->x));
    EMB_TRY(gpu_array(b, t * d * ELT, &l->y));
    EMB_TRY(gpu_array(b, t * k * i * ELT, &l->inner_rows));
    EMB_TRY(gpu_array(b, t * k * d * ELT, &l->out));
    EMB_TRY(gpu_normals(b, t * e, 1, EMBED_F32, &l->logits));
    EMB_TRY(gpu_array(b, t * k * 4, &l->gate));
    EMB_TRY(gpu_array(b, t * k * 4, &l->expert));
    EMB_TRY(gpu_array(b, t * k * 4, &l->slot));
    EMB_TRY(gpu_array(b, t * k * 4, &l->rows));
    EMB_TRY(gpu_array(b, (e + 1) * 4, &l->offset));
    EMB_TRY(gpu_array(b, emb_cuda_router_topk_scratch_bytes(l->tokens, l->experts), &l->scratch));
    EMB_TRY(gpu_normals(b, e * i * d, 0.04, EMBED_BF16, &l->up));
    EMB_TRY(gpu_normals(b, e * i * d, 0.04, EMBED_BF16, &l->down));
    EMB_TRY(gpu_normals(b, k * i * d, 0.04, EMBED_BF16, &l->dense_up));
    EMB_TRY(gpu_normals(b, k * i * d, 0.04, EMBED_BF16, &l->dense_down));
    EMB_TRY(gpu_normals(b, d, 1, EMBED_F32, &l->gamma));
    EMB_TRY(gpu_normals(b, k * i, 1, EMBED_F32, &l->dense_bias));
    EMB_TRY(gpu_array(b, (size_t)spec.workspace_bytes, &l->workspace));
    st = emb_gemm_plan_create(&l->plan_up, b->device, &spec);
    if (st == EMBED_OK) {
        spec.n = l->dim;
        spec.k = (int64_t)(i * k);
        EMB_TRY(emb_gemm_plan_create(&l->plan_down, b->device, &spec));
    } else if (st == EMBED_ERR_UNSUPPORTED) {
        st = EMBED_OK;
    }
fail:
    return st;
}

/* The best MoE layer of ours against the best dense MLP, ours or the library's. */
embed_status gpu_section_moe(gpu_bench *b) {
    static const char *const ours[] = {"gemm_mma", "gemm_sm90"};
    layer l[2] = {{.tokens = 16384, .dim = 768, .inner = 3072, .experts = 8, .top_k = 2}};
    gpu_work works[5];
    const char *names[5];
    gpu_times t[5];
    size_t n = 0, moe = 0, dense = 0;
    embed_status st = EMBED_OK;
    if (b->quick)
        l[0] = (layer){.tokens = 24, .dim = 32, .inner = 48, .experts = 4, .top_k = 2};
    EMB_TRY(make_layer(b, &l[0]));
    l[1] = l[0];
    for (size_t i = 0; i < 2; i++)
        if (has_op(b, ours[i])) {
            l[i].gemm = ours[i];
            names[n] = i == 0 ? "MoE layer, gemm_mma" : "MoE layer, gemm_sm90";
            works[n++] = (gpu_work){run_moe, &l[i], 0};
            names[n] = i == 0 ? "dense MLP, gemm_mma" : "dense MLP, gemm_sm90";
            works[n++] = (gpu_work){run_dense, &l[i], 0};
        }
    if (l[0].plan_down != NULL) {
        names[n] = "dense MLP, library";
        works[n++] = (gpu_work){run_dense_library, &l[0], 0};
    }
    EMB_TRY(gpu_time(b, works, n, t));
    dense = 1;
    for (size_t i = 0; i < n; i++)
        if (works[i].run == run_moe)
            moe = gpu_median(&t[i]) < gpu_median(&t[moe]) ? i : moe;
        else
            dense = gpu_median(&t[i]) < gpu_median(&t[dense]) ? i : dense;
    const double flops =
        4 * (double)l[0].tokens * (double)l[0].dim * (double)l[0].inner * (double)l[0].top_k;
    char shape[64];
    (void)snprintf(shape, sizeof shape, "%lldx%lldx%lld", (long long)l[0].tokens,
                   (long long)l[0].dim, (long long)l[0].inner);
    for (size_t i = 0; i < n; i++) {
        gpu_row row = {.what = names[i],
                       .shape = shape,
                       .dtype = "bf16",
                       .seconds = gpu_median(&t[i]),
                       .flops = flops};
        if (i == moe) {
            row.against = names[dense];
            row.ratio = gpu_ratio(&t[moe], &t[dense], &row.least, &row.most);
            row.measure = "x dense";
            row.value = row.ratio;
            row.goal = 1.15;
            row.at_most = 1;
        }
        gpu_tell(b, &row);
    }
fail:
    gpu_free_arrays(b);
    emb_gemm_plan_free(l[0].plan_up);
    emb_gemm_plan_free(l[0].plan_down);
    return st;
}

/* ---------------------------------------------------------------------------------- attention */

/* What cuDNN takes for the same: a pass over q and k for rotary positions, then its own. */
struct dnn {
    emb_attention_plan *plan;
    emb_cuda_rotary_args rotary;
    emb_attention_args args;
};

static embed_status run_dnn(gpu_bench *b, void *arg) {
    const struct dnn *d = arg;
    gpu_op rotary = {"rotary", &d->rotary, sizeof d->rotary};
    const embed_status st = gpu_run_op(b, &rotary);
    return st != EMBED_OK ? st : emb_attention_plan_run(d->plan, b->stream, &d->args);
}

/* NULL in d->plan, and a line that says why, where there is none. */
static embed_status make_dnn(gpu_bench *b, struct dnn *d, const emb_cuda_attention_args *a,
                             int64_t length) {
    embed_status st = EMBED_OK;
    const size_t texts = (size_t)a->texts, tokens = (size_t)a->tokens;
    const emb_attention_spec spec = {.texts = a->texts,
                                     .longest = length,
                                     .heads = a->heads,
                                     .head_dim = a->head_dim,
                                     .dtype = a->dtype,
                                     .scale = a->scale,
                                     .workspace_bytes = (uint64_t)32 << 20};
    emb_dptr positions;
    int32_t *host = malloc(tokens * sizeof *host);
    if (host == NULL)
        return emb_fail(EMBED_ERR_NOMEM, "positions");
    for (size_t i = 0; i < tokens; i++)
        host[i] = (int32_t)(i % (size_t)length);
    EMB_TRY(gpu_array(b, tokens * 4, &positions));
    EMB_TRY(gpu_put(b, positions, host, tokens * 4));
    EMB_TRY(gpu_array(b, texts * 4, &d->args.lengths));
    EMB_TRY(gpu_array(b, (texts + 1) * 4, &d->args.qkv_offsets));
    EMB_TRY(gpu_array(b, (texts + 1) * 4, &d->args.out_offsets));
    EMB_TRY(gpu_array(b, (size_t)spec.workspace_bytes, &d->args.workspace));
    d->args.qkv = (emb_dptr){(uintptr_t)a->qkv};
    d->args.out = (emb_dptr){(uintptr_t)a->out};
    d->rotary = (emb_cuda_rotary_args){.qkv = emb_dptr_raw(d->args.qkv),
                                       .positions = emb_dptr_raw(positions),
                                       .cos = a->cos,
                                       .sin = a->sin,
                                       .offsets = a->offsets,
                                       .lengths = emb_dptr_raw(d->args.lengths),
                                       .qkv_offsets = emb_dptr_raw(d->args.qkv_offsets),
                                       .out_offsets = emb_dptr_raw(d->args.out_offsets),
                                       .tokens = a->tokens,
                                       .texts = a->texts,
                                       .room = a->texts,
                                       .heads = a->heads,
                                       .head_dim = a->head_dim,
                                       .rotary_dim = a->rotary_dim,
                                       .dtype = a->dtype};
    st = emb_attention_plan_create(&d->plan, b->device, &spec);
    if (st == EMBED_ERR_UNSUPPORTED) {
        printf("attention by cuDNN: %s\n", emb_fail_message());
        st = EMBED_OK;
    }
fail:
    free(host);
    return st;
}

static embed_status one_length(gpu_bench *b, int64_t texts, int64_t length, int32_t heads,
                               int32_t head_dim) {
    static const char *const names[] = {"attention", "rotary, attention by cuDNN"};
    struct dnn dnn = {.plan = NULL};
    const int64_t tokens = texts * length, dim = (int64_t)heads * head_dim;
    int32_t *host = calloc((size_t)texts + 1, sizeof *host);
    emb_dptr qkv, out, offsets, cosine, sine;
    gpu_op op;
    gpu_work works[2];
    gpu_times t[2];
    size_t n = 1;
    char shape[64];
    embed_status st = EMBED_OK;
    if (host == NULL)
        return emb_fail(EMBED_ERR_NOMEM, "offsets");
    for (int64_t i = 0; i <= texts; i++)
        host[i] = (int32_t)(i * length);
    EMB_TRY(gpu_normals(b, (size_t)(3 * tokens * dim), 1, EMBED_BF16, &qkv));
    EMB_TRY(gpu_array(b, (size_t)(tokens * dim) * ELT, &out));
    EMB_TRY(gpu_normals(b, (size_t)(length * head_dim / 2), 0.7, EMBED_F32, &cosine));
    EMB_TRY(gpu_normals(b, (size_t)(length * head_dim / 2), 0.7, EMBED_F32, &sine));
    EMB_TRY(gpu_array(b, (size_t)(texts + 1) * 4, &offsets));
    EMB_TRY(gpu_put(b, offsets, host, (size_t)(texts + 1) * 4));
    const emb_cuda_attention_args a = {.qkv = emb_dptr_raw(qkv),
                                       .out = emb_dptr_raw(out),
                                       .offsets = emb_dptr_raw(offsets),
                                       .cos = emb_dptr_raw(cosine),
                                       .sin = emb_dptr_raw(sine),
                                       .tokens = tokens,
                                       .texts = texts,
                                       .heads = heads,
                                       .head_dim = head_dim,
                                       .rotary_dim = head_dim,
                                       .dtype = EMBED_BF16,
                                       .scale = 0.125f};
    op = (gpu_op){names[0], &a, sizeof a};
    works[0] = (gpu_work){gpu_run_op, &op, 0};
    EMB_TRY(make_dnn(b, &dnn, &a, length));
    if (dnn.plan != NULL)
        works[n++] = (gpu_work){run_dnn, &dnn, 0};
    EMB_TRY(gpu_time(b, works, n, t));
    (void)snprintf(shape, sizeof shape, "%lld texts of %lld", (long long)texts, (long long)length);
    for (size_t i = 0; i < n; i++) {
        gpu_row row = {.what = names[i],
                       .shape = shape,
                       .dtype = "bf16",
                       .seconds = gpu_median(&t[i]),
                       .bytes = 4 * (double)(tokens * dim) * ELT,
                       .flops = 4 * (double)(tokens * length) * (double)dim};
        if (i > 0) {
            row.against = "attention";
            row.ratio = gpu_ratio(&t[i], &t[0], &row.least, &row.most);
        }
        gpu_tell(b, &row);
    }
fail:
    free(host);
    gpu_free_arrays(b);
    emb_attention_plan_free(dnn.plan);
    return st;
}

embed_status gpu_section_attention(gpu_bench *b) {
    embed_status st = EMBED_OK;
    if (b->quick)
        return one_length(b, 3, 5, 2, 32);
    EMB_TRY(one_length(b, 2048, 32, 12, 64));
    EMB_TRY(one_length(b, 512, 128, 12, 64));
    EMB_TRY(one_length(b, 128, 512, 12, 64));
    EMB_TRY(one_length(b, 32, 2048, 12, 64));
fail:
    return st;
}
