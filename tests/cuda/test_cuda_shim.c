#include "cuda/cuda_case.h"

#include "cuda/shim_probe.h"

static embed_status run(int32_t kind, float *out) {
    static float in[256];
    for (int i = 0; i < 256; i++) {
        in[i] = (float)(i % 61);
        out[i] = -1;
    }
    return probe_run(cuda_exec(), &(probe_args){.out = out, .in = in, .kind = kind});
}

static void a_missing_barrier_shows(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 5; seed++) {
        float out[256];
        int wrong = 0;
        emb_emulation_seed(seed);
        cuda_worked("reverse", run(PROBE_REVERSE, out));
        for (int i = 0; i < 256; i++)
            assert_true(out[i] == (float)((255 - i) % 61));
        cuda_worked("reverse", run(PROBE_REVERSE_UNGUARDED, out));
        for (int i = 0; i < 256; i++)
            wrong += !(out[i] == (float)((255 - i) % 61));
        assert_true(wrong > 50);
    }
    emb_emulation_seed(0);
}

static void faults_fail_the_launch_and_are_named(void **state) {
    static const struct {
        int32_t kind;
        const char *message;
    } faults[] = {
        {PROBE_DIVERGENT, "128 wait in __syncthreads"},
        {PROBE_LEFT_WARP, "for the rest of their warp (shfl_xor)"},
        {PROBE_MIXED, "different warp-wide operations"},
        {PROBE_PARTIAL_MASK, "less than a whole warp"},
        {PROBE_UNALIGNED_COPY, "multiples of 16"},
#if !defined(__SANITIZE_ADDRESS__) /* which stops the program at the access */
        {PROBE_OVERRUN, "was overrun"},
#endif
    };
    float out[256];
    (void)state;
    for (size_t i = 0; i < 2 * (sizeof faults / sizeof *faults); i++) {
        emb_emulation_seed(i % 2);
        assert_int_equal(run(faults[i / 2].kind, out), EMBED_ERR_DEVICE);
        if (strstr(emb_emulation_error(), faults[i / 2].message) == NULL)
            fail_msg("expected \"%s\", found \"%s\"", faults[i / 2].message, emb_emulation_error());
        cuda_worked("the next launch", run(PROBE_REVERSE, out));
    }
    emb_emulation_seed(0);
}

static void what_nobody_wrote_or_waited_for_is_nan(void **state) {
    float out[256];
    (void)state;
    cuda_worked("uninitialised", run(PROBE_UNINITIALISED, out));
    for (int i = 0; i < 256; i++)
        assert_true(out[i] != out[i]);
    cuda_worked("early", run(PROBE_COPY_EARLY, out));
    for (int i = 0; i < 256; i++)
        assert_true(out[i] != out[i]);
    cuda_worked("waited", run(PROBE_COPY_WAITED, out));
    for (int i = 0; i < 256; i++)
        assert_true(out[i] == (i > 252 ? 0.0f : (float)(i % 61)));
}

static void collectives_do_what_the_manual_says(void **state) {
    float out[256];
    (void)state;
    for (uint64_t seed = 0; seed < 3; seed++) {
        float sum = 0, max = 0;
        emb_emulation_seed(seed);
        cuda_worked("warp", run(PROBE_WARP, out));
        for (int i = 0; i < 32; i++) {
            sum += (float)((160 + i) % 61);
            max = fmaxf(max, (float)((192 + i) % 61));
        }
        for (int i = 0; i < 32; i++) {
            assert_true(out[i] == 3);
            assert_true(out[32 + i] == (float)((32 + (i < 4 ? i : i - 4)) % 61));
            assert_true(out[64 + i] == (float)((64 + (i > 27 ? i : i + 4)) % 61));
            assert_true(out[96 + i] == (i % 3 < 2 ? 11 : 10));
            assert_true(out[128 + i] == 10);
            assert_true(out[160 + i] == sum);
            assert_true(out[192 + i] == max);
            assert_true(out[224 + i] == 2);
        }
    }
    emb_emulation_seed(0);
}

/* Whole numbers up to 2^10 are exact in every type, and so are their products. */
static void products_are_exact_where_they_can_be(void **state) {
    (void)state;
    for (int d = 0; d < CUDA_DTYPES; d++) {
        const int32_t dtype = cuda_dtypes[d];
        const int k = dtype == EMBED_F32 ? 8 : 16;
        uint64_t seed = 21;
        double *a = cuda_doubles(256), *b = cuda_doubles(128);
        float *c = cuda_output(128 * sizeof *c);
        double want[128];
        void *pa = cuda_normals(&seed, (size_t)(16 * k), 1.0, dtype, a);
        void *pb = cuda_normals(&seed, (size_t)(k * 8), 1.0, dtype, b);
        for (int i = 0; i < 16 * k; i++) { /* what tf32 would cut off */
            if (dtype == EMBED_F32)
                a[i] = ((float *)pa)[i] = (float)(i % 31 - 15);
            if (dtype == EMBED_F32 && i < k * 8)
                b[i] = ((float *)pb)[i] = (float)(i % 13 - 6) * 0.25f;
        }
        for (int i = 0; i < 128; i++) {
            want[i] = (double)(c[i] = (float)(i % 9));
            for (int j = 0; j < k; j++)
                want[i] += a[i / 8 * k + j] * b[j * 8 + i % 8];
        }
        cuda_worked("product",
                    probe_multiply(cuda_exec(),
                                   &(probe_product){.a = pa, .b = pb, .c = c, .dtype = dtype}));
        cuda_close("product", c, EMBED_F32, want, 128, dtype == EMBED_F32 ? 0 : 2e-5, 0);
        cuda_case_end();
    }
}

static void launch_limits_are_those_of_the_hardware(void **state) {
    (void)state;
    cuda_worked("a launch", probe_launch(cuda_exec(), 65535, 32, 0));
    cuda_worked("a launch", probe_launch(cuda_exec(), 1, 1024, 99 << 10));
    assert_int_equal(probe_launch(cuda_exec(), 65536, 32, 0), EMBED_ERR_DEVICE);
    assert_int_equal(probe_launch(cuda_exec(), 0, 32, 0), EMBED_ERR_DEVICE);
    assert_int_equal(probe_launch(cuda_exec(), 1, 1056, 0), EMBED_ERR_DEVICE);
    assert_int_equal(probe_launch(cuda_exec(), 1, 33, 0), EMBED_ERR_DEVICE);
    emb_cuda_exec *exec = cuda_exec();
    assert_int_equal(probe_launch(exec, 1, 32, (99 << 10) + 1), EMBED_ERR_INTERNAL);
    assert_string_equal(exec->failed, "nothing");
    exec->shared_bytes = 227 << 10;
    cuda_worked("a large block", probe_launch(exec, 1, 32, 227 << 10));
}

struct queue {
    unsigned char *job;
    size_t bytes;
    void *stream;
    int refuse;
};

static int enqueue(void *user, void *stream, const void *job, size_t bytes) {
    struct queue *q = user;
    if (q->refuse)
        return q->refuse;
    q->job = cuda_copy(job, bytes);
    q->bytes = bytes;
    q->stream = stream;
    return 0;
}

static void a_device_may_run_launches_later(void **state) {
    struct queue q = {NULL, 0, NULL, 0};
    float out[256];
    (void)state;
    emb_emulation_redirect(enqueue, &q);
    cuda_worked("reverse", run(PROBE_REVERSE, out));
    assert_true(out[0] == -1);
    assert_int_equal(emb_emulation_run(q.job), 0);
    assert_true(out[0] == (float)(255 % 61));
    q.refuse = 719;
    emb_cuda_exec *exec = cuda_exec();
    assert_int_equal(run(PROBE_REVERSE, out), EMBED_ERR_DEVICE);
    assert_int_equal(exec->error, 719);
    emb_emulation_redirect(NULL, NULL);
    cuda_case_end();
    emb_emulation_release();
    cuda_worked("after a release", run(PROBE_REVERSE, out));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_missing_barrier_shows),
        cmocka_unit_test(faults_fail_the_launch_and_are_named),
        cmocka_unit_test(what_nobody_wrote_or_waited_for_is_nan),
        cmocka_unit_test(collectives_do_what_the_manual_says),
        cmocka_unit_test(products_are_exact_where_they_can_be),
        cmocka_unit_test(launch_limits_are_those_of_the_hardware),
        cmocka_unit_test(a_device_may_run_launches_later),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
