/* exec: where an operation runs. On the CPU: a thread pool, the instruction set chosen when the
 * model was opened, and scratch memory for each thread.
 *
 * Rules for every operation in kernels/:
 *   - emb_<op>(exec, args) splits the work into tasks over *outputs* and runs the per-ISA function
 *     of exec->isa on each. It never allocates. Tasks write disjoint rows or tiles.
 *   - One row's bits never depend on its neighbours, on the number of rows, on threads or on the
 *     ISA. Sums over a row use the canonical order below, elementwise functions one formula with
 *     explicit fused multiply-adds; the portable version gives the same bits as AVX2 and AVX-512.
 *   - Canonical sum of n floats: 16 lanes, lane l adds elements l, l+16, l+32 ... in order, then
 *     lanes are folded 16 -> 8 -> 4 -> 2 -> 1 as lane[l] + lane[l + half].
 *   - Canonical dot product in matrix products: see kernels/gemm/gemm.h.
 *   - Outputs are write-only; nothing outside the given extents is touched. */
#ifndef EMB_KERNELS_EXEC_H
#define EMB_KERNELS_EXEC_H

#include "base/threads.h"

typedef struct emb_isa emb_isa; /* kernels/isa.h: the table of per-ISA functions */

typedef struct emb_exec {
    emb_pool *pool;
    const emb_isa *isa;
    unsigned char *scratch; /* emb_pool_threads(pool) blocks of scratch_bytes, EMB_ALIGN aligned */
    size_t scratch_bytes;   /* per thread, a multiple of EMB_ALIGN */
} emb_exec;

static inline void *emb_exec_scratch(const emb_exec *exec, int thread) {
    return exec->scratch + (size_t)thread * exec->scratch_bytes;
}

/* A weight as it lies in the checkpoint: [rows, cols] row-major, dtype F32, F16 or BF16, any
 * alignment of the element. */
typedef struct emb_matrix {
    const void *data;
    int64_t rows, cols;
    int32_t dtype; /* embed_dtype */
    int32_t reserved;
} emb_matrix;

#endif
