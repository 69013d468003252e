/* layernorm: y[t,:] = (s - mean(s)) / sqrt(var(s) + eps) * gamma + beta,  s = x[t,:] + r[t,:]
 * (Ba et al. 2016, arXiv:1607.06450, eq. 3; biased variance, eps inside the root)
 *
 * x, r, y [T,D] f32 contiguous; r may be NULL; y may alias x or r; beta may be NULL.
 * mean = canonical sum / D; variance in a second pass, canonical sum with fma(d, d, lane) over
 * d = s - mean; y = fma(d * rstd, gamma, beta); see exec.h.
 * bytes 12*T*D   flops ~8*T*D   bound cache/DRAM   limits T >= 0, D >= 1, any D
 * error vs f64: 4 ulp + 1e-6 max|gamma| max|s| / sqrt(var + eps) */
#ifndef EMB_KERNELS_LAYERNORM_H
#define EMB_KERNELS_LAYERNORM_H

#include "kernels/exec.h"

typedef struct emb_layernorm_args {
    const float *x, *r;
    const float *gamma, *beta;
    float *y;
    int64_t tokens, dim;
    float eps;
    int32_t reserved;
} emb_layernorm_args;

embed_status emb_layernorm(emb_exec *exec, const emb_layernorm_args *args);

#endif
