/* Threads with a handle each on one device, and threads that share a handle: nothing races, and one
 * that loses its handle does not disturb the others. */
#include "support/test.h"

#include <pthread.h>

#include "support/fake_kernels.h"

#define THREADS 4
#define ROUNDS 20
#define N 16

typedef struct worker {
    emb_fake *fake;
    emb_device *shared; /* NULL: its own */
    int lose, right;
    embed_status status;
} worker;

static embed_status round_trip(emb_device *d, emb_stream *stream, int round, int *right) {
    embed_status st;
    float *host = NULL;
    emb_dptr p = {0};
    EMB_TRY(emb_device_host_alloc(d, N * sizeof *host, (void **)&host));
    EMB_TRY(emb_device_alloc(d, N * sizeof *host, &p));
    for (int i = 0; i < N; i++)
        host[i] = (float)(i + round);
    EMB_TRY(emb_copy_in(stream, p, host, N * sizeof *host));
    const fake_kernel_args args = {p, p, N, 2, 1, 0};
    EMB_TRY(fake_kernel_run(stream, "scale", &args));
    EMB_TRY(emb_copy_out(stream, host, p, N * sizeof *host));
    EMB_TRY(emb_stream_sync(stream));
    for (int i = 0; i < N; i++)
        *right = *right && host[i] == 2 * (float)(i + round) + 1;
fail:
    emb_device_free(d, p);
    emb_device_host_free(d, host);
    return st;
}

static void *work(void *arg) {
    worker *w = arg;
    emb_env own;
    emb_device *d = w->shared;
    emb_stream *stream = NULL;
    embed_status st = emb_env_init(&own, NULL, NULL, NULL);
    w->right = 1;
    if (st == EMBED_OK && d == NULL)
        st = emb_device_open(&d, &own, emb_fake_backend(w->fake), 0);
    if (st == EMBED_OK)
        st = emb_stream_create(&stream, d);
    for (int round = 0; round < ROUNDS && st == EMBED_OK; round++) {
        st = round_trip(d, stream, round, &w->right);
        if (st == EMBED_OK && w->lose && round == ROUNDS / 2)
            st = emb_set_device(stream, (emb_dptr){8}, 0, 4);
    }
    if (st == EMBED_OK)
        st = emb_stream_sync(stream);
    w->status = st;
    emb_stream_free(stream);
    if (w->shared == NULL)
        emb_device_close(d);
    return NULL;
}

static void run(uint64_t seed, int share, int lose) {
    const emb_env env = test_env();
    const emb_fake_params params = {
        .seed = seed, .kernels = fake_kernels, .n_kernels = n_fake_kernels};
    emb_fake *fake;
    emb_device *d = NULL;
    worker workers[THREADS];
    pthread_t threads[THREADS];
    assert_int_equal(emb_fake_create(&fake, &env, &params), EMBED_OK);
    if (share)
        assert_int_equal(emb_device_open(&d, &env, emb_fake_backend(fake), 0), EMBED_OK);
    for (int i = 0; i < THREADS; i++) {
        workers[i] = (worker){.fake = fake, .shared = d, .lose = lose && i == 0};
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    for (int i = 0; i < THREADS; i++) {
        assert_true(workers[i].right);
        if (workers[i].lose)
            assert_true(workers[i].status != EMBED_OK);
        else
            assert_int_equal(workers[i].status, EMBED_OK);
    }
    emb_device_close(d);
    assert_int_equal(emb_fake_live(fake), 0);
    emb_fake_free(fake);
}

static void a_handle_each(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 4; seed++)
        run(seed, 0, 0);
}

static void one_handle(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 4; seed++)
        run(seed, 1, 0);
}

static void one_is_lost(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 4; seed++)
        run(seed, 0, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_handle_each),
                                       cmocka_unit_test(one_handle), cmocka_unit_test(one_is_lost)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
