/* gemm_tile: the two per-ISA steps that every matrix product here is made of, in the canonical
 * order of gemm.h. gemm.c and attention.c are loops around them.
 *
 * A panel holds kc x nr floats of the right-hand matrix, k-major: panel[k * nr + j]; one panel
 * covers at most EMB_GEMM_KC values of k and exactly nr columns, missing ones filled with zeros. */
#ifndef EMB_KERNELS_GEMM_TILE_H
#define EMB_KERNELS_GEMM_TILE_H

#include <stdint.h>

#include "kernels/gemm/gemm.h"

/* Memory that will be needed soon, fetched into the second-level cache while a product runs: `rows`
 * rows of row_bytes, row r at base + r * stride (bytes) or, with an index, base + index[r] *
 * stride; per_step cache lines for each EMB_GEMM_AHEAD_STEP values of k that a tile works through.
 */
typedef struct emb_gemm_ahead {
    const char *base;
    const int32_t *index;
    int64_t stride, row_bytes, rows;
    int64_t row, done_bytes; /* where it stands */
    int64_t per_step;
} emb_gemm_ahead;

#define EMB_GEMM_AHEAD_STEP 16

typedef struct emb_gemm_tile {
    int32_t mr; /* rows that one pass of multiply keeps in registers: any m works, multiples best */
    int32_t nr; /* columns of a panel: 16 or 32 */

    /* panel[k * nr + j] = w[j, k], j < n <= nr, k < kc <= EMB_GEMM_KC, widened to f32; zeros for
     * n <= j < nr. Element (j, k) lies at w + j * ldw + k (NT) or w + k * ldw + j (NN), in units
     * of the dtype (embed_dtype: F32, F16, BF16), any alignment. panel is EMB_ALIGN aligned. */
    void (*pack_nt)(float *panel, const void *w, int64_t ldw, int32_t dtype, int64_t n, int64_t kc);
    void (*pack_nn)(float *panel, const void *w, int64_t ldw, int32_t dtype, int64_t n, int64_t kc);

    /* s[i, j] = the fma chain over k < kc of a[i * lda + k] * panel[k * nr + j] from zero;
     * c[i * ldc + j] = s[i, j], or c[i * ldc + j] + s[i, j] if accumulate. Any m >= 0, n <= nr.
     * A product over K > EMB_GEMM_KC is one call a block: the first stores, others accumulate. */
    void (*multiply)(int64_t m, int64_t n, int64_t kc, const float *a, int64_t lda,
                     const float *panel, float *c, int64_t ldc, int accumulate);

    /* The same, fetching ahead from two places. */
    void (*multiply_ahead)(int64_t m, int64_t n, int64_t kc, const float *a, int64_t lda,
                           const float *panel, float *c, int64_t ldc, int accumulate,
                           emb_gemm_ahead ahead[2]);

    /* y[i, j] = act(s[i, j] + bias[j]) * mul[i, j], i < m, j < n: what follows the sums. s may be
     * y itself; bias and mul may be NULL, mul may be y. act is an emb_activation. */
    void (*finish)(int32_t act, int64_t m, int64_t n, const float *s, int64_t lds,
                   const float *bias, const float *mul, int64_t ldmul, float *y, int64_t ldy);
} emb_gemm_tile;

extern const emb_gemm_tile emb_gemm_tile_portable;
#if defined(__x86_64__)
extern const emb_gemm_tile emb_gemm_tile_avx2;
extern const emb_gemm_tile emb_gemm_tile_avx512;
#endif

#endif
