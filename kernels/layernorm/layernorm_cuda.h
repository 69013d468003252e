/* layernorm_cuda: y[t,:] = (s - mean(s)) / sqrt(var(s) + eps) * gamma + beta, s = x[t,:] + r[t,:],
 * and before MoE layers the router's logits[t,e] = y[t,:] . router[e,:] + router_bias[e]
 * (Ba et al. 2016, arXiv:1607.06450, eq. 3; biased variance, eps inside the root)
 *
 * x, r, y [T,D] dtype; r NULL: none; y may be x or r. x_rows [T] int32, or NULL: x[x_rows[t],:]
 * stands in the place of x[t,:], and y may not be x. gamma, beta [D] f32; gamma NULL: no norm, y =
 * s; beta may be NULL. router [E,D] f32, router_bias [E] f32 or NULL, logits [T,E] f32; router
 * NULL: none. Logits are of y as stored, so that router and experts see the same values.
 * bytes  3*T*D*elt + 8*D (+ 4*T*E)   flops ~8*T*D (+ 2*T*D*E)
 * bound  DRAM, >= 85% of copy speed: a lane has up to 8 loads of 16 bytes under way, about 32 warps
 *        an SM. With a router: its 4*E*D bytes a row come from L1, which bounds from E ~ 12 on
 * launch D <= 1024: a warp a row, 4 rows a block; else a block of 256 threads a row
 * error  vs f64 of the same inputs: half an ulp of dtype + 1e-6 max|gamma| max|s| / sqrt(var +
 *        eps); logits: (D/32 + 10) 2^-24 sum_d |y w|, y as stored
 * limits 0 <= T < 2^31, 1 <= D <= 8192, E >= 0 */
#ifndef EMB_KERNELS_LAYERNORM_CUDA_H
#define EMB_KERNELS_LAYERNORM_CUDA_H

#include "kernels/cuda/cuda_exec.h"

typedef struct emb_cuda_layernorm_args {
    const void *x, *r;
    void *y;
    const float *gamma, *beta;
    const float *router, *router_bias;
    float *logits;
    const int32_t *count, *x_rows;
    int64_t tokens, dim;
    int32_t dtype, experts;
    float eps;
    int32_t reserved;
} emb_cuda_layernorm_args;

#ifdef __cplusplus
extern "C"
#endif
    embed_status
    emb_cuda_layernorm(emb_cuda_exec *exec, const emb_cuda_layernorm_args *args);

#endif
