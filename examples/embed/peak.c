#include "peak.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <embed.h>

#include "bench/fma_peak.h"
#include "progress.h"

#if defined(EMBED_HAVE_OPENBLAS)
#include <cblas.h>
#endif

#define MAX_THREADS 1024
#define SGEMM_SIZE 1024 /* square; 3 x 4 MB a thread */
#define FMA_RUNS 10     /* of some milliseconds */

typedef struct worker {
    pthread_t thread;
    atomic_int *state; /* WAIT until every thread is there */
    float *a, *b, *c;  /* sgemm: [SGEMM_SIZE, SGEMM_SIZE] each */
    double begin, end, flops;
    void (*work)(struct worker *w);
} worker;

enum { WAIT, GO, CANCEL };

static void *run_worker(void *arg) {
    worker *w = arg;
    while (atomic_load(w->state) == WAIT)
        sched_yield();
    w->begin = progress_now();
    if (atomic_load(w->state) == GO)
        w->work(w);
    w->end = progress_now();
    return NULL;
}

/* One round: all threads start together; the rate counts from the first start to the last end. */
static double round_gflops(worker *workers, int threads) {
    atomic_int state = WAIT;
    int started = 1;
    workers[0].state = &state;
    for (; started < threads; started++) {
        workers[started].state = &state;
        if (pthread_create(&workers[started].thread, NULL, run_worker, &workers[started]) != 0)
            break;
    }
    atomic_store(&state, started == threads ? GO : CANCEL);
    run_worker(&workers[0]);
    double begin = workers[0].begin, end = workers[0].end, flops = workers[0].flops;
    for (int i = 1; i < started; i++) {
        pthread_join(workers[i].thread, NULL);
        begin = workers[i].begin < begin ? workers[i].begin : begin;
        end = workers[i].end > end ? workers[i].end : end;
        flops += workers[i].flops;
    }
    return started == threads ? 1e-9 * flops / (end - begin) : 0;
}

static double best_round(worker *workers, int threads, int reps) {
    double best = 0;
    for (int i = 0; i < reps; i++) {
        const double rate = round_gflops(workers, threads);
        best = rate > best ? rate : best;
    }
    return best;
}

#if defined(EMBED_HAVE_OPENBLAS)
static void work_sgemm(worker *w) {
    const int n = SGEMM_SIZE;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, n, n, n, 1.0f, w->a, n, w->b, n, 0.0f,
                w->c, n);
    w->flops = 2.0 * n * n * n;
}

double peak_sgemm(int threads, int reps) {
    const size_t elements = (size_t)SGEMM_SIZE * SGEMM_SIZE;
    worker *workers = calloc((size_t)threads, sizeof *workers);
    float *all = malloc((size_t)threads * 3 * elements * sizeof *all);
    double best = 0;
    if (workers && all && threads <= MAX_THREADS) {
        for (size_t i = 0; i < (size_t)threads * 3 * elements; i++)
            all[i] = (float)(i % 17) * 0.125f - 1.0f;
        for (size_t i = 0; i < (size_t)threads; i++) {
            float *own = all + i * 3 * elements;
            workers[i].work = work_sgemm;
            workers[i].a = own;
            workers[i].b = own + elements;
            workers[i].c = own + 2 * elements;
        }
        best = best_round(workers, threads, reps + 1);
    }
    free(workers);
    free(all);
    return best;
}
#else
double peak_sgemm(int threads, int reps) {
    (void)threads;
    (void)reps;
    return 0;
}
#endif

static void work_fma(worker *w) {
    int32_t isa = EMBED_ISA_PORTABLE; /* has no such loop: 0 flops */
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f"))
        isa = EMBED_ISA_AVX512;
    else if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        isa = EMBED_ISA_AVX2;
#endif
    w->flops = 0;
    for (int i = 0; i < FMA_RUNS; i++)
        w->flops += fma_peak_run(isa);
}

double peak_fma(int threads, int reps) {
    worker *workers = calloc((size_t)threads, sizeof *workers);
    double best = 0;
    if (workers && threads <= MAX_THREADS) {
        for (int i = 0; i < threads; i++)
            workers[i].work = work_fma;
        best = best_round(workers, threads, reps);
    }
    free(workers);
    return best;
}
