#include "cuda/cuda_case.h"

#include "kernels/activation/activation_cuda.h"
#include "kernels/gemm/gemm_cuda.h"

struct shape {
    int64_t tokens, dim;
    int bias, mul, shifted;
    int32_t act;
};

/* The reference: the textbook formulas in double. */
static double exact(int32_t act, double x) {
    switch (act) {
    case EMB_CUDA_ACT_GELU:
        return 0.5 * x * (1 + erf(x / sqrt(2)));
    case EMB_CUDA_ACT_GELU_TANH:
        return 0.5 * x * (1 + tanh(sqrt(2 / acos(-1.0)) * (x + 0.044715 * x * x * x)));
    case EMB_CUDA_ACT_RELU:
        return x > 0 ? x : 0;
    case EMB_CUDA_ACT_SILU:
        return x / (1 + exp(-x));
    case EMB_CUDA_ACT_SIGMOID:
        return 1 / (1 + exp(-x));
    case EMB_CUDA_ACT_TANH:
        return tanh(x);
    default:
        return x;
    }
}

static void run_shape(const struct shape *s, int32_t dtype) {
    uint64_t seed = (uint64_t)(s->tokens * 8191 + s->dim + s->act);
    const size_t n = (size_t)(s->tokens * s->dim), dim = (size_t)s->dim, size = cuda_size(dtype);
    double *x = cuda_doubles(n), *mul = cuda_doubles(n), *bias = cuda_doubles(dim);
    emb_cuda_activation_args a = {
        .x = cuda_normals(&seed, n, 3.0, dtype, x),
        .bias = cuda_normals(&seed, dim, 1.0, EMBED_F32, bias),
        .mul = cuda_normals(&seed, n, 1.0, dtype, mul),
        .tokens = s->tokens,
        .dim = s->dim,
        .dtype = dtype,
        .act = s->act,
    };
    const void *first = NULL;
    double bound = 0;
    for (size_t i = 0; i < n; i++) {
        const double b = s->bias ? bias[i % dim] : 0, m = s->mul ? mul[i] : 1;
        const double sum = x[i] + b;
        bound =
            fmax(bound, (2e-6 * fmax(fabs(sum), 1) + 0x1.3p-24 * (fabs(x[i]) + fabs(b))) * fabs(m));
        x[i] = exact(s->act, sum) * m;
    }
    if (s->shifted) {
        a.x = cuda_shifted(a.x, n, dtype);
        a.bias = cuda_shifted(a.bias, dim, EMBED_F32);
    }
    if (!s->bias)
        a.bias = NULL;
    if (!s->mul)
        a.mul = NULL;
    for (uint64_t order = 0; order < CUDA_SEEDS; order++) {
        a.y = cuda_output(n * size);
        emb_emulation_seed(order);
        cuda_worked("activation", emb_cuda_activation(cuda_exec(), &a));
        cuda_close("activation", a.y, dtype, x, n, bound + cuda_least(dtype),
                   cuda_rounding(dtype) * 1.01);
        if (first != NULL)
            cuda_same("activation in another order of threads", first, a.y, n * size);
        first = a.y;
    }
    cuda_case_end();
}

static void all_functions(void **state) {
    (void)state;
    for (int d = 0; d < CUDA_DTYPES; d++)
        for (int32_t act = EMB_CUDA_ACT_NONE; act <= EMB_CUDA_ACT_TANH; act++)
            run_shape(&(struct shape){5, 72, act % 2, act % 3 == 0, 0, act}, cuda_dtypes[d]);
}

static void all_widths(void **state) {
    static const int64_t dims[] = {1, 7, 8, 9, 1023, 1024, 1025, 1032, 2049, 3072};
    (void)state;
    for (int d = 0; d < CUDA_DTYPES; d++)
        for (size_t i = 0; i < sizeof dims / sizeof *dims; i++)
            run_shape(&(struct shape){1 + (int64_t)i, dims[i], 1, i % 3 == 1, i % 4 == 3,
                                      EMB_CUDA_ACT_GELU},
                      cuda_dtypes[d]);
}

static void in_place_and_beyond_the_count(void **state) {
    enum { ROWS = 9, DIM = 40 };
    uint64_t seed = 5;
    const int32_t counts[] = {0, 1, 4, 7, ROWS, 100};
    (void)state;
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        emb_cuda_activation_args a = {.x = cuda_normals(&seed, ROWS * DIM, 1.0, EMBED_BF16, NULL),
                                      .bias = cuda_normals(&seed, DIM, 1.0, EMBED_F32, NULL),
                                      .mul = cuda_normals(&seed, ROWS * DIM, 1.0, EMBED_BF16, NULL),
                                      .y = cuda_output(ROWS * DIM * 2),
                                      .tokens = ROWS,
                                      .dim = DIM,
                                      .dtype = EMBED_BF16,
                                      .act = EMB_CUDA_ACT_GELU};
        const size_t there = (size_t)(counts[i] < ROWS ? counts[i] : ROWS) * DIM;
        unsigned char *over_x = cuda_copy(a.x, ROWS * DIM * 2),
                      *over_mul = cuda_copy(a.mul, ROWS * DIM * 2);
        void *whole = a.y;
        cuda_worked("activation", emb_cuda_activation(cuda_exec(), &a));
        a.count = cuda_copy(&counts[i], sizeof counts[i]);
        emb_cuda_activation_args b = a;
        b.x = b.y = over_x;
        cuda_worked("activation", emb_cuda_activation(cuda_exec(), &b));
        cuda_same("y over x", over_x, whole, there * 2);
        cuda_same("rows of x beyond the count", over_x + there * 2, (const char *)a.x + there * 2,
                  (ROWS * DIM - there) * 2);
        b = a;
        b.mul = b.y = over_mul;
        cuda_worked("activation", emb_cuda_activation(cuda_exec(), &b));
        cuda_same("y over mul", over_mul, whole, there * 2);
        cuda_case_end();
    }
}

static void limits_are_refused_and_nothing_is_launched_for_nothing(void **state) {
    emb_cuda_activation_args a = {.tokens = 0, .dim = 8, .dtype = EMBED_F16};
    const uint64_t before = emb_emulation_launches();
    (void)state;
    cuda_worked("no rows", emb_cuda_activation(cuda_exec(), &a));
    a.tokens = 1;
    a.dim = ((int64_t)1 << 20) + 1;
    assert_int_equal(emb_cuda_activation(cuda_exec(), &a), EMBED_ERR_INTERNAL);
    a.dim = 8;
    a.dtype = EMBED_I8;
    emb_cuda_exec *exec = cuda_exec();
    assert_int_equal(emb_cuda_activation(exec, &a), EMBED_ERR_INTERNAL);
    assert_string_equal(exec->failed, "activation: dtype");
    assert_true(emb_emulation_launches() == before);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_functions),
        cmocka_unit_test(all_widths),
        cmocka_unit_test(in_place_and_beyond_the_count),
        cmocka_unit_test(limits_are_refused_and_nothing_is_launched_for_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
