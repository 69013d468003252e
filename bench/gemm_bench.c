/* Speed of kernels/gemm beside OpenBLAS (serial) and the machine's own limits: CSV on stdout.
 *   gemm_bench [--threads N] [--isa auto|portable|avx2|avx512] [--reps N] [--case NAME]
 * [--cpu-time] A case is checked against double before it is timed. Weights rotate through more
 * memory than the caches hold, as the layers of a model do. --cpu-time counts the calling thread's
 * CPU time instead of the wall clock: for one thread on a machine that others use too. */
#define _GNU_SOURCE
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/dtype.h"
#include "bench_options.h"
#include "fma_peak.h"
#include "kernels/gemm/gemm.h"
#include "kernels/isa.h"
#if defined(HAVE_OPENBLAS)
void sgemm_(const char *ta, const char *tb, const int *m, const int *n, const int *k,
            const float *alpha, const float *a, const int *lda, const float *b, const int *ldb,
            const float *beta, float *c, const int *ldc);
#endif

enum { MAX_GROUPS = 8, CHECKED = 200 };
#define WEIGHT_BYTES ((size_t)256 << 20)

struct bench_case {
    const char *name;
    int m, n, k, groups; /* m rows in each group */
    int32_t dtype, layout;
    emb_activation act;
    int gather;
};

static const struct bench_case cases[] = {
    {"minilm_qkv_12", 12, 1152, 384, 1, EMBED_F32, EMB_GEMM_NT, EMB_ACT_NONE, 0},
    {"minilm_up_12", 12, 1536, 384, 1, EMBED_F32, EMB_GEMM_NT, EMB_ACT_GELU, 0},
    {"minilm_down_12", 12, 384, 1536, 1, EMBED_F32, EMB_GEMM_NT, EMB_ACT_NONE, 0},
    {"minilm_qkv_8192", 8192, 1152, 384, 1, EMBED_F32, EMB_GEMM_NT, EMB_ACT_NONE, 0},
    {"minilm_out_8192", 8192, 384, 384, 1, EMBED_F32, EMB_GEMM_NT, EMB_ACT_NONE, 0},
    {"minilm_up_8192", 8192, 1536, 384, 1, EMBED_F32, EMB_GEMM_NT, EMB_ACT_GELU, 0},
    {"minilm_down_8192", 8192, 384, 1536, 1, EMBED_F32, EMB_GEMM_NT, EMB_ACT_NONE, 0},
    {"nomic_qkv_12", 12, 2304, 768, 1, EMBED_F32, EMB_GEMM_NT, EMB_ACT_NONE, 0},
    {"nomic_up_12", 12, 3072, 768, 1, EMBED_F32, EMB_GEMM_NT, EMB_ACT_GELU, 0},
    {"nomic_down_12", 12, 768, 3072, 1, EMBED_F32, EMB_GEMM_NT, EMB_ACT_NONE, 0},
    {"nomic_qkv_128", 128, 2304, 768, 1, EMBED_F32, EMB_GEMM_NT, EMB_ACT_NONE, 0},
    {"nomic_qkv_4096", 4096, 2304, 768, 1, EMBED_F32, EMB_GEMM_NT, EMB_ACT_NONE, 0},
    {"nomic_out_4096", 4096, 768, 768, 1, EMBED_F32, EMB_GEMM_NT, EMB_ACT_NONE, 0},
    {"nomic_up_4096", 4096, 3072, 768, 1, EMBED_F32, EMB_GEMM_NT, EMB_ACT_GELU, 0},
    {"nomic_down_4096", 4096, 768, 3072, 1, EMBED_F32, EMB_GEMM_NT, EMB_ACT_NONE, 0},
    {"nomic_up_f16_4096", 4096, 3072, 768, 1, EMBED_F16, EMB_GEMM_NT, EMB_ACT_GELU, 0},
    {"experts_w1_3", 3, 3072, 768, 8, EMBED_F32, EMB_GEMM_NT, EMB_ACT_GELU, 1},
    {"experts_w2_3", 3, 768, 3072, 8, EMBED_F32, EMB_GEMM_NN, EMB_ACT_NONE, 0},
    {"experts_w1_1", 1, 3072, 768, 8, EMBED_F32, EMB_GEMM_NT, EMB_ACT_GELU, 1},
    {"experts_w2_1", 1, 768, 3072, 8, EMBED_F32, EMB_GEMM_NN, EMB_ACT_NONE, 0},
    {"experts_w1_f16_3", 3, 3072, 768, 8, EMBED_F16, EMB_GEMM_NT, EMB_ACT_GELU, 1},
    {"experts_w1_512", 512, 3072, 768, 8, EMBED_F32, EMB_GEMM_NT, EMB_ACT_GELU, 1},
    {"experts_w2_512", 512, 768, 3072, 8, EMBED_F32, EMB_GEMM_NN, EMB_ACT_NONE, 0},
    {"experts_w1_f16_512", 512, 3072, 768, 8, EMBED_F16, EMB_GEMM_NT, EMB_ACT_GELU, 1},
    {"square_1024", 1024, 1024, 1024, 1, EMBED_F32, EMB_GEMM_NT, EMB_ACT_NONE, 0},
    {"bge_m3_up_2048", 2048, 4096, 1024, 1, EMBED_F32, EMB_GEMM_NT, EMB_ACT_GELU, 0},
};

struct bench {
    emb_env env;
    emb_exec exec;
    clockid_t clock;
    int reps, threads;
    double peak;            /* GFLOP/s of fused multiply-adds alone, all threads */
    unsigned char *weights; /* WEIGHT_BYTES: F32, then the same bytes read as F16 elsewhere */
    unsigned char *halves;
    float *x, *y, *bias;
    int32_t *rows;
    size_t turn; /* where the next call takes its weights */
};

static double now(const struct bench *b) {
    struct timespec t;
    clock_gettime(b->clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void die(const char *what) {
    fprintf(stderr, "gemm_bench: %s: %s\n", what, emb_fail_message());
    exit(1);
}

/* ------------------------------------------------------------------------------------ peak */

static void peak_task(void *arg, size_t task, int thread) {
    const struct bench *b = arg;
    (void)task;
    (void)thread;
    (void)fma_peak_run(b->exec.isa->id);
}

/* Best of several runs of the register-only loop on all threads at once. */
static double measure_peak(struct bench *b) {
    const size_t tasks = (size_t)b->threads;
    double best = 0;
    for (int i = 0; i < 20; i++) {
        const double start = now(b);
        emb_pool_run(b->exec.pool, tasks, peak_task, b);
        const double seconds = now(b) - start;
        const double flops = fma_peak_run(b->exec.isa->id) * (double)tasks;
        if (flops / seconds > best)
            best = flops / seconds;
    }
    return best * 1e-9;
}

/* ----------------------------------------------------------------------------------- cases */

struct call {
    emb_gemm_group groups[MAX_GROUPS];
    emb_weight weights[MAX_GROUPS];
};

/* Groups of the case on the next stretch of weight memory. */
static void set_call(struct bench *b, const struct bench_case *c, struct call *call) {
    const size_t bytes = (size_t)c->n * (size_t)c->k * emb_dtype_bytes(c->dtype);
    const unsigned char *memory = c->dtype == EMBED_F32 ? b->weights : b->halves;
    for (int i = 0; i < c->groups; i++) {
        if (b->turn + bytes > WEIGHT_BYTES)
            b->turn = 0;
        const int nt = c->layout == EMB_GEMM_NT;
        call->weights[i] =
            (emb_weight){{memory + b->turn, nt ? c->n : c->k, nt ? c->k : c->n, c->dtype, 0},
                         c->layout,
                         0,
                         NULL};
        call->groups[i] = (emb_gemm_group){&call->weights[i],
                                           c->act != EMB_ACT_NONE ? b->bias : NULL,
                                           c->gather ? b->x : b->x + (int64_t)i * c->m * c->k,
                                           c->gather ? b->rows + (int64_t)i * c->m : NULL,
                                           b->y + (int64_t)i * c->m * c->n,
                                           NULL,
                                           c->m,
                                           c->k,
                                           c->n,
                                           0};
        b->turn += (bytes + 4095) / 4096 * 4096;
    }
}

static double weight_at(const emb_weight *w, int64_t n, int64_t k) {
    const int64_t i = w->layout == EMB_GEMM_NT ? n * w->m.cols + k : k * w->m.cols + n;
    if (w->m.dtype == EMBED_F32)
        return (double)((const float *)w->m.data)[i];
    return (double)emb_f16_to_f32(((const uint16_t *)w->m.data)[i]);
}

/* Largest error of some outputs, relative to the bound in gemm.h (GELU: slope at most 1.13). */
static double check(const struct bench *b, const struct bench_case *c, const struct call *call) {
    double worst = 0;
    for (int s = 0; s < CHECKED; s++) {
        const emb_gemm_group *g = &call->groups[s % c->groups];
        const int64_t m = s * 7919 % c->m, n = (int64_t)s * 104729 % c->n;
        const float *x = g->x + (g->x_rows != NULL ? g->x_rows[m] : m) * g->ldx;
        double sum = g->bias != NULL ? (double)g->bias[n] : 0, size = fabs(sum) + 1e-6;
        for (int64_t k = 0; k < c->k; k++) {
            const double xw = (double)x[k] * weight_at(g->w, n, k);
            sum += xw;
            size += fabs(xw);
        }
        if (c->act == EMB_ACT_GELU)
            sum = 0.5 * sum * erfc(-sum * 0.70710678118654752);
        const double bound = 1.2 * size * (EMB_GEMM_KC / 2.0 + c->k / (double)EMB_GEMM_KC + 2);
        const double err = fabs((double)g->y[m * g->ldy + n] - sum) / (bound * 0x1p-24);
        worst = err <= worst ? worst : err;
    }
    (void)b;
    return worst;
}

#if defined(HAVE_OPENBLAS)
static int openblas_can(const struct bench *b, const struct bench_case *c) {
    return b->threads == 1 && c->dtype == EMBED_F32 && !c->gather;
}

static void run_openblas(const struct bench_case *c, const struct call *call) {
    const float one = 1, zero = 0;
    for (int i = 0; i < c->groups; i++) { /* column-major: y^T = w x^T */
        const emb_gemm_group *g = &call->groups[i];
        const int ldw = (int)g->w->m.cols;
        sgemm_(c->layout == EMB_GEMM_NT ? "T" : "N", "N", &c->n, &c->m, &c->k, &one, g->w->m.data,
               &ldw, g->x, &c->k, &zero, g->y, &c->n);
    }
}
#endif

/* ---------------------------------------------------------------------------------- timing */

static int compare(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void print_row(const struct bench *b, const struct bench_case *c, const char *impl,
                      double *seconds, double err) {
    const double m = (double)c->m * c->groups, n = c->n, k = c->k;
    const double flops = 2 * m * n * k;
    const double bytes =
        4 * (m * k + m * n) + (double)c->groups * n * k * (double)emb_dtype_bytes(c->dtype);
    qsort(seconds, (size_t)b->reps, sizeof *seconds, compare);
    const double median = seconds[b->reps / 2];
    printf("%s,%s,%d,%d,%d,%d,%d,%s,%s,%d,%.4g,%.4g,%.4g,%.4g,%.4g,%.4g,%.3g\n", c->name, impl,
           b->threads, c->groups, c->m, c->n, c->k, c->dtype == EMBED_F32 ? "f32" : "f16",
           c->layout == EMB_GEMM_NT ? "nt" : "nn", b->reps, seconds[0] * 1e6, median * 1e6,
           seconds[b->reps * 9 / 10] * 1e6, flops / median * 1e-9, bytes / median * 1e-9,
           b->peak > 0 ? flops / seconds[0] * 1e-7 / b->peak : 0, err);
    fflush(stdout);
}

static void run_case(struct bench *b, const struct bench_case *c) {
    static double ours[BENCH_MAX_REPS], packed_ours[BENCH_MAX_REPS], theirs[BENCH_MAX_REPS];
    struct call call;
    float *packed[MAX_GROUPS] = {NULL};
    set_call(b, c, &call);
    if (emb_gemm(&b->exec, call.groups, (size_t)c->groups, c->act) != EMBED_OK)
        die(c->name);
    const double err = check(b, c, &call);
    if (!(err <= 1)) {
        printf("%s,%s,FAIL: error %.3g of the bound\n", c->name, b->exec.isa->name, err);
        return;
    }
    for (int i = 0; i < c->groups; i++) {
        size_t bytes;
        if (emb_gemm_packed_bytes(b->exec.isa, &call.weights[i], &bytes) != EMBED_OK ||
            emb_alloc(&b->env, bytes, (void **)&packed[i]) != EMBED_OK)
            die("packed copy");
        emb_gemm_pack(b->exec.isa, &call.weights[i], packed[i]);
    }
    for (int r = 0; r < b->reps; r++) {
        set_call(b, c, &call);
        double start = now(b);
        (void)emb_gemm(&b->exec, call.groups, (size_t)c->groups, c->act);
        ours[r] = now(b) - start;
        for (int i = 0; i < c->groups; i++)
            call.weights[i].packed = packed[i];
        start = now(b);
        (void)emb_gemm(&b->exec, call.groups, (size_t)c->groups, c->act);
        packed_ours[r] = now(b) - start;
#if defined(HAVE_OPENBLAS)
        if (openblas_can(b, c)) {
            set_call(b, c, &call);
            start = now(b);
            run_openblas(c, &call);
            theirs[r] = now(b) - start;
        }
#endif
    }
    char impl[64];
    print_row(b, c, b->exec.isa->name, ours, err);
    (void)snprintf(impl, sizeof impl, "%s+packed", b->exec.isa->name);
    print_row(b, c, impl, packed_ours, err); /* one packed copy: small ones stay in cache */
#if defined(HAVE_OPENBLAS)
    if (openblas_can(b, c))
        print_row(b, c, "openblas", theirs, 0);
#else
    (void)theirs;
#endif
    for (int i = 0; i < c->groups; i++)
        emb_free(&b->env, packed[i]);
}

/* ------------------------------------------------------------------------------------ main */

static void fill(struct bench *b) {
    size_t x_max = 0, y_max = 0, rows_max = 0, n_max = 0;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const size_t rows = (size_t)cases[i].m * (size_t)cases[i].groups;
        x_max = rows * (size_t)cases[i].k > x_max ? rows * (size_t)cases[i].k : x_max;
        y_max = rows * (size_t)cases[i].n > y_max ? rows * (size_t)cases[i].n : y_max;
        rows_max = rows > rows_max ? rows : rows_max;
        n_max = (size_t)cases[i].n > n_max ? (size_t)cases[i].n : n_max;
    }
    if (emb_alloc(&b->env, WEIGHT_BYTES, (void **)&b->weights) != EMBED_OK ||
        emb_alloc(&b->env, WEIGHT_BYTES, (void **)&b->halves) != EMBED_OK ||
        emb_alloc(&b->env, x_max * sizeof(float), (void **)&b->x) != EMBED_OK ||
        emb_alloc(&b->env, y_max * sizeof(float), (void **)&b->y) != EMBED_OK ||
        emb_alloc(&b->env, n_max * sizeof(float), (void **)&b->bias) != EMBED_OK ||
        emb_alloc(&b->env, rows_max * sizeof(int32_t), (void **)&b->rows) != EMBED_OK)
        die("memory");
    uint32_t seed = 1;
    for (size_t i = 0; i < WEIGHT_BYTES / 4; i++) {
        seed = seed * 1664525u + 1013904223u;
        ((float *)(void *)b->weights)[i] = (float)(int32_t)seed * 0x1p-33f;
    }
    for (size_t i = 0; i < WEIGHT_BYTES / 2; i++)
        ((uint16_t *)(void *)b->halves)[i] =
            emb_f32_to_f16(((const float *)(const void *)b->weights)[i / 2]);
    for (size_t i = 0; i < x_max; i++)
        b->x[i] = ((const float *)(const void *)b->weights)[i * 7 % (WEIGHT_BYTES / 4)];
    for (size_t i = 0; i < n_max; i++)
        b->bias[i] = b->x[i];
    for (size_t i = 0; i < rows_max; i++)
        b->rows[i] = (int32_t)(i * 5 % rows_max);
    memset(b->y, 0, y_max * sizeof(float));
}

int main(int argc, char **argv) {
    struct bench b = {0};
    bench_options o;
    if (!bench_options_read(&o, argc, argv))
        return 2;
    b.clock = o.clock;
    b.reps = o.reps;
    b.threads = o.threads;
    if (emb_env_init(&b.env, NULL, NULL, NULL) != EMBED_OK ||
        emb_isa_select(&b.exec.isa, o.isa) != EMBED_OK ||
        emb_pool_create(&b.exec.pool, &b.env, b.threads) != EMBED_OK)
        die("start");
    b.exec.scratch_bytes = emb_round_up(emb_gemm_scratch_bytes(b.exec.isa), EMB_ALIGN);
    if (emb_alloc(&b.env, b.exec.scratch_bytes * (size_t)b.threads, (void **)&b.exec.scratch) !=
        EMBED_OK)
        die("scratch");
    fill(&b);
    b.peak = measure_peak(&b);
    printf("# compiler %s, %s, %d threads, fma peak %.1f GFLOP/s, weights rotate through %zu MiB\n",
           __VERSION__, b.exec.isa->name, b.threads, b.peak, WEIGHT_BYTES >> 20);
    printf("case,impl,threads,groups,m,n,k,dtype,layout,reps,best_us,median_us,p90_us,gflop_s,gb_s,"
           "pct_peak,err_of_bound\n");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (strstr(cases[i].name, o.only) != NULL)
            run_case(&b, &cases[i]);
    return 0;
}
