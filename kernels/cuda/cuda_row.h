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
 * Op::load   v[0..7], zeros before, = the row's elements i .. i + 7 (only n of them matter)
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

/* n elements of a row from p, the fast way where allowed. */
template <class T>
__device__ inline void emb_row_load(const T *p, int n, int vector, float v[8]) {
    if (vector)
        emb_load8(p, v);
    else
        emb_load_some(p, n, v);
}

template <class T>
__device__ inline void emb_row_add(const T *p, int n, int vector, float v[8]) {
    float w[8];
    emb_row_load(p, n, vector, w);
    EMB_UNROLL
    for (int i = 0; i < 8; i++)
        v[i] += w[i];
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
template <int WARPS, int CHUNKS>
__device__ inline void emb_row_normalize(float (&v)[CHUNKS][8], int dim, int lane, int vector,
                                         const float *gamma, const float *beta, float eps,
                                         float *partial) {
    enum { GROUP = EMB_WARP * WARPS };
    float sum = 0.0f, squares = 0.0f;
    EMB_UNROLL
    for (int c = 0; c < CHUNKS; c++)
        EMB_UNROLL
    for (int i = 0; i < 8; i++)
        sum += v[c][i];
    const float mean = emb_row_sum<WARPS>(sum, partial) / (float)dim;
    EMB_UNROLL
    for (int c = 0; c < CHUNKS; c++)
        EMB_UNROLL
    for (int i = 0; i < 8; i++) {
        v[c][i] -= mean;
        if ((c * GROUP + lane) * 8 + i < dim)
            squares = fmaf(v[c][i], v[c][i], squares);
    }
    const float variance = emb_row_sum<WARPS>(squares, partial) / (float)dim;
    const float rstd = 1.0f / sqrtf(variance + eps);
    EMB_UNROLL
    for (int c = 0; c < CHUNKS; c++) {
        const int at = (c * GROUP + lane) * 8, n = dim - at;
        float g[8], b[8] = {0, 0, 0, 0, 0, 0, 0, 0};
        if (n <= 0)
            continue;
        emb_row_load(gamma + at, n, vector, g);
        if (beta != NULL)
            emb_row_load(beta + at, n, vector, b);
        EMB_UNROLL
        for (int i = 0; i < 8; i++)
            v[c][i] = fmaf(v[c][i] * rstd, g[i], b[i]);
    }
}

/* logits[e] = sum_d y[d] w[e, d] + bias[e] of the row as it was stored. */
template <class T, int WARPS, int CHUNKS>
__device__ inline void emb_row_logits(float (&v)[CHUNKS][8], int dim, int lane, int vector,
                                      const float *w, const float *bias, int experts, float *logits,
                                      float *partial) {
    enum { GROUP = EMB_WARP * WARPS };
    EMB_UNROLL
    for (int c = 0; c < CHUNKS; c++)
        EMB_UNROLL
    for (int i = 0; i < 8; i++)
        v[c][i] = emb_to_float(emb_from_float<T>(v[c][i]));
    for (int e = 0; e < experts; e++) {
        float dot = 0.0f;
        EMB_UNROLL
        for (int c = 0; c < CHUNKS; c++) {
            const int at = (c * GROUP + lane) * 8, n = dim - at;
            float u[8];
            if (n <= 0)
                continue;
            emb_row_load(w + (int64_t)e * dim + at, n, vector, u);
            EMB_UNROLL
            for (int i = 0; i < 8; i++)
                if (i < n)
                    dot = fmaf(v[c][i], u[i], dot);
        }
        dot = emb_row_sum<WARPS>(dot, partial);
        if (lane == 0)
            logits[e] = bias != NULL ? dot + bias[e] : dot;
    }
}

template <class Op, class T, int WARPS, int CHUNKS>
__global__ void __launch_bounds__(WARPS == 1 ? EMB_ROWS_A_BLOCK * EMB_WARP : WARPS * EMB_WARP)
    emb_row_kernel(const __grid_constant__ emb_row_params<typename Op::args> p) {
    enum { GROUP = EMB_WARP * WARPS };
    EMB_SHARED(float, partial, WARPS);
    const int rows = WARPS == 1 ? EMB_ROWS_A_BLOCK : 1, dim = (int)p.a.dim;
    const int lane = (int)threadIdx.x % GROUP;
    const int64_t t = (int64_t)blockIdx.x * rows + (int)threadIdx.x / GROUP;
    if (t >= p.a.tokens || (p.a.count != NULL && t >= *p.a.count))
        return;
    const typename Op::row row = Op::begin(p.a, t);
    float v[CHUNKS][8];
    EMB_UNROLL
    for (int c = 0; c < CHUNKS; c++) {
        const int at = (c * GROUP + lane) * 8, n = dim - at;
        EMB_UNROLL
        for (int i = 0; i < 8; i++)
            v[c][i] = 0.0f;
        if (n > 0)
            Op::template load<T>(p.a, row, at, n, p.vector, v[c]);
    }
    if (p.a.gamma != NULL)
        emb_row_normalize<WARPS, CHUNKS>(v, dim, lane, p.vector, p.a.gamma, p.a.beta, p.a.eps,
                                         partial);
    T *const y = (T *)p.a.y + t * dim;
    EMB_UNROLL
    for (int c = 0; c < CHUNKS; c++) {
        const int at = (c * GROUP + lane) * 8, n = dim - at;
        if (n > 0 && p.vector)
            emb_store8(y + at, v[c]);
        else if (n > 0)
            emb_store_some(y + at, n, v[c]);
    }
    Op::template finish<T, WARPS, CHUNKS>(p.a, t, v, lane, p.vector, partial);
}

/* For operations that have nothing to add. */
struct emb_row_op {
    template <class T, int WARPS, int CHUNKS, class A>
    __device__ static void finish(const A &, int64_t, float (&)[CHUNKS][8], int, int, float *) {
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
