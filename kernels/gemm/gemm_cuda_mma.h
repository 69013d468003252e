/* gemm_cuda_mma: a tile of a product of f16 or bf16 matrices on the tensor cores. Stages of 64
 * values of k arrive by cp.async in swizzled tiles, ldmatrix makes fragments of them; the finished
 * tile passes through shared memory in f32, so that global memory is written 16 bytes a thread. */
#ifndef EMB_KERNELS_GEMM_CUDA_MMA_H
#define EMB_KERNELS_GEMM_CUDA_MMA_H

#include "kernels/cuda/cuda_mma.h"
#include "kernels/gemm/gemm_cuda_tile.h"

enum { EMB_GEMM_BK = 64, EMB_GEMM_BK_CHUNKS = EMB_GEMM_BK / 8 };

/* A block's tile of BM x BN, made by ROWS x COLS warps. */
template <int BM_, int BN_, int ROWS_, int COLS_, int STAGES_, int BLOCKS_>
struct emb_gemm_shape {
    enum {
        BM = BM_,
        BN = BN_,
        ROWS = ROWS_,
        COLS = COLS_,
        STAGES = STAGES_,
        BLOCKS = BLOCKS_, /* that should fit a multiprocessor, as far as registers go */
        THREADS = EMB_WARP * ROWS * COLS,
        WM = BM / ROWS,
        WN = BN / COLS,
        MI = WM / 16,
        NI = WN / 8,
        A_CHUNKS = BM * EMB_GEMM_BK_CHUNKS,
        B_CHUNKS = BN * EMB_GEMM_BK_CHUNKS,
        STAGE_CHUNKS = A_CHUNKS + B_CHUNKS,
        A_EACH = A_CHUNKS / THREADS,
        B_EACH = B_CHUNKS / THREADS,
        OUT_STRIDE = BN + 4, /* floats */
        PIPE_BYTES = STAGES * STAGE_CHUNKS * 16,
        OUT_BYTES = BM * OUT_STRIDE * 4,
        SHARED = (int)PIPE_BYTES > (int)OUT_BYTES ? (int)PIPE_BYTES : (int)OUT_BYTES
    };
    static_assert(A_EACH * THREADS == A_CHUNKS && B_EACH * THREADS == B_CHUNKS, "no rest");
    static_assert(WM % 16 == 0 && WN % 16 == 0 && THREADS % EMB_GEMM_BK_CHUNKS == 0, "fragments");
};

/* Rows of A and B of the stage that starts at k0. rows[j]: row of x of this thread's j-th chunk, or
 * -1. */
template <class T, class S, bool NN>
__device__ inline void emb_gemm_load(const emb_gemm_params &p, uint4 *stage,
                                     const int (&rows)[S::A_EACH], const T *w, int64_t n0,
                                     int64_t k0) {
    const emb_cuda_gemm_args &a = p.a;
    const int thread = (int)threadIdx.x;
    const int chunk = thread % EMB_GEMM_BK_CHUNKS;
    const int64_t k = k0 + chunk * 8;
    EMB_UNROLL
    for (int j = 0; j < S::A_EACH; j++) {
        const int row = (j * S::THREADS + thread) / EMB_GEMM_BK_CHUNKS;
        const int n = rows[j] >= 0 && k < a.k ? (a.k - k < 8 ? (int)(a.k - k) : 8) : 0;
        const T *const from = (const T *)a.x + (n > 0 ? rows[j] * a.ldx + k : 0);
        emb_copy_chunk(stage + emb_swizzle<EMB_GEMM_BK_CHUNKS>(row, chunk), from, n, p.x_vector);
    }
    stage += S::A_CHUNKS;
    EMB_UNROLL
    for (int j = 0; j < S::B_EACH; j++) {
        const int i = j * S::THREADS + thread;
        if (NN) {
            const int row = i / (S::BN / 8), at = i % (S::BN / 8);
            const int64_t col = n0 + at * 8, left = k0 + row < a.k ? a.n - col : 0;
            const int n = left <= 0 ? 0 : left < 8 ? (int)left : 8;
            emb_copy_chunk(stage + emb_swizzle<S::BN / 8>(row, at),
                           w + (n > 0 ? (k0 + row) * a.n + col : 0), n, p.w_vector);
        } else {
            const int row = i / EMB_GEMM_BK_CHUNKS;
            const int64_t left = n0 + row < a.n ? a.k - k : 0;
            const int n = left <= 0 ? 0 : left < 8 ? (int)left : 8;
            emb_copy_chunk(stage + emb_swizzle<EMB_GEMM_BK_CHUNKS>(row, chunk),
                           w + (n > 0 ? (n0 + row) * a.k + k : 0), n, p.w_vector);
        }
    }
}

/* acc += the stage's A times its B. */
template <class T, class S, bool NN>
__device__ inline void emb_gemm_multiply(const uint4 *stage, float (&acc)[S::MI][S::NI][4], int wm,
                                         int wn) {
    const int lane = (int)threadIdx.x % EMB_WARP;
    const uint4 *const b_tile = stage + S::A_CHUNKS;
    EMB_UNROLL
    for (int kk = 0; kk < EMB_GEMM_BK / 16; kk++) {
        uint32_t a[S::MI][4], b[S::NI / 2][4];
        EMB_UNROLL
        for (int i = 0; i < S::MI; i++)
            emb_ldmatrix(a[i], stage + emb_swizzle<EMB_GEMM_BK_CHUNKS>(wm + i * 16 + lane % 16,
                                                                       kk * 2 + lane / 16));
        EMB_UNROLL
        for (int i = 0; i < S::NI / 2; i++) {
            /* matrices: columns 0-7 of both halves of k, then columns 8-15 */
            const int half = lane / 8 % 2, col = wn + i * 16 + lane / 16 * 8;
            if (NN)
                emb_ldmatrix_transposed(
                    b[i], b_tile + emb_swizzle<S::BN / 8>(kk * 16 + half * 8 + lane % 8, col / 8));
            else
                emb_ldmatrix(
                    b[i], b_tile + emb_swizzle<EMB_GEMM_BK_CHUNKS>(col + lane % 8, kk * 2 + half));
        }
        EMB_UNROLL
        for (int i = 0; i < S::MI; i++)
            EMB_UNROLL
        for (int j = 0; j < S::NI; j++)
            emb_mma(T(), acc[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
    }
}

/* Sums and bias to the f32 tile `out`. */
template <class S>
__device__ inline void emb_gemm_spill(const emb_cuda_gemm_args &a, const float *bias, int64_t n0,
                                      const float (&acc)[S::MI][S::NI][4], float *out, int wm,
                                      int wn) {
    const int lane = (int)threadIdx.x % EMB_WARP, g = lane / 4, q = lane % 4;
    EMB_UNROLL
    for (int j = 0; j < S::NI; j++) {
        const int col = wn + j * 8 + q * 2;
        const float b0 = bias != NULL && n0 + col < a.n ? bias[n0 + col] : 0.0f;
        const float b1 = bias != NULL && n0 + col + 1 < a.n ? bias[n0 + col + 1] : 0.0f;
        EMB_UNROLL
        for (int i = 0; i < S::MI; i++)
            EMB_UNROLL
        for (int half = 0; half < 2; half++)
            *(float2 *)(out + (wm + i * 16 + half * 8 + g) * S::OUT_STRIDE + col) =
                float2{acc[i][j][half * 2] + b0, acc[i][j][half * 2 + 1] + b1};
    }
}

/* A block's tile. How: type, BK, load and multiply of the stages, see emb_gemm_halves. */
template <class How, class S>
__device__ inline void emb_gemm_block(const emb_gemm_params &p, unsigned char *shared) {
    typedef typename How::type T;
    const emb_cuda_gemm_args &a = p.a;
    const emb_gemm_rows r = emb_gemm_find_rows(a, S::BM);
    const int thread = (int)threadIdx.x, warp = thread / EMB_WARP;
    const int wm = warp / S::COLS * S::WM, wn = warp % S::COLS * S::WN;
    const int64_t n0 = (int64_t)blockIdx.x * S::BN;
    const int stages = (int)((a.k + How::BK - 1) / How::BK);
    uint4 *const pipe = (uint4 *)shared;
    int rows[S::A_EACH];
    float acc[S::MI][S::NI][4];
    if (r.first >= r.end)
        return;
    const T *const w = (const T *)a.w + (int64_t)r.group * a.n * a.k;
    EMB_UNROLL
    for (int j = 0; j < S::A_EACH; j++) {
        const int64_t m = r.first + (j * S::THREADS + thread) / EMB_GEMM_BK_CHUNKS;
        rows[j] = m >= r.end ? -1 : a.x_rows != NULL ? a.x_rows[m] : (int)m;
    }
    EMB_UNROLL
    for (int i = 0; i < S::MI; i++)
        EMB_UNROLL
    for (int j = 0; j < S::NI; j++)
        EMB_UNROLL
    for (int c = 0; c < 4; c++)
        acc[i][j][c] = 0.0f;
    for (int s = 0; s < S::STAGES - 1; s++) {
        if (s < stages)
            How::load(p, pipe + s * S::STAGE_CHUNKS, rows, w, n0, (int64_t)s * How::BK);
        emb_copy_commit();
    }
    for (int s = 0; s < stages; s++) {
        emb_copy_wait<S::STAGES - 2>();
        __syncthreads(); /* stage s is there for all, and all are done with the one before */
        const int next = s + S::STAGES - 1;
        if (next < stages)
            How::load(p, pipe + next % S::STAGES * S::STAGE_CHUNKS, rows, w, n0,
                      (int64_t)next * How::BK);
        emb_copy_commit();
        How::multiply(pipe + s % S::STAGES * S::STAGE_CHUNKS, acc, wm, wn);
    }
    __syncthreads(); /* nothing is under way any more: the last groups are empty */
    float *const out = (float *)shared;
    const float *const bias = a.bias != NULL ? a.bias + r.group * a.n : NULL;
    emb_gemm_spill<S>(a, bias, n0, acc, out, wm, wn);
    __syncthreads();
    for (int i = thread; i < S::BM * S::BN / 8; i += S::THREADS) {
        const int row = i / (S::BN / 8), col = i % (S::BN / 8) * 8;
        const int64_t left = a.n - (n0 + col);
        float v[8];
        if (r.first + row >= r.end || left <= 0)
            continue;
        emb_load8(out + row * S::OUT_STRIDE + col, v);
        emb_activate8(a.act, v);
        emb_gemm_store8<T>(p, r.first + row, n0 + col, left < 8 ? (int)left : 8, v);
    }
}

/* 16-bit types */
template <class T, class S, bool NN>
struct emb_gemm_halves {
    typedef T type;
    enum { BK = EMB_GEMM_BK };
    static __device__ void load(const emb_gemm_params &p, uint4 *stage,
                                const int (&rows)[S::A_EACH], const T *w, int64_t n0, int64_t k0) {
        emb_gemm_load<T, S, NN>(p, stage, rows, w, n0, k0);
    }
    static __device__ void multiply(const uint4 *stage, float (&acc)[S::MI][S::NI][4], int wm,
                                    int wn) {
        emb_gemm_multiply<T, S, NN>(stage, acc, wm, wn);
    }
};

template <class T, class S, bool NN>
__global__ void __launch_bounds__(S::THREADS, S::BLOCKS)
    emb_gemm_mma(const __grid_constant__ emb_gemm_params p) {
    EMB_SHARED_DYNAMIC(shared);
    emb_gemm_block<emb_gemm_halves<T, S, NN>, S>(p, shared);
}

#endif
