#include "support/test.h"

#include "ngram/ngram_advice.h"
#include "ngram/ngram_row.h"

#define VOCAB 60
#define SPECIAL 7
#define MOST_GRAMS 20000

typedef struct gram {
    int32_t ids[8];
    int32_t length;
    uint64_t count;
    size_t first; /* where it first ended, in the order of reading */
} gram;

static uint64_t special[VOCAB / 64 + 1];

static emb_ngram_advise_params params_of(const int32_t *k, size_t n_k, const uint64_t *rows,
                                         size_t n_rows) {
    special[SPECIAL / 64] = UINT64_C(1) << (SPECIAL % 64);
    return (emb_ngram_advise_params){.k = k,
                                     .n_k = n_k,
                                     .rows = rows,
                                     .n_rows = n_rows,
                                     .held_out = 0.25,
                                     .min_count = 2,
                                     .width = 60,
                                     .dtype = EMBED_I8,
                                     .special = special,
                                     .vocab = VOCAB};
}

static void fill(emb_ngram_sample *s, size_t texts, uint64_t seed) {
    uint64_t rng = seed;
    for (size_t i = 0; i < texts; i++) {
        int32_t ids[40];
        const size_t n = test_rand(&rng) % 40;
        for (size_t t = 0; t < n; t++) {
            const double u = test_uniform(&rng);
            ids[t] = (int32_t)(VOCAB * u * u * u);
        }
        assert_int_equal(emb_ngram_sample_add(s, ids, n), EMBED_OK);
    }
}

/* Does an n-gram of ordinary tokens end at t of a text? */
static int is_gram(const int32_t *text, size_t t, int32_t length) {
    if (t + 1 < (size_t)length)
        return 0;
    for (int32_t j = 0; j < length; j++)
        if (text[t - (size_t)j] == SPECIAL)
            return 0;
    return 1;
}

static gram *grams;
static size_t n_grams;

static gram *find(const int32_t *ids, int32_t length, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (grams[i].length == length &&
            memcmp(grams[i].ids, ids, (size_t)length * sizeof *ids) == 0)
            return &grams[i];
    return NULL;
}

static int by_rank(const void *a, const void *b) {
    const gram *x = a, *y = b;
    if (x->count != y->count)
        return x->count < y->count ? 1 : -1;
    if (x->length != y->length)
        return x->length - y->length;
    return x->first < y->first ? -1 : x->first > y->first;
}

/* All n-grams up to k of the texts that are counted, the best first. */
static void naive_count(const emb_ngram_sample *s, int32_t k) {
    n_grams = 0;
    for (size_t i = 0, start = 0; i < s->texts; start = (size_t)s->ends[i++])
        for (size_t t = start; !s->held[i] && t < s->ends[i]; t++)
            for (int32_t length = 2; length <= k; length++) {
                if (!is_gram(s->ids + start, t - start, length))
                    break;
                const int32_t *ids = s->ids + t + 1 - length;
                gram *g = find(ids, length, n_grams);
                if (g == NULL) {
                    assert_true(n_grams < MOST_GRAMS);
                    g = &grams[n_grams++];
                    *g = (gram){.length = length, .first = t};
                    memcpy(g->ids, ids, (size_t)length * sizeof *ids);
                }
                g->count++;
            }
    qsort(grams, n_grams, sizeof *grams, by_rank);
    while (n_grams > 0 && grams[n_grams - 1].count < 2)
        n_grams--;
}

static void check_cell(const emb_ngram_sample *s, const embed_advise_cell *cell) {
    const size_t n = cell->rows_wanted < n_grams ? (size_t)cell->rows_wanted : n_grams;
    uint64_t hits[9] = {0}, positions = 0, distinct = 0, hot[2] = {0, 0}, matched = 0;
    unsigned char *used = calloc(n + 1, 1);
    for (size_t i = 0, start = 0; i < s->texts; start = (size_t)s->ends[i++])
        for (size_t t = start; s->held[i] && t < s->ends[i]; t++) {
            int32_t length = cell->k;
            const gram *g = NULL;
            for (; length >= 2 && g == NULL; length--)
                if (is_gram(s->ids + start, t - start, length))
                    g = find(s->ids + t + 1 - length, length, n);
            positions++;
            hits[g ? g->length : 0]++;
            if (g == NULL)
                continue;
            matched++;
            distinct += !used[g - grams];
            used[g - grams] = 1;
            hot[0] += (size_t)(g - grams) < (n + 50) / 100;
            hot[1] += (size_t)(g - grams) < (n + 5) / 10;
        }
    free(used);
    assert_int_equal(cell->rows, n);
    assert_int_equal(cell->least_count, n ? grams[n - 1].count : 0);
    assert_int_equal(cell->positions, positions);
    assert_int_equal(cell->matched, matched);
    assert_int_equal(cell->distinct_rows, distinct);
    for (int32_t i = 0; i < 9; i++)
        assert_int_equal(cell->hits[i], hits[i]);
    assert_true(matched == 0 || cell->hot_1_percent == (double)hot[0] / (double)matched);
    assert_true(matched == 0 || cell->hot_10_percent == (double)hot[1] / (double)matched);
}

static void equals_the_naive_answer(void **state) {
    (void)state;
    static const int32_t k[] = {2, 3, 5, 8};
    static const uint64_t rows[] = {1, 30, 500, 1000000};
    const emb_env env = test_env();
    const emb_ngram_advise_params params = params_of(k, 4, rows, 4);
    grams = calloc(MOST_GRAMS, sizeof *grams);
    for (int threads = 1; threads <= 2; threads++) {
        emb_ngram_sample sample;
        emb_pool *pool;
        embed_advise_cell cells[16];
        emb_ngram_layout layout;
        emb_ngram_sample_init(&sample, &env, 1 << 20);
        fill(&sample, 60, 5);
        assert_int_equal(emb_pool_create(&pool, &env, threads), EMBED_OK);
        assert_int_equal(emb_ngram_advise(&sample, pool, &params, cells), EMBED_OK);
        assert_int_equal(emb_ngram_layout_init(&layout, 60, EMBED_I8), EMBED_OK);
        for (size_t i = 0; i < 16; i++) {
            assert_int_equal(cells[i].k, k[i / 4]);
            assert_int_equal(cells[i].rows_wanted, rows[i % 4]);
            if (i % 4 == 0)
                naive_count(&sample, k[i / 4]);
            check_cell(&sample, &cells[i]);
            assert_true(cells[i].disk_bytes > emb_ngram_rows_bytes(&layout, cells[i].rows));
        }
        assert_true(cells[14].matched > 100 &&
                    cells[14].hits[4] > 0); /* there is something to compare */
        emb_pool_free(pool);
        emb_ngram_sample_clear(&sample);
    }
    free(grams);
}

static void nothing_is_frequent(void **state) {
    (void)state;
    static const int32_t k[] = {5}, different[] = {1, 2, 3}, others[] = {4, 5, 6};
    static const uint64_t rows[] = {10};
    const emb_env env = test_env();
    const emb_ngram_advise_params params = params_of(k, 1, rows, 1);
    emb_ngram_sample sample;
    emb_pool *pool;
    embed_advise_cell cell;
    assert_int_equal(emb_pool_create(&pool, &env, 1), EMBED_OK);
    emb_ngram_sample_init(&sample, &env, 1 << 20);
    assert_int_equal(emb_ngram_sample_add(&sample, different, 3), EMBED_OK);
    assert_int_equal(emb_ngram_advise(&sample, pool, &params, &cell), EMBED_ERR_ARG);
    assert_non_null(strstr(emb_fail_message(), "at least 2 texts"));
    assert_int_equal(emb_ngram_sample_add(&sample, others, 3), EMBED_OK);
    assert_int_equal(emb_ngram_advise(&sample, pool, &params, &cell), EMBED_OK);
    assert_int_equal(cell.rows, 0);
    assert_int_equal(cell.positions, 3);
    assert_int_equal(cell.matched, 0);
    assert_int_equal(cell.hits[0], 3);
    emb_ngram_sample_clear(&sample);
    emb_pool_free(pool);
}

/* Whole texts go, evenly, and the same ones whatever else happens. */
static void thins_by_whole_texts(void **state) {
    (void)state;
    const emb_env env = test_env();
    emb_ngram_sample s, again;
    int32_t ids[50];
    emb_ngram_sample_init(&s, &env, 10000);
    emb_ngram_sample_init(&again, &env, 10000);
    for (int32_t i = 0; i < 2000; i++) {
        const size_t n = (size_t)(i % 50);
        for (size_t t = 0; t < n; t++)
            ids[t] = i;
        assert_int_equal(emb_ngram_sample_add(&s, ids, n), EMBED_OK);
        assert_int_equal(emb_ngram_sample_add(&again, ids, n), EMBED_OK);
    }
    assert_int_equal(s.seen_texts, 2000);
    assert_true(s.tokens + s.texts <= 10000);
    assert_true(s.tokens > 3000);
    size_t start = 0;
    uint64_t first_half = 0;
    for (size_t i = 0; i < s.texts; start = (size_t)s.ends[i++]) {
        assert_int_equal(s.ends[i] - start, s.numbers[i] % 50);
        for (size_t t = start; t < s.ends[i]; t++)
            assert_int_equal(s.ids[t], s.numbers[i]);
        first_half += s.numbers[i] < 1000;
    }
    assert_true(first_half > s.texts / 3 && first_half < s.texts * 2 / 3);
    assert_int_equal(again.texts, s.texts);
    assert_memory_equal(again.numbers, s.numbers, s.texts * sizeof *s.numbers);

    assert_int_equal(emb_ngram_sample_split(&s, 0.1), EMBED_OK);
    uint64_t held = 0;
    for (size_t i = 0; i < s.texts; i++)
        held += s.held[i];
    assert_int_equal(held, (s.texts + 5) / 10);
    assert_int_equal(emb_ngram_sample_split(&s, 0), EMBED_OK);
    assert_int_equal(emb_ngram_sample_split(&s, 1), EMBED_OK);
    for (size_t i = held = 0; i < s.texts; i++)
        held += s.held[i];
    assert_int_equal(held, s.texts - 1);

    int32_t *book = calloc(20000, sizeof *book);
    assert_int_equal(emb_ngram_sample_add(&s, book, 20000), EMBED_ERR_ARG);
    assert_non_null(strstr(emb_fail_message(), "20000 tokens"));
    free(book);
    emb_ngram_sample_clear(&s);
    emb_ngram_sample_clear(&again);
}

static void memory_bounds_the_sample(void **state) {
    (void)state;
    static const int32_t k[] = {3};
    static const uint64_t rows[] = {1000, 1000000};
    const emb_ngram_advise_params params = params_of(k, 1, rows, 2);
    uint64_t few, many;
    assert_int_equal(emb_ngram_advise_positions(&params, 16 << 20, &few), EMBED_OK);
    assert_int_equal(emb_ngram_advise_positions(&params, 1 << 30, &many), EMBED_OK);
    assert_true(few > 50000 && many > 40 * few && many < (1 << 30) / 50);
    assert_int_equal(emb_ngram_advise_positions(&params, 1000, &few), EMBED_ERR_ARG);
    assert_non_null(strstr(emb_fail_message(), "memory: expected at least"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_the_naive_answer), cmocka_unit_test(nothing_is_frequent),
        cmocka_unit_test(thins_by_whole_texts), cmocka_unit_test(memory_bounds_the_sample)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
