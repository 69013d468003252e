#include "kernels/quantize/quantize.h"

#include <math.h>
#include <string.h>

#include "base/dtype.h"

/* 0 .. 255; written so that NaN ends at 0. */
static uint8_t bucket(float x, float min, float max) {
    const float step = (max - min) / 255.0f;
    const float q = floorf((x - min) / (step != 0.0f ? step : 1.0f));
    return q >= 255.0f ? 255 : q > 0.0f ? (uint8_t)q : 0;
}

static void pack_signs(const float *x, int64_t dim, uint8_t offset, uint8_t *out) {
    memset(out, 0, (size_t)((dim + 7) / 8));
    for (int64_t i = 0; i < dim; i++)
        if (x[i] > 0.0f)
            out[i / 8] = (uint8_t)(out[i / 8] | 0x80 >> i % 8);
    for (int64_t i = 0; i < (dim + 7) / 8; i++)
        out[i] = (uint8_t)(out[i] - offset);
}

void emb_quantize_row(const float *x, int64_t dim, int32_t output, const float *ranges, void *out) {
    uint8_t *bytes = out;
    uint16_t *halves = out;
    switch (output) {
    case EMBED_F16:
        for (int64_t i = 0; i < dim; i++)
            halves[i] = emb_f32_to_f16(x[i]);
        break;
    case EMBED_I8: /* two's complement: value - 128 is the byte with its highest bit flipped */
    case EMBED_U8:
        for (int64_t i = 0; i < dim; i++)
            bytes[i] = bucket(x[i], ranges[i], ranges[dim + i]) ^ (output == EMBED_I8 ? 0x80 : 0);
        break;
    default:
        pack_signs(x, dim, output == EMBED_BINARY ? 128 : 0, bytes);
    }
}
