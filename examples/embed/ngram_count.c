/* embed ngram count: the frequent n-grams of a corpus, exactly. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "interrupt.h"
#include "job.h"
#include "json_out.h"
#include "ngram.h"
#include "token_reader.h"
#include "units.h"

#define PIECE_TEXTS 65536

typedef struct settings {
    const char *model, *output;
    token_options input;
    embed_count_params params;
    uint64_t min_count, min_docs;
    int32_t json;
    job run;
    uint64_t input_bytes; /* of all files; 0: not known */
    char *description;    /* of the input, for a run to be resumed */
} settings;

/* "ids corpus-1.txt:1200 corpus-2.txt:77 ": what must be the same when a run is resumed. */
static int describe(const char *who, settings *s) {
    size_t room = 16, used;
    int known = 1;
    for (size_t i = 0; i < s->input.files.n; i++)
        room += strlen(s->input.files.items[i]) + 32;
    s->description = malloc(room);
    if (!s->description)
        return tool_fail(who, "not enough memory");
    used = (size_t)snprintf(s->description, room, "%s%d ", s->input.ids ? "ids " : "",
                            s->input.format);
    for (size_t i = 0; i < s->input.files.n; i++) {
        const char *name = s->input.files.items[i];
        struct stat st;
        const int standard = strcmp(name, "-") == 0;
        if (!standard && stat(name, &st) != 0)
            return tool_fail(who, "%s: %s", name, strerror(errno));
        const int regular = !standard && S_ISREG(st.st_mode);
        known &= regular;
        s->input_bytes += regular ? (uint64_t)st.st_size : 0;
        used += (size_t)snprintf(s->description + used, room - used, "%s:%lld ", name,
                                 regular ? (long long)st.st_size : -1);
    }
    s->input_bytes = known ? s->input_bytes : 0;
    return EXIT_OK;
}

/* All texts of one file but the first *skip ones. */
static int add_file(const char *who, const settings *s, embed_ngram_counter *counter,
                    const char *path, uint64_t *skip) {
    const text_piece *piece;
    text_reader reader;
    const text_format format = s->input.ids ? TEXT_IDS : (text_format)s->input.format;
    int code = text_reader_open(&reader, who, path, format);
    reader.allow_empty = 1;
    while (code == EXIT_OK && (code = text_reader_next(&reader, PIECE_TEXTS, &piece)) == EXIT_OK &&
           piece->n > 0) {
        const size_t from = *skip < piece->n ? (size_t)*skip : piece->n;
        *skip -= from;
        const embed_status st =
            s->input.ids
                ? embed_ngram_counter_add_ids(counter, piece->tokens + from, piece->n - from)
                : embed_ngram_counter_add(counter, piece->texts + from, piece->n - from);
        if (st == EMBED_ERR_ARG || st == EMBED_ERR_UTF8)
            code = tool_fail(who, "%s: of the texts from line %llu on: %s", reader.name,
                             (unsigned long long)piece->lines[from], embed_last_error());
        else if (st != EMBED_OK && st != EMBED_ERR_CANCELLED)
            code = tool_fail(who, "%s", embed_last_error());
        else if (st != EMBED_OK)
            code = EXIT_FAILED;
    }
    text_reader_close(&reader);
    return code;
}

static int add_files(const char *who, const settings *s, embed_ngram_counter *counter) {
    uint64_t skip;
    int32_t complete;
    int code = EXIT_OK;
    if (embed_ngram_counter_position(counter, &skip, &complete) != EMBED_OK)
        return tool_fail(who, "%s", embed_last_error());
    for (size_t i = 0; !complete && code == EXIT_OK && i < s->input.files.n; i++)
        code = add_file(who, s, counter, s->input.files.items[i], &skip);
    if (code == EXIT_OK && !complete && skip > 0)
        code = tool_fail(who,
                         "the input ends %llu texts before those that the run to be resumed "
                         "had read; start afresh",
                         (unsigned long long)skip);
    return code;
}

static int print_json(const char *who, const settings *s, const embed_count_result *r) {
    json_value *root;
    json_doc *doc = json_out_new(&root);
    char name[8];
    json_out_uint(doc, root, "texts", r->texts);
    json_out_uint(doc, root, "tokens", r->tokens);
    json_out_real(doc, root, "token_seconds", r->seconds[1]);
    json_out_bool(doc, root, "in_memory", r->in_memory);
    json_value *lengths = json_out_object(doc, root, "lengths");
    for (int32_t n = 2; n <= s->params.k; n++) {
        snprintf(name, sizeof name, "%d", n);
        json_value *length = json_out_object(doc, lengths, name);
        json_out_uint(doc, length, "ngrams", r->ngrams[n]);
        json_out_real(doc, length, "seconds", r->seconds[n]);
        json_out_int(doc, length, "passes", r->passes[n]);
    }
    return json_out_print(doc, who, stdout);
}

static const char *rate(double tokens, double seconds, char out[16]) {
    return seconds > 0 ? units_amount(tokens / seconds, out) : "-";
}

static int print_summary(const char *who, const settings *s, const embed_count_result *r) {
    char text[16], tokens[16], speed[16];
    const double all = (double)r->tokens;
    double seconds = 0;
    printf("%s texts, %s tokens%s\n\n", units_amount((double)r->texts, text),
           units_amount(all, tokens), r->in_memory ? "" : ", counted from disk");
    printf("length      n-grams  passes  seconds  tokens/s\n");
    for (int32_t n = 2; n <= s->params.k; n++) {
        seconds += r->seconds[n];
        printf("%6d  %11llu  %6d  %7.2f  %8s\n", n, (unsigned long long)r->ngrams[n], r->passes[n],
               r->seconds[n], rate(all, r->seconds[n], speed));
    }
    printf("   all               %17.2f  %8s\n", seconds, rate(all, seconds, speed));
    printf("\ntokens were there after %.2f s, %s tokens/s\n", r->seconds[1],
           rate(all, r->seconds[1], speed));
    return tool_flush_stdout(who);
}

static int count(const char *who, settings *s) {
    embed_model *model = NULL;
    embed_ngram_counter *counter = NULL;
    embed_count_result result = {.struct_size = sizeof result};
    int code = tool_open_tokenizer(who, s->model, &model);
    if (code == EXIT_OK)
        code = describe(who, s);
    if (code == EXIT_OK) {
        s->params.role = s->input.role;
        s->params.prefix = s->input.prefix;
        s->params.prefix_len = s->input.prefix ? strlen(s->input.prefix) : 0;
        s->params.flags = s->input.strict ? EMBED_UTF8_REFUSE : 0;
        s->params.min_count = s->min_count;
        s->params.min_documents = s->min_docs;
        s->params.input = s->description;
        s->params.input_bytes = s->input_bytes;
        job_start(&s->run, who, &s->params.job);
        code = job_end(&s->run, embed_ngram_counter_create(&counter, model, s->output, &s->params));
    }
    if (code == EXIT_OK)
        code = add_files(who, s, counter);
    if (code == EXIT_OK)
        code = job_end(&s->run, embed_ngram_counter_finish(counter, &result));
    if (code == EXIT_OK)
        code = s->json ? print_json(who, s, &result) : print_summary(who, s, &result);
    if (interrupt_seen() && counter)
        fprintf(stderr, "%s: stopped; go on with --resume\n", who);
    embed_ngram_counter_free(counter);
    embed_model_free(model);
    free(s->description);
    return code;
}

static int check_and_count(const char *who, settings *s) {
    if (!s->output)
        return tool_usage(who, "-o COUNTS is missing: the file to write");
    if (s->input.files.n == 0)
        return tool_usage(who, "-i FILE is missing: the texts to count in");
    const int code = token_options_check(who, &s->input);
    return code != EXIT_OK ? code : count(who, s);
}

int ngram_count(int argc, char **argv) {
    settings s = {.params = EMBED_COUNT_PARAMS_INIT, .min_count = 5};
    int first;
    s.params.k = 5;
    const command cmd = {
        "ngram count",
        "-m DIR [OPTION]... -i FILE... -o COUNTS",
        "Counts the n-grams of texts exactly and keeps the frequent ones, for `embed ngram "
        "select`.\n"
        "Special tokens take no part and end the history; texts are not cut. The limit of memory\n"
        "is for token streams and tables; the model with its tokenizer and some 20 MiB of input\n"
        "come on top. A killed run goes on with --resume.",
        "  embed ngram count -m all-MiniLM-L6-v2 -i corpus.txt -o corpus.counts\n"
        "  embed ngram count -m model -K 3 --min-docs 3 -S 8GiB -i part*.jsonl -o web.counts\n",
        0,
        -1};
    const option_spec table[] = {
        OPTION_INPUTS(s.input.files),
        OPTION_INPUT_FORMAT(s.input.format, token_formats),
        OPTION_IDS(s.input.ids),
        OPTION_STRICT(s.input.strict),
        OPTION_MODEL(s.model),
        OPTION_ROLE(s.input.role, "none"),
        OPTION_PREFIX(s.input.prefix),
        {"counting", "longest", "N", "longest n-gram, 2 to 8 tokens (5)", &s.params.k, NULL,
         OPTION_COUNT, 2, 8, 'K'},
        {"counting", "min-count", "C", "keep n-grams that occur at least C times (5)", &s.min_count,
         NULL, OPTION_AMOUNT, 1, 0, 0},
        {"counting", "min-docs", "D",
         "and in at least D texts; the file then says in how\nmany (texts are not counted)",
         &s.min_docs, NULL, OPTION_AMOUNT, 1, 0, 0},
        OPTION_MEMORY(s.run.memory),
        OPTION_TEMP(s.run.temp),
        OPTION_THREADS(s.run.threads),
        OPTION_RESUME(s.run.resume),
        OPTION_PROGRESS(s.run.progress),
        {"output", "output", "COUNTS", "file to write (required)", &s.output, NULL, OPTION_TEXT, 0,
         0, 'o'},
        {"output", "json", NULL, "print the summary as JSON", &s.json, NULL, OPTION_FLAG, 0, 0, 0},
        OPTIONS_END};
    const options_result parsed = options_parse(&cmd, table, argc, argv, &first);
    int code = parsed == OPTIONS_HELP ? tool_flush_stdout(argv[0]) : EXIT_USAGE;
    if (parsed == OPTIONS_RUN)
        code = option_texts_add(&s.input.files, argv + first, argc - first)
                   ? check_and_count(argv[0], &s)
                   : tool_fail(argv[0], "not enough memory");
    option_texts_free(&s.input.files);
    interrupt_obey();
    return code;
}
