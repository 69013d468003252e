#include "support/everywhere.h"

#include "base/dtype.h"
#include "kernels/row_decode/row_decode.h"

static const int64_t widths[] = {1, 7, 15, 16, 17, 33, 127, 384, 768, 1021};

static double value_of(const unsigned char *x, int64_t i, int32_t dtype, float scale) {
    uint16_t h;
    float f;
    switch (dtype) {
    case EMBED_I8:
        return (double)(scale * (float)(signed char)x[i]);
    case EMBED_F16:
        memcpy(&h, x + 2 * i, 2);
        return (double)emb_f16_to_f32(h);
    case EMBED_BF16:
        memcpy(&h, x + 2 * i, 2);
        return (double)emb_bf16_to_f32(h);
    default:
        memcpy(&f, x + 4 * i, 4);
        return (double)f;
    }
}

/* Finite numbers of the type, at an odd address, in a block of exactly that size. */
static unsigned char *make_row(int64_t n, int32_t dtype, uint64_t *rng, unsigned char **block) {
    const size_t elt = dtype == EMBED_I8 ? 1 : emb_dtype_bytes(dtype);
    *block = malloc((size_t)n * elt + 1);
    unsigned char *x = *block + 1;
    for (int64_t i = 0; i < n; i++) {
        const float f = (float)test_normal(rng);
        const uint16_t h = emb_f32_to_f16(f);
        uint32_t u;
        memcpy(&u, &f, 4);
        if (dtype == EMBED_I8)
            x[i] = (unsigned char)test_rand(rng);
        else if (dtype == EMBED_F32)
            memcpy(x + 4 * i, &u, 4);
        else if (dtype == EMBED_F16)
            memcpy(x + 2 * i, &h, 2);
        else
            memcpy(x + 2 * i, (const char *)&u + 2, 2);
    }
    return x;
}

static void every_isa_widens_to_the_same_bits(void **state) {
    (void)state;
    static const int32_t dtypes[] = {EMBED_F32, EMBED_F16, EMBED_BF16, EMBED_I8};
    const emb_isa *isas[EMB_ISA_MAX];
    const size_t n_isas = emb_isa_list(isas);
    uint64_t rng = 5;
    for (size_t d = 0; d < 4; d++)
        for (size_t w = 0; w < sizeof widths / sizeof widths[0]; w++)
            for (size_t a = 0; a < 2 * n_isas; a++) {
                const emb_isa *isa = isas[a / 2];
                const int64_t n = widths[w];
                unsigned char *block, *x = make_row(n, dtypes[d], &rng, &block);
                float *y = test_guarded((size_t)n);
                const float scale = 0.0123f;
                emb_row_decode(isa, y, x, n, dtypes[d], scale, a % 2);
                emb_row_decode_end(isa);
                test_guards_check("row_decode", y, (size_t)n);
                for (int64_t i = 0; i < n; i++)
                    assert_true((double)y[i] == value_of(x, i, dtypes[d], scale));
                test_guarded_free(y);
                free(block);
            }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_isa_widens_to_the_same_bits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
