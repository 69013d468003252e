#if defined(__x86_64__)
#define EMB_SIMD 2
#include "kernels/rows_table.h"

const emb_rows emb_rows_avx2 = EMB_ROWS_TABLE;
#endif
