#include "cuda/shim_probe.h"

#include "kernels/cuda/cuda_mma.h"

namespace {

enum { THREADS = 256 };

__global__ void reverse(const __grid_constant__ probe_args p) {
    EMB_SHARED(float, row, THREADS);
    row[threadIdx.x] = p.in[threadIdx.x];
    if (p.kind == PROBE_REVERSE)
        __syncthreads();
    p.out[threadIdx.x] = row[THREADS - 1 - threadIdx.x];
}

__global__ void wrong(const __grid_constant__ probe_args p) {
    EMB_SHARED(float, row, THREADS);
    const int t = (int)threadIdx.x;
    float v = 1.0f;
    if (p.kind == PROBE_DIVERGENT && t < THREADS / 2)
        __syncthreads();
    if (p.kind == PROBE_LEFT_WARP && t == 5)
        return;
    if (p.kind == PROBE_LEFT_WARP)
        v = __shfl_xor_sync(EMB_ALL, v, 1);
    if (p.kind == PROBE_MIXED)
        v = t % 2 ? __shfl_xor_sync(EMB_ALL, v, 1) : (float)__ballot_sync(EMB_ALL, 1);
    if (p.kind == PROBE_PARTIAL_MASK)
        v = __shfl_xor_sync(0xffffu, v, 1);
    if (p.kind == PROBE_UNALIGNED_COPY)
        emb_copy_async(row + 4 * (t % 64), p.in + 1, 16);
    if (p.kind == PROBE_OVERRUN)
        ((volatile float *)row)[t + 1] = v;
    p.out[t] = p.kind == PROBE_UNINITIALISED ? row[t] : v;
}

__global__ void copy(const __grid_constant__ probe_args p) {
    EMB_SHARED(float, row, THREADS);
    const int t = (int)threadIdx.x * 4;
    if (t < THREADS)
        emb_copy_async(row + t, p.in + t, t == THREADS - 4 ? 4 : 16);
    emb_copy_commit();
    if (p.kind == PROBE_COPY_WAITED)
        emb_copy_wait<0>();
    __syncthreads();
    p.out[threadIdx.x] = row[threadIdx.x];
}

__global__ void warp(const __grid_constant__ probe_args p) {
    const int lane = (int)threadIdx.x % EMB_WARP;
    const float v = p.in[threadIdx.x];
    float *const out = p.out + threadIdx.x;
    if (threadIdx.x < 32)
        *out = __shfl_sync(EMB_ALL, v, 3);
    else if (threadIdx.x < 64)
        *out = __shfl_up_sync(EMB_ALL, v, 4);
    else if (threadIdx.x < 96)
        *out = __shfl_down_sync(EMB_ALL, v, 4);
    else if (threadIdx.x < 128)
        *out = (float)__popc(__match_any_sync(EMB_ALL, lane % 3));
    else if (threadIdx.x < 160)
        *out = (float)__ffs((int)__ballot_sync(EMB_ALL, lane >= 9));
    else if (threadIdx.x < 192)
        *out = emb_warp_sum(v);
    else if (threadIdx.x < 224)
        *out = emb_warp_max(v);
    else
        *out = (float)(__any_sync(EMB_ALL, lane == 7) * 2 + __all_sync(EMB_ALL, lane == 7));
}

template <class T>
__global__ void multiply(const __grid_constant__ probe_product p) {
    EMB_SHARED(T, a, 16 * 16);
    EMB_SHARED(T, b, 16 * 16); /* of which 8 columns are used */
    const int lane = (int)threadIdx.x, g = lane / 4, q = lane % 4;
    uint32_t fa[4], fb[4];
    float c[4];
    for (int i = lane; i < 256; i += EMB_WARP) {
        a[i] = ((const T *)p.a)[i];
        b[i] = i % 16 < 8 ? ((const T *)p.b)[i / 16 * 8 + i % 16] : T{0};
    }
    for (int i = 0; i < 4; i++)
        c[i] = p.c[(g + i / 2 * 8) * 8 + 2 * q + i % 2];
    __syncwarp();
    emb_ldmatrix(fa, a + lane % 16 * 16 + lane / 16 * 8);
    emb_ldmatrix_transposed(fb, b + lane % 16 * 16 + lane / 16 * 8);
    emb_mma(T(), c, fa, fb[0], fb[1]);
    for (int i = 0; i < 4; i++)
        p.c[(g + i / 2 * 8) * 8 + 2 * q + i % 2] = c[i];
}

__global__ void multiply_tf32(const __grid_constant__ probe_product p) {
    const int lane = (int)threadIdx.x, g = lane / 4, q = lane % 4;
    const uint32_t *const a = (const uint32_t *)p.a, *const b = (const uint32_t *)p.b;
    const uint32_t fa[4] = {a[g * 8 + q], a[(g + 8) * 8 + q], a[g * 8 + q + 4],
                            a[(g + 8) * 8 + q + 4]};
    float c[4];
    for (int i = 0; i < 4; i++)
        c[i] = p.c[(g + i / 2 * 8) * 8 + 2 * q + i % 2];
    emb_mma_tf32(c, fa, b[q * 8 + g], b[(q + 4) * 8 + g]);
    for (int i = 0; i < 4; i++)
        p.c[(g + i / 2 * 8) * 8 + 2 * q + i % 2] = c[i];
}

__global__ void nothing(const __grid_constant__ int) {
}

} // namespace

extern "C" embed_status probe_run(emb_cuda_exec *exec, const probe_args *args) {
    switch (args->kind) {
    case PROBE_REVERSE:
    case PROBE_REVERSE_UNGUARDED:
        return emb_cuda_launch(exec, "reverse", reverse, dim3(1), THREADS, 0, *args);
    case PROBE_COPY_WAITED:
    case PROBE_COPY_EARLY:
        return emb_cuda_launch(exec, "copy", copy, dim3(1), THREADS, 0, *args);
    case PROBE_WARP:
        return emb_cuda_launch(exec, "warp", warp, dim3(1), THREADS, 0, *args);
    default:
        return emb_cuda_launch(exec, "wrong", wrong, dim3(1), THREADS, 0, *args);
    }
}

extern "C" embed_status probe_multiply(emb_cuda_exec *exec, const probe_product *args) {
    if (args->dtype == EMBED_F16)
        return emb_cuda_launch(exec, "multiply", multiply<emb_f16>, dim3(1), EMB_WARP, 0, *args);
    if (args->dtype == EMBED_BF16)
        return emb_cuda_launch(exec, "multiply", multiply<emb_bf16>, dim3(1), EMB_WARP, 0, *args);
    return emb_cuda_launch(exec, "multiply_tf32", multiply_tf32, dim3(1), EMB_WARP, 0, *args);
}

extern "C" embed_status probe_launch(emb_cuda_exec *exec, int64_t grid_y, int32_t threads,
                                     size_t shared) {
    return emb_cuda_launch(exec, "nothing", nothing, dim3(1, (unsigned)grid_y), (unsigned)threads,
                           shared, 0);
}
