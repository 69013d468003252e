/* Contexts of several threads on sets of devices that overlap, whole models and spread experts:
 * nothing races, and each has the bits of one device. */
#include "device/device_ranks.h"

#include <pthread.h>

#define THREADS 4

typedef struct worker {
    world *w;
    emb_places places;
    embed_status status;
    char message[256];
    float got[TEXTS * MAX_DIM];
} worker;

static void *work(void *arg) {
    worker *x = arg;
    embed_context *ctx = NULL;
    x->status = emb_context_create_on(&ctx, x->w->model, NULL, 1, BATCH, &x->places);
    for (int i = 0; i < 2 && x->status == EMBED_OK; i++)
        x->status = encode(ctx, x->w, TEXTS, x->got);
    (void)snprintf(x->message, sizeof x->message, "%s", embed_last_error());
    embed_context_free(ctx);
    return NULL;
}

static void run(world *w, worker *workers) {
    static const struct {
        int32_t first, n, placement;
    } sets[THREADS] = {{0, 2, EMBED_PLACE_REPLICATED},
                       {1, 2, EMBED_PLACE_REPLICATED},
                       {0, 3, EMBED_PLACE_EXPERTS},
                       {1, 2, EMBED_PLACE_EXPERTS}};
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        workers[i] =
            (worker){.w = w, .places = places_of(w, EMBED_F32, sets[i].n, sets[i].placement)};
        for (int32_t r = 0; r < sets[i].n; r++)
            workers[i].places.devices[r] += sets[i].first;
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
}

static void in_parallel(void **state) {
    static worker workers[THREADS];
    static float want[TEXTS * MAX_DIM];
    world w;
    (void)state;
    open_world(&w, small_moe_spec(), 10);
    one_device(&w, NULL, EMBED_F32, EMBED_F32, want);
    make_fakes(&w, 3, 3);
    run(&w, workers);
    for (int i = 0; i < THREADS; i++) {
        if (workers[i].status != EMBED_OK)
            fail_msg("thread %d: %s", i, workers[i].message);
        assert_memory_equal(workers[i].got, want, TEXTS * (size_t)w.model->dim * sizeof *want);
    }
    assert_string_equal(emb_fake_fault(w.fake), "");
    drop_fake(&w);
    close_world(&w);
}

/* One of many calls fails, or a device is lost: each thread's call ends. */
static void one_fails(void **state) {
    static worker workers[THREADS];
    world w;
    (void)state;
    open_world(&w, small_moe_spec(), 6);
    for (uint64_t seed = 0; seed < 6; seed++) {
        make_fakes(&w, seed, 3);
        emb_fake_fail(w.fake, seed % 2 ? EMB_FAKE_EXECUTION : EMB_FAKE_ANY, 100 + 161 * (long)seed,
                      seed % 4 < 2 ? EMB_DEVICE_LOST : EMB_DEVICE_FAILED);
        run(&w, workers);
        for (int i = 0; i < THREADS; i++)
            assert_true(workers[i].status == EMBED_OK || strlen(workers[i].message) > 20);
        assert_string_equal(emb_fake_fault(w.fake), "");
        drop_fake(&w);
    }
    close_world(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(in_parallel), cmocka_unit_test(one_fails)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
