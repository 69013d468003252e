/* moe_exchange: the references of moe_exchange_cuda.h, which says what the arguments are; host
 * memory. */
#ifndef EMB_KERNELS_MOE_EXCHANGE_H
#define EMB_KERNELS_MOE_EXCHANGE_H

#include "kernels/moe_exchange/moe_exchange_cuda.h"

void emb_moe_dispatch(const emb_cuda_moe_dispatch_args *args);
void emb_moe_collect(const emb_cuda_moe_collect_args *args);
void emb_moe_return(const emb_cuda_moe_return_args *args);

#endif
