#include "kernels/moe_exchange/moe_exchange_cuda.h"

#include "kernels/cuda/cuda_port.h"

namespace {

enum {
    ROWS = 8,
    THREADS = ROWS * EMB_WARP,
    MOST_EXPERTS = 256,
    MOST_PARTS = MOST_EXPERTS + EMB_MOE_RANKS /* ranks times the experts of one */
};

template <class E>
__device__ inline void copy_as(void *to, const void *from, int64_t bytes) {
    E *const __restrict__ y = (E *)to;
    const E *const __restrict__ x = (const E *)from;
    const int n = (int)(bytes / (int64_t)sizeof(E));
    EMB_UNROLL_4
    for (int i = (int)threadIdx.x % EMB_WARP; i < n; i += EMB_WARP)
        y[i] = x[i];
}

/* By a warp. */
__device__ inline void copy_row(void *to, const void *from, int64_t bytes) {
    const uint64_t ends = (uint64_t)(uintptr_t)to | (uint64_t)(uintptr_t)from | (uint64_t)bytes;
    if (ends % 16 == 0)
        copy_as<uint4>(to, from, bytes);
    else if (ends % 4 == 0)
        copy_as<uint32_t>(to, from, bytes);
    else
        copy_as<unsigned char>(to, from, bytes);
}

struct dispatch_params {
    emb_cuda_moe_dispatch_args a;
};

/* The first block also writes the counts. */
__device__ inline void write_counts(const emb_cuda_moe_dispatch_args &a) {
    for (int e = (int)threadIdx.x; e < a.experts; e += THREADS)
        a.counts[emb_moe_experts_before(a.experts, a.ranks, e % a.ranks) + e / a.ranks] =
            a.offset[e + 1] - a.offset[e];
}

__global__ void __launch_bounds__(THREADS) moe_dispatch(const __grid_constant__ dispatch_params p) {
    const emb_cuda_moe_dispatch_args &a = p.a;
    const int64_t pair = (int64_t)blockIdx.x * ROWS + threadIdx.x / EMB_WARP;
    const int lane = (int)threadIdx.x % EMB_WARP;
    if (blockIdx.x == 0)
        write_counts(a);
    if (pair >= a.tokens * a.top_k)
        return;
    const int e = a.expert[pair], d = e % a.ranks;
    int64_t place =
        a.tokens * emb_moe_before(a.experts, a.ranks, a.top_k, d) + a.slot[pair] - a.offset[e];
    int earlier = 0;
    for (int other = d + lane * a.ranks; other < e; other += EMB_WARP * a.ranks)
        earlier += a.offset[other + 1] - a.offset[other];
    EMB_UNROLL
    for (int with = EMB_WARP / 2; with > 0; with /= 2)
        earlier += __shfl_xor_sync(EMB_ALL, earlier, with);
    place += earlier;
    if (lane == 0)
        a.place[pair] = (int32_t)place;
    copy_row((char *)a.send + place * a.row_bytes, (const char *)a.x + pair / a.top_k * a.row_bytes,
             a.row_bytes);
}

struct collect_params {
    emb_cuda_moe_collect_args a;
};

__global__ void __launch_bounds__(THREADS) moe_collect(const __grid_constant__ collect_params p) {
    EMB_SHARED(int, count, MOST_PARTS); /* [ranks, experts] */
    EMB_SHARED(int, begin, MOST_PARTS); /* where such a part begins in the order by expert */
    const emb_cuda_moe_collect_args &a = p.a;
    const int experts = a.experts, n = a.ranks * experts;
    for (int i = (int)threadIdx.x; i < n; i += THREADS)
        count[i] = a.counts[i];
    __syncthreads();
    for (int i = (int)threadIdx.x; i < n; i += THREADS) {
        const int rank = i / experts, expert = i % experts;
        int sum = 0;
        for (int s = 0; s < a.ranks; s++)
            for (int l = 0; l < expert + (s < rank); l++)
                sum += count[s * experts + l];
        begin[i] = sum;
        if (blockIdx.x == 0 && rank == 0)
            a.offset[expert] = sum;
        if (blockIdx.x == 0 && i == n - 1)
            a.offset[experts] = sum + count[i];
    }
    __syncthreads();
    const int row = (int)(blockIdx.x * THREADS + threadIdx.x);
    if (row >= a.first[a.ranks])
        return;
    int s = 0, l = 0;
    while (row >= a.first[s + 1])
        s++;
    int at = row - a.first[s];
    while (l < experts && at >= count[s * experts + l])
        at -= count[s * experts + l++];
    const int place = l < experts ? begin[s * experts + l] + at : -1;
    a.place[row] = place;
    if (place >= 0)
        a.rows[place] = row;
}

struct return_params {
    emb_cuda_moe_return_args a;
};

__global__ void __launch_bounds__(THREADS) moe_return(const __grid_constant__ return_params p) {
    const emb_cuda_moe_return_args &a = p.a;
    const int64_t row = (int64_t)blockIdx.x * ROWS + threadIdx.x / EMB_WARP;
    const int64_t place = row < a.rows ? a.place[row] : -1;
    if (place >= 0)
        copy_row((char *)a.out + row * a.row_bytes, (const char *)a.y + place * a.row_bytes,
                 a.row_bytes);
}

inline dim3 blocks(int64_t rows, int each) {
    return dim3((unsigned)((rows + each - 1) / each));
}

} // namespace

extern "C" embed_status emb_cuda_moe_dispatch(emb_cuda_exec *exec,
                                              const emb_cuda_moe_dispatch_args *args) {
    const dispatch_params p = {*args};
    const emb_cuda_moe_dispatch_args &a = p.a;
    if (a.ranks < 1 || a.ranks > EMB_MOE_RANKS || a.experts < 1 || a.experts > MOST_EXPERTS ||
        a.top_k < 1 || a.top_k > 16 || a.top_k > a.experts)
        return emb_cuda_refuse(exec, "moe_dispatch: ranks, experts or top_k");
    if (a.tokens < 0 || a.row_bytes < 1 || a.row_bytes > INT32_MAX ||
        a.tokens > INT32_MAX / emb_moe_before(a.experts, a.ranks, a.top_k, a.ranks))
        return emb_cuda_refuse(exec, "moe_dispatch: shape");
    if (a.tokens == 0)
        return EMBED_OK;
    return emb_cuda_launch(exec, "moe_dispatch", moe_dispatch, blocks(a.tokens * a.top_k, ROWS),
                           THREADS, 0, p);
}

extern "C" embed_status emb_cuda_moe_collect(emb_cuda_exec *exec,
                                             const emb_cuda_moe_collect_args *args) {
    const collect_params p = {*args};
    const emb_cuda_moe_collect_args &a = p.a;
    if (a.ranks < 1 || a.ranks > EMB_MOE_RANKS || a.experts < 1 || a.ranks * a.experts > MOST_PARTS)
        return emb_cuda_refuse(exec, "moe_collect: ranks or experts");
    if (a.first[0] != 0 || a.first[a.ranks] < 0)
        return emb_cuda_refuse(exec, "moe_collect: rows");
    if (a.first[a.ranks] == 0)
        return EMBED_OK;
    return emb_cuda_launch(exec, "moe_collect", moe_collect, blocks(a.first[a.ranks], THREADS),
                           THREADS, 0, p);
}

extern "C" embed_status emb_cuda_moe_return(emb_cuda_exec *exec,
                                            const emb_cuda_moe_return_args *args) {
    const return_params p = {*args};
    const emb_cuda_moe_return_args &a = p.a;
    if (a.rows < 0 || a.rows > INT32_MAX || a.row_bytes < 1 || a.row_bytes > INT32_MAX)
        return emb_cuda_refuse(exec, "moe_return: shape");
    if (a.rows == 0)
        return EMBED_OK;
    return emb_cuda_launch(exec, "moe_return", moe_return, blocks(a.rows, ROWS), THREADS, 0, p);
}
