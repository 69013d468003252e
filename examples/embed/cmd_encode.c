/* embed encode: a file of texts or token ids to a file of vectors, a piece at a time. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "interrupt.h"
#include "progress.h"
#include "row_writer.h"
#include "table_use.h"
#include "text_reader.h"
#include "tool.h"

/* Texts that are read, encoded and written at once: enough for batches of like length, few enough
 * for bounded memory. */
#define PIECE_TEXTS 4096

typedef struct encode_options {
    const char *dir, *input, *output, *prefix, *ranges, *write_ranges;
    int32_t input_format, ids, strict, role, dim, max_tokens, truncate_error, no_normalize,
        normalize, threads, batch_tokens, progress, format, dtype, stats;
    device_options device;
    table_options table;
} encode_options;

typedef struct encode_run {
    const char *who;
    const encode_options *options;
    embed_context *ctx;
    embed_encode_params params;
    text_reader reader;
    row_writer writer;
    progress progress;
    size_t dim, elements; /* of a vector, and of an output row: fewer for packed bits */
    float *ranges;        /* [2, dim] as read for int8, or as seen so far for --write-ranges */
    float *piece_ranges;  /* [2, dim] */
    void *rows;           /* [PIECE_TEXTS, elements] */
    embed_text_report *reports;
    uint64_t texts, cut;
    int32_t limit; /* tokens of a text */
} encode_run;

static const option_choice input_formats[] = {
    {"txt", TEXT_LINES}, {"jsonl", TEXT_JSONL}, {NULL, 0}};
static const option_choice output_formats[] = {{"npy", ROWS_NPY}, {"jsonl", ROWS_JSONL}, {NULL, 0}};
static const option_choice truncations[] = {{"cut", 0}, {"error", 1}, {NULL, 0}};
static const option_choice dtypes[] = {
    {"f32", EMBED_F32},       {"f16", EMBED_F16},         {"int8", EMBED_I8}, {"uint8", EMBED_U8},
    {"binary", EMBED_BINARY}, {"ubinary", EMBED_UBINARY}, {NULL, 0}};

static options_result parse(int argc, char **argv, encode_options *o) {
    int first;
    const command cmd = {"encode",
                         "-m DIR [OPTION]... [-i FILE] [-o FILE]",
                         "Turns each text of a file into a vector.",
                         "  embed encode -m all-MiniLM-L6-v2 -i texts.txt -o vectors.npy\n"
                         "  embed encode -m nomic-embed-text-v2-moe -r document --dim 256 -i "
                         "docs.jsonl -o - > v.npy\n",
                         0,
                         0};
    const option_spec table[] = {
        OPTION_INPUT(o->input),
        OPTION_INPUT_FORMAT(o->input_format, input_formats),
        {"input", "ids", NULL, "lines are JSON arrays of token ids, special tokens included",
         &o->ids, NULL, OPTION_FLAG, 0, 0, 0},
        OPTION_STRICT(o->strict),
        OPTION_MODEL(o->dir),
        OPTION_ROLE(o->role, "none"),
        OPTION_PREFIX(o->prefix),
        OPTION_MAX_TOKENS(o->max_tokens, "longest text in tokens (the model's limit)"),
        {"model", "truncate", "HOW", "longer texts: cut or error (cut)", &o->truncate_error,
         truncations, OPTION_CHOICE, 0, 0, 0},
        OPTIONS_USE_TABLE(o->table),
        OPTION_THREADS(o->threads),
        OPTION_BATCH_TOKENS(o->batch_tokens),
        OPTIONS_DEVICE(o->device),
        {"run", "progress", NULL, "report progress even if stderr is no terminal", &o->progress,
         NULL, OPTION_FLAG, 0, 0, 0},
        {"output", "output", "FILE", "file to write, - is standard output (-)", &o->output, NULL,
         OPTION_TEXT, 0, 0, 'o'},
        {"output", "format", "F", "npy or jsonl (by the end of the file's name, else npy)",
         &o->format, output_formats, OPTION_CHOICE, 0, 0, 0},
        {"output", "dim", "D", "keep the first D dimensions (all)", &o->dim, NULL, OPTION_COUNT, 1,
         INT32_MAX, 0},
        {"output", "no-normalize", NULL, "leave out the checkpoint's L2 normalisation",
         &o->no_normalize, NULL, OPTION_FLAG, 0, 0, 0},
        {"output", "normalize", NULL, "normalise even if the checkpoint does not", &o->normalize,
         NULL, OPTION_FLAG, 0, 0, 0},
        {"output", "dtype", "TYPE", "f32, f16, int8, uint8, binary or ubinary (f32)", &o->dtype,
         dtypes, OPTION_CHOICE, 0, 0, 0},
        {"output", "ranges", "FILE",
         ".npy [2, D] of least and greatest values, for int8\n"
         "and uint8",
         &o->ranges, NULL, OPTION_TEXT, 0, 0, 0},
        {"output", "write-ranges", "FILE", "write that file for these vectors", &o->write_ranges,
         NULL, OPTION_TEXT, 0, 0, 0},
        {"output", "stats", NULL,
         "what the table did: a JSON object on standard output,\n"
         "or on standard error where the vectors go there",
         &o->stats, NULL, OPTION_FLAG, 0, 0, 0},
        OPTIONS_END};
    return options_parse(&cmd, table, argc, argv, &first);
}

/* Options that contradict each other. */
static int check(const char *who, const encode_options *o) {
    const int calibrated = o->dtype == EMBED_I8 || o->dtype == EMBED_U8;
    if (o->normalize && o->no_normalize)
        return tool_usage(who, "--normalize and --no-normalize contradict each other");
    if (o->ids && (o->prefix || o->role || o->max_tokens || o->input_format || o->strict))
        return tool_usage(who, "--ids takes no --role, --prefix, --max-tokens, --input-format or "
                               "--strict-utf8");
    if (o->prefix && o->role)
        return tool_usage(who, "--prefix and --role contradict each other");
    if (calibrated && !o->ranges)
        return tool_usage(who, "int8 and uint8 need --ranges FILE, which --write-ranges makes");
    if (!calibrated && o->ranges)
        return tool_usage(who, "--ranges is only for --dtype int8 and uint8");
    if (o->write_ranges && o->dtype != EMBED_F32)
        return tool_usage(who, "--write-ranges needs --dtype f32");
    if (o->stats && !o->table.path)
        return tool_usage(who, "--stats needs --table DIR");
    return table_use_check(who, &o->table);
}

static void set_params(encode_run *run) {
    const encode_options *o = run->options;
    run->params = (embed_encode_params)EMBED_ENCODE_PARAMS_INIT;
    run->params.role = o->role;
    run->params.flags =
        (o->no_normalize ? EMBED_NO_NORMALIZE : 0) | (o->normalize ? EMBED_NORMALIZE : 0) |
        (o->truncate_error ? EMBED_TRUNCATE_ERROR : 0) | (o->strict ? EMBED_UTF8_REFUSE : 0);
    run->params.prefix = o->prefix;
    run->params.prefix_len = o->prefix ? strlen(o->prefix) : 0;
    run->params.dim = o->dim;
    run->params.max_tokens = o->max_tokens;
    run->params.output = o->dtype;
    run->params.progress = progress_callback;
    run->params.progress_user = &run->progress;
}

/* Sizes and buffers, once the model is open. */
static int prepare(encode_run *run, const embed_model *model) {
    embed_model_info info = {.struct_size = sizeof info};
    if (embed_model_get_info(model, &info) != EMBED_OK)
        return tool_fail(run->who, "%s", embed_last_error());
    run->limit = run->params.max_tokens ? run->params.max_tokens : info.max_tokens;
    run->dim = (size_t)(run->params.dim ? run->params.dim : info.dim);
    run->ranges = malloc(2 * run->dim * sizeof *run->ranges);
    run->params.ranges = run->options->ranges ? run->ranges : NULL;
    if (embed_output_len(model, &run->params, 1, &run->elements) != EMBED_OK)
        return tool_fail(run->who, "%s", embed_last_error());
    run->rows = malloc(PIECE_TEXTS * run->elements * sizeof(float));
    run->reports = malloc(PIECE_TEXTS * sizeof *run->reports);
    run->piece_ranges = malloc(2 * run->dim * sizeof *run->ranges);
    if (!run->rows || !run->reports || !run->ranges || !run->piece_ranges)
        return tool_fail(run->who, "not enough memory");
    run->params.reports = run->reports;
    if (!run->options->ranges)
        return EXIT_OK;
    return npy_read(run->who, run->options->ranges, 2, run->dim, run->ranges);
}

static int widen_ranges(encode_run *run, size_t n) {
    if (embed_quantize_ranges(run->rows, n, run->dim, run->piece_ranges) != EMBED_OK)
        return tool_fail(run->who, "%s", embed_last_error());
    const float *low = run->piece_ranges, *high = run->piece_ranges + run->dim;
    for (size_t d = 0; d < run->dim; d++) {
        float *least = &run->ranges[d], *greatest = &run->ranges[run->dim + d];
        *least = run->texts == 0 || low[d] < *least ? low[d] : *least;
        *greatest = run->texts == 0 || high[d] > *greatest ? high[d] : *greatest;
    }
    return EXIT_OK;
}

static int encode_piece(encode_run *run, const text_piece *piece) {
    const size_t n = piece->n, cap = n * run->elements;
    progress_piece_begin(&run->progress, piece->bytes);
    const embed_status st =
        run->options->ids
            ? embed_encode_ids(run->ctx, piece->tokens, n, &run->params, run->rows, cap)
            : embed_encode(run->ctx, piece->texts, n, &run->params, run->rows, cap);
    if (interrupt_seen())
        return EXIT_FAILED;
    if (st != EMBED_OK)
        return tool_fail(run->who, "%s: lines %llu to %llu: %s", run->reader.name,
                         (unsigned long long)piece->lines[0],
                         (unsigned long long)piece->lines[n - 1], embed_last_error());
    int code = EXIT_OK;
    if (run->options->write_ranges)
        code = widen_ranges(run, n);
    if (code == EXIT_OK)
        code = row_writer_write(&run->writer, run->rows, n, piece->ids, run->reports);
    uint64_t tokens = 0;
    for (size_t i = 0; i < n; i++) {
        tokens += (uint64_t)run->reports[i].tokens;
        run->cut += run->reports[i].truncated != 0;
    }
    run->texts += n;
    progress_piece_end(&run->progress, n, tokens);
    return code;
}

static int write_ranges(encode_run *run) {
    if (run->texts == 0)
        return tool_fail(run->who, "%s: no texts, so there are no ranges to write",
                         run->reader.name);
    row_writer w;
    int code =
        row_writer_open(&w, run->who, run->options->write_ranges, ROWS_NPY, EMBED_F32, run->dim);
    if (code == EXIT_OK)
        code = row_writer_write(&w, run->ranges, 2, NULL, NULL);
    if (code == EXIT_OK)
        code = row_writer_finish(&w);
    row_writer_close(&w);
    return code;
}

static int encode_all(encode_run *run) {
    const encode_options *o = run->options;
    int code = row_writer_open(&run->writer, run->who, o->output, (row_format)o->format, o->dtype,
                               run->elements);
    if (code != EXIT_OK)
        return code;
    progress_start(&run->progress, run->reader.file_bytes, o->progress);
    const text_piece *piece;
    while ((code = text_reader_next(&run->reader, PIECE_TEXTS, &piece)) == EXIT_OK && piece->n > 0)
        if ((code = encode_piece(run, piece)) != EXIT_OK)
            break;
    if (code == EXIT_OK && o->write_ranges)
        code = write_ranges(run);
    if (code == EXIT_OK)
        code = row_writer_finish(&run->writer);
    progress_end(&run->progress, code == EXIT_OK);
    if (code == EXIT_OK && run->cut)
        fprintf(stderr, "%s: %llu of %llu texts were cut to %d tokens\n", run->who,
                (unsigned long long)run->cut, (unsigned long long)run->texts, run->limit);
    return code;
}

/* Open the input, encode all of it and say what the table did. */
static int encode_input(encode_run *run, const embed_model *model, embed_table *table) {
    const encode_options *o = run->options;
    int code = prepare(run, model);
    if (code == EXIT_OK)
        code = text_reader_open(&run->reader, run->who, o->input,
                                o->ids ? TEXT_IDS : (text_format)o->input_format);
    if (code == EXIT_OK)
        code = encode_all(run);
    const int to_file = o->output && strcmp(o->output, "-") != 0;
    if (code == EXIT_OK && o->stats)
        code = table_use_print(run->who, table, to_file ? stdout : stderr);
    if (code == EXIT_OK && to_file)
        code = tool_flush_stdout(run->who);
    return code;
}

int cmd_encode(int argc, char **argv) {
    encode_options options = {.dtype = EMBED_F32, .table = TABLE_OPTIONS_INIT};
    const options_result parsed = parse(argc, argv, &options);
    if (parsed != OPTIONS_RUN)
        return parsed == OPTIONS_HELP ? tool_flush_stdout(argv[0]) : EXIT_USAGE;
    int code = check(argv[0], &options);
    if (code != EXIT_OK)
        return code;

    embed_context_params params = EMBED_CONTEXT_PARAMS_INIT;
    params.threads = options.threads;
    params.batch_tokens = options.batch_tokens;
    if (tool_device(argv[0], &options.device, &params) != EXIT_OK ||
        table_use_place(argv[0], &options.table, &params) != EXIT_OK)
        return EXIT_USAGE;
    encode_run run = {.who = argv[0], .options = &options};
    set_params(&run);
    embed_model *model;
    code = tool_open(argv[0], options.dir, EMBED_ISA_AUTO, &params, &model, &run.ctx);
    if (code != EXIT_OK)
        return code;
    interrupt_catch();
    embed_table *table;
    code = table_use_attach(argv[0], &options.table, model, run.ctx, &table);
    if (code == EXIT_OK)
        code = encode_input(&run, model, table);
    row_writer_close(&run.writer);
    text_reader_close(&run.reader);
    free(run.rows);
    free(run.reports);
    free(run.ranges);
    free(run.piece_ranges);
    embed_context_free(run.ctx);
    embed_table_free(table);
    embed_model_free(model);
    interrupt_obey();
    return code;
}
