/* embed ngram compact: another version of a table. */
#include <stdio.h>

#include "interrupt.h"
#include "job.h"
#include "make_options.h"
#include "ngram.h"
#include "table_options.h"

typedef struct settings {
    table_options table;
    const char *output;
    double load;
    embed_compact_params params;
    job run;
} settings;

static int compact(const char *who, settings *s, const char *input) {
    char day[16];
    s->params.key_path = s->table.key;
    s->params.flags = s->table.allow_unsafe ? EMBED_TABLE_ALLOW_UNSAFE : 0;
    s->params.load = s->load;
    if (s->params.created == NULL)
        s->params.created = make_today(day);
    job_start(&s->run, who, &s->params.job);
    const int code = job_end(&s->run, embed_table_compact(input, s->output, &s->params));
    if (code == EXIT_OK && s->run.shown)
        fprintf(stderr, "%s is written, after %.1f s\n", s->output, job_seconds(&s->run));
    interrupt_obey();
    return code;
}

int ngram_compact(int argc, char **argv) {
    settings s = {.table = TABLE_OPTIONS_INIT, .params = {.struct_size = sizeof s.params}};
    embed_compact_params *p = &s.params;
    int first;
    const command cmd = {
        "ngram compact",
        "[OPTION]... TABLE -o NEW",
        "Writes a new version of a table: rows in the order of their use, without rare n-grams,\n"
        "or of another type.",
        "  embed ngram compact table --by-access log.jsonl --drop-below 20 -o smaller\n"
        "  embed ngram compact table --dtype int8 -o smaller\n",
        1,
        1};
    const option_spec table[] = {
        {"input", "by-access", "LOG",
         "order by use: lines {\"row\":n,\"hits\":n}, or a row number\nand perhaps its hits",
         &p->access_log, NULL, OPTION_TEXT, 0, 0, 0},
        {"input", "drop-below", "COUNT", "leave out n-grams that occurred less often",
         &p->drop_below, NULL, OPTION_AMOUNT, 1, 0, 0},
        OPTION_KEY(s.table),
        OPTION_ROW_DTYPE(p->dtype, "as they are"),
        {"table", "encrypt", "KEYFILE", "encrypt with this key (an encrypted table keeps its own)",
         &p->new_key_path, NULL, OPTION_TEXT, 0, 0, 0},
        {"table", "decrypt", NULL, "write an encrypted table in clear", &p->decrypt, NULL,
         OPTION_FLAG, 0, 0, 0},
        OPTION_ALLOW_UNSAFE(s.table),
        OPTION_LOAD(s.load),
        OPTION_PART_SIZE(p->part_bytes),
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
    if (s.output == NULL)
        return tool_usage(argv[0], "-o TABLE is missing: the directory to write");
    if (p->decrypt && p->new_key_path != NULL)
        return tool_usage(argv[0], "--encrypt and --decrypt exclude each other");
    return compact(argv[0], &s, argv[first]);
}
