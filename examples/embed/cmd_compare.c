/* embed compare: the same texts on the CPU and on a device, and how far apart their vectors are. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text_reader.h"
#include "tool.h"

#define PIECE_TEXTS 512
#define BOUND_F32 2e-5 /* of a vector of unit length, as embed.h promises */

static const char *const own_texts[] = {
    "",
    "a cat sleeps",
    "Der Kater schläft auf dem Sofa, während es draußen regnet.",
    ("The attention of every head goes over the whole text and over nothing but the text, so that "
     "texts of very different lengths lie end to end in one batch and none notices the others."),
    ("1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 "
     "35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63 64 "
     "65"),
    "一只猫在睡觉",
    "?!"};

typedef struct compare_options {
    const char *dir, *input;
    int32_t input_format, role, threads, batch_tokens;
    device_options device;
} compare_options;

typedef struct comparison {
    const char *who;
    embed_context *cpu, *device;
    size_t dim;
    int32_t role;
    uint64_t texts, tokens, worst_text;
    double worst, least_cosine;
} comparison;

static options_result parse(int argc, char **argv, compare_options *o) {
    static const option_choice formats[] = {{"txt", TEXT_LINES}, {"jsonl", TEXT_JSONL}, {NULL, 0}};
    static const command cmd = {
        "compare",
        "-m DIR --device DEVICE [OPTION]...",
        "Encodes texts on the CPU and on a device and prints how far apart the vectors are. Exit\n"
        "status 1 if that is more than the library promises for f32.",
        "  embed compare -m nomic-embed-text-v2-moe --device cuda -i texts.txt\n"
        "  build/emulation/bin/embed compare -m all-MiniLM-L6-v2 --device emulated\n",
        0,
        0};
    const option_spec table[] = {{"input", "input", "FILE",
                                  "file of texts, - is standard input (a few of its own)",
                                  &o->input, NULL, OPTION_TEXT, 0, 0, 'i'},
                                 OPTION_INPUT_FORMAT(o->input_format, formats),
                                 OPTION_MODEL(o->dir),
                                 OPTION_ROLE(o->role, "none"),
                                 OPTION_THREADS(o->threads),
                                 OPTION_BATCH_TOKENS(o->batch_tokens),
                                 OPTIONS_DEVICE(o->device),
                                 OPTIONS_END};
    int first;
    return options_parse(&cmd, table, argc, argv, &first);
}

static void judge(comparison *c, const float *a, const float *b, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const float *x = a + i * c->dim, *y = b + i * c->dim;
        const double cosine = (double)embed_cosine(x, y, c->dim);
        double worst = 0;
        int both_zero = 1; /* of which there is no cosine */
        for (size_t d = 0; d < c->dim; d++) {
            const double difference = fabs((double)x[d] - (double)y[d]);
            worst = difference > worst || isnan(difference) ? difference : worst;
            both_zero &= x[d] == 0 && y[d] == 0;
        }
        if (!(worst <= c->worst) && !isnan(c->worst)) { /* what is no number stays the worst */
            c->worst = worst;
            c->worst_text = c->texts + i + 1;
        }
        if (!both_zero && !(cosine >= c->least_cosine) && !isnan(c->least_cosine))
            c->least_cosine = cosine;
    }
    c->texts += n;
}

static int compare_texts(comparison *c, const embed_text *texts, size_t n) {
    embed_encode_params params = EMBED_ENCODE_PARAMS_INIT;
    embed_text_report *reports = calloc(n, sizeof *reports);
    float *vectors = calloc(2 * n * c->dim, sizeof *vectors);
    int code = EXIT_OK;
    params.role = c->role;
    params.flags = EMBED_NORMALIZE;
    params.reports = reports;
    if (!vectors || !reports)
        code = tool_fail(c->who, "not enough memory");
    else if (embed_encode(c->cpu, texts, n, &params, vectors, n * c->dim) != EMBED_OK ||
             embed_encode(c->device, texts, n, &params, vectors + n * c->dim, n * c->dim) !=
                 EMBED_OK)
        code = tool_fail(c->who, "%s", embed_last_error());
    else
        judge(c, vectors, vectors + n * c->dim, n);
    for (size_t i = 0; code == EXIT_OK && i < n; i++)
        c->tokens += (uint64_t)reports[i].tokens;
    free(vectors);
    free(reports);
    return code;
}

static int compare_all(comparison *c, const compare_options *o) {
    text_reader reader;
    const text_piece *piece;
    if (!o->input) {
        enum { N = sizeof own_texts / sizeof own_texts[0] };
        embed_text texts[N];
        for (size_t i = 0; i < N; i++)
            texts[i] = (embed_text){own_texts[i], strlen(own_texts[i])};
        return compare_texts(c, texts, N);
    }
    int code = text_reader_open(&reader, c->who, o->input, (text_format)o->input_format);
    while (code == EXIT_OK && (code = text_reader_next(&reader, PIECE_TEXTS, &piece)) == EXIT_OK &&
           piece->n > 0)
        code = compare_texts(c, piece->texts, piece->n);
    text_reader_close(&reader);
    return code;
}

/* exact: f32 throughout */
static int print(const comparison *c, int exact) {
    if (c->texts == 0)
        return tool_fail(c->who, "no text to compare");
    printf("%llu texts of %llu tokens: greatest difference of a component %.2g (text %llu), least "
           "cosine %.9f\n",
           (unsigned long long)c->texts, (unsigned long long)c->tokens, c->worst,
           (unsigned long long)c->worst_text, c->least_cosine);
    const int code = tool_flush_stdout(c->who);
    if (!exact && !isnan(c->worst))
        return code; /* 16-bit types and tf32 have no bound for every model */
    if (!(c->worst <= BOUND_F32))
        return tool_fail(c->who, "expected a difference of at most %.2g in f32", BOUND_F32);
    return code;
}

int cmd_compare(int argc, char **argv) {
    compare_options o = {.dir = NULL};
    const options_result parsed = parse(argc, argv, &o);
    if (parsed != OPTIONS_RUN)
        return parsed == OPTIONS_HELP ? tool_flush_stdout(argv[0]) : EXIT_USAGE;
    if (!o.device.device)
        return tool_usage(argv[0], "--device DEVICE is missing: what to compare the CPU with");
    embed_context_params cpu = EMBED_CONTEXT_PARAMS_INIT;
    cpu.threads = o.threads;
    cpu.batch_tokens = o.batch_tokens;
    embed_context_params device = cpu;
    if (tool_device(argv[0], &o.device, &device) != EXIT_OK)
        return EXIT_USAGE;
    embed_model *model;
    embed_model_info info = {.struct_size = sizeof info};
    comparison c = {.who = argv[0], .role = o.role, .worst = -1, .least_cosine = 1};
    int code = tool_open(argv[0], o.dir, EMBED_ISA_AUTO, &cpu, &model, &c.cpu);
    if (code != EXIT_OK)
        return code;
    if (embed_model_get_info(model, &info) != EMBED_OK ||
        embed_context_create(&c.device, model, &device) != EMBED_OK)
        code = tool_fail(argv[0], "%s", embed_last_error());
    c.dim = (size_t)info.dim;
    if (code == EXIT_OK)
        code = compare_all(&c, &o);
    if (code == EXIT_OK)
        code =
            print(&c, o.device.tf32 == 0 && (o.device.dtype == 0 || o.device.dtype == EMBED_F32));
    embed_context_free(c.device);
    embed_context_free(c.cpu);
    embed_model_free(model);
    return code;
}
