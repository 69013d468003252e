/* embed ngram publish, rollback, versions: a store of the versions of a table. */
#include <stdio.h>
#include <stdlib.h>

#include "interrupt.h"
#include "job.h"
#include "json_out.h"
#include "ngram.h"
#include "table_options.h"
#include "units.h"

int ngram_publish(int argc, char **argv) {
    table_options options = TABLE_OPTIONS_INIT;
    embed_publish_params p = {.struct_size = sizeof p};
    job run = {0};
    char version[32];
    int first;
    const command cmd = {
        "ngram publish",
        "[OPTION]... STORE TABLE",
        "Checks a table, copies it into a store and makes it the current version in one step.",
        "  embed ngram publish store table\n"
        "  embed ngram publish --move store table\n",
        2,
        2};
    const option_spec table[] = {{"table", "move", NULL,
                                  "rename instead of copying (on one file system)", &p.move, NULL,
                                  OPTION_FLAG, 0, 0, 0},
                                 OPTION_KEY(options),
                                 OPTION_ALLOW_UNSAFE(options),
                                 OPTION_PROGRESS(run.progress),
                                 OPTIONS_END};
    const options_result parsed = options_parse(&cmd, table, argc, argv, &first);
    if (parsed != OPTIONS_RUN)
        return parsed == OPTIONS_HELP ? tool_flush_stdout(argv[0]) : EXIT_USAGE;
    p.key_path = options.key;
    p.flags = options.allow_unsafe ? EMBED_TABLE_ALLOW_UNSAFE : 0;
    job_start(&run, argv[0], &p.job);
    int code = job_end(&run, embed_table_publish(argv[first], argv[first + 1], &p, version));
    if (code == EXIT_OK) {
        printf("%s\n", version);
        code = tool_flush_stdout(argv[0]);
    }
    interrupt_obey();
    return code;
}

int ngram_rollback(int argc, char **argv) {
    char now[32];
    int first;
    const command cmd = {"ngram rollback",
                         "STORE [VERSION]",
                         "Makes an earlier version of a store the current one; without VERSION the "
                         "one before it.",
                         "  embed ngram rollback store\n"
                         "  embed ngram rollback store v000002\n",
                         1,
                         2};
    const option_spec table[] = {OPTIONS_END};
    const options_result parsed = options_parse(&cmd, table, argc, argv, &first);
    if (parsed != OPTIONS_RUN)
        return parsed == OPTIONS_HELP ? tool_flush_stdout(argv[0]) : EXIT_USAGE;
    if (embed_table_rollback(argv[first], first + 1 < argc ? argv[first + 1] : NULL, now) !=
        EMBED_OK)
        return tool_fail(argv[0], "%s", embed_last_error());
    printf("%s\n", now);
    return tool_flush_stdout(argv[0]);
}

static int print_versions(const char *who, const embed_store_version *v, size_t n, int json) {
    json_value *root = NULL;
    char bytes[16];
    if (!json) {
        for (size_t i = 0; i < n; i++)
            printf("%c %s  %s  %12llu rows  %10s  %s\n", v[i].current ? '*' : ' ', v[i].name,
                   v[i].id, (unsigned long long)v[i].rows, units_size(v[i].bytes, bytes),
                   v[i].created);
        return tool_flush_stdout(who);
    }
    json_doc *doc = json_out_new(&root);
    json_value *list = json_out_array(doc, root, "versions");
    for (size_t i = 0; i < n; i++) {
        json_value *one = json_out_object(doc, list, NULL);
        json_out_text(doc, one, "version", v[i].name);
        json_out_bool(doc, one, "current", v[i].current);
        json_out_text(doc, one, "id", v[i].id);
        json_out_uint(doc, one, "rows", v[i].rows);
        json_out_uint(doc, one, "bytes", v[i].bytes);
        json_out_text(doc, one, "created", v[i].created);
    }
    return json_out_print(doc, who, stdout);
}

int ngram_versions(int argc, char **argv) {
    int32_t json = 0;
    size_t n = 0;
    int first;
    const command cmd = {"ngram versions",
                         "[OPTION]... STORE",
                         "Lists the versions of a store; the current one has a star.",
                         "  embed ngram versions store\n"
                         "  embed ngram versions --json store\n",
                         1,
                         1};
    const option_spec table[] = {
        {"output", "json", NULL, "as JSON", &json, NULL, OPTION_FLAG, 0, 0, 0}, OPTIONS_END};
    const options_result parsed = options_parse(&cmd, table, argc, argv, &first);
    if (parsed != OPTIONS_RUN)
        return parsed == OPTIONS_HELP ? tool_flush_stdout(argv[0]) : EXIT_USAGE;
    if (embed_table_versions(argv[first], NULL, 0, &n) != EMBED_OK)
        return tool_fail(argv[0], "%s", embed_last_error());
    embed_store_version *versions = calloc(n + 1, sizeof *versions);
    if (versions == NULL)
        return tool_fail(argv[0], "out of memory");
    const int code = embed_table_versions(argv[first], versions, n, &n) != EMBED_OK
                         ? tool_fail(argv[0], "%s", embed_last_error())
                         : print_versions(argv[0], versions, n, json);
    free(versions);
    return code;
}
