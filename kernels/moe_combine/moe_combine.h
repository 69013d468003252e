/* moe_combine: y[t,:] = sum_j gate[t,j] * o[slot[t,j],:] + bias
 * (contrastors layers/moe.py: weighted sum of the chosen experts, one shared output bias)
 *
 * o [T*top_k, D] f32, gate and slot [T, top_k] from router_topk, bias [D] or NULL, y [T,D].
 * j ascending, fma(gate, o, acc) from acc = 0, then + bias. */
#ifndef EMB_KERNELS_MOE_COMBINE_H
#define EMB_KERNELS_MOE_COMBINE_H

#include "kernels/exec.h"

typedef struct emb_moe_combine_args {
    const float *o, *gate, *bias;
    const int32_t *slot;
    float *y;
    int64_t tokens, dim;
    int32_t top_k, reserved;
} emb_moe_combine_args;

embed_status emb_moe_combine(emb_exec *exec, const emb_moe_combine_args *args);

#endif
