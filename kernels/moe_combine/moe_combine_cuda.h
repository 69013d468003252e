/* moe_combine_cuda: s = sum_j gate[t,j] * o[slot[t,j],:] + bias + x[t,:], y[t,:] = LN(s)
 * (contrastors layers/moe.py: weighted sum of the chosen experts, one shared output bias; then the
 * post-norm residual of the block)
 *
 * o [T*top_k, D] dtype; gate f32 and slot [T, top_k] from router_topk_cuda; bias [D] f32 or NULL;
 * x [T,D] dtype or NULL; y [T,D] dtype, may be x; gamma NULL: no norm; beta may be NULL.
 * j ascending, fma(gate, o, acc) from acc = 0, then + bias, + x, all in f32; norm as
 * layernorm_cuda. A token gathers its own rows, so nothing is added in an order that varies.
 * bytes  (top_k + 2)*T*D*elt + 8*T*top_k   flops ~(2 top_k + 9)*T*D
 * bound  DRAM, >= 85% of copy speed: whole rows of 2*D bytes are gathered 16 bytes a lane
 * launch as layernorm_cuda   error as layernorm_cuda, + top_k 2^-24 sum_j |gate o|
 * limits 0 <= T < 2^31, 1 <= D <= 8192, top_k >= 1 */
#ifndef EMB_KERNELS_MOE_COMBINE_CUDA_H
#define EMB_KERNELS_MOE_COMBINE_CUDA_H

#include "kernels/cuda/cuda_exec.h"

typedef struct emb_cuda_moe_combine_args {
    const void *o, *x;
    void *y;
    const float *gate, *bias, *gamma, *beta;
    const int32_t *slot;
    const int32_t *count;
    int64_t tokens, dim;
    int32_t dtype, top_k;
    float eps;
    int32_t reserved;
} emb_cuda_moe_combine_args;

#ifdef __cplusplus
extern "C"
#endif
    embed_status
    emb_cuda_moe_combine(emb_cuda_exec *exec, const emb_cuda_moe_combine_args *args);

#endif
