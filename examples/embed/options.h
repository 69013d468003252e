/* options: the command line of one `embed` command as a table, from which both getopt_long and the
 * text of --help are made, so that the two never disagree. */
#ifndef EMBED_PROGRAM_OPTIONS_H
#define EMBED_PROGRAM_OPTIONS_H

#include <stdint.h>

typedef enum option_kind {
    OPTION_FLAG,  /* int32_t set to 1 */
    OPTION_TEXT,  /* const char * */
    OPTION_COUNT, /* int32_t within [least, most] */
    OPTION_CHOICE /* int32_t, one of `choices` */
} option_kind;

typedef struct option_choice {
    const char *name;
    int32_t value;
} option_choice;

typedef struct option_spec {
    const char *group; /* "input", "model", "run" or "output", groups in this order in the table */
    const char *name;  /* long name */
    const char *metavar; /* NULL for a flag */
    const char *help;    /* with unit and default */
    void *target;
    const option_choice *choices; /* ends with a NULL name */
    option_kind kind;
    int32_t least, most;
    char letter; /* short name or 0 */
} option_spec;

typedef struct command {
    const char *name;
    const char *usage;                     /* what follows "embed <name> " */
    const char *sentence;                  /* what it does */
    const char *examples;                  /* two lines, each starting with "  embed" */
    int32_t least_operands, most_operands; /* most < 0: any number */
} command;

typedef enum options_result {
    OPTIONS_RUN,  /* go on; operands start at *first */
    OPTIONS_HELP, /* --help was asked for and printed */
    OPTIONS_WRONG /* one line on stderr says what is wrong */
} options_result;

/* Parse argv[1 ..]; argv[0] must be "embed <name>", which starts every message. `table` ends with a
 * NULL name. */
options_result options_parse(const command *cmd, const option_spec *table, int argc, char **argv,
                             int *first);

#endif
