/* Contexts of several threads on one device, beside one on the CPU: nothing races, each has the
 * bits it has alone, and one that fails leaves the others as they were. Under the thread sanitizer,
 * which does not follow the fibers of the emulation, the kernels do nothing. */
#include "support/device_world.h"

#include <pthread.h>

#define THREADS 4 /* the last one on the CPU */
#define ROUNDS 2

typedef struct worker {
    world *w;
    embed_status status;
    char message[256];
    int on_cpu;
    float got[TEXTS * MAX_DIM];
} worker;

static void *work(void *arg) {
    worker *x = arg;
    embed_context *ctx = NULL;
    embed_context_params p = EMBED_CONTEXT_PARAMS_INIT;
    p.threads = 1;
    p.batch_tokens = BATCH;
    x->status = x->on_cpu ? embed_context_create(&ctx, x->w->model, &p)
                          : on_device(x->w, NULL, EMBED_F32, &ctx);
    for (int i = 0; i < ROUNDS && x->status == EMBED_OK; i++)
        x->status = encode(ctx, x->w, TEXTS, x->got);
    (void)snprintf(x->message, sizeof x->message, "%s", embed_last_error());
    embed_context_free(ctx);
    return NULL;
}

static void run(world *w, worker *workers) {
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        workers[i] = (worker){.w = w, .on_cpu = i == THREADS - 1};
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
}

static void in_parallel(void **state) {
    static worker workers[THREADS];
    static float alone[2][TEXTS * MAX_DIM];
    world w;
    (void)state;
    tiny_spec spec = tiny_spec_moe();
    spec.layers = 2;
    open_world(&w, spec, 10);
    const size_t bytes = TEXTS * (size_t)w.model->dim * sizeof(float);
    for (uint64_t seed = 0; seed < 2; seed++) {
        embed_context *ctx, *cpu = test_context(w.model, 1, BATCH);
        make_fake(&w, seed, 0);
        TEST_OK(on_device(&w, NULL, EMBED_F32, &ctx));
        TEST_OK(encode(ctx, &w, TEXTS, alone[0]));
        TEST_OK(encode(cpu, &w, TEXTS, alone[1]));
        embed_context_free(ctx);
        embed_context_free(cpu);
        emb_device_homes_free(w.model); /* the threads bring it there anew, one of them first */
        run(&w, workers);
        for (int i = 0; i < THREADS; i++) {
            if (workers[i].status != EMBED_OK)
                fail_msg("thread %d: %s", i, workers[i].message);
            assert_memory_equal(workers[i].got, alone[workers[i].on_cpu], bytes);
        }
        assert_string_equal(emb_fake_fault(w.fake), "");
        drop_fake(&w);
    }
    close_world(&w);
}

/* One of many calls fails, or the device is lost: each call ends, with a status and a message; the
 * CPU is not affected. */
static void one_fails(void **state) {
    static worker workers[THREADS];
    world w;
    (void)state;
    tiny_spec spec = tiny_spec_bert();
    spec.layers = 1;
    open_world(&w, spec, 6);
    for (uint64_t seed = 0; seed < 8; seed++) {
        make_fake(&w, seed, 0);
        emb_fake_fail(w.fake, seed % 2 ? EMB_FAKE_EXECUTION : EMB_FAKE_ANY, 20 + 37 * (long)seed,
                      seed % 4 < 2 ? EMB_DEVICE_LOST : EMB_DEVICE_FAILED);
        run(&w, workers);
        for (int i = 0; i < THREADS; i++) {
            if (workers[i].on_cpu)
                assert_int_equal(workers[i].status, EMBED_OK);
            else if (workers[i].status != EMBED_OK) {
                assert_int_equal(workers[i].status, EMBED_ERR_DEVICE);
                assert_true(strlen(workers[i].message) > 20);
            }
        }
        drop_fake(&w);
    }
    close_world(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(in_parallel), cmocka_unit_test(one_fails)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
