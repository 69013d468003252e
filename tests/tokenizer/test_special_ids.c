/* The tokens that count as special: called so by the file, or added by the post-processor. */
#include "tokenizer/tok_case.h"

#define MODEL                                                                                      \
    "{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"<unk>\",-5.0],[\"a\",-1.0],[\"b\",-1.0],"    \
    "[\"c\",-1.0],[\"<s>\",-1.0],[\"</s>\",-1.0]]}"
#define TOKEN(content, special)                                                                    \
    "{\"id\": 0, \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": "   \
    "false" special ", \"content\": \"" content "\"}"
#define YES ", \"special\": true"
#define NO ", \"special\": false"
#define POST "{\"type\": \"RobertaProcessing\", \"sep\": [\"</s>\", 5], \"cls\": [\"<s>\", 4]}"

static const struct {
    const char *added, *post, *ids;
} cases[] = {
    {NULL, NULL, ""},
    {"[]", POST, "4 5"},
    {"[" TOKEN("<m>", YES) ", " TOKEN("b", YES) ", " TOKEN("a", NO) "]", NULL, "2 6"},
    {"[" TOKEN("<m>", YES) ", " TOKEN("</s>", YES) ", " TOKEN("<unk>", YES) "]", POST, "0 4 5 6"},
    {"[" TOKEN("c", "") "]", NULL, ""},                       /* not stated: text */
    {"[" TOKEN("c", NO) ", " TOKEN("c", YES) "]", NULL, "3"}, /* the later entry counts */
    {"[" TOKEN("c", YES) ", " TOKEN("c", NO) "]", NULL, ""},
};

static void special_ids(void **state) {
    (void)state;
    const emb_env env = test_env();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        emb_tokenizer *tok = tok_make(cases[i].added, NULL, NULL, cases[i].post, MODEL);
        char got[64] = "";
        int32_t *ids, n;
        assert_int_equal(emb_tokenizer_special_ids(tok, &env, &ids, &n), EMBED_OK);
        for (int32_t j = 0; j < n; j++)
            (void)snprintf(got + strlen(got), sizeof got - strlen(got), j > 0 ? " %d" : "%d",
                           ids[j]);
        assert_string_equal(got, cases[i].ids);
        emb_free(&env, ids);
        emb_tokenizer_free(tok);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(special_ids)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
