/* Calls in the background from many threads: contexts side by side, handles that several threads
 * poll, wait for, cancel and order, contexts freed with calls in them. Run under the thread
 * sanitizer too. */
#include "support/handles.h"

#include <pthread.h>
#include <stdatomic.h>

#define THREADS 3
#define CALLS 6
#define TEXTS 10
#define DIM 48

static tiny_model tiny;
static embed_model *model;
static embed_text *texts;
static float want[TEXTS * DIM];

static int set_up(void **state) {
    (void)state;
    const tiny_spec s = tiny_spec_moe();
    tiny_model_make(&tiny, &s);
    model = test_open(tiny.dir);
    texts = test_texts(&tiny, 6, TEXTS, 12);
    embed_context *ctx = test_context(model, 1, 64);
    TEST_OK(embed_encode(ctx, texts, TEXTS, NULL, want, TEXTS * DIM));
    embed_context_free(ctx);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    test_texts_free(texts, TEXTS);
    embed_model_free(model);
    tiny_model_remove(&tiny);
    return 0;
}

struct user {
    embed_context *ctx;
    embed_pending *pending[CALLS];
    float out[CALLS][TEXTS * DIM];
    atomic_int told, failed;
};

static void tell(void *user, embed_pending *pending, embed_status status) {
    struct user *u = user;
    int32_t done = 1;
    if (status != EMBED_OK || embed_pending_poll(pending, &done) != EMBED_OK || done)
        atomic_store(&u->failed, 1); /* it has not ended before its callback has returned */
    atomic_fetch_add(&u->told, 1);
}

static void submit(struct user *u) {
    embed_async_params p = EMBED_ASYNC_PARAMS_INIT;
    p.done = tell;
    p.done_user = u;
    for (int i = 0; i < CALLS; i++)
        if (embed_encode_async(u->ctx, texts, TEXTS, &p, u->out[i], TEXTS * DIM, &u->pending[i]))
            atomic_store(&u->failed, 1);
}

/* Beside the owner, on the same handles. */
static void *watch(void *arg) {
    struct user *u = arg;
    for (int i = CALLS; i-- > 0;) {
        int32_t done = 0;
        while (!done)
            if (embed_pending_wait(u->pending[i], 1, &done) != EMBED_OK)
                atomic_store(&u->failed, 1);
        if (memcmp(u->out[i], want, sizeof want) != 0)
            atomic_store(&u->failed, 1);
    }
    return NULL;
}

static void *work(void *arg) {
    struct user *u = arg;
    pthread_t watcher;
    submit(u);
    const int watched = pthread_create(&watcher, NULL, watch, u) == 0;
    for (int i = 0; i < CALLS; i++) {
        int32_t done = 0;
        while (!done)
            if (embed_pending_poll(u->pending[i], &done) != EMBED_OK)
                atomic_store(&u->failed, 1);
    }
    if (!watched || pthread_join(watcher, NULL) != 0)
        atomic_store(&u->failed, 1);
    for (int i = 0; i < CALLS; i++)
        embed_pending_free(u->pending[i]);
    /* free for a call that blocks, and then once more for one that does not */
    if (embed_encode(u->ctx, texts, TEXTS, NULL, u->out[0], TEXTS * DIM) != EMBED_OK)
        atomic_store(&u->failed, 1);
    submit(u);
    for (int i = 0; i < CALLS; i++)
        embed_pending_free(u->pending[i]);
    return NULL;
}

static void contexts_side_by_side(void **state) {
    (void)state;
    static struct user users[THREADS];
    pthread_t threads[THREADS];
    for (int t = 0; t < THREADS; t++)
        users[t].ctx = test_context(model, 1 + t % 2, 64);
    for (int t = 0; t < THREADS; t++)
        assert_int_equal(pthread_create(&threads[t], NULL, work, &users[t]), 0);
    for (int t = 0; t < THREADS; t++)
        assert_int_equal(pthread_join(threads[t], NULL), 0);
    for (int t = 0; t < THREADS; t++) {
        embed_context_free(users[t].ctx);
        assert_int_equal(atomic_load(&users[t].told), 2 * CALLS);
        assert_false(atomic_load(&users[t].failed));
        for (int i = 0; i < CALLS; i++)
            assert_memory_equal(users[t].out[i], want, sizeof want);
    }
}

/* Every second call is cancelled by another thread while the queue runs, and a third thread frees
 * the context. Each handle has one of the two ends. */
static void *cancel(void *arg) {
    struct user *u = arg;
    for (int i = 0; i < CALLS; i += 2)
        if (embed_pending_cancel(u->pending[i]) != EMBED_OK)
            atomic_store(&u->failed, 1);
    return NULL;
}

static void *leave(void *arg) {
    struct user *u = arg;
    embed_context_free(u->ctx);
    return NULL;
}

static void cancelled_and_freed_by_others(void **state) {
    (void)state;
    static struct user u;
    for (int round = 0; round < 8; round++) {
        pthread_t threads[2];
        int ended = 0, cancelled = 0;
        u.ctx = test_context(model, 2, 64);
        for (int i = 0; i < CALLS; i++)
            TEST_OK(embed_encode_async(u.ctx, texts, TEXTS, NULL, u.out[i], TEXTS * DIM,
                                       &u.pending[i]));
        assert_int_equal(pthread_create(&threads[0], NULL, cancel, &u), 0);
        if (round % 2 == 0) /* let some of them end */
            TEST_OK(embed_pending_wait(u.pending[1], -1, NULL));
        assert_int_equal(pthread_create(&threads[1], NULL, leave, &u), 0);
        for (int i = 0; i < CALLS; i++) {
            const embed_status st = embed_pending_wait(u.pending[i], -1, NULL);
            ended += st == EMBED_OK;
            cancelled += st == EMBED_ERR_CANCELLED;
            if (st == EMBED_OK)
                assert_memory_equal(u.out[i], want, sizeof want);
        }
        for (int t = 0; t < 2; t++)
            assert_int_equal(pthread_join(threads[t], NULL), 0);
        for (int i = 0; i < CALLS; i++)
            embed_pending_free(u.pending[i]);
        assert_int_equal(ended + cancelled, CALLS);
        assert_false(atomic_load(&u.failed));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(contexts_side_by_side),
        cmocka_unit_test(cancelled_and_freed_by_others),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
