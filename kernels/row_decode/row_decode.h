/* row_decode: y[:] = x[:] widened, or scale * x[:] for EMBED_I8         one row of an n-gram table
 *
 * x [N] EMBED_F32, F16, BF16 (widened exactly, scale not used) or I8 (one product, rounded once),
 * any alignment; y [N] f32, must not alias x. bytes (4 + elt) * N, bound by memory: table rows are
 * scattered, so emb_row_touch asks for the cache lines of a row some rows ahead. A large batch is
 * written past the caches (`stream`), which saves reading what is overwritten, 1.2x, and leaves the
 * caches to the encoder beside it; emb_row_decode_end comes before another thread reads. */
#ifndef EMB_KERNELS_ROW_DECODE_H
#define EMB_KERNELS_ROW_DECODE_H

#include "kernels/isa.h"
#include "kernels/rows.h"

static inline void emb_row_decode(const emb_isa *isa, float *y, const void *x, int64_t n,
                                  int32_t dtype, float scale, int stream) {
    isa->rows->widen(y, x, n, dtype, scale, stream);
}
static inline void emb_row_decode_end(const emb_isa *isa) {
    isa->rows->widen_end();
}

static inline void emb_row_touch(const unsigned char *row, size_t bytes) {
    for (size_t at = 0; at < bytes; at += 64)
        __builtin_prefetch(row + at);
}

#endif
