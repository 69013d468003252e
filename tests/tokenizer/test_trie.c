/* The trie against a plain list of its keys. */
#include "support/test.h"
#include "tokenizer/trie.h"

enum { KEYS = 3000, LENGTH = 20 };

static char texts[KEYS][LENGTH];

static size_t make_keys(emb_trie_key *keys, uint64_t *seed, unsigned letters) {
    for (size_t i = 0; i < KEYS; i++) {
        const size_t len = test_rand(seed) % LENGTH;
        for (size_t k = 0; k < len; k++)
            texts[i][k] = (char)(test_rand(seed) % letters * (256 / letters));
        keys[i] = (emb_trie_key){texts[i], len, 0, 0, 0};
    }
    return KEYS;
}

static int linear_find(const emb_trie_key *keys, size_t n, const char *key, size_t len) {
    for (size_t i = 0; i < n; i++)
        if (keys[i].len == len && memcmp(keys[i].ptr, key, len) == 0)
            return (int)keys[i].value;
    return -1;
}

static void test_random_keys(void **state) {
    (void)state;
    static const unsigned alphabets[] = {2, 4, 256};
    static emb_trie_key keys[KEYS], spare[KEYS];
    const emb_env env = test_env();
    uint64_t seed = 7;
    for (size_t a = 0; a < sizeof alphabets / sizeof *alphabets; a++) {
        emb_trie trie;
        size_t n = make_keys(keys, &seed, alphabets[a]), used = 0;
        emb_trie_sort(keys, spare, n);
        for (size_t i = 1; i < n; i++) { /* by bytes, shorter first, then as they came */
            const size_t both = keys[i].len < keys[i - 1].len ? keys[i].len : keys[i - 1].len;
            const int order = memcmp(keys[i - 1].ptr, keys[i].ptr, both);
            assert_true(order < 0 || (order == 0 && keys[i - 1].len <= keys[i].len));
            if (emb_trie_key_equal(&keys[i - 1], &keys[i]))
                assert_true(keys[i - 1].order < keys[i].order);
        }
        for (size_t i = 0; i < n; i++)
            if (i == 0 || !emb_trie_key_equal(&keys[i], &keys[used - 1]))
                keys[used++] = keys[i];
        n = used;
        for (size_t i = 0; i < n; i++)
            keys[i].value = (uint32_t)(n - 1 - i);
        assert_int_equal(emb_trie_build(&trie, &env, keys, n), EMBED_OK);
        for (size_t i = 0; i < n; i++)
            assert_int_equal(emb_trie_find(&trie, keys[i].ptr, keys[i].len), keys[i].value);
        for (int round = 0; round < 2000; round++) { /* mostly strangers */
            char key[LENGTH];
            const size_t len = test_rand(&seed) % LENGTH;
            for (size_t k = 0; k < len; k++)
                key[k] = (char)(test_rand(&seed) % alphabets[a] * (256 / alphabets[a]));
            assert_int_equal(emb_trie_find(&trie, key, len), linear_find(keys, n, key, len));
        }
        emb_trie_free(&trie, &env);
    }
}

static void test_edges(void **state) {
    (void)state;
    const emb_env env = test_env();
    emb_trie trie;
    static emb_trie_key keys[256], spare[256];
    char bytes[256];
    assert_int_equal(emb_trie_build(&trie, &env, keys, 0), EMBED_OK); /* nothing in it */
    assert_int_equal(emb_trie_find(&trie, "", 0), -1);
    assert_int_equal(emb_trie_find(&trie, "a", 1), -1);
    assert_int_equal(emb_trie_find(&trie, "\0", 1), -1);
    emb_trie_free(&trie, &env);
    for (unsigned i = 0; i < 256; i++) { /* a root with every child */
        bytes[i] = (char)i;
        keys[i] = (emb_trie_key){&bytes[i], 1, 0, EMB_TRIE_MAX - 1 - i, 0};
    }
    emb_trie_sort(keys, spare, 256);
    assert_int_equal(emb_trie_build(&trie, &env, keys, 256), EMBED_OK);
    for (unsigned i = 0; i < 256; i++)
        assert_int_equal(emb_trie_find(&trie, &bytes[i], 1), EMB_TRIE_MAX - 1 - i);
    assert_int_equal(emb_trie_find(&trie, "ab", 2), -1);
    assert_int_equal(trie.longest, 1);
    emb_trie_free(&trie, &env);
}

static void test_allocation_failures(void **state) {
    (void)state;
    static emb_trie_key keys[KEYS], spare[KEYS];
    uint64_t seed = 9;
    size_t n = make_keys(keys, &seed, 4), used = 0;
    emb_trie_sort(keys, spare, n);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || !emb_trie_key_equal(&keys[i], &keys[used - 1]))
            keys[used++] = keys[i];
    for (long fail_at = 1;; fail_at++) {
        test_allocator a;
        emb_env env;
        emb_trie trie;
        test_allocator_init(&a, fail_at);
        assert_int_equal(emb_env_init(&env, &a.allocator, NULL, NULL), EMBED_OK);
        const embed_status st = emb_trie_build(&trie, &env, keys, used);
        assert_int_equal(st, a.failed ? EMBED_ERR_NOMEM : EMBED_OK);
        emb_trie_free(&trie, &env);
        assert_int_equal(a.live, 0);
        if (!a.failed)
            return;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random_keys),
                                       cmocka_unit_test(test_edges),
                                       cmocka_unit_test(test_allocation_failures)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
