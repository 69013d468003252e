#include "cuda/cuda_case.h"

#include "kernels/layernorm/layernorm_cuda.h"

struct shape {
    int64_t tokens, dim;
    int residual, beta, norm, shifted;
    int32_t experts;
};

/* y [T,D] in double and, in bound [T], what the norm makes of rounding in the row. */
static void reference(const struct shape *s, const double *x, const double *r, const double *gamma,
                      const double *beta, double eps, double *y, double *bound) {
    for (int64_t t = 0; t < s->tokens; t++) {
        double mean = 0, variance = 0, greatest = 0, gain = 0;
        double *row = y + t * s->dim;
        for (int64_t i = 0; i < s->dim; i++) {
            row[i] = x[t * s->dim + i] + (s->residual ? r[t * s->dim + i] : 0);
            mean += row[i] / (double)s->dim;
            greatest = fmax(greatest, fabs(row[i]));
            gain = fmax(gain, fabs(gamma[i]));
        }
        for (int64_t i = 0; i < s->dim; i++)
            variance += (row[i] - mean) * (row[i] - mean) / (double)s->dim;
        bound[t] = s->norm ? 1e-6 * gain * greatest / sqrt(variance + eps) : 2e-7 * greatest;
        for (int64_t i = 0; i < s->dim && s->norm; i++)
            row[i] = (row[i] - mean) / sqrt(variance + eps) * gamma[i] + (s->beta ? beta[i] : 0);
    }
}

static void check_logits(const struct shape *s, const void *y, int32_t dtype, const double *router,
                         const double *bias, const float *logits) {
    for (int64_t t = 0; t < s->tokens; t++)
        for (int32_t e = 0; e < s->experts; e++) {
            double want = bias[e], size = fabs(bias[e]);
            for (int64_t i = 0; i < s->dim; i++) {
                const double term =
                    cuda_at(y, dtype, (size_t)(t * s->dim + i)) * router[e * s->dim + i];
                want += term;
                size += fabs(term);
            }
            const double got = (double)logits[t * s->experts + e];
            if (!(fabs(got - want) <= ((double)s->dim / 32 + 10) * 0x1p-24 * size))
                fail_msg("logit of token %d, expert %d: %.9g, want %.9g", (int)t, (int)e, got,
                         want);
        }
}

static void run_shape(const struct shape *s, int32_t dtype) {
    uint64_t seed = (uint64_t)(s->tokens * 8191 + s->dim);
    const size_t n = (size_t)(s->tokens * s->dim), size = cuda_size(dtype);
    const size_t dim = (size_t)s->dim, experts = (size_t)s->experts;
    double *x = cuda_doubles(n), *r = cuda_doubles(n), *y = cuda_doubles(n);
    double *gamma = cuda_doubles(dim), *beta = cuda_doubles(dim);
    double *router = cuda_doubles(experts * dim), *bias = cuda_doubles(experts);
    double *bound = cuda_doubles((size_t)s->tokens);
    emb_cuda_layernorm_args a = {
        .x = cuda_normals(&seed, n, 2.0, dtype, x),
        .r = cuda_normals(&seed, n, 1.0, dtype, r),
        .gamma = cuda_normals(&seed, dim, 1.0, EMBED_F32, gamma),
        .beta = cuda_normals(&seed, dim, 0.5, EMBED_F32, beta),
        .router = cuda_normals(&seed, experts * dim, 0.1, EMBED_F32, router),
        .router_bias = cuda_normals(&seed, experts, 1.0, EMBED_F32, bias),
        .logits = cuda_output(experts * (size_t)s->tokens * sizeof(float)),
        .tokens = s->tokens,
        .dim = s->dim,
        .dtype = dtype,
        .experts = s->experts,
        .eps = 1e-5f,
    };
    void *first = NULL;
    reference(s, x, r, gamma, beta, (double)a.eps, y, bound);
    if (s->shifted) {
        a.x = cuda_shifted(a.x, n, dtype);
        a.gamma = cuda_shifted(a.gamma, dim, EMBED_F32);
    }
    if (!s->residual)
        a.r = NULL;
    if (!s->beta)
        a.beta = NULL;
    if (!s->norm)
        a.gamma = NULL;
    if (s->experts == 0)
        a.router = NULL;
    for (uint64_t order = 0; order < CUDA_SEEDS; order++) {
        a.y = cuda_output(n * size);
        emb_emulation_seed(order);
        cuda_worked("layernorm", emb_cuda_layernorm(cuda_exec(), &a));
        for (int64_t t = 0; t < s->tokens; t++)
            cuda_close("layernorm", (char *)a.y + (size_t)t * dim * size, dtype, y + t * s->dim,
                       dim, bound[t] + cuda_least(dtype), cuda_rounding(dtype) * 1.01);
        if (s->experts > 0)
            check_logits(s, a.y, dtype, router, bias, a.logits);
        if (first != NULL)
            cuda_same("layernorm in another order of threads", first, a.y, n * size);
        first = a.y;
    }
    cuda_case_end();
}

static void rows_agree_with_double(void **state) {
    static const int64_t dims[] = {1,   7,    8,    31,   255,  256,  257,
                                   768, 1021, 1024, 1025, 2048, 2056, 8192};
    (void)state;
    for (int d = 0; d < CUDA_DTYPES; d++)
        for (size_t i = 0; i < sizeof dims / sizeof *dims; i++) {
            const int64_t tokens = dims[i] > 1024 ? 2 : 1 + (int64_t)i % 6;
            run_shape(&(struct shape){tokens, dims[i], i % 2 == 0, i % 3 > 0, 1, i % 4 == 3, 0},
                      cuda_dtypes[d]);
        }
}

static void router_logits_are_of_the_stored_rows(void **state) {
    static const int32_t experts[] = {1, 8, 13, 64};
    (void)state;
    for (int d = 0; d < CUDA_DTYPES; d++)
        for (size_t i = 0; i < sizeof experts / sizeof *experts; i++)
            run_shape(
                &(struct shape){3, i == 2 ? 1048 : 96 + 5 * (int64_t)i, 1, 1, 1, 0, experts[i]},
                cuda_dtypes[d]);
}

static void without_norm_it_adds(void **state) {
    (void)state;
    for (int d = 0; d < CUDA_DTYPES; d++)
        run_shape(&(struct shape){5, 40, 1, 0, 0, 0, 0}, cuda_dtypes[d]);
}

static void rows_beyond_the_count_are_left_alone(void **state) {
    uint64_t seed = 5;
    const int32_t count = 3;
    unsigned char untouched[4 * 24];
    emb_cuda_layernorm_args a = {
        .x =
            cuda_normals(&seed, 3 * 24, 1.0, EMBED_F32, NULL), /* reading a fourth row is a fault */
        .gamma = cuda_normals(&seed, 24, 1.0, EMBED_F32, NULL),
        .y = cuda_output(7 * 24 * 4),
        .count = cuda_copy(&count, sizeof count),
        .tokens = 7,
        .dim = 24,
        .dtype = EMBED_F32,
    };
    (void)state;
    memset(untouched, 0xff, sizeof untouched);
    cuda_worked("layernorm", emb_cuda_layernorm(cuda_exec(), &a));
    assert_true(((float *)a.y)[3 * 24 - 1] == ((float *)a.y)[3 * 24 - 1]); /* a number */
    for (size_t t = 3; t < 7; t++)
        cuda_same("a row beyond the count", (float *)a.y + t * 24, untouched, sizeof untouched);
    cuda_case_end();
}

static void in_place(void **state) {
    uint64_t seed = 6;
    const size_t n = 5 * 264;
    emb_cuda_layernorm_args a = {.tokens = 5, .dim = 264, .dtype = EMBED_BF16, .eps = 1e-12f};
    (void)state;
    a.x = cuda_normals(&seed, n, 1.0, EMBED_BF16, NULL);
    a.r = cuda_normals(&seed, n, 1.0, EMBED_BF16, NULL);
    a.gamma = cuda_normals(&seed, 264, 1.0, EMBED_F32, NULL);
    void *apart = a.y = cuda_output(n * 2);
    cuda_worked("layernorm", emb_cuda_layernorm(cuda_exec(), &a));
    void *over_x = cuda_copy(a.x, n * 2), *over_r = cuda_copy(a.r, n * 2);
    emb_cuda_layernorm_args b = a;
    b.x = b.y = over_x;
    cuda_worked("layernorm", emb_cuda_layernorm(cuda_exec(), &b));
    cuda_same("y over x", apart, over_x, n * 2);
    b = a;
    b.r = b.y = over_r;
    cuda_worked("layernorm", emb_cuda_layernorm(cuda_exec(), &b));
    cuda_same("y over r", apart, over_r, n * 2);
    cuda_case_end();
}

static void limits_are_refused_and_nothing_is_launched_for_nothing(void **state) {
    emb_cuda_layernorm_args a = {.tokens = 0, .dim = 8, .dtype = EMBED_F16};
    const uint64_t before = emb_emulation_launches();
    (void)state;
    cuda_worked("no rows", emb_cuda_layernorm(cuda_exec(), &a));
    a.tokens = 1;
    a.dim = 8193;
    assert_int_equal(emb_cuda_layernorm(cuda_exec(), &a), EMBED_ERR_INTERNAL);
    a.dim = 8;
    a.dtype = EMBED_I8;
    emb_cuda_exec *exec = cuda_exec();
    assert_int_equal(emb_cuda_layernorm(exec, &a), EMBED_ERR_INTERNAL);
    assert_string_equal(exec->failed, "layernorm");
    assert_true(emb_emulation_launches() == before);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_agree_with_double),
        cmocka_unit_test(router_logits_are_of_the_stored_rows),
        cmocka_unit_test(without_norm_it_adds),
        cmocka_unit_test(rows_beyond_the_count_are_left_alone),
        cmocka_unit_test(in_place),
        cmocka_unit_test(limits_are_refused_and_nothing_is_launched_for_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
