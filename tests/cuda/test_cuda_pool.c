#include "cuda/cuda_case.h"
#include "support/everywhere.h"

#include "kernels/pool/pool.h"
#include "kernels/pool/pool_cuda.h"

enum { ALL_MODES = 63, MODES = 6 };

/* The CPU's result for the same numbers. */
static void on_the_cpu(const emb_cuda_pool_args *a, float *out) {
    const int32_t tokens = a->offsets[a->texts];
    float *x = cuda_output((size_t)(tokens * a->dim) * sizeof *x);
    const emb_isa *isa[EMB_ISA_MAX];
    test_exec exec;
    emb_isa_list(isa);
    for (int64_t i = 0; i < tokens * a->dim; i++)
        x[i] = (float)cuda_at(a->x, a->dtype, (size_t)i);
    test_exec_open(&exec, isa[0], 1, 0);
    for (int64_t t = 0; t < a->texts; t++) /* it takes no empty text */
        if (a->offsets[t + 1] - a->offsets[t] > (a->skip != NULL ? a->skip[t] : 0)) {
            const emb_pool_args one = {.x = x,
                                       .offsets = a->offsets + t,
                                       .skip = a->skip != NULL ? a->skip + t : NULL,
                                       .out = out + t * a->ldo,
                                       .texts = 1,
                                       .dim = a->dim,
                                       .ldo = a->ldo,
                                       .modes = a->modes};
            assert_int_equal(emb_pool_texts(&exec.exec, &one), EMBED_OK);
        }
    test_exec_close(&exec);
}

static void run_shape(int32_t dtype, int64_t dim, int32_t modes, int skipping, int shifted) {
    const int32_t offsets[] = {0, 1, 1, 10, 27, 60, 62}, skip[] = {0, 0, 3, 16, 1, 2};
    const size_t texts = 6, tokens = 62, n = tokens * (size_t)dim;
    uint64_t seed = (uint64_t)dim;
    int64_t stride = 3;
    for (int32_t m = modes; m > 0; m /= 2)
        stride += m % 2 * dim;
    emb_cuda_pool_args a = {.x = cuda_normals(&seed, n, 1.0, dtype, NULL),
                            .offsets = cuda_copy(offsets, sizeof offsets),
                            .skip = skipping ? cuda_copy(skip, sizeof skip) : NULL,
                            .texts = (int64_t)texts,
                            .dim = dim,
                            .ldo = stride,
                            .modes = modes,
                            .dtype = dtype};
    const size_t bytes = texts * (size_t)stride * sizeof(float);
    float *want = cuda_output(bytes), *first = NULL;
    if (shifted)
        a.x = cuda_shifted(a.x, n, dtype);
    on_the_cpu(&a, want);
    for (uint64_t order = 0; order < CUDA_SEEDS; order++) {
        a.out = cuda_output(bytes);
        emb_emulation_seed(order);
        cuda_worked("pool", emb_cuda_pool(cuda_exec(), &a));
        for (size_t i = 0; i < texts * (size_t)stride; i++)
            if (memcmp(&want[i], &a.out[i], sizeof *want) != 0 &&
                !(fabs((double)want[i] - (double)a.out[i]) <= 1.2e-7 * fabs((double)want[i])))
                fail_msg("type %d, dim %d, modes %d: [%zu] is %.9g, want %.9g", (int)dtype,
                         (int)dim, (int)modes, i, (double)a.out[i], (double)want[i]);
        if (first != NULL)
            cuda_same("pool in another order of threads", first, a.out, bytes);
        first = a.out;
    }
    cuda_case_end();
}

static void every_mode_agrees_with_the_cpu(void **state) {
    static const int64_t dims[] = {1, 8, 255, 256, 264, 521};
    (void)state;
    for (int d = 0; d < CUDA_DTYPES; d++) {
        for (size_t i = 0; i < sizeof dims / sizeof *dims; i++)
            run_shape(cuda_dtypes[d], dims[i], ALL_MODES, i % 2 == 1, i % 3 == 1);
        for (int32_t mode = 1; mode < ALL_MODES; mode *= 2)
            run_shape(cuda_dtypes[d], 24, mode, 1, 0);
    }
}

static void limits_are_refused(void **state) {
    emb_cuda_pool_args a = {.dim = 8, .modes = EMBED_POOL_MEAN, .dtype = EMBED_F32};
    (void)state;
    cuda_worked("no texts", emb_cuda_pool(cuda_exec(), &a));
    a.modes = 64;
    assert_int_equal(emb_cuda_pool(cuda_exec(), &a), EMBED_ERR_INTERNAL);
    a.modes = 0;
    assert_int_equal(emb_cuda_pool(cuda_exec(), &a), EMBED_ERR_INTERNAL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_mode_agrees_with_the_cpu),
        cmocka_unit_test(limits_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
