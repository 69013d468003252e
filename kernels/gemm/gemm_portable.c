/* Plain C: the loops over lanes are what a compiler may turn into vectors of its target. */
#define EMB_SIMD 1
#define MR 4
#define NV 1
#include "kernels/gemm/gemm_tile_body.h"

V_INLINE void pack_block(float *out, const void *w, int32_t dtype, int64_t first, int64_t ldw,
                         int64_t rows, int64_t width) {
    for (int i = 0; i < 16; i++) {
        const emb_v r = i < rows ? v_load_weight(w, dtype, first + i * ldw, width) : v_set1(0.0f);
        for (int64_t k = 0; k < width; k++)
            out[k * NR + i] = r.f[k];
    }
}

const emb_gemm_tile emb_gemm_tile_portable = {MR,    NR, pack_nt, pack_nn, multiply, multiply_ahead,
                                              finish};
