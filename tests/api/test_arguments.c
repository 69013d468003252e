/* Callers' mistakes: NULL, senseless numbers, params structs of another header; each has its status
 * and a message that names the field. */
#include "support/handles.h"

#define DIM 48

struct fixture {
    tiny_model m;
    embed_model *model;
    embed_context *ctx;
};

static int set_up(void **state) {
    static struct fixture f;
    const tiny_spec s = tiny_spec_moe();
    tiny_model_make(&f.m, &s);
    f.model = test_open(f.m.dir);
    f.ctx = test_context(f.model, 1, 64);
    *state = &f;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *f = *state;
    embed_context_free(f->ctx);
    embed_model_free(f->model);
    tiny_model_remove(&f->m);
    return 0;
}

static void null_handles(void **state) {
    const struct fixture *f = *state;
    embed_model *model = (embed_model *)1;
    embed_context *ctx = (embed_context *)1;
    embed_model_info info = {.struct_size = sizeof info};
    embed_expert_stats stats = {.struct_size = sizeof stats};
    const embed_text text = {"w1", 2};
    const embed_ids row = {(const int32_t[]){1}, 1};
    const char *name;
    char print[33];
    float out[DIM];
    embed_text prompt;
    uint64_t bytes;
    size_t n;
    embed_model_free(NULL);
    embed_context_free(NULL);
    assert_int_equal(embed_context_bytes(NULL), 0);
    assert_int_equal(embed_context_threads(NULL), 0);
    test_fails(embed_model_open(NULL, "x", NULL), EMBED_ERR_ARG, "out");
    test_fails(embed_model_open(&model, NULL, NULL), EMBED_ERR_ARG, "path");
    assert_null(model);
    test_fails(embed_model_open(&model, "", NULL), EMBED_ERR_ARG, "path");
    test_fails(embed_model_get_info(NULL, &info), EMBED_ERR_ARG, "model");
    test_fails(embed_model_get_info(f->model, NULL), EMBED_ERR_ARG, "info");
    test_fails(embed_model_fingerprint(NULL, print), EMBED_ERR_ARG, "model");
    test_fails(embed_model_fingerprint(f->model, NULL), EMBED_ERR_ARG, "out");
    test_fails(embed_model_prompt(NULL, 0, &name, &prompt), EMBED_ERR_ARG, "model");
    test_fails(embed_model_prompt(f->model, 0, NULL, &prompt), EMBED_ERR_ARG, "name");
    test_fails(embed_model_prompt(f->model, 0, &name, NULL), EMBED_ERR_ARG, "prompt");
    test_fails(embed_context_create(NULL, f->model, NULL), EMBED_ERR_ARG, "out");
    test_fails(embed_context_create(&ctx, NULL, NULL), EMBED_ERR_ARG, "model");
    assert_null(ctx);
    test_fails(embed_plan_bytes(NULL, NULL, &bytes), EMBED_ERR_ARG, "model");
    test_fails(embed_plan_bytes(f->model, NULL, NULL), EMBED_ERR_ARG, "bytes");
    test_fails(embed_output_len(NULL, NULL, 1, &n), EMBED_ERR_ARG, "model");
    test_fails(embed_output_len(f->model, NULL, 1, NULL), EMBED_ERR_ARG, "elements");
    test_fails(embed_encode(NULL, &text, 1, NULL, out, DIM), EMBED_ERR_ARG, "ctx");
    test_fails(embed_encode(f->ctx, NULL, 1, NULL, out, DIM), EMBED_ERR_ARG, "texts");
    test_fails(embed_encode(f->ctx, &text, 1, NULL, NULL, DIM), EMBED_ERR_ARG, "out");
    test_fails(embed_encode_ids(NULL, &row, 1, NULL, out, DIM), EMBED_ERR_ARG, "ctx");
    test_fails(embed_encode_ids(f->ctx, NULL, 1, NULL, out, DIM), EMBED_ERR_ARG, "rows");
    test_fails(embed_encode_ids(f->ctx, &row, 1, NULL, NULL, DIM), EMBED_ERR_ARG, "out");
    test_fails(embed_encode_tokens(NULL, text, NULL, out, DIM, NULL, &n), EMBED_ERR_ARG, "ctx");
    test_fails(embed_encode_tokens(f->ctx, text, NULL, NULL, DIM, NULL, &n), EMBED_ERR_ARG, "out");
    test_fails(embed_encode_tokens(f->ctx, text, NULL, out, DIM, NULL, NULL), EMBED_ERR_ARG,
               "n_tokens");
    test_fails(embed_tokenize(NULL, text, NULL, NULL, 0, &n), EMBED_ERR_ARG, "model");
    test_fails(embed_tokenize(f->model, text, NULL, NULL, 4, &n), EMBED_ERR_ARG, "ids");
    test_fails(embed_tokenize(f->model, text, NULL, NULL, 0, NULL), EMBED_ERR_ARG, "n:");
    test_fails(embed_get_expert_stats(NULL, 0, &stats), EMBED_ERR_ARG, "ctx");
    test_fails(embed_get_expert_stats(f->ctx, 0, NULL), EMBED_ERR_ARG, "stats");
    test_fails(embed_get_expert_stats(f->ctx, 2, &stats), EMBED_ERR_ARG, "found 2");
    test_fails(embed_get_expert_stats(f->ctx, -1, &stats), EMBED_ERR_ARG, "found -1");
}

static void texts_and_rows(void **state) {
    const struct fixture *f = *state;
    float out[2 * DIM];
    const embed_text hole[] = {{"w1", 2}, {NULL, 3}};
    const int32_t ids[] = {1, 255, 256, -1};
    int32_t many[301];
    for (int i = 0; i < 301; i++)
        many[i] = 5;
    const embed_ids empty[] = {{ids, 1}, {ids, 0}}, none = {NULL, 2}, high = {ids, 3},
                    low = {ids + 3, 1}, longest = {many, 300}, too_long = {many, 301};
    size_t n;
    test_fails(embed_encode(f->ctx, hole, 2, NULL, out, 2 * DIM), EMBED_ERR_ARG, "texts[1].ptr");
    test_fails(embed_encode(f->ctx, hole, 1, NULL, out, DIM - 1), EMBED_ERR_CAPACITY, "48");
    TEST_OK(embed_encode(f->ctx, NULL, 0, NULL, NULL, 0));
    TEST_OK(embed_encode_ids(f->ctx, NULL, 0, NULL, NULL, 0));
    test_fails(embed_encode_ids(f->ctx, empty, 2, NULL, out, 2 * DIM), EMBED_ERR_ARG, "rows[1]");
    test_fails(embed_encode_ids(f->ctx, &none, 1, NULL, out, DIM), EMBED_ERR_ARG, "rows[0]");
    test_fails(embed_encode_ids(f->ctx, &high, 1, NULL, out, DIM), EMBED_ERR_ARG,
               "rows[0].ptr[2]: expected an id below 256, found 256");
    test_fails(embed_encode_ids(f->ctx, &low, 1, NULL, out, DIM), EMBED_ERR_ARG, "found -1");
    test_fails(embed_encode_ids(f->ctx, &too_long, 1, NULL, out, DIM), EMBED_ERR_ARG, "found 301");
    TEST_OK(embed_encode_ids(f->ctx, &longest, 1, NULL, out, DIM));
    /* n * dim does not fit: told before a single text is looked at */
    test_fails(embed_output_len(f->model, NULL, SIZE_MAX / 2, &n), EMBED_ERR_ARG, "n:");
}

/* Each field of embed_encode_params out of range. */
static void encode_params(void **state) {
    const struct fixture *f = *state;
    const embed_text text = {"w1", 2};
    float out[DIM];
    struct {
        embed_encode_params p;
        embed_status want;
        const char *text;
    } cases[] = {
        {{.role = 4}, EMBED_ERR_ARG, "role: expected 0 to 3, found 4"},
        {{.role = -1}, EMBED_ERR_ARG, "role"},
        {{.flags = 32}, EMBED_ERR_ABI, "flags: unknown bits 0x20"},
        {{.flags = 3}, EMBED_ERR_ARG, "flags"},
        {{.flags = EMBED_NO_SPECIAL_TOKENS}, EMBED_ERR_ARG, "EMBED_NO_SPECIAL_TOKENS"},
        {{.prefix_len = 3}, EMBED_ERR_ARG, "prefix"},
        {{.dim = 49}, EMBED_ERR_ARG, "dim: expected 0 to 48, found 49"},
        {{.dim = -1}, EMBED_ERR_ARG, "dim"},
        {{.max_tokens = 301}, EMBED_ERR_ARG, "max_tokens: expected 0 or 3 to 300, found 301"},
        {{.max_tokens = 2}, EMBED_ERR_ARG, "max_tokens"},
        {{.max_tokens = -5}, EMBED_ERR_ARG, "max_tokens"},
        {{.output = EMBED_BF16}, EMBED_ERR_ARG, "output"},
        {{.output = 8}, EMBED_ERR_ARG, "found 8"},
        {{.output = EMBED_I8}, EMBED_ERR_ARG, "ranges"},
        {{.reserved = 1}, EMBED_ERR_ABI, "reserved"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cases[i].p.struct_size = sizeof cases[i].p;
        test_fails(embed_encode(f->ctx, &text, 1, &cases[i].p, out, DIM), cases[i].want,
                   cases[i].text);
    }
    size_t n;
    embed_encode_params p = EMBED_ENCODE_PARAMS_INIT;
    p.dim = 8;
    test_fails(embed_encode_tokens(f->ctx, text, &p, out, DIM, NULL, &n), EMBED_ERR_ARG, "dim");
    p.dim = 0;
    p.output = EMBED_F16;
    test_fails(embed_encode_tokens(f->ctx, text, &p, out, DIM, NULL, &n), EMBED_ERR_ARG, "output");
}

static void context_and_model_params(void **state) {
    const struct fixture *f = *state;
    embed_context *ctx;
    embed_model *model;
    const struct {
        embed_context_params p;
        const char *text;
    } contexts[] = {
        {{.struct_size = sizeof(embed_context_params), .threads = -1},
         "threads: expected 0 to 1024, found -1"},
        {{.struct_size = sizeof(embed_context_params), .threads = 1025}, "threads"},
        {{.struct_size = sizeof(embed_context_params), .batch_tokens = -1}, "batch_tokens"},
        {{.struct_size = sizeof(embed_context_params), .batch_tokens = INT32_MAX}, "batch_tokens"},
    };
    for (int i = 0; i < 4; i++) {
        uint64_t bytes;
        ctx = (embed_context *)1;
        test_fails(embed_context_create(&ctx, f->model, &contexts[i].p), EMBED_ERR_ARG,
                   contexts[i].text);
        assert_null(ctx);
        test_fails(embed_plan_bytes(f->model, &contexts[i].p, &bytes), EMBED_ERR_ARG,
                   contexts[i].text);
    }
    embed_model_params p = EMBED_MODEL_PARAMS_INIT;
    p.isa = 4;
    test_fails(embed_model_open(&model, f->m.dir, &p), EMBED_ERR_ARG, "isa");
    p.isa = 0;
    p.reserved = 1;
    test_fails(embed_model_open(&model, f->m.dir, &p), EMBED_ERR_ABI, "reserved");
    p.reserved = 0;
    const embed_allocator half = {NULL, NULL, NULL};
    p.allocator = &half;
    test_fails(embed_model_open(&model, f->m.dir, &p), EMBED_ERR_ARG, "allocator");
    assert_null(model);
}

/* A program built against a shorter or a longer header. */
static void other_headers(void **state) {
    const struct fixture *f = *state;
    const embed_text text = {"w1", 2};
    float out[DIM];
    struct {
        embed_encode_params p;
        uint64_t later;
    } wide = {EMBED_ENCODE_PARAMS_INIT, 0};
    wide.p.struct_size = sizeof wide;
    TEST_OK(embed_encode(f->ctx, &text, 1, &wide.p, out, DIM));
    wide.later = 1;
    test_fails(embed_encode(f->ctx, &text, 1, &wide.p, out, DIM), EMBED_ERR_ABI,
               "embed_encode_params: byte");
    embed_encode_params p = EMBED_ENCODE_PARAMS_INIT;
    p.role = 77; /* a field that this caller's header does not have */
    p.struct_size = offsetof(embed_encode_params, role);
    TEST_OK(embed_encode(f->ctx, &text, 1, &p, out, DIM));
    const size_t sizes[] = {0, 1, sizeof(size_t) - 1, 5000, SIZE_MAX};
    for (int i = 0; i < 5; i++) {
        p.struct_size = sizes[i];
        test_fails(embed_encode(f->ctx, &text, 1, &p, out, DIM), EMBED_ERR_ABI, "struct_size");
    }
    /* output structs: as far as the caller's reaches, zero beyond ours */
    struct {
        embed_model_info info;
        uint64_t later;
    } info;
    memset(&info, 0x77, sizeof info);
    info.info.struct_size = sizeof info;
    TEST_OK(embed_model_get_info(f->model, &info.info));
    assert_int_equal(info.later, 0);
    assert_int_equal(info.info.struct_size, sizeof info);
    memset(&info, 0x77, sizeof info);
    info.info.struct_size = offsetof(embed_model_info, hidden);
    TEST_OK(embed_model_get_info(f->model, &info.info));
    assert_int_equal(info.info.dim, 48);
    assert_int_equal(info.info.hidden, 0x77777777);
    info.info.struct_size = 0;
    test_fails(embed_model_get_info(f->model, &info.info), EMBED_ERR_ABI, "struct_size");
}

static void names_and_version(void **state) {
    (void)state;
    assert_string_equal(embed_status_name(EMBED_ERR_TOO_LONG), "EMBED_ERR_TOO_LONG");
    assert_string_equal(embed_status_name((embed_status)77), "EMBED_ERR_?");
    assert_int_equal(embed_version(), EMBED_VERSION);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(null_handles),  cmocka_unit_test(texts_and_rows),
        cmocka_unit_test(encode_params), cmocka_unit_test(context_and_model_params),
        cmocka_unit_test(other_headers), cmocka_unit_test(names_and_version),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
