#include "kernels/router_topk/router_topk_cuda.h"

#include "kernels/cuda/cuda_port.h"

namespace {

enum {
    THREADS = 256,
    WARPS = THREADS / EMB_WARP,
    TOKENS = EMB_CUDA_ROUTER_TOKENS,
    MOST_CHOICES = 16,
    MOST_EXPERTS = 256
};

/* Scratch: per block of TOKENS and expert, the sum of gates and the number of pairs, which the scan
 * replaces by the number in earlier blocks. */
struct params {
    emb_cuda_router_topk_args a;
    double *block_gate;
    int32_t *block_count;
    int32_t blocks;
};

__device__ inline int64_t token_count(const params &p) {
    return p.a.count != NULL && *p.a.count < p.a.tokens ? *p.a.count : p.a.tokens;
}

/* A warp's token: v[i] = probability of expert 32 i + lane, -3 where there is none. */
template <int EACH>
__device__ inline void softmax(const float *logits, int experts, int lane, float (&v)[EACH]) {
    float max = -INFINITY, sum = 0.0f;
    EMB_UNROLL
    for (int i = 0; i < EACH; i++) {
        const int e = i * EMB_WARP + lane;
        v[i] = e < experts ? logits[e] : -INFINITY;
        max = fmaxf(max, v[i]);
    }
    max = emb_warp_max(max);
    EMB_UNROLL
    for (int i = 0; i < EACH; i++) {
        v[i] = i * EMB_WARP + lane < experts ? expf(v[i] - max) : 0.0f;
        sum += v[i];
    }
    sum = emb_warp_sum(sum);
    EMB_UNROLL
    for (int i = 0; i < EACH; i++) {
        const float probability = v[i] / sum;
        v[i] = i * EMB_WARP + lane >= experts ? -3.0f
               : probability == probability   ? probability
                                              : -1.0f;
    }
}

/* The greatest of the warp's values, ties to the lower expert; taken out of v. NaN stands as -1. */
template <int EACH>
__device__ inline int take_best(float (&v)[EACH], int lane, float *probability) {
    float best = -4.0f;
    int at = MOST_EXPERTS;
    EMB_UNROLL
    for (int i = 0; i < EACH; i++)
        if (v[i] > best) {
            best = v[i];
            at = i * EMB_WARP + lane;
        }
    EMB_UNROLL
    for (int with = EMB_WARP / 2; with > 0; with /= 2) {
        const float other = __shfl_xor_sync(EMB_ALL, best, with);
        const int other_at = __shfl_xor_sync(EMB_ALL, at, with);
        if (other > best || (other == best && other_at < at)) {
            best = other;
            at = other_at;
        }
    }
    EMB_UNROLL
    for (int i = 0; i < EACH; i++)
        if (i * EMB_WARP + lane == at)
            v[i] = -2.0f;
    *probability = best >= 0.0f ? best : emb_bits_float(0x7fc00000u);
    return at;
}

/* The choices of one block's tokens, into global memory and the block's arrays. */
template <int EACH>
__device__ inline void choose(const params &p, int64_t first, int *chosen, float *gates) {
    const int lane = (int)threadIdx.x % EMB_WARP, k = p.a.top_k;
    const int64_t count = token_count(p);
    for (int at = (int)threadIdx.x / EMB_WARP; at < TOKENS; at += WARPS) {
        const int64_t t = first + at;
        float v[EACH], sum = 0.0f, mine = 0.0f;
        if (t >= count) {
            if (lane < k)
                chosen[at * k + lane] = -1;
            continue;
        }
        softmax(p.a.logits + t * p.a.experts, p.a.experts, lane, v);
        int mine_at = 0;
        for (int j = 0; j < k; j++) {
            float probability;
            const int e = take_best(v, lane, &probability);
            sum += probability;
            if (lane == j) {
                mine = probability;
                mine_at = e;
            }
        }
        if (lane < k) {
            const float gate = p.a.renormalize ? mine / sum : mine;
            p.a.gate[t * k + lane] = gates[at * k + lane] = gate;
            p.a.expert[t * k + lane] = chosen[at * k + lane] = mine_at;
        }
    }
}

/* Pairs and gates per expert of one block: thread (s, e) does segment s, then thread e the sum. */
__device__ inline void count_block(const params &p, int block, const int *chosen,
                                   const float *gates) {
    EMB_SHARED(double, part_gate, THREADS);
    EMB_SHARED(int, part_count, THREADS);
    const int experts = p.a.experts, pairs = TOKENS * p.a.top_k, segments = THREADS / experts;
    const int e = (int)threadIdx.x % experts, s = (int)threadIdx.x / experts;
    const int length = (pairs + segments - 1) / segments;
    double gate = 0.0;
    int count = 0;
    for (int i = s * length; s < segments && i < (s + 1) * length && i < pairs; i++)
        if (chosen[i] == e) {
            gate += (double)gates[i];
            count++;
        }
    part_gate[threadIdx.x] = gate;
    part_count[threadIdx.x] = count;
    __syncthreads();
    if ((int)threadIdx.x < experts) {
        for (int i = 1; i < segments; i++) {
            gate += part_gate[i * experts + e];
            count += part_count[i * experts + e];
        }
        p.block_gate[(int64_t)block * experts + e] = gate;
        p.block_count[(int64_t)block * experts + e] = count;
    }
}

template <int EACH>
__device__ inline void choose_block(const params &p, int block) {
    EMB_SHARED(int, chosen, TOKENS *MOST_CHOICES);
    EMB_SHARED(float, gates, TOKENS *MOST_CHOICES);
    choose<EACH>(p, (int64_t)block * TOKENS, chosen, gates);
    __syncthreads();
    count_block(p, block, chosen, gates);
}

__device__ inline int scan_warp(int v, int lane) { /* inclusive */
    EMB_UNROLL
    for (int by = 1; by < EMB_WARP; by *= 2) {
        const int below = __shfl_up_sync(EMB_ALL, v, (unsigned)by);
        if (lane >= by)
            v += below;
    }
    return v;
}

/* One block: counts of all blocks -> counts before each block, totals -> offsets. */
__device__ inline void scan_blocks(const params &p) {
    EMB_SHARED(int, total, MOST_EXPERTS);
    const int lane = (int)threadIdx.x % EMB_WARP, warp = (int)threadIdx.x / EMB_WARP;
    const int experts = p.a.experts;
    for (int e = warp; e < experts; e += WARPS) {
        int before = 0;
        double gate = 0.0;
        for (int b = 0; b < p.blocks; b += EMB_WARP) {
            const int64_t i = (int64_t)(b + lane) * experts + e;
            const int there = b + lane < p.blocks;
            const int v = there ? p.block_count[i] : 0;
            double g = there ? p.block_gate[i] : 0.0;
            const int sum = scan_warp(v, lane);
            if (there)
                p.block_count[i] = before + sum - v;
            before += __shfl_sync(EMB_ALL, sum, EMB_WARP - 1);
            EMB_UNROLL
            for (int with = EMB_WARP / 2; with > 0; with /= 2)
                g += __shfl_xor_sync(EMB_ALL, g, with);
            gate += g;
        }
        if (lane == 0) {
            total[e] = before;
            if (p.a.gate_sum != NULL)
                p.a.gate_sum[e] += gate;
            if (p.a.expert_tokens != NULL)
                p.a.expert_tokens[e] += (uint64_t)before;
        }
    }
    __syncthreads();
    if (warp > 0)
        return;
    int before = 0;
    for (int first = 0; first < experts; first += EMB_WARP) {
        const int v = first + lane < experts ? total[first + lane] : 0;
        const int sum = scan_warp(v, lane);
        if (first + lane < experts)
            p.a.offset[first + lane] = before + sum - v;
        before += __shfl_sync(EMB_ALL, sum, EMB_WARP - 1);
    }
    if (lane == 0)
        p.a.offset[experts] = before;
}

/* The slots of one block's pairs, 256 at a time; next[e] is the slot that expert's next pair gets.
 */
__device__ inline void place_block(const params &p, int block) {
    EMB_SHARED(int, next, MOST_EXPERTS);
    EMB_SHARED(int, found, WARPS *MOST_EXPERTS);
    const int thread = (int)threadIdx.x, lane = thread % EMB_WARP, warp = thread / EMB_WARP;
    const int experts = p.a.experts, k = p.a.top_k;
    const int64_t first = (int64_t)block * TOKENS * k, end = token_count(p) * k;
    if (thread < experts)
        next[thread] = p.a.offset[thread] + p.block_count[(int64_t)block * experts + thread];
    for (int chunk = 0; chunk < TOKENS * k; chunk += THREADS) {
        const int64_t pair = first + chunk + thread;
        const int e = chunk + thread < TOKENS * k && pair < end ? p.a.expert[pair] : -1;
        for (int i = thread; i < WARPS * experts; i += THREADS)
            found[i] = 0;
        __syncthreads();
        const unsigned same = __match_any_sync(EMB_ALL, e);
        const int rank = __popc(same & ((1u << lane) - 1u));
        if (e >= 0 && rank == 0)
            found[warp * experts + e] = __popc(same);
        __syncthreads();
        if (e >= 0) {
            int slot = next[e] + rank;
            for (int w = 0; w < warp; w++)
                slot += found[w * experts + e];
            p.a.slot[pair] = slot;
            p.a.rows[slot] = (int32_t)(pair / k);
        }
        __syncthreads();
        if (thread < experts)
            for (int w = 0; w < WARPS; w++)
                next[thread] += found[w * experts + thread];
        __syncthreads();
    }
}

template <int EACH>
__global__ void __launch_bounds__(THREADS) router_choose(const __grid_constant__ params p) {
    choose_block<EACH>(p, (int)blockIdx.x);
}

__global__ void __launch_bounds__(THREADS) router_scan(const __grid_constant__ params p) {
    scan_blocks(p);
}

__global__ void __launch_bounds__(THREADS) router_place(const __grid_constant__ params p) {
    place_block(p, (int)blockIdx.x);
}

/* All three for up to TOKENS tokens. */
template <int EACH>
__global__ void __launch_bounds__(THREADS) router_alone(const __grid_constant__ params p) {
    choose_block<EACH>(p, 0);
    __syncthreads();
    scan_blocks(p);
    __syncthreads();
    place_block(p, 0);
}

int64_t blocks_of(int64_t tokens) {
    return (tokens + TOKENS - 1) / TOKENS;
}

template <int EACH>
embed_status start(emb_cuda_exec *x, const params &p) {
    embed_status st;
    const dim3 grid((unsigned)p.blocks), one(1);
    if (p.blocks == 1)
        return emb_cuda_launch(x, "router_alone", router_alone<EACH>, one, THREADS, 0, p);
    st = emb_cuda_launch(x, "router_choose", router_choose<EACH>, grid, THREADS, 0, p);
    if (st == EMBED_OK)
        st = emb_cuda_launch(x, "router_scan", router_scan, one, THREADS, 0, p);
    if (st == EMBED_OK)
        st = emb_cuda_launch(x, "router_place", router_place, grid, THREADS, 0, p);
    return st;
}

} // namespace

extern "C" embed_status emb_cuda_router_topk(emb_cuda_exec *exec,
                                             const emb_cuda_router_topk_args *args) {
    const emb_cuda_router_topk_args &a = *args;
    if (a.experts < 1 || a.experts > MOST_EXPERTS || a.top_k < 1 || a.top_k > MOST_CHOICES ||
        a.top_k > a.experts || a.tokens < 0 || a.tokens > INT32_MAX / a.top_k)
        return emb_cuda_refuse(exec, "router_topk: top_k of the experts");
    if (a.tokens == 0)
        return EMBED_OK;
    params p = {a, (double *)a.scratch, NULL, (int32_t)blocks_of(a.tokens)};
    p.block_count = (int32_t *)(p.block_gate + (int64_t)p.blocks * a.experts);
    return a.experts <= EMB_WARP ? start<1>(exec, p) : start<MOST_EXPERTS / EMB_WARP>(exec, p);
}
