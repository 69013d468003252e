/* One table, many threads: fetchers, tickets, statistics and references at once. */
#include "support/table_fixture.h"

#include <pthread.h>

#include "ngram/ngram_service.h"

#define VOCAB 80
#define WIDTH 12
#define TOKENS 300
#define THREADS 4

typedef struct shared {
    test_grams grams;
    embed_table *table;
    int32_t ids[TOKENS];
    const float *want[TOKENS]; /* into grams.vectors */
    int failed[THREADS];
} shared;

typedef struct job {
    shared *s;
    int number;
} job;

static int32_t draw(uint64_t *rng) {
    const double u = test_uniform(rng);
    return (int32_t)(VOCAB * u * u);
}

/* Texts of different places: each thread its own order. */
static int fetch_once(shared *s, emb_ngram_fetcher *f, int32_t first, int32_t n) {
    const float *rows[TOKENS];
    const int32_t offsets[2] = {0, n};
    if (emb_ngram_fetch(f, s->ids + first, offsets, 1, rows, NULL) != EMBED_OK)
        return 0;
    for (int32_t i = EMB_NGRAM_MAX_K; i < n; i++) { /* the first ones have less history here */
        const float *want = s->want[first + i];
        if ((rows[i] == NULL) != (want == NULL) ||
            (want != NULL && memcmp(rows[i], want, WIDTH * sizeof *want) != 0))
            return 0;
    }
    return 1;
}

static void *work(void *arg) {
    const job *j = arg;
    shared *s = j->s;
    const emb_env env = test_env();
    uint64_t rng = (uint64_t)j->number + 1;
    emb_ngram_fetcher *f = NULL;
    emb_ngram_table_retain(s->table);
    int good = emb_ngram_fetcher_create(&f, &env, s->table, 50) == EMBED_OK;
    for (int round = 0; round < 60 && good; round++) {
        embed_table_ticket *ticket;
        emb_ngram_stats totals;
        int64_t rows[20];
        for (int i = 0; i < 20; i++)
            rows[i] = (int64_t)(test_rand(&rng) % s->grams.n);
        good = emb_ngram_service_prefetch(s->table->service, rows, 20, &ticket) == EMBED_OK;
        const int32_t first = (int32_t)(test_rand(&rng) % (TOKENS - 100));
        good = good && fetch_once(s, f, first, 100);
        good = good && emb_ngram_service_wait(ticket) == EMBED_OK;
        emb_ngram_table_totals(s->table, &totals);
    }
    s->failed[j->number] = !good;
    emb_ngram_fetcher_free(f);
    emb_ngram_table_release(s->table);
    return NULL;
}

static void threads_agree(void **state) {
    (void)state;
    static const struct {
        int32_t mode, io;
        uint64_t cache;
    } cases[] = {{EMBED_TABLE_LAZY, EMBED_TABLE_IO_WILLNEED, 0},
                 {EMBED_TABLE_READ, EMBED_TABLE_IO_PREAD, 4000},
                 {EMBED_TABLE_READ, EMBED_TABLE_IO_URING, 1},
                 {EMBED_TABLE_READ, EMBED_TABLE_IO_AUTO, 0}};
    static shared s;
    char dir[256];
    uint64_t rng = 6;
    const emb_env env = test_env();
    const test_table_spec spec = {.vocab = VOCAB};
    test_dir_make(dir);
    test_grams_init(&s.grams, WIDTH);
    test_grams_random(&s.grams, 300, 4, 0, VOCAB, 1, &rng);
    const char *path = test_path(dir, "t");
    test_table_write(path, &spec, &s.grams);
    for (int i = 0; i < TOKENS; i++)
        s.ids[i] = draw(&rng);
    for (int i = 0; i < TOKENS; i++)
        for (int32_t n = 2; n <= 4 && n <= i + 1; n++) {
            const int64_t row = test_grams_find(&s.grams, s.ids + i - n + 1, n);
            if (row >= 0)
                s.want[i] = s.grams.vectors + row * WIDTH;
        }
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        pthread_t threads[THREADS];
        job jobs[THREADS];
        embed_table_params p = EMBED_TABLE_PARAMS_INIT;
        p.mode = cases[c].mode;
        p.io = cases[c].io;
        p.cache_bytes = cases[c].cache;
        const embed_status st = emb_ngram_table_open(&s.table, &env, path, &p, NULL);
        if (st == EMBED_ERR_UNSUPPORTED)
            continue;
        assert_int_equal(st, EMBED_OK);
        for (int i = 0; i < THREADS; i++) {
            jobs[i] = (job){&s, i};
            assert_int_equal(pthread_create(&threads[i], NULL, work, &jobs[i]), 0);
        }
        for (int i = 0; i < THREADS; i++)
            assert_int_equal(pthread_join(threads[i], NULL), 0);
        for (int i = 0; i < THREADS; i++)
            assert_int_equal(s.failed[i], 0);
        emb_ngram_table_release(s.table);
    }
    test_grams_free(&s.grams);
    test_dir_remove(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(threads_agree)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
