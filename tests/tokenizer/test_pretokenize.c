/* Every pre-tokenizer and behaviour against what the reference makes of the same texts. */
#include "tokenizer/tok_case.h"
#include "tokenizer/utf8.h"

#define TEXTS 8
static const char *const texts[TEXTS] = {"a b  c",
                                         "\u2581a \u2581\u2581b",
                                         "a1b22 \u00bdc",
                                         "it's, a-b!!c",
                                         "x\u3000y\u2028z",
                                         "  ",
                                         "\u00e9_\u00e9.;\u00fc",
                                         " a"};

static const struct {
    const char *json;
    const char *words[TEXTS]; /* joined by | */
} cases[] = {
    {"{\"type\": \"BertPreTokenizer\"}",
     {"a|b|c", "\u2581a|\u2581\u2581b", "a1b22|\u00bdc", "it|'|s|,|a|-|b|!|!|c", "x|y|z", "",
      "\u00e9|_|\u00e9|.|;|\u00fc", "a"}},
    {"{\"type\": \"WhitespaceSplit\"}",
     {"a|b|c", "\u2581a|\u2581\u2581b", "a1b22|\u00bdc", "it's,|a-b!!c", "x|y|z", "",
      "\u00e9_\u00e9.;\u00fc", "a"}},
    {"{\"type\": \"Whitespace\"}",
     {"a|b|c", "\u2581|a|\u2581\u2581|b", "a1b22|\u00bd|c", "it|'|s|,|a|-|b|!!|c", "x|y|z", "",
      "\u00e9_\u00e9|.;|\u00fc", "a"}},
    {"{\"type\": \"Metaspace\", \"replacement\": \"\u2581\", \"prepend_scheme\": \"always\", "
     "\"split\": true}",
     {"\u2581a|\u2581b|\u2581|\u2581c", "\u2581a|\u2581|\u2581|\u2581b",
      "\u2581a1b22|\u2581\u00bdc", "\u2581it's,|\u2581a-b!!c", "\u2581x\u3000y\u2028z",
      "\u2581|\u2581", "\u2581\u00e9_\u00e9.;\u00fc", "\u2581a"}},
    {"{\"type\": \"Metaspace\", \"replacement\": \"\u2581\", \"prepend_scheme\": \"always\", "
     "\"split\": false}",
     {"\u2581a\u2581b\u2581\u2581c", "\u2581a\u2581\u2581\u2581b", "\u2581a1b22\u2581\u00bdc",
      "\u2581it's,\u2581a-b!!c", "\u2581x\u3000y\u2028z", "\u2581\u2581",
      "\u2581\u00e9_\u00e9.;\u00fc", "\u2581a"}},
    {"{\"type\": \"Metaspace\", \"replacement\": \"\u2581\", \"prepend_scheme\": \"never\", "
     "\"split\": true}",
     {"a|\u2581b|\u2581|\u2581c", "\u2581a|\u2581|\u2581|\u2581b", "a1b22|\u2581\u00bdc",
      "it's,|\u2581a-b!!c", "x\u3000y\u2028z", "\u2581|\u2581", "\u00e9_\u00e9.;\u00fc",
      "\u2581a"}},
    {"{\"type\": \"Metaspace\", \"replacement\": \"_\", \"add_prefix_space\": true}",
     {"_a|_b|_|_c", "_\u2581a|_\u2581\u2581b", "_a1b22|_\u00bdc", "_it's,|_a-b!!c",
      "_x\u3000y\u2028z", "_|_", "_\u00e9|_\u00e9.;\u00fc", "_a"}},
    {"{\"type\": \"Digits\", \"individual_digits\": false}",
     {"a b  c", "\u2581a \u2581\u2581b", "a|1|b|22| |\u00bd|c", "it's, a-b!!c", "x\u3000y\u2028z",
      "  ", "\u00e9_\u00e9.;\u00fc", " a"}},
    {"{\"type\": \"Digits\", \"individual_digits\": true}",
     {"a b  c", "\u2581a \u2581\u2581b", "a|1|b|2|2| |\u00bd|c", "it's, a-b!!c", "x\u3000y\u2028z",
      "  ", "\u00e9_\u00e9.;\u00fc", " a"}},
    {"{\"type\": \"Punctuation\", \"behavior\": \"Removed\"}",
     {"a b  c", "\u2581a \u2581\u2581b", "a1b22 \u00bdc", "it|s| a|b|c", "x\u3000y\u2028z", "  ",
      "\u00e9|\u00e9|\u00fc", " a"}},
    {"{\"type\": \"Punctuation\", \"behavior\": \"Isolated\"}",
     {"a b  c", "\u2581a \u2581\u2581b", "a1b22 \u00bdc", "it|'|s|,| a|-|b|!|!|c",
      "x\u3000y\u2028z", "  ", "\u00e9|_|\u00e9|.|;|\u00fc", " a"}},
    {"{\"type\": \"Punctuation\", \"behavior\": \"MergedWithPrevious\"}",
     {"a b  c", "\u2581a \u2581\u2581b", "a1b22 \u00bdc", "it'|s,| a-|b!|!|c", "x\u3000y\u2028z",
      "  ", "\u00e9_|\u00e9.|;|\u00fc", " a"}},
    {"{\"type\": \"Punctuation\", \"behavior\": \"MergedWithNext\"}",
     {"a b  c", "\u2581a \u2581\u2581b", "a1b22 \u00bdc", "it|'s|, a|-b|!|!c", "x\u3000y\u2028z",
      "  ", "\u00e9|_\u00e9|.|;\u00fc", " a"}},
    {"{\"type\": \"Punctuation\", \"behavior\": \"Contiguous\"}",
     {"a b  c", "\u2581a \u2581\u2581b", "a1b22 \u00bdc", "it|'|s|,| a|-|b|!!|c", "x\u3000y\u2028z",
      "  ", "\u00e9|_|\u00e9|.;|\u00fc", " a"}},
    {"{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"WhitespaceSplit\"}, {\"type\": "
     "\"Metaspace\", \"replacement\": \"\u2581\", \"prepend_scheme\": \"first\", \"split\": "
     "true}]}",
     {"\u2581a|b|c", "\u2581a|\u2581|\u2581b", "\u2581a1b22|\u00bdc", "\u2581it's,|a-b!!c",
      "\u2581x|y|z", "", "\u2581\u00e9_\u00e9.;\u00fc", "a"}},
};

/* Joins the words it is given. */
typedef struct joiner {
    char text[256];
    size_t len;
    int count, stop_after;
    emb_word_sink sink;
} joiner;

static embed_status join(void *user, const char *word, size_t len) {
    joiner *j = user;
    assert_in_range(len, 1, 100);
    if (j->count++ > 0)
        j->text[j->len++] = '|';
    memcpy(j->text + j->len, word, len);
    j->len += len;
    j->text[j->len] = '\0';
    if (j->count == j->stop_after)
        j->sink.stop = 1;
    return EMBED_OK;
}

static embed_status load(emb_pretokenizer *pre, const char *json) {
    const emb_env env = test_env();
    emb_json_doc *doc;
    assert_int_equal(emb_json_parse(&doc, &env, "t.json", json, strlen(json)), EMBED_OK);
    const embed_status st = emb_pretokenizer_load(pre, doc, emb_json_root(doc));
    emb_json_free(doc);
    return st;
}

static void test_words(void **state) {
    (void)state;
    const emb_env env = test_env();
    emb_unicode *u;
    emb_pretokenizer pre;
    emb_pre_work work;
    memset(&work, 0, sizeof work);
    assert_int_equal(emb_unicode_create(&u, &env), EMBED_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (load(&pre, cases[i].json) != EMBED_OK)
            fail_msg("%s", emb_fail_message());
        for (size_t k = 0; k < TEXTS; k++) {
            joiner j = {"", 0, 0, 0, {join, NULL, 0}};
            j.sink.user = &j;
            assert_int_equal(emb_pretokenize(&pre, u, &env, &work, texts[k], strlen(texts[k]),
                                             emb_utf8_len(texts[k][0]), &j.sink),
                             EMBED_OK);
            if (strcmp(j.text, cases[i].words[k]) != 0)
                fail_msg("%s of \"%s\": got \"%s\", want \"%s\"", cases[i].json, texts[k], j.text,
                         cases[i].words[k]);
            /* Told to stop, it gives the first words only. */
            const int words = j.count;
            for (int stop = 1; stop <= words; stop++) {
                joiner first = {"", 0, 0, stop, {join, NULL, 0}};
                first.sink.user = &first;
                assert_int_equal(emb_pretokenize(&pre, u, &env, &work, texts[k], strlen(texts[k]),
                                                 emb_utf8_len(texts[k][0]), &first.sink),
                                 EMBED_OK);
                assert_int_equal(first.count, stop);
                assert_memory_equal(first.text, j.text, first.len);
            }
        }
    }
    emb_pre_work_free(&work, &env);
    emb_unicode_free(u, &env);
}

static void test_refused(void **state) {
    (void)state;
    static const struct {
        const char *json, *message;
        embed_status status;
    } wrong[] = {
        {"{}", "type: expected a string, found nothing", EMBED_ERR_FORMAT},
        {"7", "expected an object, found 7", EMBED_ERR_FORMAT},
        {"{\"type\":\"ByteLevel\"}", "type: expected BertPreTokenizer, ", EMBED_ERR_UNSUPPORTED},
        {"{\"type\":\"Sequence\"}", "pretokenizers: expected an array", EMBED_ERR_FORMAT},
        {"{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\"}]}",
         "pretokenizers[0].type: expected ", EMBED_ERR_UNSUPPORTED},
        {"{\"type\":\"Metaspace\"}", "replacement: expected a string", EMBED_ERR_FORMAT},
        {"{\"type\":\"Metaspace\",\"replacement\":\"ab\"}", "replacement: expected one character",
         EMBED_ERR_FORMAT},
        {"{\"type\":\"Metaspace\",\"replacement\":\"\"}", "replacement: expected one character",
         EMBED_ERR_FORMAT},
        {"{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"last\"}",
         "prepend_scheme: expected always, first or never, found \"last\"", EMBED_ERR_UNSUPPORTED},
        {"{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"first\","
         "\"add_prefix_space\":false}",
         "prepend_scheme: expected never, since add_prefix_space is false", EMBED_ERR_FORMAT},
        {"{\"type\":\"Metaspace\",\"replacement\":\"_\",\"split\":1}",
         "split: expected true or false", EMBED_ERR_FORMAT},
        {"{\"type\":\"Punctuation\",\"behavior\":\"Kept\"}", "behavior: expected Removed, ",
         EMBED_ERR_UNSUPPORTED},
        {"{\"type\":\"Digits\"}", "individual_digits: expected true or false", EMBED_ERR_FORMAT},
    };
    emb_pretokenizer pre;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        const embed_status st = load(&pre, wrong[i].json);
        if (st != wrong[i].status || strstr(emb_fail_message(), wrong[i].message) == NULL)
            fail_msg("%s: %s", wrong[i].json, emb_fail_message());
    }
    char many[2048] = "{\"type\":\"Sequence\",\"pretokenizers\":[";
    for (int i = 0; i < EMB_PRE_MAX; i++)
        strcat(many, "{\"type\":\"Whitespace\"},");
    strcat(many, "{\"type\":\"Whitespace\"}]}");
    assert_int_equal(load(&pre, many), EMBED_ERR_UNSUPPORTED);
    assert_non_null(strstr(emb_fail_message(), "pretokenizers[16]: expected at most 16"));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_words),
                                       cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
