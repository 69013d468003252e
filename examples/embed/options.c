#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "units.h"

#define MAX_OPTIONS 40
#define FIRST_LONG 256 /* getopt value of table entry 0; above every letter */

#define LEFT_WIDTH 27

/* The option on the left, its explanation on the right, lines of it under each other. */
static void print_item(const char *left, const char *help) {
    if (strlen(left) > LEFT_WIDTH) {
        printf("  %s\n", left);
        left = "";
    }
    for (; *help; left = "") {
        const size_t line = strcspn(help, "\n");
        printf("  %-*s %.*s\n", LEFT_WIDTH, left, (int)line, help);
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
    if (!*group)
        printf("\n");
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

static int wrong_value(const char *who, const option_spec *o, const char *expected,
                       const char *text) {
    fprintf(stderr, "%s: --%s: expected %s, found '%s'\n", who, o->name, expected, text);
    return 0;
}

static int set_scaled(const char *who, const option_spec *o, const char *text) {
    const int is_size = o->kind == OPTION_SIZE;
    uint64_t value;
    if (!(is_size ? units_parse_size : units_parse_amount)(text, &value))
        return wrong_value(who, o, is_size ? UNITS_SIZE_EXPECTED : UNITS_AMOUNT_EXPECTED, text);
    if (value < (uint64_t)o->least) {
        char expected[48];
        snprintf(expected, sizeof expected, "at least %d%s", o->least, is_size ? " bytes" : "");
        return wrong_value(who, o, expected, text);
    }
    *(uint64_t *)o->target = value;
    return 1;
}

static int set_share(const char *who, const option_spec *o, const char *text) {
    char *end;
    double value = strtod(text, &end);
    const int percent = *end == '%';
    if (percent)
        value /= 100;
    if (strspn(text, "0123456789.") != (size_t)(end - text) || end == text || end[percent] ||
        !(value >= 0 && value <= 1))
        return wrong_value(who, o, "a share from 0% to 100% or from 0 to 1", text);
    *(double *)o->target = value;
    return 1;
}

int option_texts_add(option_texts *texts, char **values, int n) {
    if (n <= 0)
        return 1;
    const char **bigger = realloc(texts->items, (texts->n + (size_t)n) * sizeof *bigger);
    if (!bigger)
        return 0;
    texts->items = bigger;
    for (int i = 0; i < n; i++)
        texts->items[texts->n++] = values[i];
    return 1;
}

void option_texts_free(option_texts *texts) {
    free(texts->items);
    *texts = (option_texts){NULL, 0};
}

static int add_text(const char *who, const option_spec *o, char *text) {
    if (option_texts_add(o->target, &text, 1))
        return 1;
    fprintf(stderr, "%s: --%s: not enough memory\n", who, o->name);
    return 0;
}

static int set_option(const char *who, const option_spec *o, char *text) {
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
    case OPTION_SIZE:
    case OPTION_AMOUNT:
        return set_scaled(who, o, text);
    case OPTION_SHARE:
        return set_share(who, o, text);
    case OPTION_TEXTS:
        return add_text(who, o, text);
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
