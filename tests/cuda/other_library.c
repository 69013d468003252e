/* A library of the name of cuBLASLt, cuDNN or NCCL that is not what is needed: of cuDNN it has all
 * calls, which nobody gets as far as, and the number of an old version. */
#include <stddef.h>

#define EXPORT __attribute__((visibility("default")))

EXPORT size_t cudnnGetVersion(void);

size_t cudnnGetVersion(void) {
    return 90100;
}

#define NEVER_CALLED(name)                                                                         \
    EXPORT void name(void);                                                                        \
    void name(void) {                                                                              \
    }

NEVER_CALLED(cudnnGetErrorString)
NEVER_CALLED(cudnnCreate)
NEVER_CALLED(cudnnDestroy)
NEVER_CALLED(cudnnSetStream)
NEVER_CALLED(cudnnBackendCreateDescriptor)
NEVER_CALLED(cudnnBackendDestroyDescriptor)
NEVER_CALLED(cudnnBackendFinalize)
NEVER_CALLED(cudnnBackendSetAttribute)
NEVER_CALLED(cudnnBackendGetAttribute)
NEVER_CALLED(cudnnBackendExecute)
