/* cuda_exec: where a CUDA operation runs, and what every launcher promises.
 *
 *   - emb_cuda_<op>(exec, args) checks limits, enqueues its kernels on exec->stream and returns. It
 *     never allocates, synchronises, reads anything back or touches the default stream, so a whole
 *     forward pass can be captured into a graph. Nothing to do (0 rows) enqueues nothing.
 *   - All pointers in args are device pointers (or host memory that the device can read). Elements
 *     are exec-independent: `dtype` is EMBED_F32, EMBED_F16 or EMBED_BF16 for activations and the
 *     matrices they meet; biases, norms, gates, logits and angles are always f32.
 *   - Sums are f32 or wider, in an order that depends on the shape of one row (of one text in
 *     attention and pooling) alone: a row's bits never depend on its neighbours, on the number of
 *     rows or on the launch geometry.
 *   - `count`, where an args struct has it, is a device int32 that says how many of `tokens` rows
 *     are there (NULL: all), so that one captured graph serves every batch up to its bucket; rows
 *     beyond it are neither read nor written.
 *   - Any alignment of the element is accepted; rows whose start and length are multiples of 16
 *     bytes take the fast loads.
 *
 * The same sources compile for the GPU with nvcc and for the CPU with any C++17 compiler
 * (cuda_emulation.h), where a launch runs to its end before it returns. */
#ifndef EMB_KERNELS_CUDA_EXEC_H
#define EMB_KERNELS_CUDA_EXEC_H

#include <stddef.h>
#include <stdint.h>

#include "embed.h"

typedef struct emb_cuda_exec {
    void *stream;         /* cudaStream_t; any pointer under emulation */
    int32_t processors;   /* multiprocessors, for the choice of tile sizes; 0: unknown */
    int32_t shared_bytes; /* shared memory a block may ask for (cudaDevAttrMaxSharedMemory-
                             PerBlockOptin); 0: 99 KiB, which all supported architectures have */
    int32_t error;        /* out: cudaError_t of a failed launch, which has been cleared */
    int32_t arch;         /* compute capability: 90 is 9.0; 0: unknown */
    const char *failed;   /* out: on any failure, the kernel or the limit that was broken; static */
    void (*tensor_maps)(void); /* cuTensorMapEncodeTiled of the driver; NULL: there is none */
} emb_cuda_exec;

#endif
