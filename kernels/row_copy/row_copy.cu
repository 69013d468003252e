#include "kernels/row_copy/row_copy_cuda.h"

#include "kernels/cuda/cuda_port.h"

namespace {

enum { ROWS = 8, THREADS = ROWS * EMB_WARP };

struct params {
    emb_cuda_row_copy_args a;
};

template <class E>
__device__ inline void copy_row(uint64_t to, uint64_t from, int bytes) {
    E *const __restrict__ y = (E *)(uintptr_t)to;
    const E *const __restrict__ x = (const E *)(uintptr_t)from;
    const int n = bytes / (int)sizeof(E);
    EMB_UNROLL_4
    for (int i = (int)threadIdx.x % EMB_WARP; i < n; i += EMB_WARP)
        y[i] = x[i];
}

__global__ void __launch_bounds__(THREADS) row_copy(const __grid_constant__ params p) {
    const emb_cuda_row_copy_args &a = p.a;
    const int64_t row = (int64_t)blockIdx.x * ROWS + threadIdx.x / EMB_WARP;
    if (row >= a.rows)
        return;
    const uint64_t from = (uint64_t)(uintptr_t)a.from + a.places[2 * row],
                   to = a.places[2 * row + 1], ends = from | to | (uint64_t)a.bytes;
    if (ends % 16 == 0)
        copy_row<uint4>(to, from, (int)a.bytes);
    else if (ends % 4 == 0)
        copy_row<uint32_t>(to, from, (int)a.bytes);
    else
        copy_row<unsigned char>(to, from, (int)a.bytes);
}

} // namespace

extern "C" embed_status emb_cuda_row_copy(emb_cuda_exec *exec, const emb_cuda_row_copy_args *args) {
    const emb_cuda_row_copy_args &a = *args;
    const params p = {a};
    if (a.rows < 0 || a.rows > INT32_MAX || a.bytes < 1 || a.bytes > INT32_MAX)
        return emb_cuda_refuse(exec, "row_copy: shape");
    if (a.rows == 0)
        return EMBED_OK;
    return emb_cuda_launch(exec, "row_copy", row_copy, dim3((unsigned)((a.rows + ROWS - 1) / ROWS)),
                           THREADS, 0, p);
}
