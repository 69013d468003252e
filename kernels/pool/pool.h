/* pool: one vector per text from its tokens' hidden states (sentence-transformers Pooling)
 *
 * x [T,D] f32; offsets [texts + 1]; skip [texts] or NULL: leading tokens left out of the pooling
 * (prompt; include_prompt = false), never all of them. modes: embed_pooling bits, results
 * concatenated in the order of the bits. out [texts, n_modes * D] f32, stride ldo.
 * Sums run over tokens in ascending order in double and are rounded once. WEIGHTED_MEAN: weight of
 * token i (0-based within the text, skipped tokens counted) is i + 1. CLS is the first token
 * that is not skipped (as sentence-transformers 6), LAST the last. */
#ifndef EMB_KERNELS_POOL_H
#define EMB_KERNELS_POOL_H

#include "kernels/exec.h"

typedef struct emb_pool_args {
    const float *x;
    const int32_t *offsets, *skip;
    float *out;
    int64_t texts, dim, ldo;
    int32_t modes, reserved;
} emb_pool_args;

embed_status emb_pool_texts(emb_exec *exec, const emb_pool_args *args);

/* In place: x[i,:dim] /= max(||x[i,:dim]||_2, 1e-12), the norm in double over ascending
 * dimensions (torch.nn.functional.normalize). */
void emb_l2_normalize(float *x, int64_t rows, int64_t dim, int64_t ldx);

#endif
