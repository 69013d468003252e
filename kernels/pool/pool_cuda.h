/* pool_cuda: one vector per text from its tokens' hidden states (sentence-transformers Pooling)
 *
 * x [T,D] dtype; offsets [texts + 1] int32; skip [texts] or NULL: leading tokens left out of the
 * pooling. modes: embed_pooling bits, results side by side in the order of the bits. out [texts,
 * n_modes * D] f32, stride ldo. Texts of which nothing is left are not written, nor those from
 * *count on (int32 on the device, or NULL), so that a captured graph serves batches with fewer
 * texts. gathered: x is [texts, D], of each text the token that CLS or LAST takes. Weights as
 * pool.h. Sums in double: tokens w, w + 8, ... of what is pooled by warp w, ascending, then the
 * warps ascending; rounded once.
 * bytes  T*D*elt + 4*texts*n_modes*D   flops ~T*D a mode
 * bound  DRAM, >= 85% of copy speed for batches (4 x 16 bytes a thread under way); one short text:
 *        latency of its tokens / 8 dependent loads
 * launch (D / 256, texts) blocks of 8 warps
 * error  vs f64: half an ulp of f32   limits T, D, texts < 2^31, ldo >= n_modes * D, modes not 0;
 *        gathered: CLS or LAST alone */
#ifndef EMB_KERNELS_POOL_CUDA_H
#define EMB_KERNELS_POOL_CUDA_H

#include "kernels/cuda/cuda_exec.h"

typedef struct emb_cuda_pool_args {
    const void *x;
    const int32_t *offsets, *skip;
    float *out;
    const int32_t *count;
    int64_t texts, dim, ldo;
    int32_t modes, dtype, gathered, reserved;
} emb_cuda_pool_args;

#ifdef __cplusplus
extern "C"
#endif
    embed_status
    emb_cuda_pool(emb_cuda_exec *exec, const emb_cuda_pool_args *args);

#endif
