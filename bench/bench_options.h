/* bench_options: the command line that the kernel benchmarks share. */
#ifndef EMB_BENCH_BENCH_OPTIONS_H
#define EMB_BENCH_BENCH_OPTIONS_H

#include <stdint.h>
#include <time.h>

#define BENCH_MAX_REPS 1001

typedef struct bench_options {
    clockid_t clock; /* wall clock, or the thread's CPU time */
    int reps, threads;
    int32_t isa;      /* embed_isa */
    const char *only; /* part of the names of the cases to run; "": all */
} bench_options;

/* 1, or 0 after a usage line on stderr. */
int bench_options_read(bench_options *o, int argc, char **argv);

#endif
