#include "base/dtype.h"

#include <math.h>

float emb_f16_to_f32(uint16_t h) {
    const uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    const uint32_t exponent = (h >> 10) & 31u, mantissa = h & 1023u;
    uint32_t u;
    float f;
    if (exponent == 0) { /* zero and subnormals: mantissa * 2^-24 is exact */
        f = (float)mantissa * 0x1p-24f;
        return sign ? -f : f;
    }
    u = sign | mantissa << 13 | (exponent == 31 ? 0x7f800000u : (exponent + 112) << 23);
    memcpy(&f, &u, sizeof f);
    return f;
}

uint16_t emb_f32_to_f16(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    const uint16_t sign = (uint16_t)(u >> 16 & 0x8000u);
    const uint32_t magnitude = u & 0x7fffffffu;
    if (magnitude > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00u);
    if (magnitude >= 0x477ff000u) /* 65520 and above round to infinity */
        return (uint16_t)(sign | 0x7c00u);
    if (magnitude < 0x38800000u) { /* below 2^-14: a multiple of 2^-24, rounded by the adder */
        const float shifted = fabsf(f) + 0.5f; /* ulp of [0.5, 1) is 2^-24 */
        memcpy(&u, &shifted, sizeof u);
        return (uint16_t)(sign | (u - 0x3f000000u));
    }
    const uint32_t odd = magnitude >> 13 & 1u;
    return (uint16_t)(sign | (magnitude - 0x38000000u + 0xfffu + odd) >> 13);
}
