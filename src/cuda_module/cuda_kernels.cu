/* The list of kernels, and one of its own that shows a device to work. */
#include "cuda_module/cuda_kernels.h"

extern "C" {
#include "device/backend.h"
}

/* out[i] = first + i, i < n */
static __global__ void device_probe(const emb_probe_args a) {
    const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < a.n)
        reinterpret_cast<uint32_t *>(a.out.at)[i] = a.first + i;
}

static const uint16_t probe_pointers[] = {0};

static const emb_kernel_entry kernels[] = {
    {"device_probe", reinterpret_cast<void (*)(void)>(device_probe), sizeof(emb_probe_args), 0,
     probe_pointers, 1, 0},
};

extern "C" const emb_kernel_entry *emb_cuda_kernels(size_t *n) {
    *n = sizeof kernels / sizeof kernels[0];
    return kernels;
}
