#include "cuda_module/cuda_arch.h"

#include <stdlib.h>
#include <string.h>

int emb_cuda_arch_runs(const char *archs, int32_t major, int32_t minor) {
    while (*archs != '\0') {
        char *end;
        const long number = strtol(archs, &end, 10), m = number / 10, n = number % 10;
        const size_t length = strcspn(archs, ",");
        const char *next = archs + length;
        const int has_code = strncmp(end, "-real", 5) == 0 || end == next;
        const int has_ptx = strncmp(end, "-virtual", 8) == 0 || end == next;
        if (has_code && major == m && minor >= n)
            return 1;
        if (has_ptx && (major > m || (major == m && minor >= n)))
            return 1;
        archs = *next == ',' ? next + 1 : next;
    }
    return 0;
}
