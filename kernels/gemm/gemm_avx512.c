/* AVX-512: 14 x 32 outputs in 28 of the 32 registers; 14 broadcasts and 2 panel loads feed 28
 * fused multiply-adds, so that the two load ports have slack. */
#define EMB_SIMD 3
#ifndef MR
#define MR 14
#endif
#define NV 2
#include "kernels/gemm/gemm_tile_body.h"

/* t[4 g + i] = column i of each quad of rows 4 g .. 4 g + 3. */
V_INLINE void transpose_quads(const __m512 r[16], __m512 t[16]) {
    UNROLL
    for (int i = 0; i < 16; i += 4) {
        const __m512 ab0 = _mm512_unpacklo_ps(r[i], r[i + 1]);
        const __m512 ab1 = _mm512_unpackhi_ps(r[i], r[i + 1]);
        const __m512 cd0 = _mm512_unpacklo_ps(r[i + 2], r[i + 3]);
        const __m512 cd1 = _mm512_unpackhi_ps(r[i + 2], r[i + 3]);
        t[i] = _mm512_shuffle_ps(ab0, cd0, 0x44);
        t[i + 1] = _mm512_shuffle_ps(ab0, cd0, 0xee);
        t[i + 2] = _mm512_shuffle_ps(ab1, cd1, 0x44);
        t[i + 3] = _mm512_shuffle_ps(ab1, cd1, 0xee);
    }
}

V_INLINE void transpose_lanes(const __m512 t[16], __m512 r[16]) {
    UNROLL
    for (int i = 0; i < 4; i++) {
        const __m512 lo01 = _mm512_shuffle_f32x4(t[i], t[4 + i], 0x88);
        const __m512 hi01 = _mm512_shuffle_f32x4(t[i], t[4 + i], 0xdd);
        const __m512 lo23 = _mm512_shuffle_f32x4(t[8 + i], t[12 + i], 0x88);
        const __m512 hi23 = _mm512_shuffle_f32x4(t[8 + i], t[12 + i], 0xdd);
        r[i] = _mm512_shuffle_f32x4(lo01, lo23, 0x88);
        r[8 + i] = _mm512_shuffle_f32x4(lo01, lo23, 0xdd);
        r[4 + i] = _mm512_shuffle_f32x4(hi01, hi23, 0x88);
        r[12 + i] = _mm512_shuffle_f32x4(hi01, hi23, 0xdd);
    }
}

V_INLINE void pack_block(float *out, const void *w, int32_t dtype, int64_t first, int64_t ldw,
                         int64_t rows, int64_t width) {
    __m512 r[16], t[16];
    UNROLL
    for (int i = 0; i < 16; i++)
        r[i] = i < rows ? v_load_weight(w, dtype, first + i * ldw, width) : v_set1(0.0f);
    transpose_quads(r, t);
    transpose_lanes(t, r);
    UNROLL
    for (int i = 0; i < 16; i++)
        if (i < width)
            v_store(out + i * NR, r[i]);
}

const emb_gemm_tile emb_gemm_tile_avx512 = {MR,    NR, pack_nt, pack_nn, multiply, multiply_ahead,
                                            finish};
