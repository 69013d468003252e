/* cuda_impl: what the files of the CUDA module share. The module sees of the library only
 * device/backend.h. The driver is one per process and outlives every handle, so what belongs to it
 * (libraries that were opened, the process that first used it) is kept in one place here, behind a
 * mutex; all else hangs off a device.
 *
 * Nothing of the caller's threads changes: every entry pushes the device's primary context and pops
 * it again (emb_cuda_enter), so that whatever context was current stays so. Calls that another
 * thread's capture in global mode would forbid are made in relaxed mode. */
#ifndef EMB_CUDA_MODULE_CUDA_IMPL_H
#define EMB_CUDA_MODULE_CUDA_IMPL_H

#include <cuda.h>
#include <cuda_runtime_api.h>

#include "device/backend.h"

/* The driver's own calls, asked of the runtime so that nothing is linked to libcuda. */
typedef struct emb_cuda_driver {
    CUresult(CUDAAPI *push)(CUcontext);
    CUresult(CUDAAPI *pop)(CUcontext *);
    CUresult(CUDAAPI *retain)(CUcontext *, CUdevice);
    CUresult(CUDAAPI *release)(CUdevice);
    CUresult(CUDAAPI *device)(CUdevice *, int);
    CUresult(CUDAAPI *stream_context)(CUstream, CUcontext *);
} emb_cuda_driver;

struct emb_be_device {
    embed_allocator allocator;
    emb_cuda_driver driver;
    CUdevice device;
    CUcontext context;
    int32_t index;
    _Atomic int32_t capturing;        /* a capture is in progress */
    int32_t processors, shared_bytes; /* multiprocessors; shared memory a block may ask for */
    int32_t arch;                     /* 90: compute capability 9.0 */
    void (*tensor_maps)(void);        /* cuTensorMapEncodeTiled; NULL: the driver has none */
    void *blas;                       /* cublasLtHandle_t, made when first needed */
};

struct emb_be_stream {
    emb_be_device *device;
    cudaStream_t stream;
    int adopted;
};

struct emb_be_event {
    emb_be_device *device;
    cudaEvent_t event;
};

struct emb_be_graph {
    emb_be_device *device;
    cudaGraphExec_t exec;
};

int emb_cuda_error(emb_device_error *err, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* The code for a result of the runtime, with its name and number in the text. */
int emb_cuda_code(cudaError_t result, const char *call, emb_device_error *err);
/* For calls whose failure is not told: 1 if it succeeded, else what it left as the thread's last
 * error, which is the caller's, is taken away. */
int emb_cuda_tried(cudaError_t result);
#define EMB_CUDA(x, err) emb_cuda_code((x), #x, err)

/* Between these two the device's context is current and, unless the device is being captured, calls
 * are allowed that other threads' captures would forbid. */
typedef struct emb_cuda_scope {
    emb_be_device *device;
    enum cudaStreamCaptureMode mode;
    int relaxed;
} emb_cuda_scope;
int emb_cuda_enter(emb_cuda_scope *s, emb_be_device *d, emb_device_error *err);
void emb_cuda_leave(emb_cuda_scope *s);

/* Zero-filled memory of the caller's allocator; NULL with the text set. */
void *emb_cuda_new(const embed_allocator *a, size_t bytes, emb_device_error *err);
void emb_cuda_delete(const embed_allocator *a, void *p, size_t bytes);

/* EMB_DEVICE_OK once the driver answers; remembers the process. */
int emb_cuda_ready(int32_t *devices, emb_device_error *err);

/* cuda_libraries.c: the functions of a library that is opened when first asked for, a struct of
 * pointers; NULL with the reason in *feature, which is filled in any case and may be NULL. */
struct emb_cuda_blas;
struct emb_cuda_nccl;
struct emb_cuda_dnn;
const struct emb_cuda_blas *emb_cuda_blas(emb_feature *feature);
const struct emb_cuda_nccl *emb_cuda_nccl(emb_feature *feature);
const struct emb_cuda_dnn *emb_cuda_dnn(emb_feature *feature);
void emb_cuda_blas_free(emb_be_device *d);     /* cuda_gemm.c */
uint64_t emb_cuda_free_memory(int32_t device); /* by NVML; UINT64_MAX: not known */
void *emb_cuda_library(const char *name, char *reason, size_t size);

/* cuda_kernels.cu */
const emb_kernel_entry *emb_cuda_kernels(size_t *n);

/* The entries of the table, by file. */
void emb_cuda_fill_memory(emb_backend *t);
void emb_cuda_fill_stream(emb_backend *t);
void emb_cuda_fill_graph(emb_backend *t);
void emb_cuda_fill_gemm(emb_backend *t);
void emb_cuda_fill_nccl(emb_backend *t);
void emb_cuda_fill_attention(emb_backend *t);

#endif
