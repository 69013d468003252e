#include "cuda/hopper_probe.h"

#include "kernels/cuda/cuda_hopper.h"

namespace {

enum { M = 64, N = 32, K = 64, A_BYTES = M * K * 2, B_BYTES = N * K * 2, PATTERN = 1024 };
enum { SHARED = PATTERN + A_BYTES + B_BYTES + 16 };

struct params {
    emb_tensor_map map;
    hopper_args a;
};

struct places {
    unsigned char *x, *w;
    uint64_t *full;
};

void load(const params &p, const places &at) {
    const int t = (int)threadIdx.x, kind = p.a.kind;
    const unsigned bytes = B_BYTES + (kind == HOPPER_TOO_MANY_BYTES ? 2 : 0);
    if (t == 0) {
        emb_barrier_expect(at.full, bytes);
        emb_bulk_load(at.w + (kind == HOPPER_MISPLACED ? 128 : 0), &p.map, at.full, 0, 0, 0);
    }
    for (int i = t; i < A_BYTES / 16; i += EMB_WARPGROUP)
        emb_copy_async((uint4 *)at.x + emb_swizzle<8>(i / 8, i % 8), (const uint4 *)p.a.x + i, 16);
    emb_copy_commit();
    emb_copy_wait<0>();
    if (kind != HOPPER_NO_FENCE)
        emb_async_fence();
    if (kind != HOPPER_NO_ARRIVAL || t != 77)
        emb_barrier_arrive(at.full);
    if (kind == HOPPER_EXTRA_ARRIVAL && t == 77)
        emb_barrier_arrive(at.full + 1);
    if (kind == HOPPER_GIVEN_BACK) {
        __syncthreads(); /* the product is issued */
        if (t == 0) {
            emb_barrier_expect(at.full, B_BYTES);
            emb_bulk_load(at.w, &p.map, at.full, 0, 0, 0);
        }
        __syncthreads(); /* and waited for afterwards */
        emb_barrier_arrive(at.full);
        emb_barrier_wait(at.full, 1);
    }
}

void multiply(const params &p, const places &at) {
    const int t = (int)threadIdx.x % EMB_WARPGROUP, kind = p.a.kind;
    const int other = kind == HOPPER_DIFFERENT && t >= 64 && t < 96;
    float acc[1][N / 2];
    for (int i = 0; i < N / 2; i++)
        acc[0][i] = -1;
    if (kind == HOPPER_LEFT_BEHIND)
        return;
    if (kind != HOPPER_NO_BARRIER)
        emb_barrier_wait(at.full, 0);
    if (kind != HOPPER_NO_GROUP_FENCE)
        emb_wgmma_fence();
    for (int k = 0; k < K && (kind != HOPPER_LEFT_OUT || t >= 32); k += 16) {
        const unsigned a = emb_shared_address(at.x) + 2 * (other ? 0 : k);
        const unsigned b = emb_shared_address(at.w) + (kind == HOPPER_OUTSIDE ? 4 * PATTERN : 0);
        const uint64_t rows_of_x = emb_wgmma_descriptor(a, EMB_SWIZZLE_128, 1024, 0);
        if (p.a.nn)
            emb_wgmma<true>(emb_bf16(), acc[0], rows_of_x,
                            emb_wgmma_descriptor(b + 64 * k, EMB_SWIZZLE_64, 512, 0), k > 0);
        else
            emb_wgmma<false>(emb_bf16(), acc[0], rows_of_x,
                             emb_wgmma_descriptor(b + 2 * k, EMB_SWIZZLE_128, 1024, 0), k > 0);
    }
    emb_wgmma_commit();
    if (kind == HOPPER_GIVEN_BACK) {
        __syncthreads();
        __syncthreads();
    }
    if (kind != HOPPER_READ_EARLY && kind != HOPPER_NO_WAIT)
        emb_wgmma_wait<0>(acc);
    for (int i = 0; i < N / 2; i++) {
        const int row = t / 32 * 16 + i / 2 % 2 * 8 + t % 32 / 4;
        p.a.y[row * N + i / 4 * 8 + t % 4 * 2 + i % 2] = acc[0][i];
    }
    if (kind == HOPPER_READ_EARLY)
        emb_wgmma_wait<0>(acc);
}

__global__ void probe(const __grid_constant__ params p) {
    EMB_SHARED_DYNAMIC(shared);
    places at;
    at.x = shared + (0u - emb_shared_address(shared)) % PATTERN;
    at.w = at.x + A_BYTES;
    at.full = (uint64_t *)(at.w + B_BYTES);
    if (threadIdx.x == 0 && p.a.kind != HOPPER_NOT_MADE) {
        emb_barrier_init(at.full, EMB_WARPGROUP + 1);
        emb_barrier_init_done();
    }
    __syncthreads();
    if (threadIdx.x < EMB_WARPGROUP)
        load(p, at);
    else
        multiply(p, at);
}

} // namespace

extern "C" embed_status hopper_probe(emb_cuda_exec *exec, const hopper_args *args) {
    params p;
    p.a = *args;
    const emb_tensor_shape nt = {{K, N, 1}, {2 * K, 2 * N * K}, {K, N}, EMBED_BF16};
    const emb_tensor_shape nn = {{N, K, 1}, {2 * N, 2 * N * K}, {N, K}, EMBED_BF16};
    if (!emb_tensor_map_encode(exec, &p.map, args->w, args->nn ? &nn : &nt))
        return emb_cuda_refuse(exec, "no tensor map");
    return emb_cuda_launch(exec, "probe", probe, dim3(1), 2 * EMB_WARPGROUP, SHARED, p);
}
