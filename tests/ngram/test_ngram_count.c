#include "support/naive_ngrams.h"

#include "ngram/ngram_count.h"

#define MOST (1 << 16)

static emb_pool *make_pool(const emb_env *env, int threads) {
    emb_pool *pool;
    assert_int_equal(emb_pool_create(&pool, env, threads), EMBED_OK);
    return pool;
}

static void ids_of(const emb_ngram_survivors *found, int32_t length, uint64_t i, uint32_t *ids) {
    for (; length > 2; length--) {
        ids[length - 1] = (uint32_t)found[length].keys[i];
        i = found[length].keys[i] >> 32;
    }
    ids[1] = (uint32_t)found[2].keys[i];
    ids[0] = (uint32_t)(found[2].keys[i] >> 32);
}

/* The number at each position is that of the n-gram which ends there. */
static void check_numbers(const emb_ngram_survivors *found, int32_t length, const uint32_t *tokens,
                          size_t positions) {
    uint64_t *counts = calloc((size_t)found[length].n + 1, sizeof *counts);
    for (size_t i = 0; i < positions; i++) {
        uint32_t ids[8];
        const uint32_t number = found[length].at[i];
        if (number >= EMB_NGRAM_BREAK)
            continue;
        assert_true(number < found[length].n && i + 1 >= (size_t)length);
        ids_of(found, length, number, ids);
        assert_memory_equal(ids, tokens + i + 1 - length, (size_t)length * sizeof *ids);
        counts[number]++;
    }
    assert_memory_equal(counts, found[length].counts, (size_t)found[length].n * sizeof *counts);
    free(counts);
}

static void check_array(uint32_t *tokens, size_t n, int32_t k, uint64_t min_count, int threads) {
    const emb_env env = test_env();
    emb_ngram_survivors found[9];
    uint64_t at[9] = {0};
    emb_pool *pool = make_pool(&env, threads);
    naive_ngrams want = naive_count(tokens, n, k, min_count, 1);
    assert_int_equal(emb_ngram_count_array(&env, pool, tokens, n, k, min_count, NULL, NULL, found),
                     EMBED_OK);
    for (size_t i = 0; i < want.n; i++) {
        uint32_t ids[8];
        const int32_t length = want.items[i].length;
        assert_true(at[length] < found[length].n);
        ids_of(found, length, at[length], ids);
        assert_memory_equal(ids, want.items[i].ids, (size_t)length * sizeof *ids);
        assert_int_equal(found[length].counts[at[length]++], want.items[i].count);
    }
    for (int32_t length = 2; length <= k; length++) {
        assert_int_equal(found[length].n, at[length]);
        check_numbers(found, length, tokens, n);
    }
    emb_ngram_survivors_clear(found, k, &env);
    emb_pool_free(pool);
    free(want.items);
}

static void arrays_equal_a_naive_count(void **state) {
    (void)state;
    static uint32_t tokens[MOST];
    const uint64_t thresholds[] = {1, 2, 5};
    uint64_t rng = 1;
    for (int32_t k = 2; k <= 8; k++)
        for (size_t t = 0; t < 3; t++) {
            const size_t n = k == 5 ? 20000 : 3000;
            naive_stream(tokens, n, 60, &rng);
            check_array(tokens, n, k, thresholds[t], 1 + (int)t);
        }
}

static void nothing_to_count(void **state) {
    (void)state;
    const emb_env env = test_env();
    uint32_t tokens[] = {EMB_NGRAM_END, 7, EMB_NGRAM_END, 7, EMB_NGRAM_BREAK, 7, EMB_NGRAM_END};
    emb_ngram_survivors found[9];
    emb_pool *pool = make_pool(&env, 2);
    for (size_t n = 0; n <= 7; n++) {
        assert_int_equal(emb_ngram_count_array(&env, pool, tokens, n, 3, 1, NULL, NULL, found),
                         EMBED_OK);
        assert_int_equal(found[2].n + found[3].n, 0);
        emb_ngram_survivors_clear(found, 3, &env);
    }
    emb_pool_free(pool);
}

static int32_t stop(void *user, int32_t length, uint32_t pass, uint64_t done, uint64_t total) {
    (void)pass;
    assert_true(done <= total);
    return length == *(int32_t *)user;
}

static void stopped_and_without_memory(void **state) {
    (void)state;
    static uint32_t tokens[2000];
    uint64_t rng = 3;
    naive_stream(tokens, 2000, 300, &rng);
    const emb_env env = test_env();
    emb_ngram_survivors found[9];
    emb_pool *pool = make_pool(&env, 2);
    int32_t at = 3;
    assert_int_equal(emb_ngram_count_array(&env, pool, tokens, 2000, 4, 1, stop, &at, found),
                     EMBED_ERR_CANCELLED);
    emb_ngram_survivors_clear(found, 4, &env);
    emb_pool_free(pool);
    for (long fail_at = 1, refused = 1; refused; fail_at++) {
        test_allocator a;
        test_allocator_init(&a, fail_at);
        emb_env failing;
        assert_int_equal(emb_env_init(&failing, &a.allocator, NULL, NULL), EMBED_OK);
        pool = make_pool(&env, 2);
        const embed_status st =
            emb_ngram_count_array(&failing, pool, tokens, 2000, 3, 1, NULL, NULL, found);
        refused = a.failed;
        assert_int_equal(st, refused ? EMBED_ERR_NOMEM : EMBED_OK);
        emb_ngram_survivors_clear(found, 3, &failing);
        assert_int_equal(a.live, 0);
        emb_pool_free(pool);
    }
}

/* --------------------------------------------------------------------------------- the table */

static void add_keys(emb_ngram_tally *t, const uint64_t *keys, size_t n, uint64_t *end) {
    uint64_t hashes[EMB_NGRAM_TALLY_BATCH];
    uint32_t ids[EMB_NGRAM_TALLY_BATCH];
    for (size_t i = 0; i < n; i++)
        hashes[i] = emb_ngram_tally_hash(keys[i]);
    assert_int_equal(emb_ngram_tally_reserve(t, end), EMBED_OK);
    assert_int_equal(emb_ngram_tally_add(t, keys, hashes, NULL, n, ids), EMBED_OK);
}

static void counts_beyond_32_bits(void **state) {
    (void)state;
    const emb_env env = test_env();
    emb_ngram_tally t;
    uint64_t end = UINT64_MAX, n;
    const uint64_t keys[] = {42, 0, 42};
    assert_int_equal(emb_ngram_tally_init(&t, &env, 1 << 20, 1 << 20, 0), EMBED_OK);
    add_keys(&t, keys, 3, &end);
    for (uint64_t i = 0; i < t.size; i++)
        if (t.slots[i].key == ~UINT64_C(42))
            t.slots[i].count = UINT32_MAX - 1;
    add_keys(&t, keys, 3, &end);
    for (int round = 0; round < 3; round++) /* the mark moves with the table */
        for (uint64_t key = 1000; key < 3000; key++)
            add_keys(&t, &key, 1, &end);
    emb_ngram_tally_finish(&t, end, (uint64_t)1 << 32, 1, &n);
    assert_int_equal(n, 1);
    const emb_ngram_tally_entry e = emb_ngram_tally_get(&t, 0);
    assert_int_equal(e.key, 42);
    assert_true(e.count == (uint64_t)1 << 32);
    emb_ngram_tally_clear(&t);
}

/* A table that may not grow gives up keys from the top and still counts the others exactly. */
static void a_full_table_cuts_its_range(void **state) {
    (void)state;
    const emb_env env = test_env();
    emb_ngram_tally t;
    uint64_t end = UINT64_MAX, n;
    assert_int_equal(emb_ngram_tally_init(&t, &env, EMB_NGRAM_TALLY_LEAST_BYTES, 1 << 20, 0),
                     EMBED_OK);
    for (int round = 0; round < 2; round++)
        for (uint64_t i = 0; i < 50000; i++) {
            const uint64_t key = i * 7919 % 50000;
            if (key < end)
                add_keys(&t, &key, 1, &end);
        }
    assert_true(end < 50000 && end > 100);
    emb_ngram_tally_finish(&t, end, 1, 1, &n);
    assert_int_equal(n, end);
    for (uint64_t i = 0; i < n; i++) {
        const emb_ngram_tally_entry e = emb_ngram_tally_get(&t, i);
        assert_int_equal(e.key, i);
        assert_int_equal(e.count, 2);
    }
    emb_ngram_tally_clear(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arrays_equal_a_naive_count),  cmocka_unit_test(nothing_to_count),
        cmocka_unit_test(stopped_and_without_memory),  cmocka_unit_test(counts_beyond_32_bits),
        cmocka_unit_test(a_full_table_cuts_its_range),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
