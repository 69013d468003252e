#define EMB_SIMD 1
#include "support/simd_map_body.h"

const simd_map simd_map_portable = {map, binary, folds, widen};
