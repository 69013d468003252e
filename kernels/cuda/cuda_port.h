/* cuda_port: what a kernel source includes: CUDA under nvcc, the shim elsewhere, and the few things
 * whose spelling differs: element types, shared memory, launches, fast functions. */
#ifndef EMB_KERNELS_CUDA_PORT_H
#define EMB_KERNELS_CUDA_PORT_H

#if defined(__CUDACC__)
#include <cuda_runtime.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#else
#include "kernels/cuda/cuda_shim.h"
#endif
#include "kernels/cuda/cuda_exec.h"

#define EMB_WARP 32
#define EMB_ALL 0xffffffffu

#if defined(__CUDACC__)
#define EMB_SHARED(type, name, n) __shared__ __align__(16) type name[n]
#define EMB_SHARED_DYNAMIC(name) extern __shared__ __align__(128) unsigned char name[]
#define EMB_NOINLINE __noinline__
#define EMB_UNROLL _Pragma("unroll")
#define EMB_UNROLL_4 _Pragma("unroll 4")
#define EMB_UNROLL_NOT _Pragma("unroll 1")
#else
#define EMB_SHARED(type, name, n)                                                                  \
    static const char name##_key = 0;                                                              \
    type *const name = (type *)emb_shim_static(&name##_key, sizeof(type) * (n))
#define EMB_SHARED_DYNAMIC(name) unsigned char *const name = (unsigned char *)emb_shim_dynamic()
#define EMB_NOINLINE __attribute__((noinline))
#define EMB_UNROLL
#define EMB_UNROLL_4
#define EMB_UNROLL_NOT
#endif

/* ------------------------------------------------------------------------------ launching */

static inline embed_status emb_cuda_refuse(emb_cuda_exec *x, const char *limit) {
    x->failed = limit;
    return EMBED_ERR_INTERNAL;
}

static inline size_t emb_cuda_shared_limit(const emb_cuda_exec *x) {
    return x->shared_bytes > 0 ? (size_t)x->shared_bytes : (size_t)99 << 10;
}

/* One kernel, whose only parameter is a struct, onto the stream. */
template <class P>
embed_status emb_cuda_launch(emb_cuda_exec *x, const char *name, void (*kernel)(P), dim3 grid,
                             unsigned threads, size_t shared, const P &params) {
    int error = 0;
    if (shared > emb_cuda_shared_limit(x))
        return emb_cuda_refuse(x, name);
#if defined(__CUDACC__)
    void *args[] = {(void *)&params};
    if (shared > 48u << 10)
        error = cudaFuncSetAttribute((const void *)kernel,
                                     cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
    if (error == 0)
        error = cudaLaunchKernel((const void *)kernel, grid, dim3(threads), args, shared,
                                 (cudaStream_t)x->stream);
    if (error != 0)
        (void)cudaGetLastError(); /* lest the next call be blamed */
#else
    static_assert(__is_trivially_copyable(P), "parameters are copied as bytes");
    emb_shim_job_of<P> job = {{emb_shim_call<P>, (void (*)(void))kernel, name, grid, dim3(threads),
                               shared, emb_cuda_shared_limit(x)},
                              params};
    error = emb_shim_launch(x->stream, &job.head, sizeof job);
#endif
    if (error == 0)
        return EMBED_OK;
    x->error = error;
    x->failed = name;
    return EMBED_ERR_DEVICE;
}

/* ------------------------------------------------------------------------- element types */

struct emb_f16 {
    uint16_t bits;
};
struct emb_bf16 {
    uint16_t bits;
};

__device__ static inline float emb_bits_float(uint32_t u) {
#if defined(__CUDACC__)
    return __uint_as_float(u);
#else
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
#endif
}
__device__ static inline uint32_t emb_float_bits(float f) {
#if defined(__CUDACC__)
    return __float_as_uint(f);
#else
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
#endif
}

#if !defined(__CUDACC__)
static inline float emb_shim_widen(uint16_t h) {
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16, rest = (uint32_t)(h & 0x7fff) << 13;
    if (rest >= 0x0f800000u) /* infinity and NaN */
        return emb_bits_float(sign | rest | 0x70000000u);
    return emb_bits_float(sign | emb_float_bits(emb_bits_float(rest) * 0x1p112f));
}
static inline uint16_t emb_shim_narrow(float f) { /* to nearest even */
    uint32_t u = emb_float_bits(f);
    const uint16_t sign = (uint16_t)(u >> 16 & 0x8000);
    u &= 0x7fffffffu;
    if (u > 0x7f800000u)
        return sign | 0x7e00;
    if (u >= 0x47800000u)
        return sign | 0x7c00;
    if (u < 0x38800000u) /* subnormal: the ulp of 0.5 is theirs */
        return (uint16_t)(sign | (emb_float_bits(emb_bits_float(u) + 0.5f) - 0x3f000000u));
    u += 0xfffu + (u >> 13 & 1u);
    return (uint16_t)(sign | (u - 0x38000000u) >> 13);
}
#endif

__device__ static inline float emb_to_float(float v) {
    return v;
}
__device__ static inline float emb_to_float(signed char v) {
    return (float)v;
}
__device__ static inline float emb_to_float(emb_bf16 v) {
    return emb_bits_float((uint32_t)v.bits << 16);
}
__device__ static inline float emb_to_float(emb_f16 v) {
#if defined(__CUDACC__)
    return __half2float(__ushort_as_half(v.bits));
#else
    return emb_shim_widen(v.bits);
#endif
}

/* Rounds to nearest even. */
template <class T>
__device__ inline T emb_from_float(float v);
template <>
__device__ inline float emb_from_float<float>(float v) {
    return v;
}
template <>
__device__ inline emb_f16 emb_from_float<emb_f16>(float v) {
#if defined(__CUDACC__)
    return emb_f16{__half_as_ushort(__float2half_rn(v))};
#else
    return emb_f16{emb_shim_narrow(v)};
#endif
}
template <>
__device__ inline emb_bf16 emb_from_float<emb_bf16>(float v) {
#if defined(__CUDACC__)
    return emb_bf16{__bfloat16_as_ushort(__float2bfloat16_rn(v))};
#else
    const uint32_t u = emb_float_bits(v);
    if ((u & 0x7fffffffu) > 0x7f800000u)
        return emb_bf16{(uint16_t)(u >> 16 | 0x40u)};
    return emb_bf16{(uint16_t)((u + 0x7fffu + (u >> 16 & 1u)) >> 16)};
#endif
}

/* Two 16-bit elements in a word, the first in the low half: what the matrix units take. */
__device__ static inline uint32_t emb_pack(emb_f16, float lo, float hi) {
#if defined(__CUDACC__)
    const __half2 h = __floats2half2_rn(lo, hi);
    return *(const uint32_t *)&h;
#else
    return emb_shim_narrow(lo) | (uint32_t)emb_shim_narrow(hi) << 16;
#endif
}
__device__ static inline uint32_t emb_pack(emb_bf16, float lo, float hi) {
#if defined(__CUDACC__)
    const __nv_bfloat162 h = __floats2bfloat162_rn(lo, hi);
    return *(const uint32_t *)&h;
#else
    return emb_from_float<emb_bf16>(lo).bits | (uint32_t)emb_from_float<emb_bf16>(hi).bits << 16;
#endif
}

/* --------------------------------------------------------------- eight elements at a time */

template <class T>
__device__ inline void emb_unpack8(uint4 w, float v[8]) {
    const uint32_t word[4] = {w.x, w.y, w.z, w.w};
    EMB_UNROLL
    for (int i = 0; i < 4; i++) {
        v[2 * i] = emb_to_float(T{(uint16_t)(word[i] & 0xffffu)});
        v[2 * i + 1] = emb_to_float(T{(uint16_t)(word[i] >> 16)});
    }
}

/* From and to multiples of 16 bytes. */
template <class T>
__device__ inline void emb_load8(const T *p, float v[8]) {
    emb_unpack8<T>(*(const uint4 *)p, v);
}
template <>
__device__ inline void emb_load8<float>(const float *p, float v[8]) {
    const float4 a = ((const float4 *)p)[0], b = ((const float4 *)p)[1];
    v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w;
    v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
}
template <class T>
__device__ inline void emb_store8(T *p, const float v[8]) {
    uint4 w;
    w.x = emb_pack(T(), v[0], v[1]);
    w.y = emb_pack(T(), v[2], v[3]);
    w.z = emb_pack(T(), v[4], v[5]);
    w.w = emb_pack(T(), v[6], v[7]);
    *(uint4 *)p = w;
}
template <>
__device__ inline void emb_store8<float>(float *p, const float v[8]) {
    ((float4 *)p)[0] = float4{v[0], v[1], v[2], v[3]};
    ((float4 *)p)[1] = float4{v[4], v[5], v[6], v[7]};
}

/* n <= 8 elements anywhere, zeros after them. */
template <class T>
__device__ inline void emb_load_some(const T *p, int n, float v[8]) {
    EMB_UNROLL
    for (int i = 0; i < 8; i++)
        v[i] = i < n ? emb_to_float(p[i]) : 0.0f;
}
template <class T>
__device__ inline void emb_store_some(T *p, int n, const float v[8]) {
    EMB_UNROLL
    for (int i = 0; i < 8; i++)
        if (i < n)
            p[i] = emb_from_float<T>(v[i]);
}

/* The same as calls, where speed is no concern but the size of the code is. */
template <class T>
__device__ EMB_NOINLINE void emb_load_slowly(const T *p, int n, float *v) {
    for (int i = 0; i < 8; i++)
        v[i] = i < n ? emb_to_float(p[i]) : 0.0f;
}
template <class T>
__device__ EMB_NOINLINE void emb_store_slowly(T *p, int n, const float *v) {
    for (int i = 0; i < 8 && i < n; i++)
        p[i] = emb_from_float<T>(v[i]);
}

/* ------------------------------------------------------------------------- fast functions */

/* 2^x within 2 ulp, 0 for what is below the normal range; 1 / x within 1 ulp (PTX ISA, ex2.approx
 * and rcp.approx, both .ftz). */
__device__ static inline float emb_exp2_fast(float x) {
#if defined(__CUDACC__)
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#else
    return exp2f(x);
#endif
}
__device__ static inline float emb_reciprocal_fast(float x) {
#if defined(__CUDACC__)
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#else
    return 1.0f / x;
#endif
}

/* Sum and greatest over a warp, the same in all lanes whatever lane asks. */
__device__ static inline float emb_warp_sum(float v) {
    EMB_UNROLL
    for (int with = EMB_WARP / 2; with > 0; with /= 2)
        v += __shfl_xor_sync(EMB_ALL, v, with);
    return v;
}
__device__ static inline float emb_warp_max(float v) {
    EMB_UNROLL
    for (int with = EMB_WARP / 2; with > 0; with /= 2)
        v = fmaxf(v, __shfl_xor_sync(EMB_ALL, v, with));
    return v;
}

#endif
