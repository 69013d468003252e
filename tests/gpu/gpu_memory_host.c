#include "gpu/gpu_memory.h"

#include <stdlib.h>
#include <string.h>

const char *gpu_memory_open(emb_cuda_exec *exec) {
    exec->stream = NULL;
    return NULL;
}

const char *gpu_memory_new(void **out, size_t bytes) {
    *out = malloc(bytes + (bytes == 0));
    return *out == NULL ? "no memory" : NULL;
}

const char *gpu_memory_put(void *device, const void *host, size_t bytes) {
    memcpy(device, host, bytes);
    return NULL;
}

const char *gpu_memory_get(void *host, const void *device, size_t bytes) {
    memcpy(host, device, bytes);
    return NULL;
}

const char *gpu_memory_wait(void) {
    return NULL;
}

void gpu_memory_free(void *device) {
    free(device);
}

const char *gpu_memory_capture(int begin) {
    (void)begin;
    return "no captures here";
}
