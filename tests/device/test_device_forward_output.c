/* Rows in every output type from the device: the bits that the host makes of the same vectors. */
#include "support/device_world.h"

#include "kernels/quantize/quantize.h"
#include "model/output_type.h"

static const int32_t types[] = {EMBED_F32, EMBED_F16,    EMBED_I8,
                                EMBED_U8,  EMBED_BINARY, EMBED_UBINARY};
#define TYPES (sizeof types / sizeof *types)

static void types_have_the_bits_of_the_host(void **state) {
    (void)state;
    world w;
    static float floats[TEXTS * MAX_DIM];
    float ranges[2 * MAX_DIM];
    unsigned char got[TEXTS * MAX_DIM * sizeof(float)], want[MAX_DIM * sizeof(float)];
    open_world(&w, tiny_spec_dense(), 30);
    const int32_t cuts[] = {w.model->dim, 13};
    for (size_t c = 0; c < 2; c++) {
        embed_encode_params params = EMBED_ENCODE_PARAMS_INIT;
        embed_context *ctx;
        const int32_t dim = params.dim = cuts[c];
        make_fake(&w, c, 0);
        TEST_OK(on_device(&w, NULL, EMBED_F32, &ctx));
        TEST_OK(embed_encode(ctx, w.texts, TEXTS, &params, floats, TEXTS * (size_t)dim));
        TEST_OK(embed_quantize_ranges(floats, TEXTS, (size_t)dim, ranges));
        for (int32_t i = 0; i < dim; i += 3) /* some vectors beyond the ranges */
            ranges[i] *= 0.5f;
        params.ranges = ranges;
        for (size_t t = 0; t < TYPES; t++) {
            const size_t bytes = emb_output_row_bytes(types[t], dim);
            params.output = types[t];
            TEST_OK(embed_encode(ctx, w.texts, TEXTS, &params, got, TEXTS * (size_t)dim));
            for (size_t i = 0; i < TEXTS; i++) {
                if (types[t] == EMBED_F32)
                    memcpy(want, floats + i * (size_t)dim, bytes);
                else
                    emb_quantize_row(floats + i * (size_t)dim, dim, types[t], ranges, want);
                assert_memory_equal(got + i * bytes, want, bytes);
            }
        }
        embed_context_free(ctx);
        assert_string_equal(emb_fake_fault(w.fake), "");
        drop_fake(&w);
    }
    close_world(&w);
}

/* The experts' statistics stay on the device until somebody asks, and one who was refused may ask
 * again. */
static void statistics_come_when_asked_for(void **state) {
    (void)state;
    world w;
    embed_context *ctx, *cpu;
    float out[TEXTS * MAX_DIM];
    embed_expert_stats got = {.struct_size = sizeof got}, want = {.struct_size = sizeof want};
    tiny_spec spec = tiny_spec_moe();
    spec.layers = 2;
    open_world(&w, spec, 8);
    make_fake(&w, 1, 0);
    cpu = test_context(w.model, 1, BATCH);
    TEST_OK(encode(cpu, &w, TEXTS, out));
    TEST_OK(embed_get_expert_stats(cpu, 0, &want));
    TEST_OK(on_device(&w, NULL, EMBED_F32, &ctx));
    TEST_OK(encode(ctx, &w, TEXTS, out));
    const long copies = emb_fake_calls(w.fake, EMB_FAKE_COPY);
    emb_fake_fail(w.fake, EMB_FAKE_COPY, 1, EMB_DEVICE_FAILED);
    test_fails(embed_get_expert_stats(ctx, 0, &got), EMBED_ERR_DEVICE, "injected");
    for (int i = 0; i < 2; i++) {
        TEST_OK(embed_get_expert_stats(ctx, 0, &got));
        assert_memory_equal(got.expert_tokens, want.expert_tokens,
                            (size_t)want.experts * sizeof *want.expert_tokens);
        assert_true(fabs((double)got.mean_gate - (double)want.mean_gate) < 1e-5);
    }
    assert_int_equal(emb_fake_calls(w.fake, EMB_FAKE_COPY) - copies, 2); /* one failed */
    embed_context_free(cpu);
    embed_context_free(ctx);
    assert_string_equal(emb_fake_fault(w.fake), "");
    drop_fake(&w);
    close_world(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(types_have_the_bits_of_the_host),
        cmocka_unit_test(statistics_come_when_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
