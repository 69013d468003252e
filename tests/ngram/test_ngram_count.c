#include "support/test.h"

#include "ngram/ngram_count.h"

#define MOST (1 << 16)

/* Texts of a skewed vocabulary with a special token here and there. */
static size_t make_stream(uint32_t *tokens, size_t positions, uint32_t vocab, uint64_t *rng) {
    size_t n = 0;
    while (n < positions) {
        const double u = test_uniform(rng);
        const uint64_t what = test_rand(rng) % 50;
        tokens[n++] = what == 0   ? EMB_NGRAM_END
                      : what == 1 ? EMB_NGRAM_BREAK
                                  : (uint32_t)((double)vocab * u * u * u);
    }
    if (n > 0)
        tokens[n - 1] = EMB_NGRAM_END;
    return n;
}

static size_t n_naive;
static const uint32_t *naive_tokens;
static int32_t naive_length;
static uint32_t naive_at[MOST];

static int compare(const uint32_t *a, const uint32_t *b, int32_t n) {
    for (int32_t i = 0; i < n; i++)
        if (a[i] != b[i])
            return a[i] < b[i] ? -1 : 1;
    return 0;
}

static int by_ids(const void *a, const void *b) {
    return compare(naive_tokens + *(const uint32_t *)a, naive_tokens + *(const uint32_t *)b,
                   naive_length);
}

/* All occurrences of n-grams of one length, sorted by ids. */
static void naive_sort(const uint32_t *tokens, size_t positions, int32_t length) {
    n_naive = 0;
    naive_tokens = tokens;
    naive_length = length;
    for (size_t i = 0; i + (size_t)length <= positions; i++) {
        int whole = 1;
        for (int32_t j = 0; j < length; j++)
            whole &= tokens[i + (size_t)j] < EMB_NGRAM_BREAK;
        if (whole)
            naive_at[n_naive++] = (uint32_t)i;
    }
    qsort(naive_at, n_naive, sizeof *naive_at, by_ids);
}

static void ids_of(const emb_ngram_survivors *found, int32_t length, uint64_t i, uint32_t *ids) {
    for (; length > 2; length--) {
        ids[length - 1] = (uint32_t)found[length].keys[i];
        i = found[length].keys[i] >> 32;
    }
    ids[1] = (uint32_t)found[2].keys[i];
    ids[0] = (uint32_t)(found[2].keys[i] >> 32);
}

static void check_length(const emb_ngram_survivors *found, int32_t length, const uint32_t *tokens,
                         size_t positions, uint64_t min_count) {
    static uint32_t numbers[MOST];
    uint64_t n = 0;
    naive_sort(tokens, positions, length);
    memset(numbers, 0xff, sizeof numbers);
    for (size_t i = 0, j; i < n_naive; i = j) {
        uint32_t ids[8];
        for (j = i;
             j < n_naive && compare(tokens + naive_at[i], tokens + naive_at[j], length) == 0;)
            j++;
        if (j - i < min_count)
            continue;
        assert_true(n < found[length].n);
        ids_of(found, length, n, ids);
        assert_int_equal(compare(ids, tokens + naive_at[i], length), 0);
        assert_int_equal(found[length].counts[n], j - i);
        for (size_t m = i; m < j; m++)
            numbers[naive_at[m] + (uint32_t)length - 1] = (uint32_t)n;
        n++;
    }
    assert_int_equal(found[length].n, n);
    assert_memory_equal(found[length].at, numbers, positions * sizeof *numbers);
}

static void arrays_equal_a_naive_count(void **state) {
    (void)state;
    static uint32_t tokens[MOST];
    const emb_env env = test_env();
    const uint64_t thresholds[] = {1, 2, 5};
    uint64_t rng = 1;
    for (int32_t k = 2; k <= 8; k++)
        for (int threads = 1; threads <= 4; threads += k == 5 ? 1 : 3)
            for (size_t t = 0; t < 3; t++) {
                const size_t n = make_stream(tokens, k == 5 ? 20000 : 3000, 60, &rng);
                emb_ngram_survivors found[9];
                emb_pool *pool;
                assert_int_equal(emb_pool_create(&pool, &env, threads), EMBED_OK);
                assert_int_equal(emb_ngram_count_array(&env, pool, tokens, n, k, thresholds[t],
                                                       NULL, NULL, found),
                                 EMBED_OK);
                for (int32_t length = 2; length <= k; length++)
                    check_length(found, length, tokens, n, thresholds[t]);
                emb_ngram_survivors_clear(found, k, &env);
                emb_pool_free(pool);
            }
}

static void nothing_to_count(void **state) {
    (void)state;
    const emb_env env = test_env();
    uint32_t tokens[] = {EMB_NGRAM_END, 7, EMB_NGRAM_END, 7, EMB_NGRAM_BREAK, 7, EMB_NGRAM_END};
    emb_ngram_survivors found[9];
    emb_pool *pool;
    assert_int_equal(emb_pool_create(&pool, &env, 2), EMBED_OK);
    for (size_t n = 0; n <= 7; n++) {
        assert_int_equal(emb_ngram_count_array(&env, pool, tokens, n, 3, 1, NULL, NULL, found),
                         EMBED_OK);
        assert_int_equal(found[2].n + found[3].n, 0);
        emb_ngram_survivors_clear(found, 3, &env);
    }
    emb_pool_free(pool);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arrays_equal_a_naive_count),
        cmocka_unit_test(nothing_to_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
