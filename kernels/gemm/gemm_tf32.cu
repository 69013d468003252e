#include "kernels/gemm/gemm_cuda_tf32.h"

namespace {

/* BM, BN, warps down and across, stages, blocks a multiprocessor */
typedef emb_gemm_shape<128, 64, 2, 2, 3, 2> large;
typedef emb_gemm_shape<16, 32, 1, 2, 16, 2> small;

int64_t tiles(int64_t n, int64_t size) {
    return (n + size - 1) / size;
}

template <class S>
embed_status start(emb_cuda_exec *x, const emb_gemm_params &p) {
    const int64_t down = p.a.offset != NULL ? p.a.m / S::BM + p.a.groups : tiles(p.a.m, S::BM);
    const dim3 grid((unsigned)tiles(p.a.n, S::BN), (unsigned)down);
    if (p.a.layout == EMB_CUDA_NN)
        return emb_cuda_launch(x, "gemm_tf32_nn", emb_gemm_tf32<S, true>, grid, S::THREADS,
                               S::SHARED, p);
    return emb_cuda_launch(x, "gemm_tf32_nt", emb_gemm_tf32<S, false>, grid, S::THREADS, S::SHARED,
                           p);
}

} // namespace

embed_status emb_gemm_start_tf32(emb_cuda_exec *exec, const emb_gemm_params &p) {
    return p.a.m > 32 * p.a.groups ? start<large>(exec, p) : start<small>(exec, p);
}
