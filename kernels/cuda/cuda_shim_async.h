/* cuda_shim_async: the host twins of cuda_hopper.h: barriers in shared memory, bulk copies and
 * products that happen later. Included by cuda_shim.h; cuda_shim_async.cpp does the work.
 *
 * A bulk copy makes its tile NaN when it is issued and arrives when its barrier is next waited for
 * and nobody else can go on (seed 0), or at any time before (other seeds). A product reads its
 * operands and adds at the wait that ends it and not before, so that a tile given back too early,
 * or an accumulator read too early, shows. Shared memory starts at an address that is a multiple of
 * 128 only. Faults: barriers nobody made, counted below zero, or that nothing will complete; tiles
 * at wrong addresses; operands outside the shared array, or copied there by a thread that did not
 * fence; warps of a warpgroup that issue different products, or products that nobody waited for. */
#ifndef EMB_KERNELS_CUDA_SHIM_ASYNC_H
#define EMB_KERNELS_CUDA_SHIM_ASYNC_H

#include <stdint.h>

struct emb_shim_tensor_map {
    uint64_t magic, at, dims[3], strides[2];
    uint32_t box[2];
};

/* 0: what the driver would refuse. */
int emb_shim_map_encode(emb_shim_tensor_map *map, const void *matrix, const uint64_t dims[3],
                        const uint64_t strides[2], const uint32_t box[2]);
void emb_shim_barrier_init(uint64_t *barrier, unsigned arrivals);
void emb_shim_barrier_arrive(uint64_t *barrier, unsigned bytes);
void emb_shim_barrier_wait(uint64_t *barrier, unsigned parity);
void emb_shim_bulk_load(void *to, const emb_shim_tensor_map *map, uint64_t *barrier, int c0, int c1,
                        int c2);
void emb_shim_async_fence(void);
void emb_shim_wgmma_fence(void);
void emb_shim_wgmma_commit(void);
void emb_shim_wgmma_wait(int newest);
void emb_shim_wgmma(float *d, int n, float (*widen)(uint16_t), uint64_t a, uint64_t b, int add,
                    int rows_of_b);
/* Address in the shared window, as instructions have it, of something in the dynamic array. */
unsigned emb_shim_shared_address(const void *p);

#endif
