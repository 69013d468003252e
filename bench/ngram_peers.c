/* ngram_peers: this library's n-gram table beside LMDB and dictionaries in memory: same n-grams,
 * same texts, one run, rounds interleaved. First everything must agree. */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ngram_corpus.h"
#include "ngram_peer.h"

#define MAX_PEERS 4
#define MAX_ROUNDS 15
#define TEXT 512       /* tokens of a text where vectors are fetched */
#define BATCH_TEXTS 8  /* of one call */
#define CHECKED 100000 /* positions compared with a binary search */
#define COLD_BATCH 4096

typedef struct options {
    ngram_corpus_params corpus;
    size_t fgrams, rows, positions, cold_rows;
    int32_t width, k;
    int rounds;
    const char *dir, *csv;
} options;

typedef struct run {
    options o;
    ngram_corpus corpus;
    char dir[512];
    FILE *csv;
    peer peers[MAX_PEERS];
    double build_seconds[MAX_PEERS];
    int n_peers;
    size_t texts; /* of the corpus's held-out ones, enough for o.positions */
} run;

enum { HOT_1, HOT_2, TEXT_US, COLD, MEASURES };
typedef double samples[MAX_PEERS][MEASURES][MAX_ROUNDS];

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int n) {
    qsort(values, (size_t)n, sizeof *values, ascending);
    return n > 0 ? (values[(n - 1) / 2] + values[n / 2]) / 2 : 0;
}

static void record(const run *r, const char *part, const peer *p, const char *metric, double value,
                   const char *unit) {
    if (r->csv != NULL)
        fprintf(r->csv, "%s,%s,%zu,%d,%d,%llu,%s,%.5g,%s\n", part, p->name, p->data->n, p->data->k,
                p->data->width, (unsigned long long)r->o.corpus.seed, metric, value, unit);
}

static int build_all(run *r, const peer_data *data) {
    peer (*const makers[])(const peer_data *) = {peer_ours, peer_lmdb, peer_unordered_map,
                                                 peer_robin_map};
    r->n_peers = 0;
    for (size_t i = 0; i < sizeof makers / sizeof makers[0]; i++) {
        peer *p = &r->peers[r->n_peers];
        *p = makers[i](data);
        if (p->name == NULL)
            continue;
        const double start = bench_now();
        fprintf(stderr, "building %s ...\n", p->name);
        const int good = p->build(p);
        r->build_seconds[r->n_peers++] = bench_now() - start;
        if (!good) {
            fprintf(stderr, "%s could not be built\n", p->name);
            return 0;
        }
    }
    return 1;
}

static void close_all(run *r) {
    for (int i = 0; i < r->n_peers; i++)
        r->peers[i].close(&r->peers[i]);
    r->n_peers = 0;
}

static void print_sizes(const run *r, const char *part) {
    const peer_data *d = r->peers[0].data;
    printf("%-20s %10s %14s %14s\n", "", "build s", "disk bytes", "memory bytes");
    printf("%-20s %10s %14s %14s\n", "", "", d->width ? "a row" : "a key",
           d->width ? "a row" : "a key");
    for (int i = 0; i < r->n_peers; i++) {
        const peer *p = &r->peers[i];
        const double disk = (double)p->disk_bytes / (double)d->n;
        const double memory = (double)p->memory_bytes / (double)d->n;
        printf("%-20s %10.2f %14.1f %14.1f\n", p->name, r->build_seconds[i], disk, memory);
        record(r, part, p, "build", r->build_seconds[i], "s");
        record(r, part, p, "disk", disk, "bytes/entry");
        record(r, part, p, "memory", memory, "bytes/entry");
    }
}

/* ----------------------------------------------------------------------------- keys to numbers */

struct part {
    peer *p;
    const int32_t *ids, *offsets;
    size_t texts;
    uint32_t *rows;
    float *out;
    long hits;
    double sum;
    int failed;
};

static void *look_up_part(void *arg) {
    struct part *a = arg;
    a->failed = !a->p->look_up(a->p, a->ids, a->offsets, a->texts, a->rows);
    return NULL;
}

/* Some texts in a call, so that vectors stay in cache. */
static void *fetch_part(void *arg) {
    struct part *a = arg;
    const size_t width = (size_t)a->p->data->width;
    for (size_t t = 0; t < a->texts && !a->failed; t += BATCH_TEXTS) {
        const size_t n = a->texts - t < BATCH_TEXTS ? a->texts - t : BATCH_TEXTS;
        const long hits = a->p->fetch_texts(a->p, a->ids, a->offsets + t, n, a->out);
        a->failed = hits < 0;
        for (long i = 0; i < hits; i++)
            a->sum += (double)a->out[(size_t)i * width] * (double)(i % 7 + 1) +
                      (double)a->out[(size_t)i * width + width - 1];
        a->hits += hits;
    }
    return NULL;
}

/* The texts in halves on two threads, or on one. Seconds, -1 if it failed. */
static double timed(void *(*work)(void *), struct part *first, struct part *second, int threads) {
    pthread_t other;
    const double start = bench_now();
    const int started = threads == 2 && pthread_create(&other, NULL, work, second) == 0;
    (void)work(first);
    if (started)
        pthread_join(other, NULL);
    else if (threads == 2)
        (void)work(second);
    const double seconds = bench_now() - start;
    return first->failed || (threads == 2 && second->failed) ? -1 : seconds;
}

static double time_look_up(const run *r, peer *p, int threads, uint32_t *rows) {
    const ngram_corpus *c = &r->corpus;
    const size_t half = threads == 2 ? r->texts / 2 : r->texts;
    struct part a = {.p = p, .ids = c->test, .offsets = c->offsets, .texts = half, .rows = rows};
    struct part b = a;
    b.offsets += half;
    b.texts = r->texts - half;
    return timed(look_up_part, &a, &b, threads);
}

/* All peers say what a binary search says, and the same everywhere. */
static int check_numbers(run *r, const peer_data *d, uint32_t *rows, uint32_t *first) {
    const ngram_corpus *c = &r->corpus;
    const size_t positions = (size_t)c->offsets[r->texts];
    ngram_sorted truth;
    size_t wrong = 0, checked = 0, hits = 0;
    if (!ngram_sorted_make(&truth, d->grams, d->n))
        return 0;
    for (int i = 0; i < r->n_peers; i++) {
        if (time_look_up(r, &r->peers[i], 1, i == 0 ? first : rows) < 0)
            return 0;
        if (i > 0 && memcmp(rows, first, positions * sizeof *rows) != 0) {
            printf("FAIL: %s and %s differ\n", r->peers[i].name, r->peers[0].name);
            wrong++;
        }
    }
    for (size_t t = 0; t < r->texts && checked < CHECKED; t++)
        for (int32_t i = c->offsets[t]; i < c->offsets[t + 1]; i++, checked++) {
            int32_t length;
            const int64_t row = ngram_sorted_longest(&truth, c->test + c->offsets[t],
                                                     (size_t)(i - c->offsets[t]), d->k, &length);
            wrong += first[i] != (row < 0 ? UINT32_MAX : (uint32_t)row);
        }
    for (size_t i = 0; i < positions; i++)
        hits += first[i] != UINT32_MAX;
    ngram_sorted_clear(&truth);
    printf("checked: %d stores agree on %zu positions, %zu of them against a binary search; "
           "%.1f %% hit%s\n",
           r->n_peers, positions, checked, 100 * (double)hits / (double)positions,
           wrong > 0 ? "  FAIL" : "");
    return wrong == 0;
}

static int compare_keys(run *r, const peer_data *d) {
    const size_t positions = (size_t)r->corpus.offsets[r->texts];
    uint32_t *rows = malloc((positions + 1) * sizeof *rows);
    uint32_t *first = malloc((positions + 1) * sizeof *first);
    samples *s = calloc(1, sizeof *s);
    int good = rows != NULL && first != NULL && s != NULL && build_all(r, d) &&
               check_numbers(r, d, rows, first);
    for (int round = 0; round < r->o.rounds && good; round++)
        for (int threads = 1; threads <= 2; threads++)
            for (int i = 0; i < r->n_peers && good; i++) {
                const double seconds = time_look_up(r, &r->peers[i], threads, rows);
                (*s)[i][threads == 1 ? HOT_1 : HOT_2][round] = (double)positions / seconds;
                good = seconds > 0;
            }
    if (good) {
        print_sizes(r, "keys");
        printf("%-20s %14s %14s %10s\n", "hot, M positions/s", "1 thread", "2 threads", "ours is");
    }
    const double ours = good ? median((*s)[0][HOT_1], r->o.rounds) : 0;
    for (int i = 0; i < r->n_peers && good; i++) {
        const double one = median((*s)[i][HOT_1], r->o.rounds);
        const double two = median((*s)[i][HOT_2], r->o.rounds);
        printf("%-20s %14.3f %14.3f %9.1fx\n", r->peers[i].name, one / 1e6, two / 1e6, ours / one);
        record(r, "keys", &r->peers[i], "hot_1_thread", one, "positions/s");
        record(r, "keys", &r->peers[i], "hot_2_threads", two, "positions/s");
    }
    close_all(r);
    free(s);
    free(rows);
    free(first);
    return good;
}

/* ----------------------------------------------------------------------------- keys to vectors */

struct vectors {
    int32_t *offsets; /* texts of TEXT tokens */
    size_t texts;
    float *out[2];
    uint32_t *cold;
    size_t n_cold;
};

static double time_fetch(const run *r, const struct vectors *v, peer *p, int threads, long *hits,
                         double *sum) {
    const size_t half = threads == 2 ? v->texts / 2 : v->texts;
    struct part a = {
        .p = p, .ids = r->corpus.test, .offsets = v->offsets, .texts = half, .out = v->out[0]};
    struct part b = a;
    b.offsets += half;
    b.texts = v->texts - half;
    b.out = v->out[1];
    const double seconds = timed(fetch_part, &a, &b, threads);
    *hits = a.hits + b.hits;
    *sum = a.sum + b.sum;
    return seconds;
}

/* Microseconds for one text in a call of its own. */
static double time_texts(const run *r, const struct vectors *v, peer *p) {
    const double start = bench_now();
    for (size_t t = 0; t < v->texts; t++)
        if (p->fetch_texts(p, r->corpus.test, v->offsets + t, 1, v->out[0]) < 0)
            return -1;
    return (bench_now() - start) / (double)v->texts * 1e6;
}

static double time_cold(const struct vectors *v, peer *p, double *sum) {
    const size_t width = (size_t)p->data->width;
    *sum = 0;
    if (p->drop != NULL && !p->drop(p))
        return -1;
    const double start = bench_now();
    for (size_t at = 0; at < v->n_cold; at += COLD_BATCH) {
        const size_t n = v->n_cold - at < COLD_BATCH ? v->n_cold - at : COLD_BATCH;
        if (!p->fetch_grams(p, v->cold + at, n, v->out[0]))
            return -1;
        for (size_t i = 0; i < n; i++)
            *sum += (double)v->out[0][i * width + width / 2] * (double)(i % 5 + 1);
    }
    return (double)v->n_cold / (bench_now() - start);
}

static int make_vectors(const run *r, struct vectors *v, const peer_data *d) {
    const size_t tokens = (size_t)r->corpus.offsets[r->texts];
    uint64_t state = r->o.corpus.seed;
    v->texts = tokens / TEXT;
    v->offsets = malloc((v->texts + 1) * sizeof *v->offsets);
    v->n_cold = r->o.cold_rows < d->n ? r->o.cold_rows : d->n;
    v->cold = malloc((v->n_cold + 1) * sizeof *v->cold);
    for (int i = 0; i < 2; i++)
        v->out[i] = malloc((size_t)BATCH_TEXTS * TEXT * (size_t)d->width * sizeof(float));
    if (v->offsets == NULL || v->cold == NULL || v->out[0] == NULL || v->out[1] == NULL ||
        v->texts == 0)
        return 0;
    for (size_t i = 0; i <= v->texts; i++)
        v->offsets[i] = (int32_t)(i * TEXT);
    for (size_t i = 0; i < v->n_cold; i++) /* one at random of each stretch: all differ */
        v->cold[i] = (uint32_t)(d->n * i / v->n_cold + bench_random(&state) % (d->n / v->n_cold));
    for (size_t i = v->n_cold; i > 1; i--) {
        const size_t j = (size_t)(bench_random(&state) % i);
        const uint32_t t = v->cold[i - 1];
        v->cold[i - 1] = v->cold[j];
        v->cold[j] = t;
    }
    return 1;
}

static int check_vectors(run *r, const struct vectors *v) {
    long hits, first_hits = 0;
    double sum, first_sum = 0;
    for (int i = 0; i < r->n_peers; i++) {
        if (time_fetch(r, v, &r->peers[i], 1, &hits, &sum) < 0)
            return 0;
        if (i == 0) {
            first_hits = hits;
            first_sum = sum;
        } else if (hits != first_hits || sum != first_sum) {
            printf("FAIL: %s brings other vectors than %s\n", r->peers[i].name, r->peers[0].name);
            return 0;
        }
    }
    printf("checked: %d stores bring equal vectors for %ld hits in %zu texts of %d tokens\n",
           r->n_peers, first_hits, v->texts, TEXT);
    return 1;
}

static int one_round(run *r, const struct vectors *v, samples *s, int round) {
    double cold_sum = 0, sum;
    long hits;
    for (int i = 0; i < r->n_peers; i++) {
        peer *p = &r->peers[i];
        const double cold = time_cold(v, p, &sum);
        if (i > 0 && sum != cold_sum) {
            printf("FAIL: %s brings other cold vectors\n", p->name);
            return 0;
        }
        cold_sum = sum;
        (void)time_fetch(r, v, p, 1, &hits, &sum); /* warm again */
        const double one = time_fetch(r, v, p, 1, &hits, &sum);
        const double two = time_fetch(r, v, p, 2, &hits, &sum);
        const double text = time_texts(r, v, p);
        if (cold < 0 || one < 0 || two < 0 || text < 0)
            return 0;
        (*s)[i][HOT_1][round] = (double)v->texts * TEXT / one;
        (*s)[i][HOT_2][round] = (double)v->texts * TEXT / two;
        (*s)[i][TEXT_US][round] = text;
        (*s)[i][COLD][round] = cold;
    }
    return 1;
}

static int compare_vectors(run *r, const peer_data *d) {
    struct vectors v = {0};
    samples *s = calloc(1, sizeof *s);
    int good = s != NULL && make_vectors(r, &v, d) && build_all(r, d) && check_vectors(r, &v);
    for (int round = 0; round < r->o.rounds && good; round++)
        good = one_round(r, &v, s, round);
    if (good) {
        print_sizes(r, "rows");
        printf("%-20s %14s %14s %12s %14s\n", "lookup + vectors", "1 thread M/s", "2 threads M/s",
               "us a text", "cold rows/s");
    }
    for (int i = 0; i < r->n_peers && good; i++) {
        double m[MEASURES];
        static const char *const names[] = {"hot_1_thread", "hot_2_threads", "text_512", "cold"};
        static const char *const units[] = {"positions/s", "positions/s", "us", "rows/s"};
        const peer *p = &r->peers[i];
        for (int k = 0; k < MEASURES; k++) {
            m[k] = median((*s)[i][k], r->o.rounds);
            if (k != COLD || p->drop != NULL)
                record(r, "rows", p, names[k], m[k], units[k]);
        }
        printf("%-20s %14.3f %14.3f %12.1f ", p->name, m[HOT_1] / 1e6, m[HOT_2] / 1e6, m[TEXT_US]);
        if (p->drop != NULL)
            printf("%14.0f\n", m[COLD]);
        else
            printf("%14s\n", "in memory");
    }
    close_all(r);
    free(v.offsets);
    free(v.cold);
    free(v.out[0]);
    free(v.out[1]);
    free(s);
    return good;
}

/* ------------------------------------------------------------------------------------- program */

static int compare(run *r, int32_t width, size_t most) {
    peer_data d = {.k = r->o.k, .vocab = r->corpus.vocab, .width = width, .dir = r->dir};
    emb_ngram_fgram *grams = ngram_corpus_top(&r->corpus, r->o.k, most, &d.n);
    int good = grams != NULL && d.n > 0;
    d.grams = grams;
    if (good) {
        printf("\n%zu f-grams of 2 to %d tokens -> %s", d.n, d.k, width ? "f16 [" : "numbers\n");
        if (width)
            printf("%d]\n", width);
        good = width ? compare_vectors(r, &d) : compare_keys(r, &d);
    }
    free(grams);
    return good;
}

static void remove_dir(const char *dir) {
    char command[600];
    (void)snprintf(command, sizeof command, "rm -r '%s'", dir);
    if (system(command) != 0)
        fprintf(stderr, "%s is left\n", dir);
}

static int all(run *r) {
    const options *o = &r->o;
    (void)snprintf(r->dir, sizeof r->dir, "%s/ngram-peers-XXXXXX", o->dir);
    if (mkdtemp(r->dir) == NULL) {
        perror(r->dir);
        return 0;
    }
    int good = ngram_corpus_make(&r->corpus, &o->corpus);
    if (good) {
        while (r->texts < r->corpus.texts && (size_t)r->corpus.offsets[r->texts] < o->positions)
            r->texts++;
        printf("corpus %s, seed %llu; %d positions looked up, %d rounds\n",
               o->corpus.ids != NULL ? o->corpus.ids : "made up",
               (unsigned long long)o->corpus.seed, r->corpus.offsets[r->texts], o->rounds);
    }
    good = good && (o->fgrams == 0 || compare(r, 0, o->fgrams));
    good = good && (o->rows == 0 || compare(r, o->width, o->rows));
    ngram_corpus_clear(&r->corpus);
    remove_dir(r->dir);
    return good;
}

static int usage(FILE *to) {
    fprintf(to,
            "usage: ngram_peers [OPTION]...\n"
            "An n-gram table of this library beside LMDB, std::unordered_map and tsl::robin_map.\n"
            "  --fgrams N     n-grams with a number as value; 0: not (4000000)\n"
            "  --rows N       n-grams with a vector as value; 0: not (500000)\n"
            "  --width N      numbers of a vector, f16 (768)\n"
            "  --k K          longest n-gram (5)\n"
            "  --positions N  of held-out text that are looked up (500000)\n"
            "  --cold-rows N  brought with the page cache dropped (20480)\n"
            "  --ids FILE     corpus of token ids, [1,2,3] a line as `embed tokenize` prints\n"
            "  --tokens N     of the made-up corpus there is without --ids (32000000)\n"
            "  --min-count N  of an n-gram (2)\n"
            "  --rounds N     (5)\n"
            "  --seed N       (1)\n"
            "  --dir DIR      for the stores, which are removed at the end (.)\n"
            "  --csv FILE     append the figures\n");
    return to == stdout ? 0 : 2;
}

/* 1: run, else the exit status + 2. */
static int read_options(options *o, int argc, char **argv) {
    static const struct option longs[] = {
        {"fgrams", 1, NULL, 'f'}, {"rows", 1, NULL, 'r'},      {"width", 1, NULL, 'w'},
        {"k", 1, NULL, 'k'},      {"positions", 1, NULL, 'p'}, {"cold-rows", 1, NULL, 'c'},
        {"ids", 1, NULL, 'i'},    {"tokens", 1, NULL, 't'},    {"min-count", 1, NULL, 'm'},
        {"rounds", 1, NULL, 'n'}, {"seed", 1, NULL, 's'},      {"dir", 1, NULL, 'd'},
        {"csv", 1, NULL, 'o'},    {"help", 0, NULL, 'h'},      {NULL, 0, NULL, 0}};
    *o = (options){
        .corpus = {.tokens = 32000000, .seed = 1, .vocab = 50000, .threads = 2, .min_count = 2},
        .fgrams = 4000000,
        .rows = 500000,
        .positions = 500000,
        .cold_rows = 20480,
        .width = 768,
        .k = 5,
        .rounds = 5,
        .dir = "."};
    for (int found; (found = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
        const uint64_t number = optarg != NULL ? strtoull(optarg, NULL, 10) : 0;
        switch (found) {
        case 'f':
            o->fgrams = (size_t)number;
            break;
        case 'r':
            o->rows = (size_t)number;
            break;
        case 'w':
            o->width = (int32_t)number;
            break;
        case 'k':
            o->k = (int32_t)number;
            break;
        case 'p':
            o->positions = (size_t)number;
            break;
        case 'c':
            o->cold_rows = (size_t)number;
            break;
        case 'i':
            o->corpus.ids = optarg;
            break;
        case 't':
            o->corpus.tokens = number;
            break;
        case 'm':
            o->corpus.min_count = number;
            break;
        case 'n':
            o->rounds = (int)number;
            break;
        case 's':
            o->corpus.seed = number;
            break;
        case 'd':
            o->dir = optarg;
            break;
        case 'o':
            o->csv = optarg;
            break;
        default:
            return 2 + usage(found == 'h' ? stdout : stderr);
        }
    }
    o->corpus.k = o->k;
    if (optind < argc || o->rounds < 1 || o->rounds > MAX_ROUNDS || o->width < 1 ||
        o->width > 65536 || o->k < 2 || o->k > EMB_NGRAM_MAX_K || o->positions < TEXT ||
        o->cold_rows < 1)
        return 2 + usage(stderr);
    return 1;
}

int main(int argc, char **argv) {
    static run r;
    const int parsed = read_options(&r.o, argc, argv);
    if (parsed != 1)
        return parsed - 2;
    if (r.o.csv != NULL) {
        r.csv = fopen(r.o.csv, "a");
        if (r.csv == NULL) {
            fprintf(stderr, "%s: %s\n", r.o.csv, strerror(errno));
            return 1;
        }
        if (fseek(r.csv, 0, SEEK_END) == 0 && ftell(r.csv) == 0)
            fprintf(r.csv, "values,impl,fgrams,k,width,seed,metric,value,unit\n");
    }
    const int good = all(&r);
    if (r.csv != NULL && fclose(r.csv) != 0) {
        fprintf(stderr, "%s: %s\n", r.o.csv, strerror(errno));
        return 1;
    }
    return good ? 0 : 1;
}
