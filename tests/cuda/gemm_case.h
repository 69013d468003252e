/* gemm_case: one matrix product on the device against the definition in double, in several orders
 * of threads, which must give the same bits. */
#ifndef EMB_TESTS_CUDA_GEMM_CASE_H
#define EMB_TESTS_CUDA_GEMM_CASE_H

#include "cuda/cuda_case.h"
#include "kernels/gemm/gemm_cuda.h"

/* groups 0: dense; else `sizes` rows each, all gathered from `m` rows of x. */
typedef struct gemm_case {
    int64_t m, n, k;
    int32_t layout, act;
    int bias, mul, shifted, groups;
    const int32_t *sizes;
    int32_t processors;
    int sm90;    /* the device is one, with tensor maps */
    int plain;   /* groups: rows of x in order, none gathered */
    int64_t lda; /* elements from row to row of x; 0: k */
} gemm_case;

typedef embed_status (*gemm_case_op)(emb_cuda_exec *exec, const emb_cuda_gemm_args *args);

/* cuda_exec() for the case. */
emb_cuda_exec *gemm_case_exec(const gemm_case *s);
void gemm_case_run(const gemm_case *s, int32_t dtype, gemm_case_op op);

#endif
