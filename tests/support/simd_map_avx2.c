#if defined(__x86_64__)
#define EMB_SIMD 2
#include "support/simd_map_body.h"

const simd_map simd_map_avx2 = {map, binary, folds, widen};
#endif
