/* An MoE layer of nomic-embed-text-v2-moe (768 wide, 8 experts of 3072, top 2, GELU) beside a dense
 * MLP of the same active flops (768 wide, inner 6144), interleaved: one CSV row, ratio of medians.
 *   moe_bench [TOKENS] [THREADS] [ROUNDS]
 * Routing, gathering and combining are part of the MoE time. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "kernels/gemm/gemm.h"
#include "kernels/isa.h"
#include "kernels/moe_combine/moe_combine.h"
#include "kernels/router_topk/router_topk.h"

enum { WIDTH = 768, INNER = 3072, EXPERTS = 8, TOP_K = 2, MAX_ROUNDS = 101 };

struct layer {
    emb_exec exec;
    int64_t tokens;
    float *x, *y, *inner, *out, *gate;
    int32_t *expert, *slot, *rows, offset[EXPERTS + 1];
    double gate_sum[EXPERTS];
    emb_matrix router;
    emb_weight up[EXPERTS], down[EXPERTS], dense_up, dense_down;
};

static float *random_floats(int64_t n, float scale) {
    static uint64_t state = 1;
    float *p = aligned_alloc(64, ((size_t)n * sizeof *p + 63) / 64 * 64);
    if (p == NULL)
        exit(1);
    for (int64_t i = 0; i < n; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        p[i] = ((float)(state >> 40) * 0x1p-23f - 1) * scale;
    }
    return p;
}

static void check(embed_status st) {
    if (st != EMBED_OK) {
        fprintf(stderr, "moe_bench: %s\n", emb_fail_message());
        exit(1);
    }
}

static emb_weight weight(int64_t rows, int64_t cols, int32_t layout) {
    return (emb_weight){
        {random_floats(rows * cols, 0.05f), rows, cols, EMBED_F32, 0}, layout, 0, NULL};
}

static void run_dense(struct layer *l) {
    const emb_gemm_group up = {.w = &l->dense_up,
                               .x = l->x,
                               .y = l->inner,
                               .m = l->tokens,
                               .ldx = WIDTH,
                               .ldy = TOP_K * INNER};
    const emb_gemm_group down = {.w = &l->dense_down,
                                 .x = l->inner,
                                 .y = l->y,
                                 .m = l->tokens,
                                 .ldx = TOP_K * INNER,
                                 .ldy = WIDTH};
    check(emb_gemm(&l->exec, &up, 1, EMB_ACT_GELU));
    check(emb_gemm(&l->exec, &down, 1, EMB_ACT_NONE));
}

static void run_moe(struct layer *l) {
    emb_gemm_group up[EXPERTS], down[EXPERTS];
    check(emb_router_topk(&l->exec, &(emb_router_topk_args){.x = l->x,
                                                            .w = l->router,
                                                            .tokens = l->tokens,
                                                            .top_k = TOP_K,
                                                            .gate = l->gate,
                                                            .expert = l->expert,
                                                            .slot = l->slot,
                                                            .rows = l->rows,
                                                            .offset = l->offset,
                                                            .gate_sum = l->gate_sum}));
    for (int e = 0; e < EXPERTS; e++) {
        const int64_t first = l->offset[e], m = l->offset[e + 1] - first;
        up[e] = (emb_gemm_group){.w = &l->up[e],
                                 .x = l->x,
                                 .x_rows = l->rows + first,
                                 .y = l->inner + first * INNER,
                                 .m = m,
                                 .ldx = WIDTH,
                                 .ldy = INNER};
        down[e] = (emb_gemm_group){.w = &l->down[e],
                                   .x = l->inner + first * INNER,
                                   .y = l->out + first * WIDTH,
                                   .m = m,
                                   .ldx = INNER,
                                   .ldy = WIDTH};
    }
    check(emb_gemm(&l->exec, up, EXPERTS, EMB_ACT_GELU));
    check(emb_gemm(&l->exec, down, EXPERTS, EMB_ACT_NONE));
    check(emb_moe_combine(&l->exec, &(emb_moe_combine_args){.o = l->out,
                                                            .gate = l->gate,
                                                            .slot = l->slot,
                                                            .y = l->y,
                                                            .tokens = l->tokens,
                                                            .dim = WIDTH,
                                                            .top_k = TOP_K}));
}

static double timed(void (*run)(struct layer *), struct layer *l) {
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    run(l);
    clock_gettime(CLOCK_MONOTONIC, &b);
    return (double)(b.tv_sec - a.tv_sec) * 1e6 + (double)(b.tv_nsec - a.tv_nsec) * 1e-3;
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void make_layer(struct layer *l, const emb_env *env, int threads) {
    const int64_t t = l->tokens;
    check(emb_isa_select(&l->exec.isa, EMBED_ISA_AUTO));
    check(emb_pool_create(&l->exec.pool, env, threads));
    l->exec.scratch_bytes = emb_gemm_scratch_bytes(l->exec.isa);
    if (l->exec.scratch_bytes < emb_router_topk_scratch_bytes(l->exec.isa, EXPERTS))
        l->exec.scratch_bytes = emb_router_topk_scratch_bytes(l->exec.isa, EXPERTS);
    l->exec.scratch_bytes = emb_round_up(l->exec.scratch_bytes, EMB_ALIGN);
    check(emb_alloc(env, l->exec.scratch_bytes * (size_t)threads, (void **)&l->exec.scratch));
    l->x = random_floats(t * WIDTH, 1);
    l->y = random_floats(t * WIDTH, 0);
    l->inner = random_floats(t * TOP_K * INNER, 0);
    l->out = random_floats(t * TOP_K * WIDTH, 0);
    l->gate = random_floats(t * TOP_K, 0);
    l->expert = (int32_t *)(void *)random_floats(t * TOP_K, 0);
    l->slot = (int32_t *)(void *)random_floats(t * TOP_K, 0);
    l->rows = (int32_t *)(void *)random_floats(t * TOP_K, 0);
    l->router = weight(EXPERTS, WIDTH, EMB_GEMM_NT).m;
    for (int e = 0; e < EXPERTS; e++) {
        l->up[e] = weight(INNER, WIDTH, EMB_GEMM_NT);
        l->down[e] = weight(INNER, WIDTH, EMB_GEMM_NN);
    }
    l->dense_up = weight(TOP_K * INNER, WIDTH, EMB_GEMM_NT);
    l->dense_down = weight(WIDTH, TOP_K * INNER, EMB_GEMM_NT);
}

int main(int argc, char **argv) {
    static struct layer l;
    double dense[MAX_ROUNDS], moe[MAX_ROUNDS], ratio[MAX_ROUNDS];
    const int threads = argc > 2 ? atoi(argv[2]) : emb_usable_cpus();
    const int rounds = argc > 3 ? atoi(argv[3]) : 15;
    emb_env env;
    l.tokens = argc > 1 ? atoi(argv[1]) : 2048;
    if (argc > 4 || l.tokens < 1 || threads < 1 || rounds < 1 || rounds > MAX_ROUNDS) {
        fprintf(stderr, "usage: moe_bench [TOKENS] [THREADS] [ROUNDS]\n");
        return 2;
    }
    check(emb_env_init(&env, NULL, NULL, NULL));
    make_layer(&l, &env, threads);
    run_dense(&l);
    run_moe(&l);
    for (int i = 0; i < rounds; i++) {
        dense[i] = timed(run_dense, &l);
        moe[i] = timed(run_moe, &l);
        ratio[i] = moe[i] / dense[i];
    }
    qsort(dense, (size_t)rounds, sizeof *dense, ascending);
    qsort(moe, (size_t)rounds, sizeof *moe, ascending);
    qsort(ratio, (size_t)rounds, sizeof *ratio, ascending);
    printf("isa,threads,tokens,rounds,dense_median_us,moe_median_us,ratio_median,ratio_least,"
           "ratio_greatest\n%s,%d,%lld,%d,%.4g,%.4g,%.4g,%.4g,%.4g\n",
           l.exec.isa->name, threads, (long long)l.tokens, rounds, dense[rounds / 2],
           moe[rounds / 2], ratio[rounds / 2], ratio[0], ratio[rounds - 1]);
    return 0;
}
