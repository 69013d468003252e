/* embed ngram advise: how much a table would help a corpus, before anyone pays for one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coverage_plot.h"
#include "interrupt.h"
#include "job.h"
#include "json_out.h"
#include "make_options.h"
#include "ngram.h"
#include "token_reader.h"
#include "units.h"

#define PIECE_TEXTS 4096
#define MOST_VALUES 32 /* of -K and of --sizes */

typedef struct advise_run {
    const char *who, *dir, *longest, *sizes, *plot;
    double held_out;
    uint64_t min_count;
    int32_t dtype, width, json;
    token_options tokens;
    job job;
    int32_t k[MOST_VALUES];
    uint64_t rows[MOST_VALUES];
    embed_advise_params params;
    embed_advise_cell *cells;
    size_t n;
    embed_advise_sample sample;
} advise_run;

/* "a,b,c": one value after the other as amounts within [least, most]; an exit code. */
static int parse_list(const char *who, const char *option, const char *list, uint64_t least,
                      uint64_t most, uint64_t *values, size_t *n) {
    *n = 0;
    for (const char *at = list; *at;) {
        char item[32];
        const size_t len = strcspn(at, ",");
        if (len >= sizeof item || *n == MOST_VALUES)
            return tool_usage(who, "%s: expected up to %d amounts such as 2,3,4, found '%s'",
                              option, MOST_VALUES, list);
        memcpy(item, at, len);
        item[len] = '\0';
        if (!units_parse_amount(item, &values[*n]) || values[*n] < least || values[*n] > most)
            return tool_usage(who, "%s: expected amounts from %llu to %llu, found '%s'", option,
                              (unsigned long long)least, (unsigned long long)most, item);
        ++*n;
        at += len + (at[len] == ',');
    }
    return *n ? EXIT_OK : tool_usage(who, "%s: expected at least one amount, found none", option);
}

static int set_params(advise_run *run) {
    embed_advise_params *p = &run->params;
    uint64_t longest[MOST_VALUES];
    *p = (embed_advise_params)EMBED_ADVISE_PARAMS_INIT;
    int code = parse_list(run->who, "-K", run->longest, 2, 8, longest, &p->n_k);
    if (code == EXIT_OK)
        code =
            parse_list(run->who, "--sizes", run->sizes, 1, UINT32_MAX - 1, run->rows, &p->n_rows);
    if (code == EXIT_OK && !(run->held_out > 0 && run->held_out < 1))
        code = tool_usage(run->who, "--held-out: expected more than 0 and less than all, found %g",
                          run->held_out);
    for (size_t i = 0; code == EXIT_OK && i < p->n_k; i++)
        run->k[i] = (int32_t)longest[i];
    p->k = run->k;
    p->rows = run->rows;
    p->held_out = run->held_out;
    p->min_count = run->min_count;
    p->dtype = run->dtype;
    p->width = run->width;
    return code;
}

/* Sizes beyond what the sample has give the same table again: shown once. */
static int is_repeated(const advise_run *run, size_t i) {
    return i > 0 && run->cells[i - 1].k == run->cells[i].k &&
           run->cells[i - 1].rows == run->cells[i].rows;
}

static double ratio(uint64_t part, uint64_t whole) {
    return whole ? (double)part / (double)whole : 0;
}

static double mean_length(const embed_advise_cell *c) {
    uint64_t sum = 0;
    for (unsigned n = 2; n < 9; n++)
        sum += n * c->hits[n];
    return ratio(sum, c->matched);
}

static void print_table(const advise_run *run) {
    const embed_advise_sample *s = &run->sample;
    char a[16], b[16];
    const int thinned = s->texts_counted + s->texts_held < s->texts_seen;
    int exhausted = 0;
    printf("sample   %llu texts, %s tokens", (unsigned long long)s->texts_seen,
           units_amount((double)s->tokens_seen, a));
    if (thinned)
        printf("; %llu of the texts, evenly, as memory allows",
               (unsigned long long)(s->texts_counted + s->texts_held));
    printf("\ncounted  %llu texts, %s tokens\n", (unsigned long long)s->texts_counted,
           units_amount((double)s->tokens_counted, a));
    printf("held out %llu texts, %s tokens: all shares below are of these\n\n",
           (unsigned long long)s->texts_held, units_amount((double)s->tokens_held, a));
    printf("  K  n-grams  least    on disk  matched  mean    distinct rows  hits in first\n"
           "              count                      length  per 1k tokens  1 %%    10 %%\n");
    for (size_t i = 0; i < run->n; i++) {
        const embed_advise_cell *c = &run->cells[i];
        if (is_repeated(run, i))
            continue;
        exhausted |= c->rows < c->rows_wanted;
        printf("%3d  %7s%s %5llu  %9s  %5.1f %%  %6.3f  %13.1f  %4.1f %%  %4.1f %%\n", c->k,
               units_amount((double)c->rows, a), c->rows < c->rows_wanted ? "*" : " ",
               (unsigned long long)c->least_count, units_size(c->disk_bytes, b),
               100 * ratio(c->matched, c->positions), mean_length(c),
               1e3 * ratio(c->distinct_rows, c->positions), 100 * c->hot_1_percent,
               100 * c->hot_10_percent);
    }
    if (exhausted)
        printf("\n* all that the sample has often enough; more text would have more\n");
    printf(
        "\nA table of the same size counted on all of the corpus covers more than one counted on\n"
        "a sample. How much better the vectors get is another question: that is up to the rows.\n");
}

static void add_cell(json_doc *doc, json_value *list, const embed_advise_cell *c) {
    json_value *o = json_out_object(doc, list, NULL);
    json_out_int(doc, o, "k", c->k);
    json_out_uint(doc, o, "rows_wanted", c->rows_wanted);
    json_out_uint(doc, o, "rows", c->rows);
    json_out_uint(doc, o, "least_count", c->least_count);
    json_out_uint(doc, o, "disk_bytes", c->disk_bytes);
    json_out_uint(doc, o, "positions", c->positions);
    json_out_uint(doc, o, "matched", c->matched);
    json_out_real(doc, o, "coverage", ratio(c->matched, c->positions));
    json_out_real(doc, o, "mean_length", mean_length(c));
    json_out_uints(doc, o, "by_length", c->hits, (size_t)c->k + 1);
    json_out_uint(doc, o, "distinct_rows", c->distinct_rows);
    json_out_real(doc, o, "distinct_rows_per_1000_tokens",
                  1e3 * ratio(c->distinct_rows, c->positions));
    json_out_real(doc, o, "hits_in_first_1_percent", c->hot_1_percent);
    json_out_real(doc, o, "hits_in_first_10_percent", c->hot_10_percent);
}

static int print_json(const advise_run *run) {
    const embed_advise_sample *s = &run->sample;
    json_value *root;
    json_doc *doc = json_out_new(&root);
    json_value *sample = json_out_object(doc, root, "sample");
    json_out_uint(doc, sample, "texts_seen", s->texts_seen);
    json_out_uint(doc, sample, "tokens_seen", s->tokens_seen);
    json_out_uint(doc, sample, "texts_counted", s->texts_counted);
    json_out_uint(doc, sample, "tokens_counted", s->tokens_counted);
    json_out_uint(doc, sample, "texts_held", s->texts_held);
    json_out_uint(doc, sample, "tokens_held", s->tokens_held);
    json_value *list = json_out_array(doc, root, "tables");
    for (size_t i = 0; i < run->n; i++)
        add_cell(doc, list, &run->cells[i]);
    return json_out_print(doc, run->who, stdout);
}

/* Once per K and size; `run` may hold repeated cells, the plot not. */
static int write_plot(const advise_run *run) {
    embed_advise_cell *once = malloc((run->n + 1) * sizeof *once);
    size_t n = 0;
    if (!once)
        return tool_fail(run->who, "not enough memory");
    for (size_t i = 0; i < run->n; i++)
        if (!is_repeated(run, i))
            once[n++] = run->cells[i];
    const int code = coverage_plot_write(run->who, run->plot, once, n, &run->sample);
    free(once);
    return code;
}

static int feed(advise_run *run, embed_ngram_advisor *advisor, token_reader *reader) {
    const token_piece *piece;
    int code;
    while ((code = token_reader_next(reader, PIECE_TEXTS, &piece)) == EXIT_OK && piece->n > 0)
        if (embed_ngram_advisor_add(advisor, piece->texts, piece->n) != EMBED_OK)
            return interrupt_seen()
                       ? EXIT_FAILED
                       : tool_fail(run->who, "%s: %s", reader->reader.name, embed_last_error());
    return code;
}

static int answer(advise_run *run, embed_ngram_advisor *advisor) {
    run->sample.struct_size = sizeof run->sample;
    if (embed_ngram_advisor_run(advisor, NULL, 0, &run->n, NULL) != EMBED_OK)
        return tool_fail(run->who, "%s", embed_last_error());
    run->cells = malloc(run->n * sizeof *run->cells);
    if (!run->cells)
        return tool_fail(run->who, "not enough memory");
    int code = job_end(&run->job,
                       embed_ngram_advisor_run(advisor, run->cells, run->n, &run->n, &run->sample));
    if (code == EXIT_OK && run->json)
        code = print_json(run);
    else if (code == EXIT_OK)
        print_table(run);
    if (code == EXIT_OK && run->plot)
        code = write_plot(run);
    return code;
}

static int advise(advise_run *run) {
    embed_model *model;
    embed_ngram_advisor *advisor = NULL;
    token_reader reader = {0};
    int code = tool_open_model(run->who, run->dir, EMBED_ISA_AUTO, &model);
    if (code != EXIT_OK)
        return code;
    job_start(&run->job, run->who, &run->params.job);
    if (embed_ngram_advisor_create(&advisor, model, &run->params) != EMBED_OK)
        code = tool_fail(run->who, "%s", embed_last_error());
    if (code == EXIT_OK)
        code = token_reader_open(&reader, run->who, model, &run->tokens);
    if (code == EXIT_OK)
        code = feed(run, advisor, &reader);
    if (code == EXIT_OK)
        code = answer(run, advisor);
    const int flushed = tool_flush_stdout(run->who);
    free(run->cells);
    token_reader_close(&reader);
    embed_ngram_advisor_free(advisor);
    embed_model_free(model);
    interrupt_obey();
    return code != EXIT_OK ? code : flushed;
}

static int is_svg(const char *path) {
    const size_t len = strlen(path);
    return strcmp(path, "-") == 0 || (len >= 4 && strcmp(path + len - 4, ".svg") == 0);
}

int ngram_advise(int argc, char **argv) {
    advise_run run = {.who = argv[0],
                      .longest = "2,3,4,5,6,8",
                      .sizes = "10k,100k,1M,10M",
                      .held_out = 0.1,
                      .min_count = 2,
                      .dtype = EMBED_I8};
    int first;
    const command cmd = {
        "ngram advise",
        "-m DIR [OPTION]... -i FILE...",
        "Tells how much of a corpus tables of several sizes would cover: n-grams are counted in\n"
        "most of a sample and looked up in the rest.",
        "  embed ngram advise -m all-MiniLM-L6-v2 -i sample.txt\n"
        "  embed ngram advise -m all-MiniLM-L6-v2 -K 3,5 --sizes 1M,4M -i sample.jsonl --plot "
        "cover.svg\n",
        0,
        -1};
    const option_spec table[] = {
        OPTIONS_TOKENS(run.tokens),
        {"input", "held-out", "SHARE", "share of the texts to look up, not to count (10%)",
         &run.held_out, NULL, OPTION_SHARE, 0, 0, 0},
        OPTION_MODEL(run.dir),
        OPTIONS_TOKENS_MODEL(run.tokens),
        {"table", "longest", "LIST", "longest n-grams to try, 2 to 8 tokens (2,3,4,5,6,8)",
         &run.longest, NULL, OPTION_TEXT, 0, 0, 'K'},
        {"table", "sizes", "LIST", "numbers of n-grams to try (10k,100k,1M,10M)", &run.sizes, NULL,
         OPTION_TEXT, 0, 0, 0},
        {"table", "min-count", "N", "leave out n-grams seen less often (2)", &run.min_count, NULL,
         OPTION_AMOUNT, 2, 0, 0},
        OPTION_ROW_DTYPE(run.dtype, "int8"),
        {"table", "width", "N", "floats of a row (as the model's word embeddings)", &run.width,
         NULL, OPTION_COUNT, 1, 1 << 20, 0},
        OPTION_MEMORY(run.job.memory),
        OPTION_THREADS(run.job.threads),
        OPTION_PROGRESS(run.job.progress),
        {"output", "json", NULL, "one JSON object instead of a table", &run.json, NULL, OPTION_FLAG,
         0, 0, 0},
        {"output", "plot", "FILE", "draw coverage against size on disk, .svg", &run.plot, NULL,
         OPTION_TEXT, 0, 0, 0},
        OPTIONS_END};
    const options_result parsed = options_parse(&cmd, table, argc, argv, &first);
    int code = parsed == OPTIONS_RUN    ? token_options_check(argv[0], &run.tokens)
               : parsed == OPTIONS_HELP ? tool_flush_stdout(argv[0])
                                        : EXIT_USAGE;
    if (parsed == OPTIONS_RUN && !option_texts_add(&run.tokens.files, argv + first, argc - first))
        code = tool_fail(argv[0], "not enough memory"); /* -i *.txt: more files */
    if (parsed == OPTIONS_RUN && code == EXIT_OK)
        code = set_params(&run);
    if (parsed == OPTIONS_RUN && code == EXIT_OK && !run.dir)
        code = tool_usage(argv[0], "-m DIR is missing: the checkpoint directory to use");
    else if (parsed == OPTIONS_RUN && code == EXIT_OK && run.plot && !is_svg(run.plot))
        code =
            tool_usage(argv[0], "--plot: expected a name that ends in .svg, found '%s'", run.plot);
    else if (parsed == OPTIONS_RUN && code == EXIT_OK)
        code = advise(&run);
    option_texts_free(&run.tokens.files);
    return code;
}
