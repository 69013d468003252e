#include "cuda/cuda_case.h"

#include "kernels/gemm/gemm.h"
#include "kernels/gemm/gemm_cuda.h"

/* groups 0: dense; else `sizes` rows each, all gathered from `m` rows of x. */
struct shape {
    int64_t m, n, k;
    int32_t layout, act;
    int bias, mul, shifted, groups;
    const int32_t *sizes;
    int32_t processors;
};

static double activate(int32_t act, double x) {
    switch (act) {
    case EMB_ACT_GELU:
        return 0.5 * x * erfc(-x * 0.70710678118654752);
    case EMB_ACT_GELU_TANH:
        return 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
    case EMB_ACT_RELU:
        return x < 0 ? 0 : x;
    case EMB_ACT_SILU:
        return x / (1 + exp(-x));
    case EMB_ACT_SIGMOID:
        return 1 / (1 + exp(-x));
    case EMB_ACT_TANH:
        return tanh(x);
    default:
        return x;
    }
}

struct product {
    double *x, *w, *bias, *mul;
    int32_t *x_rows, *offset;
    int64_t rows; /* of the product */
};

static void reference(const struct shape *s, const struct product *p, int32_t dtype, int64_t row,
                      int group, double *want, double *bound) {
    const double *x = p->x + (p->x_rows != NULL ? p->x_rows[row] : row) * s->k;
    const double *w = p->w + group * s->n * s->k;
    for (int64_t n = 0; n < s->n; n++) {
        double sum = s->bias ? p->bias[group * s->n + n] : 0, size = fabs(sum);
        for (int64_t k = 0; k < s->k; k++) {
            const double term = x[k] * w[s->layout == EMB_GEMM_NN ? k * s->n + n : n * s->k + k];
            sum += term;
            size += fabs(term);
        }
        const double mul = s->mul ? p->mul[row * s->n + n] : 1;
        const double chain =
            dtype == EMBED_F32 ? (double)s->k * 0x1p-24 : ((double)s->k / 4 + 8) * 0x1p-23;
        want[n] = activate(s->act, sum) * mul;
        bound[n] = 1.13 * (chain * size + 2e-6 * fabs(sum)) * fabs(mul) + 1e-7 * fabs(mul);
    }
}

static void check(const struct shape *s, const struct product *p, const void *y, int32_t dtype) {
    double *want = cuda_doubles((size_t)s->n), *bound = cuda_doubles((size_t)s->n);
    int group = 0;
    for (int64_t row = 0; row < p->rows; row++) {
        while (p->offset != NULL && row >= p->offset[group + 1])
            group++;
        reference(s, p, dtype, row, group, want, bound);
        for (int64_t n = 0; n < s->n; n++) {
            const double got = cuda_at(y, dtype, (size_t)(row * s->n + n));
            const double most =
                bound[n] + cuda_rounding(dtype) * 1.01 * fabs(want[n]) + cuda_least(dtype);
            if (!(fabs(got - want[n]) <= most))
                fail_msg("type %d, %dx%dx%d: [%d,%d] is %.9g, want %.9g within %.3g", (int)dtype,
                         (int)s->m, (int)s->n, (int)s->k, (int)row, (int)n, got, want[n], most);
        }
    }
}

static void group_rows(const struct shape *s, struct product *p, uint64_t *seed) {
    p->offset = cuda_output((size_t)(s->groups + 1) * sizeof(int32_t));
    p->offset[0] = 0;
    for (int g = 0; g < s->groups; g++)
        p->offset[g + 1] = p->offset[g] + s->sizes[g];
    p->rows = p->offset[s->groups];
    p->x_rows = cuda_output((size_t)p->rows * sizeof(int32_t));
    for (int64_t i = 0; i < p->rows; i++)
        p->x_rows[i] = (int32_t)(test_rand(seed) % (uint64_t)s->m);
}

static void run_shape(const struct shape *s, int32_t dtype) {
    uint64_t seed = (uint64_t)(s->m * 131 + s->n * 17 + s->k);
    struct product p = {.rows = s->m};
    const int groups = s->groups > 0 ? s->groups : 1;
    if (s->groups > 0)
        group_rows(s, &p, &seed);
    const size_t xn = (size_t)(s->m * s->k), wn = (size_t)(groups * s->n * s->k);
    const size_t yn = (size_t)(p.rows * s->n), bytes = yn * cuda_size(dtype);
    p.x = cuda_doubles(xn);
    p.w = cuda_doubles(wn);
    p.bias = cuda_doubles((size_t)(groups * s->n));
    p.mul = cuda_doubles(yn);
    emb_cuda_gemm_args a = {
        .x = cuda_normals(&seed, xn, 1.0, dtype, p.x),
        .x_rows = p.x_rows,
        .w = cuda_normals(&seed, wn, 1 / sqrt((double)s->k), dtype, p.w),
        .bias = cuda_normals(&seed, (size_t)(groups * s->n), 1.0, EMBED_F32, p.bias),
        .mul = cuda_normals(&seed, yn, 1.0, dtype, p.mul),
        .offset = p.offset,
        .m = s->groups > 0 ? p.rows + 5 : s->m,
        .n = s->n,
        .k = s->k,
        .ldx = s->k,
        .ldy = s->n,
        .ldmul = s->n,
        .groups = s->groups,
        .layout = s->layout,
        .dtype = dtype,
        .act = s->act,
    };
    void *first = NULL;
    if (s->shifted) {
        a.x = cuda_shifted(a.x, xn, dtype);
        a.w = cuda_shifted(a.w, wn, dtype);
    }
    if (!s->bias)
        a.bias = NULL;
    if (!s->mul)
        a.mul = NULL;
    for (uint64_t order = 0; order < CUDA_SEEDS; order++) {
        emb_cuda_exec *exec = cuda_exec();
        if (s->processors > 0)
            exec->processors = s->processors;
        a.y = cuda_output(bytes);
        emb_emulation_seed(order);
        cuda_worked("gemm", emb_cuda_gemm(exec, &a));
        if (first == NULL)
            check(s, &p, a.y, dtype);
        else
            cuda_same("gemm in another order of threads", first, a.y, bytes);
        first = a.y;
    }
    cuda_case_end();
}

static void tile_edges_agree_with_double(void **state) {
    static const struct shape shapes[] = {
        {1, 1, 1, EMB_GEMM_NT, EMB_ACT_NONE, 0, 0, 0, 0, NULL, 0},
        {15, 31, 63, EMB_GEMM_NT, EMB_ACT_NONE, 1, 0, 0, 0, NULL, 99},
        {16, 32, 64, EMB_GEMM_NT, EMB_ACT_GELU, 1, 0, 0, 0, NULL, 99},
        {17, 33, 65, EMB_GEMM_NN, EMB_ACT_SILU, 0, 1, 0, 0, NULL, 99},
        {17, 40, 136, EMB_GEMM_NN, EMB_ACT_GELU, 1, 0, 1, 0, NULL, 99},
        {7, 72, 600, EMB_GEMM_NT, EMB_ACT_NONE, 1, 0, 0, 0, NULL, 99},
        {63, 64, 64, EMB_GEMM_NN, EMB_ACT_GELU, 1, 0, 0, 0, NULL, 99},
        {65, 67, 71, EMB_GEMM_NT, EMB_ACT_GELU_TANH, 1, 1, 1, 0, NULL, 99},
        {64, 72, 328, EMB_GEMM_NN, EMB_ACT_RELU, 1, 1, 0, 0, NULL, 99},
        {127, 129, 64, EMB_GEMM_NT, EMB_ACT_TANH, 1, 0, 0, 0, NULL, 1},
        {129, 127, 72, EMB_GEMM_NN, EMB_ACT_SIGMOID, 0, 1, 0, 0, NULL, 1},
        {128, 128, 256, EMB_GEMM_NN, EMB_ACT_GELU, 1, 0, 0, 0, NULL, 1},
        {131, 136, 200, EMB_GEMM_NT, EMB_ACT_NONE, 1, 0, 0, 0, NULL, 1},
    };
    (void)state;
    for (int d = 0; d < CUDA_DTYPES; d++)
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
            run_shape(&shapes[i], cuda_dtypes[d]);
}

static void groups_take_the_rows_the_device_says(void **state) {
    static const int32_t one[] = {9}, few[] = {3, 0, 17, 1}, all_in_one[] = {0, 0, 70, 0},
                         even[] = {16, 16, 16}, large[] = {130, 0, 1, 127}, none[] = {0, 0};
    static const struct shape shapes[] = {
        {5, 24, 40, EMB_GEMM_NT, EMB_ACT_GELU, 0, 0, 0, 1, one, 99},
        {11, 40, 72, EMB_GEMM_NT, EMB_ACT_GELU, 1, 0, 0, 4, few, 99},
        {11, 40, 72, EMB_GEMM_NN, EMB_ACT_NONE, 0, 1, 1, 4, few, 99},
        {70, 33, 64, EMB_GEMM_NN, EMB_ACT_NONE, 0, 0, 0, 4, all_in_one, 99},
        {20, 32, 64, EMB_GEMM_NT, EMB_ACT_SILU, 1, 1, 0, 3, even, 99},
        {33, 136, 64, EMB_GEMM_NN, EMB_ACT_GELU, 0, 0, 0, 4, large, 1},
        {33, 72, 64, EMB_GEMM_NT, EMB_ACT_NONE, 1, 0, 0, 4, large, 99},
        {4, 8, 8, EMB_GEMM_NT, EMB_ACT_NONE, 1, 0, 0, 2, none, 99},
    };
    (void)state;
    for (int d = 0; d < CUDA_DTYPES; d++)
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
            run_shape(&shapes[i], cuda_dtypes[d]);
}

static void sixty_four_groups_of_random_sizes(void **state) {
    int32_t sizes[64];
    uint64_t seed = 64;
    (void)state;
    for (int g = 0; g < 64; g++)
        sizes[g] = (int32_t)(test_rand(&seed) % 5) * (g % 3 != 1);
    sizes[40] = 50;
    for (int d = 0; d < CUDA_DTYPES; d++)
        run_shape(&(struct shape){12, 16, 24, EMB_GEMM_NN, EMB_ACT_GELU, 1, 0, 0, 64, sizes, 99},
                  cuda_dtypes[d]);
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
