#include "support/test.h"

#include "base/dtype.h"
#include "kernels/quantize/quantize.h"

/* What sentence-transformers 6.2.0 (numpy 2.4.6) makes of x, printed by
 *   import numpy as np; from sentence_transformers.util import quantize_embeddings as q
 *   x = np.random.default_rng(7).normal(size=(5, 11)).round(3).astype(np.float32)
 *   x[2] = 0; x[:3, 3] = 0.25; x[4, :4] = [9, -9, -0.0, 0.75]
 *   ranges = np.vstack((x[:3].min(0), x[:3].max(0)))
 *   for p in ("uint8", "int8", "ubinary", "binary"): print(q(x, p, ranges=ranges))
 *   print(x.astype(np.float16).view(np.uint16))
 * Rows 3 and 4 leave the range, column 3 of the calibration is constant. */
enum { N = 5, DIM = 11, BYTES = 2 };
static const float x[N * DIM] = {
    0.001f,  0.299f,  -0.274f, 0.25f,   -0.455f, -0.992f, 0.06f,   1.34f,   -0.492f, -0.62f,
    0.49f,   0.357f,  0.105f,  -0.93f,  0.25f,   0.695f,  -1.344f, -0.458f, -1.901f, -1.29f,
    -1.842f, -0.235f, 0.0f,    0.0f,    0.0f,    0.25f,   0.0f,    0.0f,    0.0f,    0.0f,
    0.0f,    0.0f,    0.0f,    -0.809f, 1.061f,  -0.808f, -0.033f, 0.884f,  -0.584f, -0.112f,
    0.11f,   0.064f,  -1.225f, 0.076f,  9.0f,    -9.0f,   -0.0f,   0.75f,   -0.641f, 2.0f,
    0.762f,  -1.199f, 0.075f,  0.577f,  -0.189f};
static const float ranges[2 * DIM] = {
    0.0f,   0.0f,   -0.93f, 0.25f, -0.455f, -1.344f, -0.458f, -1.901f, -1.29f, -1.842f, -0.235f,
    0.357f, 0.299f, 0.0f,   0.25f, 0.695f,  0.0f,    0.06f,   1.34f,   0.0f,   0.0f,    0.49f};
static const uint8_t want_u8[N * DIM] = {
    0,   255, 179, 0,   0,  66,  255, 255, 157, 169, 255, 255, 89,  0,  0,   255, 0,  0, 0,
    0,   0,   0,   0,   0,  255, 0,   100, 255, 225, 149, 255, 255, 82, 0,   255, 33, 0, 255,
    144, 170, 158, 255, 85, 109, 255, 0,   255, 0,   0,   255, 255, 55, 255, 255, 16};
static const int8_t want_i8[N * DIM] = {
    -128, 127, 51,   -128, -128, -62,  127,  127,  29,   41,   127, 127,  -39, -128,
    -128, 127, -128, -128, -128, -128, -128, -128, -128, -128, 127, -128, -28, 127,
    97,   21,  127,  127,  -46,  -128, 127,  -95,  -128, 127,  16,  42,   30,  127,
    -43,  -19, 127,  -128, 127,  -128, -128, 127,  127,  -73,  127, 127,  -112};
static const uint8_t want_ubinary[N * BYTES] = {211, 32, 216, 0, 16, 0, 73, 160, 150, 192};
static const int8_t want_binary[N * BYTES] = {83, -96, 88, -128, -112, -128, -55, 32, 22, 64};
static const uint16_t want_f16[N * DIM] = {
    0x1419, 0x34c9, 0xb462, 0x3400, 0xb748, 0xbbf0, 0x2bae, 0x3d5c, 0xb7df, 0xb8f6, 0x37d7,
    0x35b6, 0x2eb8, 0xbb71, 0x3400, 0x398f, 0xbd60, 0xb754, 0xbf9b, 0xbd29, 0xbf5e, 0xb385,
    0x0,    0x0,    0x0,    0x3400, 0x0,    0x0,    0x0,    0x0,    0x0,    0x0,    0x0,
    0xba79, 0x3c3e, 0xba77, 0xa839, 0x3b12, 0xb8ac, 0xaf2b, 0x2f0a, 0x2c19, 0xbce6, 0x2cdd,
    0x4880, 0xc880, 0x8000, 0x3a00, 0xb921, 0x4000, 0x3a19, 0xbccc, 0x2ccd, 0x389e, 0xb20c};

static void check(int32_t output, const void *want, size_t row_bytes) {
    for (size_t i = 0; i < N; i++) {
        unsigned char out[64];
        memset(out, 0xa5, sizeof out);
        emb_quantize_row(x + i * DIM, DIM, output, ranges, out);
        assert_memory_equal(out, (const unsigned char *)want + i * row_bytes, row_bytes);
        for (size_t b = row_bytes; b < sizeof out; b++)
            assert_int_equal(out[b], 0xa5);
    }
}

static void every_type_is_what_sentence_transformers_makes(void **state) {
    (void)state;
    check(EMBED_U8, want_u8, DIM);
    check(EMBED_I8, want_i8, DIM);
    check(EMBED_UBINARY, want_ubinary, BYTES);
    check(EMBED_BINARY, want_binary, BYTES);
    check(EMBED_F16, want_f16, 2 * DIM);
}

static void strange_numbers_have_defined_values(void **state) {
    (void)state;
    const float v[5] = {NAN, INFINITY, -INFINITY, 3e38f, 5.0f};
    const float r[10] = {0, 0, 0, 0, 5.0f, 1, 1, 1, 1, 5.0f};
    const uint8_t want[5] = {0, 255, 0, 255, 0};
    const float wide[2] = {-3e38f, 3e38f}; /* max - min overflows */
    uint8_t out[5], bits;
    uint16_t halves[5];
    int8_t i8[5];
    emb_quantize_row(v, 5, EMBED_U8, r, out);
    assert_memory_equal(out, want, 5);
    emb_quantize_row(v, 5, EMBED_I8, r, i8);
    for (int i = 0; i < 5; i++)
        assert_int_equal(i8[i], want[i] - 128);
    emb_quantize_row(v, 5, EMBED_UBINARY, NULL, &bits);
    assert_int_equal(bits, 0x58);
    emb_quantize_row(v, 5, EMBED_F16, NULL, halves);
    assert_true(isnan(emb_f16_to_f32(halves[0])));
    assert_int_equal(halves[1], 0x7c00);
    assert_int_equal(halves[2], 0xfc00);
    assert_int_equal(halves[3], 0x7c00);
    emb_quantize_row(v + 4, 1, EMBED_U8, wide, out);
    assert_int_equal(out[0], 0);
}

static void last_bytes_are_padded_with_zeros(void **state) {
    (void)state;
    float ones[17];
    for (int i = 0; i < 17; i++)
        ones[i] = 1.0f;
    for (int n = 0; n <= 17; n++) {
        uint8_t out[4] = {0xee, 0xee, 0xee, 0xee};
        float *exact = malloc((size_t)n * sizeof *exact + (n == 0));
        assert_non_null(exact);
        memcpy(exact, ones, (size_t)n * sizeof *exact);
        emb_quantize_row(exact, n, EMBED_UBINARY, NULL, out);
        for (int b = 0; b < 4; b++) {
            const int bits = n - 8 * b;
            assert_int_equal(out[b], bits >= 8 ? 0xff : bits > 0 ? 0xff00 >> bits & 0xff : 0xee);
        }
        free(exact);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_is_what_sentence_transformers_makes),
        cmocka_unit_test(strange_numbers_have_defined_values),
        cmocka_unit_test(last_bytes_are_padded_with_zeros),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
