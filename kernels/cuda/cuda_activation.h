/* cuda_activation: the activations of kernels/gemm on the GPU, the formulas of kernels/simd.h with
 * the hardware's 2^x and 1/x. Within 2e-6 |x| absolutely, and 4e-7 |x| for |x| <= 4; NaN stays NaN.
 * About 16 instructions of which 2 are for the special function unit: in a matrix product with K >=
 * 768 they hide behind the tensor cores of another block. */
#ifndef EMB_KERNELS_CUDA_ACTIVATION_H
#define EMB_KERNELS_CUDA_ACTIVATION_H

#include "kernels/cuda/cuda_port.h"
#include "kernels/gemm/gemm_cuda.h"

/* x / (1 + e^-z), without overflow or cancellation for either sign of z. */
__device__ static inline float emb_gate(float x, float z) {
    const float e = emb_exp2_fast(-1.44269504088896341f * fabsf(z));
    return (z < 0.0f ? x * e : x) * emb_reciprocal_fast(1.0f + e);
}

/* Upper tail of the normal distribution, erfc(a / sqrt 2) / 2, for 0 <= a <= 14.5: e^(-a^2/2) t
 * P(t) with t = 1 / (1 + 0.3 a) (the form of Abramowitz & Stegun 7.1.26; coefficients as
 * v_normal_tail in kernels/simd.h). */
__device__ static inline float emb_normal_tail(float a) {
    const float t = emb_reciprocal_fast(fmaf(a, 0.3f, 1.0f));
    float p = 0.03691140672f;
    p = fmaf(p, t, -0.1620616607f);
    p = fmaf(p, t, 0.2141705801f);
    p = fmaf(p, t, -0.06032256674f);
    p = fmaf(p, t, 0.1317574813f);
    p = fmaf(p, t, 0.09904596802f);
    p = fmaf(p, t, 0.1208765033f);
    p = fmaf(p, t, 0.1196223552f);
    return emb_exp2_fast(a * a * -0.72134752044448170f) * (p * t);
}

/* 0.5 x (1 + erf(x / sqrt 2)) = max(x, 0) - |x| tail(|x|): nothing cancels for negative x. */
__device__ static inline float emb_gelu(float x) {
    const float size = fabsf(x), a = 14.5f < size ? 14.5f : size;
    return fmaf(-a, emb_normal_tail(a), x < 0.0f ? 0.0f : x);
}

/* act is an emb_activation. */
__device__ static inline float emb_activate(int32_t act, float x) {
    const float floored = x < -125.0f ? -125.0f : x; /* keeps minus infinity from becoming NaN */
    switch (act) {
    case EMB_CUDA_ACT_GELU:
        return emb_gelu(x);
    case EMB_CUDA_ACT_GELU_TANH: /* 0.5 x (1 + tanh(u)) = x sigmoid(2u) */
        return emb_gate(floored,
                        floored * fmaf(floored * floored, 0.0713548162726f, 1.59576912160573f));
    case EMB_CUDA_ACT_RELU:
        return x < 0.0f ? 0.0f : x;
    case EMB_CUDA_ACT_SILU:
        return emb_gate(floored, floored);
    case EMB_CUDA_ACT_SIGMOID:
        return emb_gate(1.0f, x);
    case EMB_CUDA_ACT_TANH:
        return tanhf(x);
    default:
        return x;
    }
}

__device__ static inline void emb_activate8(int32_t act, float (&v)[8]) {
    if (act == EMB_CUDA_ACT_NONE)
        return;
    if (act == EMB_CUDA_ACT_GELU) { /* without a branch for each element */
        EMB_UNROLL
        for (int i = 0; i < 8; i++)
            v[i] = emb_gelu(v[i]);
        return;
    }
    EMB_UNROLL
    for (int i = 0; i < 8; i++)
        v[i] = emb_activate(act, v[i]);
}

#endif
