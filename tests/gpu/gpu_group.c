/* gpu_group: one model on all GPUs of this machine: the bits of one GPU, with the whole model on
 * each of them and with its experts spread. Skipped where there is only one. */
#include "gpu/gpu_world.h"

#include "model/model.h"

enum { TEXTS = 40, BATCH = 64, EMULATED = 3 };

static int32_t devices(void) {
    int32_t entries, usable = 0;
    if (gpu_kind == EMBED_DEVICE_EMULATED)
        return EMULATED;
    TEST_OK(embed_device_count(&entries));
    for (int32_t i = 1; i < entries; i++) {
        embed_device d = {.struct_size = sizeof d};
        TEST_OK(embed_device_info(i, &d));
        usable += d.usable;
    }
    return usable;
}

static embed_context *on_all(const gpu_world *w, int32_t dtype, int32_t placement) {
    static const int32_t emulated[EMULATED] = {0, 1, 2};
    embed_context_params p = EMBED_CONTEXT_PARAMS_INIT;
    embed_context *ctx;
    p.threads = 2;
    p.batch_tokens = BATCH;
    p.device = gpu_kind;
    p.device_dtype = dtype;
    p.placement = placement;
    p.n_devices = EMBED_ALL_DEVICES;
    if (gpu_kind == EMBED_DEVICE_EMULATED) {
        p.devices = emulated;
        p.n_devices = EMULATED;
    }
    TEST_OK(embed_context_create(&ctx, w->model, &p));
    return ctx;
}

static void same_experts(const gpu_world *w, const embed_context *all, const embed_context *one) {
    for (int32_t i = 0; i < w->model->moe_layers; i++) {
        embed_expert_stats a = {.struct_size = sizeof a}, b = {.struct_size = sizeof b};
        TEST_OK(embed_get_expert_stats(all, i, &a));
        TEST_OK(embed_get_expert_stats(one, i, &b));
        assert_true(b.tokens > 0);
        assert_memory_equal(a.expert_tokens, b.expert_tokens,
                            (size_t)b.experts * sizeof *b.expert_tokens);
    }
}

static void compare(tiny_spec spec, int32_t placement, int32_t first_dtype) {
    const size_t texts = gpu_kind == EMBED_DEVICE_EMULATED ? 8 : TEXTS;
    gpu_world w;
    if (devices() < 2)
        skip();
    if (gpu_kind == EMBED_DEVICE_EMULATED)
        spec.layers = 2;
    gpu_world_open(&w, spec, texts, 12);
    for (int32_t dtype = first_dtype; dtype <= EMBED_BF16; dtype += EMBED_BF16 - EMBED_F32) {
        embed_context *one = gpu_context(&w, dtype, NULL, BATCH),
                      *all = on_all(&w, dtype, placement);
        float *want = gpu_encode(&w, one, texts);
        for (int i = 0; i < 3; i++) { /* launched, captured and replayed */
            float *got = gpu_encode(&w, all, texts);
            assert_memory_equal(got, want, texts * w.dim * sizeof *got);
            free(got);
        }
        same_experts(&w, all, one);
        free(want);
        embed_context_free(all);
        embed_context_free(one);
    }
    gpu_world_close(&w);
}

static void replicated(void **state) {
    (void)state;
    compare(tiny_spec_moe(), EMBED_PLACE_REPLICATED, EMBED_F32);
    compare(tiny_spec_bert(), EMBED_PLACE_REPLICATED, EMBED_BF16);
}

static void spread_experts(void **state) {
    (void)state;
    compare(tiny_spec_moe(), EMBED_PLACE_EXPERTS, EMBED_F32);
}

/* Two layers as wide as real ones. */
static void true_widths(void **state) {
    tiny_spec spec = tiny_spec_moe();
    (void)state;
    if (gpu_kind == EMBED_DEVICE_EMULATED) /* it would take hours */
        skip();
    spec.hidden = 768;
    spec.heads = 12;
    spec.inner = 3072;
    spec.layers = 2;
    spec.experts = 8;
    compare(spec, EMBED_PLACE_REPLICATED, EMBED_F32);
    compare(spec, EMBED_PLACE_EXPERTS, EMBED_F32);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(replicated),
                                       cmocka_unit_test(spread_experts),
                                       cmocka_unit_test(true_widths)};
    const char *what;
    if (!gpu_arguments(argc, argv, &what) || what != NULL)
        return 2;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
