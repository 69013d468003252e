#include "support/test.h"

#include "base/dtype.h"
#include "kernels/isa.h"
#include "support/simd_map.h"

static size_t list_maps(const simd_map *maps[EMB_ISA_MAX]) {
    const emb_isa *isas[EMB_ISA_MAX];
    const size_t n = emb_isa_list(isas);
    for (size_t i = 0; i < n; i++) {
        maps[i] = &simd_map_portable;
#if defined(__x86_64__)
        if (isas[i]->id == EMBED_ISA_AVX2)
            maps[i] = &simd_map_avx2;
        if (isas[i]->id == EMBED_ISA_AVX512)
            maps[i] = &simd_map_avx512;
#endif
    }
    return n;
}

static int same_bits(const float *a, const float *b, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (memcmp(&a[i], &b[i], 4) != 0 && !(isnan(a[i]) && isnan(b[i])))
            return 0;
    return 1;
}

static float from_bits(uint32_t u) {
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

/* Every sign and exponent with 128 mantissas each (first, last and random), then a dense range. */
enum { PER_EXPONENT = 128, DENSE = 1 << 18, SWEEP = 512 * PER_EXPONENT + DENSE };

static float *make_sweep(void) {
    float *x = malloc(SWEEP * sizeof *x);
    uint64_t seed = 7;
    assert_non_null(x);
    for (uint32_t e = 0; e < 512; e++)
        for (uint32_t i = 0; i < PER_EXPONENT; i++) {
            uint32_t m = (uint32_t)test_rand(&seed) & 0x7fffffu;
            m = i == 0 ? 0 : i == 1 ? 0x7fffffu : i == 2 ? 0x400000u : m;
            x[e * PER_EXPONENT + i] = from_bits(e << 23 | m);
        }
    for (int i = 0; i < DENSE; i++)
        x[512 * PER_EXPONENT + i] = (float)(-20.0 + 40.0 * test_uniform(&seed));
    return x;
}

/* Error in units in the last place of the true value (of the subnormals below 2^-126). */
static double ulps(float got, double want) {
    int e;
    if (isnan(want))
        return isnan(got) ? 0.0 : INFINITY;
    if (fabs(want) >= 0x1.ffffffp127) /* rounds to infinity */
        return got == (want > 0 ? INFINITY : -INFINITY) ? 0.0 : INFINITY;
    (void)frexp(want, &e);
    return fabs((double)got - want) / ldexp(1.0, (e > -125 ? e : -125) - 24);
}

typedef struct expected {
    const char *name;
    double (*reference)(double x);
    double ulps; /* tolerance: ulps, or absolute error atol * max(1, |x|), whichever allows */
    double atol;
} expected;

static double ref_sigmoid(double x) {
    return x < 0 ? exp(x) / (1 + exp(x)) : 1 / (1 + exp(-x));
}
static double ref_silu(double x) {
    return isinf(x) && x < 0 ? -0.0 : x * ref_sigmoid(x);
}
static double ref_gelu_tanh(double x) {
    if (isinf(x))
        return x < 0 ? -0.0 : x;
    return x * ref_sigmoid(2 * sqrt(2 / acos(-1.0)) * (x + 0.044715 * x * x * x));
}
static double ref_tail(double x) {
    return 0.5 * erfc(x * sqrt(0.5));
}
static double ref_gelu(double x) {
    return isinf(x) && x < 0 ? -0.0 : 0.5 * x * erfc(-x * sqrt(0.5));
}

static double ref_exp2(double x) {
    return x < -125 ? 0x1p-125 : exp2(x);
}

static const expected table[SIMD_FUNCTIONS] = {
    [SIMD_EXP] = {"exp", exp, 1.0, 0},
    [SIMD_SIGMOID] = {"sigmoid", ref_sigmoid, 2.5, 0},
    [SIMD_SILU] = {"silu", ref_silu, 3.5, 1e-37},
    [SIMD_GELU_TANH] = {"gelu_tanh", ref_gelu_tanh, 3.5, 1e-7},
    [SIMD_TANH] = {"tanh", tanh, 2.0, 0},
    [SIMD_NORMAL_TAIL] = {"normal_tail", ref_tail, 16, 1e-8},
    [SIMD_GELU] = {"gelu", ref_gelu, 3, 6e-8},
    [SIMD_SQRT] = {"sqrt", sqrt, 0.5, 0},
    [SIMD_EXP2] = {"exp2", ref_exp2, 1.25, 0},
};

static void functions_agree_with_double_and_between_isas(void **state) {
    (void)state;
    const simd_map *maps[EMB_ISA_MAX];
    const size_t n_maps = list_maps(maps);
    float *x = make_sweep();
    float *y = malloc(SWEEP * sizeof *y), *z = malloc(SWEEP * sizeof *z);
    assert_true(y != NULL && z != NULL);
    for (int f = 0; f < SIMD_FUNCTIONS; f++) {
        if (f == SIMD_NORMAL_TAIL)
            for (int i = 0; i < SWEEP; i++)
                x[i] = fabsf(x[i]) <= 14.5f ? fabsf(x[i]) : 0.5f;
        for (int i = 0; i < SWEEP && f == SIMD_EXP2; i++)
            x[i] = x[i] > 1.0f ? -x[i] : x[i];
        maps[0]->map(f, y, x, SWEEP);
        double worst = 0;
        for (int i = 0; i < SWEEP; i++) {
            const double want = table[f].reference((double)x[i]);
            const double u = ulps(y[i], want),
                         scale = fabs((double)x[i]) > 1 ? fabs((double)x[i]) : 1;
            if (u > worst && fabs((double)x[i]) < 5)
                worst = u;
            if (!(u <= table[f].ulps) && !(fabs((double)y[i] - want) <= table[f].atol * scale))
                fail_msg("%s(%.9g): got %.9g, want %.17g, %.3g ulp", table[f].name, (double)x[i],
                         (double)y[i], want, u);
        }
        print_message("%s: worst %.3f ulp for |x| < 5\n", table[f].name, worst);
        for (size_t m = 1; m < n_maps; m++) {
            maps[m]->map(f, z, x, SWEEP);
            if (!same_bits(y, z, SWEEP))
                fail_msg("%s: implementation %zu differs from portable", table[f].name, m);
        }
        if (f == SIMD_NORMAL_TAIL) {
            free(x);
            x = make_sweep();
        }
    }
    free(x);
    free(y);
    free(z);
}

static void the_gelu_of_large_numbers_has_its_limits(void **state) {
    (void)state;
    const float x[5] = {-INFINITY, INFINITY, -3e38f, 3e38f, NAN};
    const int functions[] = {SIMD_SILU, SIMD_GELU_TANH, SIMD_GELU};
    const simd_map *maps[EMB_ISA_MAX];
    const size_t n_maps = list_maps(maps);
    for (size_t m = 0; m < n_maps; m++)
        for (size_t f = 0; f < 3; f++) {
            float y[5] = {1, 1, 1, 1, 1};
            maps[m]->map(functions[f], y, x, 5);
            assert_true(y[0] == 0.0f && y[1] == INFINITY && y[2] == 0.0f && y[3] == x[3]);
            assert_true(isnan(y[4]));
        }
}

/* Reference: the same operation on one float. */
static float scalar(int op, float a, float b) {
    switch (op) {
    case 0:
        return a + b;
    case 1:
        return a - b;
    case 2:
        return a * b;
    case 3:
        return a / b;
    case 4:
        return a < b ? a : b;
    case 5:
        return a > b ? a : b;
    case 6:
        return copysignf(a, b);
    case 7:
        return fmaf(a, b, a);
    case 8:
        return fmaf(-a, b, a);
    default:
        return a < b ? 1.0f : a;
    }
}

static void each_lane_is_one_ieee_operation(void **state) {
    (void)state;
    enum { N = 16 * 64 };
    const simd_map *maps[EMB_ISA_MAX];
    const size_t n_maps = list_maps(maps);
    const float special[] = {0.0f, -0.0f, 1.0f, -1.0f, INFINITY, -INFINITY, NAN, 0x1p-140f};
    float *a = malloc(N * 4), *b = malloc(N * 4), *y = malloc(N * 4), *want = malloc(N * 4);
    uint64_t seed = 11;
    assert_true(a != NULL && b != NULL && y != NULL && want != NULL);
    for (int i = 0; i < N; i++) {
        a[i] = i < 64 ? special[i / 8] : from_bits((uint32_t)test_rand(&seed));
        b[i] = i < 64 ? special[i % 8] : i % 5 == 0 ? a[i] : from_bits((uint32_t)test_rand(&seed));
    }
    for (int op = 0; op < SIMD_BINARY; op++) {
        for (int i = 0; i < N; i++)
            want[i] = scalar(op, a[i], b[i]);
        for (size_t m = 0; m < n_maps; m++) {
            maps[m]->binary(op, y, a, b, N);
            if (!same_bits(y, want, N))
                fail_msg("operation %d of implementation %zu", op, m);
        }
    }
    free(a);
    free(b);
    free(y);
    free(want);
}

static void folds_have_the_canonical_order(void **state) {
    (void)state;
    const simd_map *maps[EMB_ISA_MAX];
    const size_t n_maps = list_maps(maps);
    uint64_t seed = 3;
    for (int round = 0; round < 1000; round++) {
        float x[16], lane[16], greatest = -INFINITY;
        for (int i = 0; i < 16; i++) {
            lane[i] = x[i] = (float)(test_normal(&seed) * ldexp(1.0, (int)(test_rand(&seed) % 20)));
            greatest = x[i] > greatest ? x[i] : greatest;
        }
        for (int half = 8; half > 0; half /= 2)
            for (int i = 0; i < half; i++)
                lane[i] += lane[i + half];
        for (size_t m = 0; m < n_maps; m++) {
            float sum, max;
            maps[m]->folds(x, &sum, &max);
            assert_true(sum == lane[0] && max == greatest);
        }
    }
}

/* Exact mallocs: a read past the end is caught by the address sanitizer, a write by the guard. */
static void tails_touch_nothing_outside(void **state) {
    (void)state;
    const simd_map *maps[EMB_ISA_MAX];
    const size_t n_maps = list_maps(maps);
    for (size_t m = 0; m < n_maps; m++)
        for (size_t n = 0; n <= 40; n++) {
            float *x = malloc(n * 4 + 1), *y = malloc((n + 16) * 4);
            assert_true(x != NULL && y != NULL);
            for (size_t i = 0; i < n; i++)
                x[i] = (float)i;
            memset(y, 0xa5, (n + 16) * 4);
            maps[m]->map(SIMD_SQRT, y, x, n);
            for (size_t i = 0; i < n; i++)
                assert_true(y[i] == sqrtf((float)i));
            for (size_t i = n * 4; i < (n + 16) * 4; i++)
                assert_int_equal(((unsigned char *)y)[i], 0xa5);
            free(x);
            free(y);
        }
}

static void weights_are_widened_exactly(void **state) {
    (void)state;
    enum { N = 65536 + 7 };
    const simd_map *maps[EMB_ISA_MAX];
    const size_t n_maps = list_maps(maps);
    unsigned char *block = malloc(N * 2 + 1); /* odd address: weights need no alignment */
    float *y = malloc(N * 4), *want = malloc(N * 4);
    assert_true(block != NULL && y != NULL && want != NULL);
    for (int i = 0; i < N; i++) {
        const uint16_t h = (uint16_t)i;
        memcpy(block + 1 + 2 * i, &h, 2);
    }
    for (size_t m = 0; m < n_maps; m++) {
        for (int i = 0; i < N; i++)
            want[i] = emb_f16_to_f32((uint16_t)i);
        maps[m]->widen(y, block + 1, EMBED_F16, N);
        assert_true(same_bits(y, want, N));
        for (int i = 0; i < N; i++)
            want[i] = emb_bf16_to_f32((uint16_t)i);
        maps[m]->widen(y, block + 1, EMBED_BF16, N);
        assert_true(same_bits(y, want, N));
        for (size_t n = 0; n <= 33; n++) { /* ends exactly at the end of the block */
            maps[m]->widen(y, block + 1 + 2 * (N - n), EMBED_BF16, n);
            assert_true(same_bits(y, want + N - n, n));
        }
    }
    free(block);
    free(y);
    free(want);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(functions_agree_with_double_and_between_isas),
        cmocka_unit_test(the_gelu_of_large_numbers_has_its_limits),
        cmocka_unit_test(each_lane_is_one_ieee_operation),
        cmocka_unit_test(folds_have_the_canonical_order),
        cmocka_unit_test(tails_touch_nothing_outside),
        cmocka_unit_test(weights_are_widened_exactly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
