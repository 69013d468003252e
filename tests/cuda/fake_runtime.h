/* fake_runtime: the calls of the CUDA runtime and driver that src/cuda_module makes, on host memory
 * and at once, with what a caller can see of them kept: the stack of contexts, the capture mode and
 * the last error of the thread, and everything that was made and not destroyed. One thread only. */
#ifndef TEST_FAKE_RUNTIME_H
#define TEST_FAKE_RUNTIME_H

#include <cuda_runtime_api.h>

typedef struct fake_runtime {
    long calls, fail_at; /* the fail_at-th call that can fails, 0: none */
    cudaError_t failure; /* with this */
    cudaError_t sticky;  /* and so all after it */
    cudaError_t last;    /* cudaGetLastError */
    enum cudaStreamCaptureMode mode;
    int depth;    /* contexts on the stack */
    int balanced; /* 0: one was popped that nobody pushed */
    int retained; /* primary contexts */
    int live;     /* everything else */
    int capturing;
    int driver, devices; /* as they say it */
    int major;
    size_t free_memory;
    int memory_type, memory_device; /* what memory of the caller's is; 0: the device's */
    int foreign, captured;          /* 1: what streams of the caller's are */
} fake_runtime;

extern fake_runtime fake_cuda;
extern const char *fake_cuda_missing; /* a call of the driver that it does not have */

/* A driver of CUDA 13.0 with one device, and a thread of the caller's that has a context of its own
 * current and an error of its own pending. */
void fake_runtime_start(void);

#endif
