#include "kernels/gemm/gemm_cuda.h"

#include "kernels/gemm/gemm_cuda_wgmma.h"

/* Compiled for sm_90a alone. */

namespace {

enum { ARCH = 90, USUAL_PROCESSORS = 132, LONGEST = INT32_MAX - 1024 /* 32-bit coordinates */ };

/* BM, BN, warpgroups that take tiles, stages, blocks a multiprocessor, registers of a thread that
 * brings stages and of one that multiplies */
typedef emb_wgmma_shape<128, 192, 2, 5, 1, 40, 232> large;
typedef emb_wgmma_shape<64, 128, 1, 4, 2, 0, 0> medium;
typedef emb_wgmma_shape<64, 32, 1, 16, 1, 0, 0> small;

int64_t tiles(int64_t n, int64_t size) {
    return (n + size - 1) / size;
}

template <class S>
int64_t tiles_down(const emb_cuda_gemm_args &a) {
    return a.offset != NULL ? a.m / S::BM + a.groups : tiles(a.m, S::BM);
}

int64_t processors_of(const emb_cuda_exec *x) {
    return x->processors > 0 ? x->processors : USUAL_PROCESSORS;
}

/* w as bulk copies take it: a box is a stage of the tile, or with NN 64 columns of one. */
template <class S>
int describe_w(const emb_cuda_exec *x, const emb_cuda_gemm_args &a, emb_tensor_map *map) {
    const int nn = a.layout == EMB_CUDA_NN;
    const uint64_t n = (uint64_t)a.n, k = (uint64_t)a.k;
    const emb_tensor_shape shape = {
        {nn ? n : k, nn ? k : n, (uint64_t)a.groups},
        {2 * (nn ? n : k), 2 * n * k},
        {nn ? (uint32_t)S::NN_COLUMNS : (uint32_t)S::BK, nn ? (uint32_t)S::BK : (uint32_t)S::BN},
        a.dtype};
    return emb_tensor_map_encode(x, map, a.w, &shape);
}

template <class T, class S>
embed_status start_shape(emb_cuda_exec *x, emb_wgmma_params &p) {
    const int64_t across = tiles(p.g.a.n, S::BN), all = across * tiles_down<S>(p.g.a);
    const int64_t most = processors_of(x) * S::BLOCKS;
    const dim3 grid((unsigned)(all < most ? all : most));
    if (all > INT32_MAX - most || !describe_w<S>(x, p.g.a, &p.w))
        return emb_cuda_refuse(x, "gemm: no tensor map");
    p.tiles_across = (int32_t)across;
    p.tiles = (int32_t)all;
    if (p.g.a.layout == EMB_CUDA_NN)
        return emb_cuda_launch(x, "gemm_wgmma_nn", emb_gemm_wgmma<T, S, true>, grid, S::THREADS,
                               S::SHARED, p);
    return emb_cuda_launch(x, "gemm_wgmma_nt", emb_gemm_wgmma<T, S, false>, grid, S::THREADS,
                           S::SHARED, p);
}

/* The largest tile of which there is one for every second multiprocessor: not measured. */
template <class T>
embed_status start(emb_cuda_exec *x, emb_wgmma_params &p) {
    const emb_cuda_gemm_args &a = p.g.a;
    const int64_t wanted = processors_of(x) / 2;
    if (a.m >= large::BM / 2 * a.groups && tiles(a.m, large::BM) * tiles(a.n, large::BN) >= wanted)
        return start_shape<T, large>(x, p);
    if (tiles(a.m, medium::BM) * tiles(a.n, medium::BN) >= wanted)
        return start_shape<T, medium>(x, p);
    return start_shape<T, small>(x, p);
}

} // namespace

/* Nothing here depends on M, offset or count: an element has the same bits in any batch. */
extern "C" int emb_gemm_sm90_takes(const emb_cuda_exec *x, const emb_gemm_params *p) {
    const emb_cuda_gemm_args &a = p->a;
    emb_tensor_map map;
    return x->arch == ARCH && (a.dtype == EMBED_F16 || a.dtype == EMBED_BF16) && a.n <= LONGEST &&
           a.k <= LONGEST && p->x_vector && p->w_vector &&
           emb_cuda_shared_limit(x) >= (size_t)large::SHARED &&
           emb_cuda_shared_limit(x) >= (size_t)small::SHARED && describe_w<large>(x, a, &map);
}

extern "C" embed_status emb_gemm_sm90_start(emb_cuda_exec *x, const emb_gemm_params *params) {
    emb_wgmma_params p = {{}, *params, 0, 0};
    return params->a.dtype == EMBED_F16 ? start<emb_f16>(x, p) : start<emb_bf16>(x, p);
}
