/* ngram_advise: pages of a mapping, asked for in time. Rows that are in memory are used at once;
 * where pages are missing, those of the next rows are asked for (MADV_WILLNEED) before they are
 * touched. Which of the two holds is not guessed but counted: page faults that waited for the disk
 * tell that rows are cold, a batch for which nothing was read that they are hot again. */
#ifndef EMB_NGRAM_NGRAM_ADVISE_H
#define EMB_NGRAM_NGRAM_ADVISE_H

#include <stddef.h>

#define EMB_NGRAM_ADVISE_STEP 64   /* rows between two looks at the counters */
#define EMB_NGRAM_ADVISE_AHEAD 256 /* rows asked for ahead */

/* Where the bytes of a row lie. */
typedef struct emb_ngram_place {
    const unsigned char *bytes;
    size_t slot; /* the caller's */
} emb_ngram_place;

typedef struct emb_ngram_advice {
    int cold;
    int sampled;  /* this batch counts as hot because a few of its rows were in memory */
    int mistaken; /* that was wrong once (mincore does not tell everybody): not asked again */
    long faults, blocks; /* this thread's counters when last looked at */
    double started;
    size_t asked; /* places before this one are asked for */
} emb_ngram_advice;

void emb_ngram_advice_init(emb_ngram_advice *a);
/* Around the use of n places in ascending order: start, then before every ADVISE_STEP of them
 * step, then end. `bytes` of each place are used. */
void emb_ngram_advice_start(emb_ngram_advice *a);
void emb_ngram_advice_step(emb_ngram_advice *a, const emb_ngram_place *places, size_t at, size_t n,
                           size_t bytes);
void emb_ngram_advice_end(emb_ngram_advice *a, size_t n);

#endif
