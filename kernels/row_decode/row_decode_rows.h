/* row_decode_rows: a row of a table to floats. */
#ifndef EMB_KERNELS_ROW_DECODE_ROWS_H
#define EMB_KERNELS_ROW_DECODE_ROWS_H

#include "kernels/row_decode/row_decode.h"
#include "kernels/simd.h"

static void widen_bytes(float *y, const unsigned char *x, int64_t n, float scale) {
    const emb_v s = v_set1(scale);
    int64_t i = 0;
    for (; i + EMB_LANES <= n; i += EMB_LANES)
        v_store(y + i, v_mul(v_load_i8(x + i), s));
    if (i < n) {
        signed char rest[EMB_LANES] = {0};
        memcpy(rest, x + i, (size_t)(n - i));
        v_store_n(y + i, v_mul(v_load_i8(rest), s), n - i);
    }
}

static void widen_row(float *y, const void *x, int64_t n, int32_t dtype, float scale) {
    const int64_t whole = n / EMB_LANES * EMB_LANES;
    int64_t i = 0;
    switch (dtype) {
    case EMBED_I8:
        widen_bytes(y, x, n, scale);
        return;
    case EMBED_F16:
        for (; i < whole; i += EMB_LANES)
            v_store(y + i, v_load_f16((const char *)x + 2 * i));
        break;
    case EMBED_BF16:
        for (; i < whole; i += EMB_LANES)
            v_store(y + i, v_load_bf16((const char *)x + 2 * i));
        break;
    default:
        memcpy(y, x, (size_t)n * sizeof *y);
        return;
    }
    if (i < n)
        v_store_n(y + i, v_load_weight(x, dtype, i, n - i), n - i);
}

#endif
