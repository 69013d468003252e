#include "kernels/pool/pool_cuda.h"

#include "kernels/cuda/cuda_port.h"

namespace {

enum { WARPS = 8, THREADS = WARPS * EMB_WARP, WIDTH = 8 * EMB_WARP, MOST_TEXTS = 65535 };

struct params {
    emb_cuda_pool_args a;
    int32_t vector;
    int64_t first_text; /* of this launch */
};

enum { SUM, WEIGHTED, MAX };

/* The tokens of a text that count, first .. end - 1 of those that start at `start`. */
struct span {
    int64_t start;
    int first, end;
};

/* 8 dimensions of this thread over the tokens of its warp, then of all warps: thread d gets the
 * block's dimension d. */
template <class T, int KIND>
__device__ inline double gather(const params &p, const span &s, int64_t at, int n, double *part) {
    const int lane = (int)threadIdx.x % EMB_WARP, warp = (int)threadIdx.x / EMB_WARP;
    double v[8];
    EMB_UNROLL
    for (int i = 0; i < 8; i++)
        v[i] = KIND == MAX ? -(double)INFINITY : 0.0;
    EMB_UNROLL_4
    for (int t = s.first + warp; t < s.end; t += WARPS) {
        const T *const row = (const T *)p.a.x + (s.start + t) * p.a.dim + at;
        const double weight = KIND == WEIGHTED ? (double)(t + 1) : 1.0;
        float x[8];
        if (n <= 0)
            break;
        if (p.vector)
            emb_load8(row, x);
        else
            emb_load_some(row, n, x);
        EMB_UNROLL
        for (int i = 0; i < 8; i++)
            if (KIND == MAX)
                v[i] = v[i] > (double)x[i] ? v[i] : (double)x[i];
            else
                v[i] += weight * (double)x[i];
    }
    __syncthreads(); /* what was there before has been read */
    EMB_UNROLL
    for (int i = 0; i < 8; i++)
        part[warp * WIDTH + lane * 8 + i] = v[i];
    __syncthreads();
    double all = part[threadIdx.x];
    EMB_UNROLL
    for (int w = 1; w < WARPS; w++) {
        const double other = part[w * WIDTH + (int)threadIdx.x];
        if (KIND == MAX)
            all = all > other ? all : other;
        else
            all += other;
    }
    return all;
}

template <class T>
__global__ void __launch_bounds__(THREADS, 2) pool(const __grid_constant__ params p) {
    EMB_SHARED(double, part, WARPS *WIDTH);
    const int64_t text = p.first_text + blockIdx.y, block = (int64_t)blockIdx.x * WIDTH;
    const int64_t mine = block + threadIdx.x, at = block + threadIdx.x % EMB_WARP * 8;
    const int n = at >= p.a.dim ? 0 : p.a.dim - at < 8 ? (int)(p.a.dim - at) : 8;
    const int modes = p.a.modes;
    if (p.a.count != NULL && text >= *p.a.count)
        return;
    span s = {p.a.offsets[text], p.a.skip != NULL ? p.a.skip[text] : 0, 0};
    s.end = (int)(p.a.offsets[text + 1] - s.start);
    if (s.first >= s.end)
        return;
    const double tokens = (double)(s.end - s.first);
    float *out = p.a.out + text * p.a.ldo + mine;
    const int there = mine < p.a.dim;
    if (p.a.gathered) {
        if (there)
            *out = emb_to_float(((const T *)p.a.x)[text * p.a.dim + mine]);
        return;
    }
    const T *const x = (const T *)p.a.x + s.start * p.a.dim + mine;
    if (modes & EMBED_POOL_CLS) {
        if (there)
            *out = emb_to_float(x[s.first * p.a.dim]);
        out += p.a.dim;
    }
    if (modes & EMBED_POOL_MAX) {
        const double v = gather<T, MAX>(p, s, at, n, part);
        if (there)
            *out = (float)v;
        out += p.a.dim;
    }
    if (modes & (EMBED_POOL_MEAN | EMBED_POOL_MEAN_SQRT)) {
        const double v = gather<T, SUM>(p, s, at, n, part);
        if (modes & EMBED_POOL_MEAN) {
            if (there)
                *out = (float)(v / tokens);
            out += p.a.dim;
        }
        if (modes & EMBED_POOL_MEAN_SQRT) {
            if (there)
                *out = (float)(v / sqrt(tokens));
            out += p.a.dim;
        }
    }
    if (modes & EMBED_POOL_WEIGHTED_MEAN) {
        const double last = (double)s.end, first = (double)s.first;
        const double v = gather<T, WEIGHTED>(p, s, at, n, part);
        if (there)
            *out = (float)(v / ((last * (last + 1.0) - first * (first + 1.0)) / 2.0));
        out += p.a.dim;
    }
    if ((modes & EMBED_POOL_LAST) && there)
        *out = emb_to_float(x[(s.end - 1) * p.a.dim]);
}

template <class T>
embed_status start(emb_cuda_exec *x, params p) {
    const unsigned across = (unsigned)((p.a.dim + WIDTH - 1) / WIDTH);
    embed_status st = EMBED_OK;
    for (; p.first_text < p.a.texts && st == EMBED_OK; p.first_text += MOST_TEXTS) {
        const int64_t left = p.a.texts - p.first_text;
        const unsigned texts = left < MOST_TEXTS ? (unsigned)left : (unsigned)MOST_TEXTS;
        st = emb_cuda_launch(x, "pool", pool<T>, dim3(across, texts), THREADS, 0, p);
    }
    return st;
}

} // namespace

extern "C" embed_status emb_cuda_pool(emb_cuda_exec *exec, const emb_cuda_pool_args *args) {
    const emb_cuda_pool_args &a = *args;
    const params p = {a, (uintptr_t)a.x % 16 == 0 && a.dim % 8 == 0, 0};
    if (a.texts < 0 || a.texts > INT32_MAX || a.dim < 1 || a.dim > INT32_MAX || a.modes < 1 ||
        a.modes >= 2 * EMBED_POOL_LAST ||
        (a.gathered && a.modes != EMBED_POOL_CLS && a.modes != EMBED_POOL_LAST))
        return emb_cuda_refuse(exec, "pool: shape or modes");
    switch (a.dtype) {
    case EMBED_F32:
        return start<float>(exec, p);
    case EMBED_F16:
        return start<emb_f16>(exec, p);
    case EMBED_BF16:
        return start<emb_bf16>(exec, p);
    default:
        return emb_cuda_refuse(exec, "pool: type");
    }
}
