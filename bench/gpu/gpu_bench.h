/* gpu_bench: what the sections of the benchmark share: the device, arrays on it, times of work on
 * it taken in turns, and rows of the table and the CSV. Whatever fails ends its section with a
 * message.
 */
#ifndef EMB_BENCH_GPU_GPU_BENCH_H
#define EMB_BENCH_GPU_GPU_BENCH_H

#include <stdio.h>

#include "device/device.h"

enum { GPU_MAX_ROUNDS = 31, GPU_MAX_ARRAYS = 64, GPU_MAX_WORKS = 8 };

typedef struct gpu_bench {
    emb_env env;
    const emb_backend *backend;
    emb_device *device;
    emb_stream *stream;
    emb_event *from, *to;
    unsigned char *pinned; /* staging, GPU_STAGING bytes */
    emb_dptr arrays[GPU_MAX_ARRAYS];
    size_t n_arrays;
    int32_t kind;       /* embed_device_kind */
    int32_t capability; /* 90 is 9.0 */
    int quick, rounds;
    const char *model_dir, *work_dir; /* a checkpoint, NULL: write one; and where */
    double copy;                      /* bytes/s read and written; 0: not measured yet */
    double peak;                      /* flop/s of bf16 products */
    char peak_by[256];                /* and what reached it */
    FILE *csv;
    const char *section;
    int reached, missed, untold; /* goals; untold: could not be measured */
} gpu_bench;

#define GPU_STAGING ((size_t)16 << 20)

typedef embed_status (*gpu_section_fn)(gpu_bench *b);
embed_status gpu_section_limits(gpu_bench *b);
embed_status gpu_section_memory(gpu_bench *b);
embed_status gpu_section_products(gpu_bench *b);
embed_status gpu_section_moe(gpu_bench *b);
embed_status gpu_section_attention(gpu_bench *b);
embed_status gpu_section_model(gpu_bench *b);
embed_status gpu_section_mixed(gpu_bench *b);
embed_status gpu_section_table(gpu_bench *b);

/* Arrays live until gpu_free_arrays, which every section's caller does. */
embed_status gpu_array(gpu_bench *b, size_t bytes, emb_dptr *out);
void gpu_free_arrays(gpu_bench *b);
embed_status gpu_put(gpu_bench *b, emb_dptr to, const void *host, size_t bytes);
/* n normal numbers of the deviation, as dtype: 1 M different ones, again and again. */
embed_status gpu_normals(gpu_bench *b, size_t n, double deviation, int32_t dtype, emb_dptr *out);
/* n integers from 0 to most - 1. */
embed_status gpu_integers(gpu_bench *b, size_t n, int32_t most, emb_dptr *out);

/* Something to be timed: enqueues on b->stream, or, with host set, does all of it and returns. */
typedef struct gpu_work {
    embed_status (*run)(gpu_bench *b, void *arg);
    void *arg;
    int host;
} gpu_work;

typedef struct gpu_times {
    double s[GPU_MAX_ROUNDS]; /* seconds of one run, round by round */
    int rounds;
} gpu_times;

/* Every work once to warm up, then in turns, b->rounds times; each turn as often in a row as takes
 * about 10 ms (on the emulated device once). */
embed_status gpu_time(gpu_bench *b, const gpu_work *works, size_t n, gpu_times *times);
double gpu_median(const gpu_times *t);
/* Of a / b round by round: *least and *most may be NULL. */
double gpu_ratio(const gpu_times *a, const gpu_times *b, double *least, double *most);
/* One operation of kernels/ as work. */
typedef struct gpu_op {
    const char *name;
    const void *args;
    size_t bytes;
} gpu_op;
embed_status gpu_run_op(gpu_bench *b, void *op);

/* A line of results. Zero or NULL: does not apply. */
typedef struct gpu_row {
    const char *what, *shape, *dtype;
    double seconds;
    double bytes, flops;       /* what it moves and does; the larger bound is its roofline */
    const char *against;       /* what ratio compares with */
    double ratio, least, most; /* and its spread over the rounds */
    const char *measure;       /* what the goal is about, such as "of the copy" */
    double value, goal;        /* reached if value >= goal, or <= if at_most */
    int at_most;
    const char *note;
} gpu_row;
void gpu_tell(gpu_bench *b, const gpu_row *row);
/* A goal that could not be measured, and why. */
void gpu_untold(gpu_bench *b, const char *what, const char *why);

#endif
