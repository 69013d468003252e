/* cuda_ops: the operations of kernels/, by name, for both builds of the CUDA kernels: the module,
 * and the emulation on fake devices. */
#ifndef EMB_CUDA_MODULE_CUDA_OPS_H
#define EMB_CUDA_MODULE_CUDA_OPS_H

#include "device/backend.h"

const emb_op_entry *emb_cuda_ops(size_t *n);

#endif
