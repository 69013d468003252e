#include "support/test.h"

#include "base/threads.h"

static void count_task(void *arg, size_t task, int thread) {
    (void)thread;
    __atomic_add_fetch(&((int *)arg)[task], 1, __ATOMIC_RELAXED);
}

static void each_task_runs_once(void **state) {
    (void)state;
    const emb_env env = test_env();
    for (int threads = 1; threads <= 5; threads++) {
        emb_pool *pool;
        assert_int_equal(emb_pool_create(&pool, &env, threads), EMBED_OK);
        for (size_t tasks = 0; tasks < 200; tasks++) {
            int seen[200] = {0};
            emb_pool_run(pool, tasks, count_task, seen);
            for (size_t i = 0; i < 200; i++)
                assert_int_equal(seen[i], i < tasks);
        }
        emb_pool_free(pool);
    }
}

static void create_survives_failing_allocations(void **state) {
    (void)state;
    for (long n = 1;; n++) {
        test_allocator a;
        emb_env env;
        emb_pool *pool;
        test_allocator_init(&a, n);
        assert_int_equal(emb_env_init(&env, &a.allocator, NULL, NULL), EMBED_OK);
        const embed_status st = emb_pool_create(&pool, &env, 3);
        if (!a.failed) {
            assert_int_equal(st, EMBED_OK);
            emb_pool_free(pool);
            assert_int_equal(a.live, 0);
            return;
        }
        assert_int_equal(st, EMBED_ERR_NOMEM);
        assert_null(pool);
        assert_int_equal(a.live, 0);
    }
}

static void quota_caps_cpus(void **state) {
    (void)state;
    assert_int_equal(emb_quota_cpus(0, 100000, 8), 8); /* "max" */
    assert_int_equal(emb_quota_cpus(-1, 100000, 8), 8);
    assert_int_equal(emb_quota_cpus(150000, 100000, 8), 2);
    assert_int_equal(emb_quota_cpus(50000, 100000, 8), 1);
    assert_int_equal(emb_quota_cpus(900000, 100000, 8), 8);
    assert_true(emb_usable_cpus() >= 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_task_runs_once),
        cmocka_unit_test(create_survives_failing_allocations),
        cmocka_unit_test(quota_caps_cpus),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
