/* The CUDA kernels on the fake device: queued by the emulation, run in a random order of streams,
 * replayed from a graph, with the same bits as at once; and what they do wrong is found. */
#include "cuda/cuda_case.h"

#include "cuda_module/cuda_ops.h"
#include "device/arena.h"
#include "device/fake_device.h"
#include "kernels/layernorm/layernorm_cuda.h"

#define T 5
#define D 96

enum { X, R, Y, GAMMA, REGIONS };
static const emb_arena_region regions[REGIONS] = {{"x", T *D * 4, 0, 1, 0},
                                                  {"r", T *D * 4, 0, 1, 0},
                                                  {"y", T *D * 4, 1, 1, 0},
                                                  {"gamma", D * 4, 0, 1, 0}};

typedef struct world {
    emb_env env;
    emb_fake *fake;
    emb_device *device;
    emb_stream *stream;
    emb_arena arena;
    float *host; /* [3 T D] pinned */
} world;

static void open_world(world *w, uint64_t seed) {
    emb_fake_params params = {
        .seed = seed, .run_job = emb_emulation_run, .job_error = emb_emulation_error};
    memset(w, 0, sizeof *w);
    params.ops = emb_cuda_ops(&params.n_ops);
    w->env = test_env();
    emb_emulation_redirect(emb_fake_submit, NULL);
    emb_emulation_seed(seed);
    assert_int_equal(emb_fake_create(&w->fake, &w->env, &params), EMBED_OK);
    assert_int_equal(emb_device_open(&w->device, &w->env, emb_fake_backend(w->fake), 0), EMBED_OK);
    assert_int_equal(emb_stream_create(&w->stream, w->device), EMBED_OK);
    assert_int_equal(emb_arena_create(&w->arena, w->device, regions, REGIONS), EMBED_OK);
    assert_int_equal(
        emb_device_host_alloc(w->device, 3 * T * D * sizeof *w->host, (void **)&w->host), EMBED_OK);
    for (size_t i = 0; i < REGIONS; i++)
        assert_int_equal(emb_arena_begin(&w->arena, w->stream, i), EMBED_OK);
}

static void close_world(world *w) {
    emb_device_host_free(w->device, w->host);
    emb_arena_free(&w->arena);
    emb_stream_free(w->stream);
    emb_device_close(w->device);
    assert_int_equal(emb_fake_live(w->fake), 0);
    emb_fake_free(w->fake);
    emb_emulation_redirect(NULL, NULL);
}

static void *at(const world *w, size_t region) {
    return (void *)(uintptr_t)emb_arena_at(&w->arena, region).at;
}

static emb_cuda_layernorm_args norm_args(const world *w) {
    return (emb_cuda_layernorm_args){.x = at(w, X),
                                     .r = at(w, R),
                                     .y = at(w, Y),
                                     .gamma = at(w, GAMMA),
                                     .tokens = T,
                                     .dim = D,
                                     .dtype = EMBED_F32,
                                     .eps = 1e-5f};
}

/* x and r into the first two thirds of the pinned memory and on; gamma = 1 after them. */
static void fill(world *w, uint64_t seed) {
    for (size_t i = 0; i < 2 * T * D; i++)
        w->host[i] = (float)test_normal(&seed);
    for (size_t i = 0; i < D; i++)
        w->host[2 * T * D + i] = 1;
    assert_int_equal(emb_copy_in(w->stream, emb_arena_at(&w->arena, X), w->host, T * D * 4),
                     EMBED_OK);
    assert_int_equal(emb_copy_in(w->stream, emb_arena_at(&w->arena, R), w->host + T * D, T * D * 4),
                     EMBED_OK);
    assert_int_equal(
        emb_copy_in(w->stream, emb_arena_at(&w->arena, GAMMA), w->host + 2 * T * D, D * 4),
        EMBED_OK);
}

/* The same rows by the launcher at once, on host memory. */
static void at_once(const world *w, float *y) {
    emb_cuda_exec exec = {.processors = 1};
    const emb_cuda_layernorm_args args = {.x = w->host,
                                          .r = w->host + T * D,
                                          .y = y,
                                          .gamma = w->host + 2 * T * D,
                                          .tokens = T,
                                          .dim = D,
                                          .dtype = EMBED_F32,
                                          .eps = 1e-5f};
    emb_emulation_redirect(NULL, NULL);
    assert_int_equal(emb_cuda_layernorm(&exec, &args), EMBED_OK);
    emb_emulation_redirect(emb_fake_submit, NULL);
}

static void same_bits(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 8; seed++) {
        world w;
        const emb_be_op *norm;
        emb_graph *g;
        emb_graph_info info;
        static float want[T * D], got[T * D];
        open_world(&w, seed);
        fill(&w, seed);
        assert_int_equal(emb_op_find(w.device, "layernorm", &norm), EMBED_OK);
        const emb_cuda_layernorm_args args = norm_args(&w);
        assert_int_equal(emb_op_run(w.stream, norm, &args, sizeof args), EMBED_OK);
        assert_true(emb_fake_peek(w.fake, emb_arena_at(&w.arena, Y), got, sizeof got));
        at_once(&w, want);
        assert_memory_equal(got, want, sizeof want);
        /* and from a graph, after new inputs */
        assert_int_equal(emb_capture_begin(w.stream), EMBED_OK);
        assert_int_equal(emb_op_run(w.stream, norm, &args, sizeof args), EMBED_OK);
        assert_int_equal(emb_capture_end(w.stream, &g, &info), EMBED_OK);
        assert_int_equal(info.kernels, 1);
        fill(&w, seed + 100);
        assert_int_equal(emb_graph_launch(g, w.stream), EMBED_OK);
        assert_true(emb_fake_peek(w.fake, emb_arena_at(&w.arena, Y), got, sizeof got));
        at_once(&w, want);
        assert_memory_equal(got, want, sizeof want);
        emb_graph_free(g);
        assert_string_equal(emb_fake_fault(w.fake), "");
        close_world(&w);
    }
}

/* One row too many, and inputs that were never written. */
static void what_is_wrong_shows(void **state) {
    (void)state;
    world w;
    const emb_be_op *norm;
    float y = 0;
    open_world(&w, 0);
    fill(&w, 1);
    assert_int_equal(emb_op_find(w.device, "layernorm", &norm), EMBED_OK);
    emb_cuda_layernorm_args args = norm_args(&w);
    args.tokens = T + 1;
    assert_int_equal(emb_op_run(w.stream, norm, &args, sizeof args), EMBED_OK);
    assert_int_equal(emb_stream_sync(w.stream), EMBED_ERR_INTERNAL);
    assert_non_null(strstr(embed_last_error(), "layernorm wrote past region y"));
    close_world(&w);

    open_world(&w, 0);
    fill(&w, 1);
    args = norm_args(&w);
    assert_int_equal(emb_arena_begin(&w.arena, w.stream, R), EMBED_OK); /* r is gone */
    assert_int_equal(emb_op_run(w.stream, norm, &args, sizeof args), EMBED_OK);
    assert_true(emb_fake_peek(w.fake, emb_arena_at(&w.arena, Y), &y, sizeof y));
    assert_true(isnan(y));
    close_world(&w);
}

static void refusals(void **state) {
    (void)state;
    world w;
    const emb_be_op *norm, *none;
    open_world(&w, 1);
    assert_int_equal(emb_op_find(w.device, "no such operation", &none), EMBED_ERR_UNSUPPORTED);
    assert_null(none);
    assert_int_equal(emb_op_find(w.device, "layernorm", &norm), EMBED_OK);
    emb_cuda_layernorm_args args = norm_args(&w);
    assert_int_equal(emb_op_run(w.stream, norm, &args, sizeof args - 4), EMBED_ERR_DEVICE);
    emb_fake_fail(w.fake, EMB_FAKE_LAUNCH, 1, EMB_DEVICE_FAILED);
    assert_int_equal(emb_op_run(w.stream, norm, &args, sizeof args), EMBED_ERR_DEVICE);
    assert_non_null(strstr(embed_last_error(), "injected"));
    assert_true(emb_device_alive(w.device));
    args.tokens = 0; /* nothing to do */
    assert_int_equal(emb_op_run(w.stream, norm, &args, sizeof args), EMBED_OK);
    args.dim = 1 << 20; /* beyond the limits of the operation: our mistake */
    args.tokens = 1;
    assert_int_equal(emb_op_run(w.stream, norm, &args, sizeof args), EMBED_ERR_INTERNAL);
    close_world(&w);

    open_world(&w, 1);
    args = norm_args(&w);
    emb_fake_fail(w.fake, EMB_FAKE_LAUNCH, 1, EMB_DEVICE_LOST);
    assert_int_equal(emb_op_run(w.stream, norm, &args, sizeof args), EMBED_ERR_DEVICE);
    assert_false(emb_device_alive(w.device));
    close_world(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(same_bits),
                                       cmocka_unit_test(what_is_wrong_shows),
                                       cmocka_unit_test(refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
