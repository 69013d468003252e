/* activation_cuda: y[t,d] = act(x[t,d] + bias[d]) (* mul[t,d]): what a matrix product of a library
 * leaves to do, whose own GELU is another function (the tanh form). Our products have it in their
 * epilogue (gemm_cuda) and need no pass of its own.
 *
 * x     [T,D] dtype
 * bias  f32 [D] or NULL; mul [T,D] dtype or NULL (the gated variants)
 * y     [T,D] dtype, may be x or mul
 * act   an emb_activation of kernels/gemm/gemm.h; 0: none
 * Every element by itself, in f32, rounded to dtype once: its bits depend on nothing else.
 * flops ~25*T*D   bytes elt*2*T*D (+ elt*T*D with mul) + 4*D
 * bound DRAM
 * launch (T/4) x (D/1024) blocks of 128 threads; a thread has 8 elements of 4 rows, all of whose
 *       loads are under way together. The reference is the loop in tests/cuda/test_cuda_activation.
 * error |y - act(s) mul| <= (2e-6 |s| + 1.13 2^-24 (|x| + |bias|)) |mul| + half an ulp of dtype
 * limits 0 <= T < 2^31, 1 <= D <= 2^20 */
#ifndef EMB_KERNELS_ACTIVATION_CUDA_H
#define EMB_KERNELS_ACTIVATION_CUDA_H

#include "kernels/cuda/cuda_exec.h"

typedef struct emb_cuda_activation_args {
    const void *x;
    const float *bias;
    const void *mul;
    void *y;
    const int32_t *count;
    int64_t tokens, dim;
    int32_t dtype, act;
} emb_cuda_activation_args;

#ifdef __cplusplus
extern "C"
#endif
    embed_status
    emb_cuda_activation(emb_cuda_exec *exec, const emb_cuda_activation_args *args);

#endif
