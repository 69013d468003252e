/* cuda_shim: the part of CUDA C++ that the kernels use, for a plain C++17 compiler. Included by
 * cuda_port.h only; cuda_shim.cpp is the scheduler. */
#ifndef EMB_KERNELS_CUDA_SHIM_H
#define EMB_KERNELS_CUDA_SHIM_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels/cuda/cuda_shim_async.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {
    }
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) float2 {
    float x, y;
};

/* A warp-wide operation: every lane deposits its operands, the last one to arrive may compute for
 * all, then each takes its result. The two buffers alternate, so that a fast lane never overwrites
 * what a slow one has still to read. */
enum { EMB_SHIM_SLOT = 48 };
typedef void (*emb_shim_last)(unsigned char (*slot)[EMB_SHIM_SLOT]);

struct emb_shim_thread_state {
    dim3 thread, block, grid, size;
};
extern struct emb_shim_thread_state *emb_shim_self;

#define threadIdx (emb_shim_self->thread)
#define blockIdx (emb_shim_self->block)
#define gridDim (emb_shim_self->grid)
#define blockDim (emb_shim_self->size)

/* Deposits n bytes, waits for the 31 other lanes and returns the deposits of all. `what` must be
 * the same in all lanes. */
unsigned char (*emb_shim_exchange(const char *what, const void *data, size_t n,
                                  emb_shim_last last))[EMB_SHIM_SLOT];
void emb_shim_barrier(void); /* __syncthreads */
void emb_shim_fault(const char *what);
int emb_shim_lane(void);

void *emb_shim_dynamic(void);
/* The shared array that belongs to this key in this block. */
void *emb_shim_static(const void *key, size_t bytes);
void emb_shim_copy_async(void *to, const void *from, int bytes);
void emb_shim_copy_commit(void);
void emb_shim_copy_wait(int newest);

static inline void __syncthreads(void) {
    emb_shim_barrier();
}
static inline void emb_shim_full(unsigned mask) {
    if (mask != 0xffffffffu)
        emb_shim_fault("a warp-wide operation for less than a whole warp");
}
static inline void __syncwarp(unsigned mask = 0xffffffffu) {
    emb_shim_full(mask);
    emb_shim_exchange("syncwarp", NULL, 0, NULL);
}
template <class V>
V emb_shim_take(const char *what, V v, int lane) {
    V r;
    memcpy(&r, emb_shim_exchange(what, &v, sizeof v, NULL)[lane & 31], sizeof r);
    return r;
}
template <class V>
V __shfl_sync(unsigned mask, V v, int lane) {
    emb_shim_full(mask);
    return emb_shim_take("shfl", v, lane);
}
template <class V>
V __shfl_xor_sync(unsigned mask, V v, int with) {
    emb_shim_full(mask);
    return emb_shim_take("shfl_xor", v, emb_shim_lane() ^ with);
}
template <class V>
V __shfl_up_sync(unsigned mask, V v, unsigned by) {
    const int lane = emb_shim_lane(), from = lane - (int)by;
    emb_shim_full(mask);
    return emb_shim_take("shfl_up", v, from < 0 ? lane : from);
}
template <class V>
V __shfl_down_sync(unsigned mask, V v, unsigned by) {
    const int lane = emb_shim_lane(), from = lane + (int)by;
    emb_shim_full(mask);
    return emb_shim_take("shfl_down", v, from > 31 ? lane : from);
}
static inline unsigned __match_any_sync(unsigned mask, int v) {
    unsigned same = 0;
    emb_shim_full(mask);
    unsigned char(*all)[EMB_SHIM_SLOT] = emb_shim_exchange("match_any", &v, sizeof v, NULL);
    for (int lane = 0; lane < 32; lane++)
        same |= (unsigned)(memcmp(all[lane], &v, sizeof v) == 0) << lane;
    return same;
}
static inline unsigned __ballot_sync(unsigned mask, int v) {
    unsigned set = 0;
    const int yes = v != 0;
    emb_shim_full(mask);
    unsigned char(*all)[EMB_SHIM_SLOT] = emb_shim_exchange("ballot", &yes, sizeof yes, NULL);
    for (int lane = 0; lane < 32; lane++)
        set |= (unsigned)all[lane][0] << lane;
    return set;
}
static inline int __any_sync(unsigned mask, int v) {
    return __ballot_sync(mask, v) != 0;
}
static inline int __all_sync(unsigned mask, int v) {
    return __ballot_sync(mask, v) == 0xffffffffu;
}
/* Threads switch at barriers only, so plain code is atomic. */
template <class V>
V atomicAdd(V *p, V v) {
    const V old = *p;
    *p = old + v;
    return old;
}
template <class V>
V atomicMax(V *p, V v) {
    const V old = *p;
    *p = old > v ? old : v;
    return old;
}
static inline int __popc(unsigned v) {
    return __builtin_popcount(v);
}
static inline int __ffs(int v) {
    return __builtin_ffs(v);
}

/* A launch, as it is handed to emb_emulation_redirect or run at once: this, then the arguments. */
struct alignas(16) emb_shim_job {
    void (*call)(void (*kernel)(void), const void *params);
    void (*kernel)(void);
    const char *name;
    dim3 grid, block;
    size_t shared, limit;
};
template <class P>
struct emb_shim_job_of {
    struct emb_shim_job head;
    alignas(16) P params;
};
template <class P>
void emb_shim_call(void (*kernel)(void), const void *params) {
    ((void (*)(P))kernel)(*(const P *)params);
}
/* 0 or a cudaError_t. */
int emb_shim_launch(void *stream, const struct emb_shim_job *job, size_t bytes);

#endif
