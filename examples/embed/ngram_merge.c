/* embed ngram merge: counts of several parts of a corpus as one. */
#include <stdio.h>

#include "interrupt.h"
#include "job.h"
#include "ngram.h"
#include "units.h"

/* What was below a part's own least count is in no sum: say so. */
static int tell_losses(const char *who, const char *const *parts, size_t n, const char *output) {
    embed_counts_info info = {.struct_size = sizeof info};
    char tokens[16];
    uint64_t ngrams = 0;
    for (size_t i = 0; i < n; i++) {
        if (embed_counts_get_info(parts[i], &info) != EMBED_OK)
            return tool_fail(who, "%s", embed_last_error());
        if (info.min_count > 1 || info.min_documents > 1)
            printf("%s was counted with --min-count %llu%s: n-grams that are rarer in it are "
                   "missing from the sums\n",
                   parts[i], (unsigned long long)info.min_count,
                   info.min_documents > 1 ? " and --min-docs" : "");
    }
    if (embed_counts_get_info(output, &info) != EMBED_OK)
        return tool_fail(who, "%s", embed_last_error());
    for (int32_t length = 2; length <= info.k; length++)
        ngrams += info.ngrams[length];
    printf("%zu files, %s tokens, %llu n-grams\n", n, units_amount((double)info.tokens, tokens),
           (unsigned long long)ngrams);
    return tool_flush_stdout(who);
}

int ngram_merge(int argc, char **argv) {
    const char *output = NULL;
    job run = {0};
    embed_job params;
    int first;
    const command cmd = {
        "ngram merge",
        "[OPTION]... -o COUNTS PART...",
        "Sums files of `embed ngram count` with one tokenizer and K, of texts that are not "
        "shared.\n"
        "N-grams below a part's own --min-count are missing from the sums: count parts with\n"
        "--min-count 1 where that matters, and give `embed ngram select` the real one. One thread\n"
        "and no temporary files are used, and a killed run starts afresh: it reads its input once.",
        "  embed ngram merge -o corpus.counts part1.counts part2.counts\n"
        "  embed ngram merge -S 4GiB -o all.counts shards/*.counts\n",
        1,
        -1};
    const option_spec table[] = {OPTION_MEMORY(run.memory),
                                 OPTION_TEMP(run.temp),
                                 OPTION_THREADS(run.threads),
                                 OPTION_AGAIN(run.resume),
                                 OPTION_PROGRESS(run.progress),
                                 {"output", "output", "COUNTS", "file to write (required)", &output,
                                  NULL, OPTION_TEXT, 0, 0, 'o'},
                                 OPTIONS_END};
    const options_result parsed = options_parse(&cmd, table, argc, argv, &first);
    if (parsed != OPTIONS_RUN)
        return parsed == OPTIONS_HELP ? tool_flush_stdout(argv[0]) : EXIT_USAGE;
    if (!output)
        return tool_usage(argv[0], "-o COUNTS is missing: the file to write");
    const char *const *parts = (const char *const *)(argv + first);
    const size_t n = (size_t)(argc - first);
    job_start(&run, argv[0], &params);
    int code = job_end(&run, embed_ngram_merge(parts, n, output, &params));
    if (code == EXIT_OK)
        code = tell_losses(argv[0], parts, n, output);
    interrupt_obey();
    return code;
}
