#define _GNU_SOURCE
#include "bench_options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "embed.h"

static int usage(const char *program) {
    fprintf(stderr,
            "usage: %s [--threads N] [--isa auto|portable|avx2|avx512] [--reps N] [--case NAME]\n"
            "       [--cpu-time]\n",
            program);
    return 0;
}

static int read_isa(const char *name, int32_t *isa) {
    static const char *const names[] = {"auto", "portable", "avx2", "avx512"};
    for (*isa = EMBED_ISA_AUTO; *isa <= EMBED_ISA_AVX512; ++*isa)
        if (strcmp(name, names[*isa]) == 0)
            return 1;
    return 0;
}

int bench_options_read(bench_options *o, int argc, char **argv) {
    *o = (bench_options){.clock = CLOCK_MONOTONIC, .reps = 15, .threads = 1, .only = ""};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--cpu-time") == 0) {
            o->clock = CLOCK_THREAD_CPUTIME_ID;
            continue;
        }
        if (i + 1 == argc)
            return usage(argv[0]);
        const char *name = argv[i], *value = argv[++i];
        if (strcmp(name, "--threads") == 0)
            o->threads = atoi(value);
        else if (strcmp(name, "--reps") == 0)
            o->reps = atoi(value);
        else if (strcmp(name, "--case") == 0)
            o->only = value;
        else if (strcmp(name, "--isa") != 0 || !read_isa(value, &o->isa))
            return usage(argv[0]);
    }
    return o->threads >= 1 && o->reps >= 1 && o->reps <= BENCH_MAX_REPS ? 1 : usage(argv[0]);
}
