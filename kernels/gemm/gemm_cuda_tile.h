/* gemm_cuda_tile: what both kernels of gemm.cu do before and after the sums: find the tile of a
 * block and finish its elements. */
#ifndef EMB_KERNELS_GEMM_CUDA_TILE_H
#define EMB_KERNELS_GEMM_CUDA_TILE_H

#include "kernels/cuda/cuda_activation.h"
#include "kernels/gemm/gemm_cuda.h"

struct emb_gemm_params {
    emb_cuda_gemm_args a;
    int32_t x_vector, w_vector, y_vector; /* rows begin and end at multiples of 16 bytes */
};

/* gemm_sm90.cu: whether the wgmma kernel takes products like this one on this device, whatever
 * their rows and groups; and such a product. The arguments have been checked. */
extern "C" int emb_gemm_sm90_takes(const emb_cuda_exec *x, const emb_gemm_params *p);
extern "C" embed_status emb_gemm_sm90_start(emb_cuda_exec *x, const emb_gemm_params *p);

/* Rows first .. end - 1 (at most the tile's height) of `group`; end <= first: nothing to do. */
struct emb_gemm_rows {
    int64_t first, end;
    int group;
};

/* Of the tile-th tile down. Group g starts at tile offset[g] / height + g: the next starts at least
 * ceil((offset[g + 1] - offset[g]) / height) further on, and the starts ascend. Whole warps call.
 */
__device__ inline emb_gemm_rows emb_gemm_find_rows(const emb_cuda_gemm_args &a, int height,
                                                   int64_t tile) {
    emb_gemm_rows r = {tile * height, a.m, 0};
    if (a.offset == NULL) {
        if (a.count != NULL && *a.count < r.end)
            r.end = *a.count;
        return r;
    }
    const int lane = (int)threadIdx.x % EMB_WARP;
    int started = 0;
    for (int e = 0; e < a.groups; e += EMB_WARP)
        started += __popc(__ballot_sync(
            EMB_ALL, e + lane < a.groups && a.offset[e + lane] / height + e + lane <= tile));
    r.group = started - 1;
    const int64_t from = a.offset[r.group];
    r.first = from + (tile - (from / height + r.group)) * height;
    r.end = a.offset[r.group + 1];
    return r;
}

/* Of a block whose tile is its own. */
__device__ inline emb_gemm_rows emb_gemm_find_rows(const emb_cuda_gemm_args &a, int height) {
    return emb_gemm_find_rows(a, height, blockIdx.y);
}

/* n <= 8 finished elements of row m from column `col` on: times mul, to y. */
template <class T>
__device__ inline void emb_gemm_store8(const emb_gemm_params &p, int64_t m, int64_t col, int n,
                                       float v[8]) {
    T *const y = (T *)p.a.y + m * p.a.ldy + col;
    const int vector = p.y_vector && n >= 8;
    if (p.a.mul != NULL) {
        const T *const mul = (const T *)p.a.mul + m * p.a.ldmul + col;
        float f[8];
        if (vector)
            emb_load8(mul, f);
        else
            emb_load_some(mul, n, f);
        EMB_UNROLL
        for (int i = 0; i < 8; i++)
            v[i] *= f[i];
    }
    if (vector)
        emb_store8(y, v);
    else
        emb_store_some(y, n, v);
}

#endif
