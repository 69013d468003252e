/* Devices and their memory. */
#include "cuda_module/cuda_impl.h"

#include <string.h>

static int driver_call(const char *name, void *out, emb_device_error *err) {
    enum cudaDriverEntryPointQueryResult found;
    void *symbol = NULL;
    const int code = EMB_CUDA(
        cudaGetDriverEntryPointByVersion(name, &symbol, 12000, cudaEnableDefault, &found), err);
    if (code != EMB_DEVICE_OK)
        return code;
    if (found != cudaDriverEntryPointSuccess || symbol == NULL)
        return emb_cuda_error(err, EMB_DEVICE_UNAVAILABLE, "the driver has no %s", name);
    memcpy(out, &symbol, sizeof symbol);
    return EMB_DEVICE_OK;
}

static int find_driver(emb_cuda_driver *driver, emb_device_error *err) {
    const struct {
        const char *name;
        void *to;
    } calls[] = {{"cuCtxPushCurrent", &driver->push},
                 {"cuCtxPopCurrent", &driver->pop},
                 {"cuDevicePrimaryCtxRetain", &driver->retain},
                 {"cuDevicePrimaryCtxRelease", &driver->release},
                 {"cuDeviceGet", &driver->device},
                 {"cuStreamGetCtx", &driver->stream_context}};
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        const int code = driver_call(calls[i].name, calls[i].to, err);
        if (code != EMB_DEVICE_OK)
            return code;
    }
    return EMB_DEVICE_OK;
}

/* The numbers of CUresult are those of cudaError_t. */
static int driver_code(CUresult result, const char *call, emb_device_error *err) {
    return emb_cuda_code((cudaError_t)(int)result, call, err);
}

int emb_cuda_enter(emb_cuda_scope *s, emb_be_device *d, emb_device_error *err) {
    *s = (emb_cuda_scope){d, cudaStreamCaptureModeRelaxed, 0};
    const int code = driver_code(d->driver.push(d->context), "cuCtxPushCurrent", err);
    if (code != EMB_DEVICE_OK) {
        s->device = NULL;
        return code;
    }
    if (d->capturing == 0)
        s->relaxed = emb_cuda_tried(cudaThreadExchangeStreamCaptureMode(&s->mode));
    return EMB_DEVICE_OK;
}

void emb_cuda_leave(emb_cuda_scope *s) {
    CUcontext ours;
    if (s->device == NULL)
        return;
    if (s->relaxed)
        (void)emb_cuda_tried(cudaThreadExchangeStreamCaptureMode(&s->mode));
    (void)s->device->driver.pop(&ours);
}

static int open_device(void *self, int32_t index, const embed_allocator *allocator,
                       emb_be_device **out, emb_device_error *err) {
    int32_t devices;
    emb_cuda_scope scope;
    (void)self;
    *out = NULL;
    int code = emb_cuda_ready(&devices, err);
    if (code != EMB_DEVICE_OK)
        return code;
    emb_be_device *d = emb_cuda_new(allocator, sizeof *d, err);
    if (d == NULL)
        return EMB_DEVICE_NO_HOST;
    d->allocator = *allocator;
    d->index = index;
    code = find_driver(&d->driver, err);
    if (code == EMB_DEVICE_OK)
        code = driver_code(d->driver.device(&d->device, index), "cuDeviceGet", err);
    if (code == EMB_DEVICE_OK)
        code =
            driver_code(d->driver.retain(&d->context, d->device), "cuDevicePrimaryCtxRetain", err);
    if (code != EMB_DEVICE_OK) {
        emb_cuda_delete(allocator, d, sizeof *d);
        return code;
    }
    /* The runtime works on the context that is current: see that it takes ours for this device. */
    code = emb_cuda_enter(&scope, d, err);
    int current = -1, processors = 0, shared = 0, major = 0, minor = 0;
    if (code == EMB_DEVICE_OK)
        code = EMB_CUDA(cudaGetDevice(&current), err);
    if (code == EMB_DEVICE_OK)
        code = EMB_CUDA(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, index),
                        err);
    if (code == EMB_DEVICE_OK)
        code = EMB_CUDA(
            cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, index), err);
    if (code == EMB_DEVICE_OK)
        code =
            EMB_CUDA(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, index), err);
    if (code == EMB_DEVICE_OK)
        code =
            EMB_CUDA(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, index), err);
    emb_device_error without; /* then products are made without tensor maps */
    if (code == EMB_DEVICE_OK &&
        driver_call("cuTensorMapEncodeTiled", &d->tensor_maps, &without) != EMB_DEVICE_OK)
        d->tensor_maps = NULL;
    d->arch = 10 * major + minor;
    d->processors = processors;
    d->shared_bytes = shared;
    emb_cuda_leave(&scope);
    if (code == EMB_DEVICE_OK && current != index)
        code =
            emb_cuda_error(err, EMB_DEVICE_FAILED, "expected device %d, found %d", index, current);
    if (code != EMB_DEVICE_OK) {
        (void)d->driver.release(d->device);
        emb_cuda_delete(allocator, d, sizeof *d);
        return code;
    }
    *out = d;
    return EMB_DEVICE_OK;
}

static void close_device(emb_be_device *d) {
    emb_cuda_scope scope;
    emb_device_error ignored;
    const embed_allocator allocator = d->allocator;
    if (emb_cuda_enter(&scope, d, &ignored) == EMB_DEVICE_OK)
        emb_cuda_blas_free(d);
    emb_cuda_leave(&scope);
    (void)d->driver.release(d->device);
    emb_cuda_delete(&allocator, d, sizeof *d);
}

static int alloc(emb_be_device *d, size_t bytes, emb_dptr *out, emb_device_error *err) {
    emb_cuda_scope scope;
    void *p = NULL;
    size_t left = 0, total = 0;
    int code = emb_cuda_enter(&scope, d, err);
    if (code == EMB_DEVICE_OK)
        code = EMB_CUDA(cudaMalloc(&p, bytes), err);
    if (code == EMB_DEVICE_NO_MEMORY && emb_cuda_tried(cudaMemGetInfo(&left, &total)))
        code = emb_cuda_error(err, code, "out of memory: expected %zu bytes, found %zu of %zu free",
                              bytes, left, total);
    emb_cuda_leave(&scope);
    out->at = code == EMB_DEVICE_OK ? (uint64_t)(uintptr_t)p : 0;
    return code;
}

static void free_memory(emb_be_device *d, emb_dptr p) {
    emb_cuda_scope scope;
    emb_device_error ignored;
    if (emb_cuda_enter(&scope, d, &ignored) == EMB_DEVICE_OK)
        (void)EMB_CUDA(cudaFree((void *)(uintptr_t)p.at), &ignored);
    emb_cuda_leave(&scope);
}

static int host_alloc(emb_be_device *d, size_t bytes, void **out, emb_device_error *err) {
    emb_cuda_scope scope;
    *out = NULL;
    int code = emb_cuda_enter(&scope, d, err);
    if (code == EMB_DEVICE_OK)
        code = EMB_CUDA(cudaHostAlloc(out, bytes, cudaHostAllocPortable), err);
    emb_cuda_leave(&scope);
    return code;
}

static void host_free(emb_be_device *d, void *p) {
    emb_cuda_scope scope;
    emb_device_error ignored;
    if (emb_cuda_enter(&scope, d, &ignored) == EMB_DEVICE_OK)
        (void)EMB_CUDA(cudaFreeHost(p), &ignored);
    emb_cuda_leave(&scope);
}

/* The flag is needed for mappings that the CPU may only read, and refused where it is not known. */
static int host_map(emb_be_device *d, const void *host, size_t bytes, emb_dptr *out,
                    emb_device_error *err) {
    emb_cuda_scope scope;
    int read_only = 0;
    void *at = NULL, *p = (void *)(uintptr_t)host;
    out->at = 0;
    int code = emb_cuda_enter(&scope, d, err);
    if (code == EMB_DEVICE_OK)
        code = EMB_CUDA(
            cudaDeviceGetAttribute(&read_only, cudaDevAttrHostRegisterReadOnlySupported, d->index),
            err);
    if (code == EMB_DEVICE_OK && !read_only)
        code = emb_cuda_error(err, EMB_DEVICE_UNAVAILABLE,
                              "this device cannot register read-only host memory");
    if (code == EMB_DEVICE_OK)
        code = EMB_CUDA(
            cudaHostRegister(p, bytes, cudaHostRegisterMapped | cudaHostRegisterReadOnly), err);
    if (code == EMB_DEVICE_OK) {
        code = EMB_CUDA(cudaHostGetDevicePointer(&at, p, 0), err);
        if (code != EMB_DEVICE_OK)
            (void)emb_cuda_tried(cudaHostUnregister(p));
    }
    emb_cuda_leave(&scope);
    out->at = code == EMB_DEVICE_OK ? (uint64_t)(uintptr_t)at : 0;
    return code;
}

static void host_unmap(emb_be_device *d, const void *host) {
    emb_cuda_scope scope;
    emb_device_error ignored;
    if (emb_cuda_enter(&scope, d, &ignored) == EMB_DEVICE_OK)
        (void)EMB_CUDA(cudaHostUnregister((void *)(uintptr_t)host), &ignored);
    emb_cuda_leave(&scope);
}

static int check_byte(const emb_be_device *d, emb_dptr at, emb_device_error *err) {
    struct cudaPointerAttributes a;
    const int code = EMB_CUDA(cudaPointerGetAttributes(&a, (const void *)(uintptr_t)at.at), err);
    if (code != EMB_DEVICE_OK)
        return code;
    if (a.type == cudaMemoryTypeManaged || (a.type == cudaMemoryTypeDevice && a.device == d->index))
        return EMB_DEVICE_OK;
    return emb_cuda_error(err, EMB_DEVICE_REFUSED,
                          "expected memory of device %d at %#llx, found memory of %s %d", d->index,
                          (unsigned long long)at.at,
                          a.type == cudaMemoryTypeDevice ? "device" : "the host, type",
                          a.type == cudaMemoryTypeDevice ? a.device : (int)a.type);
}

/* Its first and its last byte: allocations that were mapped side by side count as one. */
static int memory_check(emb_be_device *d, emb_dptr at, size_t bytes, emb_device_error *err) {
    emb_cuda_scope scope;
    int code = emb_cuda_enter(&scope, d, err);
    if (code == EMB_DEVICE_OK)
        code = check_byte(d, at, err);
    if (code == EMB_DEVICE_OK && bytes > 1)
        code = check_byte(d, emb_dptr_add(at, bytes - 1), err);
    emb_cuda_leave(&scope);
    return code;
}

void emb_cuda_fill_memory(emb_backend *t) {
    t->open = open_device;
    t->close = close_device;
    t->alloc = alloc;
    t->free = free_memory;
    t->host_alloc = host_alloc;
    t->host_free = host_free;
    t->host_map = host_map;
    t->host_unmap = host_unmap;
    t->memory_check = memory_check;
}
