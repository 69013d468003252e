/* attention_cuda_mma: 64 queries of one text and head on the tensor cores. A warp has 16 of them:
 * their scores with 64 keys, the weights made of those and the sums over v stay in its registers;
 * keys and values come through shared memory, the next 64 while these are worked on. */
#ifndef EMB_KERNELS_ATTENTION_CUDA_MMA_H
#define EMB_KERNELS_ATTENTION_CUDA_MMA_H

#include "kernels/attention/attention_cuda_tile.h"
#include "kernels/cuda/cuda_mma.h"

enum { EMB_ATTENTION_ROWS = 64, EMB_ATTENTION_THREADS = 128 };

/* Rows first .. first + 63 of the text (zeros beyond its end) of one head's q, k or v to a tile. */
template <class T, int HD>
__device__ inline void emb_attention_load(const emb_attention_params &p,
                                          const emb_attention_span &s, int first, const T *head,
                                          uint4 *tile) {
    const int64_t stride = (int64_t)3 * p.a.heads * HD;
    for (int i = (int)threadIdx.x; i < EMB_ATTENTION_ROWS * HD / 8; i += EMB_ATTENTION_THREADS) {
        const int row = i / (HD / 8), chunk = i % (HD / 8), there = first + row < s.length;
        const T *const from = head + (there ? (s.start + first + row) * stride + chunk * 8 : 0);
        emb_copy_chunk(tile + emb_swizzle<HD / 8>(row, chunk), from, there ? 8 : 0, p.vector);
    }
}

/* Rotates the rows of a tile in place, by the angles of their positions. */
template <class T, int HD>
__device__ inline void emb_attention_rotate_tile(const emb_attention_params &p,
                                                 const emb_attention_span &s, int first,
                                                 uint4 *tile) {
    const int half = p.a.rotary_dim / 2;
    if (half % 8 == 0 && p.angles_vector) {
        const int chunks = half / 8;
        for (int i = (int)threadIdx.x; i < EMB_ATTENTION_ROWS * chunks;
             i += EMB_ATTENTION_THREADS) {
            const int row = i / chunks, chunk = i % chunks;
            if (first + row >= s.length)
                break; /* i ascends, and so does the row */
            T *const x = (T *)(tile + emb_swizzle<HD / 8>(row, chunk));
            T *const y = (T *)(tile + emb_swizzle<HD / 8>(row, chunk + chunks));
            const int64_t angle = (int64_t)(first + row) * half + chunk * 8;
            float u[8], v[8], c[8], n[8];
            emb_load8(x, u);
            emb_load8(y, v);
            emb_load8(p.a.cos + angle, c);
            emb_load8(p.a.sin + angle, n);
            EMB_UNROLL
            for (int j = 0; j < 8; j++)
                emb_attention_rotate(&u[j], &v[j], c[j], n[j]);
            emb_store8(x, u);
            emb_store8(y, v);
        }
        return;
    }
    for (int i = (int)threadIdx.x; i < EMB_ATTENTION_ROWS * half; i += EMB_ATTENTION_THREADS) {
        const int row = i / half, d = i % half;
        if (first + row >= s.length)
            break;
        T *const x = (T *)(tile + emb_swizzle<HD / 8>(row, d / 8)) + d % 8;
        T *const y = (T *)(tile + emb_swizzle<HD / 8>(row, (d + half) / 8)) + (d + half) % 8;
        const int64_t angle = (int64_t)(first + row) * half + d;
        float u = emb_to_float(*x), v = emb_to_float(*y);
        emb_attention_rotate(&u, &v, p.a.cos[angle], p.a.sin[angle]);
        *x = emb_from_float<T>(u);
        *y = emb_from_float<T>(v);
    }
}

/* The scores of 16 queries with the tile's 64 keys: keys 8 j + 2 q of queries g and g + 8. */
template <class T, int HD>
__device__ inline void emb_attention_scores(const uint32_t (&q)[HD / 16][4], const uint4 *keys,
                                            float (&score)[8][4]) {
    const int lane = (int)threadIdx.x % EMB_WARP;
    EMB_UNROLL
    for (int j = 0; j < 8; j++)
        EMB_UNROLL
    for (int c = 0; c < 4; c++)
        score[j][c] = 0.0f;
    EMB_UNROLL
    for (int kk = 0; kk < HD / 16; kk++)
        EMB_UNROLL
    for (int j = 0; j < 8; j += 2) {
        uint32_t b[4];
        emb_ldmatrix(
            b, keys + emb_swizzle<HD / 8>(j * 8 + lane / 16 * 8 + lane % 8, kk * 2 + lane / 8 % 2));
        emb_mma(T(), score[j], q[kk], b[0], b[1]);
        emb_mma(T(), score[j + 1], q[kk], b[2], b[3]);
    }
}

/* What a lane keeps of its two queries, g and g + 8. */
template <int HD>
struct emb_attention_state {
    float out[HD / 8][4];
    float max[2], sum[2]; /* of the scores; of this lane's share of the weights */
};

/* Scores to weights, 2^((score - max) c); what was summed before is brought to the new maximum. */
template <int HD>
__device__ inline void emb_attention_weigh(emb_attention_state<HD> &s, float (&score)[8][4],
                                           int keys, float c) {
    const int q = (int)threadIdx.x % 4;
    EMB_UNROLL
    for (int row = 0; row < 2; row++) {
        float max = s.max[row];
        EMB_UNROLL
        for (int j = 0; j < 8; j++)
            EMB_UNROLL
        for (int i = 0; i < 2; i++) {
            if (j * 8 + q * 2 + i >= keys)
                score[j][row * 2 + i] = -INFINITY;
            max = fmaxf(max, score[j][row * 2 + i]);
        }
        max = fmaxf(max, __shfl_xor_sync(EMB_ALL, max, 1));
        max = fmaxf(max, __shfl_xor_sync(EMB_ALL, max, 2));
        const float shift = -max * c, old = emb_exp2_fast(fmaf(s.max[row], c, shift));
        s.max[row] = max;
        s.sum[row] *= old;
        EMB_UNROLL
        for (int j = 0; j < HD / 8; j++) {
            s.out[j][row * 2] *= old;
            s.out[j][row * 2 + 1] *= old;
        }
        EMB_UNROLL
        for (int j = 0; j < 8; j++)
            EMB_UNROLL
        for (int i = 0; i < 2; i++) {
            score[j][row * 2 + i] = emb_exp2_fast(fmaf(score[j][row * 2 + i], c, shift));
            s.sum[row] += score[j][row * 2 + i];
        }
    }
}

/* out += weights times the tile's 64 values. The weights of keys 16 kk .. + 15 lie in the lanes
 * just as a fragment of A wants them. */
template <class T, int HD>
__device__ inline void emb_attention_add(emb_attention_state<HD> &s, const float (&weight)[8][4],
                                         const uint4 *values) {
    const int lane = (int)threadIdx.x % EMB_WARP;
    EMB_UNROLL
    for (int kk = 0; kk < 4; kk++) {
        const uint32_t a[4] = {emb_pack(T(), weight[2 * kk][0], weight[2 * kk][1]),
                               emb_pack(T(), weight[2 * kk][2], weight[2 * kk][3]),
                               emb_pack(T(), weight[2 * kk + 1][0], weight[2 * kk + 1][1]),
                               emb_pack(T(), weight[2 * kk + 1][2], weight[2 * kk + 1][3])};
        EMB_UNROLL
        for (int j = 0; j < HD / 8; j += 2) {
            uint32_t b[4];
            emb_ldmatrix_transposed(
                b,
                values + emb_swizzle<HD / 8>(kk * 16 + lane / 8 % 2 * 8 + lane % 8, j + lane / 16));
            emb_mma(T(), s.out[j], a, b[0], b[1]);
            emb_mma(T(), s.out[j + 1], a, b[2], b[3]);
        }
    }
}

/* out / sum to global memory; warps write their own rows through the tile of the queries. */
template <class T, int HD>
__device__ inline void emb_attention_store(const emb_attention_params &p,
                                           const emb_attention_span &s,
                                           emb_attention_state<HD> &state, uint4 *tile) {
    const int lane = (int)threadIdx.x % EMB_WARP, warp = (int)threadIdx.x / EMB_WARP;
    const int g = lane / 4, q = lane % 4;
    EMB_UNROLL
    for (int row = 0; row < 2; row++) {
        float sum = state.sum[row];
        sum += __shfl_xor_sync(EMB_ALL, sum, 1);
        sum += __shfl_xor_sync(EMB_ALL, sum, 2);
        const float inverse = 1.0f / sum;
        EMB_UNROLL
        for (int j = 0; j < HD / 8; j++)
            ((uint32_t *)(tile + emb_swizzle<HD / 8>(warp * 16 + row * 8 + g, j)))[q] =
                emb_pack(T(), state.out[j][row * 2] * inverse, state.out[j][row * 2 + 1] * inverse);
    }
    __syncwarp();
    for (int i = lane; i < 16 * HD / 8; i += EMB_WARP) {
        const int row = warp * 16 + i / (HD / 8), chunk = i % (HD / 8);
        T *const to = (T *)p.a.out + (s.start + s.first + row) * p.a.heads * HD +
                      (int64_t)blockIdx.y * HD + chunk * 8;
        const T *const from = (const T *)(tile + emb_swizzle<HD / 8>(row, chunk));
        if (s.first + row >= s.length)
            continue;
        if (p.vector) {
            *(uint4 *)to = *(const uint4 *)from;
        } else {
            for (int j = 0; j < 8; j++)
                to[j] = from[j];
        }
    }
}

template <int HD>
constexpr size_t emb_attention_shared_bytes() {
    return (size_t)5 * EMB_ATTENTION_ROWS * HD * 2; /* q, two stages of k and v */
}

template <class T, int HD>
__global__ void __launch_bounds__(EMB_ATTENTION_THREADS)
    emb_attention_mma(const __grid_constant__ emb_attention_params p) {
    enum { TILE = EMB_ATTENTION_ROWS * HD / 8 };
    EMB_SHARED_DYNAMIC(shared);
    const emb_attention_span s = emb_attention_find(p.a, EMB_ATTENTION_ROWS);
    const int lane = (int)threadIdx.x % EMB_WARP, warp = (int)threadIdx.x / EMB_WARP;
    if (s.first >= s.length)
        return;
    uint4 *const queries = (uint4 *)shared, *const pipe = queries + TILE;
    const T *const q_head = (const T *)p.a.qkv + (int64_t)blockIdx.y * HD;
    const T *const k_head = q_head + (int64_t)p.a.heads * HD, *const v_head =
                                                                  k_head + (int64_t)p.a.heads * HD;
    const int tiles = (s.length + EMB_ATTENTION_ROWS - 1) / EMB_ATTENTION_ROWS;
    const float c = p.a.scale * 1.44269504088896341f;
    const int rotate = p.a.cos != NULL && p.a.rotary_dim > 0;
    uint32_t q[HD / 16][4];
    emb_attention_state<HD> state;
    EMB_UNROLL
    for (int j = 0; j < HD / 8; j++)
        EMB_UNROLL
    for (int i = 0; i < 4; i++)
        state.out[j][i] = 0.0f;
    state.max[0] = state.max[1] = -INFINITY;
    state.sum[0] = state.sum[1] = 0.0f;
    emb_attention_load<T, HD>(p, s, s.first, q_head, queries);
    emb_attention_load<T, HD>(p, s, 0, k_head, pipe);
    emb_attention_load<T, HD>(p, s, 0, v_head, pipe + TILE);
    emb_copy_commit();
    for (int t = 0; t < tiles; t++) {
        uint4 *const keys = pipe + t % 2 * 2 * TILE, *const values = keys + TILE;
        float score[8][4];
        emb_copy_wait<0>();
        __syncthreads(); /* tile t is there, and all are done with the one before */
        if (t + 1 < tiles) {
            uint4 *const next = pipe + (t + 1) % 2 * 2 * TILE;
            emb_attention_load<T, HD>(p, s, (t + 1) * EMB_ATTENTION_ROWS, k_head, next);
            emb_attention_load<T, HD>(p, s, (t + 1) * EMB_ATTENTION_ROWS, v_head, next + TILE);
        }
        emb_copy_commit();
        if (rotate) {
            if (t == 0)
                emb_attention_rotate_tile<T, HD>(p, s, s.first, queries);
            emb_attention_rotate_tile<T, HD>(p, s, t * EMB_ATTENTION_ROWS, keys);
            __syncthreads();
        }
        if (s.first + warp * 16 >= s.length)
            continue; /* no query for this warp */
        if (t == 0) {
            EMB_UNROLL
            for (int kk = 0; kk < HD / 16; kk++)
                emb_ldmatrix(q[kk], queries + emb_swizzle<HD / 8>(warp * 16 + lane % 16,
                                                                  kk * 2 + lane / 16));
        }
        emb_attention_scores<T, HD>(q, keys, score);
        emb_attention_weigh<HD>(state, score, s.length - t * EMB_ATTENTION_ROWS, c);
        emb_attention_add<T, HD>(state, score, values);
    }
    if (s.first + warp * 16 < s.length)
        emb_attention_store<T, HD>(p, s, state, queries);
}

#endif
