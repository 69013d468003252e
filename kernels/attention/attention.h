/* attention: bidirectional softmax(q k^T * scale) v per text and head, over packed texts
 * (Vaswani et al. 2017, arXiv:1706.03762, eq. 1), with rotary positions applied on the way in
 * (Su et al. 2021, arXiv:2104.09864; non-interleaved: dimension i pairs with i + rotary_dim/2)
 *
 * qkv   [T, 3*H*hd] f32: q heads, then k heads, then v heads (fused projection)
 * offsets [texts + 1] first token of each text, offsets[texts] = T; no text is empty
 * cos, sin [max length, rotary_dim/2] f32 or NULL; position = index within the text;
 *       only the first rotary_dim dimensions of a head are rotated
 * out   [T, H*hd] f32
 * Products in the canonical order of kernels/gemm (k ascending; v summed over keys ascending in
 * blocks of EMB_GEMM_KC); softmax weights are exp((s - maximum) * scale), summed canonically; the
 * weighted sum of v is divided by that sum once. A text's bits depend on its own tokens alone.
 * flops 4*hd*H*sum(len^2)   bound FMA   limits scale > 0, 1 <= hd <= 256, any length (keys, values
 * and the scores of a row block lie in the scratch: emb_attention_scratch_bytes)
 * error vs f64: 4e-7 * sqrt(hd) * greatest |v|, and what exp makes of the scores' rounding */
#ifndef EMB_KERNELS_ATTENTION_H
#define EMB_KERNELS_ATTENTION_H

#include "kernels/exec.h"

typedef struct emb_attention_args {
    const float *qkv;
    float *out;
    const int32_t *offsets;
    int64_t texts;
    int32_t heads, head_dim, rotary_dim;
    float scale;
    const float *cos, *sin;
} emb_attention_args;

embed_status emb_attention(emb_exec *exec, const emb_attention_args *args);

/* Scratch per thread for texts of up to max_len tokens. */
embed_status emb_attention_scratch_bytes(const emb_isa *isa, int64_t max_len, int32_t head_dim,
                                         size_t *bytes);

#endif
