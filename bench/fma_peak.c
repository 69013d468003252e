#include "fma_peak.h"

#include "embed.h"

enum { LOOPS = 1000000, CHAINS = 12 }; /* latency 4, two a cycle: eight chains would do */

#if defined(__x86_64__)
#include <immintrin.h>

#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

__attribute__((target("avx512f"), noinline)) static float run_avx512(void) {
    const __m512 a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(1e-3f);
    __m512 s[CHAINS], sum = b;
    UNROLL
    for (int i = 0; i < CHAINS; i++)
        s[i] = _mm512_set1_ps((float)i);
    for (int r = 0; r < LOOPS; r++) {
        UNROLL
        for (int i = 0; i < CHAINS; i++)
            s[i] = _mm512_fmadd_ps(s[i], a, b);
    }
    UNROLL
    for (int i = 0; i < CHAINS; i++)
        sum = _mm512_add_ps(sum, s[i]);
    return _mm512_cvtss_f32(sum);
}

__attribute__((target("avx2,fma"), noinline)) static float run_avx2(void) {
    const __m256 a = _mm256_set1_ps(0.999f), b = _mm256_set1_ps(1e-3f);
    __m256 s[CHAINS], sum = b;
    UNROLL
    for (int i = 0; i < CHAINS; i++)
        s[i] = _mm256_set1_ps((float)i);
    for (int r = 0; r < LOOPS; r++) {
        UNROLL
        for (int i = 0; i < CHAINS; i++)
            s[i] = _mm256_fmadd_ps(s[i], a, b);
    }
    UNROLL
    for (int i = 0; i < CHAINS; i++)
        sum = _mm256_add_ps(sum, s[i]);
    return _mm256_cvtss_f32(sum);
}
#endif

double fma_peak_run(int32_t isa) {
    volatile float sink = 0;
    double lanes = 0;
#if defined(__x86_64__)
    if (isa == EMBED_ISA_AVX512) {
        sink = run_avx512();
        lanes = 16;
    } else if (isa == EMBED_ISA_AVX2) {
        sink = run_avx2();
        lanes = 8;
    }
#endif
    (void)sink;
    (void)isa;
    return 2.0 * lanes * CHAINS * LOOPS;
}
