/* gpu_async: calls in the background on a device: the bits of calls that block; vectors in memory
 * of this program's on the same GPU, in every type, and in the order of its own stream. */
#include "gpu/gpu_world.h"

#include "gpu/gpu_memory.h"
#include "kernels/quantize/quantize_cuda.h"
#include "model/output_type.h"

enum { TEXTS = 40, BATCH = 256, ROUNDS = 20, DELAYS = 200 };

static emb_cuda_exec exec;

static void worked(const char *what, const char *error) {
    if (error != NULL)
        fail_msg("%s: %s", what, error);
}

/* The emulated device's memory is its own. */
static void needs_a_gpu(void) {
    if (gpu_kind != EMBED_DEVICE_CUDA)
        skip();
    worked("device", gpu_memory_open(&exec));
}

static void calls_have_the_bits_of_calls_that_block(void **state) {
    (void)state;
    gpu_world w;
    gpu_world_open(&w, tiny_spec_moe(), TEXTS, 30);
    embed_context *ctx = gpu_context(&w, 0, NULL, BATCH);
    float *want = gpu_encode(&w, ctx, TEXTS);
    float *got[2];
    embed_pending *pending[2];
    for (int i = 0; i < 2; i++) {
        got[i] = calloc(TEXTS * w.dim, sizeof **got);
        assert_non_null(got[i]);
        TEST_OK(embed_encode_async(ctx, w.texts, TEXTS, NULL, got[i], TEXTS * w.dim, &pending[i]));
    }
    for (int i = 0; i < 2; i++) {
        TEST_OK(embed_pending_wait(pending[i], -1, NULL));
        embed_pending_free(pending[i]);
        assert_memory_equal(got[i], want, TEXTS * w.dim * sizeof *want);
        free(got[i]);
    }
    free(want);
    embed_context_free(ctx);
    gpu_world_close(&w);
}

static void vectors_stay_on_the_device(void **state) {
    (void)state;
    static const int32_t types[] = {EMBED_F32, EMBED_F16,    EMBED_I8,
                                    EMBED_U8,  EMBED_BINARY, EMBED_UBINARY};
    gpu_world w;
    void *out;
    needs_a_gpu();
    gpu_world_open(&w, tiny_spec_dense(), TEXTS, 30);
    embed_context *ctx = gpu_context(&w, 0, NULL, BATCH);
    const size_t room = TEXTS * w.dim * sizeof(float);
    unsigned char *want = malloc(room), *got = malloc(room);
    float *ranges = malloc(2 * w.dim * sizeof *ranges);
    assert_true(want != NULL && got != NULL && ranges != NULL);
    TEST_OK(embed_quantize_ranges(w.want, TEXTS, w.dim, ranges));
    worked("memory", gpu_memory_new(&out, room));
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        embed_async_params p = EMBED_ASYNC_PARAMS_INIT;
        embed_encode_params e = EMBED_ENCODE_PARAMS_INIT;
        embed_pending *pending;
        const size_t bytes = TEXTS * emb_output_row_bytes(types[t], (int64_t)w.dim);
        e.output = types[t];
        e.ranges = ranges;
        p.encode = &e;
        TEST_OK(embed_encode(ctx, w.texts, TEXTS, &e, want, TEXTS * w.dim));
        p.on_device = 1;
        TEST_OK(embed_encode_async(ctx, w.texts, TEXTS, &p, out, TEXTS * w.dim, &pending));
        TEST_OK(embed_pending_wait(pending, -1, NULL));
        embed_pending_free(pending);
        worked("vectors", gpu_memory_get(got, out, bytes));
        assert_memory_equal(got, want, bytes);
        test_fails(embed_encode_async(ctx, w.texts, 1, &p, got, w.dim, &pending), EMBED_ERR_ARG,
                   "memory of the host");
    }
    gpu_memory_free(out);
    free(ranges);
    free(got);
    free(want);
    embed_context_free(ctx);
    gpu_world_close(&w);
}

/* A kernel of this program on its own stream, which copies n texts' vectors. */
static void copy_vectors(void *to, const void *from, const gpu_world *w) {
    const emb_cuda_quantize_args a = {.x = from,
                                      .out = to,
                                      .rows = TEXTS,
                                      .dim = (int64_t)w->dim,
                                      .ldx = (int64_t)w->dim,
                                      .out_stride = (int64_t)(w->dim * sizeof(float)),
                                      .output = EMBED_F32};
    if (emb_cuda_quantize(&exec, &a) != EMBED_OK)
        fail_msg("a kernel of the caller could not be launched");
}

/* zeros -> out many times, late; then the call; then out -> seen: no wait of the host between. */
static void the_stream_goes_on_behind_them(void **state) {
    (void)state;
    gpu_world w;
    void *out, *zeros, *seen;
    needs_a_gpu();
    gpu_world_open(&w, tiny_spec_dense(), TEXTS, 30);
    embed_context *ctx = gpu_context(&w, 0, NULL, BATCH);
    float *want = gpu_encode(&w, ctx, TEXTS), *got = calloc(TEXTS * w.dim, sizeof *got);
    const size_t bytes = TEXTS * w.dim * sizeof *got;
    assert_non_null(got);
    worked("memory", gpu_memory_new(&out, bytes));
    worked("memory", gpu_memory_new(&zeros, bytes));
    worked("memory", gpu_memory_new(&seen, bytes));
    worked("zeros", gpu_memory_put(zeros, got, bytes));
    for (int round = 0; round < ROUNDS; round++) {
        embed_async_params p = EMBED_ASYNC_PARAMS_INIT;
        embed_pending *pending;
        p.on_device = 1;
        p.stream = exec.stream;
        for (int i = 0; i < DELAYS; i++)
            copy_vectors(out, zeros, &w);
        TEST_OK(embed_encode_async(ctx, w.texts, TEXTS, &p, out, TEXTS * w.dim, &pending));
        TEST_OK(embed_pending_order(pending, exec.stream));
        copy_vectors(seen, out, &w);
        copy_vectors(out, zeros, &w);
        worked("stream", gpu_memory_wait());
        worked("vectors", gpu_memory_get(got, seen, bytes));
        assert_memory_equal(got, want, bytes);
        TEST_OK(embed_pending_wait(pending, -1, NULL));
        embed_pending_free(pending);
    }
    gpu_memory_free(seen);
    gpu_memory_free(zeros);
    gpu_memory_free(out);
    free(got);
    free(want);
    embed_context_free(ctx);
    gpu_world_close(&w);
}

/* A capture of this program's in global mode is as it was when a call that names its stream has
 * been refused, and while another call runs. */
static void a_capture_goes_on(void **state) {
    (void)state;
    gpu_world w;
    void *out, *zeros, *seen;
    needs_a_gpu();
    gpu_world_open(&w, tiny_spec_dense(), TEXTS, 30);
    embed_context *ctx = gpu_context(&w, 0, NULL, BATCH);
    float *want = gpu_encode(&w, ctx, TEXTS), *got = calloc(TEXTS * w.dim, sizeof *got);
    const size_t bytes = TEXTS * w.dim * sizeof *got;
    embed_async_params p = EMBED_ASYNC_PARAMS_INIT;
    embed_pending *pending;
    assert_non_null(got);
    worked("memory", gpu_memory_new(&out, bytes));
    worked("memory", gpu_memory_new(&zeros, bytes));
    worked("memory", gpu_memory_new(&seen, bytes));
    worked("vectors", gpu_memory_put(seen, want, bytes));
    worked("zeros", gpu_memory_put(zeros, got, bytes));
    p.on_device = 1;
    worked("capture", gpu_memory_capture(1));
    copy_vectors(seen, zeros, &w);
    p.stream = exec.stream;
    test_fails(embed_encode_async(ctx, w.texts, TEXTS, &p, out, TEXTS * w.dim, &pending),
               EMBED_ERR_ARG, "being captured");
    p.stream = NULL;
    TEST_OK(embed_encode_async(ctx, w.texts, TEXTS, &p, out, TEXTS * w.dim, &pending));
    const embed_status st = embed_pending_order(pending, exec.stream);
    assert_true(st == EMBED_ERR_ARG ||
                st == EMBED_OK); /* OK: it had ended, nothing is to be done */
    TEST_OK(embed_pending_wait(pending, -1, NULL));
    embed_pending_free(pending);
    worked("end of the capture", gpu_memory_capture(0));
    worked("vectors", gpu_memory_get(got, out, bytes));
    assert_memory_equal(got, want, bytes);
    worked("what was captured", gpu_memory_get(got, seen, bytes));
    memset(want, 0, bytes);
    assert_memory_equal(got, want, bytes);
    gpu_memory_free(seen);
    gpu_memory_free(zeros);
    gpu_memory_free(out);
    free(got);
    free(want);
    embed_context_free(ctx);
    gpu_world_close(&w);
}

int main(int argc, char **argv) {
    const char *what;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_have_the_bits_of_calls_that_block),
        cmocka_unit_test(vectors_stay_on_the_device),
        cmocka_unit_test(the_stream_goes_on_behind_them),
        cmocka_unit_test(a_capture_goes_on),
    };
    if (!gpu_arguments(argc, argv, &what) || what != NULL)
        return 2;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
