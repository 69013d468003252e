/* rotary_cuda: what attention by a library needs of a packed batch, since it knows neither rotary
 * positions nor our offsets: q and k rotated in place (Su et al. 2021, arXiv:2104.09864; dimension
 * i pairs with i + rotary_dim/2), and where each text lies as the library counts it. Our own kernel
 * (attention_cuda) rotates on the way in and needs neither.
 *
 * qkv   [T, 3*H*hd] dtype, changed in place: q heads, then k heads; v stays
 * positions [T] int32, index of a token in its text, below the rows of cos and sin
 * cos, sin [max length, rotary_dim/2] f32, or NULL: nothing is rotated
 * offsets [texts + 1] int32: first token of each text, offsets[texts] = T
 * lengths [room] int32, qkv_offsets, out_offsets [room + 1] int32, or all NULL: tokens of each text
 *       and its first element in qkv and in a matrix [T, H*hd]; from `texts` on 0 and the end
 * In f32, rounded to dtype once, as attention_cuda does: the same q and k.
 * flops 6*T*2*H*rotary_dim/2   bytes elt*2*T*2*H*rotary_dim
 * bound DRAM
 * launch T blocks of 128 threads, a thread has a pair at a time; room/128 + 1 blocks
 * error half an ulp of dtype and 2^-23 (|a| + |b|) for a rotated pair (a, b)
 * limits T, texts <= room < 2^31, T*3*H*hd < 2^31, rotary_dim even, <= hd */
#ifndef EMB_KERNELS_ROTARY_CUDA_H
#define EMB_KERNELS_ROTARY_CUDA_H

#include "kernels/cuda/cuda_exec.h"

typedef struct emb_cuda_rotary_args {
    void *qkv;
    const int32_t *positions;
    const float *cos, *sin;
    const int32_t *offsets;
    int32_t *lengths, *qkv_offsets, *out_offsets;
    int64_t tokens, texts, room;
    int32_t heads, head_dim, rotary_dim, dtype;
} emb_cuda_rotary_args;

#ifdef __cplusplus
extern "C"
#endif
    embed_status
    emb_cuda_rotary(emb_cuda_exec *exec, const emb_cuda_rotary_args *args);

#endif
