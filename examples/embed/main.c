/* embed - the command-line program: every command is one cmd_*.c file. */
#include <stdio.h>
#include <string.h>

#include "tool.h"

static const struct {
    const char *name, *sentence;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"info", "what a checkpoint is: architecture, sizes, prompts, fingerprint", cmd_info},
    {"encode", "texts or token ids of a file to vectors", cmd_encode},
    {"tokenize", "texts of a file to token ids", cmd_tokenize},
    {"similarity", "cosine similarity of two texts", cmd_similarity},
    {"search", "the texts of a corpus that are closest to a query", cmd_search},
    {"bench", "speed on this machine, beside its matrix-product peak", cmd_bench},
    {"compare", "vectors of a device against those of the CPU", cmd_compare},
    {"devices", "what this machine can encode on, and why not on the rest", cmd_devices},
    {"ngram", "tables of n-gram vectors: count, build, inspect, publish", cmd_ngram},
};

static void print_help(void) {
    printf("usage: embed COMMAND [OPTION]...\n\n"
           "Turns text into vectors with an embedding checkpoint as Hugging Face serves it.\n\n"
           "commands\n");
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        printf("  %-11s %s\n", commands[i].name, commands[i].sentence);
    printf("\n`embed COMMAND --help` tells the options of a command.\n"
           "  -h, --help  print this text\n"
           "  --version   print the version of the library\n\n"
           "Exit status: 0 done, 1 failed, 2 wrong usage.\n\n"
           "examples\n"
           "  embed encode -m all-MiniLM-L6-v2 -i texts.txt -o vectors.npy\n"
           "  embed search -m all-MiniLM-L6-v2 --corpus texts.txt 'things that fly'\n");
}

int main(int argc, char **argv) {
    if (argc < 2)
        return tool_usage("embed", "no command given; see embed --help");
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_help();
        return tool_flush_stdout("embed");
    }
    if (strcmp(argv[1], "--version") == 0) {
        const unsigned v = embed_version();
        printf("embed %u.%u.%u\n", v / 1000000, v / 1000 % 1000, v % 1000);
        return tool_flush_stdout("embed");
    }
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp(argv[1], commands[i].name) == 0) {
            char title[32]; /* getopt_long starts its messages with argv[0] */
            snprintf(title, sizeof title, "embed %s", commands[i].name);
            argv[1] = title;
            return commands[i].run(argc - 1, argv + 1);
        }
    }
    return tool_usage("embed", "unknown command '%s'; see embed --help", argv[1]);
}
