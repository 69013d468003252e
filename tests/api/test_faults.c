/* Every public call with its n-th allocation refused, n = 1, 2 ... until it succeeds: the right
 * status, nothing leaked, the handles usable afterwards; and a steady state without allocations. */
#include "support/handles.h"

#define DIM 48
#define MAX_ALLOCATIONS 5000 /* a call that needs more is looping */

static tiny_model tiny;

static int set_up(void **state) {
    (void)state;
    tiny_spec s = tiny_spec_moe();
    s.dense = 48;
    tiny_model_make(&tiny, &s);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    tiny_model_remove(&tiny);
    return 0;
}

static embed_status open_with(embed_model **model, test_allocator *a) {
    embed_model_params p = EMBED_MODEL_PARAMS_INIT;
    p.allocator = &a->allocator;
    return embed_model_open(model, tiny.dir, &p);
}

static void opening(void **state) {
    (void)state;
    for (long n = 1;; n++) {
        test_allocator a;
        embed_model *model = (embed_model *)1;
        assert_true(n < MAX_ALLOCATIONS);
        test_allocator_init(&a, n);
        const embed_status st = open_with(&model, &a);
        if (!a.failed) {
            TEST_OK(st);
            print_message("%ld allocations to open\n", a.calls);
            embed_model_free(model);
            assert_int_equal(a.live, 0);
            return;
        }
        test_fails(st, EMBED_ERR_NOMEM, "EMBED_ERR_NOMEM: ");
        assert_null(model);
        assert_int_equal(a.live, 0);
    }
}

/* Arms the allocator of a live model: its next n-th allocation fails. */
static void arm(test_allocator *a, long n) {
    a->failed = 0;
    a->fail_at = n > 0 ? a->calls + n : 0;
}

static void creating_a_context(void **state) {
    (void)state;
    test_allocator a;
    embed_model *model;
    test_allocator_init(&a, 0);
    TEST_OK(open_with(&model, &a));
    const long open = a.live;
    for (long n = 1;; n++) {
        const embed_context_params p = {.struct_size = sizeof p, .threads = 3, .batch_tokens = 64};
        embed_context *ctx = (embed_context *)1;
        assert_true(n < MAX_ALLOCATIONS);
        arm(&a, n);
        const embed_status st = embed_context_create(&ctx, model, &p);
        if (!a.failed) {
            TEST_OK(st);
            embed_context_free(ctx);
            assert_int_equal(a.live, open);
            break;
        }
        test_fails(st, EMBED_ERR_NOMEM, "EMBED_ERR_NOMEM: ");
        assert_null(ctx);
        assert_int_equal(a.live, open);
    }
    arm(&a, 0);
    embed_model_free(model);
    assert_int_equal(a.live, 0);
}

/* One public call on fresh handles. */
typedef embed_status (*call_fn)(embed_model *model, embed_context *ctx);

static char long_text[4096];

static embed_status call_encode(embed_model *model, embed_context *ctx) {
    (void)model;
    const embed_text texts[] = {{"w1", 2}, {long_text, strlen(long_text)}, {"unknown", 7}};
    float out[3 * DIM];
    embed_encode_params p = EMBED_ENCODE_PARAMS_INIT;
    p.role = EMBED_ROLE_QUERY;
    return embed_encode(ctx, texts, 3, &p, out, 3 * DIM);
}

static embed_status call_encode_ids(embed_model *model, embed_context *ctx) {
    (void)model;
    int32_t ids[200];
    for (int i = 0; i < 200; i++)
        ids[i] = i;
    const embed_ids row = {ids, 200}; /* longer than batch_tokens: the context grows */
    float out[DIM];
    return embed_encode_ids(ctx, &row, 1, NULL, out, DIM);
}

static embed_status call_encode_tokens(embed_model *model, embed_context *ctx) {
    (void)model;
    static float out[300 * DIM];
    const embed_text text = {long_text, strlen(long_text)};
    size_t n;
    return embed_encode_tokens(ctx, text, NULL, out, 300 * DIM, NULL, &n);
}

static embed_status call_tokenize(embed_model *model, embed_context *ctx) {
    (void)ctx;
    const embed_text text = {long_text, strlen(long_text)};
    size_t n;
    return embed_tokenize(model, text, NULL, NULL, 0, &n);
}

static embed_status call_plan(embed_model *model, embed_context *ctx) {
    (void)ctx;
    uint64_t bytes;
    return embed_plan_bytes(model, NULL, &bytes);
}

static embed_status call_output_len(embed_model *model, embed_context *ctx) {
    (void)ctx;
    size_t n;
    return embed_output_len(model, NULL, 5, &n);
}

static embed_status call_facts(embed_model *model, embed_context *ctx) {
    embed_model_info info = {.struct_size = sizeof info};
    embed_expert_stats stats = {.struct_size = sizeof stats};
    char print[33];
    const char *name;
    embed_text prompt;
    embed_status st = embed_model_get_info(model, &info);
    if (st == EMBED_OK)
        st = embed_model_fingerprint(model, print);
    if (st == EMBED_OK)
        st = embed_model_prompt(model, 0, &name, &prompt);
    if (st == EMBED_OK)
        st = embed_get_expert_stats(ctx, 0, &stats);
    return st;
}

static embed_status call_quantize(embed_model *model, embed_context *ctx) {
    (void)model;
    (void)ctx;
    const float v[] = {1, 2, 3, 4};
    float ranges[4];
    uint8_t out[4];
    const embed_status st = embed_quantize_ranges(v, 2, 2, ranges);
    return st != EMBED_OK ? st : embed_quantize(v, 2, 2, EMBED_U8, ranges, out, 4);
}

static void check_call(const char *name, call_fn call) {
    for (long n = 1;; n++) {
        test_allocator a;
        embed_model *model;
        embed_context *ctx;
        const embed_context_params p = {.struct_size = sizeof p, .threads = 2, .batch_tokens = 64};
        assert_true(n < MAX_ALLOCATIONS);
        test_allocator_init(&a, 0);
        TEST_OK(open_with(&model, &a));
        TEST_OK(embed_context_create(&ctx, model, &p));
        const long before = a.calls;
        arm(&a, n);
        const embed_status st = call(model, ctx);
        if (a.failed)
            test_fails(st, EMBED_ERR_NOMEM, "EMBED_ERR_NOMEM: ");
        else {
            TEST_OK(st);
            print_message("%s: %ld allocations in the first call\n", name, a.calls - before);
        }
        const int failed = a.failed;
        arm(&a, 0);
        TEST_OK(call(model, ctx)); /* usable all the same */
        embed_model_free(model);   /* the context keeps it */
        TEST_OK(call_encode(NULL, ctx));
        embed_context_free(ctx);
        assert_int_equal(a.live, 0);
        if (!failed)
            return;
    }
}

static void calls(void **state) {
    (void)state;
    uint64_t seed = 1;
    tiny_words(&tiny, &seed, 220, long_text, sizeof long_text);
    check_call("encode", call_encode);
    check_call("encode_ids", call_encode_ids);
    check_call("encode_tokens", call_encode_tokens);
    check_call("tokenize", call_tokenize);
    check_call("plan_bytes", call_plan);
    check_call("output_len", call_output_len);
    check_call("facts", call_facts);
    check_call("quantize", call_quantize);
}

/* Once a context has seen the longest text, nothing is allocated at all. */
static void steady_state(void **state) {
    (void)state;
    enum { TEXTS = 200 };
    test_allocator a;
    embed_model *model;
    embed_context *ctx;
    const embed_context_params p = {.struct_size = sizeof p,
                                    .threads = 1}; /* one thread meets every text twice */
    static float out[TEXTS * DIM];
    test_allocator_init(&a, 0);
    TEST_OK(open_with(&model, &a));
    TEST_OK(embed_context_create(&ctx, model, &p));
    embed_text *texts = test_texts(&tiny, 17, TEXTS, 100);
    TEST_OK(embed_encode(ctx, texts, TEXTS, NULL, out, TEXTS * DIM));
    const long before = a.calls;
    for (int i = 0; i < 3; i++)
        TEST_OK(embed_encode(ctx, texts, TEXTS, NULL, out, TEXTS * DIM));
    TEST_OK(call_tokenize(model, ctx));
    const long tokenized = a.calls;
    TEST_OK(call_tokenize(model, ctx));
    assert_int_equal(a.calls, tokenized);
    TEST_OK(embed_encode(ctx, texts, 1, NULL, out, DIM));
    assert_int_equal(a.calls, tokenized);
    embed_model_free(model);
    model = NULL;
    TEST_OK(embed_encode(ctx, texts, TEXTS, NULL, out, TEXTS * DIM));
    assert_int_equal(a.calls, tokenized);
    print_message("%ld allocations before the steady state\n", before);
    test_texts_free(texts, TEXTS);
    embed_context_free(ctx);
    assert_int_equal(a.live, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opening),
        cmocka_unit_test(creating_a_context),
        cmocka_unit_test(calls),
        cmocka_unit_test(steady_state),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
