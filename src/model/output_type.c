#include "model/output_type.h"

#include "embed.h"

int64_t emb_output_row_len(int32_t type, int64_t dim) {
    return type == EMBED_BINARY || type == EMBED_UBINARY ? (dim + 7) / 8 : dim;
}

size_t emb_output_element_bytes(int32_t type) {
    switch (type) {
    case EMBED_F32:
        return sizeof(float);
    case EMBED_F16:
        return sizeof(uint16_t);
    case EMBED_I8:
    case EMBED_U8:
    case EMBED_BINARY:
    case EMBED_UBINARY:
        return 1;
    default:
        return 0;
    }
}

size_t emb_output_row_bytes(int32_t type, int64_t dim) {
    return (size_t)emb_output_row_len(type, dim) * emb_output_element_bytes(type);
}
