/* Opening: malformed files, and the n-th allocation failing in opening and encoding. */
#include "tokenizer/tok_case.h"

#define WORDPIECE(rest) "{\"type\":\"WordPiece\"" rest "}"
#define WP_KEYS                                                                                    \
    ",\"unk_token\":\"u\",\"continuing_subword_prefix\":\"##\",\"max_input_chars_per_word\":9"
#define UNIGRAM(rest) "{\"type\":\"Unigram\"" rest "}"

static void test_models_refused(void **state) {
    (void)state;
    static const struct {
        const char *model, *message;
        embed_status status;
    } wrong[] = {
        {"null", "model: expected an object, found null", EMBED_ERR_FORMAT},
        {"{}", "model.type: expected a string, found nothing", EMBED_ERR_FORMAT},
        {"{\"type\":\"BPE\"}", "model.type: expected WordPiece or Unigram, found \"BPE\"",
         EMBED_ERR_UNSUPPORTED},
        {WORDPIECE(""), "model.vocab: expected an object, found nothing", EMBED_ERR_FORMAT},
        {WORDPIECE(",\"vocab\":{\"u\":0}"), "model.unk_token: expected a string", EMBED_ERR_FORMAT},
        {WORDPIECE(WP_KEYS ",\"vocab\":[]"), "model.vocab: expected an object", EMBED_ERR_FORMAT},
        {WORDPIECE(WP_KEYS ",\"vocab\":{}"), "model.unk_token: expected a token of the vocabulary",
         EMBED_ERR_FORMAT},
        {WORDPIECE(WP_KEYS ",\"vocab\":{\"u\":-1}"), "model.vocab.u: expected a token id from 0",
         EMBED_ERR_FORMAT},
        {WORDPIECE(WP_KEYS ",\"vocab\":{\"u\":1.5}"), "model.vocab.u: expected a token id",
         EMBED_ERR_FORMAT},
        {WORDPIECE(WP_KEYS ",\"vocab\":{\"u\":\"0\"}"), "model.vocab.u: expected a token id",
         EMBED_ERR_FORMAT},
        {WORDPIECE(WP_KEYS ",\"vocab\":{\"u\":99999999999999999999}"),
         "model.vocab.u: expected a token id", EMBED_ERR_FORMAT},
        {WORDPIECE(WP_KEYS ",\"vocab\":{\"u\":0,\"a\":1,\"u\":2}"),
         "model.vocab: expected each token once, found \"u\" twice", EMBED_ERR_FORMAT},
        {WORDPIECE(WP_KEYS ",\"vocab\":{\"u\":0,\"a\":1,\"b\":1}"),
         "model.vocab: expected each id once, found 1 twice, for \"b\" too", EMBED_ERR_FORMAT},
        {WORDPIECE(",\"unk_token\":\"u\",\"continuing_subword_prefix\":\"\","
                   "\"max_input_chars_per_word\":-1,\"vocab\":{\"u\":0}"),
         "model.max_input_chars_per_word: expected an integer from 0", EMBED_ERR_FORMAT},
        {UNIGRAM(",\"vocab\":{}"), "model.vocab: expected an array", EMBED_ERR_FORMAT},
        {UNIGRAM(",\"vocab\":[]"), "model.vocab: expected 1 to ", EMBED_ERR_FORMAT},
        {UNIGRAM(",\"vocab\":[[\"a\",0],7]"), "model.vocab[1]: expected [token, score]",
         EMBED_ERR_FORMAT},
        {UNIGRAM(",\"vocab\":[[\"a\"]]"), "model.vocab[0]: expected [token, score]",
         EMBED_ERR_FORMAT},
        {UNIGRAM(",\"vocab\":[[\"a\",\"b\"]]"), "model.vocab[0]: expected [token, score]",
         EMBED_ERR_FORMAT},
        {UNIGRAM(",\"vocab\":[[\"a\",1e999]]"), "model.vocab[0][1]: expected a finite score",
         EMBED_ERR_FORMAT},
        {UNIGRAM(",\"vocab\":[[\"a\",NaN]]"), "expected JSON", EMBED_ERR_FORMAT},
        {UNIGRAM(",\"unk_id\":1,\"vocab\":[[\"a\",0]]"),
         "model.unk_id: expected an integer from 0 to 0", EMBED_ERR_FORMAT},
        {UNIGRAM(",\"unk_id\":-1,\"vocab\":[[\"a\",0]]"), "model.unk_id: expected an integer",
         EMBED_ERR_FORMAT},
        {UNIGRAM(",\"unk_id\":0,\"byte_fallback\":1,\"vocab\":[[\"a\",0]]"),
         "model.byte_fallback: expected true or false", EMBED_ERR_FORMAT},
    };
    const emb_env env = test_env();
    emb_tokenizer *tok;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char *json = tok_json(NULL, NULL, NULL, NULL, wrong[i].model);
        const embed_status st = tok_open(&tok, &env, json);
        free(json);
        if (st != wrong[i].status || tok != NULL ||
            strstr(emb_fail_message(), wrong[i].message) == NULL ||
            strstr(emb_fail_message(), "tokenizer.json: ") == NULL)
            fail_msg("%s: %s", wrong[i].model, emb_fail_message());
    }
}

static void expect(const char *json, embed_status status, const char *message) {
    const emb_env env = test_env();
    emb_tokenizer *tok;
    const embed_status st = tok_open(&tok, &env, json);
    if (st != status || tok != NULL || strstr(emb_fail_message(), message) == NULL)
        fail_msg("%.60s: %s", json, emb_fail_message());
}

static void test_files_refused(void **state) {
    (void)state;
    const emb_env env = test_env();
    emb_tokenizer *tok;
    expect("", EMBED_ERR_FORMAT, "expected JSON");
    expect("[]", EMBED_ERR_FORMAT, "expected an object");
    expect("{}", EMBED_ERR_FORMAT, "model: expected an object, found nothing");
    expect("{\"normalizer\":null,\"normalizer\":null}", EMBED_ERR_FORMAT,
           "normalizer: expected one value");
    expect("{\"truncation\":{\"max_length\":-1}}", EMBED_ERR_FORMAT,
           "truncation.max_length: expected an integer from 0");
    expect("{\"truncation\":{}}", EMBED_ERR_FORMAT, "truncation.max_length: expected a number");
    assert_int_equal(emb_tokenizer_open(&tok, &env, "/nowhere/tokenizer.json"), EMBED_ERR_IO);
    assert_null(tok);
    assert_non_null(strstr(emb_fail_message(), "/nowhere/tokenizer.json"));
    emb_tokenizer_free(NULL);
    emb_tok_scratch_free(NULL);
    /* Sequences 10,000 deep. */
    static const char level[] = "{\"type\":\"Sequence\",\"normalizers\":[";
    const size_t deep = 10000;
    char *json = malloc(deep * (sizeof level + 2) + 64), *at = json;
    assert_non_null(json);
    at += sprintf(at, "{\"normalizer\":");
    for (size_t i = 0; i < deep; i++)
        at += sprintf(at, "%s", level);
    for (size_t i = 0; i < deep; i++)
        at += sprintf(at, "]}");
    (void)sprintf(at, "}");
    expect(json, EMBED_ERR_FORMAT, "expected at most 128 levels");
    free(json);
}

/* Every part of a tokenizer in one small file. */
static char *whole(const char *model) {
    return tok_json(
        "[{\"id\":0,\"content\":\"<m>\",\"single_word\":false,\"lstrip\":true,\"rstrip\":false,"
        "\"normalized\":false,\"special\":true},{\"id\":0,\"content\":\"Tok\",\"single_word\":true,"
        "\"lstrip\":false,\"rstrip\":false,\"normalized\":true,\"special\":false}]",
        "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"BertNormalizer\",\"clean_text\":true,"
        "\"handle_chinese_chars\":true,\"strip_accents\":null,\"lowercase\":true},"
        "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\" {2,}\"},\"content\":\" \"},"
        "{\"type\":\"Prepend\",\"prepend\":\"x\"},{\"type\":\"NFKC\"}]}",
        "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"WhitespaceSplit\"},"
        "{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"first\"}]}",
        "{\"type\":\"BertProcessing\",\"sep\":[\"s\",5],\"cls\":[\"c\",6]}", model);
}

static void fail_open(const char *json) {
    char dir[256];
    test_dir_make(dir);
    test_write(dir, "tokenizer.json", json, -1);
    for (long n = 1;; n++) {
        test_allocator a;
        emb_env env;
        emb_tokenizer *tok;
        test_allocator_init(&a, n);
        assert_int_equal(emb_env_init(&env, &a.allocator, NULL, NULL), EMBED_OK);
        const embed_status st = emb_tokenizer_open(&tok, &env, test_path(dir, "tokenizer.json"));
        if (st != (a.failed ? EMBED_ERR_NOMEM : EMBED_OK))
            fail_msg("allocation %ld: %s", n, emb_fail_message());
        assert_int_equal(tok == NULL, a.failed);
        emb_tokenizer_free(tok);
        assert_int_equal(a.live, 0);
        if (!a.failed)
            break;
    }
    test_dir_remove(dir);
}

static void fail_encode(const char *json) {
    static const char bytes[] = "pre \xff Tok  a\u0301\u0323 <m> \u4e2d bb \u00c9 aab xyz";
    const embed_text text = {bytes, sizeof bytes - 1};
    const emb_tok_options options = {{"q: ", 3}, 0, 0};
    const emb_env plain = test_env();
    emb_tokenizer *tok;
    int32_t want[128], truncated;
    size_t want_n = 0;
    assert_int_equal(tok_open(&tok, &plain, json), EMBED_OK);
    for (long n = 0;; n++) { /* 0: none fails, for the ids to compare with */
        test_allocator a;
        emb_env env;
        emb_tok_scratch *scratch;
        const int32_t *ids;
        size_t len;
        test_allocator_init(&a, n);
        assert_int_equal(emb_env_init(&env, &a.allocator, NULL, NULL), EMBED_OK);
        embed_status st = emb_tok_scratch_create(&scratch, &env);
        if (st == EMBED_OK)
            st = emb_tokenizer_encode(tok, scratch, text, &options, &ids, &len, &truncated);
        assert_int_equal(st, a.failed ? EMBED_ERR_NOMEM : EMBED_OK);
        if (a.failed && scratch != NULL) /* it is still good for the next text */
            assert_int_equal(
                emb_tokenizer_encode(tok, scratch, text, &options, &ids, &len, &truncated), 0);
        if (n == 0) {
            assert_in_range(len, 8, 128);
            memcpy(want, ids, len * sizeof *ids);
            want_n = len;
        } else if (scratch != NULL) {
            tok_check_ids("after a failure", ids, len, want, want_n);
            assert_true(emb_tok_scratch_bytes(scratch) > len * sizeof *ids);
        }
        emb_tok_scratch_free(scratch);
        assert_int_equal(a.live, 0);
        if (n > 0 && !a.failed)
            break;
    }
    emb_tokenizer_free(tok);
}

static void test_allocation_failures(void **state) {
    (void)state;
    static const char *const models[] = {
        WORDPIECE(WP_KEYS ",\"vocab\":{\"u\":0,\"a\":1,\"##a\":2,\"_x\":3,\"##b\":4}"),
        UNIGRAM(",\"unk_id\":0,\"vocab\":[[\"u\",0],[\"a\",-1],[\"_x\",-2],[\"b\",-3]]")};
    for (int i = 0; i < 2; i++) {
        char *json = whole(models[i]);
        fail_open(json);
        fail_encode(json);
        free(json);
    }
}

/* A file cut anywhere opens nowhere. */
static void test_cut_files(void **state) {
    (void)state;
    const emb_env env = test_env();
    char *json = whole(WORDPIECE(WP_KEYS ",\"vocab\":{\"u\":0,\"a\":1}"));
    emb_tokenizer *tok;
    char dir[256];
    test_dir_make(dir);
    for (size_t n = 0; n < strlen(json); n++) {
        test_write(dir, "tokenizer.json", json, (long)n);
        assert_int_equal(emb_tokenizer_open(&tok, &env, test_path(dir, "tokenizer.json")),
                         EMBED_ERR_FORMAT);
        assert_null(tok);
    }
    test_dir_remove(dir);
    free(json);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_models_refused),
        cmocka_unit_test(test_files_refused),
        cmocka_unit_test(test_allocation_failures),
        cmocka_unit_test(test_cut_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
