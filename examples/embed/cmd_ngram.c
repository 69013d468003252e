/* embed ngram: tables of n-gram vectors; a command line of its own, each command a file ngram_*.c.
 */
#include <stdio.h>
#include <string.h>

#include "ngram.h"

typedef struct ngram_command {
    const char *name, *sentence;
    int (*run)(int argc, char **argv);
} ngram_command;

/* In the order in which one uses them. */
static const ngram_command commands[] = {
    {"advise", "how much of a corpus a table would cover", ngram_advise},
    {"count", "the frequent n-grams of texts, exactly", ngram_count},
    {"merge", "counts of several parts of a corpus as one", ngram_merge},
    {"select", "which n-grams get a row, and what they would cover", ngram_select},
    {"rows", "vectors for the n-grams of a list", ngram_rows},
    {"build", "write a table from n-grams and their vectors", ngram_build},
    {"verify", "is a table what it was when it was written?", ngram_verify},
    {"publish", "make a table the current version of a store", ngram_publish},
    {"rollback", "make an earlier version the current one", ngram_rollback},
    {"versions", "the versions of a store", ngram_versions},
    {"info", "what a table is, what it is made for, where it comes from", ngram_info},
    {"dump", "its n-grams, counts and vectors", ngram_dump},
    {"query", "which rows the tokens of texts would take; coverage", ngram_query},
    {"warm", "bring its hottest rows into memory", ngram_warm},
    {"compact", "another version: re-ordered by use, trimmed, requantised", ngram_compact},
    {"bench", "how fast rows come from this disk and memory, in every way", ngram_bench},
    {NULL, NULL, NULL},
};

static void print_help(void) {
    printf("usage: embed ngram COMMAND [OPTION]...\n\n"
           "Makes, checks and reads tables of n-gram vectors, which stand beside a model.\n\n"
           "commands\n");
    for (const ngram_command *c = commands; c->name; c++)
        printf("  %-11s %s\n", c->name, c->sentence);
    printf("\n`embed ngram COMMAND --help` tells the options of a command. Sizes are bytes or\n"
           "take K M G T (KiB MiB GiB TiB); amounts take k M G (thousands, millions ...).\n"
           "  -h, --help  print this text\n\n"
           "Exit status: 0 done, 1 failed, 2 wrong usage.\n\n"
           "examples\n"
           "  embed ngram advise -m all-MiniLM-L6-v2 -i sample.txt\n"
           "  embed ngram info table\n");
}

int cmd_ngram(int argc, char **argv) {
    if (argc < 2)
        return tool_usage(argv[0], "no command given; see embed ngram --help");
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_help();
        return tool_flush_stdout(argv[0]);
    }
    for (const ngram_command *c = commands; c->name; c++) {
        if (strcmp(argv[1], c->name) == 0) {
            char title[48]; /* getopt_long starts its messages with argv[0] */
            snprintf(title, sizeof title, "embed ngram %s", c->name);
            argv[1] = title;
            return c->run(argc - 1, argv + 1);
        }
    }
    return tool_usage(argv[0], "unknown command '%s'; see embed ngram --help", argv[1]);
}
