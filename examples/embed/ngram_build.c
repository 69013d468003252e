/* embed ngram build: a table from an f-gram list and the vectors that belong to it. */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <time.h>

#include "interrupt.h"
#include "job.h"
#include "make_options.h"
#include "ngram.h"

const option_choice row_dtypes[] = {
    {"f32", EMBED_F32}, {"f16", EMBED_F16}, {"bf16", EMBED_BF16}, {"int8", EMBED_I8}, {NULL, 0}};

static const option_choice combines[] = {
    {"replace", EMBED_TABLE_REPLACE}, {"add", EMBED_TABLE_ADD}, {NULL, 0}};

const char *make_today(char out[16]) {
    const time_t now = time(NULL);
    struct tm utc;
    if (gmtime_r(&now, &utc) == NULL || strftime(out, 16, "%Y-%m-%d", &utc) == 0)
        return NULL;
    return out;
}

typedef struct settings {
    const char *model, *fgrams, *rows, *output;
    int32_t min_count, min_documents;
    double load;
    embed_build_params params;
    job run;
} settings;

static int build(const char *who, settings *s) {
    embed_model *model = NULL;
    char day[16];
    int code = tool_open_model(who, s->model, EMBED_ISA_AUTO, &model);
    if (code != EXIT_OK)
        return code;
    s->params.min_count = s->min_count;
    s->params.min_documents = s->min_documents;
    s->params.load = s->load;
    if (s->params.created == NULL)
        s->params.created = make_today(day);
    job_start(&s->run, who, &s->params.job);
    code = job_end(&s->run, embed_ngram_build(model, s->fgrams, s->rows, s->output, &s->params));
    if (code == EXIT_OK && s->output != NULL && s->run.shown)
        fprintf(stderr, "%s is written, after %.1f s\n", s->output, job_seconds(&s->run));
    embed_model_free(model);
    interrupt_obey();
    return code;
}

int ngram_build(int argc, char **argv) {
    settings s = {.params = {.struct_size = sizeof s.params}};
    embed_build_params *p = &s.params;
    int first;
    const command cmd = {
        "ngram build",
        "-m DIR --fgrams LIST --rows ROWS [OPTION]... -o TABLE",
        "Writes a table of n-gram vectors for a model. Without -o it checks the inputs and says\n"
        "what is needed.",
        "  embed ngram build -m all-MiniLM-L6-v2 --fgrams list.jsonl --rows rows.npy -o table\n"
        "  embed ngram build -m model --fgrams list.jsonl --rows rows.npy --encrypt key -o table\n",
        0,
        0};
    const option_spec table[] = {
        {"input", "fgrams", "LIST",
         "JSON lines {\"ids\":[...],\"count\":n}, in row order\n(required)", &s.fgrams, NULL,
         OPTION_TEXT, 0, 0, 0},
        {"input", "rows", "ROWS",
         ".npy [n, width], FILE.safetensors[:NAME], or bare\nfloat32 .f32 or .bin (required)",
         &s.rows, NULL, OPTION_TEXT, 0, 0, 0},
        {"input", "projection", "FILE:NAME",
         "tensor [hidden, width] of a safetensors file for rows\nof another width than the model's",
         &p->projection, NULL, OPTION_TEXT, 0, 0, 0},
        OPTION_MODEL(s.model),
        OPTION_ROW_DTYPE(p->dtype, "int8"),
        {"table", "mode", "MODE",
         "replace: the row takes the place of the word embedding;\nadd: it is added to it "
         "(replace)",
         &p->combine, combines, OPTION_CHOICE, 0, 0, 0},
        OPTION_ENCRYPT(p->key_path),
        OPTION_LOAD(s.load),
        OPTION_PART_SIZE(p->part_bytes),
        {"origin", "corpus", "TEXT", "what the n-grams were counted in", &p->corpus, NULL,
         OPTION_TEXT, 0, 0, 0},
        {"origin", "corpus-date", "TEXT", "when that corpus was collected", &p->corpus_date, NULL,
         OPTION_TEXT, 0, 0, 0},
        {"origin", "licence", "TEXT", "under which the table may be used", &p->licence, NULL,
         OPTION_TEXT, 0, 0, 0},
        {"origin", "fgram-model", "TEXT", "what computed the vectors", &p->fgram_model, NULL,
         OPTION_TEXT, 0, 0, 0},
        {"origin", "min-count", "N", "least occurrences of an n-gram", &s.min_count, NULL,
         OPTION_COUNT, 1, INT32_MAX, 0},
        {"origin", "min-docs", "N", "least documents an n-gram is from", &s.min_documents, NULL,
         OPTION_COUNT, 1, INT32_MAX, 0},
        {"origin", "parent", "DIR", "table that this one takes the place of", &p->parent, NULL,
         OPTION_TEXT, 0, 0, 0},
        OPTION_CREATED(p->created),
        OPTION_MEMORY(s.run.memory),
        OPTION_TEMP(s.run.temp),
        OPTION_THREADS(s.run.threads),
        OPTION_RESUME(s.run.resume),
        OPTION_PROGRESS(s.run.progress),
        OPTION_OUTPUT_TABLE(s.output),
        OPTIONS_END};
    const options_result parsed = options_parse(&cmd, table, argc, argv, &first);
    if (parsed != OPTIONS_RUN)
        return parsed == OPTIONS_HELP ? tool_flush_stdout(argv[0]) : EXIT_USAGE;
    if (s.fgrams == NULL || s.rows == NULL)
        return tool_usage(argv[0], "%s is missing: %s",
                          s.fgrams == NULL ? "--fgrams LIST" : "--rows ROWS",
                          s.fgrams == NULL ? "the n-grams of the table" : "their vectors");
    return build(argv[0], &s);
}
