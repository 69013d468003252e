/* gemm_cuda: y[m,n] = act(sum_k x[m,k] * w[n,k] + bias[n]) (* mul[m,n]), dense or for the experts
 * of a MoE layer, whose sizes only the device knows
 *
 * x     rows of K elements of dtype with stride ldx; row m of the product is x[x_rows[m]] where
 *       x_rows is not NULL: the router's `rows`, gathered while loading, no permuted copy
 * w     EMB_CUDA_NT: [N,K] as torch.nn.Linear stores it, EMB_CUDA_NN: [K,N]; dtype; `groups` of
 *       them one after the other
 * bias  f32 [groups,N] or NULL; mul [M,N] dtype, stride ldmul, or NULL (the gated variants: the up
 *       projection is written first); y [M,N] dtype, stride ldy, may be mul, must not alias x
 * offset [groups + 1] int32 on the device: group g has rows offset[g] .. offset[g + 1] - 1 of
 *       x_rows, y and mul; M is then only the most there can be. NULL: one group of M rows.
 * act   an emb_activation of kernels/gemm/gemm.h; 0: none
 *
 * sums  f16 and bf16: mma.sync m16n8k16 or, on sm_90, wgmma m64nNk16; f32 accumulators, k
 *       ascending by 16. f32: one chain of fused multiply-adds, k ascending, no tensor cores; with
 *       tf32 (gemm_cuda_tf32.h) mma.sync m16n8k8 of factors rounded to tf32, k ascending by 8.
 *       Then bias, activation and product in f32, rounded to dtype once.
 * bits  No sum is split, so an element's bits depend on its row of x and column of w alone, not on
 *       M, the tile sizes or the groups. mma.sync and wgmma may differ, so what chooses is the
 *       same for all batches of a model: the device, dtype, and whether x (address, ldx) and w
 *       (address, K or with NN N) keep to 16 bytes. That the width N of a wgmma changes no bit is
 *       a property of the hardware that tests/gpu.sh checks.
 * flops 2*M*N*K   bytes elt*(M*K + M*N (+ M*N)) + elt*N*K a group
 * bound M large: tensor cores, ~60% of their rate on sm_90 by mma.sync, near it on sm_80, 89, 120;
 *       by wgmma their rate, or the 53 bytes a cycle from the L2 cache that this takes; the ~20
 *       instructions an element of the activation run beside the products of the next tile. M <=
 *       32: weight bandwidth, N/32 blocks with up to 15 stages of 4 KiB of w each under way.
 *       Nothing of wgmma has been measured yet.
 * launch mma.sync: tiles of 128 x 128 (4 warps of 64 x 64, 3 stages of K 64, 96 KiB) where they
 *       make a wave of blocks, else 64 x 64 (4 warps of 32 x 32, 4 stages, 64 KiB), for up to 32
 *       rows a group 16 x 32 (2 warps, 16 stages, 96 KiB). f32: 64 x 64 or 16 x 64, 256 threads;
 *       with tf32 128 x 64 (4 warps of 64 x 32, 3 stages of K 32, 72 KiB) or 16 x 32.
 *       wgmma: a block takes tile after tile, along a row of tiles first: 128 x 192 (1 + 2
 *       warpgroups, 5 stages of K 64, 201 KiB) where that makes a tile for every second
 *       multiprocessor and the rows fill half of it, else 64 x 128 (1 + 1, 4 stages, 97 KiB, 2
 *       blocks a multiprocessor), else 64 x 32 (1 + 1, 16 stages, 193 KiB).
 *       Groups: M / tile + groups rows of tiles; group g starts at tile offset[g] / tile + g,
 *       which leaves each enough, and surplus tiles end at once.
 * error |y - act(s) mul| <= 1.13 ((K/4 + 8) 2^-23 sum_k |x w| + 2e-6 |s|) |mul| + half an ulp of
 *       dtype; f32: K 2^-24 in place of (K/4 + 8) 2^-23; tf32: 2^-10 + 2^-21 + (K/2 + 8) 2^-23
 * limits 0 <= M < 2^20, 1 <= N, K < 2^31, 1 <= groups <= 256 */
#ifndef EMB_KERNELS_GEMM_CUDA_H
#define EMB_KERNELS_GEMM_CUDA_H

#include "kernels/cuda/cuda_exec.h"

/* The numbers of emb_gemm's layouts and of emb_activation. */
enum { EMB_CUDA_NT = 0, EMB_CUDA_NN = 1 };
enum {
    EMB_CUDA_ACT_NONE = 0,
    EMB_CUDA_ACT_GELU = 1,
    EMB_CUDA_ACT_GELU_TANH = 2,
    EMB_CUDA_ACT_RELU = 3,
    EMB_CUDA_ACT_SILU = 4,
    EMB_CUDA_ACT_SIGMOID = 5,
    EMB_CUDA_ACT_TANH = 6
};

typedef struct emb_cuda_gemm_args {
    const void *x;
    const int32_t *x_rows;
    const void *w;
    const float *bias;
    const void *mul;
    void *y;
    const int32_t *offset;
    const int32_t *count; /* rows that are there; without offset only */
    int64_t m, n, k;
    int64_t ldx, ldy, ldmul;
    int32_t groups, layout, dtype, act;
    int32_t tf32, reserved; /* tf32 1: EMBED_F32 by tensor cores */
} emb_cuda_gemm_args;

/* The operations gemm_mma and gemm_sm90, to compare the two: as gemm, but 16-bit products by
 * mma.sync always, or by wgmma or not at all (EMBED_ERR_INTERNAL where gemm would take the other).
 */
typedef emb_cuda_gemm_args emb_cuda_gemm_mma_args;
typedef emb_cuda_gemm_args emb_cuda_gemm_sm90_args;

#ifdef __cplusplus
extern "C" {
#endif
embed_status emb_cuda_gemm(emb_cuda_exec *exec, const emb_cuda_gemm_args *args);
embed_status emb_cuda_gemm_mma(emb_cuda_exec *exec, const emb_cuda_gemm_args *args);
embed_status emb_cuda_gemm_sm90(emb_cuda_exec *exec, const emb_cuda_gemm_args *args);
#ifdef __cplusplus
}
#endif

#endif
