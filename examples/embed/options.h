/* options: the command line of one `embed` command as a table, from which both getopt_long and the
 * text of --help are made, so that the two never disagree. */
#ifndef EMBED_PROGRAM_OPTIONS_H
#define EMBED_PROGRAM_OPTIONS_H

#include <stddef.h>
#include <stdint.h>

typedef enum option_kind {
    OPTION_FLAG,   /* int32_t set to 1 */
    OPTION_TEXT,   /* const char * */
    OPTION_COUNT,  /* int32_t within [least, most] */
    OPTION_CHOICE, /* int32_t, one of `choices` */
    OPTION_SIZE,   /* uint64_t bytes, at least `least`: 800M, 1.5GiB (units.h) */
    OPTION_AMOUNT, /* uint64_t things, at least `least`: 5000, 100k, 1.5M (units.h) */
    OPTION_SHARE,  /* double within [0, 1]: 10% or 0.1 */
    OPTION_TEXTS   /* option_texts; may be given again and again */
} option_kind;

/* The values of an option that may be repeated; they point into argv. Starts as {NULL, 0}, ends
 * with option_texts_free. */
typedef struct option_texts {
    const char **items;
    size_t n;
} option_texts;

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

/* Operands that mean the same as a repeated option (`-i A B C` of a shell's *): n more values; 0 if
 * memory is short. */
int option_texts_add(option_texts *texts, char **values, int n);
void option_texts_free(option_texts *texts);

#endif
