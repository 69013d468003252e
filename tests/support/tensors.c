#include "support/tensors.h"

#include "base/dtype.h"
#include "support/files.h"

static void *grow(void *p, size_t bytes) {
    void *q = realloc(p, bytes);
    if (q == NULL)
        fail_msg("out of memory");
    return q;
}

void test_tensors_init(test_tensors *t) {
    *t = (test_tensors){NULL, NULL, 0, 0};
}

void test_tensors_add_bytes(test_tensors *t, const char *name, const char *dtype, const char *shape,
                            const void *data, size_t bytes) {
    t->header = grow(t->header, t->header_len + strlen(name) + strlen(shape) + 200);
    t->header_len += (size_t)sprintf(
        t->header + t->header_len,
        "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
        t->header_len > 0 ? "," : "", name, dtype, shape, t->data_len, t->data_len + bytes);
    t->data = grow(t->data, t->data_len + bytes + 1);
    if (bytes > 0)
        memcpy(t->data + t->data_len, data, bytes);
    t->data_len += bytes;
}

/* Round to nearest even, as torch does. */
static uint16_t bf16_of(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

void test_tensors_add(test_tensors *t, const char *name, int32_t dtype, int64_t rows, int64_t cols,
                      const float *values, double scale, uint64_t *seed) {
    const size_t n = (size_t)(rows * (cols > 0 ? cols : 1)), size = emb_dtype_bytes(dtype);
    unsigned char *data = grow(NULL, n * size + 1);
    char shape[64];
    for (size_t i = 0; i < n; i++) {
        const float f = values != NULL ? values[i] : (float)(scale * test_normal(seed));
        const uint16_t half = dtype == EMBED_F16 ? emb_f32_to_f16(f) : bf16_of(f);
        memcpy(data + i * size, dtype == EMBED_F32 ? (const void *)&f : (const void *)&half, size);
    }
    if (cols > 0)
        (void)snprintf(shape, sizeof shape, "%lld,%lld", (long long)rows, (long long)cols);
    else
        (void)snprintf(shape, sizeof shape, "%lld", (long long)rows);
    test_tensors_add_bytes(t, name,
                           dtype == EMBED_F32   ? "F32"
                           : dtype == EMBED_F16 ? "F16"
                                                : "BF16",
                           shape, data, n * size);
    free(data);
}

static void write_file(const char *dir, const char *name, const char *header, size_t header_len,
                       size_t padding, const void *data, size_t data_len) {
    const uint64_t length = header_len + padding;
    unsigned char *file = grow(NULL, 8 + (size_t)length + data_len);
    for (int i = 0; i < 8; i++)
        file[i] = (unsigned char)(length >> 8 * i);
    memcpy(file + 8, header, header_len);
    memset(file + 8 + header_len, ' ', padding);
    if (data_len > 0)
        memcpy(file + 8 + length, data, data_len);
    test_write(dir, name, file, (long)(8 + length + data_len));
    free(file);
}

void test_tensors_write(test_tensors *t, const char *dir, const char *name, size_t align) {
    char *header = grow(NULL, t->header_len + 3);
    const int n = sprintf(header, "{%s}", t->header_len > 0 ? t->header : "");
    const size_t len = (size_t)n;
    write_file(dir, name, header, len, (align - len % align) % align, t->data, t->data_len);
    free(header);
    free(t->header);
    free(t->data);
    test_tensors_init(t);
}

void test_safetensors_raw(const char *dir, const char *name, const char *header, size_t data_len) {
    void *data = calloc(1, data_len + 1);
    if (data == NULL)
        fail_msg("out of memory");
    write_file(dir, name, header, strlen(header), 0, data, data_len);
    free(data);
}
