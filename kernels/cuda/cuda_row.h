/* cuda_row: kernels that make one output row of D elements from inputs of the same row, with or
 * without layer norm: the row lives in registers from the first load to the last store.
 *
 * D <= 1024: one warp a row, 4 rows a block; up to 8192: a block of 256 threads a row. Thread l of
 * the G that share a row has elements (c G + l) 8 .. + 7 of chunk c; a sum goes over a thread's
 * elements ascending, over the lanes as a butterfly, over the warps ascending. G depends on D
 * alone.
 *
 * Op::args   has tokens, dim, count, dtype, y, gamma, beta, eps
 * Op::begin  per thread, before the loads: what the row needs (row numbers, gates)
 * Op::load   the row, zeros beyond its end; a whole input row at a time, so that all its loads are
 *            under way together
 * Op::finish after the stores, with the row as it was before rounding */
#ifndef EMB_KERNELS_CUDA_ROW_H
#define EMB_KERNELS_CUDA_ROW_H

#include "kernels/cuda/cuda_port.h"

enum { EMB_ROW_WIDEST = 8192, EMB_ROWS_A_BLOCK = 4 };

template <class A>
struct emb_row_params {
    A a;
    int32_t vector; /* all rows begin and end at multiples of 16 bytes */
};

/* How a row is spread: element type, warps, chunks a thread, 16-byte loads or single ones. */
template <class T_, int WARPS_, int CHUNKS_, bool VECTOR_>
struct emb_row_shape {
    typedef T_ T;
    enum { WARPS = WARPS_, CHUNKS = CHUNKS_, VECTOR = VECTOR_, GROUP = EMB_WARP * WARPS };
    typedef float row[CHUNKS][8];
};

/* Chunk c of this thread's elements of a row, zeros beyond its end. No branch keeps one load from
 * the next: where there is nothing, the row's beginning is loaded. */
template <class S, class E>
__device__ inline void emb_row_chunk(const E *from, int dim, int lane, int c, float v[8]) {
    const int at = (c * S::GROUP + lane) * 8, n = dim - at;
    if constexpr (S::VECTOR) {
        emb_load8(from + (n > 0 ? at : 0), v);
        EMB_UNROLL
        for (int i = 0; i < 8; i++)
            v[i] = n > 0 ? v[i] : 0.0f;
    } else {
        emb_load_slowly(from + (n > 0 ? at : 0), n, v);
    }
}

template <class S, class E>
__device__ inline void emb_row_get(const E *from, int dim, int lane, typename S::row &v) {
    EMB_UNROLL
    for (int c = 0; c < S::CHUNKS; c++)
        emb_row_chunk<S>(from, dim, lane, c, v[c]);
}

/* v += a row. */
template <class S, class E>
__device__ inline void emb_row_add(const E *from, int dim, int lane, typename S::row &v) {
    typename S::row w;
    emb_row_get<S>(from, dim, lane, w);
    EMB_UNROLL
    for (int c = 0; c < S::CHUNKS; c++)
        EMB_UNROLL
    for (int i = 0; i < 8; i++)
        v[c][i] += w[c][i];
}

/* Over the G = 32 WARPS threads of a row; every thread gets the sum. */
template <int WARPS>
__device__ inline float emb_row_sum(float v, float *partial) {
    v = emb_warp_sum(v);
    if (WARPS == 1)
        return v;
    __syncthreads(); /* the sum before has been read */
    if (threadIdx.x % EMB_WARP == 0)
        partial[threadIdx.x / EMB_WARP] = v;
    __syncthreads();
    float s = partial[0];
    EMB_UNROLL
    for (int w = 1; w < WARPS; w++)
        s += partial[w];
    return s;
}

/* v = (v - mean) rstd gamma + beta (Ba et al. 2016, eq. 3), variance in a second pass. */
template <class S>
__device__ inline void emb_row_normalize(typename S::row &v, int dim, int lane, const float *gamma,
                                         const float *beta, float eps, float *partial) {
    float sum = 0.0f, squares = 0.0f;
    EMB_UNROLL
    for (int c = 0; c < S::CHUNKS; c++)
        EMB_UNROLL
    for (int i = 0; i < 8; i++)
        sum += v[c][i];
    const float mean = emb_row_sum<S::WARPS>(sum, partial) / (float)dim;
    EMB_UNROLL
    for (int c = 0; c < S::CHUNKS; c++)
        EMB_UNROLL
    for (int i = 0; i < 8; i++) {
        v[c][i] -= mean;
        if ((c * S::GROUP + lane) * 8 + i < dim)
            squares = fmaf(v[c][i], v[c][i], squares);
    }
    const float variance = emb_row_sum<S::WARPS>(squares, partial) / (float)dim;
    const float rstd = 1.0f / sqrtf(variance + eps);
    EMB_UNROLL
    for (int c = 0; c < S::CHUNKS; c++) {
        float g[8], b[8] = {0, 0, 0, 0, 0, 0, 0, 0};
        emb_row_chunk<S>(gamma, dim, lane, c, g);
        if (beta != NULL)
            emb_row_chunk<S>(beta, dim, lane, c, b);
        EMB_UNROLL
        for (int i = 0; i < 8; i++)
            v[c][i] = fmaf(v[c][i] * rstd, g[i], b[i]);
    }
}

/* logits[e] = sum_d y[d] w[e, d] + bias[e] of the row as it was stored. */
template <class S>
__device__ inline void emb_row_logits(typename S::row &v, int dim, int lane, const float *w,
                                      const float *bias, int experts, float *logits,
                                      float *partial) {
    EMB_UNROLL
    for (int c = 0; c < S::CHUNKS; c++)
        EMB_UNROLL
    for (int i = 0; i < 8; i++)
        v[c][i] = (c * S::GROUP + lane) * 8 + i < dim
                      ? emb_to_float(emb_from_float<typename S::T>(v[c][i]))
                      : 0.0f;
    for (int e = 0; e < experts; e++) {
        typename S::row u;
        float dot = 0.0f;
        emb_row_get<S>(w + (int64_t)e * dim, dim, lane, u);
        EMB_UNROLL
        for (int c = 0; c < S::CHUNKS; c++)
            EMB_UNROLL
        for (int i = 0; i < 8; i++)
            dot = fmaf(v[c][i], u[c][i], dot);
        dot = emb_row_sum<S::WARPS>(dot, partial);
        if (lane == 0)
            logits[e] = bias != NULL ? dot + bias[e] : dot;
    }
}

template <class Op, class S>
__device__ inline void emb_row_make(const typename Op::args &a, int64_t t, int lane,
                                    float *partial) {
    const int dim = (int)a.dim;
    const typename Op::row row = Op::begin(a, t);
    typename S::T *const y = (typename S::T *)a.y + t * dim;
    typename S::row v;
    Op::template load<S>(a, row, lane, v);
    if (a.gamma != NULL)
        emb_row_normalize<S>(v, dim, lane, a.gamma, a.beta, a.eps, partial);
    EMB_UNROLL
    for (int c = 0; c < S::CHUNKS; c++) {
        const int at = (c * S::GROUP + lane) * 8, n = dim - at;
        if (n > 0 && S::VECTOR)
            emb_store8(y + at, v[c]);
        else if (n > 0)
            emb_store_slowly(y + at, n, v[c]);
    }
    Op::template finish<S>(a, t, lane, v, partial);
}

template <class Op, class T, int WARPS, int CHUNKS>
__global__ void __launch_bounds__(WARPS == 1 ? EMB_ROWS_A_BLOCK * EMB_WARP : WARPS * EMB_WARP,
                                  WARPS > 1     ? 2
                                  : CHUNKS == 4 ? 4
                                                : 5)
    emb_row_kernel(const __grid_constant__ emb_row_params<typename Op::args> p) {
    enum { GROUP = EMB_WARP * WARPS };
    EMB_SHARED(float, partial, WARPS);
    const int rows = WARPS == 1 ? EMB_ROWS_A_BLOCK : 1, lane = (int)threadIdx.x % GROUP;
    const int64_t t = (int64_t)blockIdx.x * rows + (int)threadIdx.x / GROUP;
    if (t >= p.a.tokens || (p.a.count != NULL && t >= *p.a.count))
        return;
    if (p.vector)
        emb_row_make<Op, emb_row_shape<T, WARPS, CHUNKS, true>>(p.a, t, lane, partial);
    else
        emb_row_make<Op, emb_row_shape<T, WARPS, CHUNKS, false>>(p.a, t, lane, partial);
}

/* For operations that have nothing to add. */
struct emb_row_op {
    template <class S, class A>
    __device__ static void finish(const A &, int64_t, int, typename S::row &, float *) {
    }
};

template <class Op, class T, int WARPS, int CHUNKS>
embed_status emb_row_start(emb_cuda_exec *x, const emb_row_params<typename Op::args> &p) {
    const int64_t rows = WARPS == 1 ? EMB_ROWS_A_BLOCK : 1;
    const dim3 grid((unsigned)((p.a.tokens + rows - 1) / rows));
    return emb_cuda_launch(x, Op::name(), emb_row_kernel<Op, T, WARPS, CHUNKS>, grid,
                           EMB_WARP * (WARPS == 1 ? EMB_ROWS_A_BLOCK : WARPS), 0, p);
}

template <class Op, class T>
embed_status emb_row_width(emb_cuda_exec *x, const emb_row_params<typename Op::args> &p) {
    if (p.a.dim <= 256)
        return emb_row_start<Op, T, 1, 1>(x, p);
    if (p.a.dim <= 512)
        return emb_row_start<Op, T, 1, 2>(x, p);
    if (p.a.dim <= 768)
        return emb_row_start<Op, T, 1, 3>(x, p);
    if (p.a.dim <= 1024)
        return emb_row_start<Op, T, 1, 4>(x, p);
    if (p.a.dim <= 2048)
        return emb_row_start<Op, T, 8, 1>(x, p);
    return emb_row_start<Op, T, 8, 4>(x, p);
}

static inline int emb_row_aligned(const void *p) {
    return (uintptr_t)p % 16 == 0;
}

/* Checks the limits and picks the kernel; `vector`: every pointer that Op reads is aligned. */
template <class Op>
embed_status emb_row_run(emb_cuda_exec *x, const typename Op::args *a, int vector) {
    const emb_row_params<typename Op::args> p = {
        *a, vector && a->dim % 8 == 0 && emb_row_aligned(a->y) && emb_row_aligned(a->gamma) &&
                emb_row_aligned(a->beta)};
    if (a->dim < 1 || a->dim > EMB_ROW_WIDEST || a->tokens < 0 || INT32_MAX < a->tokens)
        return emb_cuda_refuse(x, Op::name());
    if (a->tokens == 0)
        return EMBED_OK;
    switch (a->dtype) {
    case EMBED_F32:
        return emb_row_width<Op, float>(x, p);
    case EMBED_F16:
        return emb_row_width<Op, emb_f16>(x, p);
    case EMBED_BF16:
        return emb_row_width<Op, emb_bf16>(x, p);
    default:
        return emb_cuda_refuse(x, Op::name());
    }
}

#endif
