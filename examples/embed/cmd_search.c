/* embed search: exact nearest neighbours by cosine; the corpus's vectors are kept in memory. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "interrupt.h"
#include "progress.h"
#include "table_use.h"
#include "text_reader.h"
#include "third_party/yyjson/yyjson.h"
#include "tool.h"

#define PIECE_TEXTS 4096
#define SHOWN_BYTES 100 /* of a text, in the table for people */

typedef struct search_options {
    const char *dir, *corpus, *queries;
    int32_t corpus_format, threads, batch_tokens, k, json, corpus_role, query_role;
    device_options device;
    table_options table;
} search_options;

/* Texts with their vectors; every text lies in `bytes` as id and text. */
typedef struct collection {
    size_t n, capacity, bytes_used, bytes_capacity;
    float *vectors; /* [n, dim], unit length */
    struct entry {
        size_t id, id_len, text, text_len; /* id_len SIZE_MAX: none, the line number stands in */
        uint64_t line;
    } * entries;
    char *bytes;
} collection;

typedef struct search_run {
    const char *who;
    embed_context *ctx;
    size_t dim;
    progress progress;
    embed_text_report *reports; /* [PIECE_TEXTS] */
    uint64_t cut;               /* texts longer than the model takes */
} search_run;

typedef struct hit {
    size_t entry;
    double score;
} hit;

static void collection_free(collection *c) {
    free(c->vectors);
    free(c->entries);
    free(c->bytes);
    *c = (collection){0};
}

static int collection_reserve(collection *c, const text_piece *piece, size_t dim) {
    size_t bytes = c->bytes_used + 1; /* never an empty block */
    for (size_t i = 0; i < piece->n; i++)
        bytes += piece->texts[i].len + piece->ids[i].len;
    if (bytes > c->bytes_capacity) {
        char *bigger = realloc(c->bytes, 2 * bytes);
        if (!bigger)
            return 0;
        c->bytes = bigger;
        c->bytes_capacity = 2 * bytes;
    }
    if (c->n + piece->n > c->capacity) {
        const size_t wanted = 2 * c->capacity + piece->n;
        struct entry *entries = realloc(c->entries, wanted * sizeof *entries);
        if (entries)
            c->entries = entries;
        float *vectors = realloc(c->vectors, wanted * dim * sizeof *vectors);
        if (vectors)
            c->vectors = vectors;
        if (!entries || !vectors)
            return 0;
        c->capacity = wanted;
    }
    return 1;
}

static size_t keep(collection *c, embed_text text) {
    const size_t at = c->bytes_used;
    if (text.len)
        memcpy(c->bytes + at, text.ptr, text.len);
    c->bytes_used += text.len;
    return at;
}

/* Embed one piece and append it. */
static int append(search_run *run, collection *c, const char *name, const text_piece *piece,
                  int32_t role) {
    if (!collection_reserve(c, piece, run->dim))
        return tool_fail(run->who, "%s: line %llu: not enough memory", name,
                         (unsigned long long)piece->lines[0]);
    embed_encode_params params = EMBED_ENCODE_PARAMS_INIT;
    params.role = role;
    params.flags = EMBED_NORMALIZE; /* so that a dot product is the cosine */
    params.reports = run->reports;
    params.progress = progress_callback;
    params.progress_user = &run->progress;
    progress_piece_begin(&run->progress, piece->bytes);
    const embed_status st = embed_encode(run->ctx, piece->texts, piece->n, &params,
                                         c->vectors + c->n * run->dim, piece->n * run->dim);
    if (st == EMBED_ERR_CANCELLED)
        return EXIT_FAILED;
    if (st != EMBED_OK)
        return tool_fail(run->who, "%s: lines %llu to %llu: %s", name,
                         (unsigned long long)piece->lines[0],
                         (unsigned long long)piece->lines[piece->n - 1], embed_last_error());
    uint64_t tokens = 0;
    for (size_t i = 0; i < piece->n; i++) {
        struct entry *e = &c->entries[c->n++];
        tokens += (uint64_t)run->reports[i].tokens;
        run->cut += run->reports[i].truncated != 0;
        e->line = piece->lines[i];
        e->id_len = piece->ids[i].ptr ? piece->ids[i].len : SIZE_MAX;
        e->id = keep(c, piece->ids[i]);
        e->text_len = piece->texts[i].len;
        e->text = keep(c, piece->texts[i]);
    }
    progress_piece_end(&run->progress, piece->n, tokens);
    return EXIT_OK;
}

static int append_file(search_run *run, collection *c, const char *path, text_format format,
                       int32_t role) {
    text_reader reader;
    int code = text_reader_open(&reader, run->who, path, format);
    reader.with_title = 1;
    progress_start(&run->progress, reader.file_bytes, 0);
    const text_piece *piece = NULL;
    while (code == EXIT_OK && (code = text_reader_next(&reader, PIECE_TEXTS, &piece)) == EXIT_OK &&
           piece->n > 0)
        code = append(run, c, reader.name, piece, role);
    progress_end(&run->progress, 0);
    text_reader_close(&reader);
    return code;
}

static int append_operands(search_run *run, collection *c, char *const *operands, size_t n,
                           int32_t role) {
    int code = EXIT_OK;
    for (size_t i = 0; i < n && code == EXIT_OK; i++) {
        embed_text text = {operands[i], strlen(operands[i])}, id = {NULL, 0};
        uint64_t line = i + 1;
        const text_piece piece = {.n = 1, .texts = &text, .ids = &id, .lines = &line};
        code = append(run, c, "query", &piece, role);
    }
    return code;
}

/* The k best, best first; equal scores in corpus order. Returns how many there are. */
static size_t best(const collection *corpus, const float *query, size_t dim, size_t k, hit *hits) {
    size_t found = 0;
    for (size_t i = 0; i < corpus->n; i++) {
        const double score = embed_dot(query, corpus->vectors + i * dim, dim);
        if (found == k && !(score > hits[k - 1].score))
            continue;
        size_t at = found < k ? found++ : k - 1;
        for (; at > 0 && score > hits[at - 1].score; at--)
            hits[at] = hits[at - 1];
        hits[at] = (hit){i, score};
    }
    return found;
}

static embed_text entry_text(const collection *c, size_t i) {
    return (embed_text){c->bytes + c->entries[i].text, c->entries[i].text_len};
}

/* The line's own id, else its line number. */
static embed_text entry_id(const collection *c, size_t i, char number[24]) {
    const struct entry *e = &c->entries[i];
    if (e->id_len != SIZE_MAX)
        return (embed_text){c->bytes + e->id, e->id_len};
    return (embed_text){number, (size_t)snprintf(number, 24, "%llu", (unsigned long long)e->line)};
}

/* At most `limit` bytes of a text on one line, never cutting a character in two. */
static void print_line(embed_text text, size_t limit) {
    size_t n = text.len;
    if (n > limit)
        for (n = limit; n > 0 && ((unsigned char)text.ptr[n] & 0xC0) == 0x80;)
            n--;
    for (size_t i = 0; i < n; i++)
        putchar((unsigned char)text.ptr[i] < 0x20 ? ' ' : text.ptr[i]);
    puts(n < text.len ? "..." : "");
}

static void print_table(const collection *corpus, const collection *queries, size_t q,
                        const hit *hits, size_t n) {
    char number[24];
    if (q > 0)
        putchar('\n');
    fputs("query: ", stdout);
    print_line(entry_text(queries, q), SIZE_MAX);
    for (size_t i = 0; i < n; i++) {
        const embed_text id = entry_id(corpus, hits[i].entry, number);
        printf("%3zu  %7.4f  %-8.*s ", i + 1, hits[i].score, (int)id.len, id.ptr);
        print_line(entry_text(corpus, hits[i].entry), SHOWN_BYTES);
    }
}

/* One object a hit: {"query": id, "rank": 1, "score": ..., "id": ..., "text": ...}. */
static int print_json(const collection *corpus, const collection *queries, size_t q,
                      const hit *hits, size_t n) {
    char q_number[24], number[24];
    const embed_text query = entry_id(queries, q, q_number);
    for (size_t i = 0; i < n; i++) {
        const embed_text id = entry_id(corpus, hits[i].entry, number);
        const embed_text text = entry_text(corpus, hits[i].entry);
        yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
        yyjson_mut_val *root = yyjson_mut_obj(doc);
        yyjson_mut_doc_set_root(doc, root);
        yyjson_mut_obj_add_strn(doc, root, "query", query.ptr, query.len);
        yyjson_mut_obj_add_uint(doc, root, "rank", i + 1);
        yyjson_mut_obj_add_real(doc, root, "score", hits[i].score);
        yyjson_mut_obj_add_strn(doc, root, "id", id.ptr, id.len);
        yyjson_mut_obj_add_strn(doc, root, "text", text.ptr, text.len);
        char *line = yyjson_mut_write(doc, YYJSON_WRITE_ALLOW_INVALID_UNICODE, NULL);
        yyjson_mut_doc_free(doc);
        if (!line)
            return 0;
        puts(line);
        free(line);
    }
    return 1;
}

static int answer(const search_run *run, const search_options *o, const collection *corpus,
                  const collection *queries) {
    const size_t k = (size_t)o->k < corpus->n ? (size_t)o->k : corpus->n;
    hit *hits = malloc((k + 1) * sizeof *hits);
    int code = hits ? EXIT_OK : tool_fail(run->who, "not enough memory");
    for (size_t q = 0; q < queries->n && code == EXIT_OK; q++) {
        const size_t n = k ? best(corpus, queries->vectors + q * run->dim, run->dim, k, hits) : 0;
        if (!o->json)
            print_table(corpus, queries, q, hits, n);
        else if (!print_json(corpus, queries, q, hits, n))
            code = tool_fail(run->who, "not enough memory");
    }
    free(hits);
    const int flushed = tool_flush_stdout(run->who);
    return code != EXIT_OK ? code : flushed;
}

static options_result parse(int argc, char **argv, search_options *o, int *first) {
    static const option_choice formats[] = {{"txt", TEXT_LINES}, {"jsonl", TEXT_JSONL}, {NULL, 0}};
    const command cmd = {"search",
                         "-m DIR --corpus FILE [OPTION]... QUERY...",
                         "Prints the texts of a corpus that are closest to each query by meaning.",
                         "  embed search -m all-MiniLM-L6-v2 --corpus texts.txt 'things that fly'\n"
                         "  embed search -m all-MiniLM-L6-v2 --corpus docs.jsonl --queries q.jsonl "
                         "--json\n",
                         0,
                         -1};
    const option_spec table[] = {
        {"input", "corpus", "FILE",
         ".txt: a text a line; .jsonl: {\"text\": ...} a line, with\n"
         "\"id\" or \"_id\" and \"title\" where it has them (required)",
         &o->corpus, NULL, OPTION_TEXT, 0, 0, 0},
        {"input", "corpus-format", "F", "txt or jsonl (by the end of the file's name, else txt)",
         &o->corpus_format, formats, OPTION_CHOICE, 0, 0, 0},
        {"input", "queries", "FILE", "more queries, in a file like the corpus", &o->queries, NULL,
         OPTION_TEXT, 0, 0, 0},
        OPTION_MODEL(o->dir),
        {"model", "corpus-role", "ROLE", "prompt before each text of the corpus (document)",
         &o->corpus_role, tool_roles, OPTION_CHOICE, 0, 0, 0},
        {"model", "query-role", "ROLE", "prompt before each query (query)", &o->query_role,
         tool_roles, OPTION_CHOICE, 0, 0, 0},
        OPTIONS_USE_TABLE(o->table),
        OPTION_THREADS(o->threads),
        OPTION_BATCH_TOKENS(o->batch_tokens),
        OPTIONS_DEVICE(o->device),
        {"output", "top", "K", "results for each query (10)", &o->k, NULL, OPTION_COUNT, 1, 1 << 30,
         'k'},
        {"output", "json", NULL, "one JSON object a result, with the whole text", &o->json, NULL,
         OPTION_FLAG, 0, 0, 0},
        OPTIONS_END};
    return options_parse(&cmd, table, argc, argv, first);
}

int cmd_search(int argc, char **argv) {
    search_options o = {.k = 10,
                        .corpus_role = EMBED_ROLE_DOCUMENT,
                        .query_role = EMBED_ROLE_QUERY,
                        .table = TABLE_OPTIONS_INIT};
    int first;
    const options_result parsed = parse(argc, argv, &o, &first);
    if (parsed != OPTIONS_RUN)
        return parsed == OPTIONS_HELP ? tool_flush_stdout(argv[0]) : EXIT_USAGE;
    if (!o.corpus)
        return tool_usage(argv[0], "--corpus FILE is missing: the texts to search");
    if (first == argc && !o.queries)
        return tool_usage(argv[0], "no query given");
    if (table_use_check(argv[0], &o.table) != EXIT_OK)
        return EXIT_USAGE;

    embed_context_params params = EMBED_CONTEXT_PARAMS_INIT;
    params.threads = o.threads;
    params.batch_tokens = o.batch_tokens;
    if (tool_device(argv[0], &o.device, &params) != EXIT_OK ||
        table_use_place(argv[0], &o.table, &params) != EXIT_OK)
        return EXIT_USAGE;
    embed_model *model;
    embed_table *table = NULL;
    search_run run = {.who = argv[0]};
    int code = tool_open(argv[0], o.dir, EMBED_ISA_AUTO, &params, &model, &run.ctx);
    if (code != EXIT_OK)
        return code;
    interrupt_catch();
    embed_model_info info = {.struct_size = sizeof info};
    collection corpus = {0}, queries = {0};
    run.reports = malloc(PIECE_TEXTS * sizeof *run.reports);
    if (!run.reports)
        code = tool_fail(argv[0], "not enough memory");
    else if (embed_model_get_info(model, &info) != EMBED_OK)
        code = tool_fail(argv[0], "%s", embed_last_error());
    run.dim = (size_t)info.dim;
    if (code == EXIT_OK)
        code = table_use_attach(argv[0], &o.table, model, run.ctx, &table);
    if (code == EXIT_OK)
        code = append_operands(&run, &queries, argv + first, (size_t)(argc - first), o.query_role);
    if (code == EXIT_OK && o.queries)
        code = append_file(&run, &queries, o.queries, TEXT_BY_NAME, o.query_role);
    if (code == EXIT_OK)
        code = append_file(&run, &corpus, o.corpus, (text_format)o.corpus_format, o.corpus_role);
    if (code == EXIT_OK)
        code = answer(&run, &o, &corpus, &queries);
    if (code == EXIT_OK && run.cut)
        fprintf(stderr, "%s: %llu texts were cut to %d tokens\n", argv[0],
                (unsigned long long)run.cut, info.max_tokens);
    collection_free(&corpus);
    collection_free(&queries);
    free(run.reports);
    embed_context_free(run.ctx);
    embed_table_free(table);
    embed_model_free(model);
    interrupt_obey();
    return code;
}
