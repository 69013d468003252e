/* simd_map: each function of kernels/simd.h over an array, compiled once per instruction set, for
 * tests/kernels/test_simd.c. */
#ifndef EMB_TESTS_SUPPORT_SIMD_MAP_H
#define EMB_TESTS_SUPPORT_SIMD_MAP_H

#include <stddef.h>
#include <stdint.h>

enum {
    SIMD_EXP,
    SIMD_SIGMOID,
    SIMD_SILU,
    SIMD_GELU_TANH,
    SIMD_TANH,
    SIMD_NORMAL_TAIL, /* 0 <= x <= 14.5 only */
    SIMD_GELU,
    SIMD_SQRT,
    SIMD_EXP2, /* x <= 1 only */
    SIMD_FUNCTIONS
};

typedef struct simd_map {
    void (*map)(int function, float *y, const float *x, size_t n);
    /* y = a op b for op in + - * / min max copysign(|a|, b), fma(a,b,a), fnma(a,b,a), select_lt */
    void (*binary)(int op, float *y, const float *a, const float *b, size_t n);
    void (*folds)(const float x[16], float *sum, float *max);
    void (*widen)(float *y, const void *x, int32_t dtype, size_t n);
} simd_map;

enum { SIMD_BINARY = 10 };

extern const simd_map simd_map_portable;
#if defined(__x86_64__)
extern const simd_map simd_map_avx2, simd_map_avx512;
#endif

#endif
