/* embed ngram dump: the n-grams of a table with their counts and vectors, in row order. */
#include <stdio.h>
#include <stdlib.h>

#include "interrupt.h"
#include "ngram.h"
#include "table_options.h"

#define PIECE_BYTES ((size_t)16 << 20) /* of vectors that are fetched at once */

typedef enum dump_format { DUMP_TSV, DUMP_JSONL } dump_format;

static const option_choice formats[] = {{"tsv", DUMP_TSV}, {"jsonl", DUMP_JSONL}, {NULL, 0}};

typedef struct dump_run {
    const char *who;
    int32_t format, no_vectors;
    uint64_t top;
    embed_table *table;
    size_t width;
    int64_t *rows;
    float *vectors;
    embed_ngram *ngrams;
} dump_run;

/* Floats with as many digits as it takes to read the same float again. */
static void print_floats(const float *v, size_t n, const char *separator) {
    for (size_t i = 0; i < n; i++)
        printf("%s%.9g", i ? separator : "", (double)v[i]);
}

static void print_ids(const embed_ngram *g, const char *separator) {
    for (int32_t i = 0; i < g->length; i++)
        printf("%s%d", i ? separator : "", g->ids[i]);
}

/* {"ids":[...],"count":n,"row":r,"vector":[...]}: also an f-gram list that `build` reads. */
static void print_row(const dump_run *run, const embed_ngram *g, int64_t row, const float *vector) {
    if (run->format == DUMP_JSONL) {
        fputs("{\"ids\":[", stdout);
        print_ids(g, ",");
        printf("],\"count\":%u,\"row\":%lld", g->count, (long long)row);
        if (!run->no_vectors) {
            fputs(",\"vector\":[", stdout);
            print_floats(vector, run->width, ",");
            putchar(']');
        }
        puts("}");
    } else {
        printf("%lld\t%u\t", (long long)row, g->count);
        print_ids(g, " ");
        if (!run->no_vectors) {
            putchar('\t');
            print_floats(vector, run->width, " ");
        }
        putchar('\n');
    }
}

static int print_all(dump_run *run, uint64_t rows, size_t piece) {
    for (uint64_t row = 0; row < rows && !ferror(stdout); row += piece) {
        const size_t n = rows - row < piece ? (size_t)(rows - row) : piece;
        for (size_t i = 0; i < n; i++)
            run->rows[i] = (int64_t)(row + i);
        if (embed_table_fetch(run->table, run->rows, n, run->vectors,
                              run->vectors ? n * run->width : 0, run->ngrams) != EMBED_OK)
            return tool_fail(run->who, "%s", embed_last_error());
        for (size_t i = 0; i < n; i++)
            print_row(run, &run->ngrams[i], run->rows[i],
                      run->vectors ? run->vectors + i * run->width : NULL);
        if (interrupt_seen())
            return EXIT_FAILED;
    }
    return EXIT_OK;
}

static int dump(dump_run *run) {
    embed_table_info info = {.struct_size = sizeof info};
    if (embed_table_get_info(run->table, &info) != EMBED_OK)
        return tool_fail(run->who, "%s", embed_last_error());
    run->width = (size_t)info.width;
    const uint64_t rows = run->top && run->top < info.rows ? run->top : info.rows;
    const size_t piece = PIECE_BYTES / sizeof(float) / run->width + 1;
    run->rows = malloc(piece * sizeof *run->rows);
    run->ngrams = malloc(piece * sizeof *run->ngrams);
    run->vectors = run->no_vectors ? NULL : malloc(piece * run->width * sizeof *run->vectors);
    if (!run->rows || !run->ngrams || (!run->no_vectors && !run->vectors))
        return tool_fail(run->who, "not enough memory");
    if (run->format == DUMP_TSV)
        puts(run->no_vectors ? "row\tcount\tids" : "row\tcount\tids\tvector");
    return print_all(run, rows, piece);
}

int ngram_dump(int argc, char **argv) {
    table_options options = TABLE_OPTIONS_INIT;
    dump_run run = {.who = argv[0], .format = DUMP_JSONL};
    int first;
    const command cmd = {"ngram dump",
                         "[OPTION]... TABLE",
                         "Prints the n-grams of a table, their counts and vectors, in row order.",
                         "  embed ngram dump --top 20 --no-vectors --format tsv table\n"
                         "  embed ngram dump --no-vectors table > fgrams.jsonl\n",
                         1,
                         1};
    const option_spec table[] = {OPTION_KEY(options),
                                 OPTION_ALLOW_UNSAFE(options),
                                 {"output", "top", "N", "only the first N rows (all)", &run.top,
                                  NULL, OPTION_AMOUNT, 1, 0, 0},
                                 {"output", "format", "F",
                                  "jsonl: {\"ids\":[...],\"count\":n,\"row\":r,\"vector\":[...]}\n"
                                  "a line, an f-gram list too; tsv (jsonl)",
                                  &run.format, formats, OPTION_CHOICE, 0, 0, 0},
                                 {"output", "no-vectors", NULL, "leave the vectors out",
                                  &run.no_vectors, NULL, OPTION_FLAG, 0, 0, 0},
                                 OPTIONS_END};
    const options_result parsed = options_parse(&cmd, table, argc, argv, &first);
    if (parsed != OPTIONS_RUN)
        return parsed == OPTIONS_HELP ? tool_flush_stdout(argv[0]) : EXIT_USAGE;

    options.path = argv[first];
    int code = table_open(argv[0], &options, NULL, &run.table);
    interrupt_catch();
    if (code == EXIT_OK)
        code = dump(&run);
    free(run.rows);
    free(run.ngrams);
    free(run.vectors);
    embed_table_free(run.table);
    const int flushed = tool_flush_stdout(argv[0]);
    interrupt_obey();
    return code != EXIT_OK ? code : flushed;
}
