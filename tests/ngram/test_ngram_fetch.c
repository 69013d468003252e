/* Every way rows reach us gives the same bits: those the table was written with. */
#include "support/table_fixture.h"

#include "ngram/ngram_fetch.h"
#include "ngram/ngram_cache.h"

#define VOCAB 200
#define WIDTH 37
#define TOKENS 3000

static const uint8_t key[32] = {1, 2, 3};
static int32_t give_key(void *user, unsigned char out[32]) {
    (void)user;
    memcpy(out, key, 32);
    return 0;
}

typedef struct fixture {
    char dir[256];
    test_grams grams;
    int32_t ids[TOKENS], offsets[64];
    size_t texts;
    int64_t want[TOKENS]; /* row by naive search, -1: none */
} fixture;

static int is_special(int32_t id) {
    return id < 0 || id >= VOCAB - 5;
}

static const int32_t special[5] = {VOCAB - 5, VOCAB - 4, VOCAB - 3, VOCAB - 2, VOCAB - 1};

static void make_texts(fixture *f, uint64_t *rng, int32_t k) {
    int32_t at = 0;
    f->texts = 0;
    f->offsets[0] = 0;
    while (f->texts < 60) {
        const int32_t n = (int32_t)(test_rand(rng) % 50);
        for (int32_t i = 0; i < n; i++) {
            const double u = test_uniform(rng);
            f->ids[at + i] = (int32_t)((VOCAB + 1) * u * u * u);
        }
        for (int32_t i = 0; i + 9 < n; i += 9) { /* pieces that match for certain */
            const emb_ngram_fgram *g = &f->grams.list[test_rand(rng) % f->grams.n];
            for (int32_t j = 0; j < g->length; j++)
                f->ids[at + i + j] = (int32_t)g->ids[j];
        }
        int32_t start = at;
        for (int32_t i = at; i < at + n; i++) {
            f->want[i] = -1;
            if (is_special(f->ids[i])) {
                start = i + 1;
                continue;
            }
            for (int32_t m = 2; m <= k && i - m + 1 >= start; m++) {
                const int64_t row = test_grams_find(&f->grams, f->ids + i - m + 1, m);
                f->want[i] = row >= 0 ? row : f->want[i];
            }
        }
        at += n;
        f->offsets[++f->texts] = at;
    }
}

static void fixture_make(fixture *f, size_t n, int32_t k, uint64_t seed) {
    test_dir_make(f->dir);
    test_grams_init(&f->grams, WIDTH);
    test_grams_random(&f->grams, n, k, 0, VOCAB - 5, 0, &seed);
    make_texts(f, &seed, k);
}

static void fixture_free(fixture *f) {
    test_grams_free(&f->grams);
    test_dir_remove(f->dir);
}

static embed_table *open_table(const char *path, const embed_table_params *params) {
    const emb_env env = test_env();
    embed_table_params p = EMBED_TABLE_PARAMS_INIT;
    embed_table *t = NULL;
    if (params != NULL)
        p = *params;
    p.key = give_key;
    if (emb_ngram_table_open(&t, &env, path, &p, NULL) != EMBED_OK)
        fail_msg("%s", emb_fail_message());
    return t;
}

/* What a row reads as: written and read back without the table. */
static void stored(const fixture *f, const emb_ngram_layout *l, int64_t row, float *out) {
    static unsigned char bytes[4096];
    const emb_ngram_fgram *g = &f->grams.list[row];
    assert_int_equal(
        emb_ngram_row_encode(l, g->ids, g->length, g->count, f->grams.vectors + row * WIDTH, bytes),
        EMBED_OK);
    emb_ngram_row_decode(l, bytes, out);
}

static void check_rows(const fixture *f, const embed_table *t, const float *const *rows) {
    float want[WIDTH];
    for (int32_t i = 0; i < f->offsets[f->texts]; i++) {
        if (f->want[i] < 0) {
            assert_null(rows[i]);
            continue;
        }
        assert_non_null(rows[i]);
        stored(f, &t->manifest.layout, f->want[i], want);
        assert_memory_equal(rows[i], want, sizeof want);
    }
}

/* Two calls: the second finds what the first has left in caches and bitmaps. */
static void check_fetch(const fixture *f, embed_table *t) {
    const emb_env env = test_env();
    static const float *rows[TOKENS];
    emb_ngram_fetcher *fetcher;
    emb_ngram_stats stats = {0}, totals;
    assert_int_equal(emb_ngram_fetcher_create(&fetcher, &env, t, 10), EMBED_OK);
    for (int pass = 0; pass < 2; pass++) {
        if (emb_ngram_fetch(fetcher, f->ids, f->offsets, f->texts, rows, &stats) != EMBED_OK)
            fail_msg("%s", emb_fail_message());
        check_rows(f, t, rows);
    }
    uint64_t hits = 0, sum = 0;
    for (int32_t i = 0; i < f->offsets[f->texts]; i++)
        hits += f->want[i] >= 0;
    for (int n = 1; n <= EMB_NGRAM_MAX_K; n++)
        sum += stats.hits[n];
    assert_int_equal(stats.positions, 2 * f->offsets[f->texts]);
    assert_int_equal(sum, 2 * hits);
    assert_int_equal(stats.hits[0] + sum, stats.positions);
    assert_int_equal(stats.hits[1], 0);
    assert_int_equal(stats.foreign_rows, 0);
    emb_ngram_table_totals(t, &totals);
    assert_int_equal(totals.positions, stats.positions);
    assert_true(totals.distinct_rows >= stats.distinct_rows);
    assert_true(stats.cache_hits <= stats.distinct_rows);
    if (t->io != EMBED_TABLE_IO_WILLNEED)
        assert_true(stats.bytes_read > 0);
    emb_ngram_fetcher_free(fetcher);
}

static int refused(embed_table_params *p, const char *path) {
    const emb_env env = test_env();
    embed_table *t = NULL;
    embed_table_params with_key = *p;
    with_key.key = give_key;
    const embed_status st = emb_ngram_table_open(&t, &env, path, &with_key, NULL);
    emb_ngram_table_release(t);
    return st == EMBED_ERR_UNSUPPORTED || st == EMBED_ERR_NOMEM;
}

static void all_modes(const fixture *f, const char *path, size_t *runs) {
    static const uint64_t caches[] = {0, 1, 3 * (WIDTH * 4 + 48 + 64), 20000};
    for (int32_t mode = EMBED_TABLE_AUTO; mode <= EMBED_TABLE_READ; mode++)
        for (int32_t io = EMBED_TABLE_IO_AUTO; io <= EMBED_TABLE_IO_PREAD; io++)
            for (size_t c = 0; c < sizeof caches / sizeof caches[0]; c++)
                for (uint64_t pin = 0; pin <= 20000; pin += 20000) {
                    embed_table_params p = EMBED_TABLE_PARAMS_INIT;
                    if (mode == EMBED_TABLE_READ && io == EMBED_TABLE_IO_WILLNEED)
                        continue;
                    p.mode = mode;
                    p.io = io;
                    p.cache_bytes = caches[c];
                    p.pin_bytes = pin;
                    if ((io == EMBED_TABLE_IO_URING || pin > 0) && refused(&p, path))
                        continue; /* the system has no io_uring or locks no memory */
                    embed_table *t = open_table(path, &p);
                    check_fetch(f, t);
                    emb_ngram_table_release(t);
                    ++*runs;
                }
}

static void every_way_gives_the_same_bits(void **state) {
    (void)state;
    static const int32_t dtypes[] = {EMBED_F32, EMBED_F16, EMBED_BF16, EMBED_I8};
    size_t runs = 0;
    static fixture f;
    fixture_make(&f, 400, 6, 3);
    for (size_t d = 0; d < 4; d++)
        for (int encrypted = 0; encrypted < 2; encrypted++) {
            char name[32];
            (void)snprintf(name, sizeof name, "t%zu%d", d, encrypted);
            const test_table_spec spec = {
                .dtype = dtypes[d],
                .vocab = VOCAB,
                .special = special,
                .n_special = 5,
                .key = encrypted ? key : NULL,
                .part_bytes = d == 1 ? 0 : 20000,
            };
            const char *path = test_path(f.dir, name);
            test_table_write(path, &spec, &f.grams);
            all_modes(&f, path, &runs);
        }
    assert_true(runs >= 4 * 2 * 30);
    fixture_free(&f);
}

static void rows_by_number(void **state) {
    (void)state;
    static fixture f;
    fixture_make(&f, 100, 4, 9);
    const test_table_spec spec = {.vocab = VOCAB, .special = special, .n_special = 5};
    const emb_env env = test_env();
    const char *path = test_path(f.dir, "t");
    test_table_write(path, &spec, &f.grams);
    embed_table *t = open_table(path, NULL);
    emb_ngram_fetcher *fetcher;
    const uint32_t rows[6] = {99, 0, EMB_NGRAM_NO_ROW, 0, 57, 98};
    const float *vectors[6];
    const emb_ngram_row_header *headers[6];
    assert_int_equal(emb_ngram_fetcher_create(&fetcher, &env, t, 0), EMBED_OK);
    assert_int_equal(emb_ngram_fetch_rows(fetcher, rows, 6, vectors, headers, NULL), EMBED_OK);
    for (int i = 0; i < 6; i++) {
        if (rows[i] == EMB_NGRAM_NO_ROW) {
            assert_null(vectors[i]);
            assert_null(headers[i]);
            continue;
        }
        const emb_ngram_fgram *g = &f.grams.list[rows[i]];
        assert_memory_equal(vectors[i], f.grams.vectors + rows[i] * WIDTH, WIDTH * 4);
        assert_int_equal(headers[i]->length, g->length);
        assert_int_equal(headers[i]->count, g->count);
        assert_memory_equal(headers[i]->ids, g->ids, (size_t)g->length * 4);
    }
    assert_ptr_equal(vectors[1], vectors[3]);
    assert_int_equal(emb_ngram_fetch_rows(fetcher, NULL, 0, NULL, NULL, NULL), EMBED_OK);
    emb_ngram_fetcher_free(fetcher);
    emb_ngram_table_release(t);
    fixture_free(&f);
}

static void cache_keeps_to_its_limit(void **state) {
    (void)state;
    const emb_env env = test_env();
    emb_ngram_cache *c;
    float v[WIDTH], got[WIDTH];
    emb_ngram_row_header h = {.length = 3}, back;
    assert_int_equal(emb_ngram_cache_create(&c, &env, 100, WIDTH * sizeof(float)), EMBED_OK);
    assert_null(c); /* not one row */
    assert_int_equal(emb_ngram_cache_create(&c, &env, 10000, WIDTH * sizeof(float)), EMBED_OK);
    for (uint32_t r = 0; r < 2000; r++) {
        for (int i = 0; i < WIDTH; i++)
            v[i] = (float)r + (float)i;
        h.count = r;
        emb_ngram_cache_put(c, r, &h, v);
        assert_true(emb_ngram_cache_get(c, r, &back, got)); /* the newest is there */
        assert_memory_equal(got, v, sizeof v);
        assert_int_equal(back.count, r);
        assert_true(emb_ngram_cache_bytes(c) <= 10000);
    }
    size_t kept = 0;
    for (uint32_t r = 0; r < 2000; r++)
        if (emb_ngram_cache_get(c, r, &back, got)) {
            assert_int_equal(back.count, r);
            assert_true(got[1] == (float)r + 1);
            kept++;
        }
    assert_int_equal(kept, emb_ngram_cache_rows(c));
    assert_false(emb_ngram_cache_get(c, EMB_NGRAM_NO_ROW - 1, &back, got));
    emb_ngram_cache_free(c);
}

/* The rule of use beats age: a row that is asked for again and again stays. */
static void cache_keeps_what_is_used(void **state) {
    (void)state;
    const emb_env env = test_env();
    emb_ngram_cache *c;
    const float v[WIDTH] = {1};
    float got[WIDTH];
    emb_ngram_row_header h = {.length = 2}, back;
    assert_int_equal(emb_ngram_cache_create(&c, &env, 3000, WIDTH * sizeof(float)), EMBED_OK);
    emb_ngram_cache_put(c, 7, &h, v);
    for (uint32_t r = 100; r < 1000; r++) {
        assert_true(emb_ngram_cache_get(c, 7, &back, got));
        emb_ngram_cache_put(c, r, &h, v);
    }
    emb_ngram_cache_free(c);
}

static void projection_is_applied(void **state) {
    (void)state;
    enum { HIDDEN = 20 };
    static fixture f;
    fixture_make(&f, 100, 4, 21);
    uint64_t rng = 4;
    float matrix[HIDDEN * WIDTH];
    for (int i = 0; i < HIDDEN * WIDTH; i++)
        matrix[i] = (float)test_normal(&rng);
    const test_table_spec spec = {
        .vocab = VOCAB, .special = special, .n_special = 5, .hidden = HIDDEN, .projection = matrix};
    const emb_env env = test_env();
    const char *path = test_path(f.dir, "t");
    test_table_write(path, &spec, &f.grams);
    embed_table *t = open_table(path, NULL);
    emb_ngram_fetcher *fetcher;
    static const float *rows[TOKENS];
    assert_int_equal(emb_ngram_fetcher_create(&fetcher, &env, t, 4), EMBED_OK);
    assert_int_equal(emb_ngram_fetch(fetcher, f.ids, f.offsets, f.texts, rows, NULL), EMBED_OK);
    size_t seen = 0;
    for (int32_t i = 0; i < f.offsets[f.texts]; i++) {
        double want[HIDDEN] = {0};
        assert_true((rows[i] != NULL) == (f.want[i] >= 0));
        if (rows[i] == NULL)
            continue;
        for (int h = 0; h < HIDDEN; h++)
            for (int w = 0; w < WIDTH; w++)
                want[h] +=
                    (double)matrix[h * WIDTH + w] * (double)f.grams.vectors[f.want[i] * WIDTH + w];
        test_close("projected row", rows[i], want, HIDDEN, 1e-4, 1e-5);
        seen++;
    }
    assert_true(seen > 100);
    emb_ngram_fetcher_free(fetcher);
    emb_ngram_table_release(t);
    fixture_free(&f);
}

static void no_fgrams_and_short_texts(void **state) {
    (void)state;
    const emb_env env = test_env();
    for (size_t n = 0; n < 2; n++)
        for (int32_t mode = EMBED_TABLE_AUTO; mode <= EMBED_TABLE_READ; mode++) {
            char dir[256];
            uint64_t rng = 2;
            test_grams g;
            test_dir_make(dir);
            test_grams_init(&g, 8);
            const int32_t gram[2] = {5, 6};
            if (n == 1)
                test_grams_add(&g, gram, 2, 9, NULL, &rng);
            const test_table_spec spec = {.vocab = VOCAB};
            const char *path = test_path(dir, "t");
            test_table_write(path, &spec, &g);
            embed_table_params p = EMBED_TABLE_PARAMS_INIT;
            p.mode = mode;
            embed_table *t = open_table(path, &p);
            emb_ngram_fetcher *fetcher;
            emb_ngram_stats stats = {0};
            const int32_t ids[6] = {5, 6, 5, 5, 6, 6}, offsets[6] = {0, 1, 2, 2, 3, 6};
            const float *rows[6] = {NULL};
            assert_int_equal(emb_ngram_fetcher_create(&fetcher, &env, t, 0), EMBED_OK);
            assert_int_equal(emb_ngram_fetch(fetcher, ids, offsets, 4, rows, &stats), EMBED_OK);
            for (int i = 0; i < 3; i++)
                assert_null(rows[i]); /* all texts shorter than two tokens */
            assert_int_equal(stats.hits[0], 3);
            assert_int_equal(emb_ngram_fetch(fetcher, ids, offsets, 5, rows, &stats), EMBED_OK);
            assert_true((rows[4] != NULL) == (n == 1));
            assert_null(rows[3]);
            assert_null(rows[5]);
            if (n == 1)
                assert_memory_equal(rows[4], g.vectors, 8 * 4);
            emb_ngram_fetcher_free(fetcher);
            emb_ngram_table_release(t);
            test_grams_free(&g);
            test_dir_remove(dir);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_way_gives_the_same_bits),
        cmocka_unit_test(rows_by_number),
        cmocka_unit_test(cache_keeps_to_its_limit),
        cmocka_unit_test(cache_keeps_what_is_used),
        cmocka_unit_test(projection_is_applied),
        cmocka_unit_test(no_fgrams_and_short_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
