/* What a normalizer may say, and where its output stems from: Metaspace's "first" prepends only to
 * a piece that starts at the start of the original text. */
#include "tokenizer/tok_case.h"

#define MODEL                                                                                      \
    "{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"<unk>\",-5.0],[\"a\",-1.0],[\"b\",-1.0],"    \
    "[\"_\",-1.0],[\"_a\",-1.0],[\"_b\",-1.0],[\"f\",-1.0],[\"i\",-1.0],[\"_f\",-1.0],[\"_i\",-1." \
    "0],"                                                                                          \
    "[\" \",-1.0],[\"\u0301\",-1.0]]}"
#define FIRST                                                                                      \
    "{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"first\",\"split\":true}"

static const struct {
    const char *added, *normalizer, *text;
    int32_t ids[4];
    size_t n;
} cases[] = {
    {"[]", "{\"type\": \"Strip\", \"strip_left\": true, \"strip_right\": false}", "a b", {4, 5}, 2},
    {"[]",
     "{\"type\": \"Strip\", \"strip_left\": true, \"strip_right\": false}",
     " a b",
     {1, 5},
     2},
    {"[]",
     "{\"type\": \"BertNormalizer\", \"clean_text\": true, \"handle_chinese_chars\": false, "
     "\"strip_accents\": null, \"lowercase\": false}",
     "\001a",
     {1},
     1},
    {"[]",
     "{\"type\": \"BertNormalizer\", \"clean_text\": true, \"handle_chinese_chars\": false, "
     "\"strip_accents\": null, \"lowercase\": false}",
     "a",
     {4},
     1},
    {"[{\"id\": 50, \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": "
     "true, \"special\": false, \"content\": \"f\"}]",
     "{\"type\": \"NFKC\"}",
     "\ufb01a",
     {6, 9, 1},
     3},
    {"[{\"id\": 50, \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": "
     "true, \"special\": false, \"content\": \"f\"}]",
     "{\"type\": \"NFKC\"}",
     "fia",
     {6, 7, 1},
     3},
    {"[{\"id\": 50, \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": "
     "true, \"special\": false, \"content\": \"f\"}]",
     "{\"type\": \"NFKC\"}",
     "afi",
     {4, 6, 7},
     3},
    {"[]", "{\"type\": \"Prepend\", \"prepend\": \"b\"}", "a", {5, 1}, 2},
    {"[{\"id\": 50, \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": "
     "true, \"special\": false, \"content\": \"i\"}]",
     "{\"type\": \"Replace\", \"pattern\": {\"String\": \"ab\"}, \"content\": \"i\"}",
     "abab",
     {7, 7},
     2},
    {"[{\"id\": 50, \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": "
     "true, \"special\": false, \"content\": \"i\"}]",
     "{\"type\": \"Replace\", \"pattern\": {\"String\": \"ab\"}, \"content\": \"i\"}",
     "aba",
     {7, 1},
     2},
    {"[{\"id\": 50, \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": "
     "true, \"special\": false, \"content\": \"i\"}]",
     "{\"type\": \"Replace\", \"pattern\": {\"String\": \"ab\"}, \"content\": \"i\"}",
     "bab",
     {5, 7},
     2},
    {"[{\"id\": 50, \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": "
     "false, \"special\": false, \"content\": \"<m>\"}]",
     "null",
     "a<m>a",
     {4, 12, 1},
     3},
    {"[{\"id\": 50, \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": "
     "false, \"special\": false, \"content\": \"<m>\"}]",
     "null",
     "<m>a",
     {12, 1},
     2},
    {"[{\"id\": 50, \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": "
     "false, \"special\": false, \"content\": \"<m>\"}]",
     "null",
     "a",
     {4},
     1},
    {"[{\"id\": 50, \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": "
     "true, \"special\": false, \"content\": \"a\"}]",
     "{\"type\": \"NFD\"}",
     "\u00e1a",
     {1, 3, 11, 1},
     4},
    {"[{\"id\": 50, \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": "
     "true, \"special\": false, \"content\": \"a\"}]",
     "{\"type\": \"NFD\"}",
     "aa",
     {1, 1},
     2},
};

static void test_first(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        emb_tokenizer *tok = tok_make(cases[i].added, cases[i].normalizer, FIRST, NULL, MODEL);
        tok_check(tok, cases[i].text, strlen(cases[i].text), cases[i].ids, cases[i].n);
        emb_tokenizer_free(tok);
    }
}

static void test_refused(void **state) {
    (void)state;
    static const struct {
        const char *normalizer, *message;
        embed_status status;
    } wrong[] = {
        {"\"NFC\"", "normalizer: expected an object", EMBED_ERR_FORMAT},
        {"{}", "normalizer.type: expected a string, found nothing", EMBED_ERR_FORMAT},
        {"{\"type\":\"ByteLevel\"}", "normalizer.type: expected BertNormalizer, ",
         EMBED_ERR_UNSUPPORTED},
        {"{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":\"NFX\"}]}",
         "normalizer.normalizers[1].type: expected ", EMBED_ERR_UNSUPPORTED},
        {"{\"type\":\"Sequence\",\"normalizers\":{}}", "normalizers: expected an array",
         EMBED_ERR_FORMAT},
        {"{\"type\":\"BertNormalizer\",\"clean_text\":true}",
         "normalizer.handle_chinese_chars: expected true or false, found nothing",
         EMBED_ERR_FORMAT},
        {"{\"type\":\"Strip\",\"strip_left\":true}", "normalizer.strip_right: expected true",
         EMBED_ERR_FORMAT},
        {"{\"type\":\"Prepend\",\"prepend\":null}", "normalizer.prepend: expected a string",
         EMBED_ERR_FORMAT},
        {"{\"type\":\"Replace\",\"pattern\":\"a\",\"content\":\"\"}",
         "normalizer.pattern: expected an object", EMBED_ERR_FORMAT},
        {"{\"type\":\"Replace\",\"pattern\":{\"Glob\":\"a\"},\"content\":\"\"}",
         "normalizer.pattern: expected {\"String\"", EMBED_ERR_UNSUPPORTED},
        {"{\"type\":\"Replace\",\"pattern\":{},\"content\":\"\"}",
         "normalizer.pattern: expected {\"String\"", EMBED_ERR_UNSUPPORTED},
        {"{\"type\":\"Replace\",\"pattern\":{\"Regex\":7},\"content\":\"\"}",
         "normalizer.pattern.Regex: expected a string", EMBED_ERR_FORMAT},
        {"{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"a*\"},\"content\":\"\"}",
         "normalizer.pattern.Regex: expected a non-empty text, or one character",
         EMBED_ERR_UNSUPPORTED},
        {"{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"}}",
         "normalizer.content: expected a string", EMBED_ERR_FORMAT},
        {"{\"type\":\"Precompiled\"}", "normalizer.precompiled_charsmap: expected a string",
         EMBED_ERR_FORMAT},
        {"{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAA\"}",
         "precompiled_charsmap: expected base64 in groups of 4", EMBED_ERR_FORMAT},
    };
    const emb_env env = test_env();
    emb_tokenizer *tok;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char *json = tok_json(NULL, wrong[i].normalizer, NULL, NULL, MODEL);
        const embed_status st = tok_open(&tok, &env, json);
        free(json);
        if (st != wrong[i].status || tok != NULL ||
            strstr(emb_fail_message(), wrong[i].message) == NULL)
            fail_msg("%s: %s", wrong[i].normalizer, emb_fail_message());
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_first),
                                       cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
