#include "cuda/fake_runtime.h"

#include <cuda.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda_module/cuda_impl.h"
#include "cuda_module/cuda_kernels.h"

#define CALL()                                                                                     \
    do {                                                                                           \
        const cudaError_t result = step();                                                         \
        if (result != cudaSuccess)                                                                 \
            return result;                                                                         \
    } while (0)

fake_runtime fake_cuda;
const char *fake_cuda_missing;

void fake_runtime_start(void) {
    fake_cuda = (fake_runtime){.driver = 13000,
                               .devices = 1,
                               .major = 9,
                               .depth = 1,
                               .balanced = 1,
                               .last = cudaErrorInvalidConfiguration,
                               .free_memory = (size_t)64 << 30};
    fake_cuda_missing = "";
}

static cudaError_t fail_with(cudaError_t error) {
    fake_cuda.last = error;
    return error;
}

static int lasts(cudaError_t error) {
    return error == cudaErrorIllegalAddress || error == cudaErrorLaunchFailure ||
           error == cudaErrorECCUncorrectable;
}

static cudaError_t step(void) {
    fake_runtime *f = &fake_cuda;
    if (f->sticky != cudaSuccess)
        return fail_with(f->sticky);
    if (++f->calls != f->fail_at)
        return cudaSuccess;
    if (lasts(f->failure))
        f->sticky = f->failure;
    return fail_with(f->failure);
}

static void *make(size_t bytes) {
    fake_cuda.live++;
    return calloc(1, bytes > 0 ? bytes : 1);
}

/* What is destroyed is gone even if the call fails. */
static cudaError_t destroy(void *p) {
    fake_cuda.live -= p != NULL;
    free(p);
    return step();
}

/* ------------------------------------------------------------------------------------- driver */

static CUresult push(CUcontext context) {
    (void)context; /* never fails: nothing could be freed any more */
    fake_cuda.depth++;
    return CUDA_SUCCESS;
}

static CUresult pop(CUcontext *context) {
    static char theirs;
    fake_cuda.depth--;
    fake_cuda.balanced &= fake_cuda.depth >= 1;
    *context = (CUcontext)(void *)&theirs;
    return CUDA_SUCCESS;
}

static char primary; /* the device's primary context */

static CUresult stream_context(CUstream stream, CUcontext *context) {
    static char other;
    (void)stream;
    *context = (CUcontext)(void *)(fake_cuda.foreign ? &other : &primary);
    return (CUresult)step();
}

static CUresult retain(CUcontext *context, CUdevice device) {
    (void)device;
    if (step() != cudaSuccess)
        return (CUresult)fake_cuda.last;
    fake_cuda.retained++;
    *context = (CUcontext)(void *)&primary;
    return CUDA_SUCCESS;
}

static CUresult release(CUdevice device) {
    (void)device;
    fake_cuda.retained--;
    return CUDA_SUCCESS;
}

static CUresult get_device(CUdevice *device, int index) {
    *device = index;
    return (CUresult)step();
}

cudaError_t cudaGetDriverEntryPointByVersion(const char *name, void **out, unsigned version,
                                             unsigned long long flags,
                                             enum cudaDriverEntryPointQueryResult *found) {
    static const struct {
        const char *name;
        void (*call)(void);
    } calls[] = {{"cuCtxPushCurrent", (void (*)(void))push},
                 {"cuCtxPopCurrent", (void (*)(void))pop},
                 {"cuDevicePrimaryCtxRetain", (void (*)(void))retain},
                 {"cuDevicePrimaryCtxRelease", (void (*)(void))release},
                 {"cuStreamGetCtx", (void (*)(void))stream_context},
                 {"cuDeviceGet", (void (*)(void))get_device}};
    (void)version;
    (void)flags;
    *out = NULL;
    CALL();
    *found = cudaDriverEntryPointSymbolNotFound;
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++)
        if (strcmp(name, calls[i].name) == 0 && strcmp(name, fake_cuda_missing) != 0) {
            memcpy(out, &calls[i].call, sizeof *out);
            *found = cudaDriverEntryPointSuccess;
        }
    return cudaSuccess;
}

/* ------------------------------------------------------------------------------------ devices */

cudaError_t cudaDriverGetVersion(int *version) {
    *version = fake_cuda.driver;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *n) {
    CALL();
    *n = fake_cuda.devices;
    return *n > 0 ? cudaSuccess : fail_with(cudaErrorNoDevice);
}

cudaError_t cudaGetDevice(int *device) {
    *device = 0;
    return step();
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device) {
    (void)device;
    memset(p, 0, sizeof *p);
    (void)snprintf(p->name, sizeof p->name, "fake");
    p->major = fake_cuda.major;
    p->multiProcessorCount = 2;
    p->totalGlobalMem = (size_t)80 << 30;
    return step();
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device) {
    (void)device;
    *value = attribute == cudaDevAttrMultiProcessorCount            ? 2
             : attribute == cudaDevAttrMaxSharedMemoryPerBlockOptin ? 227 << 10
             : attribute == cudaDevAttrComputeCapabilityMajor       ? fake_cuda.major
             : attribute == cudaDevAttrComputeCapabilityMinor       ? 0
                                                                    : 1;
    return step();
}

cudaError_t cudaDeviceGetPCIBusId(char *text, int size, int device) {
    (void)device;
    (void)snprintf(text, (size_t)size, "ffff:ff:1f.7");
    return step();
}

cudaError_t cudaMemGetInfo(size_t *left, size_t *total) {
    *left = fake_cuda.free_memory;
    *total = (size_t)80 << 30;
    return step();
}

/* ------------------------------------------------------------------------------------- errors */

cudaError_t cudaGetLastError(void) {
    const cudaError_t last = fake_cuda.last;
    fake_cuda.last = fake_cuda.sticky;
    return last;
}

const char *cudaGetErrorString(cudaError_t error) {
    return error == cudaSuccess ? "no error" : "the error that the test wants";
}

const char *cudaGetErrorName(cudaError_t error) {
    return error == cudaSuccess ? "cudaSuccess" : "cudaErrorOfTheTest";
}

cudaError_t cudaThreadExchangeStreamCaptureMode(enum cudaStreamCaptureMode *mode) {
    /* Never fails: it could not be put back. */
    const enum cudaStreamCaptureMode was = fake_cuda.mode;
    fake_cuda.mode = *mode;
    *mode = was;
    return cudaSuccess;
}

/* ------------------------------------------------------------------------------------- memory */

cudaError_t cudaMalloc(void **out, size_t bytes) {
    CALL();
    if (bytes > fake_cuda.free_memory)
        return fail_with(cudaErrorMemoryAllocation);
    *out = make(bytes);
    return cudaSuccess;
}

cudaError_t cudaFree(void *p) {
    return destroy(p);
}

cudaError_t cudaHostAlloc(void **out, size_t bytes, unsigned flags) {
    (void)flags;
    CALL();
    *out = make(bytes);
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void *p) {
    return destroy(p);
}

cudaError_t cudaHostRegister(void *p, size_t bytes, unsigned flags) {
    (void)p;
    (void)bytes;
    (void)flags;
    CALL();
    fake_cuda.live++;
    return cudaSuccess;
}

cudaError_t cudaHostUnregister(void *p) {
    (void)p;
    fake_cuda.live--;
    return step();
}

cudaError_t cudaHostGetDevicePointer(void **out, void *p, unsigned flags) {
    (void)flags;
    *out = p;
    return step();
}

cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *a, const void *p) {
    memset(a, 0, sizeof *a);
    a->type = fake_cuda.memory_type != 0 ? (enum cudaMemoryType)fake_cuda.memory_type
                                         : cudaMemoryTypeDevice;
    a->device = fake_cuda.memory_device;
    a->devicePointer = (void *)(uintptr_t)p;
    return step();
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream) {
    (void)kind;
    (void)stream;
    CALL();
    memcpy(to, from, bytes);
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream) {
    (void)stream;
    CALL();
    memset(to, value, bytes);
    return cudaSuccess;
}

/* -------------------------------------------------------------------------- streams and events */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags) {
    (void)flags;
    CALL();
    *out = make(1);
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t s) {
    fake_cuda.capturing = 0; /* a capture ends with its stream */
    return destroy(s);
}

cudaError_t cudaStreamSynchronize(cudaStream_t s) {
    (void)s;
    return step();
}

cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned flags) {
    (void)s;
    (void)e;
    (void)flags;
    return step();
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags) {
    (void)flags;
    CALL();
    *out = make(1);
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t e) {
    return destroy(e);
}

cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s) {
    (void)e;
    (void)s;
    return step();
}

cudaError_t cudaEventQuery(cudaEvent_t e) {
    (void)e;
    return step();
}

cudaError_t cudaEventSynchronize(cudaEvent_t e) {
    (void)e;
    return step();
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to) {
    (void)from;
    (void)to;
    *ms = 1;
    return step();
}

/* -------------------------------------------------------------------------- kernels and graphs */

cudaError_t cudaFuncSetAttribute(const void *function, enum cudaFuncAttribute attribute,
                                 int value) {
    (void)function;
    (void)attribute;
    (void)value;
    return step();
}

cudaError_t cudaLaunchKernel(const void *function, dim3 grid, dim3 block, void **args,
                             size_t shared, cudaStream_t s) {
    (void)function;
    (void)grid;
    (void)block;
    (void)args;
    (void)shared;
    (void)s;
    return step();
}

cudaError_t cudaStreamBeginCapture(cudaStream_t s, enum cudaStreamCaptureMode mode) {
    (void)s;
    (void)mode;
    CALL();
    fake_cuda.capturing = 1;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *graph) {
    (void)s;
    fake_cuda.capturing = 0;
    *graph = NULL;
    CALL();
    *graph = make(1);
    return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t s, enum cudaStreamCaptureStatus *status) {
    (void)s;
    *status = fake_cuda.capturing || fake_cuda.captured ? cudaStreamCaptureStatusActive
                                                        : cudaStreamCaptureStatusNone;
    return step();
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *n) {
    CALL();
    *n = 1;
    if (nodes != NULL)
        nodes[0] = (cudaGraphNode_t)(void *)graph;
    return cudaSuccess;
}

cudaError_t cudaGraphNodeGetType(cudaGraphNode_t node, enum cudaGraphNodeType *type) {
    (void)node;
    *type = cudaGraphNodeTypeKernel;
    return step();
}

cudaError_t cudaGraphMemcpyNodeGetParams(cudaGraphNode_t node, struct cudaMemcpy3DParms *params) {
    (void)node;
    memset(params, 0, sizeof *params);
    return step();
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph,
                                 unsigned long long flags) {
    (void)graph;
    (void)flags;
    CALL();
    *out = make(1);
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t s) {
    (void)graph;
    (void)s;
    return step();
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
    return destroy(graph);
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    return destroy(graph);
}

/* ------------------------------------------------------------- what nvcc makes of the module */

static void probe(void) {
}

const emb_kernel_entry *emb_cuda_kernels(size_t *n) {
    static const emb_kernel_entry kernels[] = {
        {"device_probe", probe, sizeof(emb_probe_args), 64 << 10, NULL, 0, 0}};
    *n = 1;
    return kernels;
}
