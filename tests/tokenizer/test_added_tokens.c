/* Added tokens inside text: longest first, white space and word boundaries, raw and normalized. */
#include "tokenizer/tok_case.h"

#define MODEL                                                                                      \
    "{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"<unk>\",-5.0],[\"a\",-1.0],[\"b\",-1.0],"    \
    "[\"c\",-1.0],[\" \",-1.0],[\"x\",-1.0],[\"\u00e9\",-1.0]]}"
#define LOWER "{\"type\":\"Lowercase\"}"

#define TEXTS 9
static const char *const texts[TEXTS] = {
    "a<m>b",    "a  <m>  b", "<m><m>",  " <m> <m> ", "ab cab abx \u00e9ab ab",
    "abcab bc", "aAB ab Ab", "a  b zz", ""};

static const struct {
    const char *added;
    const char *ids[TEXTS];
} cases[] = {
    {"[{\"id\": 0, \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": "
     "false, \"special\": false, \"content\": \"<m>\"}]",
     {"1 7 2", "1 4 4 7 4 4 2", "7 7", "4 7 4 7 4", "1 2 4 3 1 2 4 1 2 5 4 6 1 2 4 1 2",
      "1 2 3 1 2 4 2 3", "1 1 2 4 1 2 4 1 2", "1 4 4 2 4 0", ""}},
    {"[{\"id\": 0, \"single_word\": false, \"lstrip\": true, \"rstrip\": false, \"normalized\": "
     "false, \"special\": false, \"content\": \"<m>\"}]",
     {"1 7 2", "1 7 4 4 2", "7 7", "7 7 4", "1 2 4 3 1 2 4 1 2 5 4 6 1 2 4 1 2", "1 2 3 1 2 4 2 3",
      "1 1 2 4 1 2 4 1 2", "1 4 4 2 4 0", ""}},
    {"[{\"id\": 0, \"single_word\": false, \"lstrip\": false, \"rstrip\": true, \"normalized\": "
     "false, \"special\": false, \"content\": \"<m>\"}]",
     {"1 7 2", "1 4 4 7 2", "7 7", "4 7 7", "1 2 4 3 1 2 4 1 2 5 4 6 1 2 4 1 2", "1 2 3 1 2 4 2 3",
      "1 1 2 4 1 2 4 1 2", "1 4 4 2 4 0", ""}},
    {"[{\"id\": 0, \"single_word\": false, \"lstrip\": true, \"rstrip\": true, \"normalized\": "
     "false, \"special\": false, \"content\": \"<m>\"}, {\"id\": 0, \"single_word\": false, "
     "\"lstrip\": false, \"rstrip\": false, \"normalized\": false, \"special\": false, "
     "\"content\": \" \"}]",
     {"1 7 2", "1 4 4 7 4 4 2", "7 7", "4 7 4 7 4", "1 2 4 3 1 2 4 1 2 5 4 6 1 2 4 1 2",
      "1 2 3 1 2 4 2 3", "1 1 2 4 1 2 4 1 2", "1 4 4 2 4 0", ""}},
    {"[{\"id\": 0, \"single_word\": true, \"lstrip\": false, \"rstrip\": false, \"normalized\": "
     "false, \"special\": false, \"content\": \"ab\"}]",
     {"1 0 2", "1 4 4 0 4 4 2", "0", "4 0 4 0 4", "7 4 3 1 2 4 1 2 5 4 6 1 2 4 7",
      "1 2 3 1 2 4 2 3", "1 1 2 4 7 4 1 2", "1 4 4 2 4 0", ""}},
    {"[{\"id\": 0, \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": "
     "false, \"special\": false, \"content\": \"ab\"}, {\"id\": 0, \"single_word\": false, "
     "\"lstrip\": false, \"rstrip\": false, \"normalized\": false, \"special\": false, "
     "\"content\": \"abc\"}, {\"id\": 0, \"single_word\": false, \"lstrip\": false, \"rstrip\": "
     "false, \"normalized\": false, \"special\": false, \"content\": \"bc\"}]",
     {"1 0 2", "1 4 4 0 4 4 2", "0", "4 0 4 0 4", "7 4 3 7 4 7 5 4 6 7 4 7", "8 7 4 9",
      "1 1 2 4 7 4 1 2", "1 4 4 2 4 0", ""}},
    {"[{\"id\": 0, \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": "
     "true, \"special\": false, \"content\": \"AB\"}]",
     {"1 0 2", "1 4 4 0 4 4 2", "0", "4 0 4 0 4", "7 4 3 7 4 7 5 4 6 7 4 7", "7 3 7 4 2 3",
      "1 7 4 7 4 7", "1 4 4 2 4 0", ""}},
    {"[{\"id\": 0, \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": "
     "false, \"special\": false, \"content\": \"AB\"}]",
     {"1 0 2", "1 4 4 0 4 4 2", "0", "4 0 4 0 4", "1 2 4 3 1 2 4 1 2 5 4 6 1 2 4 1 2",
      "1 2 3 1 2 4 2 3", "1 7 4 1 2 4 1 2", "1 4 4 2 4 0", ""}},
    {"[{\"id\": 0, \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": "
     "false, \"special\": false, \"content\": \"b\"}, {\"id\": 0, \"single_word\": false, "
     "\"lstrip\": false, \"rstrip\": false, \"normalized\": false, \"special\": false, "
     "\"content\": \"zz\"}, {\"id\": 0, \"single_word\": false, \"lstrip\": true, \"rstrip\": "
     "false, \"normalized\": false, \"special\": false, \"content\": \"b\"}]",
     {"1 0 2", "1 4 4 0 2", "0", "4 0 4 0 4", "1 2 4 3 1 2 4 1 2 5 4 6 1 2 4 1 2", "1 2 3 1 2 2 3",
      "1 1 2 4 1 2 4 1 2", "1 2 4 7", ""}},
};

static void test_matches(void **state) {
    (void)state;
    const emb_env env = test_env();
    emb_tok_scratch *scratch;
    assert_int_equal(emb_tok_scratch_create(&scratch, &env), EMBED_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        emb_tokenizer *tok = tok_make(cases[i].added, LOWER, NULL, NULL, MODEL);
        for (size_t k = 0; k < TEXTS; k++) {
            const embed_text text = {texts[k], strlen(texts[k])};
            const int32_t *ids;
            size_t n;
            int32_t truncated;
            char got[256] = "";
            assert_int_equal(emb_tokenizer_encode(tok, scratch, text, NULL, &ids, &n, &truncated),
                             EMBED_OK);
            for (size_t j = 0; j < n; j++)
                (void)snprintf(got + strlen(got), sizeof got - strlen(got), j > 0 ? " %d" : "%d",
                               (int)ids[j]);
            if (strcmp(got, cases[i].ids[k]) != 0)
                fail_msg("%s in \"%s\": got %s, want %s", cases[i].added, texts[k], got,
                         cases[i].ids[k]);
        }
        emb_tokenizer_free(tok);
    }
    emb_tok_scratch_free(scratch);
}

#define TOKEN(id, content, normalized)                                                             \
    "{\"id\":" id ",\"content\":\"" content "\",\"single_word\":false,\"lstrip\":false,"           \
    "\"rstrip\":false,\"normalized\":" normalized ",\"special\":false}"

static void count_log(void *user, int32_t level, const char *msg) {
    assert_int_equal(level, EMBED_LOG_WARN);
    assert_non_null(strstr(msg, "added_tokens[0].id: \"b\" has id 2, found 9"));
    ++*(int *)user;
}

/* The model's id counts, then the next free one; what the file says is logged if it differs. */
static void test_ids(void **state) {
    (void)state;
    int logged = 0;
    emb_env env = test_env();
    emb_tokenizer *tok;
    env.log = count_log;
    env.log_user = &logged;
    char *json = tok_json("[" TOKEN("9", "b", "false") "," TOKEN("7", "<m>", "false") "]", NULL,
                          NULL, NULL, MODEL);
    assert_int_equal(tok_open(&tok, &env, json), EMBED_OK);
    free(json);
    assert_int_equal(logged, 1);
    assert_int_equal(emb_tokenizer_id(tok, "b", 1), 2);
    assert_int_equal(emb_tokenizer_id(tok, "<m>", 3), 7);
    assert_int_equal(emb_tokenizer_vocab(tok), 8);
    emb_tokenizer_free(tok);
}

static void test_refused(void **state) {
    (void)state;
    static const struct {
        const char *added, *message;
    } wrong[] = {
        {"7", "added_tokens: expected an array"},
        {"[7]", "added_tokens[0]: expected an object"},
        {"[{\"id\":1}]", "added_tokens[0].content: expected a string"},
        {"[" TOKEN("-1", "x", "false") "]", "added_tokens[0].id: expected an integer from 0"},
        {"[" TOKEN("1e3", "x", "false") "]", "added_tokens[0].id: expected an integer from 0"},
        {"[" TOKEN("1", "x", "0") "]", "added_tokens[0].normalized: expected true or false"},
        {"[" TOKEN("7", "Ab", "true") "," TOKEN("8", "aB", "true") "]",
         "expected each token to match a text of its own, found two for \"ab\""},
    };
    const emb_env env = test_env();
    emb_tokenizer *tok;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char *json = tok_json(wrong[i].added, LOWER, NULL, NULL, MODEL);
        const embed_status st = tok_open(&tok, &env, json);
        free(json);
        if (st != EMBED_ERR_FORMAT || tok != NULL ||
            strstr(emb_fail_message(), wrong[i].message) == NULL)
            fail_msg("%s: %s", wrong[i].added, emb_fail_message());
    }
    char *json = tok_json("[" TOKEN("7", "\u0301", "true") "]", "{\"type\":\"StripAccents\"}", NULL,
                          NULL, MODEL);
    assert_int_equal(tok_open(&tok, &env, json), EMBED_ERR_FORMAT);
    assert_non_null(strstr(emb_fail_message(), "expected text that the normalizer leaves"));
    free(json);
}

/* White space before and after many tokens is walked once, not once for each. */
static void test_long_space(void **state) {
    (void)state;
    emb_tokenizer *tok = tok_make(
        "[{\"id\":7,\"content\":\"\\n\",\"single_word\":false,\"lstrip\":false,\"rstrip\":true,"
        "\"normalized\":false,\"special\":false}]",
        NULL, NULL, NULL, MODEL);
    const size_t n = 300000;
    char *text = malloc(n);
    int32_t *want = malloc(n * sizeof *want);
    assert_non_null(text);
    assert_non_null(want);
    memset(text, '\n', n);
    for (size_t i = 0; i < n; i++)
        want[i] = 7;
    tok_check(tok, text, n, want, n);
    free(text);
    free(want);
    emb_tokenizer_free(tok);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matches),
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_long_space),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
