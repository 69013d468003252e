/* moe_exchange_cuda: what lies between a router and the experts of other devices. Expert e of E
 * lives on rank e mod R, as number e / R there. Three steps around two all-to-alls, with no count
 * known to the host (Lepikhin et al. 2020, arXiv:2006.16668, with slots for the worst case instead
 * of dropped tokens):
 *
 * dispatch on the sender of T tokens: the row of pair (t,j) goes to
 *          send[place[t,j],:] = x[t,:], place[t,j] = T before(d) + its number among the pairs for
 *          rank d = expert[t,j] mod R, by expert, then in the router's order;
 *          counts [E]: pairs of each expert, by rank, then by expert.
 *          width(d) = min(top_k, experts of d) rows a token are room enough, since the experts of a
 *          token differ; before(d) is their sum over the ranks below d. Rows of send that no pair
 *          has are not written.
 * collect  on the owner of L experts, with counts [R,L] and the rows of sender s from first[s] on:
 *          offset [L + 1] and rows as gemm_cuda takes them, by expert, then by sender, and
 *          place[i] = where received row i is in that order, -1: it is none.
 * return   out[i,:] = y[place[i],:] where place[i] >= 0: back into the order received. Sent back,
 *          the rows are where dispatch's `place` says.
 *
 * expert, slot [T,top_k] and offset [E + 1] from router_topk_cuda; rows of row_bytes bytes.
 * bytes  dispatch 2 T top_k row_bytes, return the same, collect 8 a received row
 * bound  DRAM, as row_copy_cuda; collect: latency, (R L)^2 / 256 steps a thread
 * launch dispatch and return a warp a row, 8 rows a block; collect 256 rows a block
 * error  none: bytes are moved
 * limits 1 <= R <= 64, 1 <= top_k <= 16, 1 <= E <= 256, rows of either side < 2^31 */
#ifndef EMB_KERNELS_MOE_EXCHANGE_CUDA_H
#define EMB_KERNELS_MOE_EXCHANGE_CUDA_H

#include "kernels/cuda/cuda_exec.h"

enum { EMB_MOE_RANKS = 64 };

#if defined(__CUDACC__)
#define EMB_MOE_INLINE __host__ __device__ static inline
#else
#define EMB_MOE_INLINE static inline
#endif

/* L of a rank, and of all ranks below it. */
EMB_MOE_INLINE int32_t emb_moe_experts_of(int32_t experts, int32_t ranks, int32_t rank) {
    return experts / ranks + (rank < experts % ranks);
}
EMB_MOE_INLINE int32_t emb_moe_experts_before(int32_t experts, int32_t ranks, int32_t rank) {
    const int32_t more = experts % ranks;
    return rank * (experts / ranks) + (rank < more ? rank : more);
}
/* width and before */
EMB_MOE_INLINE int32_t emb_moe_width(int32_t experts, int32_t ranks, int32_t top_k, int32_t rank) {
    const int32_t n = emb_moe_experts_of(experts, ranks, rank);
    return n < top_k ? n : top_k;
}
EMB_MOE_INLINE int32_t emb_moe_before(int32_t experts, int32_t ranks, int32_t top_k, int32_t rank) {
    const int32_t more = experts % ranks, first = rank < more ? rank : more;
    return first * emb_moe_width(experts, ranks, top_k, 0) +
           (rank - first) * emb_moe_width(experts, ranks, top_k, ranks - 1);
}

typedef struct emb_cuda_moe_dispatch_args {
    const void *x;
    const int32_t *expert, *slot, *offset;
    void *send;
    int32_t *place, *counts;
    int64_t tokens, row_bytes;
    int32_t experts, top_k, ranks, reserved;
} emb_cuda_moe_dispatch_args;

typedef struct emb_cuda_moe_collect_args {
    const int32_t *counts;
    int32_t *offset, *rows, *place;
    int32_t experts, ranks;           /* experts: L */
    int32_t first[EMB_MOE_RANKS + 1]; /* first[ranks]: all rows received */
    int32_t reserved;
} emb_cuda_moe_collect_args;

typedef struct emb_cuda_moe_return_args {
    const void *y;
    const int32_t *place;
    void *out;
    int64_t rows, row_bytes;
} emb_cuda_moe_return_args;

#ifdef __cplusplus
extern "C" {
#endif
embed_status emb_cuda_moe_dispatch(emb_cuda_exec *exec, const emb_cuda_moe_dispatch_args *args);
embed_status emb_cuda_moe_collect(emb_cuda_exec *exec, const emb_cuda_moe_collect_args *args);
embed_status emb_cuda_moe_return(emb_cuda_exec *exec, const emb_cuda_moe_return_args *args);
#ifdef __cplusplus
}
#endif

#endif
