/* Each memory-bound kernel beside this run's copy, at sizes beyond the caches. */
#include "gpu/gpu_bench.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/activation/activation_cuda.h"
#include "kernels/embed_lookup/embed_lookup_cuda.h"
#include "kernels/layernorm/layernorm_cuda.h"
#include "kernels/moe_combine/moe_combine_cuda.h"
#include "kernels/pool/pool_cuda.h"
#include "kernels/quantize/quantize_cuda.h"
#include "kernels/router_topk/router_topk_cuda.h"
#include "kernels/row_copy/row_copy_cuda.h"

#define GOAL 0.85 /* of the copy */

enum { ELT = 2 }; /* bf16 */

typedef struct shape {
    int64_t tokens, length, dim, inner, vocabulary; /* texts of `length` tokens */
    int32_t experts, top_k;
} shape;

/* bytes 0: latency-bound, no goal */
static embed_status one(gpu_bench *b, const char *name, const char *what, const void *args,
                        size_t arg_bytes, double bytes, const char *shape_text) {
    const int wide = strcmp(name, "quantize") == 0 || strcmp(name, "router_topk") == 0;
    gpu_op op = {name, args, arg_bytes};
    const gpu_work work = {gpu_run_op, &op, 0};
    gpu_times t;
    embed_status st = EMBED_OK;
    EMB_TRY(gpu_time(b, &work, 1, &t));
    const gpu_row row = {.what = what,
                         .shape = shape_text,
                         .dtype = wide ? "f32" : "bf16", /* of what is read */
                         .seconds = gpu_median(&t),
                         .bytes = bytes,
                         .measure = bytes > 0 ? "of the copy" : NULL,
                         .value = bytes > 0 ? bytes / gpu_median(&t) / b->copy : 0,
                         .goal = bytes > 0 ? GOAL : 0,
                         .note = bytes > 0 ? NULL : "latency-bound"};
    gpu_tell(b, &row);
fail:
    return st;
}

static embed_status norms(gpu_bench *b, const shape *s, const char *text) {
    const size_t n = (size_t)(s->tokens * s->dim);
    emb_dptr x, r, y, gamma, beta, router, logits;
    embed_status st = EMBED_OK;
    EMB_TRY(gpu_normals(b, n, 1, EMBED_BF16, &x));
    EMB_TRY(gpu_normals(b, n, 1, EMBED_BF16, &r));
    EMB_TRY(gpu_array(b, n * ELT, &y));
    EMB_TRY(gpu_normals(b, (size_t)s->dim, 1, EMBED_F32, &gamma));
    EMB_TRY(gpu_normals(b, (size_t)s->dim, 1, EMBED_F32, &beta));
    EMB_TRY(gpu_normals(b, (size_t)(s->dim * s->experts), 1, EMBED_F32, &router));
    EMB_TRY(gpu_array(b, (size_t)(s->tokens * s->experts) * 4, &logits));
    emb_cuda_layernorm_args a = {.x = emb_dptr_raw(x),
                                 .r = emb_dptr_raw(r),
                                 .y = emb_dptr_raw(y),
                                 .gamma = emb_dptr_raw(gamma),
                                 .beta = emb_dptr_raw(beta),
                                 .tokens = s->tokens,
                                 .dim = s->dim,
                                 .dtype = EMBED_BF16,
                                 .eps = 1e-5f};
    EMB_TRY(one(b, "layernorm", "residual + norm", &a, sizeof a, 3 * (double)n * ELT, text));
    a.router = emb_dptr_raw(router);
    a.logits = emb_dptr_raw(logits);
    a.experts = s->experts;
    EMB_TRY(one(b, "layernorm", "residual + norm + router", &a, sizeof a,
                3 * (double)n * ELT + 4 * (double)s->tokens * s->experts, text));
fail:
    gpu_free_arrays(b);
    return st;
}

static embed_status lookup(gpu_bench *b, const shape *s, const char *text) {
    const size_t n = (size_t)(s->tokens * s->dim);
    emb_dptr ids, word, type, gamma, y;
    embed_status st = EMBED_OK;
    EMB_TRY(gpu_integers(b, (size_t)s->tokens, (int32_t)s->vocabulary, &ids));
    EMB_TRY(gpu_normals(b, (size_t)(s->vocabulary * s->dim), 1, EMBED_BF16, &word));
    EMB_TRY(gpu_normals(b, (size_t)s->dim, 1, EMBED_BF16, &type));
    EMB_TRY(gpu_normals(b, (size_t)s->dim, 1, EMBED_F32, &gamma));
    EMB_TRY(gpu_array(b, n * ELT, &y));
    const emb_cuda_embed_lookup_args a = {.ids = emb_dptr_raw(ids),
                                          .word = emb_dptr_raw(word),
                                          .type = emb_dptr_raw(type),
                                          .gamma = emb_dptr_raw(gamma),
                                          .y = emb_dptr_raw(y),
                                          .tokens = s->tokens,
                                          .dim = s->dim,
                                          .dtype = EMBED_BF16,
                                          .eps = 1e-5f};
    EMB_TRY(one(b, "embed_lookup", "embedding + norm", &a, sizeof a,
                2 * (double)n * ELT + 4 * (double)s->tokens, text));
fail:
    gpu_free_arrays(b);
    return st;
}

/* Rows in the device's memory in place of word embeddings, in random order; and the same rows moved
 * one by one, as they are packed for a device. */
static embed_status rows(gpu_bench *b, const shape *s, const char *text) {
    const size_t t = (size_t)s->tokens, n = t * (size_t)s->dim, row = (size_t)s->dim * ELT;
    uint64_t *host = calloc(2 * t, sizeof *host);
    emb_dptr ids, word, table, places, gamma, y;
    embed_status st = EMBED_OK;
    if (host == NULL)
        return emb_fail(EMBED_ERR_NOMEM, "addresses");
    EMB_TRY(gpu_integers(b, t, 1, &ids));
    EMB_TRY(gpu_normals(b, (size_t)s->dim, 1, EMBED_BF16, &word));
    EMB_TRY(gpu_normals(b, n, 1, EMBED_BF16, &table));
    EMB_TRY(gpu_normals(b, (size_t)s->dim, 1, EMBED_F32, &gamma));
    EMB_TRY(gpu_array(b, n * ELT, &y));
    EMB_TRY(gpu_array(b, 2 * t * sizeof *host, &places));
    for (size_t i = 0; i < t; i++) /* an odd factor and a power of two: a permutation */
        host[i] = table.at + (i * 7919 + 13) % t * row;
    EMB_TRY(gpu_put(b, places, host, t * sizeof *host));
    const emb_cuda_embed_lookup_args a = {.ids = emb_dptr_raw(ids),
                                          .word = emb_dptr_raw(word),
                                          .rows = emb_dptr_raw(places),
                                          .rows_dtype = EMBED_BF16,
                                          .gamma = emb_dptr_raw(gamma),
                                          .y = emb_dptr_raw(y),
                                          .tokens = s->tokens,
                                          .dim = s->dim,
                                          .dtype = EMBED_BF16,
                                          .eps = 1e-5f};
    EMB_TRY(one(b, "embed_lookup", "n-gram rows + norm", &a, sizeof a,
                2 * (double)n * ELT + 12 * (double)t, text));
    for (size_t i = 0; i < t; i++) {
        host[2 * i] = table.at + (i * 7919 + 13) % t * row;
        host[2 * i + 1] = y.at + i * row;
    }
    EMB_TRY(gpu_put(b, places, host, 2 * t * sizeof *host));
    const emb_cuda_row_copy_args c = {NULL, emb_dptr_raw(places), s->tokens, (int64_t)row};
    EMB_TRY(
        one(b, "row_copy", "rows moved", &c, sizeof c, 2 * (double)n * ELT + 16 * (double)t, text));
fail:
    free(host);
    gpu_free_arrays(b);
    return st;
}

/* The router's own slots: rows are gathered as in a real layer. */
static embed_status routing(gpu_bench *b, const shape *s, const char *text) {
    const size_t n = (size_t)(s->tokens * s->dim), pairs = (size_t)(s->tokens * s->top_k);
    emb_dptr logits, gate, expert, slot, rows, offset, scratch, o, x, y, gamma;
    embed_status st = EMBED_OK;
    EMB_TRY(gpu_normals(b, (size_t)(s->tokens * s->experts), 1, EMBED_F32, &logits));
    EMB_TRY(gpu_array(b, pairs * 4, &gate));
    EMB_TRY(gpu_array(b, pairs * 4, &expert));
    EMB_TRY(gpu_array(b, pairs * 4, &slot));
    EMB_TRY(gpu_array(b, pairs * 4, &rows));
    EMB_TRY(gpu_array(b, (size_t)(s->experts + 1) * 4, &offset));
    EMB_TRY(gpu_array(b, emb_cuda_router_topk_scratch_bytes(s->tokens, s->experts), &scratch));
    EMB_TRY(gpu_normals(b, pairs * (size_t)s->dim, 1, EMBED_BF16, &o));
    EMB_TRY(gpu_normals(b, n, 1, EMBED_BF16, &x));
    EMB_TRY(gpu_array(b, n * ELT, &y));
    EMB_TRY(gpu_normals(b, (size_t)s->dim, 1, EMBED_F32, &gamma));
    const emb_cuda_router_topk_args r = {.logits = emb_dptr_raw(logits),
                                         .gate = emb_dptr_raw(gate),
                                         .expert = emb_dptr_raw(expert),
                                         .slot = emb_dptr_raw(slot),
                                         .rows = emb_dptr_raw(rows),
                                         .offset = emb_dptr_raw(offset),
                                         .scratch = emb_dptr_raw(scratch),
                                         .tokens = s->tokens,
                                         .experts = s->experts,
                                         .top_k = s->top_k};
    EMB_TRY(one(b, "router_topk", "router, top 2", &r, sizeof r, 0, text));
    const emb_cuda_moe_combine_args c = {.o = emb_dptr_raw(o),
                                         .x = emb_dptr_raw(x),
                                         .y = emb_dptr_raw(y),
                                         .gate = emb_dptr_raw(gate),
                                         .gamma = emb_dptr_raw(gamma),
                                         .slot = emb_dptr_raw(slot),
                                         .tokens = s->tokens,
                                         .dim = s->dim,
                                         .dtype = EMBED_BF16,
                                         .top_k = s->top_k,
                                         .eps = 1e-5f};
    EMB_TRY(one(b, "moe_combine", "combine + residual + norm", &c, sizeof c,
                (s->top_k + 2) * (double)n * ELT + 8 * (double)pairs, text));
fail:
    gpu_free_arrays(b);
    return st;
}

static embed_status activation(gpu_bench *b, const shape *s, const char *text) {
    const size_t n = (size_t)(s->tokens * s->inner);
    emb_dptr x, bias;
    embed_status st = EMBED_OK;
    EMB_TRY(gpu_normals(b, n, 1, EMBED_BF16, &x));
    EMB_TRY(gpu_normals(b, (size_t)s->inner, 1, EMBED_F32, &bias));
    const emb_cuda_activation_args a = {.x = emb_dptr_raw(x),
                                        .bias = emb_dptr_raw(bias),
                                        .y = emb_dptr_raw(x),
                                        .tokens = s->tokens,
                                        .dim = s->inner,
                                        .dtype = EMBED_BF16,
                                        .act = 1};
    EMB_TRY(one(b, "activation", "bias + exact GELU", &a, sizeof a, 2 * (double)n * ELT, text));
fail:
    gpu_free_arrays(b);
    return st;
}

static embed_status pooling(gpu_bench *b, const shape *s, const char *text) {
    const size_t n = (size_t)(s->tokens * s->dim), texts = (size_t)(s->tokens / s->length);
    int32_t *host = calloc(texts + 1, sizeof *host);
    emb_dptr x, offsets, out;
    embed_status st = EMBED_OK;
    if (host == NULL)
        return emb_fail(EMBED_ERR_NOMEM, "%zu offsets", texts);
    for (size_t i = 0; i <= texts; i++)
        host[i] = (int32_t)((int64_t)i * s->length);
    EMB_TRY(gpu_normals(b, n, 1, EMBED_BF16, &x));
    EMB_TRY(gpu_array(b, (texts + 1) * 4, &offsets));
    EMB_TRY(gpu_put(b, offsets, host, (texts + 1) * 4));
    EMB_TRY(gpu_array(b, texts * (size_t)s->dim * 4, &out));
    const emb_cuda_pool_args a = {.x = emb_dptr_raw(x),
                                  .offsets = emb_dptr_raw(offsets),
                                  .out = emb_dptr_raw(out),
                                  .texts = (int64_t)texts,
                                  .dim = s->dim,
                                  .ldo = s->dim,
                                  .modes = EMBED_POOL_MEAN,
                                  .dtype = EMBED_BF16};
    EMB_TRY(one(b, "pool", "mean pooling", &a, sizeof a,
                (double)n * ELT + 4 * (double)texts * (double)s->dim, text));
fail:
    free(host);
    gpu_free_arrays(b);
    return st;
}

/* As many rows as there were tokens: the vectors of one batch are too few to measure. */
static embed_status quantizing(gpu_bench *b, const shape *s, const char *text) {
    static const struct {
        const char *what;
        int32_t output, bits;
    } kinds[] = {{"normalise to f32", EMBED_F32, 32},
                 {"normalise to f16", EMBED_F16, 16},
                 {"normalise to bits", EMBED_UBINARY, 1}};
    const size_t n = (size_t)(s->tokens * s->dim);
    emb_dptr x, out;
    embed_status st = EMBED_OK;
    EMB_TRY(gpu_normals(b, n, 1, EMBED_F32, &x));
    EMB_TRY(gpu_array(b, n * 4, &out));
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        const emb_cuda_quantize_args a = {.x = emb_dptr_raw(x),
                                          .out = emb_dptr_raw(out),
                                          .rows = s->tokens,
                                          .dim = s->dim,
                                          .ldx = s->dim,
                                          .out_stride = s->dim * kinds[i].bits / 8,
                                          .output = kinds[i].output,
                                          .normalize = 1};
        EMB_TRY(one(b, "quantize", kinds[i].what, &a, sizeof a,
                    (double)n * (4 + kinds[i].bits / 8.0), text));
    }
fail:
    gpu_free_arrays(b);
    return st;
}

embed_status gpu_section_memory(gpu_bench *b) {
    const shape full = {65536, 128, 768, 3072, 250048, 8, 2}, tiny = {16, 4, 64, 96, 40, 4, 2};
    const shape *s = b->quick ? &tiny : &full;
    char text[64];
    embed_status st = EMBED_OK;
    (void)snprintf(text, sizeof text, "%lldx%lld", (long long)s->tokens, (long long)s->dim);
    EMB_TRY(norms(b, s, text));
    EMB_TRY(lookup(b, s, text));
    EMB_TRY(rows(b, s, text));
    EMB_TRY(routing(b, s, text));
    EMB_TRY(pooling(b, s, text));
    EMB_TRY(quantizing(b, s, text));
    (void)snprintf(text, sizeof text, "%lldx%lld", (long long)s->tokens, (long long)s->inner);
    EMB_TRY(activation(b, s, text));
fail:
    return st;
}
