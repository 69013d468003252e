/* Output types: an encode call gives what embed_quantize makes of its floats, and embed_quantize
 * what sentence-transformers' quantize_embeddings would. */
#include "support/handles.h"

#include "base/dtype.h"

#define TEXTS 9
#define DIM 48

static void types_agree(void **state) {
    (void)state;
    const int types[] = {EMBED_F16, EMBED_I8, EMBED_U8, EMBED_BINARY, EMBED_UBINARY};
    const size_t widths[] = {DIM, 13};
    const tiny_spec s = tiny_spec_dense();
    tiny_model m;
    static float plain[TEXTS * DIM], ranges[2 * DIM];
    static unsigned char direct[TEXTS * DIM * 4], converted[TEXTS * DIM * 4];
    tiny_model_make(&m, &s);
    embed_model *model = test_open(m.dir);
    embed_context *ctx = test_context(model, 2, 64);
    embed_text *texts = test_texts(&m, 3, TEXTS, 20);
    for (int w = 0; w < 2; w++)
        for (int i = 0; i < 5; i++) {
            embed_encode_params p = EMBED_ENCODE_PARAMS_INIT;
            size_t len;
            p.dim = (int32_t)widths[w];
            TEST_OK(embed_encode(ctx, texts, TEXTS, &p, plain, TEXTS * DIM));
            TEST_OK(embed_quantize_ranges(plain, TEXTS - 1, widths[w], ranges)); /* last: outside */
            p.output = types[i];
            p.ranges = ranges;
            TEST_OK(embed_output_len(model, &p, TEXTS, &len));
            assert_int_equal(len,
                             TEXTS * (types[i] >= EMBED_BINARY ? (widths[w] + 7) / 8 : widths[w]));
            memset(direct, 0x55, sizeof direct);
            memset(converted, 0x55, sizeof converted);
            test_fails(embed_encode(ctx, texts, TEXTS, &p, direct, len - 1), EMBED_ERR_CAPACITY,
                       "out");
            TEST_OK(embed_encode(ctx, texts, TEXTS, &p, direct, len));
            TEST_OK(embed_quantize(plain, TEXTS, widths[w], types[i], ranges, converted, len));
            assert_memory_equal(direct, converted, sizeof direct);
        }
    test_texts_free(texts, TEXTS);
    embed_context_free(ctx);
    embed_model_free(model);
    tiny_model_remove(&m);
}

/* The formulas of embed.h on numbers that can be followed by hand. */
static void formulas(void **state) {
    (void)state;
    const float v[] = {-1, 0.5f, 0, 2, 1, -0.25f, 3, -4, 1e-9f, 7,
                       2,  1.5f, 1, 6, 2, 0.75f,  4, -2, -1,    7};
    float ranges[20];
    int8_t i8[20];
    uint8_t u8[20], bits[4];
    int8_t binary[4];
    uint16_t half[20];
    TEST_OK(embed_quantize_ranges(v, 2, 10, ranges));
    for (int i = 0; i < 10; i++) {
        assert_true(ranges[i] == fminf(v[i], v[i + 10]));
        assert_true(ranges[i + 10] == fmaxf(v[i], v[i + 10]));
    }
    /* steps of 1, 1/2, none (so 1), 1 */
    const float least[] = {-1, 0.5f, 0, 1}, greatest[] = {254, 128, 255, 1};
    const uint8_t want[2][4] = {{0, 0, 0, 1}, {3, 2, 1, 5}};
    memcpy(ranges, least, sizeof least);
    memcpy(ranges + 10, greatest, sizeof greatest);
    ranges[7] = -3; /* -4 lies below */
    ranges[17] = 252;
    ranges[9] = 0; /* 7 lies above */
    ranges[19] = 2.55f;
    TEST_OK(embed_quantize(v, 2, 10, EMBED_U8, ranges, u8, 20));
    TEST_OK(embed_quantize(v, 2, 10, EMBED_I8, ranges, i8, 20));
    for (int i = 0; i < 4; i++) {
        assert_int_equal(u8[i], want[0][i]);
        assert_int_equal(u8[10 + i], want[1][i]);
    }
    assert_int_equal(u8[7], 0);
    assert_int_equal(u8[17], 1);
    assert_int_equal(u8[9], 255);
    for (int i = 0; i < 20; i++)
        assert_int_equal(i8[i], u8[i] - 128);
    TEST_OK(embed_quantize(v, 2, 10, EMBED_UBINARY, NULL, bits, 4));
    TEST_OK(embed_quantize(v, 2, 10, EMBED_BINARY, NULL, binary, 4));
    assert_int_equal(bits[0], 0x5a); /* -1 .5 0 2 1 -.25 3 -4 */
    assert_int_equal(bits[1], 0xc0); /* 1e-9 7 */
    assert_int_equal(bits[2], 0xfe); /* 2 1.5 1 6 2 .75 4 -2 */
    assert_int_equal(bits[3], 0x40);
    for (int i = 0; i < 4; i++)
        assert_int_equal(binary[i], bits[i] - 128);
    TEST_OK(embed_quantize(v, 2, 10, EMBED_F16, NULL, half, 20));
    for (int i = 0; i < 20; i++)
        assert_int_equal(half[i], emb_f32_to_f16(v[i]));
}

static void bad_arguments(void **state) {
    (void)state;
    const float v[] = {1, 2};
    float ranges[4] = {0};
    uint8_t out[8];
    test_fails(embed_quantize(NULL, 1, 2, EMBED_U8, ranges, out, 8), EMBED_ERR_ARG, "vectors");
    test_fails(embed_quantize(v, 1, 2, EMBED_U8, NULL, out, 8), EMBED_ERR_ARG, "ranges");
    test_fails(embed_quantize(v, 1, 2, EMBED_BINARY, NULL, NULL, 8), EMBED_ERR_ARG, "out");
    test_fails(embed_quantize(v, 1, 2, EMBED_BF16, NULL, out, 8), EMBED_ERR_ARG, "output");
    test_fails(embed_quantize(v, 1, 2, 77, NULL, out, 8), EMBED_ERR_ARG, "77");
    test_fails(embed_quantize(v, 1, 0, EMBED_BINARY, NULL, out, 8), EMBED_ERR_ARG, "dim");
    test_fails(embed_quantize(v, 1, 2, EMBED_BINARY, NULL, out, 0), EMBED_ERR_CAPACITY, "out");
    test_fails(embed_quantize(v, SIZE_MAX, 2, EMBED_F16, NULL, out, 8), EMBED_ERR_ARG, "n:");
    test_fails(embed_quantize_ranges(NULL, 1, 2, ranges), EMBED_ERR_ARG, "vectors");
    test_fails(embed_quantize_ranges(v, 1, 2, NULL), EMBED_ERR_ARG, "ranges");
    test_fails(embed_quantize_ranges(v, 0, 2, ranges), EMBED_ERR_ARG, "n:");
    TEST_OK(embed_quantize(NULL, 0, 2, EMBED_BINARY, NULL, NULL, 0));
}

static void dot_and_cosine(void **state) {
    (void)state;
    float a[101] = {0}, b[101] = {0};
    uint64_t seed = 4;
    for (size_t n = 0; n <= 101; n++) {
        double dot = 0, aa = 0, bb = 0;
        for (size_t i = 0; i < n; i++) {
            a[i] = (float)test_normal(&seed);
            b[i] = (float)test_normal(&seed);
            dot += (double)a[i] * (double)b[i];
            aa += (double)a[i] * (double)a[i];
            bb += (double)b[i] * (double)b[i];
        }
        const double cosine = n > 0 ? dot / sqrt(aa * bb) : 0;
        assert_true(fabs(embed_dot(a, b, n) - dot) <= 1e-12 * (1 + sqrt(aa * bb)));
        assert_true(fabs(embed_cosine(a, b, n) - cosine) <= 1e-12);
    }
    memset(b, 0, sizeof b);
    assert_true(embed_cosine(a, b, 101) == 0);
    assert_true(embed_dot(NULL, b, 101) == 0);
    assert_true(embed_cosine(a, NULL, 101) == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(types_agree),
        cmocka_unit_test(formulas),
        cmocka_unit_test(bad_arguments),
        cmocka_unit_test(dot_and_cosine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
