/* gpu_memory: where the kernels of gpu_remote run: on the first GPU (gpu_memory_cuda.c), or on the
 * CPU with a memory of its own beside the tests' (gpu_memory_host.c), which shows that the programs
 * themselves are right where there is no GPU. */
#ifndef EMB_TESTS_GPU_GPU_MEMORY_H
#define EMB_TESTS_GPU_GPU_MEMORY_H

#include "kernels/cuda/cuda_exec.h"

/* All return NULL, or what went wrong. */
const char *gpu_memory_open(emb_cuda_exec *exec); /* fills it; may be repeated */
const char *gpu_memory_new(void **out, size_t bytes);
const char *gpu_memory_put(void *device, const void *host, size_t bytes);
const char *gpu_memory_get(void *host, const void *device, size_t bytes);
const char *gpu_memory_wait(void); /* for all work enqueued */
void gpu_memory_free(void *device);
/* The stream is captured from begin 1 to begin 0, which runs what was captured. */
const char *gpu_memory_capture(int begin);

#endif
