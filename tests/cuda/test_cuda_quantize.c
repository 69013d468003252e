#include "cuda/cuda_case.h"

#include "kernels/pool/pool.h"
#include "kernels/quantize/quantize.h"
#include "kernels/quantize/quantize_cuda.h"

static const int32_t outputs[] = {EMBED_F32, EMBED_F16,     EMBED_I8,
                                  EMBED_U8,  EMBED_UBINARY, EMBED_BINARY};

static size_t row_bytes(int32_t output, int64_t dim) {
    return output == EMBED_F32                                 ? (size_t)dim * 4
           : output == EMBED_F16                               ? (size_t)dim * 2
           : output == EMBED_BINARY || output == EMBED_UBINARY ? (size_t)(dim + 7) / 8
                                                               : (size_t)dim;
}

/* The values worth a look among others: both zeros, the ends of the ranges, beyond them, NaN. */
static float *vectors(uint64_t *seed, size_t n) {
    static const float special[] = {0.0f, -0.0f, 1.0f, -1.0f, 3e38f, 1e-42f, 65519.0f, 65520.0f};
    float *x = cuda_normals(seed, n, 0.5, EMBED_F32, NULL);
    for (size_t i = 0; i < n; i += 5)
        x[i] = special[test_rand(seed) % 8];
    if (n > 3)
        x[3] = NAN;
    return x;
}

static void run_shape(int64_t dim, int32_t output, int normalize) {
    enum { ROWS = 3, CUT = 9 };
    uint64_t seed = (uint64_t)dim;
    const size_t bytes = row_bytes(output, dim), stride = bytes + (output == EMBED_F32 ? 4 : 2);
    emb_cuda_quantize_args a = {
        .rows = ROWS,
        .dim = dim,
        .ldx = dim + CUT,
        .out_stride = (int64_t)stride,
        .output = output,
        .normalize = normalize,
    };
    float *ranges = cuda_output((size_t)(2 * dim) * sizeof *ranges);
    float *want = cuda_output((size_t)dim * sizeof *want);
    unsigned char *packed = cuda_output(bytes);
    for (int64_t i = 0; i < dim; i++) {
        ranges[i] = i % 7 == 0 ? 0.0f : -1.0f;
        ranges[dim + i] = i % 7 == 0 ? 0.0f : 1.0f;
    }
    a.ranges = ranges;
    a.x = normalize ? cuda_normals(&seed, (size_t)(ROWS * a.ldx), 2.0, EMBED_F32, NULL)
                    : vectors(&seed, (size_t)(ROWS * a.ldx));
    /* normalised values come from a call of its own, within rounding of the CPU's */
    emb_cuda_quantize_args b = a;
    b.output = EMBED_F32;
    b.out_stride = dim * 4;
    float *normal = cuda_output((size_t)(ROWS * dim) * 4);
    b.out = normal;
    cuda_worked("quantize", emb_cuda_quantize(cuda_exec(), &b));
    a.out = cuda_output(ROWS * stride);
    emb_emulation_seed((uint64_t)output);
    cuda_worked("quantize", emb_cuda_quantize(cuda_exec(), &a));
    for (int64_t r = 0; r < ROWS; r++) {
        memcpy(want, a.x + r * a.ldx, (size_t)dim * sizeof *want);
        if (normalize)
            emb_l2_normalize(want, 1, dim, dim);
        for (int64_t i = 0; i < dim && normalize; i++)
            assert_true(fabs((double)want[i] - (double)normal[r * dim + i]) <=
                        1.2e-7 * fabs((double)want[i]));
        if (output == EMBED_F32)
            memcpy(packed, normal + r * dim, bytes);
        else
            emb_quantize_row(normal + r * dim, dim, output, ranges, packed);
        if (!normalize && output == EMBED_F32)
            memcpy(packed, want, bytes);
        cuda_same("a quantised row", packed, (char *)a.out + (size_t)r * stride, bytes);
    }
    cuda_case_end();
}

static void rows_have_the_bits_of_the_cpu(void **state) {
    static const int64_t dims[] = {1, 7, 8, 9, 64, 127, 128, 129, 768};
    (void)state;
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++)
        for (size_t o = 0; o < sizeof outputs / sizeof *outputs; o++)
            for (int normalize = 0; normalize < 2; normalize++)
                run_shape(dims[i], outputs[o], normalize);
}

static void zero_vectors_stay_zero_and_rows_may_stay_in_place(void **state) {
    float *x = cuda_output(2 * 16 * sizeof *x);
    const int32_t count = 2;
    (void)state;
    for (int i = 0; i < 32; i++)
        x[i] = i < 16 ? 0.0f : 3.0f;
    cuda_worked("quantize",
                emb_cuda_quantize(
                    cuda_exec(), &(emb_cuda_quantize_args){.x = x,
                                                           .out = x,
                                                           .count = cuda_copy(&count, sizeof count),
                                                           .rows = 9,
                                                           .dim = 16,
                                                           .ldx = 16,
                                                           .out_stride = 64,
                                                           .output = EMBED_F32,
                                                           .normalize = 1}));
    for (int i = 0; i < 32; i++)
        assert_true(x[i] == (i < 16 ? 0.0f : 0.25f));
    cuda_case_end();
}

/* Rows of a batch go to the places of their texts; those of other texts stay as they are. */
static void rows_go_where_the_index_says(void **state) {
    enum { ROWS = 3, PLACES = 7, DIM = 20 };
    const uint64_t index[ROWS] = {5, 0, 3};
    uint64_t seed = 11;
    float *x = cuda_normals(&seed, ROWS * DIM, 1.0, EMBED_F32, NULL);
    float *ranges = cuda_output(2 * DIM * sizeof *ranges);
    unsigned char want[DIM * sizeof(float)];
    (void)state;
    for (int i = 0; i < 2 * DIM; i++)
        ranges[i] = i < DIM ? -1.0f : 1.0f;
    for (size_t o = 0; o < sizeof outputs / sizeof *outputs; o++) {
        const size_t bytes = row_bytes(outputs[o], DIM);
        unsigned char *out = cuda_output(PLACES * bytes);
        memset(out, 0xa5, PLACES * bytes);
        cuda_worked("quantize",
                    emb_cuda_quantize(cuda_exec(), &(emb_cuda_quantize_args){
                                                       .x = x,
                                                       .ranges = ranges,
                                                       .out = out,
                                                       .index = cuda_copy(index, sizeof index),
                                                       .rows = ROWS,
                                                       .dim = DIM,
                                                       .ldx = DIM,
                                                       .out_stride = (int64_t)bytes,
                                                       .output = outputs[o]}));
        for (size_t r = 0; r < ROWS; r++) {
            memcpy(want, x + r * DIM, bytes);
            if (outputs[o] != EMBED_F32)
                emb_quantize_row(x + r * DIM, DIM, outputs[o], ranges, want);
            cuda_same("a row in its place", want, out + index[r] * bytes, bytes);
        }
        memset(want, 0xa5, bytes);
        for (size_t i = 0; i < PLACES; i++)
            if (i != 5 && i != 0 && i != 3)
                cuda_same("a place of no row", want, out + i * bytes, bytes);
    }
    cuda_case_end();
}

static void limits_are_refused(void **state) {
    emb_cuda_quantize_args a = {.rows = 1, .dim = 8, .output = EMBED_BF16};
    (void)state;
    assert_int_equal(emb_cuda_quantize(cuda_exec(), &a), EMBED_ERR_INTERNAL);
    a.output = EMBED_I8; /* without ranges */
    assert_int_equal(emb_cuda_quantize(cuda_exec(), &a), EMBED_ERR_INTERNAL);
    a.output = EMBED_F16;
    a.rows = 0;
    cuda_worked("no rows", emb_cuda_quantize(cuda_exec(), &a));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_have_the_bits_of_the_cpu),
        cmocka_unit_test(zero_vectors_stay_zero_and_rows_may_stay_in_place),
        cmocka_unit_test(rows_go_where_the_index_says),
        cmocka_unit_test(limits_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
