/* embed ngram query: which row each token of a text would take, and how much a table covers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "interrupt.h"
#include "job.h"
#include "json_out.h"
#include "ngram.h"
#include "ngram_tally.h"
#include "progress.h"
#include "table_options.h"
#include "token_reader.h"

#define PIECE_TEXTS 4096

typedef enum verbosity { PRINT_WORD, PRINT_SENTENCE, PRINT_SUMMARY, PRINT_JSONL } verbosity;

static const option_choice verbosities[] = {{"word", PRINT_WORD},
                                            {"sentence", PRINT_SENTENCE},
                                            {"summary", PRINT_SUMMARY},
                                            {"jsonl", PRINT_JSONL},
                                            {NULL, 0}};

typedef struct query_run {
    const char *who, *log;
    int32_t verbosity, json, fetch, show_progress;
    embed_table *table;
    embed_table_info info;
    token_reader reader;
    progress progress;
    ngram_tally tally;
    int64_t *rows;
    int32_t *lengths;
    float *vectors;
    size_t capacity, vectors_capacity; /* tokens */
} query_run;

static void print_numbers(const char *name, const int32_t *narrow, const int64_t *wide, size_t n,
                          const char *end) {
    printf("\"%s\":[", name);
    for (size_t i = 0; i < n; i++)
        printf(i ? ",%lld" : "%lld", narrow ? (long long)narrow[i] : (long long)wide[i]);
    fputs(end, stdout);
}

static void print_text(const query_run *run, const embed_ids *text, const int64_t *rows,
                       const int32_t *lengths) {
    switch ((verbosity)run->verbosity) {
    case PRINT_JSONL:
        putchar('{');
        print_numbers("ids", text->ptr, NULL, text->len, "],");
        print_numbers("len", lengths, NULL, text->len, "],");
        print_numbers("row", NULL, rows, text->len, "]}\n");
        break;
    case PRINT_WORD:
        for (size_t i = 0; i < text->len; i++)
            printf("%d\t%d\t%lld\n", text->ptr[i], lengths[i], (long long)rows[i]);
        putchar('\n');
        break;
    case PRINT_SENTENCE: {
        unsigned long long matched = 0, sum = 0;
        for (size_t i = 0; i < text->len; i++) {
            matched += rows[i] >= 0;
            sum += (unsigned long long)lengths[i];
        }
        printf("%zu\t%llu\t%.4f\t%.3f\n", text->len, matched,
               text->len ? (double)matched / (double)text->len : 0,
               matched ? (double)sum / (double)matched : 0);
        break;
    }
    case PRINT_SUMMARY:
        break;
    }
}

static int no_memory(const query_run *run) {
    return tool_fail(run->who, "not enough memory");
}

/* Read the rows as well: each is checked on the way. */
static int fetch(query_run *run, size_t tokens) {
    const size_t floats = tokens * (size_t)run->info.width;
    if (tokens > run->vectors_capacity) {
        float *bigger = realloc(run->vectors, floats * sizeof *bigger);
        if (!bigger)
            return no_memory(run);
        run->vectors = bigger;
        run->vectors_capacity = tokens;
    }
    if (embed_table_fetch(run->table, run->rows, tokens, run->vectors, floats, NULL) != EMBED_OK)
        return tool_fail(run->who, "%s", embed_last_error());
    return EXIT_OK;
}

static int answer_piece(query_run *run, const token_piece *piece) {
    if (piece->tokens > run->capacity) {
        int64_t *rows = realloc(run->rows, piece->tokens * sizeof *rows);
        run->rows = rows ? rows : run->rows;
        int32_t *lengths = realloc(run->lengths, piece->tokens * sizeof *lengths);
        run->lengths = lengths ? lengths : run->lengths;
        if (!rows || !lengths)
            return no_memory(run);
        run->capacity = piece->tokens;
    }
    if (embed_table_lookup(run->table, piece->texts, piece->n, run->rows, run->lengths,
                           piece->tokens) != EMBED_OK)
        return tool_fail(run->who, "%s: %s", run->reader.reader.name, embed_last_error());
    const int code = run->fetch ? fetch(run, piece->tokens) : EXIT_OK;
    size_t at = 0;
    for (size_t i = 0; i < piece->n && code == EXIT_OK; at += piece->texts[i++].len) {
        print_text(run, &piece->texts[i], run->rows + at, run->lengths + at);
        ngram_tally_add(&run->tally, run->rows + at, run->lengths + at, piece->texts[i].len);
    }
    return code;
}

/* What the summary tells beyond the tally. */
typedef struct summary {
    double coverage, mean_length, distinct_per_1000, first[2], hottest[2]; /* of 1 and 10 % */
    embed_table_stats stats;
} summary;

static int summarise(query_run *run, summary *s) {
    const ngram_tally *t = &run->tally;
    s->stats = (embed_table_stats){.struct_size = sizeof s->stats};
    s->coverage = t->tokens ? (double)t->matched / (double)t->tokens : 0;
    s->mean_length = ngram_tally_mean_length(t);
    s->distinct_per_1000 = t->tokens ? 1e3 * (double)t->distinct / (double)t->tokens : 0;
    if (embed_table_get_stats(run->table, &s->stats) != EMBED_OK)
        return tool_fail(run->who, "%s", embed_last_error());
    int code = ngram_tally_hot(t, run->who, 0.01, &s->first[0], &s->hottest[0]);
    if (code == EXIT_OK)
        code = ngram_tally_hot(t, run->who, 0.1, &s->first[1], &s->hottest[1]);
    return code;
}

static void print_summary(const query_run *run, const summary *s) {
    const ngram_tally *t = &run->tally;
    const double matched = t->matched ? (double)t->matched : 1;
    printf("texts                 %llu\n", (unsigned long long)t->texts);
    printf("tokens                %llu\n", (unsigned long long)t->tokens);
    printf("matched               %llu, %.1f %% of the tokens\n", (unsigned long long)t->matched,
           100 * s->coverage);
    printf("mean length           %.3f\n", s->mean_length);
    for (int n = 2; n <= run->info.k; n++)
        printf("matches of %d tokens   %llu, %.1f %%\n", n, (unsigned long long)t->by_length[n],
               100 * (double)t->by_length[n] / matched);
    printf("distinct rows         %llu of %llu, %.1f per 1,000 tokens\n",
           (unsigned long long)t->distinct, (unsigned long long)t->rows, s->distinct_per_1000);
    printf("hits in first rows    1 %%: %.1f %%, 10 %%: %.1f %%\n", 100 * s->first[0],
           100 * s->first[1]);
    printf("hits in hottest rows  1 %%: %.1f %%, 10 %%: %.1f %%\n", 100 * s->hottest[0],
           100 * s->hottest[1]);
    if (run->fetch)
        printf("fetched               %llu bytes read, %llu cache hits, %.3f s\n",
               (unsigned long long)s->stats.bytes_read, (unsigned long long)s->stats.cache_hits,
               s->stats.fetch_seconds);
    if (s->stats.resident_share >= 0)
        printf("in memory             %.1f %% of the rows\n", 100 * s->stats.resident_share);
}

static int print_summary_json(const query_run *run, const summary *s) {
    const ngram_tally *t = &run->tally;
    json_value *root;
    json_doc *doc = json_out_new(&root);
    json_out_uint(doc, root, "texts", t->texts);
    json_out_uint(doc, root, "tokens", t->tokens);
    json_out_uint(doc, root, "matched", t->matched);
    json_out_real(doc, root, "coverage", s->coverage);
    json_out_real(doc, root, "mean_length", s->mean_length);
    json_out_uints(doc, root, "by_length", t->by_length, (size_t)run->info.k + 1);
    json_out_uint(doc, root, "rows", t->rows);
    json_out_uint(doc, root, "distinct_rows", t->distinct);
    json_out_real(doc, root, "distinct_rows_per_1000_tokens", s->distinct_per_1000);
    json_out_real(doc, root, "hits_in_first_1_percent", s->first[0]);
    json_out_real(doc, root, "hits_in_first_10_percent", s->first[1]);
    json_out_real(doc, root, "hits_in_hottest_1_percent", s->hottest[0]);
    json_out_real(doc, root, "hits_in_hottest_10_percent", s->hottest[1]);
    json_out_uint(doc, root, "bytes_read", s->stats.bytes_read);
    json_out_uint(doc, root, "cache_hits", s->stats.cache_hits);
    json_out_real(doc, root, "fetch_seconds", s->stats.fetch_seconds);
    if (s->stats.resident_share >= 0)
        json_out_real(doc, root, "resident_share", s->stats.resident_share);
    return json_out_print(doc, run->who, stdout);
}

static int answer_all(query_run *run) {
    const token_piece *piece;
    int code;
    if (run->verbosity == PRINT_WORD)
        puts("token\tlength\trow");
    else if (run->verbosity == PRINT_SENTENCE)
        puts("tokens\tmatched\tcoverage\tmean length");
    while ((code = token_reader_next(&run->reader, PIECE_TEXTS, &piece)) == EXIT_OK &&
           piece->n > 0) {
        progress_piece_begin(&run->progress, piece->bytes);
        if ((code = answer_piece(run, piece)) != EXIT_OK ||
            progress_callback(&run->progress, piece->n, piece->n, piece->tokens) != 0)
            break;
        progress_piece_end(&run->progress, piece->n, piece->tokens);
    }
    if (code == EXIT_OK && interrupt_seen())
        code = EXIT_FAILED;
    progress_end(&run->progress, code == EXIT_OK);
    if (code == EXIT_OK && run->verbosity == PRINT_SUMMARY) {
        summary s;
        code = summarise(run, &s);
        if (code == EXIT_OK && run->json)
            code = print_summary_json(run, &s);
        else if (code == EXIT_OK)
            print_summary(run, &s);
    }
    if (code == EXIT_OK && run->log)
        code = ngram_tally_write_log(&run->tally, run->who, run->log);
    return code;
}

static int open_and_answer(query_run *run, const char *dir, const token_options *tokens,
                           const table_options *options) {
    embed_model *model;
    int code = tool_open_model(run->who, dir, EMBED_ISA_AUTO, &model);
    if (code != EXIT_OK)
        return code;
    interrupt_catch();
    code = table_open(run->who, options, model, &run->table);
    run->info.struct_size = sizeof run->info;
    if (code == EXIT_OK && embed_table_get_info(run->table, &run->info) != EMBED_OK)
        code = tool_fail(run->who, "%s", embed_last_error());
    if (code == EXIT_OK)
        code = token_reader_open(&run->reader, run->who, model, tokens);
    if (code == EXIT_OK)
        code = ngram_tally_start(&run->tally, run->who, run->info.rows);
    if (code == EXIT_OK) { /* lines that scroll by on the same terminal say enough */
        progress_start(&run->progress, run->reader.total_bytes, run->show_progress);
        if (run->verbosity != PRINT_SUMMARY && isatty(STDOUT_FILENO) && !run->show_progress)
            run->progress.shown = 0;
        code = answer_all(run);
    }
    const int flushed = tool_flush_stdout(run->who);
    ngram_tally_end(&run->tally);
    token_reader_close(&run->reader);
    free(run->rows);
    free(run->lengths);
    free(run->vectors);
    embed_table_free(run->table);
    embed_model_free(model);
    interrupt_obey();
    return code != EXIT_OK ? code : flushed;
}

int ngram_query(int argc, char **argv) {
    const char *dir = NULL;
    token_options tokens = {0};
    table_options options = TABLE_OPTIONS_INIT;
    query_run run = {.who = argv[0], .verbosity = PRINT_SUMMARY};
    int first;
    const command cmd = {"ngram query",
                         "-m DIR --table DIR [OPTION]... [-i FILE...]",
                         "Tells which row of a table each token of the texts would take.",
                         "  embed ngram query -m all-MiniLM-L6-v2 --table table -i texts.txt\n"
                         "  embed ngram query -m all-MiniLM-L6-v2 --table table -v jsonl -i "
                         "texts.txt > rows.jsonl\n",
                         0,
                         -1};
    const option_spec table[] = {OPTIONS_TOKENS(tokens),
                                 OPTION_MODEL(dir),
                                 OPTIONS_TOKENS_MODEL(tokens),
                                 OPTION_TABLE(options),
                                 OPTION_KEY(options),
                                 OPTION_TABLE_MODE(options),
                                 OPTION_TABLE_IO(options),
                                 OPTION_TABLE_CACHE(options),
                                 OPTION_ALLOW_MISMATCH(options),
                                 OPTION_ALLOW_UNSAFE(options),
                                 {"run", "fetch", NULL, "read and check the matching rows as well",
                                  &run.fetch, NULL, OPTION_FLAG, 0, 0, 0},
                                 OPTION_PROGRESS(run.show_progress),
                                 {"output", "verbosity", "V",
                                  "word: token id, matched length and row (-1: none) a\n"
                                  "line; sentence: a line for each text; summary; jsonl:\n"
                                  "{\"ids\":[...],\"len\":[...],\"row\":[...]} (summary)",
                                  &run.verbosity, verbosities, OPTION_CHOICE, 0, 0, 'v'},
                                 {"output", "json", NULL, "the summary as a JSON object", &run.json,
                                  NULL, OPTION_FLAG, 0, 0, 0},
                                 {"output", "access-log", "FILE",
                                  "write {\"row\":n,\"hits\":n} lines, most hits first, for\n"
                                  "embed ngram compact",
                                  &run.log, NULL, OPTION_TEXT, 0, 0, 0},
                                 OPTIONS_END};
    const options_result parsed = options_parse(&cmd, table, argc, argv, &first);
    int code = parsed == OPTIONS_RUN    ? token_options_check(argv[0], &tokens)
               : parsed == OPTIONS_HELP ? tool_flush_stdout(argv[0])
                                        : EXIT_USAGE;
    if (parsed == OPTIONS_RUN && !option_texts_add(&tokens.files, argv + first, argc - first))
        code = tool_fail(argv[0], "not enough memory"); /* -i *.txt: more files */
    if (parsed == OPTIONS_RUN && code == EXIT_OK) {
        if (!dir)
            code = tool_usage(argv[0], "-m DIR is missing: the checkpoint directory to use");
        else if (!options.path)
            code = tool_usage(argv[0], "--table DIR is missing: the table to use");
        else if (run.json && run.verbosity != PRINT_SUMMARY)
            code = tool_usage(argv[0], "--json is only for -v summary");
        else
            code = open_and_answer(&run, dir, &tokens, &options);
    }
    option_texts_free(&tokens.files);
    return code;
}
