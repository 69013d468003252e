/* embed bench: speed on random token ids, checked first, beside this run's measured peaks. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "peak.h"
#include "progress.h"
#include "tool.h"

#define CHECKED_ROWS 8 /* how many rows are compared with the same row alone */
#define PEAK_REPS 5

typedef struct bench_options {
    const char *dir;
    int32_t threads, batch_tokens, tokens, texts, reps, csv, isa;
} bench_options;

typedef struct bench_case {
    embed_context *ctx;
    embed_model_info info;
    size_t texts, tokens, dim;
    int reps;
    int32_t *ids;    /* [texts, tokens] */
    embed_ids *rows; /* [texts] */
    float *batched, *single;
    double *seconds; /* [reps], sorted */
} bench_case;

/* SplitMix64 (Steele, Lea, Flood 2014): the same ids in every run. */
static uint64_t next_random(uint64_t *state) {
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static int make_case(const char *who, bench_case *b) {
    const size_t ids = b->texts * b->tokens;
    b->dim = (size_t)b->info.dim;
    b->ids = malloc(ids * sizeof *b->ids);
    b->rows = malloc(b->texts * sizeof *b->rows);
    b->batched = malloc(b->texts * b->dim * sizeof *b->batched);
    b->single = malloc(b->dim * sizeof *b->single);
    b->seconds = malloc((size_t)b->reps * sizeof *b->seconds);
    if (!b->ids || !b->rows || !b->batched || !b->single || !b->seconds)
        return tool_fail(who, "not enough memory");
    /* The first ids of a vocabulary are special or unused. */
    const uint64_t low = b->info.vocab > 2000 ? 1000 : (uint64_t)b->info.vocab / 2;
    uint64_t state = 42;
    for (size_t i = 0; i < ids; i++)
        b->ids[i] = (int32_t)(low + next_random(&state) % ((uint64_t)b->info.vocab - low));
    for (size_t i = 0; i < b->texts; i++)
        b->rows[i] = (embed_ids){b->ids + i * b->tokens, b->tokens};
    return EXIT_OK;
}

static int encode(const bench_case *b) {
    return embed_encode_ids(b->ctx, b->rows, b->texts, NULL, b->batched, b->texts * b->dim) ==
           EMBED_OK;
}

/* Greatest difference of a batched row from the same row alone; NaN counts as infinite. */
static int check_rows(const char *who, const bench_case *b, double *max_err) {
    *max_err = 0;
    if (!encode(b))
        return tool_fail(who, "%s", embed_last_error());
    for (size_t i = 0; i < b->texts && i < CHECKED_ROWS; i++) {
        if (embed_encode_ids(b->ctx, &b->rows[i], 1, NULL, b->single, b->dim) != EMBED_OK)
            return tool_fail(who, "%s", embed_last_error());
        for (size_t d = 0; d < b->dim; d++) {
            const double err = fabs((double)b->batched[i * b->dim + d] - (double)b->single[d]);
            if (!(err <= *max_err))
                *max_err = err == err ? err : (double)INFINITY;
        }
    }
    return EXIT_OK;
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int time_calls(const char *who, bench_case *b) {
    for (int r = 0; r < b->reps; r++) {
        const double start = progress_now();
        if (!encode(b))
            return tool_fail(who, "%s", embed_last_error());
        b->seconds[r] = progress_now() - start;
    }
    qsort(b->seconds, (size_t)b->reps, sizeof *b->seconds, ascending);
    return EXIT_OK;
}

static void report(const bench_case *b, int csv, double sgemm, double fma, double max_err) {
    const double best = b->seconds[0], median = b->seconds[b->reps / 2];
    const double p90 = b->seconds[(b->reps * 9 - 1) / 10];
    const double tokens = (double)(b->texts * b->tokens);
    const double flops = tokens * ((double)b->info.flops_per_token +
                                   (double)b->info.flops_per_token_pair * (double)b->tokens);
    const double gflops = 1e-9 * flops / median, peak = sgemm > 0 ? sgemm : fma;
    const int threads = embed_context_threads(b->ctx);
    if (csv) {
        printf("impl,texts,tokens,median_us,p90_us,tok_s,gflop_s,pct_peak,max_err,best_us,reps,"
               "threads,sgemm_gflop_s,fma_gflop_s,model\n");
        printf("embed-%s,%zu,%zu,%.4g,%.4g,%.4g,%.4g,%.4g,%.3g,%.4g,%d,%d,%.4g,%.4g,%s\n",
               b->info.isa, b->texts, b->tokens, 1e6 * median, 1e6 * p90, tokens / median, gflops,
               peak > 0 ? 100 * gflops / peak : 0, max_err, 1e6 * best, b->reps, threads, sgemm,
               fma, b->info.name);
        return;
    }
    printf("model          %s (%s kernels), %d threads\n", b->info.name, b->info.isa, threads);
    printf("case           %zu texts x %zu tokens, %d calls\n", b->texts, b->tokens, b->reps);
    printf("ms per call    %.4g median, %.4g p90, %.4g best\n", 1e3 * median, 1e3 * p90,
           1e3 * best);
    printf("tokens/s       %.4g\n", tokens / median);
    printf("GFLOP/s        %.4g of active work\n", gflops);
    if (sgemm > 0)
        printf("sgemm peak     %.4g GFLOP/s (OpenBLAS): reached %.1f %%\n", sgemm,
               100 * gflops / sgemm);
    else
        printf("sgemm peak     not measured: built without OpenBLAS (libopenblas-serial-dev)\n");
    if (fma > 0)
        printf("register peak  %.4g GFLOP/s: reached %.1f %%\n", fma, 100 * gflops / fma);
    printf("max error      %.3g, batched against alone\n", max_err);
}

static int run(const char *who, const bench_options *o, bench_case *b) {
    double max_err;
    int code = make_case(who, b);
    if (code == EXIT_OK)
        code = check_rows(who, b, &max_err);
    if (code != EXIT_OK)
        return code;
    if (!(max_err == 0)) /* no speed for wrong results */
        return tool_fail(who, "FAIL: a batched row differs from the same row alone by %.3g",
                         max_err);
    const int threads = embed_context_threads(b->ctx);
    double sgemm = peak_sgemm(threads, PEAK_REPS), fma = peak_fma(threads, PEAK_REPS);
    code = time_calls(who, b);
    if (code != EXIT_OK)
        return code;
    sgemm = fmax(sgemm, peak_sgemm(threads, PEAK_REPS)); /* clocks drift: the best of both ends */
    fma = fmax(fma, peak_fma(threads, PEAK_REPS));
    report(b, o->csv, sgemm, fma, max_err);
    return tool_flush_stdout(who);
}

static options_result parse(int argc, char **argv, bench_options *o) {
    static const option_choice isas[] = {{"auto", EMBED_ISA_AUTO},
                                         {"portable", EMBED_ISA_PORTABLE},
                                         {"avx2", EMBED_ISA_AVX2},
                                         {"avx512", EMBED_ISA_AVX512},
                                         {NULL, 0}};
    int first;
    const command cmd = {"bench",
                         "-m DIR [OPTION]...",
                         "Measures encoding of random token ids beside this run's sgemm peak.",
                         "  embed bench -m all-MiniLM-L6-v2 --texts 64 --tokens 128\n"
                         "  embed bench -m all-MiniLM-L6-v2 --texts 1 --tokens 12 --threads 1 "
                         "--csv\n",
                         0,
                         0};
    const option_spec table[] = {
        {"input", "texts", "B", "texts per call (64)", &o->texts, NULL, OPTION_COUNT, 1, 1 << 20,
         0},
        {"input", "tokens", "T", "tokens per text (128, at most the model's limit)", &o->tokens,
         NULL, OPTION_COUNT, 1, 1 << 20, 0},
        OPTION_MODEL(o->dir),
        {"run", "reps", "R", "timed calls (20)", &o->reps, NULL, OPTION_COUNT, 1, 1000000, 0},
        OPTION_THREADS(o->threads),
        OPTION_BATCH_TOKENS(o->batch_tokens),
        {"run", "isa", "ISA", "kernels: auto, portable, avx2 or avx512 (auto)", &o->isa, isas,
         OPTION_CHOICE, 0, 0, 0},
        {"output", "csv", NULL, "a header line and a line of figures", &o->csv, NULL, OPTION_FLAG,
         0, 0, 0},
        OPTIONS_END};
    return options_parse(&cmd, table, argc, argv, &first);
}

int cmd_bench(int argc, char **argv) {
    bench_options o = {.tokens = 128, .texts = 64, .reps = 20};
    const options_result parsed = parse(argc, argv, &o);
    if (parsed != OPTIONS_RUN)
        return parsed == OPTIONS_HELP ? tool_flush_stdout(argv[0]) : EXIT_USAGE;

    embed_context_params params = EMBED_CONTEXT_PARAMS_INIT;
    params.threads = o.threads;
    params.batch_tokens = o.batch_tokens;
    embed_model *model;
    bench_case b = {.texts = (size_t)o.texts, .tokens = (size_t)o.tokens, .reps = o.reps};
    int code = tool_open(argv[0], o.dir, o.isa, &params, &model, &b.ctx);
    if (code != EXIT_OK)
        return code;
    b.info.struct_size = sizeof b.info;
    if (embed_model_get_info(model, &b.info) != EMBED_OK)
        code = tool_fail(argv[0], "%s", embed_last_error());
    else if (o.tokens > b.info.max_tokens)
        code = tool_usage(argv[0], "--tokens %d: the model takes at most %d", o.tokens,
                          b.info.max_tokens);
    else
        code = run(argv[0], &o, &b);
    free(b.ids);
    free(b.rows);
    free(b.batched);
    free(b.single);
    free(b.seconds);
    embed_context_free(b.ctx);
    embed_model_free(model);
    return code;
}
