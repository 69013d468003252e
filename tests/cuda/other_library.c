/* A library of the name of cuBLASLt, cuDNN or NCCL that is not what is needed. */
#include <stddef.h>

__attribute__((visibility("default"))) size_t cudnnGetVersion(void);

size_t cudnnGetVersion(void) {
    return 90100;
}
