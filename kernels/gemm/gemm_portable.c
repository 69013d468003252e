#include "kernels/gemm/gemm_tile.h"

#include <math.h>

#include "base/dtype.h"

enum { NR = 16 };

static float widen(const void *w, int64_t i, int32_t dtype) {
    float f;
    uint16_t h;
    if (dtype == EMBED_F32) {
        memcpy(&f, (const char *)w + i * 4, 4);
        return f;
    }
    memcpy(&h, (const char *)w + i * 2, 2);
    return dtype == EMBED_BF16 ? emb_bf16_to_f32(h) : emb_f16_to_f32(h);
}

static void pack(float *panel, const void *w, int64_t j_stride, int64_t k_stride, int32_t dtype,
                 int64_t n, int64_t kc) {
    for (int64_t k = 0; k < kc; k++)
        for (int64_t j = 0; j < NR; j++)
            panel[k * NR + j] = j < n ? widen(w, j * j_stride + k * k_stride, dtype) : 0.0f;
}

static void pack_nt(float *panel, const void *w, int64_t ldw, int32_t dtype, int64_t n,
                    int64_t kc) {
    pack(panel, w, ldw, 1, dtype, n, kc);
}

static void pack_nn(float *panel, const void *w, int64_t ldw, int32_t dtype, int64_t n,
                    int64_t kc) {
    pack(panel, w, 1, ldw, dtype, n, kc);
}

static void multiply(int64_t m, int64_t n, int64_t kc, const float *a, int64_t lda,
                     const float *panel, float *c, int64_t ldc, int accumulate) {
    for (int64_t i = 0; i < m; i++) {
        float s[NR] = {0};
        for (int64_t k = 0; k < kc; k++)
            for (int64_t j = 0; j < NR; j++)
                s[j] = fmaf(a[i * lda + k], panel[k * NR + j], s[j]);
        for (int64_t j = 0; j < n; j++)
            c[i * ldc + j] = accumulate ? c[i * ldc + j] + s[j] : s[j];
    }
}

const emb_gemm_tile emb_gemm_tile_portable = {1, NR, pack_nt, pack_nn, multiply};
