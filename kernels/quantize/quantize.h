/* quantize: one f32 vector to an output type, the numbers of sentence-transformers 6
 * (util/quantization.py, quantize_embeddings):
 *   EMBED_F16     round to nearest even
 *   EMBED_U8      floor((x - min) / step) clamped to 0 .. 255, step = (max - min) / 255 or 1 where
 *                 that is 0, each operation rounded to f32; NaN gives 0
 *   EMBED_I8      the same - 128 (sentence-transformers before 6 rounds towards zero after the
 *                 subtraction, and wraps values outside the range)
 *   EMBED_UBINARY x > 0, eight a byte, the first in the highest bit, the last byte padded with 0
 *   EMBED_BINARY  the same - 128 as int8
 *
 * x [dim] f32; ranges [2, dim] least and greatest values, for I8 and U8 only; out [dim] uint16_t,
 * uint8_t or int8_t, or [ceil(dim / 8)] bytes for the binary types; out must not alias x */
#ifndef EMB_KERNELS_QUANTIZE_H
#define EMB_KERNELS_QUANTIZE_H

#include <stdint.h>

#include "embed.h"

void emb_quantize_row(const float *x, int64_t dim, int32_t output, const float *ranges, void *out);

#endif
