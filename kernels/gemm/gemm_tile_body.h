/* gemm_tile_body: the per-ISA steps of gemm_tile.h written once over simd.h. An ISA's file defines
 * EMB_SIMD, MR (rows kept in registers), NV (vectors of 16 columns in a panel) and after including
 * this file `transpose16`, pack_nt's inner step. */
#include "kernels/gemm/gemm_tile.h"
#include "kernels/simd.h"

#define NR (NV * EMB_LANES)

/* Loops over registers must unroll, else the arrays of registers stay in memory. */
#if V_SANITIZED
#define UNROLL
#elif defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

/* Lanes of vector v that hold columns below n. */
V_INLINE int64_t lanes_of(int64_t n, int v) {
    const int64_t left = n - v * EMB_LANES;
    return left < 0 ? 0 : left < EMB_LANES ? left : EMB_LANES;
}

V_INLINE void fetch_ahead(emb_gemm_ahead *a) {
    if (a->row >= a->rows)
        return;
    const char *row = a->base + (a->index != NULL ? a->index[a->row] : a->row) * a->stride;
    for (int64_t i = 0; i < a->per_step; i++) {
        __builtin_prefetch(row + a->done_bytes, 0, 2);
        a->done_bytes += 64;
        if (a->done_bytes >= a->row_bytes) {
            a->done_bytes = 0;
            if (++a->row >= a->rows)
                return;
            row = a->base + (a->index != NULL ? a->index[a->row] : a->row) * a->stride;
        }
    }
}

/* m <= MR rows. Row i is reached as base[i / 3] + (i % 3) * lda, which addressing modes do for
 * nothing, so that few registers hold pointers. */
V_INLINE void tile(const int m, int64_t n, int64_t kc, const float *a, int64_t lda,
                   const float *panel, float *c, int64_t ldc, int accumulate,
                   emb_gemm_ahead ahead[2]) {
    emb_v s[MR][NV];
    const float *base[(MR + 2) / 3];
    UNROLL
    for (int i = 0; i < m; i++)
        UNROLL
    for (int v = 0; v < NV; v++)
        s[i][v] = v_set1(0.0f);
    UNROLL
    for (int i = 0; i < (MR + 2) / 3; i++)
        base[i] = a + (i * 3 < m ? i * 3 : 0) * lda;
    UNROLL
    for (int i = 0; i < m; i++) {
        UNROLL
        for (int v = 0; v < NV; v++)
            __builtin_prefetch(c + i * ldc + v * EMB_LANES, 1);
    }
    for (int64_t k0 = 0; k0 < kc; k0 += EMB_GEMM_AHEAD_STEP) {
        const float *end =
            panel + (kc - k0 < EMB_GEMM_AHEAD_STEP ? kc - k0 : EMB_GEMM_AHEAD_STEP) * NR;
        fetch_ahead(&ahead[0]);
        fetch_ahead(&ahead[1]);
        for (; panel < end; panel += NR) {
            emb_v w[NV];
            UNROLL
            for (int v = 0; v < NV; v++)
                w[v] = v_load(panel + v * EMB_LANES);
            UNROLL
            for (int i = 0; i < m; i++) {
                const emb_v x = v_set1(base[i / 3][i % 3 * lda]);
                UNROLL
                for (int v = 0; v < NV; v++)
                    s[i][v] = v_fma(x, w[v], s[i][v]);
            }
            UNROLL
            for (int i = 0; i < (MR + 2) / 3; i++)
                base[i]++;
        }
    }
    UNROLL
    for (int i = 0; i < m; i++) {
        UNROLL
        for (int v = 0; v < NV; v++) {
            float *out = c + v * EMB_LANES;
            const int64_t lanes = n == NR ? EMB_LANES : lanes_of(n, v);
            if (lanes == EMB_LANES)
                v_store(out, accumulate ? v_add(v_load(out), s[i][v]) : s[i][v]);
            else if (lanes > 0)
                v_store_n(out, accumulate ? v_add(v_load_n(out, lanes), s[i][v]) : s[i][v], lanes);
        }
        c += ldc;
    }
}

static void multiply_ahead(int64_t m, int64_t n, int64_t kc, const float *a, int64_t lda,
                           const float *panel, float *c, int64_t ldc, int accumulate,
                           emb_gemm_ahead ahead[2]) {
    while (m > 0) {
        const int64_t tiles = (m + MR - 1) / MR;
        const int64_t rows = (m + tiles - 1) / tiles; /* nearly equal tiles: none is left thin */
        switch (rows) {
#define CASE(r)                                                                                    \
    case r:                                                                                        \
        tile(r <= MR ? r : MR, n, kc, a, lda, panel, c, ldc, accumulate, ahead);                   \
        break
            CASE(1);
            CASE(2);
            CASE(3);
            CASE(4);
            CASE(5);
            CASE(6);
#if MR > 6
            CASE(7);
            CASE(8);
            CASE(9);
            CASE(10);
            CASE(11);
            CASE(12);
            CASE(13);
            CASE(14);
#endif
#undef CASE
        }
        m -= rows;
        a += rows * lda;
        c += rows * ldc;
    }
}

static void multiply(int64_t m, int64_t n, int64_t kc, const float *a, int64_t lda,
                     const float *panel, float *c, int64_t ldc, int accumulate) {
    emb_gemm_ahead none[2] = {{0}, {0}};
    multiply_ahead(m, n, kc, a, lda, panel, c, ldc, accumulate, none);
}

/* ------------------------------------------------------------------------------------ pack */

V_INLINE void pack_nn_dtype(float *panel, const void *w, int64_t ldw, const int32_t dtype,
                            int64_t n, int64_t kc) {
    for (int64_t k = 0; k < kc; k++)
        for (int v = 0; v < NV; v++) {
            const int64_t lanes = n == NR ? EMB_LANES : lanes_of(n, v);
            v_store(panel + k * NR + v * EMB_LANES,
                    lanes > 0 ? v_load_weight(w, dtype, k * ldw + v * EMB_LANES, lanes)
                              : v_set1(0.0f));
        }
}

static void pack_nn(float *panel, const void *w, int64_t ldw, int32_t dtype, int64_t n,
                    int64_t kc) {
    if (dtype == EMBED_F32)
        pack_nn_dtype(panel, w, ldw, EMBED_F32, n, kc);
    else if (dtype == EMBED_BF16)
        pack_nn_dtype(panel, w, ldw, EMBED_BF16, n, kc);
    else
        pack_nn_dtype(panel, w, ldw, EMBED_F16, n, kc);
}

/* out[k * NR + i] = w[first + i * ldw + k] for 16 x 16 elements, of which only `rows` x `width`
 * exist: missing rows become zeros, missing k are not stored. Through registers, per ISA. */
V_INLINE void pack_block(float *out, const void *w, int32_t dtype, int64_t first, int64_t ldw,
                         int64_t rows, int64_t width);

V_INLINE void pack_nt_dtype(float *panel, const void *w, int64_t ldw, const int32_t dtype,
                            int64_t n, int64_t kc) {
    for (int64_t k = 0; k < kc; k += EMB_LANES) {
        const int64_t width = kc - k < EMB_LANES ? kc - k : EMB_LANES;
        for (int v = 0; v < NV; v++) {
            const int64_t rows = lanes_of(n, v), first = v * EMB_LANES * ldw + k;
            float *out = panel + k * NR + v * EMB_LANES;
            if (rows == EMB_LANES && width == EMB_LANES)
                pack_block(out, w, dtype, first, ldw, EMB_LANES, EMB_LANES);
            else
                pack_block(out, w, dtype, first, ldw, rows, width);
        }
    }
}

static void pack_nt(float *panel, const void *w, int64_t ldw, int32_t dtype, int64_t n,
                    int64_t kc) {
    if (dtype == EMBED_F32)
        pack_nt_dtype(panel, w, ldw, EMBED_F32, n, kc);
    else if (dtype == EMBED_BF16)
        pack_nt_dtype(panel, w, ldw, EMBED_BF16, n, kc);
    else
        pack_nt_dtype(panel, w, ldw, EMBED_F16, n, kc);
}

/* ---------------------------------------------------------------------------------- finish */

V_INLINE emb_v activate(emb_v x, const int act) {
    switch (act) {
    case EMB_ACT_GELU:
        return v_gelu(x);
    case EMB_ACT_GELU_TANH:
        return v_gelu_tanh(x);
    case EMB_ACT_RELU: /* NaN stays NaN: v_max gives its second argument then */
        return v_max(v_set1(0.0f), x);
    case EMB_ACT_SILU:
        return v_silu(x);
    case EMB_ACT_SIGMOID:
        return v_sigmoid(x);
    case EMB_ACT_TANH:
        return v_tanh(x);
    default:
        return x;
    }
}

V_INLINE void finish_act(const int act, int64_t m, int64_t n, const float *s, int64_t lds,
                         const float *bias, const float *mul, int64_t ldmul, float *y,
                         int64_t ldy) {
    for (int64_t j = 0; j < n; j += EMB_LANES) {
        const int64_t lanes = n - j < EMB_LANES ? n - j : EMB_LANES;
        const emb_v b = bias != NULL ? v_load_n(bias + j, lanes) : v_set1(0.0f);
        for (int64_t i = 0; i < m; i++) {
            float *out = y + i * ldy + j;
            const float *in = s + i * lds + j;
            emb_v x = lanes == EMB_LANES ? v_load(in) : v_load_n(in, lanes);
            if (bias != NULL) /* not x + 0, which would lose -0 */
                x = v_add(x, b);
            x = activate(x, act);
            if (mul != NULL)
                x = v_mul(x, v_load_n(mul + i * ldmul + j, lanes));
            if (lanes == EMB_LANES)
                v_store(out, x);
            else
                v_store_n(out, x, lanes);
        }
    }
}

static void finish(int32_t act, int64_t m, int64_t n, const float *s, int64_t lds,
                   const float *bias, const float *mul, int64_t ldmul, float *y, int64_t ldy) {
    switch (act) {
#define CASE(a)                                                                                    \
    case a:                                                                                        \
        finish_act(a, m, n, s, lds, bias, mul, ldmul, y, ldy);                                     \
        break
        CASE(EMB_ACT_NONE);
        CASE(EMB_ACT_GELU);
        CASE(EMB_ACT_GELU_TANH);
        CASE(EMB_ACT_RELU);
        CASE(EMB_ACT_SILU);
        CASE(EMB_ACT_SIGMOID);
        CASE(EMB_ACT_TANH);
#undef CASE
    }
}
