/* cuda_kernels: arguments of the kernel that shows a device to work. */
#ifndef EMB_CUDA_MODULE_CUDA_KERNELS_H
#define EMB_CUDA_MODULE_CUDA_KERNELS_H

#include "device/backend.h"

/* "device_probe": out[i] = first + i, i < n; one thread an element */
typedef struct emb_probe_args {
    emb_dptr out;
    uint32_t n, first;
} emb_probe_args;

#endif
