#include "base/status.h"
#include "kernels/quantize/quantize.h"
#include "model/output_type.h"

#include <math.h>

#define LANES 8

/* sum_i a[i] * b[i] in double, where each product is exact; lane l takes i = l, l + 8 ... */
double embed_dot(const float *a, const float *b, size_t dim) {
    double sum[LANES] = {0};
    size_t i = 0;
    if (a == NULL || b == NULL)
        return 0;
    for (; i + LANES <= dim; i += LANES)
        for (size_t l = 0; l < LANES; l++)
            sum[l] += (double)a[i + l] * (double)b[i + l];
    for (size_t l = 0; i < dim; i++, l++)
        sum[l] += (double)a[i] * (double)b[i];
    return ((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7]));
}

double embed_cosine(const float *a, const float *b, size_t dim) {
    const double norms = sqrt(embed_dot(a, a, dim)) * sqrt(embed_dot(b, b, dim));
    return norms > 0 ? embed_dot(a, b, dim) / norms : 0;
}

static embed_status check_vectors(const float *vectors, size_t n, size_t dim) {
    size_t bytes;
    if (vectors == NULL && n > 0)
        return emb_fail(EMBED_ERR_ARG, "vectors: NULL with n %zu", n);
    if (dim == 0 || dim > INT32_MAX)
        return emb_fail(EMBED_ERR_ARG, "dim: expected 1 to %d, found %zu", INT32_MAX, dim);
    if (__builtin_mul_overflow(n, dim * sizeof *vectors, &bytes))
        return emb_fail(EMBED_ERR_ARG, "n: %zu vectors of %zu floats are more than memory can hold",
                        n, dim);
    return EMBED_OK;
}

embed_status embed_quantize_ranges(const float *vectors, size_t n, size_t dim, float *ranges) {
    const embed_status st = check_vectors(vectors, n, dim);
    if (st != EMBED_OK)
        return st;
    if (n == 0)
        return emb_fail(EMBED_ERR_ARG, "n: expected at least 1 vector, found 0");
    if (ranges == NULL)
        return emb_fail(EMBED_ERR_ARG, "ranges: NULL");
    for (size_t i = 0; i < dim; i++)
        ranges[i] = ranges[dim + i] = vectors[i];
    for (size_t row = 1; row < n; row++)
        for (size_t i = 0; i < dim; i++) {
            const float v = vectors[row * dim + i];
            ranges[i] = v < ranges[i] ? v : ranges[i];
            ranges[dim + i] = v > ranges[dim + i] ? v : ranges[dim + i];
        }
    return EMBED_OK;
}

embed_status embed_quantize(const float *vectors, size_t n, size_t dim, int32_t output,
                            const float *ranges, void *out, size_t cap) {
    const embed_status st = check_vectors(vectors, n, dim);
    const size_t element = emb_output_element_bytes(output);
    if (st != EMBED_OK)
        return st;
    if (element == 0 || output == EMBED_F32)
        return emb_fail(EMBED_ERR_ARG, "output: expected a smaller output type, found %d", output);
    if ((output == EMBED_I8 || output == EMBED_U8) && ranges == NULL)
        return emb_fail(EMBED_ERR_ARG, "ranges: NULL, see embed_quantize_ranges");
    const size_t row = (size_t)emb_output_row_len(output, (int64_t)dim);
    if (out == NULL && n > 0)
        return emb_fail(EMBED_ERR_ARG, "out: NULL");
    if (cap < n * row)
        return emb_fail(EMBED_ERR_CAPACITY, "out: expected room for %zu elements, found %zu",
                        n * row, cap);
    for (size_t i = 0; i < n; i++)
        emb_quantize_row(vectors + i * dim, (int64_t)dim, output, ranges,
                         (unsigned char *)out + i * row * element);
    return EMBED_OK;
}
