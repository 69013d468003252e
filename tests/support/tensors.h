/* tensors: safetensors files for tests, valid ones and broken ones. */
#ifndef EMB_TESTS_SUPPORT_TENSORS_H
#define EMB_TESTS_SUPPORT_TENSORS_H

#include "support/test.h"

/* A file in the making: tensors are appended one after the other. */
typedef struct test_tensors {
    char *header; /* JSON members so far */
    unsigned char *data;
    size_t header_len, data_len;
} test_tensors;

void test_tensors_init(test_tensors *t);
/* Append a tensor of `bytes` ready-made bytes. dtype as in the file ("F32"); shape such as "2,3".
 */
void test_tensors_add_bytes(test_tensors *t, const char *name, const char *dtype, const char *shape,
                            const void *data, size_t bytes);
/* Append rows x cols (cols 0: a vector of `rows`) numbers, converted from float to dtype
 * (embed_dtype F32, F16 or BF16). values NULL: normal numbers from *seed, times `scale`. */
void test_tensors_add(test_tensors *t, const char *name, int32_t dtype, int64_t rows, int64_t cols,
                      const float *values, double scale, uint64_t *seed);
/* Write dir/name and start anew. The header is padded with spaces to a multiple of `align` bytes,
 * so that data starts at 8 + a multiple of it (8: as the reference library; 1: no padding). */
void test_tensors_write(test_tensors *t, const char *dir, const char *name, size_t align);

/* Write dir/name with that header text and `data_len` bytes of data. */
void test_safetensors_raw(const char *dir, const char *name, const char *header, size_t data_len);

#endif
