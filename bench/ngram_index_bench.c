/* ngram_index_bench: lookups in the index of a table, and how fast it is filled. Results are first
 * compared with a binary search. */
#define _GNU_SOURCE
#include <getopt.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "ngram_corpus.h"

#define MAX_ROUNDS 25
#define CHECKED 200000 /* positions compared with the binary search */
#define GROUP 1024     /* n-grams handed to the filler at once */
#define LOAD 0.75

typedef struct options {
    ngram_corpus_params corpus;
    size_t keys, pad;
    int rounds, small_pages;
} options;

/* N-grams of the table in row order: real ones, then pairs that stand for other texts' n-grams. */
struct keys {
    const emb_ngram_fgram *grams;
    size_t n;
    uint32_t vocab;
};

static embed_status key_at(void *user, uint32_t row, emb_ngram_fgram *out) {
    const struct keys *k = user;
    if (row < k->n) {
        *out = k->grams[row];
        return EMBED_OK;
    }
    const uint32_t i = row - (uint32_t)k->n;
    *out = (emb_ngram_fgram){.ids = {k->vocab + (i >> 14), k->vocab + (i & 0x3fff)}, .length = 2};
    return EMBED_OK;
}

static int fill(emb_ngram_index *index, struct keys *keys, size_t total, int small_pages) {
    uint64_t buckets;
    /* path entries are few: suffixes of f-grams are f-grams */
    if (emb_ngram_index_buckets(total, LOAD, &buckets) != EMBED_OK)
        return 0;
    const size_t bytes = buckets * sizeof(emb_ngram_bucket);
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return 0;
    (void)madvise(p, bytes, small_pages ? MADV_NOHUGEPAGE : MADV_HUGEPAGE);
    memset(p, 0, bytes); /* the cost of fresh pages is not the filler's */
    emb_ngram_filler f = {
        .buckets = p, .n_buckets = buckets, .seed = 1, .recall = key_at, .user = keys};
    static emb_ngram_fgram group[GROUP];
    double seconds = 0;
    for (int pass = 0; pass < 2; pass++)
        for (size_t row = 0; row < total; row += GROUP) {
            const size_t n = total - row < GROUP ? total - row : GROUP;
            for (size_t i = 0; i < n; i++)
                (void)key_at(keys, (uint32_t)(row + i), &group[i]);
            const double start = bench_now();
            const embed_status st = pass == 0 ? emb_ngram_filler_add(&f, group, (uint32_t)row, n)
                                              : emb_ngram_filler_link(&f, group, n);
            seconds += bench_now() - start;
            if (st != EMBED_OK || f.clash) {
                fprintf(stderr, "the index cannot be filled: %s\n",
                        f.clash ? "two n-grams look alike; try another --seed"
                                : embed_last_error());
                munmap(p, bytes);
                return 0;
            }
        }
    printf("fill     %9zu keys  %6.2f s  %6.1f M keys/s  %5.2f bytes a key  %llu path entries\n",
           total, seconds, (double)total / seconds / 1e6, (double)bytes / (double)f.keys,
           (unsigned long long)(f.keys - total));
    index->buckets = p;
    index->n_buckets = buckets;
    index->seed = 1;
    return 1;
}

struct part {
    const emb_ngram_index *index;
    const int32_t *ids, *offsets;
    size_t texts;
    uint32_t *rows;
    uint8_t *lengths;
};

static void *look_up(void *arg) {
    const struct part *p = arg;
    emb_ngram_index_lookup(p->index, p->ids, p->offsets, p->texts, p->rows, p->lengths);
    return NULL;
}

/* Seconds for all texts on so many threads. */
static double look_up_all(const emb_ngram_index *index, const ngram_corpus *c, int threads,
                          uint32_t *rows, uint8_t *lengths) {
    struct part parts[2];
    pthread_t other;
    const size_t half = threads == 2 ? c->texts / 2 : c->texts;
    parts[0] = (struct part){index, c->test, c->offsets, half, rows, lengths};
    /* offsets stay those of the whole, so the arrays do too */
    parts[1] = (struct part){index, c->test, c->offsets + half, c->texts - half, rows, lengths};
    const double start = bench_now();
    const int started = threads == 2 && pthread_create(&other, NULL, look_up, &parts[1]) == 0;
    (void)look_up(&parts[0]);
    if (started)
        pthread_join(other, NULL);
    return bench_now() - start;
}

static int check(const ngram_corpus *c, const ngram_sorted *truth, int32_t k, const uint32_t *rows,
                 const uint8_t *lengths) {
    size_t checked = 0, wrong = 0;
    for (size_t t = 0; t < c->texts && checked < CHECKED; t++) {
        const int32_t *text = c->test + c->offsets[t];
        const size_t n = (size_t)(c->offsets[t + 1] - c->offsets[t]);
        for (size_t i = 0; i < n; i++, checked++) {
            const size_t at = (size_t)c->offsets[t] + i;
            int32_t length;
            const int64_t row = ngram_sorted_longest(truth, text, i, k, &length);
            wrong +=
                lengths[at] != length || rows[at] != (row < 0 ? EMB_NGRAM_NO_ROW : (uint32_t)row);
        }
    }
    printf("check    %9zu positions against a binary search: %zu wrong%s\n", checked, wrong,
           wrong > 0 ? "  FAIL" : "");
    return wrong == 0;
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void time_lookups(const options *o, const emb_ngram_index *index, const ngram_corpus *c,
                         uint32_t *rows, uint8_t *lengths) {
    double seconds[2][MAX_ROUNDS];
    const double positions = (double)c->offsets[c->texts];
    for (int round = 0; round < o->rounds; round++)
        for (int threads = 1; threads <= 2; threads++)
            seconds[threads - 1][round] = look_up_all(index, c, threads, rows, lengths);
    for (int threads = 1; threads <= 2; threads++) {
        double *s = seconds[threads - 1];
        qsort(s, (size_t)o->rounds, sizeof *s, ascending);
        printf("lookup   %d thread%s  median %6.1f  best %6.1f M positions/s\n", threads,
               threads == 1 ? " " : "s", positions / s[o->rounds / 2] / 1e6,
               positions / s[0] / 1e6);
    }
}

static void print_hits(const ngram_corpus *c, const uint8_t *lengths) {
    uint64_t hits[EMB_NGRAM_MAX_K + 1] = {0}, sum = 0;
    const uint64_t positions = (uint64_t)c->offsets[c->texts];
    for (uint64_t i = 0; i < positions; i++) {
        hits[lengths[i]]++;
        sum += lengths[i];
    }
    printf("hits     %.1f %% of %llu positions, mean match %.2f\n",
           100 * (1 - (double)hits[0] / (double)positions), (unsigned long long)positions,
           positions > hits[0] ? (double)sum / (double)(positions - hits[0]) : 0);
}

static int run(const options *o, const ngram_corpus *c, int32_t k, size_t total) {
    size_t n;
    const size_t positions = (size_t)c->offsets[c->texts];
    emb_ngram_fgram *grams = ngram_corpus_top(c, k, o->keys, &n);
    uint64_t *special = calloc((size_t)c->vocab / 64 + 1, sizeof *special);
    uint32_t *rows = malloc((positions + 1) * sizeof *rows);
    uint8_t *lengths = malloc(positions + 1);
    ngram_sorted truth = {0};
    emb_ngram_index index = {.special = special, .vocab = c->vocab, .k = k};
    int good = grams != NULL && special != NULL && rows != NULL && lengths != NULL &&
               ngram_sorted_make(&truth, grams, n);
    struct keys keys = {grams, n, (uint32_t)c->vocab};
    if (good) {
        printf("\nK %d, %zu f-grams%s\n", k, n, total > n ? ", padded with foreign ones" : "");
        good = fill(&index, &keys, total > n ? total : n, o->small_pages);
    }
    if (good) {
        (void)look_up_all(&index, c, 1, rows, lengths);
        good = check(c, &truth, k, rows, lengths);
    }
    if (good) {
        print_hits(c, lengths);
        time_lookups(o, &index, c, rows, lengths);
    }
    if (index.buckets != NULL)
        munmap((void *)(uintptr_t)index.buckets, index.n_buckets * sizeof *index.buckets);
    ngram_sorted_clear(&truth);
    free(lengths);
    free(rows);
    free(special);
    free(grams);
    return good;
}

static int usage(FILE *to) {
    fprintf(to, "usage: ngram_index_bench [OPTION]...\n"
                "Fills the index of an n-gram table and looks up the positions of held-out texts.\n"
                "  --keys N     f-grams, the most frequent ones (4000000)\n"
                "  --pad N      a second time with foreign ones up to N, 0: not (200000000)\n"
                "  --k K        longest f-gram, 2 to 8; 0: 5 and 8 (0)\n"
                "  --ids FILE   corpus of token ids, [1,2,3] a line as `embed tokenize` prints\n"
                "  --tokens N   of the made-up corpus there is without --ids (32000000)\n"
                "  --min-count N  of an f-gram (2)\n"
                "  --rounds N   (7)\n"
                "  --seed N     of the made-up corpus (1)\n"
                "  --small-pages  no huge pages\n");
    return to == stdout ? 0 : 2;
}

int main(int argc, char **argv) {
    options o = {
        .corpus = {.tokens = 32000000, .seed = 1, .vocab = 50000, .threads = 2, .min_count = 2},
        .keys = 4000000,
        .pad = 200000000,
        .rounds = 7};
    static const struct option longs[] = {
        {"keys", 1, NULL, 'n'},   {"pad", 1, NULL, 'p'},    {"k", 1, NULL, 'k'},
        {"ids", 1, NULL, 'i'},    {"tokens", 1, NULL, 't'}, {"min-count", 1, NULL, 'c'},
        {"rounds", 1, NULL, 'r'}, {"seed", 1, NULL, 's'},   {"small-pages", 0, NULL, '4'},
        {"help", 0, NULL, 'h'},   {NULL, 0, NULL, 0}};
    int32_t k = 0;
    for (int found; (found = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
        const uint64_t number = optarg != NULL ? strtoull(optarg, NULL, 10) : 0;
        switch (found) {
        case 'n':
            o.keys = (size_t)number;
            break;
        case 'p':
            o.pad = (size_t)number;
            break;
        case 'k':
            k = (int32_t)number;
            break;
        case 'i':
            o.corpus.ids = optarg;
            break;
        case 't':
            o.corpus.tokens = number;
            break;
        case 'c':
            o.corpus.min_count = number;
            break;
        case 'r':
            o.rounds = (int)number;
            break;
        case 's':
            o.corpus.seed = number;
            break;
        case '4':
            o.small_pages = 1;
            break;
        default:
            return usage(found == 'h' ? stdout : stderr);
        }
    }
    if (optind < argc || o.rounds < 1 || o.rounds > MAX_ROUNDS || o.keys < 1 ||
        o.pad > UINT32_MAX / 2 || (k != 0 && (k < 2 || k > EMB_NGRAM_MAX_K)))
        return usage(stderr);
    ngram_corpus corpus;
    o.corpus.k = k != 0 ? k : 8;
    int good = ngram_corpus_make(&corpus, &o.corpus);
    if (good)
        printf("corpus   %s, seed %llu, vocabulary %d; counted %zu positions up to length %d in "
               "%.1f s (2 threads)\n",
               o.corpus.ids != NULL ? o.corpus.ids : "made up", (unsigned long long)o.corpus.seed,
               corpus.vocab, corpus.counted_positions, o.corpus.k, corpus.count_seconds);
    for (size_t total = 0; good && total <= o.pad; total += o.pad > 0 ? o.pad : 1)
        for (int32_t now = k != 0 ? k : 5; good && now <= (k != 0 ? k : 8); now += 3)
            good = run(&o, &corpus, now, total);
    ngram_corpus_clear(&corpus);
    return good ? 0 : 1;
}
