/* embed ngram select: from counts to the f-gram list of a table. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "interrupt.h"
#include "job.h"
#include "json_out.h"
#include "make_options.h"
#include "ngram.h"
#include "text_reader.h"
#include "units.h"

typedef struct settings {
    const char *counts, *output, *per_length, *excluded;
    embed_select_params params;
    int32_t stats, json;
    int32_t *ids; /* excluded */
    job run;
} settings;

/* "2=1M,5=200k": limits for some lengths. */
static int parse_per_length(const char *who, const char *text, uint64_t limits[9]) {
    char item[32];
    while (*text) {
        const size_t len = strcspn(text, ",");
        uint64_t limit;
        if (len < 3 || len >= sizeof item || text[0] < '2' || text[0] > '8' || text[1] != '=')
            break;
        snprintf(item, sizeof item, "%.*s", (int)(len - 2), text + 2);
        if (!units_parse_amount(item, &limit))
            break;
        limits[text[0] - '0'] = limit > 0 ? limit : UINT64_MAX;
        text += len + (text[len] == ',');
    }
    return *text ? tool_usage(who,
                              "--max-per-length: expected LENGTH=N,... such as 2=1M,5=200k, "
                              "found '%s'",
                              text)
                 : EXIT_OK;
}

/* A file of JSON arrays of token ids. */
static int read_excluded(const char *who, settings *s) {
    const text_piece *piece;
    text_reader reader;
    int code = text_reader_open(&reader, who, s->excluded, TEXT_IDS);
    while (code == EXIT_OK && (code = text_reader_next(&reader, 4096, &piece)) == EXIT_OK &&
           piece->n > 0) {
        for (size_t i = 0; i < piece->n && code == EXIT_OK; i++) {
            const size_t n = piece->tokens[i].len, old = s->params.n_excluded;
            int32_t *more = realloc(s->ids, (old + n) * sizeof *more);
            if (!more) {
                code = tool_fail(who, "not enough memory");
                break;
            }
            memcpy(more + old, piece->tokens[i].ptr, n * sizeof *more);
            s->ids = more;
            s->params.n_excluded += n;
        }
    }
    text_reader_close(&reader);
    s->params.excluded = s->ids;
    return code;
}

static double share(uint64_t part, uint64_t whole) {
    return whole ? (double)part / (double)whole : 0;
}

static double mean_length(const embed_select_result *r) {
    uint64_t sum = r->matches_by_length[2]; /* a match of n tokens counts once for 2 .. n */
    for (int32_t n = 2; n <= 8; n++)
        sum += r->matches_by_length[n];
    return share(sum, r->matches_by_length[2]);
}

static int print_json(const char *who, const embed_select_result *r) {
    json_value *root;
    json_doc *doc = json_out_new(&root);
    json_out_uint(doc, root, "rows", r->rows);
    json_out_uint(doc, root, "cut_off", r->cut_off);
    json_out_uints(doc, root, "rows_by_length", r->rows_by_length, 9);
    json_out_uints(doc, root, "matches_by_length", r->matches_by_length, 9);
    json_out_uint(doc, root, "tokens", r->tokens);
    json_out_real(doc, root, "coverage", share(r->matches_by_length[2], r->tokens));
    json_out_real(doc, root, "mean_match", mean_length(r));
    json_out_uint(doc, root, "dropped", r->dropped);
    json_out_int(doc, root, "width", r->width);
    json_out_uint(doc, root, "table_bytes", r->table_bytes);
    return json_out_print(doc, who, stdout);
}

static int print_summary(const char *who, const settings *s, const embed_select_result *r) {
    char size[16];
    if (r->rows == 0) {
        printf("0 n-grams: none is within these limits; the list is empty\n");
        return tool_flush_stdout(who);
    }
    printf("%llu n-grams that occur at least %llu times\n", (unsigned long long)r->rows,
           (unsigned long long)r->cut_off);
    printf("\nlength         rows   share  positions that match so long or longer\n");
    for (int32_t n = 2; n <= 8; n++)
        if (r->rows_by_length[n] > 0)
            printf("%6d  %11llu  %4.1f %%  %5.1f %%\n", n, (unsigned long long)r->rows_by_length[n],
                   100 * share(r->rows_by_length[n], r->rows),
                   100 * share(r->matches_by_length[n], r->tokens));
    printf(
        "\ncoverage %.1f %% of the counted positions, mean match %.2f tokens; exact for the texts\n"
        "that were counted, other texts match less (embed ngram advise tells by how much)\n",
        100 * share(r->matches_by_length[2], r->tokens), mean_length(r));
    if (r->dropped > 0)
        printf("left out to keep the set closed under suffixes: %llu\n",
               (unsigned long long)r->dropped);
    if (r->table_bytes > 0)
        printf("a table of it takes %s with rows of %d x %s\n", units_size(r->table_bytes, size),
               r->width, tool_dtype_name(s->params.dtype ? s->params.dtype : EMBED_I8));
    if (s->stats)
        printf("%d passes over the counts in %.2f s\n", r->passes, job_seconds(&s->run));
    return tool_flush_stdout(who);
}

static int run(const char *who, settings *s) {
    embed_select_result result = {.struct_size = sizeof result};
    int code = EXIT_OK;
    if (s->per_length)
        code = parse_per_length(who, s->per_length, s->params.max_per_length);
    if (code == EXIT_OK && s->excluded)
        code = read_excluded(who, s);
    if (code == EXIT_OK) {
        job_start(&s->run, who, &s->params.job);
        code = job_end(&s->run, embed_ngram_select(s->counts, s->output, &s->params, &result));
    }
    if (code == EXIT_OK)
        code = s->json ? print_json(who, &result) : print_summary(who, s, &result);
    free(s->ids);
    interrupt_obey();
    return code;
}

int ngram_select(int argc, char **argv) {
    settings s = {.params = EMBED_SELECT_PARAMS_INIT};
    embed_select_params *p = &s.params;
    int first;
    const command cmd = {
        "ngram select",
        "COUNTS [OPTION]... --top N|--min-count C|--bytes SIZE -o LIST",
        "Writes the list of n-grams that get a row: the most frequent ones of all lengths "
        "together,\n"
        "the shorter first where counts are equal, so that every suffix of one stands before it. "
        "One\n"
        "thread and no temporary files are used: with little memory the counts are read several\n"
        "times. A killed run starts afresh.",
        "  embed ngram select corpus.counts --top 1M -o list.jsonl\n"
        "  embed ngram select corpus.counts --bytes 8GiB --dtype f16 -o list.jsonl\n",
        1,
        1};
    const option_spec table[] = {
        {"which", "top", "N", "the N most frequent", &p->top, NULL, OPTION_AMOUNT, 1, 0, 0},
        {"which", "min-count", "C", "that occur at least C times", &p->min_count, NULL,
         OPTION_AMOUNT, 1, 0, 0},
        {"which", "bytes", "SIZE", "as many as a table of SIZE has room for", &p->bytes, NULL,
         OPTION_SIZE, 1, 0, 0},
        {"which", "min-docs", "D", "that are in at least D texts", &p->min_documents, NULL,
         OPTION_AMOUNT, 1, 0, 0},
        {"which", "max-per-length", "L=N,...",
         "at most N (0: none) of length L; what loses its\nsuffix that way is left out too",
         &s.per_length, NULL, OPTION_TEXT, 0, 0, 0},
        {"which", "exclude-ids", "FILE",
         "none with one of these token ids: JSON arrays of ids,\none a line", &s.excluded, NULL,
         OPTION_TEXT, 0, 0, 0},
        OPTION_ROW_DTYPE(p->dtype, "int8"),
        {"table", "width", "W", "floats of a row (as the model that counted)", &p->width, NULL,
         OPTION_COUNT, 1, 65536, 0},
        OPTION_MEMORY(s.run.memory),
        OPTION_TEMP(s.run.temp),
        OPTION_THREADS(s.run.threads),
        OPTION_AGAIN(s.run.resume),
        OPTION_PROGRESS(s.run.progress),
        {"output", "output", "LIST", "file to write, JSON lines (required)", &s.output, NULL,
         OPTION_TEXT, 0, 0, 'o'},
        {"output", "stats", NULL, "also say how often the counts were read, and the time", &s.stats,
         NULL, OPTION_FLAG, 0, 0, 0},
        {"output", "json", NULL, "print the summary as JSON", &s.json, NULL, OPTION_FLAG, 0, 0, 0},
        OPTIONS_END};
    const options_result parsed = options_parse(&cmd, table, argc, argv, &first);
    if (parsed != OPTIONS_RUN)
        return parsed == OPTIONS_HELP ? tool_flush_stdout(argv[0]) : EXIT_USAGE;
    if (!s.output)
        return tool_usage(argv[0], "-o LIST is missing: the file to write");
    if (p->top == 0 && p->min_count == 0 && p->bytes == 0)
        return tool_usage(argv[0], "--top, --min-count or --bytes is missing");
    s.counts = argv[first];
    return run(argv[0], &s);
}
