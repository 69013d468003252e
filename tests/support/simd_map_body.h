/* simd_map_body: the functions behind one simd_map; included by one file per instruction set. */
#include "kernels/simd.h"
#include "support/simd_map.h"

static emb_v apply(int function, emb_v x) {
    switch (function) {
    case SIMD_EXP:
        return v_exp(x);
    case SIMD_SIGMOID:
        return v_sigmoid(x);
    case SIMD_SILU:
        return v_silu(x);
    case SIMD_GELU_TANH:
        return v_gelu_tanh(x);
    case SIMD_TANH:
        return v_tanh(x);
    case SIMD_NORMAL_TAIL:
        return v_normal_tail(x);
    case SIMD_GELU:
        return v_gelu(x);
    case SIMD_EXP2:
        return v_exp2_floored(x);
    default:
        return v_sqrt(x);
    }
}

static emb_v combine(int op, emb_v a, emb_v b) {
    switch (op) {
    case 0:
        return v_add(a, b);
    case 1:
        return v_sub(a, b);
    case 2:
        return v_mul(a, b);
    case 3:
        return v_div(a, b);
    case 4:
        return v_min(a, b);
    case 5:
        return v_max(a, b);
    case 6:
        return v_copysign(v_abs(a), b);
    case 7:
        return v_fma(a, b, a);
    case 8:
        return v_fnma(a, b, a);
    default:
        return v_select_lt(a, b, v_set1(1.0f), a);
    }
}

static void map(int function, float *y, const float *x, size_t n) {
    size_t i = 0;
    for (; i + EMB_LANES <= n; i += EMB_LANES)
        v_store(y + i, apply(function, v_load(x + i)));
    v_store_n(y + i, apply(function, v_load_n(x + i, (int64_t)(n - i))), (int64_t)(n - i));
}

static void binary(int op, float *y, const float *a, const float *b, size_t n) {
    size_t i = 0;
    for (; i + EMB_LANES <= n; i += EMB_LANES)
        v_store(y + i, combine(op, v_load(a + i), v_load(b + i)));
    const int64_t rest = (int64_t)(n - i);
    v_store_n(y + i, combine(op, v_load_n(a + i, rest), v_load_n(b + i, rest)), rest);
}

static void folds(const float x[16], float *sum, float *max) {
    *sum = v_sum(v_load(x));
    *max = v_hmax(v_load(x));
}

static void widen(float *y, const void *x, int32_t dtype, size_t n) {
    size_t i = 0;
    for (; i + EMB_LANES <= n; i += EMB_LANES)
        v_store(y + i, v_load_weight(x, dtype, (int64_t)i, EMB_LANES));
    const int64_t rest = (int64_t)(n - i);
    v_store_n(y + i, v_load_weight(x, dtype, (int64_t)i, rest), rest);
}
