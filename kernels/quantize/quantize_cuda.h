/* quantize_cuda: the end of the pipeline: the first `dim` numbers of each vector (Matryoshka),
 * divided by their norm if asked for, in an output type
 *
 * x [rows, >= dim] f32, stride ldx; out as emb_quantize_row makes it (quantize.h): EMBED_F32, F16,
 * I8, U8, BINARY or UBINARY; row i at out + i * out_stride bytes, or out + index[i] * out_stride if
 * there is an index [rows] u64; a multiple of the element's size.
 * For EMBED_F32 out may be x, without an index. ranges [2, dim] f32 for I8 and U8.
 * normalize: x / max(||x||_2, 1e-12), the norm and the division in double, rounded to f32 before
 * the conversion.
 * bytes  rows * (4 * dim + output)   flops ~4 * rows * dim (double)
 * bound  DRAM, or the latency of two passes over a row that lies in L1
 * launch a block of 128 threads a row
 * error  norm: half an ulp of f32; conversions: the bits of emb_quantize_row
 * limits 0 <= rows < 2^31, 1 <= dim < 2^31 */
#ifndef EMB_KERNELS_QUANTIZE_CUDA_H
#define EMB_KERNELS_QUANTIZE_CUDA_H

#include "kernels/cuda/cuda_exec.h"

typedef struct emb_cuda_quantize_args {
    const float *x;
    const float *ranges;
    void *out;
    const uint64_t *index;
    const int32_t *count;
    int64_t rows, dim, ldx, out_stride;
    int32_t output, normalize;
} emb_cuda_quantize_args;

#ifdef __cplusplus
extern "C"
#endif
    embed_status
    emb_cuda_quantize(emb_cuda_exec *exec, const emb_cuda_quantize_args *args);

#endif
