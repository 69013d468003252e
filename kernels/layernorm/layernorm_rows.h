/* layernorm_rows: layer norm of one row, shared by layernorm and embed_lookup, and of many. */
#ifndef EMB_KERNELS_LAYERNORM_ROWS_H
#define EMB_KERNELS_LAYERNORM_ROWS_H

#include <math.h>

#include "kernels/layernorm/layernorm.h"
#include "kernels/simd.h"

/* y = (s - mean) * rstd * gamma + beta; s may be y; sum is the canonical sum of s by lanes. */
static inline void normalize_row(float *y, const float *s, emb_v sum, int64_t dim,
                                 const float *gamma, const float *beta, float eps) {
    const emb_v zero = v_set1(0.0f);
    const emb_v mean = v_set1(v_sum(sum) / (float)dim);
    const int64_t whole = dim / EMB_LANES * EMB_LANES, rest = dim - whole;
    emb_v squares = zero;
    int64_t i;
    for (i = 0; i < whole; i += EMB_LANES) {
        const emb_v d = v_sub(v_load(s + i), mean);
        squares = v_fma(d, d, squares);
    }
    if (rest > 0) {
        const emb_v d = v_head(v_sub(v_load_n(s + i, rest), mean), rest, zero);
        squares = v_fma(d, d, squares);
    }
    const emb_v rstd = v_set1(1.0f / sqrtf(v_sum(squares) / (float)dim + eps));
    for (i = 0; i < whole; i += EMB_LANES) {
        const emb_v d = v_mul(v_sub(v_load(s + i), mean), rstd);
        v_store(y + i, beta != NULL ? v_fma(d, v_load(gamma + i), v_load(beta + i))
                                    : v_mul(d, v_load(gamma + i)));
    }
    if (rest > 0) {
        const emb_v d = v_mul(v_sub(v_load_n(s + i, rest), mean), rstd);
        const emb_v g = v_load_n(gamma + i, rest);
        v_store_n(y + i, beta != NULL ? v_fma(d, g, v_load_n(beta + i, rest)) : v_mul(d, g), rest);
    }
}

/* y = x + r; the sum by lanes. */
static inline emb_v add_row(float *y, const float *x, const float *r, int64_t dim) {
    const int64_t whole = dim / EMB_LANES * EMB_LANES, rest = dim - whole;
    emb_v sum = v_set1(0.0f);
    for (int64_t i = 0; i < whole; i += EMB_LANES) {
        const emb_v s = v_add(v_load(x + i), v_load(r + i));
        v_store(y + i, s);
        sum = v_add(sum, s);
    }
    if (rest > 0) {
        const emb_v s = v_add(v_load_n(x + whole, rest), v_load_n(r + whole, rest));
        v_store_n(y + whole, s, rest);
        sum = v_add(sum, s);
    }
    return sum;
}

static inline emb_v sum_row(const float *x, int64_t dim) {
    const int64_t whole = dim / EMB_LANES * EMB_LANES, rest = dim - whole;
    emb_v sum = v_set1(0.0f);
    for (int64_t i = 0; i < whole; i += EMB_LANES)
        sum = v_add(sum, v_load(x + i));
    return rest > 0 ? v_add(sum, v_load_n(x + whole, rest)) : sum;
}

static void layernorm_rows(const void *args, int64_t first, int64_t end) {
    const emb_layernorm_args *a = args;
    for (int64_t t = first; t < end; t++) {
        const float *s = a->x + t * a->dim;
        float *y = a->y + t * a->dim;
        emb_v sum;
        if (a->r != NULL) {
            sum = add_row(y, s, a->r + t * a->dim, a->dim);
            s = y;
        } else {
            sum = sum_row(s, a->dim);
        }
        normalize_row(y, s, sum, a->dim, a->gamma, a->beta, a->eps);
    }
}

#endif
