/* Every call of a device made to fail, one by one, at once and for good, and every allocation: a
 * status each time, nothing left over, nothing that hangs. And a child of fork(). */
#include "support/test.h"

#include <sys/wait.h>
#include <unistd.h>

#include "device/transport.h"
#include "device/upload.h"
#include "support/fake_kernels.h"

#define N 32
#define RANKS 2

/* All that a forward pass on two devices needs of the device layer. */
typedef struct job {
    emb_device *devices[RANKS];
    emb_stream *streams[RANKS], *copies;
    emb_event *ready;
    emb_arena arena[RANKS];
    emb_dptr weights[RANKS];
    emb_upload upload;
    float *result; /* pinned */
    emb_gemm_plan *gemm;
    emb_graph *graph;
    emb_transport *transport;
} job;

enum { STATES, PRODUCT, WORK, REGIONS };
static const emb_arena_region regions[REGIONS] = {
    {"states", N * 4, 0, 2, 0}, {"product", N * 4, 1, 3, 0}, {"work", 4096, 1, 1, 0}};

static embed_status make_device(job *j, const emb_env *env, const emb_backend *b, int r) {
    embed_status st;
    EMB_TRY(emb_device_open(&j->devices[r], env, b, r));
    EMB_TRY(emb_stream_create(&j->streams[r], j->devices[r]));
    EMB_TRY(emb_arena_create(&j->arena[r], j->devices[r], regions, REGIONS));
    EMB_TRY(emb_device_alloc(j->devices[r], N * N * 4, &j->weights[r]));
fail:
    return st;
}

static embed_status make(job *j, const emb_env *env, const emb_backend *b) {
    embed_status st;
    const emb_gemm_spec spec = {1, N, N, EMBED_F32, EMBED_F32, 0, 0, 0, 0, 4096};
    for (int r = 0; r < RANKS; r++)
        EMB_TRY(make_device(j, env, b, r));
    EMB_TRY(emb_stream_create(&j->copies, j->devices[0]));
    EMB_TRY(emb_event_create(&j->ready, j->devices[0], 0));
    EMB_TRY(emb_device_host_alloc(j->devices[0], N * 4, (void **)&j->result));
    EMB_TRY(emb_gemm_plan_create(&j->gemm, j->devices[0], &spec));
    EMB_TRY(emb_transport_create(&j->transport, env, j->devices, RANKS));
fail:
    return st;
}

static void release(job *j) {
    emb_upload_free(&j->upload);
    emb_graph_free(j->graph);
    emb_gemm_plan_free(j->gemm);
    emb_transport_free(j->transport);
    if (j->devices[0] != NULL)
        emb_device_host_free(j->devices[0], j->result);
    emb_event_free(j->ready);
    emb_stream_free(j->copies);
    for (int r = 0; r < RANKS; r++) {
        emb_arena_free(&j->arena[r]);
        if (j->devices[r] != NULL)
            emb_device_free(j->devices[r], j->weights[r]);
        emb_stream_free(j->streams[r]);
        emb_device_close(j->devices[r]);
    }
}

/* The part that is replayed: product = weights states, then 2 product + 1 in its place. */
static embed_status enqueue_layer(job *j) {
    embed_status st;
    const emb_arena *a = &j->arena[0];
    const emb_gemm_args args = {.x = emb_arena_at(a, STATES),
                                .w = j->weights[0],
                                .y = emb_arena_at(a, PRODUCT),
                                .workspace = emb_arena_at(a, WORK)};
    const fake_kernel_args more = {emb_arena_at(a, PRODUCT), emb_arena_at(a, PRODUCT), N, 2, 1, 0};
    EMB_TRY(emb_arena_begin(a, j->streams[0], PRODUCT));
    EMB_TRY(emb_arena_begin(a, j->streams[0], WORK));
    EMB_TRY(emb_gemm_plan_run(j->gemm, j->streams[0], &args));
    EMB_TRY(fake_kernel_run(j->streams[0], "scale", &more));
fail:
    return st;
}

static embed_status capture(job *j) {
    emb_graph_info info;
    embed_status st = emb_capture_begin(j->streams[0]);
    if (st != EMBED_OK)
        return st;
    st = enqueue_layer(j);
    const embed_status ended = emb_capture_end(j->streams[0], &j->graph, &info);
    return st != EMBED_OK ? st : ended;
}

/* Weights of 1 to both devices through the first, states of 1, one layer, result to both. */
static embed_status run(job *j) {
    embed_status st;
    float ones[N];
    emb_dptr states[RANKS];
    for (int i = 0; i < N; i++)
        ones[i] = 1;
    EMB_TRY(emb_upload_create(&j->upload, j->devices[0], 64));
    for (size_t i = 0; i < N; i++)
        EMB_TRY(emb_upload_put(&j->upload, emb_dptr_add(j->weights[0], i * N * 4), ones, N * 4));
    EMB_TRY(emb_upload_finish(&j->upload));
    EMB_TRY(emb_transport_broadcast(j->transport, j->streams, j->weights, N * N * 4, 0));
    for (int r = 0; r < RANKS; r++) {
        states[r] = emb_arena_at(&j->arena[r], STATES);
        EMB_TRY(emb_arena_begin(&j->arena[r], j->streams[r], STATES));
    }
    EMB_TRY(emb_copy_device(j->streams[0], states[0], j->weights[0], N * 4));
    EMB_TRY(capture(j));
    EMB_TRY(emb_graph_launch(j->graph, j->streams[0]));
    EMB_TRY(emb_copy_device(j->streams[0], states[0], emb_arena_at(&j->arena[0], PRODUCT), N * 4));
    EMB_TRY(emb_transport_broadcast(j->transport, j->streams, states, N * 4, 0));
    EMB_TRY(emb_transport_barrier(j->transport, j->streams));
    EMB_TRY(emb_event_record(j->ready, j->streams[0]));
    EMB_TRY(emb_stream_wait(j->copies, j->ready));
    EMB_TRY(emb_copy_out(j->copies, j->result, states[0], N * 4));
    EMB_TRY(emb_stream_sync(j->copies));
    EMB_TRY(emb_stream_sync(j->streams[1]));
    for (int i = 0; i < N; i++)
        assert_true(j->result[i] == 2.0f * N + 1);
fail:
    return st;
}

typedef struct outcome {
    embed_status status;
    char message[256];
    long calls, executed;
} outcome;

/* The whole job, with one call made to fail. */
static outcome with_failure(uint64_t seed, emb_fake_call call, long nth, emb_device_code code) {
    const emb_env env = test_env();
    const emb_fake_params params = {
        .devices = RANKS, .seed = seed, .kernels = fake_kernels, .n_kernels = n_fake_kernels};
    emb_fake *fake;
    static job j;
    memset(&j, 0, sizeof j);
    assert_int_equal(emb_fake_create(&fake, &env, &params), EMBED_OK);
    emb_fake_fail(fake, call, nth, code);
    outcome o = {.status = make(&j, &env, emb_fake_backend(fake))};
    if (o.status == EMBED_OK)
        o.status = run(&j);
    (void)snprintf(o.message, sizeof o.message, "%s", embed_last_error());
    o.calls = emb_fake_calls(fake, EMB_FAKE_ANY);
    o.executed = emb_fake_calls(fake, EMB_FAKE_EXECUTION);
    release(&j);
    if (emb_fake_live(fake) != 0 || emb_fake_fault(fake)[0] != '\0')
        fail_msg("call %ld, code %d: %ld left, fault '%s'", nth, code, emb_fake_live(fake),
                 emb_fake_fault(fake));
    emb_fake_free(fake);
    return o;
}

static void each_call_fails(void **state) {
    (void)state;
    static const emb_device_code codes[] = {EMB_DEVICE_FAILED, EMB_DEVICE_NO_MEMORY,
                                            EMB_DEVICE_LOST};
    static const embed_status want[] = {EMBED_ERR_DEVICE, EMBED_ERR_NOMEM, EMBED_ERR_DEVICE};
    for (uint64_t seed = 0; seed < 2; seed++) {
        const outcome good = with_failure(seed, EMB_FAKE_ANY, 0, EMB_DEVICE_OK);
        assert_int_equal(good.status, EMBED_OK);
        assert_true(good.calls > 100);
        for (long nth = 1; nth <= good.calls; nth++)
            for (size_t c = 0; c < 3; c++) {
                const outcome o = with_failure(seed, EMB_FAKE_ANY, nth, codes[c]);
                if (o.status != want[c] && o.status != EMBED_OK)
                    fail_msg("seed %d, call %ld, code %d: %s", (int)seed, nth, codes[c], o.message);
                if (o.status == EMBED_OK) /* only where a failure needs no answer */
                    fail_msg("seed %d, call %ld, code %d went unnoticed", (int)seed, nth, codes[c]);
                assert_non_null(strstr(o.message, "injected"));
            }
    }
}

static void each_operation_fails(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 4; seed++) {
        const outcome good = with_failure(seed, EMB_FAKE_ANY, 0, EMB_DEVICE_OK);
        assert_true(good.executed > 50);
        for (long nth = 1; nth <= good.executed; nth++) {
            const outcome o = with_failure(seed, EMB_FAKE_EXECUTION, nth, EMB_DEVICE_LOST);
            if (o.status != EMBED_ERR_DEVICE)
                fail_msg("seed %d, operation %ld: %d %s", (int)seed, nth, o.status, o.message);
        }
    }
}

static void each_allocation_fails(void **state) {
    (void)state;
    const emb_fake_params params = {
        .devices = RANKS, .kernels = fake_kernels, .n_kernels = n_fake_kernels};
    for (long nth = 1;; nth++) {
        test_allocator a;
        emb_env env;
        emb_fake *fake;
        static job j;
        memset(&j, 0, sizeof j);
        test_allocator_init(&a, nth);
        assert_int_equal(emb_env_init(&env, &a.allocator, NULL, NULL), EMBED_OK);
        embed_status st = emb_fake_create(&fake, &env, &params);
        if (st == EMBED_OK) {
            st = make(&j, &env, emb_fake_backend(fake));
            if (st == EMBED_OK)
                st = run(&j);
            release(&j);
            assert_int_equal(emb_fake_live(fake), 0);
            assert_string_equal(emb_fake_fault(fake), "");
        }
        emb_fake_free(fake);
        assert_int_equal(a.live, 0);
        if (!a.failed) {
            assert_int_equal(st, EMBED_OK);
            assert_true(nth > 50);
            break;
        }
        if (st != EMBED_ERR_NOMEM)
            fail_msg("allocation %ld: %d %s", nth, st, embed_last_error());
    }
}

static void in_a_child(void **state) {
    (void)state;
    fake_setup s;
    emb_event *e;
    emb_dptr p, q;
    int how;
    fake_setup_make(&s, 0);
    assert_int_equal(emb_event_create(&e, s.device, 0), EMBED_OK);
    assert_int_equal(emb_device_alloc(s.device, 64, &p), EMBED_OK);
    assert_int_equal(emb_set_device(s.stream, p, 0, 64), EMBED_OK);
    (void)fflush(NULL);
    const pid_t child = fork();
    if (child == 0) {
        int wrong = emb_device_alloc(s.device, 64, &q) != EMBED_ERR_DEVICE;
        wrong |= strstr(embed_last_error(), "open models and contexts after fork()") == NULL;
        wrong |= emb_stream_sync(s.stream) != EMBED_ERR_DEVICE;
        wrong |= emb_event_sync(e) != EMBED_ERR_DEVICE;
        wrong |= emb_set_device(s.stream, p, 0, 64) != EMBED_ERR_DEVICE;
        wrong |= emb_capture_begin(s.stream) != EMBED_ERR_DEVICE;
        const long live = emb_fake_live(s.fake);
        emb_device_free(s.device, p);
        emb_event_free(e);
        emb_stream_free(s.stream);
        emb_device_close(s.device);
        wrong |= emb_fake_live(s.fake) != live; /* the parent's */
        _exit(wrong);
    }
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFEXITED(how));
    assert_int_equal(WEXITSTATUS(how), 0);
    assert_int_equal(emb_stream_sync(s.stream), EMBED_OK); /* and the parent goes on */
    emb_event_free(e);
    emb_device_free(s.device, p);
    fake_setup_free(&s);
}

static void not_there(void **state) {
    (void)state;
    const emb_env env = test_env();
    const emb_fake_params params = {.no_device = "switched off"}, good = {.no_gemm = "no library"};
    emb_fake *fake;
    emb_device *d;
    emb_gemm_plan *g;
    const emb_gemm_spec spec = {1, 1, 1, EMBED_F32, EMBED_F32, 0, 0, 0, 0, 0},
                        wrong = {1, 1, 1, EMBED_I8, EMBED_F32, 0, 0, 0, 0, 0};
    assert_int_equal(emb_fake_create(&fake, &env, &params), EMBED_OK);
    assert_int_equal(emb_device_open(&d, &env, emb_fake_backend(fake), 0), EMBED_ERR_DEVICE);
    assert_string_equal(embed_last_error(),
                        "EMBED_ERR_DEVICE: emulated:0: not usable: switched off");
    assert_null(d);
    emb_fake_free(fake);
    assert_int_equal(emb_fake_create(&fake, &env, &good), EMBED_OK);
    for (int index = -1; index < 2; index += 2) {
        assert_int_equal(emb_device_open(&d, &env, emb_fake_backend(fake), index),
                         EMBED_ERR_DEVICE);
        assert_non_null(strstr(embed_last_error(), "expected a device below 1"));
    }
    assert_int_equal(emb_device_open(&d, &env, emb_fake_backend(fake), 0), EMBED_OK);
    assert_int_equal(emb_gemm_plan_create(&g, d, &spec), EMBED_ERR_UNSUPPORTED);
    assert_non_null(strstr(embed_last_error(), "no library"));
    assert_int_equal(emb_gemm_plan_create(&g, d, &wrong), EMBED_ERR_INTERNAL);
    emb_device_close(d);
    emb_fake_free(fake);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_call_fails),
                                       cmocka_unit_test(each_operation_fails),
                                       cmocka_unit_test(each_allocation_fails),
                                       cmocka_unit_test(in_a_child), cmocka_unit_test(not_there)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
