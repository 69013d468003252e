/* hopper_probe: one product of a warpgroup, made right and in the ways that go wrong, to show what
 * the emulation of cuda_hopper.h does and says. */
#ifndef EMB_TESTS_CUDA_HOPPER_PROBE_H
#define EMB_TESTS_CUDA_HOPPER_PROBE_H

#include "kernels/cuda/cuda_exec.h"

enum {
    HOPPER_RIGHT,
    HOPPER_NO_FENCE,       /* of what cp.async wrote */
    HOPPER_NO_BARRIER,     /* the product does not wait for its operands */
    HOPPER_READ_EARLY,     /* accumulators are read before the product is waited for */
    HOPPER_NO_WAIT,        /* and it never is */
    HOPPER_NO_GROUP_FENCE, /* no wgmma.fence */
    HOPPER_TOO_MANY_BYTES, /* the barrier waits for more than the copies bring */
    HOPPER_NO_ARRIVAL,     /* a thread forgets to arrive */
    HOPPER_EXTRA_ARRIVAL,  /* one does twice */
    HOPPER_NOT_MADE,       /* a barrier without init */
    HOPPER_MISPLACED,      /* a swizzled tile in the middle of the pattern */
    HOPPER_DIFFERENT,      /* one warp multiplies something else */
    HOPPER_LEFT_OUT,       /* one warp does not multiply at all */
    HOPPER_LEFT_BEHIND,    /* the block ends before a copy has come */
    HOPPER_OUTSIDE,        /* an operand beyond the shared array */
    HOPPER_GIVEN_BACK      /* the operands are overwritten before the product is waited for */
};

/* y [64,32] f32 = x [64,64] w [32,64]^T, or with nn w [64,32]; bf16. */
typedef struct hopper_args {
    const void *x, *w;
    float *y;
    int32_t kind, nn;
} hopper_args;

#ifdef __cplusplus
extern "C"
#endif
    embed_status
    hopper_probe(emb_cuda_exec *exec, const hopper_args *args);

#endif
