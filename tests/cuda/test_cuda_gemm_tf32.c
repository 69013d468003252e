/* Products of f32 matrices by tensor cores: within the bound of gemm_cuda.h, coarser than without,
 * and a row's bits are its own. */
#include "cuda/cuda_case.h"

#include "kernels/gemm/gemm_cuda.h"

struct shape {
    int64_t m, n, k;
    int32_t layout, act, groups, shifted; /* groups 0: dense; else rows 3 g of the product each */
};

/* Sum and sum of sizes of element (row of x, n). */
static double dot(const struct shape *s, const double *x, const double *w, int64_t n,
                  double *size) {
    double sum = 0;
    *size = 0;
    for (int64_t k = 0; k < s->k; k++) {
        const double term = x[k] * w[s->layout == EMB_CUDA_NN ? k * s->n + n : n * s->k + k];
        sum += term;
        *size += fabs(term);
    }
    return sum;
}

/* Largest error, as a part of the bound. */
static double check(const struct shape *s, const emb_cuda_gemm_args *a, const double *x,
                    const double *w, int64_t rows) {
    const double unit = 0x1p-10 + 0x1p-21 + ((double)s->k / 2 + 8) * 0x1p-23;
    double worst = 0;
    int group = 0;
    for (int64_t row = 0; row < rows; row++) {
        while (a->offset != NULL && row >= a->offset[group + 1])
            group++;
        for (int64_t n = 0; n < s->n; n++) {
            const int64_t from = a->x_rows != NULL ? a->x_rows[row] : row;
            double size, sum = dot(s, x + from * s->k, w + group * s->n * s->k, n, &size);
            const double b = (double)a->bias[group * s->n + n];
            const double want = s->act == EMB_CUDA_ACT_RELU && sum + b < 0 ? 0 : sum + b;
            const double most = unit * (size + fabs(b)) + 2e-6 * fabs(sum + b) + 1e-7;
            const double error = fabs(cuda_at(a->y, EMBED_F32, (size_t)(row * s->n + n)) - want);
            worst = fmax(worst, isnan(error) ? INFINITY : error / most);
        }
    }
    return worst;
}

static void run_shape(const struct shape *s) {
    uint64_t seed = (uint64_t)(s->m + s->n * 3 + s->k * 7);
    const int64_t groups = s->groups > 0 ? s->groups : 1;
    const size_t xn = (size_t)(s->m * s->k), wn = (size_t)(groups * s->n * s->k);
    int32_t offset[8] = {0}, x_rows[64];
    int64_t rows = s->m;
    for (int g = 0; g < s->groups; g++)
        offset[g + 1] = (int32_t)(rows = offset[g] + 3 * g);
    for (int i = 0; i < 64; i++)
        x_rows[i] = (int32_t)((uint64_t)(i * 5) % (uint64_t)s->m);
    double *x = cuda_doubles(xn), *w = cuda_doubles(wn);
    emb_cuda_gemm_args a = {
        .x = cuda_normals(&seed, xn, 1.0, EMBED_F32, x),
        .w = cuda_normals(&seed, wn, 1.0, EMBED_F32, w),
        .bias = cuda_normals(&seed, (size_t)(groups * s->n), 1.0, EMBED_F32, NULL),
        .x_rows = s->groups > 0 ? cuda_copy(x_rows, sizeof x_rows) : NULL,
        .offset = s->groups > 0 ? cuda_copy(offset, sizeof offset) : NULL,
        .m = s->groups > 0 ? rows + 4 : rows,
        .n = s->n,
        .k = s->k,
        .ldx = s->k,
        .ldy = s->n,
        .groups = s->groups,
        .layout = s->layout,
        .dtype = EMBED_F32,
        .act = s->act,
        .tf32 = 1,
    };
    const size_t bytes = (size_t)(rows * s->n) * sizeof(float);
    void *first = NULL;
    if (s->shifted) {
        a.x = cuda_shifted(a.x, xn, EMBED_F32);
        a.w = cuda_shifted(a.w, wn, EMBED_F32);
    }
    for (uint64_t order = 0; order < CUDA_SEEDS; order++) {
        a.y = cuda_output(bytes);
        emb_emulation_seed(order);
        cuda_worked("gemm", emb_cuda_gemm(cuda_exec(), &a));
        if (first != NULL)
            cuda_same("gemm in another order of threads", first, a.y, bytes);
        first = a.y;
    }
    const double worst = check(s, &a, x, w, rows);
    if (!(worst <= 1))
        fail_msg("%dx%dx%d: %g of the bound", (int)s->m, (int)s->n, (int)s->k, worst);
    a.tf32 = 0;
    a.y = cuda_output(bytes);
    cuda_worked("without", emb_cuda_gemm(cuda_exec(), &a));
    if (s->k > 60 && s->act == EMB_CUDA_ACT_NONE)
        assert_true(check(s, &a, x, w, rows) < worst / 20); /* it was tf32 indeed */
    cuda_case_end();
}

static void products_are_within_the_bound(void **state) {
    static const struct shape shapes[] = {
        {1, 1, 1, EMB_CUDA_NT, EMB_CUDA_ACT_NONE, 0, 0},
        {15, 31, 33, EMB_CUDA_NT, EMB_CUDA_ACT_NONE, 0, 0},
        {16, 32, 64, EMB_CUDA_NN, EMB_CUDA_ACT_NONE, 0, 0},
        {17, 40, 136, EMB_CUDA_NN, EMB_CUDA_ACT_RELU, 0, 1},
        {129, 67, 71, EMB_CUDA_NT, EMB_CUDA_ACT_NONE, 0, 1},
        {127, 72, 96, EMB_CUDA_NT, EMB_CUDA_ACT_NONE, 0, 0},
        {131, 65, 100, EMB_CUDA_NN, EMB_CUDA_ACT_NONE, 0, 0},
        {9, 40, 72, EMB_CUDA_NT, EMB_CUDA_ACT_NONE, 4, 0},
        {9, 33, 72, EMB_CUDA_NN, EMB_CUDA_ACT_NONE, 6, 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        run_shape(&shapes[i]);
}

/* Neither the rows around it nor the size of the tile matter, nor rows beyond the count. */
static void a_row_is_the_same_in_every_product(void **state) {
    enum { M = 140, N = 72, K = 104 };
    static const int64_t rooms[] = {M, 300, 20, 1};
    uint64_t seed = 12;
    void *first = NULL;
    (void)state;
    emb_cuda_gemm_args a = {.x = cuda_normals(&seed, M * K, 1.0, EMBED_F32, NULL),
                            .w = cuda_normals(&seed, N * K, 1.0, EMBED_F32, NULL),
                            .n = N,
                            .k = K,
                            .ldx = K,
                            .ldy = N,
                            .dtype = EMBED_F32,
                            .act = EMB_CUDA_ACT_GELU,
                            .tf32 = 1};
    for (size_t i = 0; i < sizeof rooms / sizeof *rooms; i++) {
        const int32_t rows = rooms[i] < M ? (int32_t)rooms[i] : M;
        a.m = rooms[i];
        a.count = cuda_copy(&rows, sizeof rows);
        a.y = cuda_output((size_t)rows * N * sizeof(float));
        cuda_worked("gemm", emb_cuda_gemm(cuda_exec(), &a));
        if (first != NULL)
            cuda_same("rows of another product", first, a.y, (size_t)rows * N * sizeof(float));
        first = first != NULL ? first : a.y;
    }
    cuda_case_end();
}

/* What is no number stays so, and infinities stay infinite. */
static void no_numbers(void **state) {
    (void)state;
    const float x[3] = {NAN, INFINITY, 0x1.fffffep+127f}, w[1] = {1};
    float *y = cuda_output(3 * sizeof *y);
    const emb_cuda_gemm_args a = {.x = cuda_copy(x, sizeof x),
                                  .w = cuda_copy(w, sizeof w),
                                  .y = y,
                                  .m = 3,
                                  .n = 1,
                                  .k = 1,
                                  .ldx = 1,
                                  .ldy = 1,
                                  .dtype = EMBED_F32,
                                  .tf32 = 1};
    cuda_worked("gemm", emb_cuda_gemm(cuda_exec(), &a));
    assert_true(isnan(y[0]));
    assert_true(y[1] == INFINITY);
    assert_true(y[2] > 1e38f); /* rounded up, it is infinite */
    cuda_case_end();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_within_the_bound),
        cmocka_unit_test(a_row_is_the_same_in_every_product),
        cmocka_unit_test(no_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
