/* embed_encode_async on the CPU: the bits of embed_encode, in order; handles, callbacks, messages,
 * cancelling, busy contexts, frees at any time, allocations that fail. */
#define _POSIX_C_SOURCE 200809L
#include "support/handles.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#define TEXTS 24
#define DIM 48

static tiny_model tiny;
static embed_model *model;
static embed_text *texts;
static float want[TEXTS * DIM];

static int set_up(void **state) {
    (void)state;
    const tiny_spec s = tiny_spec_dense();
    tiny_model_make(&tiny, &s);
    model = test_open(tiny.dir);
    texts = test_texts(&tiny, 5, TEXTS, 30);
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

/* A call that stands still in its progress callback until the gate opens. */
struct gate {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int open, reached;
};

static void gate_init(struct gate *g) {
    memset(g, 0, sizeof *g);
    (void)pthread_mutex_init(&g->mutex, NULL);
    (void)pthread_cond_init(&g->changed, NULL);
}

static void gate_wait(struct gate *g, const int *flag) {
    (void)pthread_mutex_lock(&g->mutex);
    while (!*flag)
        (void)pthread_cond_wait(&g->changed, &g->mutex);
    (void)pthread_mutex_unlock(&g->mutex);
}

static void gate_set(struct gate *g, int *flag) {
    (void)pthread_mutex_lock(&g->mutex);
    *flag = 1;
    (void)pthread_cond_broadcast(&g->changed);
    (void)pthread_mutex_unlock(&g->mutex);
}

static int32_t stand_still(void *user, uint64_t done, uint64_t total, uint64_t tokens) {
    struct gate *g = user;
    (void)done;
    (void)total;
    (void)tokens;
    gate_set(g, &g->reached);
    gate_wait(g, &g->open);
    return 0;
}

static embed_pending *start(embed_context *ctx, const embed_encode_params *encode, float *out) {
    embed_async_params p = EMBED_ASYNC_PARAMS_INIT;
    embed_pending *pending = NULL;
    p.encode = encode;
    TEST_OK(embed_encode_async(ctx, texts, TEXTS, &p, out, TEXTS * DIM, &pending));
    assert_non_null(pending);
    return pending;
}

static void finish(embed_pending *pending) {
    int32_t done = 0;
    TEST_OK(embed_pending_wait(pending, -1, &done));
    assert_int_equal(done, 1);
    done = 0;
    TEST_OK(embed_pending_poll(pending, &done));
    assert_int_equal(done, 1);
    embed_pending_free(pending);
}

/* ------------------------------------------------------------------------------------ results */

static void the_bits_of_the_call_that_blocks(void **state) {
    (void)state;
    static const int32_t types[] = {EMBED_F32, EMBED_F16, EMBED_U8, EMBED_UBINARY};
    static unsigned char a[TEXTS * DIM * 4], b[sizeof a];
    embed_text_report ra[TEXTS], rb[TEXTS];
    float ranges[2 * DIM];
    embed_context *ctx = test_context(model, 2, 64);
    TEST_OK(embed_quantize_ranges(want, TEXTS, DIM, ranges));
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        embed_encode_params p = EMBED_ENCODE_PARAMS_INIT;
        size_t n;
        p.output = types[i];
        p.dim = i == 1 ? 20 : 0;
        p.prefix = "w3 w4 ";
        p.prefix_len = 6;
        p.ranges = ranges;
        p.reports = ra;
        TEST_OK(embed_output_len(model, &p, TEXTS, &n));
        memset(a, 0, sizeof a);
        memset(b, 0, sizeof b);
        TEST_OK(embed_encode(ctx, texts, TEXTS, &p, a, n));
        p.reports = rb;
        finish(start(ctx, &p, (float *)(void *)b));
        assert_memory_equal(a, b, sizeof a);
        assert_memory_equal(ra, rb, sizeof ra);
    }
    embed_context_free(ctx);
}

static void ids_and_no_texts(void **state) {
    (void)state;
    static int32_t ids[TEXTS][64];
    embed_ids rows[TEXTS];
    static float got[TEXTS * DIM];
    embed_async_params p = EMBED_ASYNC_PARAMS_INIT;
    embed_pending *pending;
    embed_context *ctx = test_context(model, 1, 64);
    for (size_t i = 0; i < TEXTS; i++)
        rows[i] = (embed_ids){ids[i], test_ids(model, texts[i], ids[i], 64)};
    p.ids = rows;
    TEST_OK(embed_encode_async(ctx, NULL, TEXTS, &p, got, TEXTS * DIM, &pending));
    finish(pending);
    assert_memory_equal(got, want, sizeof got);
    p.ids = NULL;
    TEST_OK(embed_encode_async(ctx, NULL, 0, &p, NULL, 0, &pending));
    finish(pending);
    embed_context_free(ctx);
}

struct log {
    embed_pending *order[8];
    embed_status status[8];
    int n;
};

static void note(void *user, embed_pending *pending, embed_status status) {
    struct log *log = user;
    log->order[log->n] = pending;
    log->status[log->n++] = status;
}

static void several_run_in_their_order(void **state) {
    (void)state;
    static float got[5][TEXTS * DIM];
    embed_pending *pending[5];
    struct log log = {{NULL}, {EMBED_OK}, 0};
    embed_async_params p = EMBED_ASYNC_PARAMS_INIT;
    embed_context *ctx = test_context(model, 1, 64);
    p.done = note;
    p.done_user = &log;
    for (size_t i = 0; i < 5; i++)
        TEST_OK(embed_encode_async(ctx, texts, TEXTS, &p, got[i], TEXTS * DIM, &pending[i]));
    TEST_OK(embed_pending_wait(pending[4], -1, NULL));
    assert_int_equal(log.n, 5);
    for (size_t i = 0; i < 5; i++) {
        assert_ptr_equal(log.order[i], pending[i]);
        assert_int_equal(log.status[i], EMBED_OK);
        assert_memory_equal(got[i], want, sizeof want);
        finish(pending[i]);
    }
    /* and the context is free for a call that blocks */
    TEST_OK(embed_encode(ctx, texts, TEXTS, NULL, got[0], TEXTS * DIM));
    embed_context_free(ctx);
}

/* -------------------------------------------------------------------------- waiting, in its way */

static void waiting_and_busy_contexts(void **state) {
    (void)state;
    static float got[TEXTS * DIM];
    struct gate gate;
    embed_encode_params p = EMBED_ENCODE_PARAMS_INIT;
    embed_table_stats stats = {.struct_size = sizeof stats};
    int32_t done = 7;
    size_t n;
    embed_context *ctx = test_context(model, 1, 64);
    gate_init(&gate);
    p.progress = stand_still;
    p.progress_user = &gate;
    embed_pending *pending = start(ctx, &p, got);
    gate_wait(&gate, &gate.reached);
    TEST_OK(embed_pending_poll(pending, &done));
    assert_int_equal(done, 0);
    done = 7;
    TEST_OK(embed_pending_wait(pending, 5, &done));
    assert_int_equal(done, 0);
    test_fails(embed_encode(ctx, texts, 1, NULL, got, DIM), EMBED_ERR_ARG, "in use");
    test_fails(embed_encode_tokens(ctx, texts[0], NULL, NULL, 0, NULL, &n), EMBED_ERR_ARG,
               "in use");
    test_fails(embed_context_get_table_stats(ctx, &stats), EMBED_ERR_ARG, "in use");
    gate_set(&gate, &gate.open);
    TEST_OK(embed_pending_wait(pending, INT64_MAX, &done));
    TEST_OK(embed_context_get_table_stats(ctx, &stats));
    assert_int_equal(done, 1);
    assert_memory_equal(got, want, sizeof got);
    TEST_OK(embed_encode(ctx, texts, 1, NULL, got, DIM));
    embed_pending_free(pending);
    embed_context_free(ctx);
}

static int32_t start_inside(void *user, uint64_t done, uint64_t total, uint64_t tokens) {
    embed_pending *pending = (embed_pending *)1;
    float out[DIM];
    (void)done;
    (void)total;
    (void)tokens;
    test_fails(embed_encode_async(user, texts, 1, NULL, out, DIM, &pending), EMBED_ERR_ARG,
               "in use");
    assert_null(pending);
    return 0;
}

static void not_beside_a_call_that_blocks(void **state) {
    (void)state;
    static float got[TEXTS * DIM];
    embed_encode_params p = EMBED_ENCODE_PARAMS_INIT;
    embed_context *ctx = test_context(model, 1, 0);
    p.progress = start_inside;
    p.progress_user = ctx;
    TEST_OK(embed_encode(ctx, texts, 2, &p, got, TEXTS * DIM));
    finish(start(ctx, NULL, got));
    embed_context_free(ctx);
}

static void failures_come_to_whoever_waits(void **state) {
    (void)state;
    static float got[TEXTS * DIM];
    struct log log = {{NULL}, {EMBED_OK}, 0};
    embed_async_params p = EMBED_ASYNC_PARAMS_INIT;
    embed_encode_params e = EMBED_ENCODE_PARAMS_INIT;
    embed_pending *pending;
    int32_t done = 0;
    embed_context *ctx = test_context(model, 1, 0);
    const embed_text bad[2] = {texts[0], {"\xff", 1}};
    p.encode = &e;
    p.done = note;
    p.done_user = &log;
    e.flags = EMBED_UTF8_REFUSE;
    TEST_OK(embed_encode_async(ctx, bad, 2, &p, got, TEXTS * DIM, &pending));
    test_fails(embed_pending_wait(pending, -1, &done), EMBED_ERR_UTF8, "EMBED_ERR_UTF8: text 1");
    assert_int_equal(done, 1);
    test_fails(embed_pending_poll(pending, &done), EMBED_ERR_UTF8, "EMBED_ERR_UTF8: text 1");
    assert_int_equal(log.n, 1);
    assert_int_equal(log.status[0], EMBED_ERR_UTF8);
    embed_pending_free(pending);
    finish(start(ctx, NULL, got));
    assert_memory_equal(got, want, sizeof got);
    embed_context_free(ctx);
}

/* ---------------------------------------------------------------------------- ends before its end
 */

static void cancelling(void **state) {
    (void)state;
    static float got[3][TEXTS * DIM];
    struct gate gate;
    embed_encode_params p = EMBED_ENCODE_PARAMS_INIT;
    embed_context *ctx = test_context(model, 1, 64);
    gate_init(&gate);
    p.progress = stand_still;
    p.progress_user = &gate;
    embed_pending *running = start(ctx, &p, got[0]), *queued = start(ctx, NULL, got[1]),
                  *last = start(ctx, NULL, got[2]);
    gate_wait(&gate, &gate.reached);
    TEST_OK(embed_pending_cancel(queued));
    TEST_OK(embed_pending_cancel(running));
    gate_set(&gate, &gate.open);
    test_fails(embed_pending_wait(running, -1, NULL), EMBED_ERR_CANCELLED, "was cancelled after");
    test_fails(embed_pending_wait(queued, -1, NULL), EMBED_ERR_CANCELLED, "after 0 of 24 texts");
    TEST_OK(embed_pending_wait(last, -1, NULL));
    assert_memory_equal(got[2], want, sizeof want);
    TEST_OK(embed_pending_cancel(last)); /* too late: nothing changes */
    TEST_OK(embed_pending_wait(last, -1, NULL));
    embed_pending_free(running);
    embed_pending_free(queued);
    embed_pending_free(last);
    embed_context_free(ctx);
}

static void *open_later(void *user) {
    const struct timespec pause = {0, 20000000};
    struct gate *gate = user;
    (void)nanosleep(&pause, NULL);
    gate_set(gate, &gate->open);
    return NULL;
}

/* The context first: what runs and what waits is cancelled, and its handles are told. */
static void a_context_is_freed_with_calls_in_it(void **state) {
    (void)state;
    static float got[2][TEXTS * DIM];
    struct gate gate;
    pthread_t opener;
    embed_encode_params p = EMBED_ENCODE_PARAMS_INIT;
    embed_context *ctx = test_context(model, 2, 64);
    gate_init(&gate);
    p.progress = stand_still;
    p.progress_user = &gate;
    embed_pending *running = start(ctx, &p, got[0]), *queued = start(ctx, NULL, got[1]);
    gate_wait(&gate, &gate.reached);
    assert_int_equal(pthread_create(&opener, NULL, open_later, &gate), 0);
    embed_context_free(ctx);
    test_fails(embed_pending_wait(running, 0, NULL), EMBED_ERR_CANCELLED, "was cancelled");
    test_fails(embed_pending_wait(queued, -1, NULL), EMBED_ERR_CANCELLED, "was cancelled");
    (void)pthread_join(opener, NULL);
    embed_pending_free(running);
    embed_pending_free(queued);
}

static void an_unfinished_handle_is_freed(void **state) {
    (void)state;
    static float got[TEXTS * DIM];
    embed_context *ctx = test_context(model, 1, 64);
    embed_pending_free(start(ctx, NULL, got)); /* waits */
    assert_memory_equal(got, want, sizeof got);
    embed_pending_free(NULL);
    embed_context_free(ctx);
}

/* ------------------------------------------------------------------------------------ callbacks */

struct chain {
    embed_context *ctx;
    struct gate gate;
    float got[2][TEXTS * DIM];
    int calls;
    embed_status waited;
    char message[128];
};

/* The first starts the second; each frees its own handle, and none may wait. */
static void next_in_chain(void *user, embed_pending *pending, embed_status status) {
    struct chain *c = user;
    embed_pending *next;
    assert_int_equal(status, EMBED_OK);
    c->calls++;
    embed_context_free(c->ctx); /* of no effect here */
    if (c->calls == 1) {
        embed_async_params p = EMBED_ASYNC_PARAMS_INIT;
        p.done = next_in_chain;
        p.done_user = c;
        TEST_OK(embed_encode_async(c->ctx, texts, TEXTS, &p, c->got[1], TEXTS * DIM, &next));
        c->waited = embed_pending_wait(next, -1, NULL);
        (void)snprintf(c->message, sizeof c->message, "%s", embed_last_error());
        embed_pending_free(pending);
        return;
    }
    embed_pending_free(pending);
    gate_set(&c->gate, &c->gate.open);
}

static void callbacks_start_and_free(void **state) {
    (void)state;
    static struct chain c;
    embed_async_params p = EMBED_ASYNC_PARAMS_INIT;
    embed_pending *pending;
    c.ctx = test_context(model, 1, 64);
    gate_init(&c.gate);
    p.done = next_in_chain;
    p.done_user = &c;
    TEST_OK(embed_encode_async(c.ctx, texts, TEXTS, &p, c.got[0], TEXTS * DIM, &pending));
    gate_wait(&c.gate, &c.gate.open);
    assert_int_equal(c.calls, 2);
    assert_int_equal(c.waited, EMBED_ERR_ARG);
    assert_non_null(strstr(c.message, "may not wait"));
    for (int i = 0; i < 2; i++)
        assert_memory_equal(c.got[i], want, sizeof want);
    embed_context_free(c.ctx);
}

struct endless {
    embed_context *ctx;
    struct gate gate;
    embed_status refused;
    float out[TEXTS * DIM];
};

static void go_on(void *user, embed_pending *pending, embed_status status) {
    struct endless *e = user;
    embed_async_params p = EMBED_ASYNC_PARAMS_INIT;
    embed_pending *next;
    (void)status;
    embed_pending_free(pending);
    p.done = go_on;
    p.done_user = e;
    gate_set(&e->gate, &e->gate.reached);
    e->refused = embed_encode_async(e->ctx, texts, 1, &p, e->out, DIM, &next);
}

static void an_endless_chain_ends_with_its_context(void **state) {
    (void)state;
    static struct endless e;
    embed_async_params p = EMBED_ASYNC_PARAMS_INIT;
    embed_pending *pending;
    e.ctx = test_context(model, 1, 0);
    gate_init(&e.gate);
    p.done = go_on;
    p.done_user = &e;
    TEST_OK(embed_encode_async(e.ctx, texts, 1, &p, e.out, DIM, &pending));
    gate_wait(&e.gate, &e.gate.reached);
    embed_context_free(e.ctx);
    assert_int_equal(e.refused, EMBED_ERR_CANCELLED);
}

/* ----------------------------------------------------------------------------------- arguments */

static void arguments(void **state) {
    (void)state;
    static float got[TEXTS * DIM];
    embed_async_params p = EMBED_ASYNC_PARAMS_INIT;
    embed_encode_params e = EMBED_ENCODE_PARAMS_INIT;
    embed_pending *pending = (embed_pending *)1;
    const embed_ids row = {NULL, 1};
    int32_t done;
    embed_context *ctx = test_context(model, 1, 0);
#define REFUSED(status, text, ...)                                                                 \
    do {                                                                                           \
        pending = (embed_pending *)1;                                                              \
        test_fails(embed_encode_async(__VA_ARGS__, &pending), status, text);                       \
        assert_null(pending);                                                                      \
    } while (0)
    REFUSED(EMBED_ERR_ARG, "ctx: NULL", NULL, texts, 1, NULL, got, DIM);
    REFUSED(EMBED_ERR_ARG, "texts: NULL", ctx, NULL, 1, NULL, got, DIM);
    REFUSED(EMBED_ERR_ARG, "out: NULL", ctx, texts, 1, NULL, NULL, DIM);
    REFUSED(EMBED_ERR_CAPACITY, "expected room for 48", ctx, texts, 1, NULL, got, DIM - 1);
    p.ids = &row;
    REFUSED(EMBED_ERR_ARG, "both", ctx, texts, 1, &p, got, DIM);
    REFUSED(EMBED_ERR_ARG, "rows[0]", ctx, NULL, 1, &p, got, DIM);
    p.ids = NULL;
    p.stream = &p;
    REFUSED(EMBED_ERR_ARG, "stream", ctx, texts, 1, &p, got, DIM);
    p.on_device = 1;
    REFUSED(EMBED_ERR_ARG, "does not encode on one device", ctx, texts, 1, &p, got, DIM);
    p.on_device = 2;
    REFUSED(EMBED_ERR_ARG, "expected 0 or 1", ctx, texts, 1, &p, got, DIM);
    p = (embed_async_params)EMBED_ASYNC_PARAMS_INIT;
    p.reserved = 1;
    REFUSED(EMBED_ERR_ABI, "reserved", ctx, texts, 1, &p, got, DIM);
    p.reserved = 0;
    p.struct_size = 0;
    REFUSED(EMBED_ERR_ABI, "struct_size", ctx, texts, 1, &p, got, DIM);
    p.struct_size = sizeof p;
    p.encode = &e;
    e.dim = DIM + 1;
    REFUSED(EMBED_ERR_ARG, "dim", ctx, texts, 1, &p, got, DIM);
    test_fails(embed_encode_async(ctx, texts, 1, NULL, got, DIM, NULL), EMBED_ERR_ARG, "pending");
    test_fails(embed_pending_poll(NULL, &done), EMBED_ERR_ARG, "pending: NULL");
    test_fails(embed_pending_wait(NULL, 0, &done), EMBED_ERR_ARG, "pending: NULL");
    test_fails(embed_pending_cancel(NULL), EMBED_ERR_ARG, "pending: NULL");
    test_fails(embed_pending_order(NULL, ctx), EMBED_ERR_ARG, "pending: NULL");
    pending = start(ctx, NULL, got);
    test_fails(embed_pending_poll(pending, NULL), EMBED_ERR_ARG, "done: NULL");
    test_fails(embed_pending_order(pending, NULL), EMBED_ERR_ARG, "stream: NULL");
    test_fails(embed_pending_order(pending, ctx), EMBED_ERR_ARG, "memory of the host");
    finish(pending);
    embed_context_free(ctx);
}

static void a_child_is_refused(void **state) {
    (void)state;
    static float got[TEXTS * DIM];
    embed_context *ctx = test_context(model, 1, 0);
    embed_pending *pending = start(ctx, NULL, got);
    TEST_OK(embed_pending_wait(pending, -1, NULL));
    const pid_t child = fork();
    if (child == 0) {
        embed_pending *other;
        int wrong = embed_pending_wait(pending, -1, NULL) != EMBED_ERR_ARG;
        wrong |= embed_pending_cancel(pending) != EMBED_ERR_ARG;
        wrong |= embed_encode_async(ctx, texts, 1, NULL, got, DIM, &other) != EMBED_ERR_ARG;
        wrong |= strstr(embed_last_error(), "fork") == NULL;
        wrong |= embed_encode(ctx, texts, 1, NULL, got, DIM) != EMBED_ERR_ARG;
        wrong |= strstr(embed_last_error(), "fork") == NULL;
        wrong |= embed_context_set_table(ctx, NULL) != EMBED_ERR_ARG;
        embed_pending_free(pending);
        embed_context_free(ctx); /* does not wait for a thread that is not there */
        _exit(wrong);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    finish(pending);
    finish(start(ctx, NULL, got));
    embed_context_free(ctx);
}

/* ------------------------------------------------------------------------------------- failures */

static void every_allocation(void **state) {
    (void)state;
    static float got[TEXTS * DIM];
    test_allocator a;
    embed_model *own;
    embed_model_params mp = EMBED_MODEL_PARAMS_INIT;
    test_allocator_init(&a, 0);
    mp.allocator = &a.allocator;
    TEST_OK(embed_model_open(&own, tiny.dir, &mp));
    for (long n = 1;; n++) {
        embed_pending *pending;
        embed_context *ctx = test_context(own, 1, 64);
        a.failed = 0;
        a.fail_at = a.calls + n;
        embed_status st = embed_encode_async(ctx, texts, TEXTS, NULL, got, TEXTS * DIM, &pending);
        assert_true((st == EMBED_OK) == (pending != NULL));
        if (st == EMBED_OK)
            st = embed_pending_wait(pending, -1, NULL);
        embed_pending_free(pending);
        a.fail_at = 0;
        if (a.failed) {
            test_fails(st, EMBED_ERR_NOMEM, "EMBED_ERR_NOMEM: ");
            finish(start(ctx, NULL, got));
        } else {
            TEST_OK(st);
        }
        assert_memory_equal(got, want, sizeof got);
        embed_context_free(ctx);
        if (!a.failed)
            break;
        assert_true(n < 500);
    }
    embed_model_free(own);
    assert_int_equal(a.live, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_bits_of_the_call_that_blocks),
        cmocka_unit_test(ids_and_no_texts),
        cmocka_unit_test(several_run_in_their_order),
        cmocka_unit_test(waiting_and_busy_contexts),
        cmocka_unit_test(not_beside_a_call_that_blocks),
        cmocka_unit_test(failures_come_to_whoever_waits),
        cmocka_unit_test(cancelling),
        cmocka_unit_test(a_context_is_freed_with_calls_in_it),
        cmocka_unit_test(an_unfinished_handle_is_freed),
        cmocka_unit_test(callbacks_start_and_free),
        cmocka_unit_test(an_endless_chain_ends_with_its_context),
        cmocka_unit_test(arguments),
        cmocka_unit_test(a_child_is_refused),
        cmocka_unit_test(every_allocation),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
