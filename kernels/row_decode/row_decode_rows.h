/* row_decode_rows: a row of a table to floats. */
#ifndef EMB_KERNELS_ROW_DECODE_ROWS_H
#define EMB_KERNELS_ROW_DECODE_ROWS_H

#include "kernels/row_decode/row_decode.h"
#include "kernels/simd.h"

V_INLINE emb_v widen_lanes(const void *x, int64_t i, int32_t dtype, emb_v scale) {
    switch (dtype) {
    case EMBED_I8:
        return v_mul(v_load_i8((const char *)x + i), scale);
    case EMBED_F16:
        return v_load_f16((const char *)x + 2 * i);
    case EMBED_BF16:
        return v_load_bf16((const char *)x + 2 * i);
    default:
        return v_load((const char *)x + 4 * i);
    }
}

V_INLINE void widen_whole(float *y, const void *x, int64_t n, int32_t dtype, emb_v scale,
                          int stream) {
    if (stream)
        for (int64_t i = 0; i < n; i += EMB_LANES)
            v_stream(y + i, widen_lanes(x, i, dtype, scale));
    else
        for (int64_t i = 0; i < n; i += EMB_LANES)
            v_store(y + i, widen_lanes(x, i, dtype, scale));
}

static void widen_row(float *y, const void *x, int64_t n, int32_t dtype, float scale, int stream) {
    const int64_t whole = n / EMB_LANES * EMB_LANES;
    const emb_v s = v_set1(scale);
    if ((uintptr_t)y % 64 != 0)
        stream = 0;
    switch (dtype) { /* a loop for each type */
    case EMBED_I8:
        widen_whole(y, x, whole, EMBED_I8, s, stream);
        break;
    case EMBED_F16:
        widen_whole(y, x, whole, EMBED_F16, s, stream);
        break;
    case EMBED_BF16:
        widen_whole(y, x, whole, EMBED_BF16, s, stream);
        break;
    default:
        widen_whole(y, x, whole, EMBED_F32, s, stream);
    }
    if (whole == n)
        return;
    if (dtype == EMBED_I8) {
        signed char rest[EMB_LANES] = {0};
        memcpy(rest, (const char *)x + whole, (size_t)(n - whole));
        v_store_n(y + whole, v_mul(v_load_i8(rest), s), n - whole);
    } else
        v_store_n(y + whole, v_load_weight(x, dtype, whole, n - whole), n - whole);
}

static void widen_end(void) {
    v_stream_end();
}

#endif
