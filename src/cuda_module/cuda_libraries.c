#define _GNU_SOURCE
#include <cublasLt.h>
#ifdef EMB_HAVE_CUDNN
#include <cudnn_graph.h>
#endif
#ifdef EMB_HAVE_NCCL
#include <nccl.h>
#endif

#include "cuda_module/cuda_libraries.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

/* What is known of one library once it was looked for. */
typedef struct library {
    int tried;
    emb_feature feature;
} library;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void *emb_cuda_library(const char *name, char *reason, size_t size) {
    char path[256];
    void *handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    const char *why = handle == NULL ? dlerror() : NULL;
    if (handle != NULL)
        return handle;
    (void)snprintf(reason, size, "%s", why != NULL ? why : "cannot be opened");
    /* The place of the toolkit, which the dynamic linker often does not know. */
    (void)snprintf(path, sizeof path, "/usr/local/cuda/lib64/%s", name);
    handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL)
        (void)dlerror();
    return handle;
}

/* Open `name` and find `calls` in the order of the struct of pointers at `table`. */
static int open_calls(library *l, const char *name, const char *const *calls, size_t n,
                      void *table) {
    void *handle = emb_cuda_library(name, l->feature.reason, sizeof l->feature.reason);
    if (handle == NULL)
        return 0;
    for (size_t i = 0; i < n; i++) {
        void *symbol = dlsym(handle, calls[i]);
        if (symbol == NULL) {
            (void)snprintf(l->feature.reason, sizeof l->feature.reason, "%s has no %s", name,
                           calls[i]);
            return 0;
        }
        memcpy((char *)table + i * sizeof symbol, &symbol, sizeof symbol);
    }
    return 1;
}

/* The first time, what `least` says of `version`: other numbers are refused by both. */
static void accept_version(library *l, const char *name, int32_t version, int32_t least,
                           int32_t below) {
    l->feature.version = version;
    l->feature.present = version >= least && version < below;
    if (l->feature.present)
        l->feature.reason[0] = '\0';
    else
        (void)snprintf(l->feature.reason, sizeof l->feature.reason,
                       "%s: expected a version from %d and below %d, found %d", name, least, below,
                       version);
}

const struct emb_cuda_blas *emb_cuda_blas(emb_feature *feature) {
    static struct emb_cuda_blas table;
    static library l;
    static const char *const calls[] = {EMB_BLAS_CALLS(EMB_CALL_NAME)};
    (void)pthread_mutex_lock(&lock);
    if (!l.tried &&
        open_calls(&l, "libcublasLt.so.13", calls, sizeof calls / sizeof calls[0], &table))
        accept_version(&l, "cublasLt", (int32_t)table.cublasLtGetVersion(), 130000, 140000);
    l.tried = 1;
    if (feature != NULL)
        *feature = l.feature;
    const int present = l.feature.present;
    (void)pthread_mutex_unlock(&lock);
    return present ? &table : NULL;
}

const struct emb_cuda_nccl *emb_cuda_nccl(emb_feature *feature) {
#ifdef EMB_HAVE_NCCL
    static struct emb_cuda_nccl table;
    static library l;
    static const char *const calls[] = {EMB_NCCL_CALLS(EMB_CALL_NAME)};
    int version = 0;
    (void)pthread_mutex_lock(&lock);
    if (!l.tried && open_calls(&l, "libnccl.so.2", calls, sizeof calls / sizeof calls[0], &table)) {
        (void)table.ncclGetVersion(&version);
        accept_version(&l, "NCCL", version, 21800, 30000);
    }
    l.tried = 1;
    if (feature != NULL)
        *feature = l.feature;
    const int present = l.feature.present;
    (void)pthread_mutex_unlock(&lock);
    return present ? &table : NULL;
#else
    if (feature != NULL)
        (void)snprintf(feature->reason, sizeof feature->reason,
                       "this module was built without nccl.h");
    return NULL;
#endif
}

const struct emb_cuda_dnn *emb_cuda_dnn(emb_feature *feature) {
#ifdef EMB_HAVE_CUDNN
    static library l;
    static struct emb_cuda_dnn table;
    static const char *const calls[] = {EMB_DNN_CALLS(EMB_CALL_NAME)};
    (void)pthread_mutex_lock(&lock);
    if (!l.tried && open_calls(&l, "libcudnn.so.9", calls, sizeof calls / sizeof calls[0], &table))
        accept_version(&l, "cuDNN", (int32_t)table.cudnnGetVersion(), 91801, 100000);
    l.tried = 1;
    if (feature != NULL)
        *feature = l.feature;
    const int present = l.feature.present;
    (void)pthread_mutex_unlock(&lock);
    return present ? &table : NULL;
#else
    if (feature != NULL)
        (void)snprintf(feature->reason, sizeof feature->reason,
                       "this module was built without cudnn_graph.h");
    return NULL;
#endif
}

/* NVML has no header in a minimal toolkit; these are its stable calls, and 0 is success. */
typedef struct nvml_calls {
    int (*init)(void);
    int (*shutdown)(void);
    int (*handle)(const char *bus_id, void **device);
    int (*memory)(void *device, unsigned long long sizes[3]); /* total, free, used */
} nvml_calls;

uint64_t emb_cuda_free_memory(int32_t device) {
    static const char *const calls[] = {"nvmlInit_v2", "nvmlShutdown",
                                        "nvmlDeviceGetHandleByPciBusId_v2",
                                        "nvmlDeviceGetMemoryInfo"};
    static nvml_calls nvml;
    static library l;
    static int present;
    char bus[32];
    void *handle = NULL;
    unsigned long long sizes[3] = {0, 0, 0};
    uint64_t left = UINT64_MAX;
    (void)pthread_mutex_lock(&lock);
    if (!l.tried)
        present = open_calls(&l, "libnvidia-ml.so.1", calls, 4, &nvml);
    l.tried = 1;
    if (present && emb_cuda_tried(cudaDeviceGetPCIBusId(bus, sizeof bus, device)) &&
        nvml.init() == 0) {
        if (nvml.handle(bus, &handle) == 0 && nvml.memory(handle, sizes) == 0)
            left = sizes[1];
        (void)nvml.shutdown();
    }
    (void)pthread_mutex_unlock(&lock);
    return left;
}
