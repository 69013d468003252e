#include "cuda_module/cuda_ops.h"

#include "kernels/activation/activation_cuda.h"
#include "kernels/attention/attention_cuda.h"
#include "kernels/embed_lookup/embed_lookup_cuda.h"
#include "kernels/gemm/gemm_cuda.h"
#include "kernels/layernorm/layernorm_cuda.h"
#include "kernels/moe_combine/moe_combine_cuda.h"
#include "kernels/moe_exchange/moe_exchange_cuda.h"
#include "kernels/pool/pool_cuda.h"
#include "kernels/quantize/quantize_cuda.h"
#include "kernels/rotary/rotary_cuda.h"
#include "kernels/router_topk/router_topk_cuda.h"
#include "kernels/row_copy/row_copy_cuda.h"

/* The launcher of an operation behind one type. */
#define OPERATION(op)                                                                              \
    static embed_status run_##op(emb_op_target *on, const void *args) {                            \
        emb_cuda_exec exec = {.stream = on->stream,                                                \
                              .processors = on->processors,                                        \
                              .shared_bytes = on->shared_bytes,                                    \
                              .arch = on->arch,                                                    \
                              .tensor_maps = on->tensor_maps};                                     \
        const embed_status st = emb_cuda_##op(&exec, args);                                        \
        on->error = exec.error;                                                                    \
        on->failed = exec.failed;                                                                  \
        return st;                                                                                 \
    }
#define OPERATIONS(X)                                                                              \
    X(activation)                                                                                  \
    X(attention)                                                                                   \
    X(embed_lookup)                                                                                \
    X(gemm)                                                                                        \
    X(gemm_mma)                                                                                    \
    X(gemm_sm90)                                                                                   \
    X(layernorm)                                                                                   \
    X(moe_collect)                                                                                 \
    X(moe_combine)                                                                                 \
    X(moe_dispatch)                                                                                \
    X(moe_return)                                                                                  \
    X(pool)                                                                                        \
    X(quantize)                                                                                    \
    X(rotary)                                                                                      \
    X(router_topk)                                                                                 \
    X(row_copy)
OPERATIONS(OPERATION)

#define ENTRY(op) {#op, run_##op, sizeof(emb_cuda_##op##_args), 0},
static const emb_op_entry ops[] = {OPERATIONS(ENTRY)};

const emb_op_entry *emb_cuda_ops(size_t *n) {
    *n = sizeof ops / sizeof ops[0];
    return ops;
}
