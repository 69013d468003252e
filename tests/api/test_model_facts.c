/* What a model says about itself: facts, prompts and roles, tokenisation, fingerprint. */
#include "support/handles.h"

#include <unistd.h>

#define DIM 48

struct fixture {
    tiny_model m;
    embed_model *model;
};

static void set_up(struct fixture *f, tiny_spec spec) {
    tiny_model_make(&f->m, &spec);
    f->model = test_open(f->m.dir);
}

static void tear_down(struct fixture *f) {
    embed_model_free(f->model);
    tiny_model_remove(&f->m);
}

static embed_model_info info_of(const embed_model *model) {
    embed_model_info info = {.struct_size = sizeof info};
    TEST_OK(embed_model_get_info(model, &info));
    return info;
}

static void facts_moe(void **state) {
    (void)state;
    struct fixture f;
    tiny_spec s = tiny_spec_moe();
    set_up(&f, s);
    const embed_model_info i = info_of(f.model);
    int64_t total = 0, in_experts = 0;
    for (int t = 0; t < f.m.n_tensors; t++) {
        const tiny_tensor *x = &f.m.tensors[t];
        const int64_t n = (int64_t)x->rows * (x->cols > 0 ? x->cols : 1);
        total += n;
        in_experts += strstr(x->name, "experts.mlp") != NULL ? n : 0;
    }
    assert_string_equal(i.architecture, "nomic_bert");
    assert_string_equal(i.name, strrchr(f.m.dir, '/') + 1);
    assert_int_equal(i.dim, 48);
    assert_int_equal(i.hidden, 48);
    assert_int_equal(i.layers, 4);
    assert_int_equal(i.heads, 4);
    assert_int_equal(i.head_dim, 12);
    assert_int_equal(i.inner, 104);
    assert_int_equal(i.vocab, 256);
    assert_int_equal(i.moe_layers, 2);
    assert_int_equal(i.experts, 5);
    assert_int_equal(i.experts_per_token, 2);
    assert_int_equal(i.max_tokens, 300);
    assert_int_equal(i.pooling, EMBED_POOL_MEAN);
    assert_int_equal(i.normalized, 1);
    assert_int_equal(i.weight_dtype, EMBED_F32);
    assert_int_equal(i.prompts, 3);
    assert_int_equal(i.params_total, total);
    assert_int_equal(i.params_active, total - in_experts * 3 / 5);
    const int64_t attention = 4 * 48 * 48, mlp = 2 * 48 * 104;
    assert_int_equal(i.flops_per_token, 2 * (4 * attention + 2 * mlp + 2 * (5 * 48 + 2 * mlp)));
    assert_int_equal(i.flops_per_token_pair, 4 * 4 * 48);
    assert_true(i.weight_bytes > (uint64_t)total * 4 - 8192);
    assert_true(i.resident_bytes > 10000);
    assert_true(strlen(i.isa) > 0);
    tear_down(&f);
}

static void facts_of_wide_vectors(void **state) {
    (void)state;
    struct fixture f;
    tiny_spec s = tiny_spec_bert();
    s.pooling = "cls";
    s.pooling2 = "mean";
    set_up(&f, s);
    assert_int_equal(info_of(f.model).dim, 96);
    assert_int_equal(info_of(f.model).pooling, EMBED_POOL_CLS | EMBED_POOL_MEAN);
    assert_string_equal(info_of(f.model).architecture, "bert");
    assert_int_equal(info_of(f.model).experts, 0);
    tear_down(&f);
    s.dense = 20;
    set_up(&f, s);
    assert_int_equal(info_of(f.model).dim, 20);
    assert_int_equal(info_of(f.model).hidden, 48);
    tear_down(&f);
}

/* Rearranged weights are counted, and kept within what was allowed. */
static void packing_is_bounded(void **state) {
    (void)state;
    struct fixture f;
    set_up(&f, tiny_spec_dense());
    const uint64_t with = info_of(f.model).resident_bytes;
    embed_model_params p = EMBED_MODEL_PARAMS_INIT;
    embed_model *without;
    p.pack_bytes = 1;
    TEST_OK(embed_model_open(&without, f.m.dir, &p));
    assert_true(info_of(without).resident_bytes + 100000 < with);
    embed_model_free(without);
    tear_down(&f);
}

static size_t ids_with(const embed_model *model, int role, const char *prefix, const char *text,
                       int32_t ids[16]) {
    embed_encode_params p = EMBED_ENCODE_PARAMS_INIT;
    size_t n;
    p.role = role;
    p.prefix = prefix;
    p.prefix_len = prefix != NULL ? strlen(prefix) : 0;
    TEST_OK(embed_tokenize(model, test_text(text), &p, ids, 16, &n));
    return n;
}

static void prompts_and_roles(void **state) {
    (void)state;
    struct fixture f;
    const char *name;
    embed_text prompt;
    int32_t ids[16];
    tiny_spec s = tiny_spec_moe();
    s.default_prompt = "Classification";
    set_up(&f, s);
    TEST_OK(embed_model_prompt(f.model, 1, &name, &prompt));
    assert_string_equal(name, "passage");
    assert_int_equal(prompt.len, 7);
    assert_memory_equal(prompt.ptr, "w3 w4: ", 7);
    test_fails(embed_model_prompt(f.model, 3, &name, &prompt), EMBED_ERR_ARG, "3");
    test_fails(embed_model_prompt(f.model, -1, &name, &prompt), EMBED_ERR_ARG, "-1");
    assert_int_equal(ids_with(f.model, EMBED_ROLE_NONE, NULL, "w9", ids), 3);
    assert_int_equal(ids_with(f.model, EMBED_ROLE_QUERY, NULL, "w9", ids), 6);
    assert_int_equal(ids[1], TINY_FIRST_WORD + 1);
    assert_int_equal(ids[4], TINY_FIRST_WORD + 9);
    assert_int_equal(ids_with(f.model, EMBED_ROLE_DOCUMENT, NULL, "w9", ids), 6);
    assert_int_equal(ids[1], TINY_FIRST_WORD + 3);
    assert_int_equal(ids_with(f.model, EMBED_ROLE_DEFAULT, NULL, "w9", ids), 4);
    assert_int_equal(ids[1], TINY_FIRST_WORD + 5);
    assert_int_equal(ids_with(f.model, EMBED_ROLE_QUERY, "w8 ", "w9", ids), 4);
    assert_int_equal(ids[1], TINY_FIRST_WORD + 8);
    assert_int_equal(ids_with(f.model, EMBED_ROLE_QUERY, "", "w9", ids), 3);
    tear_down(&f);
}

/* The rule for roles whose prompt is missing, see embed_role. */
static void missing_prompts(void **state) {
    (void)state;
    static const struct {
        const char *prompts;
        int role;
        int words; /* of the prompt; -1: an error */
        const char *message;
    } cases[] = {
        {NULL, EMBED_ROLE_QUERY, 0, NULL},
        {NULL, EMBED_ROLE_DOCUMENT, 0, NULL},
        {"{}", EMBED_ROLE_DEFAULT, 0, NULL},
        {"{\"query\": \"w1 \"}", EMBED_ROLE_QUERY, 1, NULL},
        {"{\"query\": \"w1 \"}", EMBED_ROLE_DOCUMENT, 0, NULL},
        {"{\"query\": \"w1 \"}", EMBED_ROLE_DEFAULT, 0, NULL},
        {"{\"search_query\": \"w1 \", \"search_document\": \"w1 w2 \"}", EMBED_ROLE_QUERY, 1, NULL},
        {"{\"search_query\": \"w1 \", \"search_document\": \"w1 w2 \"}", EMBED_ROLE_DOCUMENT, 2,
         NULL},
        {"{\"corpus\": \"w1 w2 \"}", EMBED_ROLE_DOCUMENT, 2, NULL},
        {"{\"corpus\": \"w1 w2 \"}", EMBED_ROLE_QUERY, -1, "query, only \"corpus\""},
        {"{\"sts\": \"w1 \", \"topic\": \"w2 \"}", EMBED_ROLE_DOCUMENT, -1,
         "document, only \"sts\", \"topic\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fixture f;
        tiny_spec s = tiny_spec_dense();
        embed_encode_params p = EMBED_ENCODE_PARAMS_INIT;
        size_t n;
        s.prompts = cases[i].prompts;
        set_up(&f, s);
        p.role = cases[i].role;
        const embed_status st = embed_tokenize(f.model, test_text("w9"), &p, NULL, 0, &n);
        if (cases[i].words < 0)
            test_fails(st, EMBED_ERR_ARG, cases[i].message);
        else {
            TEST_OK(st);
            assert_int_equal(n, 3 + cases[i].words);
        }
        tear_down(&f);
    }
}

static void tokenise(void **state) {
    (void)state;
    struct fixture f;
    int32_t ids[16];
    size_t n;
    embed_encode_params p = EMBED_ENCODE_PARAMS_INIT;
    set_up(&f, tiny_spec_dense());
    const embed_text text = test_text("W3 w198 ab");
    const int32_t want[] = {TINY_CLS, TINY_FIRST_WORD + 3, TINY_FIRST_WORD + 198,
                            5,        5 + 26 + 1,          TINY_SEP};
    TEST_OK(embed_tokenize(f.model, text, NULL, NULL, 0, &n));
    assert_int_equal(n, 6);
    TEST_OK(embed_tokenize(f.model, text, NULL, ids, 16, &n));
    assert_memory_equal(ids, want, sizeof want);
    n = 0;
    test_fails(embed_tokenize(f.model, text, NULL, ids, 5, &n), EMBED_ERR_CAPACITY, "6");
    assert_int_equal(n, 6);
    p.flags = EMBED_NO_SPECIAL_TOKENS;
    TEST_OK(embed_tokenize(f.model, text, &p, ids, 16, &n));
    assert_int_equal(n, 4);
    assert_memory_equal(ids, want + 1, 4 * sizeof *ids);
    p.flags = 0;
    p.max_tokens = 4;
    TEST_OK(embed_tokenize(f.model, text, &p, ids, 16, &n));
    assert_int_equal(n, 4);
    assert_int_equal(ids[3], TINY_SEP);
    p.flags = EMBED_TRUNCATE_ERROR;
    test_fails(embed_tokenize(f.model, text, &p, ids, 16, &n), EMBED_ERR_TOO_LONG, "4");
    p.max_tokens = 2; /* the special tokens alone */
    test_fails(embed_tokenize(f.model, text, &p, ids, 16, &n), EMBED_ERR_ARG, "max_tokens");
    tear_down(&f);
}

/* A change of anything that changes vectors changes the fingerprint, and a copy does not. */
static void fingerprints(void **state) {
    (void)state;
    char prints[12][33];
    int n = 0;
    tiny_spec s[12];
    for (int i = 0; i < 12; i++)
        s[i] = tiny_spec_moe();
    s[1].seed++;     /* weights */
    s[2].eps = 2e-5; /* configuration */
    s[3].rotary_base = 1000;
    s[4].prompts =
        "{\"query\": \"w1 w2: \", \"passage\": \"w3 w4: \", \"Classification\": \"w6 \"}";
    s[5].pooling = "cls";
    s[6].words--; /* tokenizer; and one row less */
    s[7].normalize = 0;
    s[8].positions--; /* where texts are cut */
    s[9].default_prompt = "query";
    s[10].renormalize = 1;
    s[11].exclude_prompt = 1;
    for (; n < 12; n++) {
        struct fixture f;
        char again[33];
        set_up(&f, s[n]);
        TEST_OK(embed_model_fingerprint(f.model, prints[n]));
        TEST_OK(embed_model_fingerprint(f.model, again));
        assert_string_equal(prints[n], again);
        assert_int_equal(strspn(prints[n], "0123456789abcdef"), 32);
        for (int i = 0; i < n; i++)
            assert_string_not_equal(prints[n], prints[i]);
        tear_down(&f);
    }
    struct fixture f;
    char copy[33];
    set_up(&f, s[0]); /* another directory, the same contents */
    TEST_OK(embed_model_fingerprint(f.model, copy));
    assert_string_equal(copy, prints[0]);
    tear_down(&f);
}

/* Files of one checkpoint that contradict each other, and files that are not there. */
static void contradictions(void **state) {
    (void)state;
    struct fixture f;
    embed_model *model;
    char file[320];
    tiny_spec s = tiny_spec_dense(), more = s;
    more.words += 64;
    tiny_model other;
    tiny_model_make(&other, &more);
    tiny_model_make(&f.m, &s);
    (void)snprintf(file, sizeof file, "%s/tokenizer.json", f.m.dir);
    assert_int_equal(unlink(file), 0);
    test_fails(embed_model_open(&model, f.m.dir, NULL), EMBED_ERR_IO, "tokenizer.json");
    assert_null(model);
    (void)snprintf(file, sizeof file, "%s/model.safetensors", other.dir);
    assert_int_equal(unlink(file), 0);
    test_fails(embed_model_open(&model, other.dir, NULL), EMBED_ERR_IO, "model.safetensors");
    assert_null(model);
    char from[320];
    (void)snprintf(from, sizeof from, "%s/tokenizer.json", other.dir);
    (void)snprintf(file, sizeof file, "%s/tokenizer.json", f.m.dir);
    assert_int_equal(rename(from, file), 0);
    test_fails(embed_model_open(&model, f.m.dir, NULL), EMBED_ERR_MISMATCH, "256 rows");
    assert_null(model);
    tiny_model_remove(&other);
    tiny_model_remove(&f.m);
    test_fails(embed_model_open(&model, f.m.dir, NULL), EMBED_ERR_IO, f.m.dir);
    assert_null(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(facts_moe),          cmocka_unit_test(facts_of_wide_vectors),
        cmocka_unit_test(packing_is_bounded), cmocka_unit_test(prompts_and_roles),
        cmocka_unit_test(missing_prompts),    cmocka_unit_test(tokenise),
        cmocka_unit_test(fingerprints),       cmocka_unit_test(contradictions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
