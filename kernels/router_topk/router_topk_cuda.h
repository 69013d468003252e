/* router_topk_cuda: p = softmax_e(logits[t,:]) over all experts, the top_k largest, and the pairs
 * (token, choice) in groups by expert, without the host ever learning how many there are
 * (contrastors layers/moe.py, Router; Shazeer et al. 2017, arXiv:1701.06538)
 *
 * logits [T,E] f32 (layernorm_cuda makes them). Ties go to the lower expert, NaN last.
 * Probabilities are not renormalised over the chosen ones unless `renormalize`. Outputs as
 * router_topk.h: gate, expert, slot [T,top_k]; rows [T*top_k]; offset [E+1]. Slots are stable: by
 * expert, then by token, then by choice, whatever the order in which blocks run.
 * expert_tokens [E] u64 and gate_sum [E] f64, where not NULL, are added to: statistics, per 64
 * tokens in order.
 * scratch emb_cuda_router_topk_scratch_bytes, 8-byte aligned, contents of no interest
 * bytes  4*T*E + 24*T*top_k   flops ~6*T*E
 * bound  latency: three kernels of a few us (one if T <= 64)
 * launch 256 threads, 64 tokens a block: a warp a token for choosing, a thread a pair for placing;
 *        between them one block adds up the counts of all blocks
 * error  of gate vs f64: (8 + max - logit) 2^-24 relative, twice that if renormalised
 * limits 0 <= T < 2^31 / top_k, 1 <= top_k <= 16, top_k <= E <= 256 */
#ifndef EMB_KERNELS_ROUTER_TOPK_CUDA_H
#define EMB_KERNELS_ROUTER_TOPK_CUDA_H

#include "kernels/cuda/cuda_exec.h"

typedef struct emb_cuda_router_topk_args {
    const float *logits;
    float *gate;
    int32_t *expert, *slot, *rows, *offset;
    uint64_t *expert_tokens;
    double *gate_sum;
    void *scratch;
    const int32_t *count;
    int64_t tokens;
    int32_t experts, top_k, renormalize, reserved;
} emb_cuda_router_topk_args;

enum { EMB_CUDA_ROUTER_TOKENS = 64 }; /* of a block */

/* Here rather than beside the kernel, since memory is planned where no module is loaded. */
static inline size_t emb_cuda_router_topk_scratch_bytes(int64_t tokens, int32_t experts) {
    const size_t blocks = (size_t)((tokens + EMB_CUDA_ROUTER_TOKENS - 1) / EMB_CUDA_ROUTER_TOKENS);
    return blocks * (size_t)experts * (sizeof(double) + sizeof(int32_t));
}

#ifdef __cplusplus
extern "C"
#endif
    embed_status
    emb_cuda_router_topk(emb_cuda_exec *exec, const emb_cuda_router_topk_args *args);

#endif
