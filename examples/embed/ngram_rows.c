/* embed ngram rows: vectors for the n-grams of a list. */
#include <stdio.h>
#include <string.h>

#include "interrupt.h"
#include "job.h"
#include "ngram.h"
#include "units.h"

enum { DERIVE_NOT, DERIVE_LAST, DERIVE_MEAN };

static const option_choice derivations[] = {
    {"last", DERIVE_LAST}, {"mean", DERIVE_MEAN}, {NULL, 0}};
static const option_choice raw_types[] = {
    {"f32", EMBED_F32}, {"f16", EMBED_F16}, {"bf16", EMBED_BF16}, {NULL, 0}};

typedef struct rows_options {
    job job;
    const char *dir, *fgram_dir, *fgrams, *output, *from, *tensor;
    int32_t derive, raw_dtype, batch_tokens;
    device_options device;
    embed_job_fn show; /* what draws the progress */
    uint64_t rows, first;
    int started;
} rows_options;

static options_result parse(int argc, char **argv, rows_options *o) {
    static const command cmd = {
        "ngram rows",
        "-m DIR --fgrams LIST (--fgram-model DIR | --derive last|mean | --from FILE) -o ROWS.npy",
        "Computes one vector for each n-gram of a list, as the rows of a table: with an f-gram\n"
        "model, a checkpoint in the same layout that is fed the word embeddings of the model and\n"
        "whose last token's hidden state is the row. Rows derived from the model's own embeddings\n"
        "need no such model; they show how a table works, they do not make vectors better.",
        "  embed ngram rows -m DIR --fgram-model FDIR --fgrams list.jsonl -o rows.npy --resume\n"
        "  embed ngram rows -m DIR --derive mean --fgrams list.jsonl -o rows.npy\n",
        0,
        0};
    const option_spec table[] = {
        {"input", "fgrams", "LIST",
         "f-gram list, JSON lines {\"ids\":[...],\"count\":n} (required)", &o->fgrams, NULL,
         OPTION_TEXT, 0, 0, 0},
        {"input", "from", "FILE",
         "check and convert rows computed elsewhere, in list order:\n"
         ".npy (f2, f4, f8), .safetensors, or bare numbers",
         &o->from, NULL, OPTION_TEXT, 0, 0, 0},
        {"input", "tensor", "NAME", "tensor of a safetensors --from (its only one)", &o->tensor,
         NULL, OPTION_TEXT, 0, 0, 0},
        {"input", "raw-dtype", "T", "type of bare numbers: f32, f16 or bf16 (f32)", &o->raw_dtype,
         raw_types, OPTION_CHOICE, 0, 0, 0},
        OPTION_MODEL(o->dir),
        {"model", "fgram-model", "DIR",
         "f-gram model; hidden width and vocabulary must be the\nmodel's", &o->fgram_dir, NULL,
         OPTION_TEXT, 0, 0, 0},
        {"model", "derive", "HOW",
         "no f-gram model: last is the word embedding of the last\n"
         "token, a table of these changes nothing; mean is the mean\n"
         "of the n-gram's word embeddings, which shows the mechanism\n"
         "and is no gain in quality",
         &o->derive, derivations, OPTION_CHOICE, 0, 0, 0},
        OPTION_THREADS(o->job.threads),
        OPTION_BATCH_TOKENS(o->batch_tokens),
        OPTIONS_DEVICE(o->device),
        OPTION_MEMORY(o->job.memory),
        OPTION_RESUME(o->job.resume),
        OPTION_PROGRESS(o->job.progress),
        {"output", "output", "FILE", "rows, float32 [n, hidden], a .npy file (required)",
         &o->output, NULL, OPTION_TEXT, 0, 0, 'o'},
        OPTIONS_END};
    int first;
    return options_parse(&cmd, table, argc, argv, &first);
}

static int check(const char *who, const rows_options *o) {
    const int sources = (o->fgram_dir != NULL) + (o->derive != DERIVE_NOT) + (o->from != NULL);
    if (!o->fgrams)
        return tool_usage(who, "--fgrams LIST is missing: the n-grams to compute rows for");
    if (!o->output)
        return tool_usage(who, "-o FILE is missing: where the rows go");
    if (sources != 1)
        return tool_usage(who, "%s: give one of --fgram-model, --derive and --from",
                          sources ? "too many sources of rows" : "no source of rows");
    if (!o->from && (o->tensor || o->raw_dtype))
        return tool_usage(who, "--tensor and --raw-dtype go with --from");
    return EXIT_OK;
}

/* Keeps the numbers for the sum at the end: the first phase only checks the list. */
static int32_t report(void *user, const embed_job_report *r) {
    rows_options *o = user;
    if (strcmp(r->phase, "rows") == 0) {
        if (!o->started)
            o->first = r->done;
        o->started = 1;
        o->rows = r->done;
    }
    return o->show(&o->job, r);
}

static int run(const char *who, rows_options *o, embed_model *model, embed_model *fgram) {
    embed_rows_params params = {.struct_size = sizeof(embed_rows_params)};
    char count[16], rate[16];
    embed_context_params where = EMBED_CONTEXT_PARAMS_INIT;
    if (tool_device(who, &o->device, &where) != EXIT_OK)
        return EXIT_USAGE;
    if (where.n_devices != 0)
        return tool_usage(who, "--device: expected one device, found '%s'", o->device.device);
    if (where.device_flags != 0)
        return tool_usage(who, "--tf32: rows are made in the numbers of --device-dtype");
    params.device = where.device;
    params.device_index = where.device_index;
    params.device_dtype = where.device_dtype;
    params.derive = o->derive == DERIVE_MEAN ? EMBED_ROWS_MEAN : EMBED_ROWS_LAST;
    params.from = o->from;
    params.from_tensor = o->tensor;
    params.from_dtype = o->raw_dtype;
    params.batch_tokens = o->batch_tokens;
    job_start(&o->job, who, &params.job);
    o->show = params.job.report;
    params.job.report = report;
    params.job.user = o;
    const int code =
        job_end(&o->job, embed_ngram_rows(model, fgram, o->fgrams, o->output, &params));
    const double seconds = job_seconds(&o->job);
    if (code == EXIT_OK)
        fprintf(stderr, "%s: %s f-grams in %.1f s: %s f-grams/s\n", o->output,
                units_amount((double)o->rows, count), seconds,
                units_amount((double)(o->rows - o->first) / (seconds > 0 ? seconds : 1), rate));
    return code;
}

int ngram_rows(int argc, char **argv) {
    rows_options o = {0};
    const options_result parsed = parse(argc, argv, &o);
    if (parsed != OPTIONS_RUN)
        return parsed == OPTIONS_HELP ? tool_flush_stdout(argv[0]) : EXIT_USAGE;
    embed_model *model = NULL, *fgram = NULL;
    int code = check(argv[0], &o);
    if (code == EXIT_OK)
        code = tool_open_model(argv[0], o.dir, EMBED_ISA_AUTO, &model);
    if (code == EXIT_OK && o.fgram_dir)
        code = tool_open_model(argv[0], o.fgram_dir, EMBED_ISA_AUTO, &fgram);
    if (code == EXIT_OK)
        code = run(argv[0], &o, model, fgram);
    embed_model_free(fgram);
    embed_model_free(model);
    interrupt_obey();
    return code;
}
