/* gemm: y[m,n] = act(sum_k x[m,k] * w[n,k] + bias[n]) (* mul[m,n])        all in f32
 *
 * x     rows of K floats, row-major with stride ldx, or gathered: row m is x + x_rows[m] * ldx
 * w     EMB_GEMM_NT: [N, K] as torch.nn.Linear stores it; EMB_GEMM_NN: [K, N]; F32, F16 or BF16,
 *       widened exactly to f32
 * y     [M, N] f32, stride ldy, must not alias x; mul [M, N], stride ldmul, may alias y
 *
 * Canonical order (the promise behind "same text, same bits"): k is cut into blocks of
 * EMB_GEMM_KC; inside a block one accumulator per (m, n) starts at zero and adds
 * fma(x[m,k], w[n,k], acc) for k ascending; block sums are added in order to y (the first block is
 * stored). Bias, activation and product follow in that order, each rounded once. Nothing depends
 * on M, on the position of a row, on threads or on the ISA.
 *
 * Several groups run as one parallel region: the experts of a MoE layer, each with its own rows and
 * weight (a group with M = 0 costs nothing).
 * flops 2*M*N*K   bytes 4*(M*K + M*N) + elt*N*K   bound: FMA for M > ~30, else weight bandwidth
 * error |y - ref| <= (EMB_GEMM_KC/2 + K/EMB_GEMM_KC) * 2^-24 * sum_k |x||w| (far less in practice)
 */
#ifndef EMB_KERNELS_GEMM_H
#define EMB_KERNELS_GEMM_H

#include "kernels/exec.h"

#define EMB_GEMM_KC 256 /* settled by measurement, bench/README.md; changing it changes bits */

enum { EMB_GEMM_NT = 0, EMB_GEMM_NN = 1 };

typedef enum emb_activation {
    EMB_ACT_NONE = 0,
    EMB_ACT_GELU = 1,      /* 0.5 x (1 + erf(x / sqrt 2)), Hendrycks & Gimpel 2016 */
    EMB_ACT_GELU_TANH = 2, /* 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), ibid. */
    EMB_ACT_RELU = 3,
    EMB_ACT_SILU = 4,    /* x * sigmoid(x) */
    EMB_ACT_SIGMOID = 5, /* the gate of plain GLU */
    EMB_ACT_TANH = 6
} emb_activation;

/* A weight made ready once: how it lies, and an optional rearranged copy (emb_gemm_pack) that saves
 * rearranging it in each call. Results do not depend on whether the copy exists. */
typedef struct emb_weight {
    emb_matrix m;   /* NT: rows = N, cols = K; NN: rows = K, cols = N */
    int32_t layout; /* EMB_GEMM_NT or _NN */
    int32_t reserved;
    const float *packed; /* NULL or emb_gemm_packed_bytes() bytes, made for one ISA */
} emb_weight;

typedef struct emb_gemm_group {
    const emb_weight *w;
    const float *bias; /* [N] or NULL */
    const float *x;
    const int32_t *x_rows; /* [M] row numbers to gather, or NULL */
    float *y;
    const float *mul; /* [M, N] or NULL */
    int64_t m;
    int64_t ldx, ldy, ldmul;
} emb_gemm_group;

embed_status emb_gemm(emb_exec *exec, const emb_gemm_group *groups, size_t n_groups,
                      emb_activation act);

/* Scratch bytes that emb_gemm needs per thread (ISA-dependent constant). */
size_t emb_gemm_scratch_bytes(const emb_isa *isa);

/* The "prepare once" step: bytes of, and filling of, a packed copy (caller-owned, EMB_ALIGN). */
embed_status emb_gemm_packed_bytes(const emb_isa *isa, const emb_weight *w, size_t *bytes);
void emb_gemm_pack(const emb_isa *isa, const emb_weight *w, float *packed);

#endif
