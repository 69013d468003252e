#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_OPTIONS 32
#define FIRST_LONG 256 /* getopt value of table entry 0; above every letter */

/* The option on the left, its explanation on the right, lines of it under each other. */
static void print_item(const char *left, const char *help) {
    for (; *help; left = "") {
        const size_t line = strcspn(help, "\n");
        printf("  %-27s %.*s\n", left, (int)line, help);
        help += line + (help[line] == '\n');
    }
}

static void print_help(const command *cmd, const option_spec *table) {
    printf("usage: embed %s %s\n\n%s\n", cmd->name, cmd->usage, cmd->sentence);
    const char *group = "";
    for (const option_spec *o = table; o->name; o++) {
        char left[48];
        if (strcmp(group, o->group) != 0)
            printf("\n%s\n", o->group);
        group = o->group;
        if (o->letter)
            snprintf(left, sizeof left, "-%c, --%s%s%s", o->letter, o->name, o->metavar ? " " : "",
                     o->metavar ? o->metavar : "");
        else
            snprintf(left, sizeof left, "    --%s%s%s", o->name, o->metavar ? " " : "",
                     o->metavar ? o->metavar : "");
        print_item(left, o->help);
    }
    print_item("-h, --help", "print this text");
    printf("\nexamples\n%s", cmd->examples);
}

static int set_count(const char *who, const option_spec *o, const char *text) {
    char *end;
    errno = 0;
    const long value = strtol(text, &end, 10);
    if (end == text || *end || errno || value < o->least || value > o->most) {
        fprintf(stderr, "%s: --%s: expected a whole number from %d to %d, found '%s'\n", who,
                o->name, o->least, o->most, text);
        return 0;
    }
    *(int32_t *)o->target = (int32_t)value;
    return 1;
}

static int set_choice(const char *who, const option_spec *o, const char *text) {
    for (const option_choice *c = o->choices; c->name; c++) {
        if (strcmp(c->name, text) == 0) {
            *(int32_t *)o->target = c->value;
            return 1;
        }
    }
    fprintf(stderr, "%s: --%s: expected ", who, o->name);
    for (const option_choice *c = o->choices; c->name; c++)
        fprintf(stderr, "%s%s", c == o->choices ? "" : c[1].name ? ", " : " or ", c->name);
    fprintf(stderr, ", found '%s'\n", text);
    return 0;
}

static int set_option(const char *who, const option_spec *o, const char *text) {
    switch (o->kind) {
    case OPTION_FLAG:
        *(int32_t *)o->target = 1;
        return 1;
    case OPTION_TEXT:
        *(const char **)o->target = text;
        return 1;
    case OPTION_COUNT:
        return set_count(who, o, text);
    case OPTION_CHOICE:
        return set_choice(who, o, text);
    }
    return 0;
}

static int operands_fit(const command *cmd, const char *who, int found, char **operands) {
    if (found < cmd->least_operands) {
        fprintf(stderr, "%s: too few arguments; usage: embed %s %s\n", who, cmd->name, cmd->usage);
        return 0;
    }
    if (cmd->most_operands >= 0 && found > cmd->most_operands) {
        fprintf(stderr, "%s: unexpected argument '%s'\n", who, operands[cmd->most_operands]);
        return 0;
    }
    return 1;
}

options_result options_parse(const command *cmd, const option_spec *table, int argc, char **argv,
                             int *first) {
    struct option longs[MAX_OPTIONS + 2] = {{0}};
    char letters[2 * MAX_OPTIONS + 2] = "h";
    size_t n = 0, n_letters = 1;
    for (; n < MAX_OPTIONS && table[n].name; n++) {
        const int takes = table[n].kind != OPTION_FLAG;
        longs[n] = (struct option){table[n].name, takes, NULL, FIRST_LONG + (int)n};
        if (table[n].letter) {
            letters[n_letters++] = table[n].letter;
            if (takes)
                letters[n_letters++] = ':';
        }
    }
    longs[n] = (struct option){"help", no_argument, NULL, 'h'};

    for (int found; (found = getopt_long(argc, argv, letters, longs, NULL)) != -1;) {
        if (found == 'h') {
            print_help(cmd, table);
            return OPTIONS_HELP;
        }
        if (found == '?') /* getopt_long has said what is wrong */
            return OPTIONS_WRONG;
        const option_spec *o = found >= FIRST_LONG ? &table[found - FIRST_LONG] : table;
        while (found < FIRST_LONG && o->letter != found)
            o++;
        if (!set_option(argv[0], o, optarg))
            return OPTIONS_WRONG;
    }
    *first = optind;
    return operands_fit(cmd, argv[0], argc - optind, argv + optind) ? OPTIONS_RUN : OPTIONS_WRONG;
}
