/* A libcuda.so.1 in the place of NVIDIA's, for machines without a GPU: with it in LD_LIBRARY_PATH
 * the real module and its CUDA runtime find a driver of which EMBED_TEST_DRIVER says what is wrong.
 *   old     it supports CUDA 12.4
 *   none    it sees no device
 *   broken  it cannot be initialised
 * Every other call is refused. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

enum { OK = 0, NO_DEVICE = 100, UNSUPPORTED = 801, UNKNOWN = 999 };

EXPORT int cuInit(unsigned flags);
EXPORT int cuDriverGetVersion(int *version);
EXPORT int cuGetProcAddress(const char *name, void **out, int version, uint64_t flags);
EXPORT int cuGetProcAddress_v2(const char *name, void **out, int version, uint64_t flags,
                               int *found);

static int is(const char *mode) {
    const char *ours = getenv("EMBED_TEST_DRIVER");
    return ours != NULL && strcmp(ours, mode) == 0;
}

int cuInit(unsigned flags) {
    (void)flags;
    return is("none") ? NO_DEVICE : is("broken") ? UNKNOWN : OK;
}

int cuDriverGetVersion(int *version) {
    *version = is("old") ? 12040 : 13000;
    return OK;
}

static int refuse(void) {
    return UNSUPPORTED;
}

int cuGetProcAddress_v2(const char *name, void **out, int version, uint64_t flags, int *found) {
    static const struct {
        const char *name;
        void (*call)(void);
    } calls[] = {{"cuInit", (void (*)(void))cuInit},
                 {"cuDriverGetVersion", (void (*)(void))cuDriverGetVersion}};
    void (*call)(void) = (void (*)(void))refuse;
    (void)flags;
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++)
        if (strcmp(name, calls[i].name) == 0)
            call = calls[i].call;
    if (strcmp(name, "cuGetProcAddress") == 0)
        call = version >= 12000 ? (void (*)(void))cuGetProcAddress_v2
                                : (void (*)(void))cuGetProcAddress;
    memcpy(out, &call, sizeof call); /* POSIX: they have one representation */
    if (found != NULL)
        *found = 0;
    return OK;
}

int cuGetProcAddress(const char *name, void **out, int version, uint64_t flags) {
    return cuGetProcAddress_v2(name, out, version, flags, NULL);
}
