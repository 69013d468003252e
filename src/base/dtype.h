/* dtype: element types of weights and outputs; numbers as in embed_dtype. */
#ifndef EMB_BASE_DTYPE_H
#define EMB_BASE_DTYPE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "embed.h"

/* Bytes of one element of a weight dtype (EMBED_F32, EMBED_F16, EMBED_BF16), else 0. */
static inline size_t emb_dtype_bytes(int dtype) {
    return dtype == EMBED_F32 ? 4 : dtype == EMBED_F16 || dtype == EMBED_BF16 ? 2 : 0;
}

static inline float emb_bf16_to_f32(uint16_t h) {
    const uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

/* Round to nearest even; NaN stays NaN. */
static inline uint16_t emb_f32_to_bf16(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    if ((u & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

float emb_f16_to_f32(uint16_t h);
uint16_t emb_f32_to_f16(float f); /* round to nearest even; overflow to infinity; NaN stays NaN */

#endif
