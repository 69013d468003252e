/* Every checkpoint of tests/golden is read, configuration and weights. */
#include "support/test.h"

#include "model/weights.h"

static const struct golden {
    const char *name;
    int32_t arch, dtype, gated, moe_every;
} goldens[] = {
    {"bert", EMB_ARCH_BERT, EMBED_F32, 0, 0},
    {"bert-dense", EMB_ARCH_BERT, EMBED_F32, 0, 0},
    {"bert-modes", EMB_ARCH_BERT, EMBED_F16, 0, 0},
    {"bert-prompt", EMB_ARCH_BERT, EMBED_BF16, 0, 0},
    {"nomic-dense", EMB_ARCH_NOMIC_BERT, EMBED_F32, 0, 0},
    {"nomic-geglu", EMB_ARCH_NOMIC_BERT, EMBED_BF16, 1, 0},
    {"nomic-glu", EMB_ARCH_NOMIC_BERT, EMBED_F16, 1, 0},
    {"nomic-moe", EMB_ARCH_NOMIC_BERT, EMBED_F32, 0, 2},
    {"nomic-moe-odd", EMB_ARCH_NOMIC_BERT, EMBED_BF16, 0, 2},
    {"nomic-moe-ties", EMB_ARCH_NOMIC_BERT, EMBED_F16, 0, 3},
    {"nomic-native", EMB_ARCH_NOMIC_BERT, EMBED_F32, 1, 0},
    {"nomic-swiglu", EMB_ARCH_NOMIC_BERT, EMBED_F32, 1, 0},
    {"xlm-roberta", EMB_ARCH_XLM_ROBERTA, EMBED_F32, 0, 0},
    {"xlm-roberta-cls", EMB_ARCH_XLM_ROBERTA, EMBED_BF16, 0, 0},
};

static void test_all(void **state) {
    (void)state;
    const emb_env env = test_env();
    for (size_t i = 0; i < sizeof goldens / sizeof *goldens; i++) {
        const struct golden *g = &goldens[i];
        char path[128];
        emb_config c;
        emb_weights w;
        (void)snprintf(path, sizeof path, "golden/checkpoints/%s", g->name);
        if (emb_config_read(&c, &env, path) != EMBED_OK)
            fail_msg("%s", emb_fail_message());
        if (emb_weights_open(&w, &env, path, &c) != EMBED_OK)
            fail_msg("%s", emb_fail_message());
        const int32_t got[] = {c.encoder.arch, w.dtype, c.encoder.gated, c.encoder.moe_every};
        const int32_t want[] = {g->arch, g->dtype, g->gated, g->moe_every};
        for (size_t k = 0; k < sizeof got / sizeof *got; k++)
            if (got[k] != want[k])
                fail_msg("%s: [%zu] got %d, want %d", g->name, k, got[k], want[k]);
        emb_weights_close(&w, &env, &c);
        emb_config_clear(&c, &env);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_all)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
