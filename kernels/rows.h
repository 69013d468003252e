/* rows: operations that treat each row (token) on its own, and how they are spread over threads.
 * The table holds one instruction set's version of each; kernels/<op>/<op>_rows.h is their single
 * source, compiled by rows_portable.c, rows_avx2.c and rows_avx512.c. */
#ifndef EMB_KERNELS_ROWS_H
#define EMB_KERNELS_ROWS_H

#include "kernels/exec.h"

/* Rows first .. end - 1; args is the op's own struct. */
typedef void (*emb_rows_fn)(const void *args, int64_t first, int64_t end);

typedef struct emb_rows {
    emb_rows_fn layernorm;    /* emb_layernorm_args */
    emb_rows_fn embed_lookup; /* emb_embed_lookup_args */
    emb_rows_fn moe_combine;  /* emb_moe_combine_args */

    /* Softmax of `experts` logits per row, then the top_k of them: kernels/router_topk. */
    void (*choose)(float *logits, int64_t rows, int32_t experts, int32_t top_k, int32_t renormalize,
                   float *gate, int32_t *expert);

    /* dst[i, :] = src[i, :] with the first rotary_dim of dim columns rotated by the angles of
     * cos[i, :] and sin[i, :] (rotary_dim / 2 columns): kernels/attention. */
    void (*rotate)(float *dst, int64_t ldd, const float *src, int64_t lds, int64_t rows,
                   int64_t dim, int64_t rotary_dim, const float *cos, const float *sin);
    /* s[i, :n] = exp((s[i, :n] - max) * scale), at least 2^-125, sum[i] = its sum; then x[i, :n] /=
     * sum[i]. */
    void (*exponentials)(float *s, int64_t lds, int64_t rows, int64_t n, float scale, float *sum);
    void (*divide)(float *x, int64_t ldx, int64_t rows, int64_t n, const float *sum);

    /* y[:n] = x[:n] widened, times scale for EMBED_I8; stream: past the caches until
     * widen_end: kernels/row_decode. */
    void (*widen)(float *y, const void *x, int64_t n, int32_t dtype, float scale, int stream);
    void (*widen_end)(void);
} emb_rows;

extern const emb_rows emb_rows_portable;
#if defined(__x86_64__)
extern const emb_rows emb_rows_avx2, emb_rows_avx512;
#endif

/* fn over rows 0 .. rows - 1 in tasks of neighbours; row_bytes is what a row reads and writes, so
 * that a little work is not spread over threads. */
void emb_rows_run(emb_exec *exec, emb_rows_fn fn, const void *args, int64_t rows, size_t row_bytes);

#endif
