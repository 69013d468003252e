/* attention_rows: rotary positions and softmax, row by row. */
#ifndef EMB_KERNELS_ATTENTION_ROWS_H
#define EMB_KERNELS_ATTENTION_ROWS_H

#include <math.h>

#include "kernels/simd.h"

static inline void copy_row(float *dst, const float *src, int64_t n) {
    int64_t i = 0;
    for (; i + EMB_LANES <= n; i += EMB_LANES)
        v_store(dst + i, v_load(src + i));
    if (i < n)
        v_store_n(dst + i, v_load_n(src + i, n - i), n - i);
}

/* (a, b) -> (a cos - b sin, b cos + a sin): RoFormer eq. 34 with halves paired. */
static inline void rotate_row(float *dst, const float *src, int64_t half, const float *cos,
                              const float *sin) {
    int64_t i = 0;
    for (; i + EMB_LANES <= half; i += EMB_LANES) {
        const emb_v a = v_load(src + i), b = v_load(src + half + i);
        const emb_v c = v_load(cos + i), s = v_load(sin + i);
        v_store(dst + i, v_fnma(b, s, v_mul(a, c)));
        v_store(dst + half + i, v_fma(a, s, v_mul(b, c)));
    }
    const int64_t n = half - i;
    if (n > 0) {
        const emb_v a = v_load_n(src + i, n), b = v_load_n(src + half + i, n);
        const emb_v c = v_load_n(cos + i, n), s = v_load_n(sin + i, n);
        v_store_n(dst + i, v_fnma(b, s, v_mul(a, c)), n);
        v_store_n(dst + half + i, v_fma(a, s, v_mul(b, c)), n);
    }
}

static void rotate_rows(float *dst, int64_t ldd, const float *src, int64_t lds, int64_t rows,
                        int64_t dim, int64_t rotary_dim, const float *cos, const float *sin) {
    const int64_t half = rotary_dim / 2;
    for (int64_t t = 0; t < rows; t++) {
        if (half > 0)
            rotate_row(dst + t * ldd, src + t * lds, half, cos + t * half, sin + t * half);
        copy_row(dst + t * ldd + 2 * half, src + t * lds + 2 * half, dim - 2 * half);
    }
}

static inline emb_v max_row(const float *s, int64_t n) {
    const emb_v least = v_set1(-INFINITY);
    emb_v max = least;
    int64_t i = 0;
    for (; i + EMB_LANES <= n; i += EMB_LANES)
        max = v_max(max, v_load(s + i));
    return i < n ? v_max(max, v_head(v_load_n(s + i, n - i), n - i, least)) : max;
}

/* exp((s - max) * scale) as 2^(s c - max c), c = scale log2(e): what rounding max c leaves is a
 * common factor of the row and so of its sum. */
static void exponential_rows(float *s, int64_t lds, int64_t rows, int64_t n, float scale,
                             float *sum) {
    const float c = scale * 1.44269504088896341f;
    const emb_v factor = v_set1(c);
    for (int64_t t = 0; t < rows; t++, s += lds) {
        const emb_v shift = v_set1(-(v_hmax(max_row(s, n)) * c));
        emb_v total = v_set1(0.0f);
        int64_t i = 0;
        for (; i + EMB_LANES <= n; i += EMB_LANES) {
            const emb_v e = v_exp2_floored(v_fma(v_load(s + i), factor, shift));
            v_store(s + i, e);
            total = v_add(total, e);
        }
        if (i < n) {
            const emb_v e = v_exp2_floored(v_fma(v_load_n(s + i, n - i), factor, shift));
            v_store_n(s + i, e, n - i);
            total = v_add(total, v_head(e, n - i, v_set1(0.0f)));
        }
        sum[t] = v_sum(total);
    }
}

static void divide_rows(float *x, int64_t ldx, int64_t rows, int64_t n, const float *sum) {
    for (int64_t t = 0; t < rows; t++, x += ldx) {
        const emb_v d = v_set1(sum[t]);
        int64_t i = 0;
        for (; i + EMB_LANES <= n; i += EMB_LANES)
            v_store(x + i, v_div(v_load(x + i), d));
        if (i < n)
            v_store_n(x + i, v_div(v_load_n(x + i, n - i), d), n - i);
    }
}

#endif
