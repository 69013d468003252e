/* gemm_cuda_tf32: a product of f32 matrices on the tensor cores, for callers that ask for it (tf32
 * of gemm_cuda.h): both factors rounded to tf32, 10 bits behind the point, to nearest (PTX ISA 8.7,
 * cvt.rna.tf32.f32), sums in f32, k ascending by 8. Tiles and stages are those of gemm_cuda_mma
 * with chunks of 4 floats in the place of 8 halves: ldmatrix moves rows of 16 bytes, so that the
 * word a lane gets is the float that mma.m16n8k8 wants there. */
#ifndef EMB_KERNELS_GEMM_CUDA_TF32_H
#define EMB_KERNELS_GEMM_CUDA_TF32_H

#include "kernels/gemm/gemm_cuda_mma.h"

enum { EMB_TF32_BK = 32 };

__device__ static inline uint32_t emb_round_tf32(uint32_t bits) {
#if defined(__CUDACC__)
    uint32_t r;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(r) : "f"(__uint_as_float(bits)));
    return r;
#else
    return (bits & 0x7f800000u) == 0x7f800000u ? bits : (bits + 0x1000u) & 0xffffe000u;
#endif
}

/* 4 floats to one chunk, zeros for all but the first n; asynchronously as emb_copy_chunk. */
__device__ static inline void emb_tf32_copy(uint4 *to, const float *p, int n, int aligned) {
    if (aligned) {
        emb_copy_async(to, p, 4 * n);
        return;
    }
    EMB_UNROLL
    for (int i = 0; i < 4; i++)
        ((float *)to)[i] = i < n ? p[i] : 0.0f;
}

__device__ static inline int emb_tf32_left(int64_t left) {
    return left <= 0 ? 0 : left < 4 ? (int)left : 4;
}

/* As emb_gemm_load. */
template <class S, bool NN>
__device__ inline void emb_tf32_load(const emb_gemm_params &p, uint4 *stage,
                                     const int (&rows)[S::A_EACH], const float *w, int64_t n0,
                                     int64_t k0) {
    const emb_cuda_gemm_args &a = p.a;
    const int thread = (int)threadIdx.x;
    const int chunk = thread % EMB_GEMM_BK_CHUNKS;
    const int64_t k = k0 + chunk * 4;
    EMB_UNROLL
    for (int j = 0; j < S::A_EACH; j++) {
        const int row = (j * S::THREADS + thread) / EMB_GEMM_BK_CHUNKS;
        const int n = rows[j] >= 0 ? emb_tf32_left(a.k - k) : 0;
        const float *const from = (const float *)a.x + (n > 0 ? rows[j] * a.ldx + k : 0);
        emb_tf32_copy(stage + emb_swizzle<EMB_GEMM_BK_CHUNKS>(row, chunk), from, n, p.x_vector);
    }
    stage += S::A_CHUNKS;
    EMB_UNROLL
    for (int j = 0; j < S::B_EACH; j++) {
        const int i = j * S::THREADS + thread;
        if (NN) {
            const int row = i / (S::BN / 4), at = i % (S::BN / 4);
            const int64_t col = n0 + at * 4;
            const int n = k0 + row < a.k ? emb_tf32_left(a.n - col) : 0;
            emb_tf32_copy(stage + emb_swizzle<S::BN / 4>(row, at),
                          w + (n > 0 ? (k0 + row) * a.n + col : 0), n, p.w_vector);
        } else {
            const int row = i / EMB_GEMM_BK_CHUNKS;
            const int n = n0 + row < a.n ? emb_tf32_left(a.k - k) : 0;
            emb_tf32_copy(stage + emb_swizzle<EMB_GEMM_BK_CHUNKS>(row, chunk),
                          w + (n > 0 ? (n0 + row) * a.k + k : 0), n, p.w_vector);
        }
    }
}

/* Rows k and k + 4 of columns wn + 8 j + g of a [k, n] tile, which ldmatrix cannot turn. */
template <class S>
__device__ inline void emb_tf32_column(const uint4 *tile, int kk, int col, uint32_t *b) {
    const int row = kk * 8 + (int)threadIdx.x % 4;
    EMB_UNROLL
    for (int half = 0; half < 2; half++)
        b[half] =
            ((const uint32_t *)(tile + emb_swizzle<S::BN / 4>(row + half * 4, col / 4)))[col % 4];
}

/* acc += the stage's A times its B. */
template <class S, bool NN>
__device__ inline void emb_tf32_multiply(const uint4 *stage, float (&acc)[S::MI][S::NI][4], int wm,
                                         int wn) {
    const int lane = (int)threadIdx.x % EMB_WARP;
    const uint4 *const b_tile = stage + S::A_CHUNKS;
    EMB_UNROLL
    for (int kk = 0; kk < EMB_TF32_BK / 8; kk++) {
        uint32_t a[S::MI][4], b[S::NI / 2][4];
        EMB_UNROLL
        for (int i = 0; i < S::MI; i++) {
            emb_ldmatrix(a[i], stage + emb_swizzle<EMB_GEMM_BK_CHUNKS>(wm + i * 16 + lane % 16,
                                                                       kk * 2 + lane / 16));
            EMB_UNROLL
            for (int c = 0; c < 4; c++)
                a[i][c] = emb_round_tf32(a[i][c]);
        }
        EMB_UNROLL
        for (int i = 0; i < S::NI / 2; i++) {
            const int half = lane / 8 % 2, col = wn + i * 16 + lane / 16 * 8;
            if (NN) {
                emb_tf32_column<S>(b_tile, kk, wn + i * 16 + lane / 4, b[i]);
                emb_tf32_column<S>(b_tile, kk, wn + i * 16 + 8 + lane / 4, b[i] + 2);
            } else {
                emb_ldmatrix(
                    b[i], b_tile + emb_swizzle<EMB_GEMM_BK_CHUNKS>(col + lane % 8, kk * 2 + half));
            }
            EMB_UNROLL
            for (int c = 0; c < 4; c++)
                b[i][c] = emb_round_tf32(b[i][c]);
        }
        EMB_UNROLL
        for (int i = 0; i < S::MI; i++)
            EMB_UNROLL
        for (int j = 0; j < S::NI; j++)
            emb_mma_tf32(acc[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
    }
}

template <class S, bool NN>
struct emb_gemm_floats { /* as emb_gemm_halves */
    typedef float type;
    enum { BK = EMB_TF32_BK };
    static __device__ void load(const emb_gemm_params &p, uint4 *stage,
                                const int (&rows)[S::A_EACH], const float *w, int64_t n0,
                                int64_t k0) {
        emb_tf32_load<S, NN>(p, stage, rows, w, n0, k0);
    }
    static __device__ void multiply(const uint4 *stage, float (&acc)[S::MI][S::NI][4], int wm,
                                    int wn) {
        emb_tf32_multiply<S, NN>(stage, acc, wm, wn);
    }
};

template <class S, bool NN>
__global__ void __launch_bounds__(S::THREADS, S::BLOCKS)
    emb_gemm_tf32(const __grid_constant__ emb_gemm_params p) {
    EMB_SHARED_DYNAMIC(shared);
    emb_gemm_block<emb_gemm_floats<S, NN>, S>(p, shared);
}

/* gemm_tf32.cu: enqueue it; the caller has checked the arguments and m > 0. */
embed_status emb_gemm_start_tf32(emb_cuda_exec *exec, const emb_gemm_params &p);

#endif
