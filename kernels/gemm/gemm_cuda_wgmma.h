/* gemm_cuda_wgmma: a product of f16 or bf16 matrices on the tensor cores of sm_90a. A block takes
 * tile after tile of BM x BN. Its first warpgroup brings stages of 64 values of k: rows of x by
 * cp.async, since they may be gathered and end anywhere, w by bulk copies. The other warpgroups
 * take tiles in turn and multiply from shared memory: while one finishes its tile, on which the
 * tensor cores would have to wait, the stages of the next tile go to another.
 *
 * Stage s is full when all 128 threads of the first warpgroup have seen their copies of it arrive
 * (LAG stages later, so that some are always under way) and the bytes of w are there; it is empty
 * when each warp of the warpgroup whose tile it is has seen the products that read it end. A
 * barrier's parity tells two phases apart and no more, so a warpgroup looks at the stages of its
 * tile only when the one before has found all of its own full: it then has the turn. */
#ifndef EMB_KERNELS_GEMM_CUDA_WGMMA_H
#define EMB_KERNELS_GEMM_CUDA_WGMMA_H

#include "kernels/cuda/cuda_hopper.h"
#include "kernels/gemm/gemm_cuda_tile.h"

struct emb_wgmma_params {
    emb_tensor_map w; /* [groups, N, K], or with NN [groups, K, N] */
    emb_gemm_params g;
    int32_t tiles_across, tiles;
};

template <int BM_, int BN_, int GROUPS_, int STAGES_, int BLOCKS_, int PRODUCER_, int CONSUMER_>
struct emb_wgmma_shape {
    enum {
        BM = BM_,
        BN = BN_,
        BK = 64,
        STAGES = STAGES_,
        BLOCKS = BLOCKS_,     /* on a multiprocessor */
        PRODUCER = PRODUCER_, /* registers a thread; 0: all alike */
        CONSUMER = CONSUMER_,
        GROUPS = GROUPS_, /* warpgroups that take tiles */
        MI = BM / 64,
        THREADS = EMB_WARPGROUP * (GROUPS + 1),
        /* Less than STAGES - 1: a stage is given back after the products of the next are issued. */
        LAG = STAGES > 6 ? 4 : STAGES - 2,
        CHUNKS = BM * BK / 8 / EMB_WARPGROUP, /* of x, for each thread of the first warpgroup */
        A_BYTES = BM * BK * 2,
        B_BYTES = BN * BK * 2,
        STAGE_BYTES = A_BYTES + B_BYTES,
        NN_COLUMNS = BN < 64 ? BN : 64, /* of w, in one bulk copy */
        PATTERN = 1024,                 /* of the swizzle, to which the dynamic array is aligned */
        SHARED = PATTERN + STAGES * STAGE_BYTES + (2 * STAGES + GROUPS) * 8
    };
    static_assert(BM % 64 == 0 && BN % 32 == 0 && LAG >= 1, "whole products");
    static_assert(STAGE_BYTES % PATTERN == 0 && A_BYTES % PATTERN == 0, "tiles start patterns");
};

struct emb_wgmma_pipe {
    unsigned char *stages;
    uint64_t *full, *empty; /* [STAGES] */
    uint64_t *turn;         /* [GROUPS] */
};

/* ---------------------------------------------------------------------------- first warpgroup */

template <class S, bool NN>
__device__ inline void emb_wgmma_load_w(const emb_wgmma_params &p, unsigned char *to,
                                        uint64_t *full, int n0, int k0, int group) {
    emb_barrier_expect(full, S::B_BYTES);
    if constexpr (NN) {
        EMB_UNROLL
        for (int i = 0; i < S::BN / S::NN_COLUMNS; i++)
            emb_bulk_load(to + i * S::NN_COLUMNS * S::BK * 2, &p.w, full, n0 + i * S::NN_COLUMNS,
                          k0, group);
    } else {
        emb_bulk_load(to, &p.w, full, k0, n0, group);
    }
}

template <class T, class S>
__device__ inline void emb_wgmma_load_x(const emb_cuda_gemm_args &a, unsigned char *to,
                                        const int (&rows)[S::CHUNKS], int k0) {
    const int thread = (int)threadIdx.x, chunk = thread % 8, k = k0 + chunk * 8;
    const int left = (int)a.k - k, bytes = left <= 0 ? 0 : left < 8 ? 2 * left : 16;
    EMB_UNROLL
    for (int j = 0; j < S::CHUNKS; j++) {
        const int row = thread / 8 + j * (EMB_WARPGROUP / 8);
        const int n = rows[j] >= 0 ? bytes : 0;
        const T *const from = (const T *)a.x + (n > 0 ? rows[j] * a.ldx + k : 0);
        emb_copy_async((uint4 *)to + emb_swizzle<8>(row, chunk), from, n);
    }
    emb_copy_commit();
}

template <class T, class S, bool NN>
__device__ inline void emb_wgmma_produce(const emb_wgmma_params &p, const emb_wgmma_pipe &pipe) {
    const emb_cuda_gemm_args &a = p.g.a;
    const int thread = (int)threadIdx.x;
    unsigned issued = 0, told = 0;
    if (thread == 0)
        emb_bulk_prefetch_map(&p.w);
    for (int tile = (int)blockIdx.x; tile < p.tiles; tile += (int)gridDim.x) {
        const emb_gemm_rows r = emb_gemm_find_rows(a, S::BM, tile / p.tiles_across);
        const int n0 = tile % p.tiles_across * S::BN;
        int rows[S::CHUNKS];
        if (r.first >= r.end)
            continue;
        EMB_UNROLL
        for (int j = 0; j < S::CHUNKS; j++) {
            const int64_t m = r.first + thread / 8 + j * (EMB_WARPGROUP / 8);
            rows[j] = m >= r.end ? -1 : a.x_rows != NULL ? a.x_rows[m] : (int)m;
        }
        for (int64_t k0 = 0; k0 < a.k; k0 += S::BK, issued++) {
            const unsigned slot = issued % S::STAGES;
            unsigned char *const stage = pipe.stages + slot * S::STAGE_BYTES;
            emb_barrier_wait(&pipe.empty[slot], (issued / S::STAGES & 1) ^ 1);
            if (thread == 0)
                emb_wgmma_load_w<S, NN>(p, stage + S::A_BYTES, &pipe.full[slot], n0, (int)k0,
                                        r.group);
            emb_wgmma_load_x<T, S>(a, stage, rows, (int)k0);
            if (issued < S::LAG)
                continue;
            emb_copy_wait<S::LAG>();
            emb_async_fence();
            emb_barrier_arrive(&pipe.full[told++ % S::STAGES]);
        }
    }
    emb_copy_wait<0>();
    emb_async_fence();
    while (told < issued)
        emb_barrier_arrive(&pipe.full[told++ % S::STAGES]);
}

/* --------------------------------------------------------------------------- other warpgroups */

/* acc += the rows at `a` times the stage's w at `b`, shared addresses; `first`: acc = . */
template <class T, class S, bool NN>
__device__ inline void emb_wgmma_stage(float (&acc)[S::MI][S::BN / 2], unsigned a, unsigned b,
                                       int first) {
    enum { ROW = NN ? 2 * S::NN_COLUMNS : EMB_SWIZZLE_128 };
    emb_wgmma_fence();
    EMB_UNROLL
    for (int k = 0; k < S::BK; k += 16) {
        const unsigned b_at = b + (NN ? k * ROW : 2 * k);
        EMB_UNROLL
        for (int i = 0; i < S::MI; i++)
            emb_wgmma<NN>(
                T(), acc[i],
                emb_wgmma_descriptor(a + i * (64 * S::BK * 2) + 2 * k, EMB_SWIZZLE_128, 1024, 0),
                emb_wgmma_descriptor(b_at, ROW, 8 * ROW, NN ? S::BK * ROW : 0), !first || k > 0);
    }
    emb_wgmma_commit();
}

/* Lane q of each four gets word q of all four, in their order. */
__device__ static inline void emb_quad_transpose(uint32_t (&w)[4]) {
    const int lane = (int)threadIdx.x;
    EMB_UNROLL
    for (int with = 1; with <= 2; with *= 2)
        EMB_UNROLL
    for (int i = 0; i < 4; i++)
        if (!(i & with)) {
            const int high = lane & with;
            const uint32_t got = __shfl_xor_sync(EMB_ALL, high ? w[i] : w[i + with], with);
            w[i] = high ? got : w[i];
            w[i + with] = high ? w[i + with] : got;
        }
}

/* emb_activate8 in little code, as it stands there up to 16 times: what is rare goes one by one
 * through memory. */
__device__ static inline void emb_wgmma_activate(int32_t act, float (&v)[8]) {
    if (act == EMB_CUDA_ACT_NONE)
        return;
    if (act == EMB_CUDA_ACT_GELU) {
        EMB_UNROLL
        for (int i = 0; i < 8; i++)
            v[i] = emb_gelu(v[i]);
        return;
    }
    if (act == EMB_CUDA_ACT_SILU) {
        EMB_UNROLL
        for (int i = 0; i < 8; i++)
            v[i] = emb_activate(EMB_CUDA_ACT_SILU, v[i]);
        return;
    }
    float one[8];
    EMB_UNROLL
    for (int i = 0; i < 8; i++)
        one[i] = v[i];
    EMB_UNROLL_NOT
    for (int i = 0; i < 8; i++)
        one[i] = emb_activate(act, one[i]);
    EMB_UNROLL
    for (int i = 0; i < 8; i++)
        v[i] = one[i];
}

/* What a thread needs of a row of y; `there`: it is one. */
template <class T>
struct emb_wgmma_row {
    T *y;
    const T *mul;
    const float *bias; /* of the group */
    int there;
};

/* 8 sums of this thread, columns col + 8 i + (0, 1) with 0 <= i < 4, become y: bias, activation and
 * mul here, then lane q of the four of the row writes 8 columns from col + 6 q on. */
template <class T>
__device__ inline void emb_wgmma_store(const emb_gemm_params &p, const emb_wgmma_row<T> &row,
                                       int col, float (&v)[8]) {
    const int q = (int)threadIdx.x % 4, n = (int)p.a.n;
    uint32_t w[4];
    if (row.bias != NULL) {
        EMB_UNROLL
        for (int i = 0; i < 8; i++)
            v[i] += col + i / 2 * 8 + i % 2 < n ? row.bias[col + i / 2 * 8 + i % 2] : 0.0f;
    }
    emb_wgmma_activate(p.a.act, v);
    if (p.a.mul != NULL && row.there) {
        EMB_UNROLL
        for (int i = 0; i < 8; i++)
            if (col + i / 2 * 8 + i % 2 < n)
                v[i] *= emb_to_float(row.mul[col + i / 2 * 8 + i % 2]);
    }
    EMB_UNROLL
    for (int i = 0; i < 4; i++)
        w[i] = emb_pack(T(), v[2 * i], v[2 * i + 1]);
    emb_quad_transpose(w);
    col += 6 * q; /* from 2 q on to 8 q on */
    if (!row.there || col >= n)
        return;
    if (p.y_vector && col + 8 <= n) {
        *(uint4 *)(row.y + col) = uint4{w[0], w[1], w[2], w[3]};
        return;
    }
    EMB_UNROLL
    for (int i = 0; i < 8; i++)
        if (col + i < n)
            row.y[col + i] = T{(uint16_t)(w[i / 2] >> 16 * (i % 2))};
}

template <class T, class S>
__device__ inline void emb_wgmma_finish(const emb_gemm_params &p, int first, int end, int group,
                                        int n0, float (&acc)[S::MI][S::BN / 2]) {
    const emb_cuda_gemm_args &a = p.a;
    const int thread = (int)threadIdx.x % EMB_WARPGROUP, lane = thread % EMB_WARP;
    EMB_UNROLL
    for (int i = 0; i < 2 * S::MI; i++) {
        const int m = first + thread / EMB_WARP * 16 + lane / 4 + i / 2 * 64 + i % 2 * 8;
        const emb_wgmma_row<T> row = {(T *)a.y + m * a.ldy,
                                      a.mul != NULL ? (const T *)a.mul + m * a.ldmul : NULL,
                                      a.bias != NULL ? a.bias + group * a.n : NULL, m < end};
        int col = n0 + lane % 4 * 2;
        emb_forget(col);
        EMB_UNROLL
        for (int j = 0; j < S::BN; j += 32) {
            float v[8];
            EMB_UNROLL
            for (int c = 0; c < 8; c++)
                v[c] = acc[i / 2][j / 2 + c / 2 * 4 + i % 2 * 2 + c % 2];
            emb_wgmma_store<T>(p, row, col + j, v);
        }
    }
}

template <class T, class S, bool NN>
__device__ inline void emb_wgmma_consume(const emb_wgmma_params &p, const emb_wgmma_pipe &pipe) {
    const emb_cuda_gemm_args &a = p.g.a;
    const unsigned group = threadIdx.x / EMB_WARPGROUP - 1, lane = threadIdx.x % EMB_WARP;
    const unsigned stages = (unsigned)((a.k + S::BK - 1) / S::BK);
    const unsigned base = emb_shared_address(pipe.stages);
    unsigned used = 0, tiles = 0;
    for (int tile = (int)blockIdx.x; tile < p.tiles; tile += (int)gridDim.x) {
        const emb_gemm_rows r = emb_gemm_find_rows(a, S::BM, tile / p.tiles_across);
        float acc[S::MI][S::BN / 2];
        if (r.first >= r.end)
            continue;
        const int first = (int)r.first, end = (int)r.end, of = r.group; /* fewer registers */
        const unsigned turn = tiles / S::GROUPS;
        if (tiles++ % S::GROUPS != group) {
            used += stages;
            continue;
        }
        if (S::GROUPS > 1) /* the first group has the first turn */
            emb_barrier_wait(&pipe.turn[group], (turn & 1) ^ (group == 0));
        for (unsigned s = 0; s < stages; s++, used++) {
            const unsigned slot = used % S::STAGES, at = base + slot * S::STAGE_BYTES;
            emb_barrier_wait(&pipe.full[slot], used / S::STAGES & 1);
            emb_wgmma_stage<T, S, NN>(acc, at, at + S::A_BYTES, s == 0);
            emb_wgmma_wait<1>(acc);
            if (lane == 0 && s > 0)
                emb_barrier_arrive(&pipe.empty[(used - 1) % S::STAGES]);
        }
        if (S::GROUPS > 1 && lane == 0)
            emb_barrier_arrive(&pipe.turn[(group + 1) % S::GROUPS]);
        emb_wgmma_wait<0>(acc);
        if (lane == 0)
            emb_barrier_arrive(&pipe.empty[(used - 1) % S::STAGES]);
        emb_wgmma_finish<T, S>(p.g, first, end, of, tile % p.tiles_across * S::BN, acc);
    }
}

template <class T, class S, bool NN>
__global__ void __launch_bounds__(S::THREADS, S::BLOCKS)
    emb_gemm_wgmma(const __grid_constant__ emb_wgmma_params p) {
    EMB_SHARED_DYNAMIC(shared);
    emb_wgmma_pipe pipe;
    pipe.stages = shared + (0u - emb_shared_address(shared)) % S::PATTERN;
    pipe.full = (uint64_t *)(pipe.stages + S::STAGES * S::STAGE_BYTES);
    pipe.empty = pipe.full + S::STAGES;
    pipe.turn = pipe.empty + S::STAGES;
    if (threadIdx.x == 0) {
        for (int s = 0; s < S::STAGES; s++) {
            emb_barrier_init(&pipe.full[s], EMB_WARPGROUP + 1);
            emb_barrier_init(&pipe.empty[s], EMB_WARPGROUP / EMB_WARP);
        }
        for (int g = 0; g < S::GROUPS; g++)
            emb_barrier_init(&pipe.turn[g], EMB_WARPGROUP / EMB_WARP);
        emb_barrier_init_done();
    }
    __syncthreads();
    if (threadIdx.x < EMB_WARPGROUP) {
        if constexpr (S::PRODUCER > 0)
            emb_registers_shrink<S::PRODUCER>();
        emb_wgmma_produce<T, S, NN>(p, pipe);
    } else {
        if constexpr (S::CONSUMER > 0)
            emb_registers_grow<S::CONSUMER>();
        emb_wgmma_consume<T, S, NN>(p, pipe);
    }
}

#endif
