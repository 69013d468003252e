/* embed bench: speed on random token ids, checked first, beside this run's measured peaks. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "choices_out.h"
#include "peak.h"
#include "progress.h"
#include "table_use.h"
#include "tool.h"

#define CHECKED_ROWS 8 /* how many rows are compared with the same row alone */
#define PEAK_REPS 5
#define PRODUCTS_ERROR 0.05 /* between batches of several sizes, where a library multiplies */
#define FILL_ROWS 48        /* n-grams that are read at once */

typedef struct bench_options {
    const char *dir;
    int32_t threads, batch_tokens, tokens, texts, reps, csv, json, isa;
    device_options device;
    table_options table;
} bench_options;

/* GFLOP/s of this run, of the CPU; 0: not measured */
typedef struct bench_peaks {
    double sgemm, fma;
} bench_peaks;

typedef struct bench_case {
    embed_context *ctx;
    const char *device; /* as asked for; NULL: the CPU */
    embed_model_info info;
    size_t texts, tokens, dim;
    int reps;
    int32_t *ids;    /* [texts, tokens] */
    embed_ids *rows; /* [texts] */
    float *batched, *single;
    double *seconds;                /* [reps], sorted */
    embed_table *table;             /* ctx uses it, plain does not; NULL: none */
    embed_context *plain;           /* for the comparison */
    double *plain_seconds, *ratios; /* [reps], sorted */
} bench_case;

/* SplitMix64 (Steele, Lea, Flood 2014): the same ids in every run. */
static uint64_t next_random(uint64_t *state) {
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/* Ids that the table knows: n-grams side by side, frequent ones (rows are in order of count) more
 * often, as in real text. */
static int fill_from_table(const char *who, const bench_case *b) {
    embed_table_info info = {.struct_size = sizeof info};
    const size_t ids = b->texts * b->tokens;
    uint64_t state = 43;
    if (embed_table_get_info(b->table, &info) != EMBED_OK)
        return tool_fail(who, "%s", embed_last_error());
    for (size_t at = 0; at < ids && info.rows > 0;) {
        int64_t rows[FILL_ROWS];
        embed_ngram ngrams[FILL_ROWS];
        for (int i = 0; i < FILL_ROWS; i++) {
            const double u = (double)(next_random(&state) >> 11) * 0x1p-53;
            rows[i] = (int64_t)((double)info.rows * u * u * u);
        }
        if (embed_table_fetch(b->table, rows, FILL_ROWS, NULL, 0, ngrams) != EMBED_OK)
            return tool_fail(who, "%s", embed_last_error());
        for (int i = 0; i < FILL_ROWS; i++)
            for (int t = 0; t < ngrams[i].length && at < ids; t++)
                b->ids[at++] = ngrams[i].ids[t] < b->info.vocab ? ngrams[i].ids[t] : 0;
    }
    return EXIT_OK;
}

static int make_case(const char *who, bench_case *b) {
    const size_t ids = b->texts * b->tokens;
    b->dim = (size_t)b->info.dim;
    b->ids = malloc(ids * sizeof *b->ids);
    b->rows = malloc(b->texts * sizeof *b->rows);
    b->batched = malloc(b->texts * b->dim * sizeof *b->batched);
    b->single = malloc(b->dim * sizeof *b->single);
    b->seconds = malloc((size_t)b->reps * sizeof *b->seconds);
    b->plain_seconds = malloc((size_t)b->reps * sizeof *b->plain_seconds);
    b->ratios = malloc((size_t)b->reps * sizeof *b->ratios);
    if (!b->ids || !b->rows || !b->batched || !b->single || !b->seconds || !b->plain_seconds ||
        !b->ratios)
        return tool_fail(who, "not enough memory");
    /* The first ids of a vocabulary are special or unused. */
    const uint64_t low = b->info.vocab > 2000 ? 1000 : (uint64_t)b->info.vocab / 2;
    uint64_t state = 42;
    for (size_t i = 0; i < ids; i++)
        b->ids[i] = (int32_t)(low + next_random(&state) % ((uint64_t)b->info.vocab - low));
    for (size_t i = 0; i < b->texts; i++)
        b->rows[i] = (embed_ids){b->ids + i * b->tokens, b->tokens};
    return b->table ? fill_from_table(who, b) : EXIT_OK;
}

static int encode(const bench_case *b, embed_context *ctx) {
    return embed_encode_ids(ctx, b->rows, b->texts, NULL, b->batched, b->texts * b->dim) ==
           EMBED_OK;
}

/* Greatest difference of a batched row from the same row alone; NaN counts as infinite. */
static int check_rows(const char *who, const bench_case *b, double *max_err) {
    *max_err = 0;
    if (!encode(b, b->ctx))
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

static int time_call(const char *who, const bench_case *b, embed_context *ctx, double *seconds) {
    const double start = progress_now();
    if (!encode(b, ctx))
        return tool_fail(who, "%s", embed_last_error());
    *seconds = progress_now() - start;
    return EXIT_OK;
}

/* With a table: calls with and without it take turns, and so does which of the two goes first. */
static int time_calls(const char *who, bench_case *b) {
    for (int r = 0; r < b->reps; r++) {
        int code = EXIT_OK;
        for (int turn = 0; turn < 2 && code == EXIT_OK; turn++)
            if (turn == r % 2)
                code = time_call(who, b, b->ctx, &b->seconds[r]);
            else if (b->plain)
                code = time_call(who, b, b->plain, &b->plain_seconds[r]);
        if (code != EXIT_OK)
            return code;
        b->ratios[r] = b->plain ? b->seconds[r] / b->plain_seconds[r] : 1;
    }
    qsort(b->seconds, (size_t)b->reps, sizeof *b->seconds, ascending);
    qsort(b->plain_seconds, b->plain ? (size_t)b->reps : 0, sizeof *b->seconds, ascending);
    qsort(b->ratios, (size_t)b->reps, sizeof *b->ratios, ascending);
    return EXIT_OK;
}

/* The table's part of the report: figures of the last call with it. */
static int report_table(const char *who, const bench_case *b, int csv) {
    embed_table_stats s = {.struct_size = sizeof s};
    if (embed_context_get_table_stats(b->ctx, &s) != EMBED_OK)
        return tool_fail(who, "%s", embed_last_error());
    const double positions = s.positions ? (double)s.positions : 1;
    const double matched = (double)(s.positions - s.hits[0]) / positions;
    const int middle = b->reps / 2;
    if (csv) {
        printf("table_over_none,none_median_us,matched,distinct_rows,fetch_us,wait_us\n");
        printf("%.4f,%.4g,%.4f,%llu,%.4g,%.4g\n", b->ratios[middle], 1e6 * b->plain_seconds[middle],
               matched, (unsigned long long)s.distinct_rows, 1e6 * s.fetch_seconds,
               1e6 * s.wait_seconds);
        return EXIT_OK;
    }
    printf("without table  %.4g ms median; with it %.2f %% more (median of %d pairs)\n",
           1e3 * b->plain_seconds[middle], 100 * (b->ratios[middle] - 1), b->reps);
    printf("table          %.1f %% of positions matched, %llu distinct rows a call\n",
           100 * matched, (unsigned long long)s.distinct_rows);
    printf("rows           %.4g ms to find and bring, encoder waited %.4g ms (%.2f %%)\n",
           1e3 * s.fetch_seconds, 1e3 * s.wait_seconds, 100 * s.wait_seconds / b->seconds[middle]);
    return EXIT_OK;
}

/* Clocks drift: the best of all measurements. */
static void measure_peaks(bench_peaks *p, int threads) {
    p->sgemm = fmax(p->sgemm, peak_sgemm(threads, PEAK_REPS));
    p->fma = fmax(p->fma, peak_fma(threads, PEAK_REPS));
}

static void print_peaks(const bench_case *b, const bench_peaks *p, double gflops) {
    if (b->device)
        printf("peak           not measured for devices: sh bench/gpu.sh does\n");
    else if (p->sgemm > 0)
        printf("sgemm peak     %.4g GFLOP/s (OpenBLAS): reached %.1f %%\n", p->sgemm,
               100 * gflops / p->sgemm);
    else
        printf("sgemm peak     not measured: built without OpenBLAS (libopenblas-serial-dev)\n");
    if (p->fma > 0)
        printf("register peak  %.4g GFLOP/s: reached %.1f %%\n", p->fma, 100 * gflops / p->fma);
}

static void report(const bench_case *b, int csv, const bench_peaks *p, double max_err) {
    const double best = b->seconds[0], median = b->seconds[b->reps / 2];
    const double p90 = b->seconds[(b->reps * 9 - 1) / 10];
    const double tokens = (double)(b->texts * b->tokens);
    const double flops = tokens * ((double)b->info.flops_per_token +
                                   (double)b->info.flops_per_token_pair * (double)b->tokens);
    const double gflops = 1e-9 * flops / median, peak = p->sgemm > 0 ? p->sgemm : p->fma;
    const char *runs_on = b->device ? b->device : b->info.isa;
    const int threads = embed_context_threads(b->ctx);
    if (csv) {
        printf("impl,texts,tokens,median_us,p90_us,tok_s,gflop_s,pct_peak,max_err,best_us,reps,"
               "threads,sgemm_gflop_s,fma_gflop_s,model\n");
        printf("embed-%.*s,%zu,%zu,%.4g,%.4g,%.4g,%.4g,%.4g,%.3g,%.4g,%d,%d,%.4g,%.4g,%s\n",
               (int)strcspn(runs_on, ":"), runs_on, b->texts, b->tokens, 1e6 * median, 1e6 * p90,
               tokens / median, gflops, peak > 0 ? 100 * gflops / peak : 0, max_err, 1e6 * best,
               b->reps, threads, p->sgemm, p->fma, b->info.name);
        return;
    }
    printf("model          %s (%s%s), %d threads\n", b->info.name, runs_on,
           b->device ? "" : " kernels", threads);
    printf("case           %zu texts x %zu tokens, %d calls\n", b->texts, b->tokens, b->reps);
    printf("ms per call    %.4g median, %.4g p90, %.4g best\n", 1e3 * median, 1e3 * p90,
           1e3 * best);
    printf("tokens/s       %.4g\n", tokens / median);
    printf("GFLOP/s        %.4g of active work\n", gflops);
    print_peaks(b, p, gflops);
    printf("max error      %.3g, batched against alone\n", max_err);
}

static int report_json(const char *who, const bench_case *b, double max_err) {
    json_value *root;
    json_doc *doc = json_out_new(&root);
    const double median = b->seconds[b->reps / 2], tokens = (double)(b->texts * b->tokens);
    json_out_text(doc, root, "model", b->info.name);
    json_out_uint(doc, root, "texts", b->texts);
    json_out_uint(doc, root, "tokens", b->tokens);
    json_out_real(doc, root, "median_us", 1e6 * median);
    json_out_real(doc, root, "best_us", 1e6 * b->seconds[0]);
    json_out_real(doc, root, "tokens_per_second", tokens / median);
    json_out_real(doc, root, "max_err", max_err);
    const int code = choices_json(who, b->ctx, doc, root);
    const int printed = json_out_print(doc, who, stdout);
    return code != EXIT_OK ? code : printed;
}

static int run(const char *who, const bench_options *o, bench_case *b) {
    double max_err;
    int code = make_case(who, b);
    if (code == EXIT_OK)
        code = check_rows(who, b, &max_err);
    if (code != EXIT_OK)
        return code;
    const int library = choices_count(who, b->ctx);
    if (library < 0)
        return EXIT_FAILED;
    if (!(max_err <= (library > 0 ? PRODUCTS_ERROR : 0))) /* no speed for wrong results */
        return tool_fail(who, "FAIL: a batched row differs from the same row alone by %.3g",
                         max_err);
    const int threads = embed_context_threads(b->ctx);
    bench_peaks peaks = {0, 0};
    const int with_peaks = !b->device && !o->json;
    if (with_peaks)
        measure_peaks(&peaks, threads);
    code = time_calls(who, b);
    if (code != EXIT_OK)
        return code;
    if (with_peaks)
        measure_peaks(&peaks, threads);
    if (o->json)
        return report_json(who, b, max_err);
    report(b, o->csv, &peaks, max_err);
    if (!o->csv && o->device.device && choices_print(who, b->ctx) != EXIT_OK)
        return EXIT_FAILED;
    if (b->table && report_table(who, b, o->csv) != EXIT_OK)
        return EXIT_FAILED;
    return tool_flush_stdout(who);
}

static options_result parse(int argc, char **argv, bench_options *o) {
    static const option_choice isas[] = {{"auto", EMBED_ISA_AUTO},
                                         {"portable", EMBED_ISA_PORTABLE},
                                         {"avx2", EMBED_ISA_AVX2},
                                         {"avx512", EMBED_ISA_AVX512},
                                         {NULL, 0}};
    int first;
    const command cmd = {
        "bench",
        "-m DIR [OPTION]...",
        "Measures encoding of random token ids, on the CPU beside its sgemm peak. With --table\n"
        "the ids are n-grams of the table, and calls with and without it take "
        "turns.",
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
        OPTIONS_USE_TABLE(o->table),
        {"run", "reps", "R", "timed calls (20)", &o->reps, NULL, OPTION_COUNT, 1, 1000000, 0},
        OPTION_THREADS(o->threads),
        OPTION_BATCH_TOKENS(o->batch_tokens),
        OPTIONS_DEVICE(o->device),
        {"run", "isa", "ISA", "kernels: auto, portable, avx2 or avx512 (auto)", &o->isa, isas,
         OPTION_CHOICE, 0, 0, 0},
        {"output", "json", NULL, "one JSON object, with what runs the products on a device",
         &o->json, NULL, OPTION_FLAG, 0, 0, 0},
        {"output", "csv", NULL, "a header line and a line of figures", &o->csv, NULL, OPTION_FLAG,
         0, 0, 0},
        OPTIONS_END};
    return options_parse(&cmd, table, argc, argv, &first);
}

int cmd_bench(int argc, char **argv) {
    bench_options o = {.tokens = 128, .texts = 64, .reps = 20, .table = TABLE_OPTIONS_INIT};
    const options_result parsed = parse(argc, argv, &o);
    if (parsed != OPTIONS_RUN)
        return parsed == OPTIONS_HELP ? tool_flush_stdout(argv[0]) : EXIT_USAGE;

    if (table_use_check(argv[0], &o.table) != EXIT_OK)
        return EXIT_USAGE;
    embed_context_params params = EMBED_CONTEXT_PARAMS_INIT;
    params.threads = o.threads;
    params.batch_tokens = o.batch_tokens;
    if (tool_device(argv[0], &o.device, &params) != EXIT_OK ||
        table_use_place(argv[0], &o.table, &params) != EXIT_OK)
        return EXIT_USAGE;
    embed_model *model;
    bench_case b = {.texts = (size_t)o.texts, .tokens = (size_t)o.tokens, .reps = o.reps};
    b.device = params.device == EMBED_DEVICE_CPU ? NULL : o.device.device;
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
        code = table_use_attach(argv[0], &o.table, model, b.ctx, &b.table);
    if (code == EXIT_OK && b.table && embed_context_create(&b.plain, model, &params) != EMBED_OK)
        code = tool_fail(argv[0], "%s", embed_last_error());
    if (code == EXIT_OK)
        code = run(argv[0], &o, &b);
    free(b.ids);
    free(b.rows);
    free(b.batched);
    free(b.single);
    free(b.seconds);
    free(b.plain_seconds);
    free(b.ratios);
    embed_context_free(b.plain);
    embed_context_free(b.ctx);
    embed_table_free(b.table);
    embed_model_free(model);
    return code;
}
