#include "cuda/gemm_case.h"

#include "kernels/gemm/gemm.h"
#include "kernels/gemm/gemm_cuda.h"

static void tile_edges_agree_with_double(void **state) {
    static const gemm_case shapes[] = {
        {1, 1, 1, EMB_GEMM_NT, EMB_ACT_NONE, 0, 0, 0, 0, NULL, 0, 0, 0, 0},
        {15, 31, 63, EMB_GEMM_NT, EMB_ACT_NONE, 1, 0, 0, 0, NULL, 99, 0, 0, 0},
        {16, 32, 64, EMB_GEMM_NT, EMB_ACT_GELU, 1, 0, 0, 0, NULL, 99, 0, 0, 0},
        {17, 33, 65, EMB_GEMM_NN, EMB_ACT_SILU, 0, 1, 0, 0, NULL, 99, 0, 0, 0},
        {17, 40, 136, EMB_GEMM_NN, EMB_ACT_GELU, 1, 0, 1, 0, NULL, 99, 0, 0, 0},
        {7, 72, 600, EMB_GEMM_NT, EMB_ACT_NONE, 1, 0, 0, 0, NULL, 99, 0, 0, 0},
        {63, 64, 64, EMB_GEMM_NN, EMB_ACT_GELU, 1, 0, 0, 0, NULL, 99, 0, 0, 0},
        {65, 67, 71, EMB_GEMM_NT, EMB_ACT_GELU_TANH, 1, 1, 1, 0, NULL, 99, 0, 0, 0},
        {64, 72, 328, EMB_GEMM_NN, EMB_ACT_RELU, 1, 1, 0, 0, NULL, 99, 0, 0, 0},
        {127, 129, 64, EMB_GEMM_NT, EMB_ACT_TANH, 1, 0, 0, 0, NULL, 1, 0, 0, 0},
        {129, 127, 72, EMB_GEMM_NN, EMB_ACT_SIGMOID, 0, 1, 0, 0, NULL, 1, 0, 0, 0},
        {128, 128, 256, EMB_GEMM_NN, EMB_ACT_GELU, 1, 0, 0, 0, NULL, 1, 0, 0, 0},
        {131, 136, 200, EMB_GEMM_NT, EMB_ACT_NONE, 1, 0, 0, 0, NULL, 1, 0, 0, 0},
    };
    (void)state;
    for (int d = 0; d < CUDA_DTYPES; d++)
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
            gemm_case_run(&shapes[i], cuda_dtypes[d], emb_cuda_gemm);
}

static void groups_take_the_rows_the_device_says(void **state) {
    static const int32_t one[] = {9}, few[] = {3, 0, 17, 1}, all_in_one[] = {0, 0, 70, 0},
                         even[] = {16, 16, 16}, large[] = {130, 0, 1, 127}, none[] = {0, 0};
    static const gemm_case shapes[] = {
        {5, 24, 40, EMB_GEMM_NT, EMB_ACT_GELU, 0, 0, 0, 1, one, 99, 0, 0, 0},
        {11, 40, 72, EMB_GEMM_NT, EMB_ACT_GELU, 1, 0, 0, 4, few, 99, 0, 0, 0},
        {11, 40, 72, EMB_GEMM_NN, EMB_ACT_NONE, 0, 1, 1, 4, few, 99, 0, 0, 0},
        {70, 33, 64, EMB_GEMM_NN, EMB_ACT_NONE, 0, 0, 0, 4, all_in_one, 99, 0, 0, 0},
        {20, 32, 64, EMB_GEMM_NT, EMB_ACT_SILU, 1, 1, 0, 3, even, 99, 0, 0, 0},
        {33, 136, 64, EMB_GEMM_NN, EMB_ACT_GELU, 0, 0, 0, 4, large, 1, 0, 0, 0},
        {33, 72, 64, EMB_GEMM_NT, EMB_ACT_NONE, 1, 0, 0, 4, large, 99, 0, 0, 0},
        {4, 8, 8, EMB_GEMM_NT, EMB_ACT_NONE, 1, 0, 0, 2, none, 99, 0, 0, 0},
    };
    (void)state;
    for (int d = 0; d < CUDA_DTYPES; d++)
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
            gemm_case_run(&shapes[i], cuda_dtypes[d], emb_cuda_gemm);
}

static void sixty_four_groups_of_random_sizes(void **state) {
    int32_t sizes[64];
    uint64_t seed = 64;
    (void)state;
    for (int g = 0; g < 64; g++)
        sizes[g] = (int32_t)(test_rand(&seed) % 5) * (g % 3 != 1);
    sizes[40] = 50;
    for (int d = 0; d < CUDA_DTYPES; d++)
        gemm_case_run(
            &(gemm_case){12, 16, 24, EMB_GEMM_NN, EMB_ACT_GELU, 1, 0, 0, 64, sizes, 99, 0, 0, 0},
            cuda_dtypes[d], emb_cuda_gemm);
}

/* A row's bits depend neither on the rows around it nor on the tile size that their number chooses.
 */
static void a_row_is_the_same_in_every_product(void **state) {
    enum { M = 150, N = 136, K = 200 };
    static const struct {
        int64_t m;
        int32_t processors;
    } products[] = {{M, 1}, {M, 99}, {20, 99}, {1, 99}};
    (void)state;
    for (int d = 0; d < CUDA_DTYPES; d++) {
        const int32_t dtype = cuda_dtypes[d];
        uint64_t seed = 12;
        void *first = NULL;
        emb_cuda_gemm_args a = {
            .x = cuda_normals(&seed, M * K, 1.0, dtype, NULL),
            .w = cuda_normals(&seed, N * K, 1.0, dtype, NULL),
            .bias = cuda_normals(&seed, N, 1.0, EMBED_F32, NULL),
            .n = N,
            .k = K,
            .ldx = K,
            .ldy = N,
            .dtype = dtype,
            .act = EMB_ACT_GELU,
        };
        for (size_t i = 0; i < sizeof products / sizeof *products; i++) {
            emb_cuda_exec *exec = cuda_exec();
            a.m = products[i].m;
            exec->processors = products[i].processors;
            a.y = cuda_output((size_t)a.m * N * cuda_size(dtype));
            cuda_worked("gemm", emb_cuda_gemm(exec, &a));
            if (first != NULL)
                cuda_same("the rows of a smaller product", first, a.y,
                          (size_t)a.m * N * cuda_size(dtype));
            first = first != NULL ? first : a.y;
        }
        cuda_case_end();
    }
}

/* Infinities, NaN and zeros in one row or column stay there. */
static void neighbours_do_not_leak(void **state) {
    (void)state;
    for (int d = 0; d < CUDA_DTYPES; d++) {
        const int32_t dtype = cuda_dtypes[d];
        uint64_t seed = 13;
        const int32_t count = 18;
        const size_t size = cuda_size(dtype);
        char *x = cuda_normals(&seed, 18 * 24, 1.0, dtype, NULL);
        memset(x + 7 * 24 * size, 0xff, 24 * size); /* NaN in all types */
        emb_cuda_gemm_args a = {.x = x,
                                .count = cuda_copy(&count, sizeof count),
                                .m = 40,
                                .n = 20,
                                .k = 24,
                                .ldx = 24,
                                .ldy = 20,
                                .dtype = dtype};
        a.w = cuda_normals(&seed, 20 * 24, 1.0, dtype, NULL);
        a.y = cuda_output(18 * 20 * size); /* rows beyond the count would be outside */
        cuda_worked("gemm", emb_cuda_gemm(cuda_exec(), &a));
        for (size_t i = 0; i < 18 * 20; i++) {
            const double v = cuda_at(a.y, dtype, i);
            assert_true((v != v) == (i / 20 == 7));
        }
        cuda_case_end();
    }
}

static void limits_are_refused(void **state) {
    emb_cuda_gemm_args a = {.m = 1, .n = 0, .k = 1, .dtype = EMBED_F32};
    (void)state;
    assert_int_equal(emb_cuda_gemm(cuda_exec(), &a), EMBED_ERR_INTERNAL);
    a.n = 1;
    a.layout = 2;
    assert_int_equal(emb_cuda_gemm(cuda_exec(), &a), EMBED_ERR_INTERNAL);
    a.layout = EMB_CUDA_NN;
    a.dtype = EMBED_U8;
    assert_int_equal(emb_cuda_gemm(cuda_exec(), &a), EMBED_ERR_INTERNAL);
    a.dtype = EMBED_F32;
    a.m = (int64_t)1 << 21;
    assert_int_equal(emb_cuda_gemm(cuda_exec(), &a), EMBED_ERR_INTERNAL);
    a.m = 0;
    cuda_worked("no rows", emb_cuda_gemm(cuda_exec(), &a));
    assert_int_equal(EMB_CUDA_ACT_TANH, EMB_ACT_TANH);
    assert_int_equal(EMB_CUDA_ACT_GELU, EMB_ACT_GELU);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tile_edges_agree_with_double),
        cmocka_unit_test(groups_take_the_rows_the_device_says),
        cmocka_unit_test(sixty_four_groups_of_random_sizes),
        cmocka_unit_test(a_row_is_the_same_in_every_product),
        cmocka_unit_test(neighbours_do_not_leak),
        cmocka_unit_test(limits_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
