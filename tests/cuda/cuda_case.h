/* cuda_case: inputs and outputs of a CUDA kernel under emulation, in any element type. Everything
 * allocated here belongs to the running test and is given back by cuda_case_end, its guard zones
 * checked. Inputs end where their allocation ends, so that the address sanitizer sees a read
 * beyond. The same tests run on GPUs (gpu/gpu_remote.c): all that a kernel is given must be from
 * here, and its outputs can be read when the launcher returns. */
#ifndef EMB_TESTS_CUDA_CASE_H
#define EMB_TESTS_CUDA_CASE_H

#include "support/test.h"

#include "kernels/cuda/cuda_emulation.h"
#include "kernels/cuda/cuda_exec.h"

enum { CUDA_DTYPES = 3, CUDA_SEEDS = 3 };
extern const int32_t cuda_dtypes[CUDA_DTYPES];

size_t cuda_size(int32_t dtype);
/* Relative error of rounding to dtype: half an ulp, and the absolute one below the normal range. */
double cuda_rounding(int32_t dtype);
double cuda_least(int32_t dtype);

/* n normally distributed numbers as dtype; exact [n], if not NULL, gets them as they are stored. */
void *cuda_normals(uint64_t *seed, size_t n, double scale, int32_t dtype, double *exact);
/* The same numbers one element off any alignment. */
void *cuda_shifted(const void *p, size_t n, int32_t dtype);
void *cuda_copy(const void *p, size_t bytes);
double *cuda_doubles(size_t n);
/* NaN (bytes of 0xff) between guard zones. */
void *cuda_output(size_t bytes);
double cuda_at(const void *p, int32_t dtype, size_t i);

/* Every |got - want| <= atol + rtol |want|, NaN failing. */
void cuda_close(const char *what, const void *got, int32_t dtype, const double *want, size_t n,
                double atol, double rtol);
void cuda_same(const char *what, const void *a, const void *b, size_t bytes);

/* A fresh exec; expects the launcher to have worked. */
emb_cuda_exec *cuda_exec(void);
void cuda_worked(const char *what, embed_status st);
void cuda_case_end(void);
/* What is allocated, for who copies it to a device and back. */
size_t cuda_blocks(void);
void *cuda_block(size_t i, size_t *bytes);

#endif
