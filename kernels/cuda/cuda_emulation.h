/* cuda_emulation: controls of the CPU build of the CUDA kernels. One thread at a time may use it.
 *
 * A CUDA thread is a fiber. Barriers, shuffles, votes, matrix products and asynchronous copies do
 * what the PTX manual says and nothing more: shared memory starts as NaN in every block, an
 * asynchronous copy leaves NaN until it is waited for, and the order of threads and blocks is
 * random for seeds other than 0. Faults (divergent barriers, different collectives in one warp,
 * writes around shared memory, broken launch limits, misaligned vectors) fail the launch. */
#ifndef EMB_KERNELS_CUDA_EMULATION_H
#define EMB_KERNELS_CUDA_EMULATION_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Order of threads and blocks from now on; 0 (the start): ascending, odd: at random, even: some
 * warps, chosen at random, run as far ahead of the others as barriers let them. */
void emb_emulation_seed(uint64_t seed);

/* What was wrong in the last launch that failed; "" before. */
const char *emb_emulation_error(void);

/* Launches so far, and the blocks in them: a launcher with nothing to do adds none. */
uint64_t emb_emulation_launches(void);
uint64_t emb_emulation_blocks(void);

/* From now on launches are handed over instead of being run at once (NULL: run at once). submit
 * gets a job of `bytes` bytes at `job`, which it copies, and later runs on the copy with
 * emb_emulation_run, in the order of the stream; it returns 0 or a cudaError_t. */
typedef int (*emb_emulation_submit)(void *user, void *stream, const void *job, size_t bytes);
void emb_emulation_redirect(emb_emulation_submit submit, void *user);
/* 0, or cudaErrorLaunchFailure (719) with a message in emb_emulation_error(). */
int emb_emulation_run(const void *job);

/* Stands for the driver's encoder in emb_cuda_exec.tensor_maps; does nothing if called. */
void emb_emulation_tensor_maps(void);

/* Give back the stacks and buffers that launches keep for the next one. */
void emb_emulation_release(void);

#ifdef __cplusplus
}
#endif

#endif
