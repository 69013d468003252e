/* Speed of the operations of kernels/ other than gemm, beside the machine's own limits: CSV on
 * stdout.
 *   ops_bench [--threads N] [--isa auto|portable|avx2|avx512] [--reps N] [--case NAME] [--cpu-time]
 * A case is checked against double before it is timed; one that is wrong prints FAIL and no speed.
 * pct_peak divides GFLOP/s by the fused multiply-adds that the registers alone reach (attention,
 * router), or GB/s by a copy of as many bytes (all others), both measured in the same run.
 * --cpu-time counts the calling thread's CPU time instead of the wall clock: for one thread on a
 * machine that others use too. */
#define _GNU_SOURCE
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench_options.h"
#include "fma_peak.h"
#include "kernels/attention/attention.h"
#include "kernels/embed_lookup/embed_lookup.h"
#include "kernels/isa.h"
#include "kernels/layernorm/layernorm.h"
#include "kernels/moe_combine/moe_combine.h"
#include "kernels/router_topk/router_topk.h"

enum { VOCAB = 30522, EXPERTS = 8, TOP_K = 2, MAX_LEN = 8192 };

struct bench {
    emb_env env;
    emb_exec exec;
    clockid_t clock;
    int reps, threads;
    double peak; /* GFLOP/s */
    const struct bench_case *c;
    float *in, *in2, *out, *small; /* inputs, output, and vectors such as gamma */
    float *table;                  /* [VOCAB, dim] */
    int32_t *ids, *offsets, *expert, *slot, *rows, *expert_offset;
    float *gate;
    double gate_sum[EXPERTS];
};

struct bench_case {
    const char *name;
    void (*run)(struct bench *b);
    double (*check)(struct bench *b); /* largest error; the tolerance is `tolerance` */
    int texts, len, dim, heads;       /* tokens = texts * len; dim = width of x */
    int rotary;
    double flops, bytes; /* per token; flops of attention: per token and key */
    double tolerance;
};

static int64_t tokens_of(const struct bench_case *c) {
    return (int64_t)c->texts * c->len;
}

/* ------------------------------------------------------------------------------- operations */

static void must(embed_status st) {
    if (st == EMBED_OK)
        return;
    fprintf(stderr, "ops_bench: %s\n", emb_fail_message());
    exit(1);
}

static void run_layernorm(struct bench *b) {
    must(emb_layernorm(&b->exec,
                       &(emb_layernorm_args){b->in, b->in2, b->small, b->small + b->c->dim, b->out,
                                             tokens_of(b->c), b->c->dim, 1e-5f, 0}));
}

static double check_layernorm(struct bench *b) {
    const int64_t dim = b->c->dim;
    double worst = 0;
    for (int64_t t = 0; t < tokens_of(b->c); t += 97) {
        const float *x = b->in + t * dim, *r = b->in2 + t * dim;
        double mean = 0, variance = 0;
        for (int64_t i = 0; i < dim; i++)
            mean += ((double)x[i] + (double)r[i]) / (double)dim;
        for (int64_t i = 0; i < dim; i++)
            variance += pow((double)x[i] + (double)r[i] - mean, 2) / (double)dim;
        for (int64_t i = 0; i < dim; i++) {
            const double want =
                ((double)x[i] + (double)r[i] - mean) / sqrt(variance + 1e-5) * (double)b->small[i] +
                (double)b->small[dim + i];
            worst = fmax(worst, fabs((double)b->out[t * dim + i] - want));
        }
    }
    return worst;
}

static void run_lookup(struct bench *b) {
    const emb_matrix word = {b->table, VOCAB, b->c->dim, EMBED_F32, 0};
    must(emb_embed_lookup(&b->exec, &(emb_embed_lookup_args){.ids = b->ids,
                                                             .word = word,
                                                             .eps = 1e-5f,
                                                             .x = b->out,
                                                             .tokens = tokens_of(b->c),
                                                             .dim = b->c->dim}));
}

static double check_lookup(struct bench *b) {
    double worst = 0;
    for (int64_t t = 0; t < tokens_of(b->c); t++)
        for (int64_t i = 0; i < b->c->dim; i++)
            worst = fmax(worst, fabs((double)b->out[t * b->c->dim + i] -
                                     (double)b->table[b->ids[t] * b->c->dim + i]));
    return worst;
}

static void run_router(struct bench *b) {
    must(emb_router_topk(&b->exec,
                         &(emb_router_topk_args){.x = b->in,
                                                 .w = {b->table, EXPERTS, b->c->dim, EMBED_F32, 0},
                                                 .tokens = tokens_of(b->c),
                                                 .top_k = TOP_K,
                                                 .gate = b->gate,
                                                 .expert = b->expert,
                                                 .slot = b->slot,
                                                 .rows = b->rows,
                                                 .offset = b->expert_offset,
                                                 .gate_sum = b->gate_sum}));
}

static double check_router(struct bench *b) {
    double worst = 0;
    for (int64_t t = 0; t < tokens_of(b->c); t += 31) {
        double p[EXPERTS], sum = 0;
        for (int e = 0; e < EXPERTS; e++) {
            double s = 0;
            for (int64_t i = 0; i < b->c->dim; i++)
                s += (double)b->in[t * b->c->dim + i] * (double)b->table[e * b->c->dim + i];
            sum += p[e] = exp(s);
        }
        for (int64_t j = t * TOP_K; j < (t + 1) * TOP_K; j++)
            worst = fmax(worst, fabs((double)b->gate[j] - p[b->expert[j]] / sum));
    }
    return worst;
}

static void run_combine(struct bench *b) {
    must(
        emb_moe_combine(&b->exec, &(emb_moe_combine_args){b->in, b->gate, b->small, b->slot, b->out,
                                                          tokens_of(b->c), b->c->dim, TOP_K, 0}));
}

static double check_combine(struct bench *b) {
    const int64_t dim = b->c->dim;
    double worst = 0;
    for (int64_t t = 0; t < tokens_of(b->c); t += 31)
        for (int64_t i = 0; i < dim; i++) {
            double want = (double)b->small[i];
            for (int64_t j = t * TOP_K; j < (t + 1) * TOP_K; j++)
                want += (double)b->gate[j] * (double)b->in[b->slot[j] * dim + i];
            worst = fmax(worst, fabs((double)b->out[t * dim + i] - want));
        }
    return worst;
}

static void run_attention(struct bench *b) {
    const struct bench_case *c = b->c;
    const int32_t hd = c->dim / c->heads;
    must(emb_attention(&b->exec,
                       &(emb_attention_args){.qkv = b->in,
                                             .out = b->out,
                                             .offsets = b->offsets,
                                             .texts = c->texts,
                                             .heads = c->heads,
                                             .head_dim = hd,
                                             .rotary_dim = c->rotary ? hd : 0,
                                             .scale = 1.0f / sqrtf((float)hd),
                                             .cos = c->rotary ? b->table : NULL,
                                             .sin = c->rotary ? b->table + MAX_LEN * 128 : NULL}));
}

/* The table holds cosines, then sines. */
static double rotated(const struct bench *b, const float *x, int64_t pos, int64_t i) {
    const int64_t hd = b->c->dim / b->c->heads, half = hd / 2;
    if (!b->c->rotary)
        return (double)x[i];
    const double cosine = (double)b->table[pos * half + i % half];
    const double sine = (double)b->table[MAX_LEN * 128 + pos * half + i % half];
    return i < half ? (double)x[i] * cosine - (double)x[i + half] * sine
                    : (double)x[i] * cosine + (double)x[i - half] * sine;
}

static double check_attention(struct bench *b) {
    const struct bench_case *c = b->c;
    const int64_t hd = c->dim / c->heads;
    double worst = 0;
    for (int s = 0; s < 20; s++) {
        const int64_t text = s % c->texts, row = s * 7919 % c->len, head = s % c->heads;
        const float *q = b->in + (text * c->len + row) * 3 * c->dim + head * hd;
        double sum = 0, want[256] = {0};
        for (int64_t j = 0; j < c->len; j++) {
            const float *k = b->in + (text * c->len + j) * 3 * c->dim + head * hd + c->dim;
            double score = 0;
            for (int64_t i = 0; i < hd; i++)
                score += rotated(b, q, row, i) * rotated(b, k, j, i);
            const double weight = exp(score / sqrt((double)hd)); /* scores are small here */
            sum += weight;
            for (int64_t i = 0; i < hd; i++)
                want[i] += weight * (double)k[c->dim + i];
        }
        for (int64_t i = 0; i < hd; i++)
            worst =
                fmax(worst, fabs((double)b->out[(text * c->len + row) * c->dim + head * hd + i] -
                                 want[i] / sum));
    }
    return worst;
}

#define ATTENTION(name, texts, len, dim, rotary)                                                   \
    {                                                                                              \
        name, run_attention, check_attention, texts, len, dim, 12, rotary, 4.0 * (dim),            \
            16.0 * (dim), 3e-6                                                                     \
    }
#define ROWS(name, fn, dim, flops, bytes)                                                          \
    { name, run_##fn, check_##fn, 64, 64, dim, 1, 0, flops, bytes, 1e-5 }

static const struct bench_case cases[] = {
    ROWS("layernorm_384", layernorm, 384, 0, 12.0 * 384),
    ROWS("layernorm_768", layernorm, 768, 0, 12.0 * 768),
    ROWS("lookup_384", lookup, 384, 0, 8.0 * 384),
    ROWS("router_768", router, 768, 2.0 * EXPERTS * 768, 4.0 * 768),
    ROWS("combine_768", combine, 768, 0, 12.0 * 768),
    ATTENTION("attention_hd32_12", 1, 12, 384, 0),
    ATTENTION("attention_hd32_one_128", 1, 128, 384, 0),
    ATTENTION("attention_hd32_four_128", 4, 128, 384, 0),
    ATTENTION("attention_hd32_8", 512, 8, 384, 0),
    ATTENTION("attention_hd32_32", 128, 32, 384, 0),
    ATTENTION("attention_hd32_128", 32, 128, 384, 0),
    ATTENTION("attention_hd32_256", 16, 256, 384, 0),
    ATTENTION("attention_hd32_512", 8, 512, 384, 0),
    ATTENTION("attention_hd64_12", 1, 12, 768, 1),
    ATTENTION("attention_hd64_8", 512, 8, 768, 1),
    ATTENTION("attention_hd64_32", 128, 32, 768, 1),
    ATTENTION("attention_hd64_128", 32, 128, 768, 1),
    ATTENTION("attention_hd64_256", 16, 256, 768, 1),
    ATTENTION("attention_hd64_512", 8, 512, 768, 1),
    ATTENTION("attention_hd64_2048", 2, 2048, 768, 1),
    ATTENTION("attention_hd64_8192", 1, 8192, 768, 1),
};

/* ------------------------------------------------------------------------------------- limits */

static double now(const struct bench *b) {
    struct timespec t;
    clock_gettime(b->clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void peak_task(void *arg, size_t task, int thread) {
    const struct bench *b = arg;
    (void)task;
    (void)thread;
    (void)fma_peak_run(b->exec.isa->id);
}

static double measure_peak(struct bench *b) {
    double best = 0;
    for (int i = 0; i < 10; i++) {
        const double start = now(b);
        emb_pool_run(b->exec.pool, (size_t)b->threads, peak_task, b);
        const double seconds = now(b) - start;
        best = fmax(best, fma_peak_run(b->exec.isa->id) * b->threads / seconds);
    }
    return best * 1e-9;
}

struct copy {
    char *to;
    const char *from;
    size_t chunk;
};

static void copy_task(void *arg, size_t task, int thread) {
    const struct copy *c = arg;
    (void)thread;
    memcpy(c->to + task * c->chunk, c->from + task * c->chunk, c->chunk);
}

/* GB/s, read and written bytes counted, of a copy that moves `bytes` in all. */
static double measure_copy(struct bench *b, double bytes) {
    const size_t tasks = (size_t)b->threads * 8;
    struct copy c = {(char *)b->out, (const char *)b->in, (size_t)(bytes / 2) / tasks};
    double best = 0;
    for (int i = 0; i < 30; i++) {
        const double start = now(b);
        emb_pool_run(b->exec.pool, tasks, copy_task, &c);
        best = fmax(best, 2.0 * (double)(c.chunk * tasks) / (now(b) - start));
    }
    return best * 1e-9;
}

/* --------------------------------------------------------------------------------------- main */

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void run_case(struct bench *b, const struct bench_case *c) {
    static double seconds[BENCH_MAX_REPS];
    const double tokens = (double)tokens_of(c);
    const double flops = c->flops * tokens * (c->run == run_attention ? c->len : 1);
    const double limit = flops > 0 ? b->peak : measure_copy(b, c->bytes * tokens);
    b->c = c;
    for (int i = 0; i < c->texts; i++)
        b->offsets[i + 1] = b->offsets[i] + c->len;
    memset(b->out, 0xff, (size_t)tokens * (size_t)c->dim * sizeof(float));
    c->run(b);
    const double error = c->check(b);
    printf("%s,%s,%d,%d,%d,%d,", c->name, b->exec.isa->name, b->threads, c->texts, (int)tokens,
           b->reps);
    if (!(error <= c->tolerance)) {
        printf("FAIL,,,,,,,%.3g\n", error);
        return;
    }
    for (int i = 0; i < b->reps; i++) {
        const double start = now(b);
        c->run(b);
        seconds[i] = now(b) - start;
    }
    qsort(seconds, (size_t)b->reps, sizeof *seconds, ascending);
    const double best = seconds[0], median = seconds[b->reps / 2], p90 = seconds[b->reps * 9 / 10];
    const double speed = (flops > 0 ? flops : c->bytes * tokens) / median * 1e-9;
    printf("%.4g,%.4g,%.4g,%.4g,%.4g,", best * 1e6, median * 1e6, p90 * 1e6, tokens / median,
           c->bytes * tokens / median * 1e-9);
    if (flops > 0)
        printf("%.4g", flops / median * 1e-9);
    if (limit > 0)
        printf(",%.1f,%.2g\n", 100 * speed / limit, error);
    else
        printf(",,%.2g\n", error);
    fflush(stdout);
}

static void *allocate(struct bench *b, size_t count, size_t size) {
    void *p;
    must(emb_new_array(&b->env, count, size, &p));
    return p;
}

static float noise(uint32_t *seed) {
    *seed = *seed * 1664525u + 1013904223u;
    return (float)(int32_t)*seed * 0x1p-31f;
}

static void fill(struct bench *b) {
    const size_t floats = (size_t)MAX_LEN * 3 * 768, table = (size_t)VOCAB * 384;
    uint32_t seed = 1;
    b->in = allocate(b, floats, sizeof(float));
    b->in2 = allocate(b, floats, sizeof(float));
    b->out = allocate(b, floats, sizeof(float));
    b->small = allocate(b, 4096, sizeof(float));
    b->table = allocate(b, table, sizeof(float));
    b->ids = allocate(b, MAX_LEN, sizeof(int32_t));
    b->offsets = allocate(b, MAX_LEN + 1, sizeof(int32_t));
    b->gate = allocate(b, MAX_LEN * TOP_K, sizeof(float));
    b->expert = allocate(b, MAX_LEN * TOP_K, sizeof(int32_t));
    b->slot = allocate(b, MAX_LEN * TOP_K, sizeof(int32_t));
    b->rows = allocate(b, MAX_LEN * TOP_K, sizeof(int32_t));
    b->expert_offset = allocate(b, EXPERTS + 1, sizeof(int32_t));
    for (size_t i = 0; i < floats; i++) {
        b->in[i] = noise(&seed);
        b->in2[i] = noise(&seed);
    }
    for (size_t i = 0; i < table; i++)
        b->table[i] = 0.1f * noise(&seed);
    for (size_t i = 0; i < 4096; i++)
        b->small[i] = noise(&seed);
    for (int i = 0; i < MAX_LEN; i++)
        b->ids[i] = (int32_t)((uint32_t)i * 7919u % VOCAB);
    for (int i = 0; i < MAX_LEN * TOP_K; i++) {
        b->gate[i] = fabsf(noise(&seed));
        b->slot[i] = (int32_t)((uint32_t)i * 7919u % (4096 * TOP_K));
    }
}

static void start(struct bench *b, int32_t isa) {
    size_t bytes;
    must(emb_env_init(&b->env, NULL, NULL, NULL));
    must(emb_isa_select(&b->exec.isa, isa));
    must(emb_pool_create(&b->exec.pool, &b->env, b->threads));
    must(emb_attention_scratch_bytes(b->exec.isa, MAX_LEN, 64, &bytes));
    b->exec.scratch_bytes = emb_round_up(bytes, EMB_ALIGN); /* more than the router's */
    b->exec.scratch = allocate(b, (size_t)b->threads, b->exec.scratch_bytes);
    fill(b);
}

int main(int argc, char **argv) {
    static struct bench b;
    bench_options o;
    if (!bench_options_read(&o, argc, argv))
        return 2;
    b.clock = o.clock;
    b.reps = o.reps;
    b.threads = o.threads;
    start(&b, o.isa);
    b.peak = measure_peak(&b);
    printf("# compiler %s, %s, %d threads, fma peak %.1f GFLOP/s\n", __VERSION__, b.exec.isa->name,
           b.threads, b.peak);
    printf("case,impl,threads,texts,tokens,reps,best_us,median_us,p90_us,tok_s,gb_s,gflop_s,"
           "pct_peak,max_err\n");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (strstr(cases[i].name, o.only) != NULL)
            run_case(&b, &cases[i]);
    return 0;
}
