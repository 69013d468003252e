/* What a checkpoint may ask for, one thing after the other, on the fake device against the CPU: odd
 * widths, dimensions of heads, rotary variants, activations, experts, poolings, modules, prompts.
 */
#include "support/device_world.h"

#define BOUND 2e-5 /* model/device_forward.h */
#define WORDS 9

typedef struct change {
    const char *what;
    void (*make)(tiny_spec *s, int value);
    int value;
    tiny_spec (*base)(void);
} change;

static void odd_hidden(tiny_spec *s, int hidden) {
    s->hidden = hidden;
    s->heads = 2;
}
static void head_dim(tiny_spec *s, int dim) {
    s->hidden = dim;
    s->heads = 1;
    s->layers = 1;
}
static void inner(tiny_spec *s, int value) {
    s->inner = value;
}
static void partly_rotary(tiny_spec *s, int percent) {
    s->rotary_fraction = percent / 100.0;
    s->rotary_base = 500;
}
static void no_bias(tiny_spec *s, int value) {
    s->no_bias = value;
}
static void activation(tiny_spec *s, int i) {
    static const char *const names[] = {"gelu", "gelu_new", "relu", "silu"};
    s->activation = names[i];
}
static void gate(tiny_spec *s, int i) {
    static const char *const names[] = {"swiglu", "geglu", "glu"};
    s->activation = names[i];
    s->inner = 256;
    s->gated = 1;
}
static void experts(tiny_spec *s, int value) {
    s->layers = 2;
    s->experts = value / 100;
    s->top_k = value % 100;
}
static void renormalized(tiny_spec *s, int value) {
    s->renormalize = value;
}
static void every_layer_of_experts(tiny_spec *s, int value) {
    s->layers = 2;
    s->moe_every = value;
}
static void pooling(tiny_spec *s, int i) {
    static const char *const names[] = {"mean",         "cls",       "max",
                                        "weightedmean", "lasttoken", "mean_sqrt_len"};
    s->pooling = names[i / 10];
    s->pooling2 = i % 10 > 0 ? names[i % 10 - 1] : NULL;
    s->normalize = i % 10 == 0;
}
static void module(tiny_spec *s, int width) {
    s->dense = width;
}
static void prompt(tiny_spec *s, int exclude) {
    s->prompts = "{\"query\": \"w7 w8 w9 \"}";
    s->default_prompt = "query";
    s->exclude_prompt = exclude;
}
static void stored_as(tiny_spec *s, int dtype) {
    s->dtype = dtype;
}

static const change changes[] = {
    {"hidden", odd_hidden, 4, tiny_spec_dense},
    {"hidden", odd_hidden, 20, tiny_spec_dense},
    {"hidden", odd_hidden, 50, tiny_spec_bert},
    {"hidden", odd_hidden, 52, tiny_spec_moe},
    {"dimensions of a head", head_dim, 2, tiny_spec_dense},
    {"dimensions of a head", head_dim, 24, tiny_spec_dense},
    {"dimensions of a head", head_dim, 32, tiny_spec_dense},
    {"dimensions of a head", head_dim, 33, tiny_spec_bert},
    {"dimensions of a head", head_dim, 64, tiny_spec_xlmr},
    {"dimensions of a head", head_dim, 128, tiny_spec_bert},
    {"inner", inner, 1, tiny_spec_bert},
    {"inner", inner, 37, tiny_spec_dense},
    {"inner", inner, 129, tiny_spec_moe},
    {"rotary percent", partly_rotary, 50, tiny_spec_dense},
    {"no biases", no_bias, 1, tiny_spec_dense},
    {"activation", activation, 0, tiny_spec_bert},
    {"activation", activation, 1, tiny_spec_bert},
    {"activation", activation, 2, tiny_spec_bert},
    {"activation", activation, 3, tiny_spec_bert},
    {"gated", gate, 0, tiny_spec_gated},
    {"gated", gate, 1, tiny_spec_gated},
    {"gated", gate, 2, tiny_spec_gated},
    {"experts and top k", experts, 101, tiny_spec_moe},
    {"experts and top k", experts, 201, tiny_spec_moe},
    {"experts and top k", experts, 303, tiny_spec_moe},
    {"experts and top k", experts, 804, tiny_spec_moe},
    {"experts and top k", experts, 6402, tiny_spec_moe},
    {"renormalized gates", renormalized, 1, tiny_spec_moe},
    {"experts in every layer", every_layer_of_experts, 1, tiny_spec_moe},
    {"pooling", pooling, 0, tiny_spec_xlmr},
    {"pooling", pooling, 10, tiny_spec_moe},
    {"pooling", pooling, 20, tiny_spec_dense},
    {"pooling", pooling, 30, tiny_spec_bert},
    {"pooling", pooling, 40, tiny_spec_moe},
    {"pooling", pooling, 50, tiny_spec_xlmr},
    {"pooling", pooling, 24, tiny_spec_bert},
    {"pooling", pooling, 15, tiny_spec_gated},
    {"dense module", module, 17, tiny_spec_dense},
    {"dense module", module, 64, tiny_spec_moe},
    {"prompt", prompt, 0, tiny_spec_dense},
    {"prompt left out", prompt, 1, tiny_spec_moe},
    {"weights", stored_as, EMBED_F16, tiny_spec_moe},
    {"weights", stored_as, EMBED_BF16, tiny_spec_gated}};

static embed_status encode_with(embed_context *ctx, const world *w, float *out) {
    embed_encode_params p = EMBED_ENCODE_PARAMS_INIT;
    p.flags = EMBED_NORMALIZE;
    return embed_encode(ctx, w->texts, TEXTS, &p, out, TEXTS * 2 * MAX_DIM);
}

static void check_one(const change *c, uint64_t seed) {
    static float want[TEXTS * 2 * MAX_DIM], got[TEXTS * 2 * MAX_DIM];
    world w;
    embed_context *device;
    tiny_spec spec = c->base();
    c->make(&spec, c->value);
    open_world(&w, spec, WORDS);
    assert_true(w.model->dim <= 2 * MAX_DIM);
    embed_context *cpu = test_context(w.model, 1, BATCH);
    make_fake(&w, seed, 0);
    TEST_OK(encode_with(cpu, &w, want));
    if (on_device(&w, NULL, EMBED_F32, &device) != EMBED_OK)
        fail_msg("%s %d: %s", c->what, c->value, embed_last_error());
    if (encode_with(device, &w, got) != EMBED_OK)
        fail_msg("%s %d: %s", c->what, c->value, embed_last_error());
    double worst = 0;
    for (size_t i = 0; i < TEXTS * (size_t)w.model->dim; i++)
        worst = fmax(worst, isnan(got[i]) ? INFINITY : fabs((double)got[i] - (double)want[i]));
    if (!(worst <= BOUND))
        fail_msg("%s %d: expected a difference of at most %g, found %g", c->what, c->value, BOUND,
                 worst);
    assert_string_equal(emb_fake_fault(w.fake), "");
    embed_context_free(device);
    embed_context_free(cpu);
    drop_fake(&w);
    close_world(&w);
}

static void everything_a_checkpoint_may_ask_for(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++)
        check_one(&changes[i], i);
}

/* And what the kernels cannot do is refused before anything runs there. */
static void too_much(void **state) {
    (void)state;
    static const struct {
        void (*make)(tiny_spec *s, int value);
        int value;
        const char *text;
    } cases[] = {
        {head_dim, 264, "dimensions of a head: expected at most 256 on a device, found 264"},
        {experts, 25701, "experts: expected at most 256 on a device, found 257"},
        {experts, 1817, "experts of a token: expected at most 16 on a device, found 17"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        world w;
        embed_context *ctx;
        tiny_spec spec = tiny_spec_moe();
        spec.inner = 8;
        cases[i].make(&spec, cases[i].value);
        open_world(&w, spec, 4);
        make_fake(&w, 0, 0);
        test_fails(on_device(&w, NULL, EMBED_F32, &ctx), EMBED_ERR_UNSUPPORTED, cases[i].text);
        assert_int_equal(emb_fake_live(w.fake), 0);
        drop_fake(&w);
        close_world(&w);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(too_much),
                                       cmocka_unit_test(everything_a_checkpoint_may_ask_for)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
