/* Hidden states after the lookup and after every layer against the double-precision reference, for
 * every architecture, in one batch with other texts. */
#include "support/handles.h"
#include "support/reference.h"

#include "model/context.h"

#define TOLERANCE 3e-6 /* relative L2 error of one text's states */
#define TEXTS 3

static const int lengths[TEXTS] = {37, 1, 120};

static void check_texts(const char *what, const tiny_model *m, emb_forward *f, emb_batch *b,
                        int layer) {
    const size_t d = (size_t)m->spec.hidden;
    for (int i = 0; i < TEXTS; i++) {
        const size_t n = (size_t)lengths[i];
        double *states = reference_states(m, b->ids + b->offsets[i], n);
        const float *got = emb_forward_states(f) + (size_t)b->offsets[i] * d;
        const double err = test_rel_l2(got, states + (size_t)(layer + 1) * n * d, n * d);
        if (!(err <= TOLERANCE))
            fail_msg("%s: text of %zu tokens, after layer %d: error %.3g", what, n, layer, err);
        free(states);
    }
}

static void run(const char *what, tiny_spec spec) {
    tiny_model m;
    uint64_t seed = spec.seed + 1;
    tiny_model_make(&m, &spec);
    embed_model *model = test_open(m.dir);
    embed_context *ctx = test_context(model, 2, 512);
    emb_forward *f = &ctx->forward;
    emb_batch b = emb_stage_batch(ctx->stage);
    for (int i = 0; i < TEXTS; i++) {
        b.offsets[b.texts++] = (int32_t)b.tokens;
        for (int t = 0; t < lengths[i]; t++, b.tokens++) {
            b.ids[b.tokens] = (int32_t)(2 + test_rand(&seed) % (uint64_t)(m.vocab - 2));
            b.positions[b.tokens] = t + (spec.arch == TINY_XLMR ? TINY_PAD + 1 : 0);
        }
        const double gap = reference_router_gap(&m, b.ids + b.offsets[i], (size_t)lengths[i]);
        if (!(gap > 1e-6)) /* pick another seed: the comparison needs one clear decision */
            fail_msg("%s: router gap %.3g", what, gap);
    }
    b.offsets[b.texts] = (int32_t)b.tokens;
    TEST_OK(emb_forward_lookup(f, &b));
    check_texts(what, &m, f, &b, -1);
    for (int i = 0; i < spec.layers; i++) {
        TEST_OK(emb_forward_layer(f, &b, i));
        check_texts(what, &m, f, &b, i);
    }
    embed_context_free(ctx);
    embed_model_free(model);
    tiny_model_remove(&m);
}

static void nomic_moe(void **state) {
    (void)state;
    run("moe", tiny_spec_moe());
}

static void nomic_moe_renormalized_top_3(void **state) {
    (void)state;
    tiny_spec s = tiny_spec_moe();
    s.renormalize = 1;
    s.top_k = 3;
    s.experts = 7;
    run("moe, renormalised", s);
}

static void nomic_dense(void **state) {
    (void)state;
    run("dense", tiny_spec_dense());
}

static void nomic_gated(void **state) {
    (void)state;
    const char *const activations[] = {"swiglu", "geglu", "glu"};
    for (int i = 0; i < 3; i++) {
        tiny_spec s = tiny_spec_gated();
        s.activation = activations[i];
        s.no_bias = i != 1;
        run(activations[i], s);
    }
}

static void bert(void **state) {
    (void)state;
    run("bert", tiny_spec_bert());
}

static void xlm_roberta(void **state) {
    (void)state;
    run("xlm-roberta", tiny_spec_xlmr());
}

static void half_precision_weights(void **state) {
    (void)state;
    for (int dtype = EMBED_F16; dtype <= EMBED_BF16; dtype++) {
        tiny_spec s = tiny_spec_moe(), t = tiny_spec_bert();
        s.dtype = t.dtype = dtype;
        run(dtype == EMBED_F16 ? "moe f16" : "moe bf16", s);
        run(dtype == EMBED_F16 ? "bert f16" : "bert bf16", t);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nomic_moe),
        cmocka_unit_test(nomic_moe_renormalized_top_3),
        cmocka_unit_test(nomic_dense),
        cmocka_unit_test(nomic_gated),
        cmocka_unit_test(bert),
        cmocka_unit_test(xlm_roberta),
        cmocka_unit_test(half_precision_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
