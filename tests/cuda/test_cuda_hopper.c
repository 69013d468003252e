#include "cuda/cuda_case.h"

#include "cuda/hopper_probe.h"

enum { M = 64, N = 32, K = 64 };

static embed_status run(int32_t kind, int nn, const void *x, const void *w, float *y) {
    emb_cuda_exec *exec = cuda_exec();
    exec->tensor_maps = emb_emulation_tensor_maps;
    const hopper_args args = {.x = x, .w = w, .y = y, .kind = kind, .nn = nn};
    return hopper_probe(exec, &args);
}

static void products_are_what_the_manual_says(void **state) {
    (void)state;
    for (int nn = 0; nn < 2; nn++)
        for (uint64_t order = 0; order < CUDA_SEEDS; order++) {
            uint64_t seed = 3 + order;
            double *x = cuda_doubles(M * K), *w = cuda_doubles(N * K), *want = cuda_doubles(M * N);
            void *px = cuda_normals(&seed, M * K, 1.0, EMBED_BF16, x);
            void *pw = cuda_normals(&seed, N * K, 1.0, EMBED_BF16, w);
            float *y = cuda_output(M * N * sizeof *y);
            emb_emulation_seed(order);
            cuda_worked("product", run(HOPPER_RIGHT, nn, px, pw, y));
            for (int i = 0; i < M * N; i++)
                for (int k = 0; k < K; k++)
                    want[i] += x[i / N * K + k] * w[nn ? k * N + i % N : i % N * K + k];
            cuda_close("product", y, EMBED_F32, want, M * N, 1e-4, 0);
            cuda_case_end();
        }
    emb_emulation_seed(0);
}

static void faults_fail_the_launch_and_are_named(void **state) {
    static const struct {
        int32_t kind;
        const char *message;
    } faults[] = {
        {HOPPER_NO_FENCE, "without fence.proxy.async"},
        {HOPPER_NO_WAIT, "nobody waited for"},
        {HOPPER_NO_GROUP_FENCE, "no wgmma.fence"},
        {HOPPER_TOO_MANY_BYTES, "128 at an mbarrier"},
        {HOPPER_NO_ARRIVAL, "128 at an mbarrier"},
        {HOPPER_EXTRA_ARRIVAL, "not initialised"},
        {HOPPER_NOT_MADE, "not initialised"},
        {HOPPER_MISPLACED, "starts inside it"},
        {HOPPER_DIFFERENT, "issue different products"},
        {HOPPER_LEFT_OUT, "issue"},
        {HOPPER_OUTSIDE, "outside the dynamic shared array"},
    };
    uint64_t seed = 5;
    (void)state;
    void *x = cuda_normals(&seed, M * K, 1.0, EMBED_BF16, NULL);
    void *w = cuda_normals(&seed, N * K, 1.0, EMBED_BF16, NULL);
    float *y = cuda_output(M * N * sizeof *y);
    for (size_t i = 0; i < 3 * (sizeof faults / sizeof *faults); i++) {
        emb_emulation_seed(i % 3);
        assert_int_equal(run(faults[i / 3].kind, 0, x, w, y), EMBED_ERR_DEVICE);
        if (strstr(emb_emulation_error(), faults[i / 3].message) == NULL)
            fail_msg("expected \"%s\", found \"%s\"", faults[i / 3].message, emb_emulation_error());
        cuda_worked("the next launch", run(HOPPER_RIGHT, 0, x, w, y));
    }
    emb_emulation_seed(0);
    cuda_case_end();
}

/* What is too early is not there yet: NaN, or what was there before. */
static void what_nobody_waited_for_is_wrong(void **state) {
    uint64_t seed = 6;
    (void)state;
    void *x = cuda_normals(&seed, M * K, 1.0, EMBED_BF16, NULL);
    void *w = cuda_normals(&seed, N * K, 1.0, EMBED_BF16, NULL);
    float *y = cuda_output(M * N * sizeof *y);
    cuda_worked("early", run(HOPPER_READ_EARLY, 0, x, w, y));
    for (int i = 0; i < M * N; i++)
        assert_true(y[i] == -1);
    cuda_worked("given back", run(HOPPER_GIVEN_BACK, 0, x, w, y));
    for (int i = 0; i < M * N; i++)
        assert_true(isnan(y[i]));
    assert_int_equal(run(HOPPER_LEFT_BEHIND, 0, x, w, y), EMBED_ERR_DEVICE);
    assert_non_null(strstr(emb_emulation_error(), "a bulk copy under way"));
    const embed_status st = run(HOPPER_NO_BARRIER, 0, x, w, y); /* seed 0: w comes at the end */
    assert_true(st == EMBED_ERR_DEVICE || isnan(y[0]));
    cuda_case_end();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_what_the_manual_says),
        cmocka_unit_test(faults_fail_the_launch_and_are_named),
        cmocka_unit_test(what_nobody_waited_for_is_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
