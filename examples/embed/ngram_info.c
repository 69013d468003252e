/* embed ngram info: what a table is, what it is bound to and where it comes from. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "json_out.h"
#include "ngram.h"
#include "table_options.h"
#include "units.h"

#define VERSION_CHARS 256

/* A store: its versions, names such as v000001 in order, and the one that `current` names. */
typedef struct store {
    char (*versions)[VERSION_CHARS];
    size_t n;
    char current[VERSION_CHARS]; /* "": a table, no store */
} store;

static int by_name(const void *a, const void *b) {
    return strcmp(a, b);
}

static int is_version(const char *name) {
    return name[0] == 'v' && name[1] && name[1 + strspn(name + 1, "0123456789")] == '\0';
}

/* 0 if memory is short. */
static int list_versions(store *s, DIR *dir) {
    for (const struct dirent *e; (e = readdir(dir));) {
        if (!is_version(e->d_name))
            continue;
        void *bigger = realloc(s->versions, (s->n + 1) * sizeof *s->versions);
        if (!bigger)
            return 0;
        s->versions = bigger;
        snprintf(s->versions[s->n++], VERSION_CHARS, "%s", e->d_name);
    }
    if (s->n)
        qsort(s->versions, s->n, sizeof *s->versions, by_name);
    return 1;
}

static int read_store(store *s, const char *who, const char *path) {
    const size_t bytes = strlen(path) + sizeof "/current";
    char *link = malloc(bytes);
    *s = (store){0};
    if (!link)
        return tool_fail(who, "not enough memory");
    snprintf(link, bytes, "%s/current", path);
    const ssize_t n = readlink(link, s->current, sizeof s->current - 1);
    free(link);
    s->current[n > 0 ? n : 0] = '\0';
    DIR *dir = n > 0 ? opendir(path) : NULL;
    const int good = !dir || list_versions(s, dir);
    if (dir)
        closedir(dir);
    return good ? EXIT_OK : tool_fail(who, "not enough memory");
}

static const char *name_of(const option_choice *choices, int32_t value) {
    while (choices->name && choices->value != value)
        choices++;
    return choices->name ? choices->name : "none";
}

static const char *combine_name(int32_t combine) {
    return combine == EMBED_TABLE_ADD ? "add" : "replace";
}

static void print_stated(const char *name, const char *value) {
    if (value)
        printf("%-18s%s\n", name, value);
}

static void print_text(const embed_table_info *t, const embed_table_stats *stats, const store *s) {
    char a[16], b[16];
    printf("table             %s\n", t->path);
    printf("id                %s\n", t->id);
    printf("n-grams           %llu of 2 to %d tokens\n", (unsigned long long)t->rows, t->k);
    for (int n = 2; n <= t->k; n++)
        printf("  of %d tokens     %llu\n", n, (unsigned long long)t->rows_by_length[n]);
    printf("use               %s the word embedding\n",
           t->combine == EMBED_TABLE_ADD ? "rows are added to" : "rows replace");
    printf("rows              %d x %s", t->width, tool_dtype_name(t->dtype));
    if (t->width != t->hidden)
        printf(", projected to %d", t->hidden);
    printf(", %llu bytes each\n", (unsigned long long)t->row_bytes);
    printf("size              rows %s in %d %s, index %s of %llu keys\n",
           units_size(t->rows_bytes, a), t->parts, t->parts == 1 ? "part" : "parts",
           units_size(t->index_bytes, b), (unsigned long long)t->keys);
    printf("encrypted         %s\n", t->encrypted ? "AES-256-GCM" : "no");
    printf("made for          model %s\n", t->model);
    printf("  tokenizer       %s, vocabulary %d\n", t->tokenizer, t->vocab);
    printf("  embedding       %s, %d wide\n", t->embedding, t->hidden);
    print_stated("corpus", t->corpus);
    print_stated("corpus date", t->corpus_date);
    print_stated("licence", t->licence);
    if (t->min_count >= 0)
        printf("least count       %lld\n", (long long)t->min_count);
    if (t->min_documents >= 0)
        printf("least documents   %lld\n", (long long)t->min_documents);
    print_stated("f-gram model", t->fgram_model);
    print_stated("parent", t->parent);
    print_stated("created", t->created);
    print_stated("created by", t->created_by);
    if (stats->resident_share >= 0)
        printf("in memory         %.1f %% of the rows\n", 100 * stats->resident_share);
    for (size_t i = 0; i < s->n; i++)
        printf("version           %s%s\n", s->versions[i],
               strcmp(s->versions[i], s->current) == 0 ? " (current)" : "");
}

static void add_stated(json_doc *doc, json_value *object, const char *name, const char *value) {
    if (value)
        json_out_text(doc, object, name, value);
}

static void add_binding(json_doc *doc, json_value *root, const embed_table_info *t) {
    json_value *o = json_out_object(doc, root, "binding");
    json_out_int(doc, o, "hidden", t->hidden);
    json_out_int(doc, o, "vocab", t->vocab);
    json_out_text(doc, o, "tokenizer", t->tokenizer);
    json_out_text(doc, o, "embedding", t->embedding);
    json_out_text(doc, o, "model", t->model);
}

static void add_provenance(json_doc *doc, json_value *root, const embed_table_info *t) {
    json_value *o = json_out_object(doc, root, "provenance");
    add_stated(doc, o, "corpus", t->corpus);
    add_stated(doc, o, "corpus_date", t->corpus_date);
    add_stated(doc, o, "licence", t->licence);
    add_stated(doc, o, "created", t->created);
    add_stated(doc, o, "created_by", t->created_by);
    add_stated(doc, o, "parent", t->parent);
    add_stated(doc, o, "fgram_model", t->fgram_model);
    if (t->min_count >= 0)
        json_out_int(doc, o, "min_count", t->min_count);
    if (t->min_documents >= 0)
        json_out_int(doc, o, "min_documents", t->min_documents);
}

static int print_json(const char *who, const embed_table_info *t, const embed_table_stats *stats,
                      const store *s) {
    json_value *root;
    json_doc *doc = json_out_new(&root);
    json_out_text(doc, root, "path", t->path);
    json_out_text(doc, root, "table_id", t->id);
    json_out_text(doc, root, "mode", combine_name(t->combine));
    json_out_int(doc, root, "k", t->k);
    json_out_uint(doc, root, "rows", t->rows);
    json_out_uint(doc, root, "keys", t->keys);
    json_out_uints(doc, root, "rows_by_length", t->rows_by_length, (size_t)t->k + 1);
    json_out_int(doc, root, "width", t->width);
    json_out_text(doc, root, "dtype", tool_dtype_name(t->dtype));
    json_out_uint(doc, root, "row_bytes", t->row_bytes);
    json_out_int(doc, root, "parts", t->parts);
    json_out_uint(doc, root, "rows_bytes", t->rows_bytes);
    json_out_uint(doc, root, "index_bytes", t->index_bytes);
    json_out_bool(doc, root, "encrypted", t->encrypted != 0);
    add_binding(doc, root, t);
    add_provenance(doc, root, t);
    json_out_text(doc, root, "table_mode", name_of(table_modes, t->mode));
    json_out_text(doc, root, "table_io", name_of(table_ios, t->io));
    if (stats->resident_share >= 0)
        json_out_real(doc, root, "resident_share", stats->resident_share);
    if (*s->current) {
        json_value *versions = json_out_array(doc, root, "versions");
        for (size_t i = 0; i < s->n; i++)
            json_out_item(doc, versions, s->versions[i]);
        json_out_text(doc, root, "current", s->current);
    }
    return json_out_print(doc, who, stdout);
}

static int print_table(const char *who, embed_table *table, const char *path, int json) {
    embed_table_info info = {.struct_size = sizeof info};
    embed_table_stats stats = {.struct_size = sizeof stats};
    store versions;
    if (embed_table_get_info(table, &info) != EMBED_OK ||
        embed_table_get_stats(table, &stats) != EMBED_OK)
        return tool_fail(who, "%s", embed_last_error());
    int code = read_store(&versions, who, path);
    if (code == EXIT_OK && json)
        code = print_json(who, &info, &stats, &versions);
    else if (code == EXIT_OK)
        print_text(&info, &stats, &versions);
    free(versions.versions);
    return code;
}

int ngram_info(int argc, char **argv) {
    table_options options = TABLE_OPTIONS_INIT;
    int32_t json = 0;
    int first;
    const command cmd = {
        "ngram info",
        "[OPTION]... TABLE",
        "Prints what a table is: sizes, the model it is made for, where it comes from.",
        "  embed ngram info table\n"
        "  embed ngram info --json store | jq .binding\n",
        1,
        1};
    const option_spec table[] = {OPTION_KEY(options),
                                 OPTION_ALLOW_UNSAFE(options),
                                 {"output", "json", NULL, "one JSON object instead of a table",
                                  &json, NULL, OPTION_FLAG, 0, 0, 0},
                                 OPTIONS_END};
    const options_result parsed = options_parse(&cmd, table, argc, argv, &first);
    if (parsed != OPTIONS_RUN)
        return parsed == OPTIONS_HELP ? tool_flush_stdout(argv[0]) : EXIT_USAGE;

    options.path = argv[first];
    embed_table *open;
    int code = table_open(argv[0], &options, NULL, &open);
    if (code == EXIT_OK)
        code = print_table(argv[0], open, options.path, json);
    embed_table_free(open);
    const int flushed = tool_flush_stdout(argv[0]);
    return code != EXIT_OK ? code : flushed;
}
