/* embed ngram warm: bring the hottest rows of a table into memory. */
#include <stdio.h>

#include "interrupt.h"
#include "job.h"
#include "ngram.h"
#include "table_options.h"

int ngram_warm(int argc, char **argv) {
    table_options options = TABLE_OPTIONS_INIT;
    job run = {0};
    uint64_t bytes = 0;
    int first;
    const command cmd = {
        "ngram warm",
        "[OPTION]... TABLE",
        "Reads the hottest rows of a table into the system's memory, front to back.",
        "  embed ngram warm table\n"
        "  embed ngram warm --bytes 8GiB store\n",
        1,
        1};
    const option_spec table[] = {{"table", "bytes", "SIZE", "only so much of the first rows (all)",
                                  &bytes, NULL, OPTION_SIZE, 1, 0, 0},
                                 OPTION_KEY(options),
                                 OPTION_ALLOW_UNSAFE(options),
                                 OPTION_PROGRESS(run.progress),
                                 OPTIONS_END};
    const options_result parsed = options_parse(&cmd, table, argc, argv, &first);
    if (parsed != OPTIONS_RUN)
        return parsed == OPTIONS_HELP ? tool_flush_stdout(argv[0]) : EXIT_USAGE;

    options.path = argv[first];
    embed_table *open;
    int code = table_open(argv[0], &options, NULL, &open);
    if (code == EXIT_OK) {
        embed_job params;
        embed_table_stats stats = {.struct_size = sizeof stats};
        job_start(&run, argv[0], &params);
        code = job_end(&run, embed_table_warm(open, bytes, params.report, params.user));
        if (code == EXIT_OK && embed_table_get_stats(open, &stats) == EMBED_OK &&
            stats.resident_share >= 0)
            fprintf(stderr, "%.1f %% of the rows are in memory, after %.1f s\n",
                    100 * stats.resident_share, job_seconds(&run));
    }
    embed_table_free(open);
    interrupt_obey();
    return code;
}
