#define _GNU_SOURCE /* qsort_r, getline */
#include "ngram_corpus.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ngram/ngram_count.h"

#define MEAN_TEXT 400 /* tokens of a made-up text */
#define TEST_SHARE 10 /* every tenth text is held out */

double bench_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* SplitMix64 (Steele, Lea, Flood 2014) */
static uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

uint64_t bench_random(uint64_t *state) {
    return mix(*state += 0x9E3779B97F4A7C15u);
}

static double unit(uint64_t x) {
    return (double)(x >> 11) * 0x1p-53;
}

/* 0 .. n-1, the r-th about 1/r as often as the first. */
static uint32_t zipf(uint64_t x, double log_n) {
    return (uint32_t)(exp(unit(x) * log_n) - 1);
}

/* ---------------------------------------------------------------------------------- the tokens */

struct filling {
    ngram_corpus *c;
    size_t test_tokens, counted_capacity, test_capacity, offsets_capacity;
    uint64_t texts;
};

static int grow(void **array, size_t *capacity, size_t need, size_t size) {
    if (need <= *capacity)
        return 1;
    const size_t wanted = need * 2 > 4096 ? need * 2 : 4096;
    void *bigger = realloc(*array, wanted * size);
    if (bigger == NULL)
        return 0;
    *array = bigger;
    *capacity = wanted;
    return 1;
}

static int add_text(struct filling *f, const int32_t *ids, size_t n) {
    ngram_corpus *c = f->c;
    if (f->texts++ % TEST_SHARE != TEST_SHARE - 1) {
        if (!grow((void **)&c->counted, &f->counted_capacity, c->counted_positions + n + 1, 4))
            return 0;
        memcpy(c->counted + c->counted_positions, ids, n * sizeof *ids);
        c->counted_positions += n;
        c->counted[c->counted_positions++] = EMB_NGRAM_END;
        return 1;
    }
    if (!grow((void **)&c->test, &f->test_capacity, f->test_tokens + n, 4) ||
        !grow((void **)&c->offsets, &f->offsets_capacity, c->texts + 2, 4))
        return 0;
    memcpy(c->test + f->test_tokens, ids, n * sizeof *ids);
    c->offsets[c->texts++] = (int32_t)f->test_tokens;
    f->test_tokens += n;
    c->offsets[c->texts] = (int32_t)f->test_tokens;
    return 1;
}

static int make_up(struct filling *f, const ngram_corpus_params *p) {
    enum { MOST = 8 * MEAN_TEXT };
    const double log_vocab = log((double)p->vocab), log_pair = log(12), log_one = log(300);
    uint64_t state = p->seed, made = 0;
    int32_t *text = malloc(MOST * sizeof *text);
    int good = text != NULL;
    while (good && made < p->tokens) {
        size_t n = 0;
        do {
            const uint64_t how = bench_random(&state) % 100, x = bench_random(&state);
            uint64_t from = x;      /* any token */
            if (how < 78 && n >= 2) /* what follows the last two */
                from = mix(((uint64_t)text[n - 2] << 32 | (uint64_t)text[n - 1]) * 64 +
                           zipf(x, log_pair));
            else if (how < 93 && n >= 1) /* what follows the last one */
                from = mix((uint64_t)text[n - 1] * 512 + zipf(x, log_one) + ((uint64_t)1 << 63));
            text[n++] = (int32_t)zipf(from, log_vocab);
        } while (n < MOST && bench_random(&state) % MEAN_TEXT != 0);
        good = add_text(f, text, n);
        made += n;
    }
    free(text);
    f->c->vocab = (int32_t)p->vocab;
    return good;
}

static int read_ids(struct filling *f, const char *path) {
    FILE *file = fopen(path, "r");
    char *line = NULL;
    size_t line_bytes = 0, capacity = 0;
    int32_t *ids = NULL, most = 0;
    int good = 1;
    if (file == NULL) {
        perror(path);
        return 0;
    }
    while (good && getline(&line, &line_bytes, file) > 0) {
        size_t n = 0;
        for (char *p = line + strcspn(line, "0123456789\n"), *end; *p >= '0' && *p <= '9';
             p = end + strcspn(end, "0123456789\n")) {
            const long id = strtol(p, &end, 10);
            if (id > INT32_MAX - 1 || !grow((void **)&ids, &capacity, n + 1, sizeof *ids))
                good = 0;
            else
                ids[n++] = (int32_t)id;
            most = good && id > most ? (int32_t)id : most;
        }
        if (n > 0 && good)
            good = add_text(f, ids, n);
    }
    free(ids);
    free(line);
    fclose(file);
    f->c->vocab = most + 1;
    return good;
}

/* ------------------------------------------------------------------------------- their n-grams */

static int ascending(const void *a, const void *b) {
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Number `at` of the n-grams of `length`: its last id and the number of what is before it. */
static void spell(const emb_ngram_survivors *s, int32_t length, uint64_t at, uint64_t count,
                  emb_ngram_fgram *g) {
    g->length = (uint8_t)length;
    g->count = count < UINT32_MAX ? (uint32_t)count : UINT32_MAX;
    for (int32_t n = length; n >= 2; n--) {
        g->ids[n - 1] = (uint32_t)s[n].keys[at];
        at = s[n].keys[at] >> 32;
    }
    g->ids[0] = (uint32_t)at;
}

static int rank(ngram_corpus *c, const emb_ngram_survivors *s, int32_t k) {
    size_t n = 0, at = 0;
    for (int32_t length = 2; length <= k; length++)
        n += (size_t)s[length].n;
    uint64_t *order = malloc((n + 1) * sizeof *order);
    c->grams = calloc(n + 1, sizeof *c->grams);
    if (order == NULL || c->grams == NULL) {
        free(order);
        return 0;
    }
    for (int32_t length = 2; length <= k; length++)
        for (uint64_t i = 0; i < s[length].n; i++) {
            const uint64_t count = s[length].counts[i];
            order[at++] = (UINT32_MAX - (count < UINT32_MAX ? count : UINT32_MAX)) << 32 |
                          (uint64_t)(length - 1) << 29 | i;
        }
    qsort(order, n, sizeof *order, ascending);
    for (size_t i = 0; i < n; i++) {
        const int32_t length = (int32_t)(order[i] >> 29 & 7) + 1;
        const uint64_t number = order[i] & ((1u << 29) - 1);
        spell(s, length, number, s[length].counts[number], &c->grams[i]);
    }
    c->n = n;
    free(order);
    return 1;
}

int ngram_corpus_make(ngram_corpus *c, const ngram_corpus_params *p) {
    struct filling f = {.c = c};
    emb_ngram_survivors found[EMB_NGRAM_MAX_K + 1];
    emb_pool *pool = NULL;
    memset(c, 0, sizeof *c);
    memset(found, 0, sizeof found);
    int good = emb_env_init(&c->env, NULL, NULL, NULL) == EMBED_OK &&
               (p->ids != NULL ? read_ids(&f, p->ids) : make_up(&f, p)) && c->texts > 0;
    if (!good)
        fprintf(stderr, "no corpus: too little memory, or too few texts\n");
    const double start = bench_now();
    if (good && (emb_pool_create(&pool, &c->env, p->threads) != EMBED_OK ||
                 emb_ngram_count_array(&c->env, pool, c->counted, c->counted_positions, p->k,
                                       p->min_count, NULL, NULL, found) != EMBED_OK)) {
        fprintf(stderr, "%s\n", embed_last_error());
        good = 0;
    }
    c->count_seconds = bench_now() - start;
    good = good && rank(c, found, p->k);
    emb_ngram_survivors_clear(found, p->k, &c->env);
    emb_pool_free(pool);
    return good;
}

void ngram_corpus_clear(ngram_corpus *c) {
    free(c->counted);
    free(c->test);
    free(c->offsets);
    free(c->grams);
    memset(c, 0, sizeof *c);
}

emb_ngram_fgram *ngram_corpus_top(const ngram_corpus *c, int32_t k, size_t top, size_t *n) {
    emb_ngram_fgram *out = malloc((top + 1) * sizeof *out);
    *n = 0;
    for (size_t i = 0; i < c->n && *n < top && out != NULL; i++)
        if (c->grams[i].length <= k)
            out[(*n)++] = c->grams[i];
    return out;
}

/* ------------------------------------------------------------------------------ the plain truth */

static int compare_ids(const uint32_t *a, int32_t n, const uint32_t *b, int32_t m) {
    for (int32_t i = 0; i < n && i < m; i++)
        if (a[i] != b[i])
            return a[i] < b[i] ? -1 : 1;
    return (n > m) - (n < m);
}

static int by_ids(const void *a, const void *b, void *arg) {
    const emb_ngram_fgram *g = arg;
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return compare_ids(g[x].ids, g[x].length, g[y].ids, g[y].length);
}

int ngram_sorted_make(ngram_sorted *s, const emb_ngram_fgram *grams, size_t n) {
    *s = (ngram_sorted){grams, malloc((n + 1) * sizeof *s->order), n};
    for (size_t i = 0; i < n && s->order != NULL; i++)
        s->order[i] = (uint32_t)i;
    if (s->order != NULL)
        qsort_r(s->order, n, sizeof *s->order, by_ids, (void *)(uintptr_t)grams);
    return s->order != NULL;
}

void ngram_sorted_clear(ngram_sorted *s) {
    free(s->order);
    memset(s, 0, sizeof *s);
}

static int64_t find(const ngram_sorted *s, const uint32_t *ids, int32_t n) {
    size_t low = 0, high = s->n;
    while (low < high) {
        const size_t middle = (low + high) / 2;
        const emb_ngram_fgram *g = &s->grams[s->order[middle]];
        const int c = compare_ids(ids, n, g->ids, g->length);
        if (c == 0)
            return s->order[middle];
        if (c < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return -1;
}

int64_t ngram_sorted_longest(const ngram_sorted *s, const int32_t *text, size_t at, int32_t k,
                             int32_t *length) {
    for (int32_t n = at + 1 < (size_t)k ? (int32_t)(at + 1) : k; n >= 2; n--) {
        const int64_t row = find(s, (const uint32_t *)text + at + 1 - n, n);
        *length = n;
        if (row >= 0)
            return row;
    }
    *length = 0;
    return -1;
}
