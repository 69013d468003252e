/* AVX2: 6 x 16 outputs in 12 of the 16 registers, two panel loads and six broadcasts a step. */
#define EMB_SIMD 2
#define MR 6
#define NV 1
#include "kernels/gemm/gemm_tile_body.h"

/* Four transposes of 8 x 8 in steps: pairs, quads, then 128-bit halves. */
V_INLINE void pack_block(float *out, const void *w, int32_t dtype, int64_t first, int64_t ldw,
                         int64_t rows, int64_t width) {
    for (int part = 0; part < 4; part++) {
        const int k = part / 2 * 8, row = part % 2 * 8;
        __m256 r[8], t[8];
        UNROLL
        for (int i = 0; i < 8; i++) {
            r[i] = _mm256_setzero_ps();
            if (row + i < rows) {
                const emb_v x = v_load_weight(w, dtype, first + (row + i) * ldw, width);
                r[i] = k == 0 ? x.lo : x.hi;
            }
        }
        UNROLL
        for (int i = 0; i < 8; i += 4) {
            const __m256 ab0 = _mm256_unpacklo_ps(r[i], r[i + 1]);
            const __m256 ab1 = _mm256_unpackhi_ps(r[i], r[i + 1]);
            const __m256 cd0 = _mm256_unpacklo_ps(r[i + 2], r[i + 3]);
            const __m256 cd1 = _mm256_unpackhi_ps(r[i + 2], r[i + 3]);
            t[i] = _mm256_shuffle_ps(ab0, cd0, 0x44);
            t[i + 1] = _mm256_shuffle_ps(ab0, cd0, 0xee);
            t[i + 2] = _mm256_shuffle_ps(ab1, cd1, 0x44);
            t[i + 3] = _mm256_shuffle_ps(ab1, cd1, 0xee);
        }
        UNROLL
        for (int i = 0; i < 4; i++) {
            r[i] = _mm256_permute2f128_ps(t[i], t[4 + i], 0x20);
            r[4 + i] = _mm256_permute2f128_ps(t[i], t[4 + i], 0x31);
        }
        UNROLL
        for (int i = 0; i < 8; i++)
            if (k + i < width)
                _mm256_store_ps(out + (k + i) * NR + row, r[i]);
    }
}

const emb_gemm_tile emb_gemm_tile_avx2 = {MR,    NR, pack_nt, pack_nn, multiply, multiply_ahead,
                                          finish};
