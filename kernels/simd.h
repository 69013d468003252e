/* simd: 16 floats at a time, three implementations, one result. A file picks its implementation
 * before including this header, `#define EMB_SIMD 3` and so on (numbers as in embed_isa):
 *   1 portable C, loops of 16     2 AVX2 + FMA + F16C, two registers     3 AVX-512 F BW DQ VL
 * Every operation gives the same bits in all three (NaN payloads apart): each is one IEEE
 * operation per lane, fused multiply-adds are explicit, folds have one order, and the functions at
 * the end are written once on top. The _n forms touch only the first n elements in memory.
 * All functions are static, so that no copy made for one instruction set can end up serving
 * another. */
#ifndef EMB_KERNELS_SIMD_H
#define EMB_KERNELS_SIMD_H

#include <stdint.h>
#include <string.h>

#include "base/dtype.h"

#ifndef EMB_SIMD
#error "define EMB_SIMD (1 portable, 2 AVX2, 3 AVX-512) before including kernels/simd.h"
#endif

#define EMB_LANES 16
#if defined(__has_feature)
#define V_HAS_FEATURE(x) __has_feature(x)
#else
#define V_HAS_FEATURE(x) 0
#endif
/* Instrumented code, inlined and unrolled, takes compilers minutes a file. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) ||                               \
    V_HAS_FEATURE(address_sanitizer) || V_HAS_FEATURE(thread_sanitizer)
#define V_SANITIZED 1
#else
#define V_SANITIZED 0
#endif
#if defined(__OPTIMIZE__) && !V_SANITIZED
#define V_INLINE static inline __attribute__((always_inline))
#else
#define V_INLINE static inline /* inlined but not optimised, each call would keep its own stack */
#endif

#if EMB_SIMD == 3 /* ---------------------------------------------------------------- AVX-512 */
#include <immintrin.h>

typedef __m512 emb_v;

V_INLINE __mmask16 v_first(int64_t n) { /* lanes 0 .. n-1, 0 <= n <= 16 */
    return (__mmask16)((1u << n) - 1u);
}
V_INLINE emb_v v_set1(float a) {
    return _mm512_set1_ps(a);
}
V_INLINE emb_v v_load(const void *p) { /* any alignment */
    return _mm512_loadu_ps(p);
}
V_INLINE emb_v v_load_n(const void *p, int64_t n) { /* zeros from lane n on */
    return _mm512_maskz_loadu_ps(v_first(n), p);
}
V_INLINE void v_store(float *p, emb_v a) {
    _mm512_storeu_ps(p, a);
}
/* Past the caches, for what is not read again soon; p aligned to 64 bytes. Stores of other threads
 * and kinds may overtake it until v_stream_end. */
V_INLINE void v_stream(float *p, emb_v a) {
    _mm512_stream_ps(p, a);
}
V_INLINE void v_stream_end(void) {
    _mm_sfence();
}
V_INLINE void v_store_n(float *p, emb_v a, int64_t n) {
    _mm512_mask_storeu_ps(p, v_first(n), a);
}
V_INLINE emb_v v_load_i8(const void *p) { /* 16 signed bytes */
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p)));
}
V_INLINE emb_v v_load_f16(const void *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(p));
}
V_INLINE emb_v v_load_f16_n(const void *p, int64_t n) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(v_first(n), p));
}
V_INLINE emb_v v_load_bf16(const void *p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p)), 16));
}
V_INLINE emb_v v_load_bf16_n(const void *p, int64_t n) {
    const __m256i h = _mm256_maskz_loadu_epi16(v_first(n), p);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}
V_INLINE emb_v v_add(emb_v a, emb_v b) {
    return _mm512_add_ps(a, b);
}
V_INLINE emb_v v_sub(emb_v a, emb_v b) {
    return _mm512_sub_ps(a, b);
}
V_INLINE emb_v v_mul(emb_v a, emb_v b) {
    return _mm512_mul_ps(a, b);
}
V_INLINE emb_v v_div(emb_v a, emb_v b) {
    return _mm512_div_ps(a, b);
}
V_INLINE emb_v v_fma(emb_v a, emb_v b, emb_v c) { /* a * b + c */
    return _mm512_fmadd_ps(a, b, c);
}
V_INLINE emb_v v_fnma(emb_v a, emb_v b, emb_v c) { /* c - a * b */
    return _mm512_fnmadd_ps(a, b, c);
}
V_INLINE emb_v v_min(emb_v a, emb_v b) { /* a < b ? a : b, so b if either is NaN */
    return _mm512_min_ps(a, b);
}
V_INLINE emb_v v_max(emb_v a, emb_v b) { /* a > b ? a : b, so b if either is NaN */
    return _mm512_max_ps(a, b);
}
V_INLINE emb_v v_select_lt(emb_v a, emb_v b, emb_v yes, emb_v no) { /* a < b ? yes : no */
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), no, yes);
}
V_INLINE emb_v v_abs(emb_v a) {
    return _mm512_abs_ps(a);
}
V_INLINE emb_v v_copysign(emb_v magnitude, emb_v sign) { /* magnitude has no sign of its own */
    return _mm512_or_ps(magnitude, _mm512_and_ps(sign, _mm512_set1_ps(-0.0f)));
}
V_INLINE emb_v v_sqrt(emb_v a) {
    return _mm512_sqrt_ps(a);
}
/* a * 2^n rounded once, for whole n in [-252, 254] and normal a near 1; any value for NaN n. */
V_INLINE emb_v v_ldexp(emb_v a, emb_v n) {
    return _mm512_scalef_ps(a, n);
}
/* The same where a * 2^n is neither subnormal nor infinite. */
V_INLINE emb_v v_ldexp_normal(emb_v a, emb_v n) {
    return _mm512_scalef_ps(a, n);
}
V_INLINE emb_v v_head(emb_v a, int64_t n, emb_v rest) { /* lanes 0 .. n-1 of a, then of rest */
    return _mm512_mask_blend_ps(v_first(n), rest, a);
}
V_INLINE float v_sum(emb_v a) { /* lane[l] + lane[l + half], half = 8, 4, 2, 1 */
    const __m256 h = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    const __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    const __m128 d = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(d, _mm_movehdup_ps(d)));
}
V_INLINE float v_hmax(emb_v a) { /* folded alike with v_max */
    const __m256 h = _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    const __m128 q = _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    const __m128 d = _mm_max_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_max_ss(d, _mm_movehdup_ps(d)));
}

#elif EMB_SIMD == 2 /* ----------------------------------------------------------------- AVX2 */
#include <immintrin.h>

typedef struct emb_v {
    __m256 lo, hi;
} emb_v;

#define V_BOTH(expr_lo, expr_hi) ((emb_v){(expr_lo), (expr_hi)})

V_INLINE __m256i v_first8(int64_t n) { /* lanes 0 .. n-1 of eight; all for n > 8, none for n < 0 */
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
V_INLINE emb_v v_set1(float a) {
    return V_BOTH(_mm256_set1_ps(a), _mm256_set1_ps(a));
}
V_INLINE emb_v v_load(const void *p) {
    return V_BOTH(_mm256_loadu_ps(p), _mm256_loadu_ps((const void *)((const char *)p + 32)));
}
V_INLINE emb_v v_load_n(const void *p, int64_t n) {
    return V_BOTH(_mm256_maskload_ps(p, v_first8(n)),
                  _mm256_maskload_ps((const void *)((const char *)p + 32), v_first8(n - 8)));
}
V_INLINE void v_store(float *p, emb_v a) {
    _mm256_storeu_ps(p, a.lo);
    _mm256_storeu_ps(p + 8, a.hi);
}
V_INLINE void v_stream(float *p, emb_v a) {
    _mm256_stream_ps(p, a.lo);
    _mm256_stream_ps(p + 8, a.hi);
}
V_INLINE void v_stream_end(void) {
    _mm_sfence();
}
V_INLINE void v_store_n(float *p, emb_v a, int64_t n) {
    _mm256_maskstore_ps(p, v_first8(n), a.lo);
    _mm256_maskstore_ps(p + 8, v_first8(n - 8), a.hi);
}
V_INLINE emb_v v_load_i8(const void *p) {
    const __m128i b = _mm_loadu_si128(p);
    return V_BOTH(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(b)),
                  _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(b, 8))));
}
V_INLINE emb_v v_load_f16(const void *p) {
    return V_BOTH(_mm256_cvtph_ps(_mm_loadu_si128(p)),
                  _mm256_cvtph_ps(_mm_loadu_si128((const void *)((const char *)p + 16))));
}
V_INLINE __m256 v_widen_bf16(const void *p) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(p)), 16));
}
V_INLINE emb_v v_load_bf16(const void *p) {
    return V_BOTH(v_widen_bf16(p), v_widen_bf16((const char *)p + 16));
}
V_INLINE emb_v v_load_f16_n(const void *p, int64_t n) {
    uint16_t h[EMB_LANES] = {0};
    memcpy(h, p, (size_t)n * 2);
    return v_load_f16(h);
}
V_INLINE emb_v v_load_bf16_n(const void *p, int64_t n) {
    uint16_t h[EMB_LANES] = {0};
    memcpy(h, p, (size_t)n * 2);
    return v_load_bf16(h);
}
V_INLINE emb_v v_add(emb_v a, emb_v b) {
    return V_BOTH(_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi));
}
V_INLINE emb_v v_sub(emb_v a, emb_v b) {
    return V_BOTH(_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi));
}
V_INLINE emb_v v_mul(emb_v a, emb_v b) {
    return V_BOTH(_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi));
}
V_INLINE emb_v v_div(emb_v a, emb_v b) {
    return V_BOTH(_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi));
}
V_INLINE emb_v v_fma(emb_v a, emb_v b, emb_v c) {
    return V_BOTH(_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi));
}
V_INLINE emb_v v_fnma(emb_v a, emb_v b, emb_v c) {
    return V_BOTH(_mm256_fnmadd_ps(a.lo, b.lo, c.lo), _mm256_fnmadd_ps(a.hi, b.hi, c.hi));
}
V_INLINE emb_v v_min(emb_v a, emb_v b) {
    return V_BOTH(_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi));
}
V_INLINE emb_v v_max(emb_v a, emb_v b) {
    return V_BOTH(_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi));
}
V_INLINE emb_v v_select_lt(emb_v a, emb_v b, emb_v yes, emb_v no) {
    return V_BOTH(_mm256_blendv_ps(no.lo, yes.lo, _mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ)),
                  _mm256_blendv_ps(no.hi, yes.hi, _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ)));
}
V_INLINE emb_v v_abs(emb_v a) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return V_BOTH(_mm256_andnot_ps(sign, a.lo), _mm256_andnot_ps(sign, a.hi));
}
V_INLINE emb_v v_copysign(emb_v magnitude, emb_v sign) {
    const __m256 bit = _mm256_set1_ps(-0.0f);
    return V_BOTH(_mm256_or_ps(magnitude.lo, _mm256_and_ps(bit, sign.lo)),
                  _mm256_or_ps(magnitude.hi, _mm256_and_ps(bit, sign.hi)));
}
V_INLINE emb_v v_sqrt(emb_v a) {
    return V_BOTH(_mm256_sqrt_ps(a.lo), _mm256_sqrt_ps(a.hi));
}
/* In two steps, the first of them exact: 2^(n >> 1), then the rest. */
V_INLINE __m256 v_ldexp8(__m256 a, __m256 n) {
    const __m256i i = _mm256_cvtps_epi32(n), bias = _mm256_set1_epi32(127);
    const __m256i half = _mm256_srai_epi32(i, 1), rest = _mm256_sub_epi32(i, half);
    const __m256i s1 = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
    const __m256i s2 = _mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23);
    return _mm256_mul_ps(_mm256_mul_ps(a, _mm256_castsi256_ps(s1)), _mm256_castsi256_ps(s2));
}
V_INLINE emb_v v_ldexp(emb_v a, emb_v n) {
    return V_BOTH(v_ldexp8(a.lo, n.lo), v_ldexp8(a.hi, n.hi));
}
V_INLINE __m256 v_ldexp_normal8(__m256 a, __m256 n) {
    const __m256i biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23)));
}
V_INLINE emb_v v_ldexp_normal(emb_v a, emb_v n) {
    return V_BOTH(v_ldexp_normal8(a.lo, n.lo), v_ldexp_normal8(a.hi, n.hi));
}
V_INLINE emb_v v_head(emb_v a, int64_t n, emb_v rest) {
    return V_BOTH(_mm256_blendv_ps(rest.lo, a.lo, _mm256_castsi256_ps(v_first8(n))),
                  _mm256_blendv_ps(rest.hi, a.hi, _mm256_castsi256_ps(v_first8(n - 8))));
}
V_INLINE float v_sum(emb_v a) {
    const __m256 h = _mm256_add_ps(a.lo, a.hi);
    const __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    const __m128 d = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(d, _mm_movehdup_ps(d)));
}
V_INLINE float v_hmax(emb_v a) {
    const __m256 h = _mm256_max_ps(a.lo, a.hi);
    const __m128 q = _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    const __m128 d = _mm_max_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_max_ss(d, _mm_movehdup_ps(d)));
}

#else /* --------------------------------------------------------------------------- portable */
#include <math.h>

typedef struct emb_v {
    float f[EMB_LANES];
} emb_v;

#define V_EACH(expr)                                                                               \
    emb_v r;                                                                                       \
    for (int l = 0; l < EMB_LANES; l++)                                                            \
        r.f[l] = (expr);                                                                           \
    return r

V_INLINE emb_v v_set1(float a) {
    V_EACH(a);
}
V_INLINE emb_v v_load(const void *p) {
    emb_v r;
    memcpy(&r, p, sizeof r);
    return r;
}
V_INLINE emb_v v_load_n(const void *p, int64_t n) {
    emb_v r = {{0}};
    memcpy(&r, p, (size_t)n * 4);
    return r;
}
V_INLINE void v_store(float *p, emb_v a) {
    memcpy(p, &a, sizeof a);
}
V_INLINE void v_stream(float *p, emb_v a) {
    v_store(p, a);
}
V_INLINE void v_stream_end(void) {
}
V_INLINE void v_store_n(float *p, emb_v a, int64_t n) {
    memcpy(p, &a, (size_t)n * 4);
}
V_INLINE emb_v v_load_i8(const void *p) {
    signed char b[EMB_LANES];
    memcpy(b, p, sizeof b);
    V_EACH((float)b[l]);
}
V_INLINE emb_v v_load_f16_n(const void *p, int64_t n) {
    uint16_t h[EMB_LANES] = {0};
    memcpy(h, p, (size_t)n * 2);
    V_EACH(emb_f16_to_f32(h[l]));
}
V_INLINE emb_v v_load_bf16_n(const void *p, int64_t n) {
    uint16_t h[EMB_LANES] = {0};
    memcpy(h, p, (size_t)n * 2);
    V_EACH(emb_bf16_to_f32(h[l]));
}
V_INLINE emb_v v_load_f16(const void *p) {
    return v_load_f16_n(p, EMB_LANES);
}
V_INLINE emb_v v_load_bf16(const void *p) {
    return v_load_bf16_n(p, EMB_LANES);
}
V_INLINE emb_v v_add(emb_v a, emb_v b) {
    V_EACH(a.f[l] + b.f[l]);
}
V_INLINE emb_v v_sub(emb_v a, emb_v b) {
    V_EACH(a.f[l] - b.f[l]);
}
V_INLINE emb_v v_mul(emb_v a, emb_v b) {
    V_EACH(a.f[l] * b.f[l]);
}
V_INLINE emb_v v_div(emb_v a, emb_v b) {
    V_EACH(a.f[l] / b.f[l]);
}
V_INLINE emb_v v_fma(emb_v a, emb_v b, emb_v c) {
    V_EACH(fmaf(a.f[l], b.f[l], c.f[l]));
}
V_INLINE emb_v v_fnma(emb_v a, emb_v b, emb_v c) {
    V_EACH(fmaf(-a.f[l], b.f[l], c.f[l]));
}
V_INLINE emb_v v_min(emb_v a, emb_v b) {
    V_EACH(a.f[l] < b.f[l] ? a.f[l] : b.f[l]);
}
V_INLINE emb_v v_max(emb_v a, emb_v b) {
    V_EACH(a.f[l] > b.f[l] ? a.f[l] : b.f[l]);
}
V_INLINE emb_v v_select_lt(emb_v a, emb_v b, emb_v yes, emb_v no) {
    V_EACH(a.f[l] < b.f[l] ? yes.f[l] : no.f[l]);
}
V_INLINE emb_v v_abs(emb_v a) {
    V_EACH(fabsf(a.f[l]));
}
V_INLINE emb_v v_copysign(emb_v magnitude, emb_v sign) {
    V_EACH(copysignf(magnitude.f[l], sign.f[l]));
}
V_INLINE emb_v v_sqrt(emb_v a) {
    V_EACH(sqrtf(a.f[l]));
}
V_INLINE float v_exponent_bits(uint32_t biased) { /* 2^(biased - 127) */
    const uint32_t u = biased << 23;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}
V_INLINE emb_v v_ldexp(emb_v a, emb_v n) {
    emb_v r;
    for (int l = 0; l < EMB_LANES; l++) {
        /* (n + 256) read from the bits of a float whose ulp is 1: no conversion of a NaN */
        const float shifted = n.f[l] + (8388608.0f + 256.0f);
        uint32_t u;
        memcpy(&u, &shifted, sizeof u);
        u &= 1023u;
        const uint32_t half = u >> 1, rest = u - half; /* their sum is n + 256 */
        r.f[l] = a.f[l] * v_exponent_bits(half - 1) * v_exponent_bits(rest - 1);
    }
    return r;
}
V_INLINE emb_v v_ldexp_normal(emb_v a, emb_v n) {
    emb_v r;
    for (int l = 0; l < EMB_LANES; l++) {
        const float shifted = n.f[l] + (8388608.0f + 127.0f);
        uint32_t u;
        memcpy(&u, &shifted, sizeof u);
        r.f[l] = a.f[l] * v_exponent_bits(u & 255u);
    }
    return r;
}
V_INLINE emb_v v_head(emb_v a, int64_t n, emb_v rest) {
    V_EACH(l < n ? a.f[l] : rest.f[l]);
}
V_INLINE float v_sum(emb_v a) {
    for (int half = EMB_LANES / 2; half > 0; half /= 2)
        for (int l = 0; l < half; l++)
            a.f[l] = a.f[l] + a.f[l + half];
    return a.f[0];
}
V_INLINE float v_hmax(emb_v a) {
    for (int half = EMB_LANES / 2; half > 0; half /= 2)
        for (int l = 0; l < half; l++)
            a.f[l] = a.f[l] > a.f[l + half] ? a.f[l] : a.f[l + half];
    return a.f[0];
}
#endif

/* ---------------------------------------------------------------------- on top of all three */

/* n <= 16 elements from element i of a weight, widened exactly. */
V_INLINE emb_v v_load_weight(const void *w, int32_t dtype, int64_t i, int64_t n) {
    const char *p = (const char *)w + i * (dtype == EMBED_F32 ? 4 : 2);
    if (dtype == EMBED_F32)
        return n < EMB_LANES ? v_load_n(p, n) : v_load(p);
    if (dtype == EMBED_F16)
        return n < EMB_LANES ? v_load_f16_n(p, n) : v_load_f16(p);
    return n < EMB_LANES ? v_load_bf16_n(p, n) : v_load_bf16(p);
}

/* The polynomials below are weighted minimax fits (Remez exchange in 40 digits over the monomials
 * shown, then rounded to float); weight and interval stand with each. */

/* exp for x in [-105, 89]: x = n ln 2 + r with ln 2 in two pieces (Cody & Waite 1980, sec. 6),
 * e^r by degree 6 on |r| <= ln(2)/2, relative error 3.1e-9. */
V_INLINE emb_v v_exp_core(emb_v x) {
    const emb_v magic = v_set1(12582912.0f); /* 1.5 * 2^23: adding it rounds to a whole number */
    const emb_v n = v_sub(v_fma(x, v_set1(1.44269504088896341f), magic), magic);
    const emb_v r =
        v_fnma(n, v_set1(-2.12194440e-4f), v_fnma(n, v_set1(0.693359375f), x)); /* = ln 2 */
    emb_v p = v_set1(0.00138145985276f);
    p = v_fma(p, r, v_set1(0.0083687168777f));
    p = v_fma(p, r, v_set1(0.0416683880462f));
    p = v_fma(p, r, v_set1(0.166665206317f));
    p = v_fma(p, r, v_set1(0.499999934478f));
    p = v_fma(p, r, v_set1(1.0f));
    p = v_fma(p, r, v_set1(1.0f));
    return v_ldexp(p, n);
}

/* e^x within 1 ulp (measured: tests/kernels/test_simd.c); 0 from -104 down, infinity from 88.73
 * up, NaN stays NaN. */
V_INLINE emb_v v_exp(emb_v x) {
    return v_exp_core(v_min(v_set1(89.0f), v_max(v_set1(-105.0f), x)));
}

/* 2^t for softmax: t <= about 0; whatever is below 2^-125 becomes that, which no sum of positive
 * terms up to 1 sees. Degree 6 on |f| <= 1/2, relative error 2.6e-9; within 1.25 ulp. */
V_INLINE emb_v v_exp2_floored(emb_v t) {
    const emb_v magic = v_set1(12582912.0f);
    t = v_max(v_set1(-125.0f), t);
    const emb_v n = v_sub(v_add(t, magic), magic), f = v_sub(t, n);
    emb_v p = v_set1(0.000155946757187f);
    p = v_fma(p, f, v_set1(0.0013406643857f));
    p = v_fma(p, f, v_set1(0.00961769297977f));
    p = v_fma(p, f, v_set1(0.0555031055117f));
    p = v_fma(p, f, v_set1(0.240226527829f));
    p = v_fma(p, f, v_set1(0.693147214968f));
    p = v_fma(p, f, v_set1(1.0f));
    return v_ldexp_normal(p, n);
}

/* x / (1 + e^-z) for finite x, without overflow or cancellation for either sign of z. */
V_INLINE emb_v v_gate(emb_v x, emb_v z) {
    const emb_v e = v_exp(v_sub(v_set1(0.0f), v_abs(z)));
    return v_div(v_select_lt(z, v_set1(0.0f), v_mul(x, e), x), v_add(v_set1(1.0f), e));
}

V_INLINE emb_v v_sigmoid(emb_v x) {
    return v_gate(v_set1(1.0f), x);
}

/* x from which on x * sigmoid(x) is zero in f32: keeps minus infinity from becoming NaN. */
#define V_GATE_FLOOR (-125.0f)

V_INLINE emb_v v_silu(emb_v x) {
    x = v_max(v_set1(V_GATE_FLOOR), x);
    return v_gate(x, x);
}

/* 0.5 x (1 + tanh(u)) = x sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3). */
V_INLINE emb_v v_gelu_tanh(emb_v x) {
    x = v_max(v_set1(V_GATE_FLOOR), x);
    const emb_v cubic = v_fma(v_mul(x, x), v_set1(0.0713548162726f), v_set1(1.59576912160573f));
    return v_gate(x, v_mul(x, cubic));
}

/* |x| < 0.625: x + x^3 P(x^2), P of degree 4, relative error 4.4e-9; else 1 - 2 / (e^2|x| + 1). */
V_INLINE emb_v v_tanh(emb_v x) {
    const emb_v a = v_abs(x), s = v_mul(x, x), one = v_set1(1.0f);
    emb_v p = v_set1(-0.005704986515f);
    p = v_fma(p, s, v_set1(0.02063908683f));
    p = v_fma(p, s, v_set1(-0.05373971497f));
    p = v_fma(p, s, v_set1(0.133314422f));
    p = v_fma(p, s, v_set1(-0.3333328194f));
    const emb_v small = v_fma(v_mul(p, s), a, a);
    const emb_v e = v_exp(v_add(a, a));
    const emb_v large = v_sub(one, v_div(v_set1(2.0f), v_add(e, one)));
    return v_copysign(v_select_lt(a, v_set1(0.625f), small, large), x);
}

/* Upper tail of the normal distribution, erfc(a / sqrt 2) / 2, for 0 <= a <= 14.5:
 * e^(-a^2/2) t P(t) with t = 1 / (1 + 0.3 a) (the form of Abramowitz & Stegun 7.1.26). P of degree
 * 7, weight max(a e^(-a^2/2), 1/100): relative error 2.5e-7 in the tail, a * error 2.5e-9. */
V_INLINE emb_v v_normal_tail(emb_v a) {
    const emb_v one = v_set1(1.0f);
    const emb_v t = v_div(one, v_fma(a, v_set1(0.3f), one));
    emb_v p = v_set1(0.03691140672f);
    p = v_fma(p, t, v_set1(-0.1620616607f));
    p = v_fma(p, t, v_set1(0.2141705801f));
    p = v_fma(p, t, v_set1(-0.06032256674f));
    p = v_fma(p, t, v_set1(0.1317574813f));
    p = v_fma(p, t, v_set1(0.09904596802f));
    p = v_fma(p, t, v_set1(0.1208765033f));
    p = v_fma(p, t, v_set1(0.1196223552f));
    return v_mul(v_exp_core(v_mul(v_mul(a, a), v_set1(-0.5f))), v_mul(p, t));
}

/* 0.5 x (1 + erf(x / sqrt 2)) = max(x, 0) - |x| tail(|x|): nothing cancels for negative x. */
V_INLINE emb_v v_gelu(emb_v x) {
    const emb_v a = v_min(v_set1(14.5f), v_abs(x)); /* tail(14.5) is 0 in f32 */
    return v_fnma(a, v_normal_tail(a), v_max(v_set1(0.0f), x));
}

#endif
