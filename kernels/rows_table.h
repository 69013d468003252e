/* rows_table: every row function of one instruction set (EMB_SIMD), and the initialiser of its
 * table. */
#include "kernels/attention/attention_rows.h"
#include "kernels/embed_lookup/embed_lookup_rows.h"
#include "kernels/layernorm/layernorm_rows.h"
#include "kernels/moe_combine/moe_combine_rows.h"
#include "kernels/router_topk/router_topk_rows.h"
#include "kernels/row_decode/row_decode_rows.h"
#include "kernels/rows.h"

#define EMB_ROWS_TABLE                                                                             \
    {                                                                                              \
        layernorm_rows, embed_lookup_rows, moe_combine_rows, choose_rows, rotate_rows,             \
            exponential_rows, divide_rows, widen_row, widen_end                                    \
    }
