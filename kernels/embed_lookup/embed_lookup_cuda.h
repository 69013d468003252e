/* embed_lookup_cuda: y[t,:] = LN(word[ids[t],:] + position[positions[t],:] + type[0,:])
 *
 * word [V,D], position [P,D], type [>=1,D] dtype; position, type and the norm are left out where
 * NULL (gamma NULL: no norm). rows[t], where rows and rows[t] are not NULL, points to D elements of
 * rows_dtype (F32, F16, BF16, or I8 with the factor row_scales[t]) that replace the word embedding
 * or, with add_rows, are added to it. The pointers may lead to device memory, to a cache there or
 * to mapped host memory; rows that are not aligned to 16 bytes cost element loads, not correctness.
 * Sums left to right as written, in f32, then norm as layernorm_cuda. y [T,D] dtype.
 * ids and positions are already checked.
 * bytes  (2 to 4)*T*D*elt + 12*T   flops ~10*T*D
 * bound  DRAM (rows in random order, whole lines) or, with rows in host memory, the bus: 32 lanes x
 *        16 bytes of a row at once
 * launch as layernorm_cuda   error as layernorm_cuda   limits 0 <= T < 2^31, 1 <= D <= 8192 */
#ifndef EMB_KERNELS_EMBED_LOOKUP_CUDA_H
#define EMB_KERNELS_EMBED_LOOKUP_CUDA_H

#include "kernels/cuda/cuda_exec.h"

typedef struct emb_cuda_embed_lookup_args {
    const int32_t *ids, *positions;
    const void *word, *position, *type;
    const void *const *rows;
    const float *row_scales; /* [T], for I8 */
    const float *gamma, *beta;
    void *y;
    const int32_t *count;
    int64_t tokens, dim;
    int32_t dtype, rows_dtype, add_rows;
    float eps;
} emb_cuda_embed_lookup_args;

#ifdef __cplusplus
extern "C"
#endif
    embed_status
    emb_cuda_embed_lookup(emb_cuda_exec *exec, const emb_cuda_embed_lookup_args *args);

#endif
