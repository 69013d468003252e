/* cuda_arch: which GPUs a list of architectures runs on. Machine code for x.y runs on x.z with z >=
 * y; code for an architecture with a letter ("90a") on that one alone; portable code (PTX) on all
 * later ones. Entries end in "-real" without PTX; a plain number has both. */
#ifndef EMB_CUDA_MODULE_CUDA_ARCH_H
#define EMB_CUDA_MODULE_CUDA_ARCH_H

#include <stdint.h>

/* archs: such as "80-real,89-real,90a-real,120". Entries with a letter are extras that do not make
 * a GPU usable, since only some kernels have them. */
int emb_cuda_arch_runs(const char *archs, int32_t major, int32_t minor);

#endif
