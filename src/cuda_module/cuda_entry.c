#define _POSIX_C_SOURCE 200809L
#include "cuda_module/cuda_impl.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cuda_module/cuda_arch.h"

/* Less free memory than this and not even a context fits beside a small model. */
#define LEAST_FREE ((uint64_t)512 << 20)

static struct {
    pthread_mutex_t lock;
    _Atomic int64_t pid; /* that first used the driver; 0: none yet */
} process = {PTHREAD_MUTEX_INITIALIZER, 0};

int emb_cuda_error(emb_device_error *err, int code, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(err->text, sizeof err->text, fmt, args);
    va_end(args);
    return code;
}

/* After these the process cannot use the device any more (driver_types.h says so of each). */
static int is_lasting(cudaError_t e) {
    switch ((int)e) {
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
    case cudaErrorTensorMemoryLeak:
    case cudaErrorMpsClientTerminated:
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorContextIsDestroyed:
    case cudaErrorCudartUnloading:
    case cudaErrorContained:
    case cudaErrorExternalDevice:
        return 1;
    default:
        return 0;
    }
}

int emb_cuda_code(cudaError_t result, const char *call, emb_device_error *err) {
    int code = EMB_DEVICE_FAILED;
    if (result == cudaSuccess)
        return EMB_DEVICE_OK;
    if (result == cudaErrorNotReady)
        return EMB_DEVICE_NOT_READY;
    if (result == cudaErrorMemoryAllocation)
        code = EMB_DEVICE_NO_MEMORY;
    else if (is_lasting(result))
        code = EMB_DEVICE_LOST;
    else if (result == cudaErrorInsufficientDriver || result == cudaErrorNoDevice ||
             result == cudaErrorStubLibrary)
        code = EMB_DEVICE_UNAVAILABLE;
    /* The thread's last error is the caller's; what we put there goes with this. */
    (void)cudaGetLastError();
    const int length = (int)strcspn(call, "("); /* the name alone, without our variables */
    return emb_cuda_error(err, code, "%.*s: %s (%s, error %d)", length, call,
                          cudaGetErrorString(result), cudaGetErrorName(result), (int)result);
}

int emb_cuda_tried(cudaError_t result) {
    if (result != cudaSuccess)
        (void)cudaGetLastError();
    return result == cudaSuccess;
}

void *emb_cuda_new(const embed_allocator *a, size_t bytes, emb_device_error *err) {
    void *p = a->alloc(a->user, bytes, 64);
    if (p == NULL)
        (void)emb_cuda_error(err, EMB_DEVICE_NO_HOST, "allocation of %zu bytes failed", bytes);
    else
        memset(p, 0, bytes);
    return p;
}

void emb_cuda_delete(const embed_allocator *a, void *p, size_t bytes) {
    if (p != NULL)
        a->free(a->user, p, bytes);
}

/* ---- the driver */

static int check_driver(emb_device_error *err) {
    int driver = 0;
    if (!emb_cuda_tried(cudaDriverGetVersion(&driver)) || driver == 0)
        return emb_cuda_error(err, EMB_DEVICE_UNAVAILABLE,
                              "no driver: libcuda.so.1 was not found or does not work here");
    if (driver / 1000 < CUDART_VERSION / 1000)
        return emb_cuda_error(err, EMB_DEVICE_UNAVAILABLE,
                              "driver too old: it supports CUDA %d.%d, this module needs %d.0 "
                              "(driver 580 or newer for CUDA 13)",
                              driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000);
    return EMB_DEVICE_OK;
}

int emb_cuda_ready(int32_t *devices, emb_device_error *err) {
    int n = 0;
    int64_t first = 0;
    const int64_t self = getpid();
    *devices = 0;
    /* Before the lock, which in a child may be held by a thread of the parent's. */
    if (!atomic_compare_exchange_strong(&process.pid, &first, self) && first != self)
        return emb_cuda_error(err, EMB_DEVICE_FORKED,
                              "CUDA was first used by process %lld, of which this is a child: "
                              "start a program of its own (exec) or use it only after fork()",
                              (long long)first);
    (void)pthread_mutex_lock(&process.lock);
    int code = check_driver(err);
    if (code == EMB_DEVICE_OK) {
        const cudaError_t result = cudaGetDeviceCount(&n);
        if (result == cudaErrorNoDevice || (result == cudaSuccess && n == 0))
            code = emb_cuda_error(err, EMB_DEVICE_UNAVAILABLE,
                                  "no device: the driver works, but shows no GPU");
        else
            code = emb_cuda_code(result, "cudaGetDeviceCount", err);
        if (result != cudaSuccess)
            (void)cudaGetLastError();
    }
    *devices = n;
    (void)pthread_mutex_unlock(&process.lock);
    return code;
}

static int count(void *self, int32_t *devices, emb_device_error *err) {
    (void)self;
    return emb_cuda_ready(devices, err);
}

/* Attributes and properties need no context; free memory comes from NVML for the same reason. */
static int describe(void *self, int32_t device, emb_device_facts *facts, emb_device_error *err) {
    struct cudaDeviceProp p;
    int32_t devices;
    int driver = 0, read_only = 0, pageable = 0;
    (void)self;
    memset(facts, 0, sizeof *facts);
    int code = emb_cuda_ready(&devices, err);
    if (code != EMB_DEVICE_OK)
        return code;
    if (device < 0 || device >= devices)
        return emb_cuda_error(err, EMB_DEVICE_FAILED, "expected a device below %d, found %d",
                              devices, device);
    code = EMB_CUDA(cudaGetDeviceProperties(&p, device), err);
    if (code != EMB_DEVICE_OK)
        return code;
    (void)emb_cuda_tried(cudaDriverGetVersion(&driver));
    (void)emb_cuda_tried(
        cudaDeviceGetAttribute(&read_only, cudaDevAttrHostRegisterReadOnlySupported, device));
    (void)emb_cuda_tried(
        cudaDeviceGetAttribute(&pageable, cudaDevAttrPageableMemoryAccess, device));
    (void)snprintf(facts->name, sizeof facts->name, "%.127s", p.name);
    facts->major = p.major;
    facts->minor = p.minor;
    facts->multiprocessors = p.multiProcessorCount;
    facts->driver = driver;
    facts->memory_total = p.totalGlobalMem;
    facts->memory_free = emb_cuda_free_memory(device);
    facts->host_read_only = read_only;
    facts->host_pageable = pageable;
    if (!emb_cuda_arch_runs(EMB_CUDA_ARCHS, p.major, p.minor))
        (void)snprintf(facts->reason, sizeof facts->reason,
                       "no code for it: compute capability %d.%d, but this module was built for %s",
                       p.major, p.minor, EMB_CUDA_ARCHS);
    else if (facts->memory_free < LEAST_FREE)
        (void)snprintf(facts->reason, sizeof facts->reason,
                       "no memory: %llu of %llu MiB are free, and %llu are needed at least",
                       (unsigned long long)(facts->memory_free >> 20),
                       (unsigned long long)(facts->memory_total >> 20),
                       (unsigned long long)(LEAST_FREE >> 20));
    else
        facts->usable = 1;
    return EMB_DEVICE_OK;
}

static int feature(void *self, int32_t id, emb_feature *out, emb_device_error *err) {
    (void)self;
    memset(out, 0, sizeof *out);
    if (id == EMB_FEATURE_CUBLASLT)
        (void)emb_cuda_blas(out);
    else if (id == EMB_FEATURE_NCCL)
        (void)emb_cuda_nccl(out);
    else if (id == EMB_FEATURE_CUDNN)
        (void)emb_cuda_dnn(out);
    else
        return emb_cuda_error(err, EMB_DEVICE_FAILED, "feature %d is not known", id);
    return EMB_DEVICE_OK;
}

EMBED_API const emb_backend *embed_backend_open(uint32_t abi);

const emb_backend *embed_backend_open(uint32_t abi) {
    static emb_backend table;
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    (void)abi; /* one number is known here; the caller compares */
    (void)pthread_mutex_lock(&lock);
    if (table.abi == 0) {
        table.library_version = EMBED_VERSION;
        table.name = "cuda";
        table.count = count;
        table.describe = describe;
        table.feature = feature;
        emb_cuda_fill_memory(&table);
        emb_cuda_fill_stream(&table);
        emb_cuda_fill_graph(&table);
        emb_cuda_fill_gemm(&table);
        emb_cuda_fill_attention(&table);
        emb_cuda_fill_nccl(&table);
        table.abi = EMB_BACKEND_ABI;
    }
    (void)pthread_mutex_unlock(&lock);
    return &table;
}
