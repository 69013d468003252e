#define EMB_SIMD 1
#include "kernels/rows_table.h"

const emb_rows emb_rows_portable = EMB_ROWS_TABLE;
