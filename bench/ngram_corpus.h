/* ngram_corpus: what the benchmarks of n-gram tables run on: f-grams counted in nine tenths of a
 * corpus, and the held-out tenth to look them up in. The corpus is token ids from a file (one
 * [1,2,3] a line, as `embed tokenize` prints them) or made up: a Zipf-like vocabulary whose next
 * token often follows from the last one or two, so that n-grams repeat as in text. */
#ifndef EMB_BENCH_NGRAM_CORPUS_H
#define EMB_BENCH_NGRAM_CORPUS_H

#include "ngram/ngram_index.h"

typedef struct ngram_corpus_params {
    const char *ids; /* file, or NULL: made up */
    uint64_t tokens; /* of a made-up corpus */
    uint64_t seed;
    uint32_t vocab; /* of a made-up corpus */
    int32_t k, threads;
    uint64_t min_count;
} ngram_corpus_params;

typedef struct ngram_corpus {
    emb_env env;
    int32_t vocab;
    uint32_t *counted; /* [counted_positions], EMB_NGRAM_END after each text */
    size_t counted_positions;
    int32_t *test, *offsets; /* held out: [offsets[texts]], [texts + 1] */
    size_t texts;
    emb_ngram_fgram *grams; /* all that are frequent, by falling count, short ones first */
    size_t n;
    double count_seconds;
} ngram_corpus;

double bench_now(void); /* monotonic seconds */
uint64_t bench_random(uint64_t *state);

/* 1, or 0 after a message on stderr; to be cleared in any case. */
int ngram_corpus_make(ngram_corpus *c, const ngram_corpus_params *params);
void ngram_corpus_clear(ngram_corpus *c);
/* The first `top` n-grams of at most k tokens, for free(); *n: how many. NULL: no memory. */
emb_ngram_fgram *ngram_corpus_top(const ngram_corpus *c, int32_t k, size_t top, size_t *n);
/* Row of an n-gram by a binary search that knows nothing of hashes; -1: none. */
typedef struct ngram_sorted {
    const emb_ngram_fgram *grams;
    uint32_t *order;
    size_t n;
} ngram_sorted;
int ngram_sorted_make(ngram_sorted *s, const emb_ngram_fgram *grams, size_t n);
void ngram_sorted_clear(ngram_sorted *s);
int64_t ngram_sorted_longest(const ngram_sorted *s, const int32_t *text, size_t at, int32_t k,
                             int32_t *length); /* longest match that ends at text[at] */

#endif
