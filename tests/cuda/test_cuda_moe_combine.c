#include "cuda/cuda_case.h"

#include "kernels/moe_combine/moe_combine_cuda.h"

struct shape {
    int64_t tokens, dim;
    int32_t top_k;
    int bias, residual, norm, shifted;
};

static void reference(const struct shape *s, const int32_t *slot, const double *o,
                      const double *gate, const double *bias, const double *x, const double *gamma,
                      const double *beta, double *y, double *bound) {
    for (int64_t t = 0; t < s->tokens; t++) {
        double *row = y + t * s->dim, mean = 0, variance = 0, greatest = 0, gain = 0;
        for (int64_t i = 0; i < s->dim; i++) {
            double size = 0;
            row[i] = 0;
            for (int32_t j = 0; j < s->top_k; j++) {
                const int64_t pair = t * s->top_k + j;
                row[i] += gate[pair] * o[slot[pair] * s->dim + i];
                size += fabs(gate[pair] * o[slot[pair] * s->dim + i]);
            }
            row[i] += (s->bias ? bias[i] : 0) + (s->residual ? x[t * s->dim + i] : 0);
            size += fabs(bias[i]) + fabs(x[t * s->dim + i]);
            mean += row[i] / (double)s->dim;
            greatest = fmax(greatest, size);
            gain = fmax(gain, fabs(gamma[i]));
        }
        for (int64_t i = 0; i < s->dim; i++)
            variance += (row[i] - mean) * (row[i] - mean) / (double)s->dim;
        bound[t] =
            (1e-6 + s->top_k * 0x1p-24) * greatest * (s->norm ? gain / sqrt(variance + 1e-5) : 1);
        for (int64_t i = 0; i < s->dim && s->norm; i++)
            row[i] = (row[i] - mean) / sqrt(variance + 1e-5) * gamma[i] + beta[i];
    }
}

static void run_shape(const struct shape *s, int32_t dtype) {
    uint64_t seed = (uint64_t)(s->tokens * 100 + s->dim);
    const size_t n = (size_t)(s->tokens * s->dim), dim = (size_t)s->dim;
    const size_t pairs = (size_t)(s->tokens * s->top_k), bytes = n * cuda_size(dtype);
    double *o = cuda_doubles(pairs * dim), *gate = cuda_doubles(pairs), *bias = cuda_doubles(dim);
    double *x = cuda_doubles(n), *gamma = cuda_doubles(dim), *beta = cuda_doubles(dim);
    double *y = cuda_doubles(n), *bound = cuda_doubles((size_t)s->tokens);
    int32_t *slot = cuda_output(pairs * sizeof *slot);
    void *first = NULL;
    for (size_t i = 0; i < pairs;
         i++) /* a permutation: 7 and the number of pairs share no factor */
        slot[i] = (int32_t)((7 * i + 3) % pairs);
    emb_cuda_moe_combine_args a = {
        .o = cuda_normals(&seed, pairs * dim, 1.0, dtype, o),
        .x = cuda_normals(&seed, n, 1.0, dtype, x),
        .gate = cuda_normals(&seed, pairs, 0.5, EMBED_F32, gate),
        .bias = cuda_normals(&seed, dim, 1.0, EMBED_F32, bias),
        .gamma = cuda_normals(&seed, dim, 1.0, EMBED_F32, gamma),
        .beta = cuda_normals(&seed, dim, 1.0, EMBED_F32, beta),
        .slot = slot,
        .tokens = s->tokens,
        .dim = s->dim,
        .dtype = dtype,
        .top_k = s->top_k,
        .eps = 1e-5f,
    };
    reference(s, slot, o, gate, bias, x, gamma, beta, y, bound);
    if (s->shifted)
        a.o = cuda_shifted(a.o, pairs * dim, dtype);
    if (!s->bias)
        a.bias = NULL;
    if (!s->residual)
        a.x = NULL;
    if (!s->norm)
        a.gamma = NULL;
    for (uint64_t order = 0; order < CUDA_SEEDS; order++) {
        a.y = cuda_output(bytes);
        emb_emulation_seed(order);
        cuda_worked("moe_combine", emb_cuda_moe_combine(cuda_exec(), &a));
        for (int64_t t = 0; t < s->tokens; t++)
            cuda_close("moe_combine", (char *)a.y + (size_t)t * dim * cuda_size(dtype), dtype,
                       y + t * s->dim, dim, bound[t] + cuda_least(dtype),
                       cuda_rounding(dtype) * 1.01);
        if (first != NULL)
            cuda_same("moe_combine in another order of threads", first, a.y, bytes);
        first = a.y;
    }
    cuda_case_end();
}

static void rows_agree_with_double(void **state) {
    static const struct shape shapes[] = {
        {1, 1, 1, 0, 0, 0, 0},    {5, 768, 2, 1, 1, 1, 0},  {4, 257, 3, 1, 0, 1, 1},
        {9, 40, 4, 0, 1, 1, 0},   {2, 1032, 2, 1, 1, 1, 0}, {3, 24, 8, 1, 1, 0, 0},
        {13, 512, 1, 1, 1, 1, 1},
    };
    (void)state;
    for (int d = 0; d < CUDA_DTYPES; d++)
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
            run_shape(&shapes[i], cuda_dtypes[d]);
}

static void nothing_is_launched_for_nothing(void **state) {
    const uint64_t before = emb_emulation_launches();
    (void)state;
    cuda_worked("no rows", emb_cuda_moe_combine(cuda_exec(), &(emb_cuda_moe_combine_args){
                                                                 .dim = 8, .dtype = EMBED_F16}));
    assert_true(emb_emulation_launches() == before);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_agree_with_double),
        cmocka_unit_test(nothing_is_launched_for_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
