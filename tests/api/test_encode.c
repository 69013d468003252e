/* Vectors of the public interface against the double-precision reference: every architecture,
 * pooling, dense modules, Matryoshka, normalisation, prompts, ready-made ids, hidden states. */
#include "support/handles.h"
#include "support/reference.h"

#define TOLERANCE 3e-6
#define MAX_IDS 400
#define MAX_DIM 256

/* The vector of one text must be `want` to within rounding. */
static void check_vector(const char *what, size_t i, const float *got, const double *want,
                         size_t dim) {
    const double err = test_rel_l2(got, want, dim);
    if (!(err <= TOLERANCE))
        fail_msg("%s: text %zu: relative error %.3g", what, i, err);
}

static void run(const char *what, tiny_spec spec, const embed_encode_params *params) {
    enum { TEXTS = 12 };
    tiny_model m;
    static int32_t ids[MAX_IDS];
    static double want[MAX_DIM];
    static float out[TEXTS * MAX_DIM];
    size_t len;
    tiny_model_make(&m, &spec);
    embed_model *model = test_open(m.dir);
    embed_context *ctx = test_context(model, 2, 0);
    embed_text *texts = test_texts(&m, 99, TEXTS, 30);
    TEST_OK(embed_output_len(model, params, TEXTS, &len));
    const size_t dim = len / TEXTS;
    assert_in_range(len, 1, sizeof out / sizeof out[0]);
    TEST_OK(embed_encode(ctx, texts, TEXTS, params, out, len));
    const int plain = params != NULL && (params->flags & EMBED_NO_NORMALIZE);
    const int forced = params != NULL && (params->flags & EMBED_NORMALIZE);
    for (size_t i = 0; i < TEXTS; i++) {
        const size_t n = test_ids(model, texts[i], ids, MAX_IDS);
        assert_int_equal(
            reference_vector(&m, ids, n, 0, dim, forced || (spec.normalize && !plain), want), dim);
        check_vector(what, i, out + i * dim, want, dim);
    }
    test_texts_free(texts, TEXTS);
    embed_context_free(ctx);
    embed_model_free(model);
    tiny_model_remove(&m);
}

static void architectures(void **state) {
    (void)state;
    run("moe", tiny_spec_moe(), NULL);
    run("dense", tiny_spec_dense(), NULL);
    run("gated", tiny_spec_gated(), NULL);
    run("bert", tiny_spec_bert(), NULL);
    run("xlm-roberta", tiny_spec_xlmr(), NULL);
}

static void pooling_modes(void **state) {
    (void)state;
    const char *const modes[] = {"cls",           "max",          "mean",
                                 "mean_sqrt_len", "weightedmean", "lasttoken"};
    for (int i = 0; i < 6; i++) {
        tiny_spec s = tiny_spec_bert();
        s.pooling = modes[i];
        run(modes[i], s, NULL);
        s.pooling2 = i < 5 ? modes[i + 1] : NULL;
        s.normalize = 0;
        run("two modes", s, NULL);
    }
}

static void dense_module(void **state) {
    (void)state;
    tiny_spec s = tiny_spec_bert();
    s.dense = 72;
    run("dense module", s, NULL);
    s.pooling2 = "lasttoken";
    s.dense = 20;
    s.normalize = 0;
    run("two modes, dense module", s, NULL);
}

static void width_and_normalisation(void **state) {
    (void)state;
    embed_encode_params p = EMBED_ENCODE_PARAMS_INIT;
    p.dim = 13;
    run("matryoshka", tiny_spec_dense(), &p);
    p.flags = EMBED_NO_NORMALIZE;
    run("matryoshka, plain", tiny_spec_dense(), &p);
    p.dim = 0;
    run("plain", tiny_spec_dense(), &p);
    tiny_spec s = tiny_spec_dense();
    s.normalize = 0;
    run("not normalised", s, NULL);
    p.flags = EMBED_NORMALIZE;
    run("normalised on request", s, &p);
}

/* A pad token inside a text keeps the pad position and does not count (transformers
 * XLMRobertaEmbeddings). */
static void pad_inside_text(void **state) {
    (void)state;
    tiny_model m;
    const tiny_spec s = tiny_spec_xlmr();
    int32_t ids[8];
    static double want[MAX_DIM];
    static float out[MAX_DIM];
    tiny_model_make(&m, &s);
    embed_model *model = test_open(m.dir);
    embed_context *ctx = test_context(model, 1, 0);
    const embed_text text = test_text("w1 [PAD] w2");
    const size_t n = test_ids(model, text, ids, 8);
    assert_int_equal(n, 5);
    assert_int_equal(ids[2], TINY_PAD);
    TEST_OK(embed_encode(ctx, &text, 1, NULL, out, MAX_DIM));
    reference_vector(&m, ids, n, 0, 0, 1, want);
    check_vector("pad inside", 0, out, want, (size_t)s.hidden);
    embed_context_free(ctx);
    embed_model_free(model);
    tiny_model_remove(&m);
}

/* ids of "w<number>" between the special tokens */
static void ready_made_ids(void **state) {
    (void)state;
    tiny_model m;
    const tiny_spec s = tiny_spec_moe();
    const int32_t a[] = {TINY_CLS, TINY_FIRST_WORD + 5, TINY_FIRST_WORD + 17, TINY_SEP};
    const int32_t b[] = {TINY_FIRST_WORD};
    const embed_ids rows[] = {{a, 4}, {b, 1}};
    static double want[MAX_DIM];
    static float out[2 * MAX_DIM], text_out[MAX_DIM];
    tiny_model_make(&m, &s);
    embed_model *model = test_open(m.dir);
    embed_context *ctx = test_context(model, 1, 0);
    TEST_OK(embed_encode_ids(ctx, rows, 2, NULL, out, 2 * MAX_DIM));
    for (size_t i = 0; i < 2; i++) {
        reference_vector(&m, rows[i].ptr, rows[i].len, 0, 0, 1, want);
        check_vector("ids", i, out + i * (size_t)s.hidden, want, (size_t)s.hidden);
    }
    const embed_text text = test_text("w5 w17");
    TEST_OK(embed_encode(ctx, &text, 1, NULL, text_out, MAX_DIM));
    assert_memory_equal(text_out, out, (size_t)s.hidden * sizeof *out);
    embed_context_free(ctx);
    embed_model_free(model);
    tiny_model_remove(&m);
}

static void hidden_states_per_token(void **state) {
    (void)state;
    tiny_model m;
    const tiny_spec s = tiny_spec_moe();
    const size_t d = (size_t)s.hidden;
    size_t n, counted;
    int32_t ids[16];
    float out[16 * 48];
    tiny_model_make(&m, &s);
    embed_model *model = test_open(m.dir);
    embed_context *ctx = test_context(model, 1, 0);
    const embed_text text = test_text("w3 w1 w4 w1 w5 w9 w2 w6");
    embed_encode_params p = EMBED_ENCODE_PARAMS_INIT;
    TEST_OK(embed_encode_tokens(ctx, text, NULL, NULL, 0, NULL, &counted));
    assert_int_equal(counted, 10);
    test_fails(embed_encode_tokens(ctx, text, NULL, out, 10 * d - 1, ids, &n), EMBED_ERR_CAPACITY,
               "480");
    assert_int_equal(n, 10);
    p.role = EMBED_ROLE_QUERY; /* "w1 w2: " before the text */
    TEST_OK(embed_encode_tokens(ctx, text, &p, out, 16 * d, ids, &n));
    assert_int_equal(n, 13);
    assert_int_equal(ids[1], TINY_FIRST_WORD + 1);
    double *want = reference_states(&m, ids, n);
    check_vector("states", 0, out, want + (size_t)s.layers * n * d, n * d);
    free(want);
    embed_context_free(ctx);
    embed_model_free(model);
    tiny_model_remove(&m);
}

/* include_prompt = false: [CLS] and the prompt's tokens are left out of the mean. */
static void prompt_left_out_of_pooling(void **state) {
    (void)state;
    tiny_model m;
    tiny_spec s = tiny_spec_bert();
    s.exclude_prompt = 1;
    s.prompts = "{\"query\": \"w7 w8 \"}";
    static int32_t ids[MAX_IDS];
    static double want[MAX_DIM];
    static float out[MAX_DIM];
    tiny_model_make(&m, &s);
    embed_model *model = test_open(m.dir);
    embed_context *ctx = test_context(model, 1, 0);
    const embed_text text = test_text("w3 w1 w4");
    embed_encode_params p = EMBED_ENCODE_PARAMS_INIT;
    p.role = EMBED_ROLE_QUERY;
    TEST_OK(embed_encode(ctx, &text, 1, &p, out, MAX_DIM));
    const size_t n = test_ids(model, test_text("w7 w8 w3 w1 w4"), ids, MAX_IDS);
    reference_vector(&m, ids, n, 3, 0, 1, want);
    check_vector("prompt left out", 0, out, want, (size_t)s.hidden);
    TEST_OK(embed_encode(ctx, &text, 1, NULL, out, MAX_DIM)); /* no prompt: nothing left out */
    reference_vector(&m, ids, test_ids(model, text, ids, MAX_IDS), 0, 0, 1, want);
    check_vector("without prompt", 0, out, want, (size_t)s.hidden);
    p.max_tokens = 3; /* [CLS] w7 [SEP]: the prompt's three tokens leave nothing */
    test_fails(embed_encode(ctx, &text, 1, &p, out, MAX_DIM), EMBED_ERR_ARG, "text 0: the prompt");
    embed_context_free(ctx);
    embed_model_free(model);
    tiny_model_remove(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(architectures),
        cmocka_unit_test(pooling_modes),
        cmocka_unit_test(dense_module),
        cmocka_unit_test(width_and_normalisation),
        cmocka_unit_test(pad_inside_text),
        cmocka_unit_test(ready_made_ids),
        cmocka_unit_test(hidden_states_per_token),
        cmocka_unit_test(prompt_left_out_of_pooling),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
