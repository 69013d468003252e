#include "kernels/rotary/rotary_cuda.h"

#include "kernels/cuda/cuda_port.h"

namespace {

enum { THREADS = 128 };

struct params {
    emb_cuda_rotary_args a;
};

template <class T>
__global__ void __launch_bounds__(THREADS) rotary(const __grid_constant__ params p) {
    const emb_cuda_rotary_args &a = p.a;
    const int64_t t = blockIdx.x, row = (int64_t)a.heads * a.head_dim;
    const int half = a.rotary_dim / 2, pairs = 2 * a.heads * half;
    const float *const cos = a.cos + (int64_t)a.positions[t] * half;
    const float *const sin = a.sin + (int64_t)a.positions[t] * half;
    T *const q = (T *)a.qkv + t * 3 * row;
    for (int i = (int)threadIdx.x; i < pairs; i += THREADS) {
        const int d = i % half; /* heads of k follow those of q */
        T *const at = q + (int64_t)(i / half) * a.head_dim + d;
        const float x = emb_to_float(at[0]), y = emb_to_float(at[half]);
        at[0] = emb_from_float<T>(fmaf(x, cos[d], -y * sin[d]));
        at[half] = emb_from_float<T>(fmaf(y, cos[d], x * sin[d]));
    }
}

__global__ void __launch_bounds__(THREADS) rotary_offsets(const __grid_constant__ params p) {
    const emb_cuda_rotary_args &a = p.a;
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i > a.room)
        return;
    const int32_t first = a.offsets[i < a.texts ? i : a.texts];
    const int32_t row = a.heads * a.head_dim;
    a.qkv_offsets[i] = first * 3 * row;
    a.out_offsets[i] = first * row;
    if (i < a.room)
        a.lengths[i] = i < a.texts ? a.offsets[i + 1] - first : 0;
}

template <class T>
embed_status rotate(emb_cuda_exec *x, const params &p) {
    return emb_cuda_launch(x, "rotary", rotary<T>, dim3((unsigned)p.a.tokens), THREADS, 0, p);
}

} // namespace

extern "C" embed_status emb_cuda_rotary(emb_cuda_exec *exec, const emb_cuda_rotary_args *args) {
    const emb_cuda_rotary_args &a = *args;
    const params p = {a};
    embed_status st = EMBED_OK;
    if (a.tokens < 0 || a.texts < 0 || a.room < a.texts || a.room >= INT32_MAX || a.heads < 1 ||
        a.head_dim < 1 || a.rotary_dim < 0 || a.rotary_dim > a.head_dim || a.rotary_dim % 2 != 0 ||
        a.tokens * 3 * a.heads * a.head_dim > INT32_MAX)
        return emb_cuda_refuse(exec, "rotary: shape");
    if (a.dtype != EMBED_F32 && a.dtype != EMBED_F16 && a.dtype != EMBED_BF16)
        return emb_cuda_refuse(exec, "rotary: dtype");
    if (a.cos != NULL && a.tokens > 0 && a.rotary_dim > 0)
        st = a.dtype == EMBED_F32   ? rotate<float>(exec, p)
             : a.dtype == EMBED_F16 ? rotate<emb_f16>(exec, p)
                                    : rotate<emb_bf16>(exec, p);
    if (st != EMBED_OK || a.lengths == NULL)
        return st;
    return emb_cuda_launch(exec, "rotary_offsets", rotary_offsets,
                           dim3((unsigned)(a.room / THREADS + 1)), THREADS, 0, p);
}
