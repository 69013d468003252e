/* cuda_libraries: the functions we use of each library, as pointers of the types its header says.
 * None is linked: each is opened when something first needs it, and its absence is a reason. */
#ifndef EMB_CUDA_MODULE_CUDA_LIBRARIES_H
#define EMB_CUDA_MODULE_CUDA_LIBRARIES_H

#include "cuda_module/cuda_impl.h"

#define EMB_BLAS_CALLS(X)                                                                          \
    X(cublasLtGetVersion)                                                                          \
    X(cublasLtGetStatusName)                                                                       \
    X(cublasLtCreate)                                                                              \
    X(cublasLtDestroy)                                                                             \
    X(cublasLtMatmul)                                                                              \
    X(cublasLtMatmulDescCreate)                                                                    \
    X(cublasLtMatmulDescDestroy)                                                                   \
    X(cublasLtMatmulDescSetAttribute)                                                              \
    X(cublasLtMatrixLayoutCreate)                                                                  \
    X(cublasLtMatrixLayoutDestroy)                                                                 \
    X(cublasLtMatmulPreferenceCreate)                                                              \
    X(cublasLtMatmulPreferenceDestroy)                                                             \
    X(cublasLtMatmulPreferenceSetAttribute)                                                        \
    X(cublasLtMatmulAlgoGetHeuristic)                                                              \
    X(cublasLtMatmulAlgoConfigGetAttribute)

#define EMB_DNN_CALLS(X)                                                                           \
    X(cudnnGetVersion)                                                                             \
    X(cudnnGetErrorString)                                                                         \
    X(cudnnCreate)                                                                                 \
    X(cudnnDestroy)                                                                                \
    X(cudnnSetStream)                                                                              \
    X(cudnnBackendCreateDescriptor)                                                                \
    X(cudnnBackendDestroyDescriptor)                                                               \
    X(cudnnBackendFinalize)                                                                        \
    X(cudnnBackendSetAttribute)                                                                    \
    X(cudnnBackendGetAttribute)                                                                    \
    X(cudnnBackendExecute)

#define EMB_NCCL_CALLS(X)                                                                          \
    X(ncclGetVersion)                                                                              \
    X(ncclGetErrorString)                                                                          \
    X(ncclCommInitAll)                                                                             \
    X(ncclCommDestroy)                                                                             \
    X(ncclCommAbort)                                                                               \
    X(ncclGroupStart)                                                                              \
    X(ncclGroupEnd)                                                                                \
    X(ncclBroadcast)                                                                               \
    X(ncclAllGather)                                                                               \
    X(ncclSend)                                                                                    \
    X(ncclRecv)

#define EMB_CALL_FIELD(name) __typeof__(&name) name;
#define EMB_CALL_NAME(name) #name,

#ifdef CUBLAS_VER_MAJOR
struct emb_cuda_blas {
    EMB_BLAS_CALLS(EMB_CALL_FIELD)
};
#endif
#ifdef CUDNN_MAJOR
struct emb_cuda_dnn {
    EMB_DNN_CALLS(EMB_CALL_FIELD)
};
#endif
#ifdef NCCL_MAJOR
struct emb_cuda_nccl {
    EMB_NCCL_CALLS(EMB_CALL_FIELD)
};
#endif

#endif
