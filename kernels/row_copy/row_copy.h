/* row_copy: scattered rows of bytes to scattered places; the reference of row_copy_cuda.h, which
 * says what the arguments are. */
#ifndef EMB_KERNELS_ROW_COPY_H
#define EMB_KERNELS_ROW_COPY_H

#include <stdint.h>

void emb_row_copy(const void *from, const uint64_t *places, int64_t rows, int64_t bytes);

#endif
