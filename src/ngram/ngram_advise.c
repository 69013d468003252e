#define _GNU_SOURCE
#include "ngram/ngram_advise.h"

#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"

#define FEW_FAULTS 1 /* in a step: not worth a system call for every row */
#define SAMPLES 16
#define MOST_PAGES 512
#define HOT_SECONDS 10e-6 /* a row, asked for and decoded from memory; no disk is as fast */

/* Faults that waited for a read, and blocks that this thread had read, since the last look. */
static void look(emb_ngram_advice *a, long *faults, long *blocks) {
    struct rusage u = {0};
    (void)getrusage(RUSAGE_THREAD, &u);
    *faults = u.ru_majflt - a->faults;
    *blocks = u.ru_inblock - a->blocks;
    a->faults = u.ru_majflt;
    a->blocks = u.ru_inblock;
}

void emb_ngram_advice_init(emb_ngram_advice *a) {
    *a = (emb_ngram_advice){.cold = 1};
}

void emb_ngram_advice_start(emb_ngram_advice *a) {
    long faults, blocks;
    look(a, &faults, &blocks);
    a->asked = 0;
    if (a->cold)
        a->started = emb_clock_seconds();
}

/* Rows whose pages touch are asked for together. */
static void ask(const emb_ngram_place *places, size_t n, size_t bytes) {
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t start = 0, end = 0;
    for (size_t i = 0; i <= n; i++) {
        const uintptr_t from = i < n ? (uintptr_t)places[i].bytes & ~(page - 1) : UINTPTR_MAX;
        const uintptr_t to =
            i < n ? ((uintptr_t)places[i].bytes + bytes + page - 1) & ~(page - 1) : 0;
        if (i < n && from >= start && from <= end && end > 0) {
            end = to > end ? to : end;
            continue;
        }
        if (end > start)
            (void)madvise((void *)start, end - start, MADV_WILLNEED);
        start = from;
        end = to;
    }
}

/* Whether the pages of a few rows, evenly taken, are all in memory. */
static int looks_hot(const emb_ngram_place *places, size_t n, size_t bytes) {
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    unsigned char seen[MOST_PAGES];
    const size_t samples = n < SAMPLES ? n : SAMPLES;
    for (size_t k = 0; k < samples; k++) {
        const uintptr_t at = (uintptr_t)places[k * n / samples].bytes;
        const uintptr_t from = at & ~(page - 1), to = (at + bytes + page - 1) & ~(page - 1);
        const size_t pages = (to - from) / page < MOST_PAGES ? (to - from) / page : MOST_PAGES;
        if (mincore((void *)from, pages * page, seen) != 0)
            return 0;
        for (size_t i = 0; i < pages; i++)
            if ((seen[i] & 1) == 0)
                return 0;
    }
    return 1;
}

void emb_ngram_advice_step(emb_ngram_advice *a, const emb_ngram_place *places, size_t at, size_t n,
                           size_t bytes) {
    if (at == 0) {
        a->sampled = a->cold && !a->mistaken && n > 0 && looks_hot(places, n, bytes);
        if (a->sampled)
            a->cold = 0;
    } else if (!a->cold) {
        long faults, blocks;
        look(a, &faults, &blocks);
        if (faults > FEW_FAULTS) {
            a->cold = 1;
            a->mistaken |= a->sampled;
            a->started = 0; /* this batch proves nothing */
        }
    }
    if (!a->cold)
        return;
    const size_t from = a->asked > at ? a->asked : at;
    const size_t to = n - at < EMB_NGRAM_ADVISE_AHEAD ? n : at + EMB_NGRAM_ADVISE_AHEAD;
    if (to > from)
        ask(places + from, to - from, bytes);
    a->asked = to;
}

void emb_ngram_advice_end(emb_ngram_advice *a, size_t n) {
    long faults, blocks;
    if (!a->cold || n == 0)
        return;
    look(a, &faults, &blocks);
    a->cold = a->started == 0 || blocks > 0 || faults > 0 ||
              emb_clock_seconds() - a->started > HOT_SECONDS * (double)n;
}
