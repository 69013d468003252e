/* embed ngram verify: is a table what it was when it was written? */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "interrupt.h"
#include "job.h"
#include "json_out.h"
#include "ngram.h"
#include "table_options.h"
#include "units.h"

#define MAX_TOLD 100 /* as embed_problem_fn is called */

typedef struct settings {
    table_options table;
    const char *model;
    int32_t full, quick, json;
    char *told[MAX_TOLD][2]; /* file and problem, for JSON */
    size_t n_told;
    job run;
} settings;

static void tell_problem(void *user, const char *file, const char *problem) {
    settings *s = user;
    if (s->run.shown && s->run.terminal)
        fputs("\r\033[K", stderr);
    if (!s->json)
        printf("%s: %s\n", file, problem);
    else if (s->n_told < MAX_TOLD) {
        s->told[s->n_told][0] = strdup(file);
        s->told[s->n_told++][1] = strdup(problem);
    }
}

static int print_json(const char *who, const settings *s, const embed_verify_result *r) {
    json_value *root = NULL;
    json_doc *doc = json_out_new(&root);
    json_out_bool(doc, root, "good", r->problems == 0);
    json_out_bool(doc, root, "full", s->full);
    json_value *list = json_out_array(doc, root, "problems");
    for (size_t i = 0; i < s->n_told; i++) {
        json_value *one = json_out_object(doc, list, NULL);
        json_out_text(doc, one, "file", s->told[i][0]);
        json_out_text(doc, one, "problem", s->told[i][1]);
    }
    json_out_uint(doc, root, "n_problems", r->problems);
    json_out_uint(doc, root, "files", r->files);
    json_out_uint(doc, root, "rows", r->rows);
    json_out_uint(doc, root, "index_entries", r->index_entries);
    json_out_uint(doc, root, "bytes_read", r->bytes);
    return json_out_print(doc, who, stdout);
}

static int print_result(const char *who, const settings *s, const embed_verify_result *r) {
    char bytes[16];
    if (s->json)
        return print_json(who, s, r);
    if (r->problems > 0)
        printf("%llu problem%s\n", (unsigned long long)r->problems, r->problems > 1 ? "s" : "");
    else if (s->full)
        printf("good: %llu rows, %llu index entries, %s in %llu files\n",
               (unsigned long long)r->rows, (unsigned long long)r->index_entries,
               units_size(r->bytes, bytes), (unsigned long long)r->files);
    else
        printf("good as far as was looked: %llu files, the index; --full checks every row\n",
               (unsigned long long)r->files);
    return tool_flush_stdout(who);
}

static int verify(const char *who, settings *s) {
    embed_model *model = NULL;
    embed_verify_result r = {.struct_size = sizeof r};
    embed_verify_params p = {.struct_size = sizeof p,
                             .full = s->full,
                             .flags = s->table.allow_unsafe ? EMBED_TABLE_ALLOW_UNSAFE : 0,
                             .key_path = s->table.key,
                             .problem = tell_problem,
                             .problem_user = s};
    int code = EXIT_OK;
    if (s->model != NULL)
        code = tool_open_model(who, s->model, EMBED_ISA_AUTO, &model);
    if (code != EXIT_OK)
        return code;
    job_start(&s->run, who, &p.job);
    const embed_status st = embed_table_verify(s->table.path, model, &p, &r);
    code = job_end(&s->run, r.problems > 0 ? EMBED_OK : st); /* problems were told of */
    if (st == EMBED_OK || r.problems > 0)
        code = print_result(who, s, &r) != EXIT_OK || r.problems > 0 ? EXIT_FAILED : code;
    for (size_t i = 0; i < s->n_told; i++) {
        free(s->told[i][0]);
        free(s->told[i][1]);
    }
    embed_model_free(model);
    interrupt_obey();
    return code;
}

int ngram_verify(int argc, char **argv) {
    settings s = {.table = TABLE_OPTIONS_INIT};
    int first;
    const command cmd = {
        "ngram verify",
        "[OPTION]... TABLE",
        "Checks a table, or the current version of a store, and names everything that is wrong.",
        "  embed ngram verify table\n"
        "  embed ngram verify --full -m all-MiniLM-L6-v2 store\n",
        1,
        1};
    const option_spec table[] = {
        {"model", "model", "DIR", "compare with this checkpoint too", &s.model, NULL, OPTION_TEXT,
         0, 0, 'm'},
        OPTION_KEY(s.table),
        OPTION_ALLOW_UNSAFE(s.table),
        {"run", "quick", NULL, "manifest, names, sizes, headers, index (the default)", &s.quick,
         NULL, OPTION_FLAG, 0, 0, 0},
        {"run", "full", NULL,
         "also SHA-256 of every file, the checksum of every row,\nevery row found by its own "
         "n-gram, "
         "every entry of the index",
         &s.full, NULL, OPTION_FLAG, 0, 0, 0},
        OPTION_THREADS(s.run.threads),
        OPTION_PROGRESS(s.run.progress),
        {"output", "json", NULL, "the findings as JSON", &s.json, NULL, OPTION_FLAG, 0, 0, 0},
        OPTIONS_END};
    const options_result parsed = options_parse(&cmd, table, argc, argv, &first);
    if (parsed != OPTIONS_RUN)
        return parsed == OPTIONS_HELP ? tool_flush_stdout(argv[0]) : EXIT_USAGE;
    if (s.full && s.quick)
        return tool_usage(argv[0], "--quick and --full exclude each other");
    s.table.path = argv[first];
    return verify(argv[0], &s);
}
