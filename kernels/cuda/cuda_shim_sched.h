/* cuda_shim_sched: what the two halves of the emulation need of each other: cuda_shim.cpp runs
 * threads, cuda_shim_async.cpp what happens beside them. */
#ifndef EMB_KERNELS_CUDA_SHIM_SCHED_H
#define EMB_KERNELS_CUDA_SHIM_SCHED_H

#include <stddef.h>
#include <stdint.h>

/* cuda_shim.cpp */
int emb_shim_thread(void);             /* of the block, that runs now */
void emb_shim_park(const void *event); /* the thread that runs, until the event is announced */
void emb_shim_wake(const void *event);
uint64_t emb_shim_random(void); /* 0 under seed 0 */
unsigned char *emb_shim_dynamic_array(size_t *bytes);

/* cuda_shim_async.cpp */
void emb_shim_async_start(int threads); /* a block */
/* One bulk copy arrives; 0: none was under way. */
int emb_shim_async_arrive(void);
int emb_shim_async_busy(void); /* bulk copies under way */
/* What a block that ended left behind; NULL: nothing. */
const char *emb_shim_async_finish(void);
/* cp.async has written 16 bytes there. */
void emb_shim_async_written(const void *to);

#endif
