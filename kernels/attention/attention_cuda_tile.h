/* attention_cuda_tile: which queries a block has, and the rotation of rows in shared memory. */
#ifndef EMB_KERNELS_ATTENTION_CUDA_TILE_H
#define EMB_KERNELS_ATTENTION_CUDA_TILE_H

#include "kernels/attention/attention_cuda.h"
#include "kernels/cuda/cuda_port.h"

struct emb_attention_params {
    emb_cuda_attention_args a;
    int32_t vector;        /* heads begin at multiples of 16 bytes */
    int32_t angles_vector; /* cos and sin do */
};

/* Queries first .. of the text that has tokens start .. start + length - 1; length <= first: none.
 */
struct emb_attention_span {
    int64_t start;
    int length, first;
};

/* Text i starts at tile offsets[i] / height + i: the next one starts at least ceil(length / height)
 * further on. Found by bisection. */
__device__ inline emb_attention_span emb_attention_find(const emb_cuda_attention_args &a,
                                                        int height) {
    const int64_t tile = blockIdx.x;
    int64_t low = 0, high = a.texts; /* text `low` starts at or before the tile, `high` after it */
    if (a.count != NULL && *a.count < high)
        high = *a.count > 0 ? *a.count : 1;
    while (high - low > 1) {
        const int64_t middle = (low + high) / 2;
        if (a.offsets[middle] / height + middle <= tile)
            low = middle;
        else
            high = middle;
    }
    emb_attention_span s;
    s.start = a.offsets[low];
    s.length = (int)(a.offsets[low + 1] - s.start);
    s.first = (int)(tile - (s.start / height + low)) * height;
    return s;
}

/* (x, y) -> (x cos - y sin, y cos + x sin): RoFormer eq. 34 with halves paired. */
__device__ inline void emb_attention_rotate(float *x, float *y, float cos, float sin) {
    const float a = *x, b = *y;
    *x = fmaf(-b, sin, a * cos);
    *y = fmaf(a, sin, b * cos);
}

#endif
