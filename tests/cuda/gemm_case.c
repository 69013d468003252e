#include "cuda/gemm_case.h"

#include "kernels/cuda/cuda_emulation.h"
#include "kernels/gemm/gemm.h"

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

static int64_t stride_of(const gemm_case *s) {
    return s->lda > 0 ? s->lda : s->k;
}

static void reference(const gemm_case *s, const struct product *p, int32_t dtype, int64_t row,
                      int group, double *want, double *bound) {
    const double *x = p->x + (p->x_rows != NULL ? p->x_rows[row] : row) * stride_of(s);
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

static void check(const gemm_case *s, const struct product *p, const void *y, int32_t dtype) {
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

static void group_rows(const gemm_case *s, struct product *p, uint64_t *seed) {
    p->offset = cuda_output((size_t)(s->groups + 1) * sizeof(int32_t));
    p->offset[0] = 0;
    for (int g = 0; g < s->groups; g++)
        p->offset[g + 1] = p->offset[g] + s->sizes[g];
    p->rows = p->offset[s->groups];
    if (s->plain)
        return;
    p->x_rows = cuda_output((size_t)p->rows * sizeof(int32_t));
    for (int64_t i = 0; i < p->rows; i++)
        p->x_rows[i] = (int32_t)(test_rand(seed) % (uint64_t)s->m);
}

emb_cuda_exec *gemm_case_exec(const gemm_case *s) {
    emb_cuda_exec *exec = cuda_exec();
    if (s->processors > 0)
        exec->processors = s->processors;
    if (s->sm90) {
        exec->arch = 90;
        exec->shared_bytes = 227 << 10;
        exec->tensor_maps = emb_emulation_tensor_maps;
    }
    return exec;
}

void gemm_case_run(const gemm_case *s, int32_t dtype, gemm_case_op op) {
    uint64_t seed = (uint64_t)(s->m * 131 + s->n * 17 + s->k);
    struct product p = {.rows = s->m};
    const int groups = s->groups > 0 ? s->groups : 1;
    if (s->groups > 0)
        group_rows(s, &p, &seed);
    const size_t xn = (size_t)(s->m * stride_of(s)), wn = (size_t)(groups * s->n * s->k);
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
        .ldx = stride_of(s),
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
        emb_cuda_exec *exec = gemm_case_exec(s);
        a.y = cuda_output(bytes);
        emb_emulation_seed(order);
        cuda_worked("gemm", op(exec, &a));
        if (first == NULL)
            check(s, &p, a.y, dtype);
        else
            cuda_same("gemm in another order of threads", first, a.y, bytes);
        first = a.y;
    }
    cuda_case_end();
}
