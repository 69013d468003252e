/* Calls in the background on one device from several contexts, each with a stream of its caller's,
 * while other threads wait on the same handles: right rows, and nothing races. */
#include "support/device_world.h"

#include <pthread.h>

#include "device/device_impl.h"

#define THREADS 2
#define CALLS 3

typedef struct caller {
    world *w;
    emb_device *device;
    emb_stream *stream;
    emb_dptr out[CALLS];
    float *host[CALLS]; /* pinned */
    embed_context *ctx;
    embed_pending *pending[CALLS];
    embed_status status, watched;
} caller;

static embed_status open_caller(caller *c) {
    embed_status st;
    const size_t bytes = TEXTS * (size_t)c->w->model->dim * sizeof(float);
    EMB_TRY(emb_device_open(&c->device, &c->w->env, emb_fake_backend(c->w->fake), 0));
    EMB_TRY(emb_stream_create(&c->stream, c->device));
    for (int i = 0; i < CALLS; i++) {
        EMB_TRY(emb_device_alloc(c->device, bytes, &c->out[i]));
        EMB_TRY(emb_device_host_alloc(c->device, bytes, (void **)&c->host[i]));
    }
    EMB_TRY(on_device(c->w, NULL, EMBED_F32, &c->ctx));
fail:
    return st;
}

static void close_caller(caller *c) {
    for (int i = 0; i < CALLS; i++) {
        embed_pending_free(c->pending[i]);
        emb_device_free(c->device, c->out[i]);
        emb_device_host_free(c->device, c->host[i]);
    }
    embed_context_free(c->ctx);
    emb_stream_free(c->stream);
    emb_device_close(c->device);
}

static void *watch(void *arg) {
    caller *c = arg;
    for (int i = CALLS; i-- > 0 && c->watched == EMBED_OK;)
        c->watched = embed_pending_wait(c->pending[i], -1, NULL);
    return NULL;
}

/* All calls and what follows each on the caller's stream, and only then a wait. */
static embed_status calls(caller *c, pthread_t *watcher, int *watching) {
    embed_status st = EMBED_OK;
    const size_t elements = TEXTS * (size_t)c->w->model->dim;
    embed_async_params p = EMBED_ASYNC_PARAMS_INIT;
    p.on_device = 1;
    p.stream = emb_stream_inner(c->stream);
    for (int i = 0; i < CALLS; i++)
        EMB_TRY(embed_encode_async(c->ctx, c->w->texts, TEXTS, &p, (void *)(uintptr_t)c->out[i].at,
                                   elements, &c->pending[i]));
    *watching = pthread_create(watcher, NULL, watch, c) == 0;
    for (int i = 0; i < CALLS; i++) {
        EMB_TRY(embed_pending_order(c->pending[i], p.stream));
        EMB_TRY(emb_copy_out(c->stream, c->host[i], c->out[i], elements * sizeof(float)));
    }
    EMB_TRY(emb_stream_sync(c->stream));
fail:
    return st;
}

static void *work(void *arg) {
    caller *c = arg;
    pthread_t watcher;
    int watching = 0;
    c->status = open_caller(c);
    if (c->status == EMBED_OK)
        c->status = calls(c, &watcher, &watching);
    if (watching)
        (void)pthread_join(watcher, NULL);
    return NULL;
}

static void in_parallel(void **state) {
    (void)state;
    static caller callers[THREADS];
    static float want[TEXTS * MAX_DIM];
    world w;
    tiny_spec spec = tiny_spec_dense();
    spec.layers = 1;
    open_world(&w, spec, 8);
    for (uint64_t seed = 0; seed < 2; seed++) {
        pthread_t threads[THREADS];
        embed_context *ctx;
        make_fake(&w, seed, 0);
        TEST_OK(on_device(&w, NULL, EMBED_F32, &ctx));
        TEST_OK(encode(ctx, &w, TEXTS, want));
        embed_context_free(ctx);
        for (int t = 0; t < THREADS; t++) {
            callers[t] = (caller){.w = &w};
            assert_int_equal(pthread_create(&threads[t], NULL, work, &callers[t]), 0);
        }
        for (int t = 0; t < THREADS; t++)
            assert_int_equal(pthread_join(threads[t], NULL), 0);
        for (int t = 0; t < THREADS; t++) {
            assert_int_equal(callers[t].status, EMBED_OK);
            assert_int_equal(callers[t].watched, EMBED_OK);
            for (int i = 0; i < CALLS; i++)
                assert_memory_equal(callers[t].host[i], want,
                                    TEXTS * (size_t)w.model->dim * sizeof *want);
            close_caller(&callers[t]);
        }
        assert_string_equal(emb_fake_fault(w.fake), "");
        drop_fake(&w);
    }
    close_world(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_parallel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
