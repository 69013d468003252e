/* shim_probe: small kernels, right and wrong ones, that show what the emulation does and says. */
#ifndef EMB_TESTS_CUDA_SHIM_PROBE_H
#define EMB_TESTS_CUDA_SHIM_PROBE_H

#include "kernels/cuda/cuda_exec.h"

enum {
    PROBE_REVERSE,           /* out[t] = in[255 - t] through shared memory */
    PROBE_REVERSE_UNGUARDED, /* the same without its barrier */
    PROBE_DIVERGENT,         /* half of the threads skip a barrier */
    PROBE_LEFT_WARP,         /* a lane leaves before a shuffle */
    PROBE_MIXED,             /* lanes of a warp in two different operations */
    PROBE_OVERRUN,           /* one element past a shared array */
    PROBE_PARTIAL_MASK,      /* a shuffle of half a warp */
    PROBE_UNALIGNED_COPY,    /* cp.async from an odd address */
    PROBE_UNINITIALISED,     /* shared memory that nobody wrote */
    PROBE_COPY_WAITED,       /* out = in by cp.async, 16 bytes a thread, the last copy cut to 4 */
    PROBE_COPY_EARLY,        /* the same without the wait */
    PROBE_WARP               /* out[0..]: what each collective gives, see the test */
};

/* out, in: 256 floats. */
typedef struct probe_args {
    float *out;
    const float *in;
    int32_t kind, reserved;
} probe_args;

/* One product of a warp: c [16, 8] += a [16, k] b [k, 8], row-major; dtype F16 or BF16 (k 16,
 * operands through ldmatrix, b transposed there) or F32 (tf32, k 8). */
typedef struct probe_product {
    const void *a, *b;
    float *c;
    int32_t dtype, reserved;
} probe_product;

#ifdef __cplusplus
extern "C" {
#endif
embed_status probe_run(emb_cuda_exec *exec, const probe_args *args);
embed_status probe_multiply(emb_cuda_exec *exec, const probe_product *args);
embed_status probe_launch(emb_cuda_exec *exec, int64_t grid_y, int32_t threads, size_t shared);
#ifdef __cplusplus
}
#endif

#endif
