/* ngram_row: one row of a table, from floats to bytes and back, and where rows lie in blocks.
 * A row never crosses a block, so that one block read (or one decryption) brings whole rows. */
#ifndef EMB_NGRAM_NGRAM_ROW_H
#define EMB_NGRAM_NGRAM_ROW_H

#include "base/alloc.h"
#include "ngram/ngram_format.h"

typedef struct emb_ngram_layout {
    int32_t width; /* floats of a vector */
    int32_t dtype; /* EMBED_F32, EMBED_F16, EMBED_BF16 or EMBED_I8 */
    uint32_t row_bytes, rows_per_block, block_bytes;
    uint32_t reserved;
} emb_ngram_layout;

/* The smallest block of 4 KiB, 8 KiB ... 1 MiB that wastes at most 12 %. */
embed_status emb_ngram_layout_init(emb_ngram_layout *layout, int32_t width, int32_t dtype);
/* Sizes that come from a file: consistent with each other, or EMBED_ERR_FORMAT. */
embed_status emb_ngram_layout_check(const emb_ngram_layout *layout, const char *name);

/* Of the vector alone, as stored. */
size_t emb_ngram_vector_bytes(const emb_ngram_layout *layout);

/* Bytes from the start of the payload to row i of a part, and of n rows' blocks. */
static inline uint64_t emb_ngram_row_offset(const emb_ngram_layout *l, uint64_t row) {
    return row / l->rows_per_block * l->block_bytes + row % l->rows_per_block * l->row_bytes;
}
static inline uint64_t emb_ngram_rows_bytes(const emb_ngram_layout *l, uint64_t rows) {
    return (rows + l->rows_per_block - 1) / l->rows_per_block * l->block_bytes;
}

/* Write one row. A value that is NaN, infinite or beyond the dtype is EMBED_ERR_FORMAT naming its
 * place. int8: symmetric, scale = max |v| / 127, round to nearest even. */
embed_status emb_ngram_row_encode(const emb_ngram_layout *layout,
                                  const uint32_t ids[EMB_NGRAM_MAX_K], int32_t length,
                                  uint32_t count, const float *vector, unsigned char *row);

typedef enum emb_ngram_row_state {
    EMB_NGRAM_ROW_GOOD = 0,
    EMB_NGRAM_ROW_CORRUPT = 1, /* its checksum is wrong */
    EMB_NGRAM_ROW_FOREIGN = 2  /* sound, but of another n-gram: the index answered by chance */
} emb_ngram_row_state;

/* ids: the n-gram in text order; NULL: only the checksum. */
emb_ngram_row_state emb_ngram_row_check(const emb_ngram_layout *layout, const unsigned char *row,
                                        const int32_t *ids, int32_t length);
void emb_ngram_row_decode(const emb_ngram_layout *layout, const unsigned char *row, float *vector);

#endif
