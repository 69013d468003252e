#include "ngram/ngram_row.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/dtype.h"

#define HEADER sizeof(emb_ngram_row_header)
#define LEAST_BLOCK 4096u
#define GREATEST_BLOCK (1u << 20)
#define CHECKSUM_AT offsetof(emb_ngram_row_header, checksum)

static uint64_t element_bytes(int32_t dtype) {
    return dtype == EMBED_I8 ? 1 : emb_dtype_bytes(dtype);
}

size_t emb_ngram_vector_bytes(const emb_ngram_layout *l) {
    return (size_t)l->width * (size_t)element_bytes(l->dtype);
}

embed_status emb_ngram_layout_init(emb_ngram_layout *l, int32_t width, int32_t dtype) {
    if (element_bytes(dtype) == 0)
        return emb_fail(EMBED_ERR_ARG, "row dtype: expected f32, f16, bf16 or int8, found %d",
                        dtype);
    if (width < 1 || width > 1 << 16)
        return emb_fail(EMBED_ERR_ARG, "row width: expected 1 to 65536, found %d", width);
    /* Rows start at multiples of 4 bytes, so that header fields are aligned. */
    const uint32_t row = (uint32_t)emb_round_up(HEADER + (uint64_t)width * element_bytes(dtype), 4);
    uint32_t block = LEAST_BLOCK;
    while (block < row || (block < GREATEST_BLOCK && block % row * 100ull > block * 12ull))
        block *= 2;
    *l = (emb_ngram_layout){width, dtype, row, block / row, block, 0};
    return EMBED_OK;
}

embed_status emb_ngram_layout_check(const emb_ngram_layout *l, const char *name) {
    emb_ngram_layout want = {0};
    const embed_status st = emb_ngram_layout_init(&want, l->width, l->dtype);
    if (st != EMBED_OK) {
        emb_fail_prefix("%s", name);
        return EMBED_ERR_FORMAT;
    }
    if (l->row_bytes != want.row_bytes || l->rows_per_block != want.rows_per_block ||
        l->block_bytes != want.block_bytes)
        return emb_fail(EMBED_ERR_FORMAT,
                        "%s: row, rows per block, block: expected %u, %u, %u bytes for width %d, "
                        "found %u, %u, %u",
                        name, want.row_bytes, want.rows_per_block, want.block_bytes, l->width,
                        l->row_bytes, l->rows_per_block, l->block_bytes);
    return EMBED_OK;
}

static uint32_t checksum(const emb_ngram_layout *l, const unsigned char *row) {
    /* Everything but the checksum's own four bytes. */
    XXH3_state_t state;
    XXH3_64bits_reset(&state);
    XXH3_64bits_update(&state, row, CHECKSUM_AT);
    XXH3_64bits_update(&state, row + CHECKSUM_AT + 4, l->row_bytes - CHECKSUM_AT - 4);
    return (uint32_t)XXH3_64bits_digest(&state);
}

/* v / scale is within +-127.5: adding 1.5 * 2^23 rounds it to nearest even in the low bits. */
static void encode_int8(const float *v, int32_t width, float scale, unsigned char *out) {
    for (int32_t i = 0; i < width; i++) {
        const float shifted = v[i] / scale + 12582912.0f;
        int32_t bits;
        memcpy(&bits, &shifted, sizeof bits);
        out[i] = (unsigned char)bits;
    }
}

static void encode_vector(const emb_ngram_layout *l, const float *v, float scale,
                          unsigned char *out) {
    if (l->dtype == EMBED_F32)
        memcpy(out, v, (size_t)l->width * sizeof *v);
    else if (l->dtype == EMBED_I8)
        encode_int8(v, l->width, scale, out);
    else
        for (int32_t i = 0; i < l->width; i++) {
            const uint16_t h = l->dtype == EMBED_F16 ? emb_f32_to_f16(v[i]) : emb_f32_to_bf16(v[i]);
            memcpy(out + 2 * (size_t)i, &h, 2);
        }
}

/* Greatest magnitude; NaN counts as the greatest of all. Magnitudes of floats have the order of
 * their bits as integers. */
static float greatest_of(const float *v, int32_t width) {
    int32_t greatest = 0;
    float out;
    for (int32_t i = 0; i < width; i++) {
        int32_t bits;
        memcpy(&bits, &v[i], sizeof bits);
        bits &= INT32_MAX;
        greatest = bits > greatest ? bits : greatest;
    }
    memcpy(&out, &greatest, sizeof out);
    return out;
}

static embed_status fail_number(const float *v, float limit) {
    int32_t i = 0;
    while (fabsf(v[i]) <= limit)
        i++;
    return emb_fail(EMBED_ERR_FORMAT, "element %d: expected a number up to %g, found %g", i,
                    (double)limit, (double)v[i]);
}

/* greatest / 127, no subnormal number, which would lose bits; of several whose greatest product is
 * the same the least, so that encoding a decoded row gives the same bytes again. */
static float scale_of(float greatest) {
    float scale = fmaxf(greatest / 127, 0x1p-126f);
    const float product = scale * 127;
    for (float less = nextafterf(scale, 0); less >= 0x1p-126f && less * 127 == product;
         less = nextafterf(scale, 0))
        scale = less;
    return scale;
}

embed_status emb_ngram_row_encode(const emb_ngram_layout *l, const uint32_t ids[EMB_NGRAM_MAX_K],
                                  int32_t length, uint32_t count, const float *vector,
                                  unsigned char *row) {
    const float limit = l->dtype == EMBED_F16    ? 65504.0f
                        : l->dtype == EMBED_BF16 ? 0x1.fep127f
                                                 : 0x1.fffffep127f;
    const float greatest = greatest_of(vector, l->width);
    if (!(greatest <= limit))
        return fail_number(vector, limit);
    emb_ngram_row_header h = {.scale = 1, .length = (uint8_t)length, .count = count};
    memcpy(h.ids, ids, (size_t)length * sizeof h.ids[0]);
    if (l->dtype == EMBED_I8 && greatest > 0)
        h.scale = scale_of(greatest);
    memset(row, 0, l->row_bytes);
    encode_vector(l, vector, h.scale, row + HEADER);
    memcpy(row, &h, HEADER);
    h.checksum = checksum(l, row);
    memcpy(row + CHECKSUM_AT, &h.checksum, sizeof h.checksum);
    return EMBED_OK;
}

emb_ngram_row_state emb_ngram_row_check(const emb_ngram_layout *l, const unsigned char *row,
                                        const int32_t *ids, int32_t length) {
    emb_ngram_row_header h;
    memcpy(&h, row, HEADER);
    if (checksum(l, row) != h.checksum)
        return EMB_NGRAM_ROW_CORRUPT;
    if (ids != NULL && (h.length != length || length < 0 || length > EMB_NGRAM_MAX_K ||
                        memcmp(h.ids, ids, (size_t)length * sizeof h.ids[0]) != 0))
        return EMB_NGRAM_ROW_FOREIGN;
    return EMB_NGRAM_ROW_GOOD;
}

void emb_ngram_row_decode(const emb_ngram_layout *l, const unsigned char *row, float *vector) {
    emb_ngram_row_header h;
    const unsigned char *v = row + HEADER;
    memcpy(&h, row, HEADER);
    uint16_t half;
    switch (l->dtype) {
    case EMBED_F32:
        memcpy(vector, v, (size_t)l->width * sizeof *vector);
        break;
    case EMBED_I8:
        for (int32_t i = 0; i < l->width; i++)
            vector[i] = h.scale * (float)(int8_t)v[i];
        break;
    case EMBED_F16:
        for (int32_t i = 0; i < l->width; i++) {
            memcpy(&half, v + 2 * (size_t)i, 2);
            vector[i] = emb_f16_to_f32(half);
        }
        break;
    default:
        for (int32_t i = 0; i < l->width; i++) {
            memcpy(&half, v + 2 * (size_t)i, 2);
            vector[i] = emb_bf16_to_f32(half);
        }
    }
}
