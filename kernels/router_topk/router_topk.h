/* router_topk: p = softmax_e(x[t,:] . w[e,:]) over all experts in f32, then the top_k largest
 * (contrastors layers/moe.py, Router; Shazeer et al. 2017, arXiv:1701.06538)
 *
 * x [T,D] f32, w [E,D] F32/F16/BF16, canonical dot product of kernels/gemm. Ties go to the lower
 * expert. Probabilities are not renormalised over the chosen ones unless `renormalize`.
 * Outputs, experts in descending order of probability:
 *   gate [T, top_k] f32 weights; slot [T, top_k]: where the pair (t, j) stands in the grouped order
 *   rows [T*top_k]: token of each slot, grouped by expert, tokens ascending within an expert
 *   offset [E+1]: first slot of each expert
 *   gate_sum [E] f64: sum of the gates per expert, tokens ascending (statistics)
 * limits 1 <= top_k <= E <= EMB_MAX_EXPERTS */
#ifndef EMB_KERNELS_ROUTER_TOPK_H
#define EMB_KERNELS_ROUTER_TOPK_H

#include "kernels/exec.h"

#define EMB_MAX_EXPERTS 256

typedef struct emb_router_topk_args {
    const float *x;
    emb_matrix w;
    const float *bias; /* [E] or NULL */
    int64_t tokens;
    int32_t top_k, renormalize;
    float *gate;
    int32_t *expert; /* [T, top_k] scratch and output: chosen experts */
    int32_t *slot;
    int32_t *rows;
    int32_t *offset;
    double *gate_sum;
} emb_router_topk_args;

embed_status emb_router_topk(emb_exec *exec, const emb_router_topk_args *args);

/* Scratch bytes that emb_router_topk needs per thread. */
size_t emb_router_topk_scratch_bytes(const emb_isa *isa, int64_t experts);

#endif
