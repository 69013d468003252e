#include "kernels/activation/activation_cuda.h"

#include "kernels/cuda/cuda_activation.h"

namespace {

enum { ROWS = 4, THREADS = 128, WIDTH = 8 * THREADS };

struct params {
    emb_cuda_activation_args a;
};

/* Up to 8 elements, zeros after them. VECTOR: all rows begin and end at multiples of 16 bytes. */
template <bool VECTOR, class T>
__device__ inline void load(const T *from, int n, float v[8]) {
    if constexpr (VECTOR)
        emb_load8(from, v);
    else
        emb_load_slowly(from, n, v);
}

template <class T, bool VECTOR>
__global__ void __launch_bounds__(THREADS) activation(const __grid_constant__ params p) {
    const emb_cuda_activation_args &a = p.a;
    const int64_t first = (int64_t)blockIdx.x * ROWS;
    const int at = (int)(blockIdx.y * WIDTH + threadIdx.x * 8), left = (int)a.dim - at;
    const int64_t there = a.count != NULL && *a.count < a.tokens ? *a.count : a.tokens;
    const int rows = (int)(there - first < (int64_t)ROWS ? there - first : (int64_t)ROWS);
    float v[ROWS][8], bias[8] = {0, 0, 0, 0, 0, 0, 0, 0};
    if (rows <= 0 || left <= 0)
        return;
    if (a.bias != NULL)
        load<VECTOR>(a.bias + at, left, bias);
    EMB_UNROLL
    for (int r = 0; r < ROWS; r++) /* the last row again where there is none */
        load<VECTOR>((const T *)a.x + (first + (r < rows ? r : rows - 1)) * a.dim + at, left, v[r]);
    EMB_UNROLL
    for (int r = 0; r < ROWS; r++) {
        const int64_t row = (first + r) * a.dim + at;
        if (r >= rows)
            return;
        EMB_UNROLL
        for (int i = 0; i < 8; i++)
            v[r][i] += bias[i];
        emb_activate8(a.act, v[r]);
        if (a.mul != NULL) {
            float mul[8];
            load<VECTOR>((const T *)a.mul + row, left, mul);
            EMB_UNROLL
            for (int i = 0; i < 8; i++)
                v[r][i] *= mul[i];
        }
        if constexpr (VECTOR)
            emb_store8((T *)a.y + row, v[r]);
        else
            emb_store_slowly((T *)a.y + row, left, v[r]);
    }
}

int aligned(const void *p) {
    return (uintptr_t)p % 16 == 0;
}

template <class T>
embed_status start(emb_cuda_exec *x, const params &p) {
    const emb_cuda_activation_args &a = p.a;
    const dim3 grid((unsigned)((a.tokens + ROWS - 1) / ROWS),
                    (unsigned)((a.dim + WIDTH - 1) / WIDTH));
    const int vector =
        a.dim % 8 == 0 && aligned(a.x) && aligned(a.bias) && aligned(a.mul) && aligned(a.y);
    return emb_cuda_launch(x, "activation", vector ? activation<T, true> : activation<T, false>,
                           grid, THREADS, 0, p);
}

} // namespace

extern "C" embed_status emb_cuda_activation(emb_cuda_exec *exec,
                                            const emb_cuda_activation_args *args) {
    const emb_cuda_activation_args &a = *args;
    const params p = {a};
    if (a.tokens < 0 || a.tokens > INT32_MAX || a.dim < 1 || a.dim > 1 << 20)
        return emb_cuda_refuse(exec, "activation: shape");
    if (a.tokens == 0)
        return EMBED_OK;
    switch (a.dtype) {
    case EMBED_F32:
        return start<float>(exec, p);
    case EMBED_F16:
        return start<emb_f16>(exec, p);
    case EMBED_BF16:
        return start<emb_bf16>(exec, p);
    default:
        return emb_cuda_refuse(exec, "activation: dtype");
    }
}
