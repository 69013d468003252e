/* output_type: the shape of a row in each type that vectors come out in. */
#ifndef EMB_MODEL_OUTPUT_TYPE_H
#define EMB_MODEL_OUTPUT_TYPE_H

#include <stddef.h>
#include <stdint.h>

/* Elements of a row of `dim` numbers: dim, or bytes of packed bits. */
int64_t emb_output_row_len(int32_t type, int64_t dim);
/* Bytes of an element, 0 if `type` (embed_dtype) is no output type; and of a row. */
size_t emb_output_element_bytes(int32_t type);
size_t emb_output_row_bytes(int32_t type, int64_t dim);

#endif
