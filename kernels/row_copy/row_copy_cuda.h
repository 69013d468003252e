/* row_copy_cuda: for i < rows: to_i[0 .. bytes) = from_i[0 .. bytes), where from_i = from +
 * places[2 i] and to_i = places[2 i + 1]
 *
 * from: any base, or NULL: places[2 i] is an address then. Rows may lie in device memory or in host
 * memory that the device can read; no to_i overlaps another or any from_i. Rows whose ends are
 * multiples of 16 bytes move by 16 bytes a lane, else by 4, else by 1.
 * bytes  2*rows*bytes + 16*rows   flops 0
 * bound  DRAM, >= 85% of copy speed for rows of 512 bytes and more; with rows in host memory the
 *        bus
 * launch a warp a row, 8 rows a block   error none: bytes
 * limits 0 <= rows < 2^31, 1 <= bytes < 2^31 */
#ifndef EMB_KERNELS_ROW_COPY_CUDA_H
#define EMB_KERNELS_ROW_COPY_CUDA_H

#include "kernels/cuda/cuda_exec.h"

typedef struct emb_cuda_row_copy_args {
    const void *from;
    const uint64_t *places; /* [rows, 2] */
    int64_t rows, bytes;
} emb_cuda_row_copy_args;

#ifdef __cplusplus
extern "C"
#endif
    embed_status
    emb_cuda_row_copy(emb_cuda_exec *exec, const emb_cuda_row_copy_args *args);

#endif
