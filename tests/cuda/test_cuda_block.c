/* A whole encoder block, each operation taking what the one before it made, on the CPU kernels and
 * on the emulated GPU: shapes, layouts and row numbers fit together. */
#include "cuda/cuda_case.h"
#include "support/everywhere.h"

#include "kernels/attention/attention.h"
#include "kernels/attention/attention_cuda.h"
#include "kernels/embed_lookup/embed_lookup.h"
#include "kernels/embed_lookup/embed_lookup_cuda.h"
#include "kernels/gemm/gemm.h"
#include "kernels/gemm/gemm_cuda.h"
#include "kernels/layernorm/layernorm.h"
#include "kernels/layernorm/layernorm_cuda.h"
#include "kernels/moe_combine/moe_combine.h"
#include "kernels/moe_combine/moe_combine_cuda.h"
#include "kernels/pool/pool.h"
#include "kernels/pool/pool_cuda.h"
#include "kernels/quantize/quantize_cuda.h"
#include "kernels/router_topk/router_topk.h"
#include "kernels/router_topk/router_topk_cuda.h"

enum {
    D = 64,
    HEADS = 2,
    HD = 32,
    INNER = 96,
    EXPERTS = 5,
    K = 2,
    VOCABULARY = 40,
    TEXTS = 3,
    T = 41
};
static const int32_t offsets[TEXTS + 1] = {0, 9, 10, T};

/* A weight in the type of the device, and the same numbers in f32 for the CPU. */
struct weight {
    void *device;
    float *host;
};

static struct weight new_weight(uint64_t *seed, size_t n, double scale, int32_t dtype) {
    double *exact = cuda_doubles(n);
    struct weight w = {cuda_normals(seed, n, scale, dtype, exact), cuda_output(n * sizeof(float))};
    for (size_t i = 0; i < n; i++)
        w.host[i] = (float)exact[i];
    return w;
}

struct block {
    struct weight word, type, qkv, out, up, down;
    struct weight qkv_bias, gamma[3], beta[3], router, expert_bias; /* f32 on the device too */
    float *cos, *sin;
    int32_t ids[T];
};

static void open_block(struct block *b, int32_t dtype) {
    uint64_t seed = 77;
    *b = (struct block){
        .word = new_weight(&seed, VOCABULARY * D, 1, dtype),
        .type = new_weight(&seed, D, 0.3, dtype),
        .qkv = new_weight(&seed, 3 * D * D, 0.15, dtype),
        .out = new_weight(&seed, D * D, 0.1, dtype),
        .up = new_weight(&seed, EXPERTS * INNER * D, 0.15, dtype),
        .down = new_weight(&seed, EXPERTS * INNER * D, 0.15, dtype),
        .qkv_bias = new_weight(&seed, 3 * D, 0.2, EMBED_F32),
        .router = new_weight(&seed, EXPERTS * D, 0.4, EMBED_F32),
        .expert_bias = new_weight(&seed, D, 0.2, EMBED_F32),
        .cos = cuda_output(T * HD / 2 * sizeof(float)),
        .sin = cuda_output(T * HD / 2 * sizeof(float)),
    };
    for (int i = 0; i < 3; i++) {
        b->gamma[i] = new_weight(&seed, D, 1, EMBED_F32);
        b->beta[i] = new_weight(&seed, D, 0.1, EMBED_F32);
    }
    for (int i = 0; i < T * HD / 2; i++) {
        const double angle = i / (HD / 2) * pow(1000, -(i % (HD / 2)) / (HD / 2.0));
        b->cos[i] = (float)cos(angle);
        b->sin[i] = (float)sin(angle);
    }
    for (int t = 0; t < T; t++)
        b->ids[t] = (int32_t)(test_rand(&seed) % VOCABULARY);
}

static float *floats(size_t n) {
    return cuda_output(n * sizeof(float));
}

static emb_matrix matrix(const float *data, int64_t rows, int64_t cols) {
    return (emb_matrix){.data = data, .rows = rows, .cols = cols, .dtype = EMBED_F32};
}

static void host_gemm(emb_exec *exec, const float *x, const int32_t *rows, const float *w,
                      int32_t layout, int64_t n, int64_t k, const float *bias, float *y, int64_t m,
                      emb_activation act) {
    const emb_weight weight = {layout == EMB_GEMM_NT ? matrix(w, n, k) : matrix(w, k, n), layout, 0,
                               NULL};
    const emb_gemm_group g = {
        .w = &weight, .bias = bias, .x = x, .x_rows = rows, .y = y, .m = m, .ldx = k, .ldy = n};
    assert_int_equal(emb_gemm(exec, &g, 1, act), EMBED_OK);
}

static void host_norm(emb_exec *exec, const struct block *b, int i, const float *x, const float *r,
                      float *y) {
    const emb_layernorm_args a = {.x = x,
                                  .r = r,
                                  .gamma = b->gamma[i].host,
                                  .beta = b->beta[i].host,
                                  .y = y,
                                  .tokens = T,
                                  .dim = D,
                                  .eps = 1e-5f};
    assert_int_equal(emb_layernorm(exec, &a), EMBED_OK);
}

/* The block on the CPU kernels, up to unit vectors. */
static void run_host(emb_exec *exec, const struct block *b, int32_t *expert, float *vectors) {
    float *x = floats(T * D), *qkv = floats(3 * T * D), *h = floats(T * D), *y = floats(T * D);
    float *inner = floats(T * K * INNER), *o = floats(T * K * D), *gate = floats(T * K);
    int32_t slot[T * K], rows[T * K], offset[EXPERTS + 1];
    double gate_sum[EXPERTS];
    const emb_embed_lookup_args lookup = {.ids = b->ids,
                                          .word = matrix(b->word.host, VOCABULARY, D),
                                          .type = matrix(b->type.host, 1, D),
                                          .eps = 1e-5f,
                                          .gamma = b->gamma[0].host,
                                          .beta = b->beta[0].host,
                                          .x = x,
                                          .tokens = T,
                                          .dim = D};
    assert_int_equal(emb_embed_lookup(exec, &lookup), EMBED_OK);
    host_gemm(exec, x, NULL, b->qkv.host, EMB_GEMM_NT, 3 * D, D, b->qkv_bias.host, qkv, T,
              EMB_ACT_NONE);
    const emb_attention_args attention = {.qkv = qkv,
                                          .out = h,
                                          .offsets = offsets,
                                          .texts = TEXTS,
                                          .heads = HEADS,
                                          .head_dim = HD,
                                          .rotary_dim = HD,
                                          .scale = 0.17f,
                                          .cos = b->cos,
                                          .sin = b->sin};
    assert_int_equal(emb_attention(exec, &attention), EMBED_OK);
    host_gemm(exec, h, NULL, b->out.host, EMB_GEMM_NT, D, D, NULL, y, T, EMB_ACT_NONE);
    host_norm(exec, b, 1, x, y, x);
    const emb_router_topk_args router = {.x = x,
                                         .w = matrix(b->router.host, EXPERTS, D),
                                         .tokens = T,
                                         .top_k = K,
                                         .gate = gate,
                                         .expert = expert,
                                         .slot = slot,
                                         .rows = rows,
                                         .offset = offset,
                                         .gate_sum = gate_sum};
    assert_int_equal(emb_router_topk(exec, &router), EMBED_OK);
    for (int e = 0; e < EXPERTS; e++) {
        const int32_t from = offset[e], m = offset[e + 1] - from;
        host_gemm(exec, x, rows + from, b->up.host + e * INNER * D, EMB_GEMM_NT, INNER, D, NULL,
                  inner + from * INNER, m, EMB_ACT_GELU);
        host_gemm(exec, inner + from * INNER, NULL, b->down.host + e * INNER * D, EMB_GEMM_NN, D,
                  INNER, NULL, o + from * D, m, EMB_ACT_NONE);
    }
    const emb_moe_combine_args combine = {.o = o,
                                          .gate = gate,
                                          .bias = b->expert_bias.host,
                                          .slot = slot,
                                          .y = y,
                                          .tokens = T,
                                          .dim = D,
                                          .top_k = K};
    assert_int_equal(emb_moe_combine(exec, &combine), EMBED_OK);
    host_norm(exec, b, 2, x, y, x);
    const emb_pool_args pool = {.x = x,
                                .offsets = offsets,
                                .out = vectors,
                                .texts = TEXTS,
                                .dim = D,
                                .ldo = D,
                                .modes = EMBED_POOL_MEAN};
    assert_int_equal(emb_pool_texts(exec, &pool), EMBED_OK);
    emb_l2_normalize(vectors, TEXTS, D, D);
}

/* Device buffers of one forward pass. */
struct device {
    int32_t dtype;
    void *x, *qkv, *h, *y, *inner, *o;
    float *logits, *gate, *pooled;
    int32_t *expert, *slot, *rows, *offset;
    void *scratch;
};

static void open_device(struct device *d, int32_t dtype) {
    const size_t size = cuda_size(dtype);
    *d = (struct device){
        .dtype = dtype,
        .x = cuda_output(T * D * size),
        .qkv = cuda_output(3 * T * D * size),
        .h = cuda_output(T * D * size),
        .y = cuda_output(T * D * size),
        .inner = cuda_output(T * K * INNER * size),
        .o = cuda_output(T * K * D * size),
        .logits = floats(T * EXPERTS),
        .gate = floats(T * K),
        .pooled = floats(TEXTS * D),
        .expert = cuda_output(T * K * sizeof(int32_t)),
        .slot = cuda_output(T * K * sizeof(int32_t)),
        .rows = cuda_output(T * K * sizeof(int32_t)),
        .offset = cuda_output((EXPERTS + 1) * sizeof(int32_t)),
        .scratch = cuda_output(emb_cuda_router_topk_scratch_bytes(T, EXPERTS)),
    };
}

static void device_attention(const struct block *b, const struct device *d) {
    emb_cuda_gemm_args gemm = {.x = d->x,
                               .w = b->qkv.device,
                               .bias = b->qkv_bias.device,
                               .y = d->qkv,
                               .m = T,
                               .n = 3 * D,
                               .k = D,
                               .ldx = D,
                               .ldy = 3 * D,
                               .layout = EMB_CUDA_NT,
                               .dtype = d->dtype};
    cuda_worked("qkv", emb_cuda_gemm(cuda_exec(), &gemm));
    cuda_worked("attention",
                emb_cuda_attention(cuda_exec(), &(emb_cuda_attention_args){
                                                    .qkv = d->qkv,
                                                    .out = d->h,
                                                    .offsets = cuda_copy(offsets, sizeof offsets),
                                                    .cos = b->cos,
                                                    .sin = b->sin,
                                                    .tokens = T,
                                                    .texts = TEXTS,
                                                    .heads = HEADS,
                                                    .head_dim = HD,
                                                    .rotary_dim = HD,
                                                    .dtype = d->dtype,
                                                    .scale = 0.17f}));
    gemm = (emb_cuda_gemm_args){.x = d->h,
                                .w = b->out.device,
                                .y = d->y,
                                .m = T,
                                .n = D,
                                .k = D,
                                .ldx = D,
                                .ldy = D,
                                .layout = EMB_CUDA_NT,
                                .dtype = d->dtype};
    cuda_worked("projection", emb_cuda_gemm(cuda_exec(), &gemm));
    cuda_worked("norm and router", emb_cuda_layernorm(cuda_exec(), &(emb_cuda_layernorm_args){
                                                                       .x = d->x,
                                                                       .r = d->y,
                                                                       .y = d->x,
                                                                       .gamma = b->gamma[1].device,
                                                                       .beta = b->beta[1].device,
                                                                       .router = b->router.device,
                                                                       .logits = d->logits,
                                                                       .tokens = T,
                                                                       .dim = D,
                                                                       .dtype = d->dtype,
                                                                       .experts = EXPERTS,
                                                                       .eps = 1e-5f}));
}

static void device_experts(const struct block *b, const struct device *d) {
    cuda_worked("router", emb_cuda_router_topk(cuda_exec(),
                                               &(emb_cuda_router_topk_args){.logits = d->logits,
                                                                            .gate = d->gate,
                                                                            .expert = d->expert,
                                                                            .slot = d->slot,
                                                                            .rows = d->rows,
                                                                            .offset = d->offset,
                                                                            .scratch = d->scratch,
                                                                            .tokens = T,
                                                                            .experts = EXPERTS,
                                                                            .top_k = K}));
    emb_cuda_gemm_args gemm = {.x = d->x,
                               .x_rows = d->rows,
                               .w = b->up.device,
                               .y = d->inner,
                               .offset = d->offset,
                               .m = T * K,
                               .n = INNER,
                               .k = D,
                               .ldx = D,
                               .ldy = INNER,
                               .groups = EXPERTS,
                               .layout = EMB_CUDA_NT,
                               .dtype = d->dtype,
                               .act = EMB_CUDA_ACT_GELU};
    cuda_worked("up", emb_cuda_gemm(cuda_exec(), &gemm));
    gemm = (emb_cuda_gemm_args){.x = d->inner,
                                .w = b->down.device,
                                .y = d->o,
                                .offset = d->offset,
                                .m = T * K,
                                .n = D,
                                .k = INNER,
                                .ldx = INNER,
                                .ldy = D,
                                .groups = EXPERTS,
                                .layout = EMB_CUDA_NN,
                                .dtype = d->dtype};
    cuda_worked("down", emb_cuda_gemm(cuda_exec(), &gemm));
    cuda_worked("combine", emb_cuda_moe_combine(cuda_exec(), &(emb_cuda_moe_combine_args){
                                                                 .o = d->o,
                                                                 .x = d->x,
                                                                 .y = d->x,
                                                                 .gate = d->gate,
                                                                 .bias = b->expert_bias.device,
                                                                 .gamma = b->gamma[2].device,
                                                                 .beta = b->beta[2].device,
                                                                 .slot = d->slot,
                                                                 .tokens = T,
                                                                 .dim = D,
                                                                 .dtype = d->dtype,
                                                                 .top_k = K,
                                                                 .eps = 1e-5f}));
}

static void run_device(const struct block *b, const struct device *d, float *vectors) {
    cuda_worked("lookup",
                emb_cuda_embed_lookup(cuda_exec(), &(emb_cuda_embed_lookup_args){
                                                       .ids = cuda_copy(b->ids, sizeof b->ids),
                                                       .word = b->word.device,
                                                       .type = b->type.device,
                                                       .gamma = b->gamma[0].device,
                                                       .beta = b->beta[0].device,
                                                       .y = d->x,
                                                       .tokens = T,
                                                       .dim = D,
                                                       .dtype = d->dtype,
                                                       .eps = 1e-5f}));
    device_attention(b, d);
    device_experts(b, d);
    cuda_worked("pool",
                emb_cuda_pool(cuda_exec(),
                              &(emb_cuda_pool_args){.x = d->x,
                                                    .offsets = cuda_copy(offsets, sizeof offsets),
                                                    .out = d->pooled,
                                                    .texts = TEXTS,
                                                    .dim = D,
                                                    .ldo = D,
                                                    .modes = EMBED_POOL_MEAN,
                                                    .dtype = d->dtype}));
    cuda_worked("normalise",
                emb_cuda_quantize(cuda_exec(), &(emb_cuda_quantize_args){.x = d->pooled,
                                                                         .out = vectors,
                                                                         .rows = TEXTS,
                                                                         .dim = D,
                                                                         .ldx = D,
                                                                         .out_stride = 4 * D,
                                                                         .output = EMBED_F32,
                                                                         .normalize = 1}));
}

static size_t host_scratch(const emb_isa *isa) {
    size_t most = emb_gemm_scratch_bytes(isa), bytes;
    assert_int_equal(emb_attention_scratch_bytes(isa, T, HD, &bytes), EMBED_OK);
    most = bytes > most ? bytes : most;
    bytes = emb_router_topk_scratch_bytes(isa, EXPERTS);
    return bytes > most ? bytes : most;
}

static void an_encoder_block_agrees_with_the_cpu(void **state) {
    static const double bound[CUDA_DTYPES] = {2e-6, 2e-3, 1.5e-2}; /* relative L2 */
    (void)state;
    for (int i = 0; i < CUDA_DTYPES; i++) {
        struct block b;
        struct device d;
        test_exec host;
        const emb_isa *isa[EMB_ISA_MAX];
        int32_t expert[T * K];
        float *want = floats(TEXTS * D), *got = floats(TEXTS * D);
        double *wanted = cuda_doubles(TEXTS * D);
        int rerouted = 0;
        emb_isa_list(isa);
        open_block(&b, cuda_dtypes[i]);
        test_exec_open(&host, isa[0], 1, host_scratch(isa[0]));
        run_host(&host.exec, &b, expert, want);
        test_exec_close(&host);
        open_device(&d, cuda_dtypes[i]);
        emb_emulation_seed((uint64_t)i);
        run_device(&b, &d, got);
        for (int p = 0; p < T * K; p++)
            rerouted += expert[p] != d.expert[p];
        /* router scores that rounding makes change places may lead a token elsewhere */
        assert_true(rerouted <= (cuda_dtypes[i] == EMBED_F32 ? 0 : 2));
        for (int v = 0; v < TEXTS * D; v++)
            wanted[v] = (double)want[v];
        const double error = test_rel_l2(got, wanted, TEXTS * D);
        if (!(error <= bound[i]))
            fail_msg("type %d: relative error %.3g, %d of the routes differ", (int)cuda_dtypes[i],
                     error, rerouted);
        cuda_case_end();
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(an_encoder_block_agrees_with_the_cpu)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
