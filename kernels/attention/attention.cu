#include "kernels/attention/attention_cuda.h"

#include "kernels/attention/attention_cuda_mma.h"

namespace {

/* ------------------------------------------------------------- f32 arithmetic, any head_dim */

enum { QUERIES = 16, KEYS = 32, WARPS = 4, EACH = QUERIES / WARPS, WIDEST = 256 };

/* Rows of one head to shared memory as rotated f32, `count` of them, zeros beyond the text. */
template <class T>
__device__ inline void load_rows(const emb_cuda_attention_args &a, const emb_attention_span &s,
                                 int first, int count, const T *head, int rotary, float *rows,
                                 int stride) {
    const int dim = a.head_dim, half = rotary / 2;
    for (int i = (int)threadIdx.x; i < count * dim; i += WARPS * EMB_WARP) {
        const int row = i / dim, d = i % dim, position = first + row;
        const T *const x = head + (s.start + position) * 3 * a.heads * dim;
        float v = 0.0f;
        if (position < s.length) {
            v = emb_to_float(x[d]);
            if (d < rotary) {
                const int64_t angle = (int64_t)position * half + d % half;
                float u = v, other = emb_to_float(x[d < half ? d + half : d - half]);
                if (d < half)
                    emb_attention_rotate(&u, &other, a.cos[angle], a.sin[angle]);
                else
                    emb_attention_rotate(&other, &u, a.cos[angle], a.sin[angle]);
                v = u;
            }
        }
        rows[row * stride + d] = v;
    }
}

/* Warp w has queries 4 w .. + 3; a lane has one key while scores are made, and dimensions lane,
 * lane + 32, ... while values are added up. */
template <class T, int DIMS>
__global__ void __launch_bounds__(WARPS *EMB_WARP, 4)
    attention_plain(const __grid_constant__ emb_attention_params p) {
    EMB_SHARED_DYNAMIC(shared);
    const emb_cuda_attention_args &a = p.a;
    const emb_attention_span s = emb_attention_find(a, QUERIES);
    const int lane = (int)threadIdx.x % EMB_WARP, warp = (int)threadIdx.x / EMB_WARP;
    const int dim = a.head_dim, stride = dim | 1; /* odd: lanes read different banks */
    const int rotary = a.cos != NULL ? a.rotary_dim : 0;
    const float c = a.scale * 1.44269504088896341f;
    if (s.first >= s.length)
        return;
    float *const queries = (float *)shared, *const keys = queries + QUERIES * stride;
    float *const values = keys + KEYS * stride;
    const T *const q_head = (const T *)a.qkv + (int64_t)blockIdx.y * dim;
    const T *const k_head = q_head + (int64_t)a.heads * dim;
    float max[EACH], sum[EACH], out[EACH][DIMS];
    EMB_UNROLL
    for (int r = 0; r < EACH; r++) {
        max[r] = -INFINITY;
        sum[r] = 0.0f;
        EMB_UNROLL
        for (int d = 0; d < DIMS; d++)
            out[r][d] = 0.0f;
    }
    load_rows(a, s, s.first, QUERIES, q_head, rotary, queries, stride);
    for (int first = 0; first < s.length; first += KEYS) {
        __syncthreads(); /* all are done with the keys before */
        load_rows(a, s, first, KEYS, k_head, rotary, keys, stride);
        load_rows(a, s, first, KEYS, k_head + (int64_t)a.heads * dim, 0, values, stride);
        __syncthreads();
        EMB_UNROLL
        for (int r = 0; r < EACH; r++) {
            const float *const q = queries + (warp * EACH + r) * stride;
            float score = 0.0f;
            EMB_UNROLL_4
            for (int d = 0; d < dim; d++)
                score = fmaf(q[d], keys[lane * stride + d], score);
            if (first + lane >= s.length)
                score = -INFINITY;
            const float greatest = fmaxf(max[r], emb_warp_max(score));
            const float old = exp2f((max[r] - greatest) * c);
            const float weight = exp2f((score - greatest) * c);
            max[r] = greatest;
            sum[r] = sum[r] * old + emb_warp_sum(weight);
            EMB_UNROLL
            for (int d = 0; d < DIMS; d++)
                out[r][d] *= old;
            EMB_UNROLL_4
            for (int k = 0; k < KEYS; k++) {
                const float w = __shfl_sync(EMB_ALL, weight, k);
                EMB_UNROLL
                for (int d = 0; d < DIMS; d++)
                    if (d * EMB_WARP + lane < dim)
                        out[r][d] = fmaf(w, values[k * stride + d * EMB_WARP + lane], out[r][d]);
            }
        }
    }
    EMB_UNROLL
    for (int r = 0; r < EACH; r++) {
        const int row = s.first + warp * EACH + r;
        T *const to = (T *)a.out + ((s.start + row) * a.heads + (int64_t)blockIdx.y) * dim;
        EMB_UNROLL
        for (int d = 0; d < DIMS; d++)
            if (row < s.length && d * EMB_WARP + lane < dim)
                to[d * EMB_WARP + lane] = emb_from_float<T>(out[r][d] / sum[r]);
    }
}

/* -------------------------------------------------------------------------------- launching */

dim3 grid_of(const emb_cuda_attention_args &a, int64_t height) {
    return dim3((unsigned)(a.tokens / height + a.texts), (unsigned)a.heads);
}

template <class T>
embed_status start_plain(emb_cuda_exec *x, const emb_attention_params &p) {
    const size_t shared = (size_t)(QUERIES + 2 * KEYS) * (size_t)(p.a.head_dim | 1) * sizeof(float);
    const dim3 grid = grid_of(p.a, QUERIES);
    if (p.a.head_dim <= 2 * EMB_WARP)
        return emb_cuda_launch(x, "attention_plain", attention_plain<T, 2>, grid, WARPS * EMB_WARP,
                               shared, p);
    return emb_cuda_launch(x, "attention_plain", attention_plain<T, WIDEST / EMB_WARP>, grid,
                           WARPS * EMB_WARP, shared, p);
}

template <class T, int HD>
embed_status start_mma(emb_cuda_exec *x, const emb_attention_params &p) {
    return emb_cuda_launch(x, "attention_mma", emb_attention_mma<T, HD>,
                           grid_of(p.a, EMB_ATTENTION_ROWS), EMB_ATTENTION_THREADS,
                           emb_attention_shared_bytes<HD>(), p);
}

template <class T>
embed_status start(emb_cuda_exec *x, const emb_attention_params &p) {
    switch (p.a.head_dim) {
    case 32:
        return start_mma<T, 32>(x, p);
    case 64:
        return start_mma<T, 64>(x, p);
    case 128:
        return start_mma<T, 128>(x, p);
    default:
        return start_plain<T>(x, p);
    }
}

int aligned(const void *p) {
    return (uintptr_t)p % 16 == 0;
}

} // namespace

extern "C" embed_status emb_cuda_attention(emb_cuda_exec *exec,
                                           const emb_cuda_attention_args *args) {
    const emb_cuda_attention_args &a = *args;
    const emb_attention_params p = {a, aligned(a.qkv) && aligned(a.out),
                                    aligned(a.cos) && aligned(a.sin)};
    if (a.tokens < 0 || a.texts < 0 || a.tokens + a.texts > INT32_MAX || a.heads < 1 ||
        a.heads > 65535)
        return emb_cuda_refuse(exec, "attention: shape");
    if (a.head_dim < 1 || a.head_dim > WIDEST || a.rotary_dim < 0 || a.rotary_dim % 2 != 0 ||
        a.rotary_dim > a.head_dim || !(a.scale > 0.0f))
        return emb_cuda_refuse(exec, "attention: head");
    if (a.texts == 0 || a.tokens == 0)
        return EMBED_OK;
    switch (a.dtype) {
    case EMBED_F32:
        return start_plain<float>(exec, p);
    case EMBED_F16:
        return start<emb_f16>(exec, p);
    case EMBED_BF16:
        return start<emb_bf16>(exec, p);
    default:
        return emb_cuda_refuse(exec, "attention: type");
    }
}
