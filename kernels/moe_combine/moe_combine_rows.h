/* moe_combine_rows: the weighted sum of a token's expert outputs. */
#ifndef EMB_KERNELS_MOE_COMBINE_ROWS_H
#define EMB_KERNELS_MOE_COMBINE_ROWS_H

#include "kernels/moe_combine/moe_combine.h"
#include "kernels/simd.h"

static inline emb_v combine_lanes(const emb_moe_combine_args *a, const float *gate,
                                  const int32_t *slot, int64_t i, int64_t n) {
    emb_v acc = v_set1(0.0f);
    for (int32_t j = 0; j < a->top_k; j++) {
        const float *o = a->o + slot[j] * a->dim + i;
        acc = v_fma(v_set1(gate[j]), n < EMB_LANES ? v_load_n(o, n) : v_load(o), acc);
    }
    if (a->bias == NULL)
        return acc;
    return v_add(acc, n < EMB_LANES ? v_load_n(a->bias + i, n) : v_load(a->bias + i));
}

static void moe_combine_rows(const void *args, int64_t first, int64_t end) {
    const emb_moe_combine_args *a = args;
    const int64_t whole = a->dim / EMB_LANES * EMB_LANES, rest = a->dim - whole;
    for (int64_t t = first; t < end; t++) {
        const float *gate = a->gate + t * a->top_k;
        const int32_t *slot = a->slot + t * a->top_k;
        float *y = a->y + t * a->dim;
        for (int64_t i = 0; i < whole; i += EMB_LANES)
            v_store(y + i, combine_lanes(a, gate, slot, i, EMB_LANES));
        if (rest > 0)
            v_store_n(y + whole, combine_lanes(a, gate, slot, whole, rest), rest);
    }
}

#endif
