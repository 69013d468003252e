/* attention_cuda: bidirectional softmax(q k^T * scale) v per text and head, over packed texts
 * (Vaswani et al. 2017, arXiv:1706.03762, eq. 1), rotary positions applied on the way in (Su et al.
 * 2021, arXiv:2104.09864; dimension i pairs with i + rotary_dim/2), one pass over the keys
 * (Dao 2023, arXiv:2307.08691, alg. 1)
 *
 * qkv   [T, 3*H*hd] dtype: q heads, then k heads, then v heads
 * offsets [texts + 1] int32: first token of each text, offsets[texts] = tokens there are; texts may
 *       be empty. count: int32 on the device, the texts there are, or NULL: `texts`, so that a
 *       captured graph serves batches with fewer texts and tokens
 * cos, sin [max length, rotary_dim/2] f32 or NULL; position = index within the text
 * out   [T, H*hd] dtype, must not alias qkv
 * f16, bf16 with hd 32, 64 or 128: mma.sync; q and k are rounded to dtype after rotation, weights
 *       to dtype before the product with v, as PyTorch does; sums in f32
 * f32, and every other hd: f32 arithmetic without tensor cores
 * Keys are taken in tiles from the text's first on, whatever the batch: a text's bits depend on its
 * own tokens alone.
 * flops 4*hd*H*sum(len^2)   bytes 4*T*H*hd*elt (k and v again per 64 queries, from L2)
 * bound texts up to ~200 tokens: DRAM; longer: tensor cores, as FlashAttention-2
 * launch (T/64 + texts) x H blocks of 4 warps of 16 queries, keys 64 at a time in two stages (hd
 *       64: 40 KiB, 128: 80 KiB); f32: (T/16 + texts) x H blocks of 4 warps of 4 queries, keys 32
 *       at a time. Text i starts at tile offsets[i]/64 + i; surplus blocks return.
 * error vs f64 of the same inputs, V = greatest |v|, S = greatest |q||k| scale of a pair:
 *       16-bit: 4 u (1 + S) V, u = half an ulp of dtype at 1; f32: (16 + 2 S sqrt(hd)) 2^-24 V;
 *       of a text and head as a whole, relative L2: 3 u; f32: 16 u
 * limits scale > 0, 1 <= hd <= 256, rotary_dim even, <= hd; T + texts < 2^31; H <= 65535 */
#ifndef EMB_KERNELS_ATTENTION_CUDA_H
#define EMB_KERNELS_ATTENTION_CUDA_H

#include "kernels/cuda/cuda_exec.h"

typedef struct emb_cuda_attention_args {
    const void *qkv;
    void *out;
    const int32_t *offsets;
    const float *cos, *sin;
    const int32_t *count;
    int64_t tokens, texts; /* the most there can be */
    int32_t heads, head_dim, rotary_dim, dtype;
    float scale;
    int32_t reserved;
} emb_cuda_attention_args;

#ifdef __cplusplus
extern "C"
#endif
    embed_status
    emb_cuda_attention(emb_cuda_exec *exec, const emb_cuda_attention_args *args);

#endif
