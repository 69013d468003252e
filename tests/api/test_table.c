/* The public calls of a table. */
#define _DEFAULT_SOURCE
#include "support/handles.h"
#include "support/table_fixture.h"

#include <unistd.h>

#define VOCAB 150
#define WIDTH 9

typedef struct fixture {
    char dir[256], path[300];
    test_grams grams;
} fixture;

static const int32_t special[2] = {148, 149};

static void make(fixture *f) {
    uint64_t rng = 3;
    const test_table_spec spec = {.vocab = VOCAB,
                                  .special = special,
                                  .n_special = 2,
                                  .part_bytes = 20000,
                                  .corpus = "three books"};
    test_dir_make(f->dir);
    (void)snprintf(f->path, sizeof f->path, "%s/t", f->dir);
    test_grams_init(&f->grams, WIDTH);
    test_grams_random(&f->grams, 500, 5, 0, 148, 1, &rng);
    test_table_write(f->path, &spec, &f->grams);
}

static void clear(fixture *f) {
    test_grams_free(&f->grams);
    test_dir_remove(f->dir);
}

static embed_table *open_it(const fixture *f, int32_t mode) {
    embed_table *t;
    embed_table_params p = EMBED_TABLE_PARAMS_INIT;
    p.mode = mode;
    TEST_OK(embed_table_open(&t, f->path, NULL, &p));
    return t;
}

static void arguments(void **state) {
    (void)state;
    fixture f;
    make(&f);
    embed_table *t = (embed_table *)(uintptr_t)1;
    embed_table_params p = EMBED_TABLE_PARAMS_INIT;
    test_fails(embed_table_open(NULL, f.path, NULL, NULL), EMBED_ERR_ARG, "out");
    test_fails(embed_table_open(&t, NULL, NULL, NULL), EMBED_ERR_ARG, "path");
    assert_null(t);
    test_fails(embed_table_open(&t, "", NULL, NULL), EMBED_ERR_ARG, "empty");
    p.mode = 5;
    test_fails(embed_table_open(&t, f.path, NULL, &p), EMBED_ERR_ARG, "mode");
    p.mode = EMBED_TABLE_READ;
    p.io = 4;
    test_fails(embed_table_open(&t, f.path, NULL, &p), EMBED_ERR_ARG, "io");
    p.io = EMBED_TABLE_IO_WILLNEED;
    test_fails(embed_table_open(&t, f.path, NULL, &p), EMBED_ERR_ARG, "never maps");
    p = (embed_table_params)EMBED_TABLE_PARAMS_INIT;
    p.flags = 64;
    test_fails(embed_table_open(&t, f.path, NULL, &p), EMBED_ERR_ABI, "flags");
    p.flags = 0;
    p.struct_size = 0;
    test_fails(embed_table_open(&t, f.path, NULL, &p), EMBED_ERR_ABI, "struct_size");

    t = open_it(&f, 0);
    int64_t rows[8] = {0};
    int32_t lengths[8], ids[3] = {1, 2, 3};
    float out[4 * WIDTH];
    embed_table_ticket *ticket;
    const embed_ids texts[2] = {{ids, 3}, {NULL, 2}};
    test_fails(embed_table_lookup(NULL, texts, 1, rows, lengths, 8), EMBED_ERR_ARG, "table");
    test_fails(embed_table_lookup(t, NULL, 1, rows, lengths, 8), EMBED_ERR_ARG, "texts");
    test_fails(embed_table_lookup(t, texts, 2, rows, lengths, 8), EMBED_ERR_ARG, "texts[1]");
    test_fails(embed_table_lookup(t, texts, 1, rows, lengths, 2), EMBED_ERR_CAPACITY, "3");
    test_fails(embed_table_lookup(t, texts, 1, NULL, lengths, 3), EMBED_ERR_ARG, "rows");
    TEST_OK(embed_table_lookup(t, NULL, 0, NULL, NULL, 0));
    test_fails(embed_table_fetch(t, rows, 3, out, 3 * WIDTH - 1, NULL), EMBED_ERR_CAPACITY, "27");
    rows[1] = (int64_t)f.grams.n;
    test_fails(embed_table_fetch(t, rows, 2, out, sizeof out / 4, NULL), EMBED_ERR_ARG, "rows[1]");
    test_fails(embed_table_prefetch(t, rows, 2, &ticket), EMBED_ERR_ARG, "rows[1]");
    assert_null(ticket);
    rows[1] = -2;
    test_fails(embed_table_fetch(t, rows, 2, out, sizeof out / 4, NULL), EMBED_ERR_ARG, "-2");
    test_fails(embed_table_prefetch(t, rows, 1, NULL), EMBED_ERR_ARG, "ticket");
    test_fails(embed_table_wait(NULL), EMBED_ERR_ARG, "ticket");
    test_fails(embed_table_get_info(t, NULL), EMBED_ERR_ARG, "info");
    test_fails(embed_table_get_stats(t, NULL), EMBED_ERR_ARG, "stats");
    test_fails(embed_table_warm(NULL, 0, NULL, NULL), EMBED_ERR_ARG, "table");
    embed_table_free(t);
    embed_table_free(NULL);
    clear(&f);
}

static void facts(void **state) {
    (void)state;
    fixture f;
    make(&f);
    embed_table *t = open_it(&f, EMBED_TABLE_POPULATE);
    embed_table_info info = {.struct_size = sizeof info};
    TEST_OK(embed_table_get_info(t, &info));
    uint64_t by_length[9] = {0}, sum = 0;
    for (size_t i = 0; i < f.grams.n; i++)
        by_length[f.grams.list[i].length]++;
    for (int n = 0; n < 9; n++) {
        assert_int_equal(info.rows_by_length[n], by_length[n]);
        sum += info.rows_by_length[n];
    }
    assert_int_equal(info.rows, f.grams.n);
    assert_int_equal(sum, info.rows);
    assert_true(info.keys >= info.rows);
    assert_int_equal(strlen(info.id), 32);
    assert_int_equal(info.combine, EMBED_TABLE_REPLACE);
    assert_int_equal(info.width, WIDTH);
    assert_int_equal(info.hidden, WIDTH);
    assert_int_equal(info.vocab, VOCAB);
    assert_int_equal(info.dtype, EMBED_F32);
    assert_int_equal(info.mode, EMBED_TABLE_POPULATE);
    assert_int_equal(info.io, EMBED_TABLE_IO_WILLNEED);
    assert_int_equal(info.encrypted, 0);
    assert_true(info.parts > 1);
    assert_int_equal(info.row_bytes, 48 + 4 * WIDTH);
    assert_true(info.rows_bytes >= info.rows * info.row_bytes);
    assert_true(info.index_bytes > 4096);
    assert_string_equal(info.corpus, "three books");
    assert_null(info.licence);
    assert_int_equal(info.min_count, -1);
    assert_string_equal(info.path, f.path);
    embed_table_free(t);
    clear(&f);
}

static void lookups_and_vectors(void **state) {
    (void)state;
    enum { TEXTS = 40, MOST = 60 };
    static int32_t ids[TEXTS * MOST], lengths[TEXTS * MOST];
    static int64_t rows[TEXTS * MOST];
    static float out[TEXTS * MOST * WIDTH];
    static embed_ngram ngrams[TEXTS * MOST];
    fixture f;
    embed_ids texts[TEXTS];
    uint64_t rng = 8;
    size_t n = 0, hits = 0;
    make(&f);
    embed_table *t = open_it(&f, EMBED_TABLE_READ);
    for (size_t i = 0; i < TEXTS; i++) {
        const size_t len = test_rand(&rng) % MOST;
        texts[i] = (embed_ids){len > 0 ? ids + n : NULL, len};
        for (size_t j = 0; j < len; j++) {
            const double u = test_uniform(&rng);
            ids[n++] = (int32_t)((VOCAB + 2) * u * u * u);
        }
    }
    TEST_OK(embed_table_lookup(t, texts, TEXTS, rows, lengths, n));
    TEST_OK(embed_table_fetch(t, rows, n, out, n * WIDTH, ngrams));
    for (size_t i = 0; i < n; i++) {
        if (rows[i] < 0) {
            assert_int_equal(lengths[i], 0);
            assert_int_equal(ngrams[i].length, 0);
            for (int w = 0; w < WIDTH; w++)
                assert_true(out[i * WIDTH + (size_t)w] == 0);
            continue;
        }
        hits++;
        assert_int_equal(ngrams[i].length, lengths[i]);
        assert_memory_equal(ngrams[i].ids, ids + i + 1 - lengths[i], (size_t)lengths[i] * 4);
        assert_int_equal(ngrams[i].count, f.grams.list[rows[i]].count);
        assert_memory_equal(out + i * WIDTH, f.grams.vectors + rows[i] * WIDTH, WIDTH * 4);
    }
    assert_true(hits > 100);
    TEST_OK(embed_table_fetch(t, rows, n, NULL, 0, ngrams));
    embed_table_stats stats = {.struct_size = sizeof stats};
    TEST_OK(embed_table_get_stats(t, &stats));
    assert_true(stats.distinct_rows > 0 && stats.cache_hits > 0 && stats.bytes_read > 0);
    assert_true(stats.cache_bytes > 0 && stats.cache_bytes <= 64 << 20);
    assert_true(stats.fetch_seconds > 0);
    assert_true(stats.resident_share == -1);
    embed_table_free(t);
    clear(&f);
}

/* Longer than one walk, in pieces of all sizes: the same as text by text. */
static void long_lookups(void **state) {
    (void)state;
    enum { N = 60000 };
    int32_t *ids = malloc(N * 4), *lengths = malloc(N * 4), *one = malloc(N * 4);
    int64_t *rows = malloc(N * 8), *row = malloc(N * 8);
    embed_ids *texts = malloc(N * sizeof *texts);
    uint64_t rng = 4;
    fixture f;
    make(&f);
    embed_table *t = open_it(&f, 0);
    for (int i = 0; i < N; i++) {
        const double u = test_uniform(&rng);
        ids[i] = (int32_t)(VOCAB * u * u * u);
    }
    size_t n = 0, at = 0;
    while (at < N) {
        static const size_t sizes[] = {0, 1, 2, 20000, 3, 16384, 7, 100};
        const size_t len = sizes[n % 8] < N - at ? sizes[n % 8] : N - at;
        texts[n++] = (embed_ids){ids + at, len};
        at += len;
    }
    TEST_OK(embed_table_lookup(t, texts, n, rows, lengths, N));
    at = 0;
    for (size_t i = 0; i < n; i++) {
        TEST_OK(embed_table_lookup(t, &texts[i], 1, row, one, N));
        assert_memory_equal(row, rows + at, texts[i].len * 8);
        assert_memory_equal(one, lengths + at, texts[i].len * 4);
        at += texts[i].len;
    }
    embed_table_free(t);
    free(ids);
    free(lengths);
    free(one);
    free(rows);
    free(row);
    free(texts);
    clear(&f);
}

static void tickets(void **state) {
    (void)state;
    fixture f;
    make(&f);
    for (int32_t mode = EMBED_TABLE_LAZY; mode <= EMBED_TABLE_READ; mode++) {
        embed_table *t = open_it(&f, mode);
        embed_table_ticket *list[20];
        int64_t rows[50];
        for (int k = 0; k < 20; k++) {
            for (int i = 0; i < 50; i++)
                rows[i] = (k * 50 + i) % (int)f.grams.n - (i == 7);
            TEST_OK(embed_table_prefetch(t, rows, k == 3 ? 0 : 50, &list[k]));
        }
        for (int k = 19; k > 0; k--)
            TEST_OK(embed_table_wait(list[k]));
        embed_table_free(t); /* the last ticket keeps it */
        TEST_OK(embed_table_wait(list[0]));
    }
    embed_table *t = open_it(&f, EMBED_TABLE_READ); /* a failure arrives with the ticket */
    embed_table_ticket *ticket;
    const int64_t row = 0;
    assert_int_equal(truncate(test_path(f.path, "rows-000.bin"), 4096), 0);
    TEST_OK(embed_table_prefetch(t, &row, 1, &ticket));
    test_fails(embed_table_wait(ticket), EMBED_ERR_TRUNCATED, "rows-000.bin");
    embed_table_free(t);
    clear(&f);
}

typedef struct log {
    uint64_t calls, done, total;
    int stop;
} log_of;

static int32_t note(void *user, const embed_job_report *r) {
    log_of *l = user;
    assert_true(r->done >= l->done && r->done <= r->total);
    assert_string_equal(r->unit, "bytes");
    assert_true(l->calls > 0 || r->done == 0);
    l->calls++;
    l->done = r->done;
    l->total = r->total;
    return l->stop;
}

static void warming(void **state) {
    (void)state;
    fixture f;
    make(&f);
    for (int32_t mode = EMBED_TABLE_LAZY; mode <= EMBED_TABLE_READ; mode++) {
        embed_table *t = open_it(&f, mode);
        embed_table_stats stats = {.struct_size = sizeof stats};
        log_of l = {0};
        TEST_OK(embed_table_warm(t, 0, note, &l));
        assert_true(l.calls >= 2 && l.done == l.total && l.total > 0);
        TEST_OK(embed_table_get_stats(t, &stats));
        if (mode == EMBED_TABLE_READ)
            assert_true(stats.cache_bytes >= f.grams.n * (48 + 4 * WIDTH));
        else
            assert_true(stats.resident_share > 0.9);
        l = (log_of){.stop = 1};
        test_fails(embed_table_warm(t, 4096, note, &l), EMBED_ERR_CANCELLED, "cancelled");
        embed_table_free(t);
    }
    clear(&f);
}

static void a_table_of_another_model(void **state) {
    (void)state;
    fixture f;
    tiny_model m;
    const tiny_spec spec = tiny_spec_bert();
    tiny_model_make(&m, &spec);
    make(&f);
    embed_model *model = test_open(m.dir);
    embed_table *t;
    embed_table_params p = EMBED_TABLE_PARAMS_INIT;
    test_fails(embed_table_open(&t, f.path, model, NULL), EMBED_ERR_MISMATCH, "9 wide");
    assert_null(t);
    p.flags = EMBED_TABLE_ALLOW_MISMATCH; /* other vectors perhaps, other widths never */
    test_fails(embed_table_open(&t, f.path, model, &p), EMBED_ERR_MISMATCH, "9 wide");
    uint64_t rng = 1;
    test_grams g;
    test_grams_init(&g, spec.hidden);
    test_grams_random(&g, 20, 3, 0, 50, 0, &rng);
    const test_table_spec same_width = {.vocab = 60};
    const char *path = test_path(f.dir, "same");
    test_table_write(path, &same_width, &g);
    test_fails(embed_table_open(&t, path, model, NULL), EMBED_ERR_MISMATCH, "[60, ");
    TEST_OK(embed_table_open(&t, path, model, &p));
    embed_table_free(t);
    test_grams_free(&g);
    embed_model_free(model);
    tiny_model_remove(&m);
    clear(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arguments),
        cmocka_unit_test(facts),
        cmocka_unit_test(lookups_and_vectors),
        cmocka_unit_test(long_lookups),
        cmocka_unit_test(tickets),
        cmocka_unit_test(warming),
        cmocka_unit_test(a_table_of_another_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
