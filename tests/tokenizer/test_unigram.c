/* Unigram: best segmentation, ties, unknown stretches, byte fallback. */
#include "tokenizer/tok_case.h"

#define MODEL(fallback)                                                                            \
    "{\"type\":\"Unigram\",\"unk_id\":0,\"byte_fallback\":" fallback                               \
    ",\"vocab\":[[\"<unk>\",-5.0],[\"a\",-1.0],[\"b\",-1.0],[\"ab\",-2.0],[\"abc\",-2.5],"         \
    "[\"c\",-0.5],[\"\u00e9\",-1.5],[\"bc\",-1.5],[\"<0xE4>\",-9.0],[\"<0xB8>\",-9.0],"            \
    "[\"<0xAD>\",-9.0],[\"\u2581a\",-0.7],[\"zz\",30.0]]}"

static void check_common(const emb_tokenizer *tok) {
    TOK_CHECK(tok, "ab", 3); /* a tie: the longer piece */
    TOK_CHECK(tok, "abc", 4);
    TOK_CHECK(tok, "abcabc", 4, 4);
    TOK_CHECK(tok,
              "\u00e9"
              "a",
              6, 1);
    TOK_CHECK(tok, "xyz", 0); /* unknown characters in a row are one token */
    TOK_CHECK(tok, "axyb", 1, 0, 2);
    TOK_CHECK(tok, "\u4e2dx", 0);
    TOK_CHECK(tok, "<unk>", 0);
    TOK_CHECK(tok, "x<unk>", 0);
    TOK_CHECK(tok, "a<unk>b", 1, 0, 2);
    TOK_CHECK(tok, "zz", 12);
    TOK_CHECK(tok, "zzz", 0, 12);
    TOK_CHECK(tok, "\u2581a", 11);
}

static void test_words(void **state) {
    (void)state;
    emb_tokenizer *tok = tok_make(NULL, NULL, NULL, NULL, MODEL("false"));
    check_common(tok);
    TOK_CHECK(tok, "\u4e2d", 0);
    TOK_CHECK(tok,
              "a\u4e2d"
              "b",
              1, 0, 2);
    emb_tokenizer_free(tok);
}

static void test_byte_fallback(void **state) {
    (void)state;
    emb_tokenizer *tok = tok_make(NULL, NULL, NULL, NULL, MODEL("true"));
    check_common(tok);
    TOK_CHECK(tok, "\u4e2d", 8, 9, 10);
    TOK_CHECK(tok,
              "a\u4e2d"
              "b",
              1, 8, 9, 10, 2);
    emb_tokenizer_free(tok);
}

static void test_odd_vocabularies(void **state) {
    (void)state;
    /* Of a piece that stands there twice the last one counts, the least score of all does too. */
    emb_tokenizer *tok = tok_make(NULL, NULL, NULL, NULL,
                                  "{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"<unk>\",-1.0],"
                                  "[\"a\",-3.0],[\"a\",-1.0],[\"b\",2.0],[\"xy\",-90.0],"
                                  "[\"q\",-100.0]]}");
    TOK_CHECK(tok, "ab", 2, 3);
    TOK_CHECK(tok, "aa", 2, 2);
    TOK_CHECK(tok, "xyz", 4, 0);
    TOK_CHECK(tok, "zxy", 0, 4);
    emb_tokenizer_free(tok);
    /* With scores this high unknown characters beat the piece, and are found to be it. */
    tok = tok_make(NULL, NULL, NULL, NULL,
                   "{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"<unk>\",30.0],[\"xy\",25.0],"
                   "[\"q\",30.0]]}");
    TOK_CHECK(tok, "xy", 1);
    TOK_CHECK(tok, "xyz", 0);
    TOK_CHECK(tok, "qxyq", 2, 1, 2);
    TOK_CHECK(tok, "qzxyq", 2, 0, 2);
    emb_tokenizer_free(tok);
}

static void test_no_unknown(void **state) {
    (void)state;
    const emb_env env = test_env();
    emb_tok_scratch *scratch;
    const int32_t *ids;
    size_t n;
    int32_t truncated;
    emb_tokenizer *tok = tok_make(NULL, NULL, NULL, NULL,
                                  "{\"type\":\"Unigram\",\"unk_id\":null,\"vocab\":[[\"a\",-1]]}");
    TOK_CHECK(tok, "aa", 0, 0);
    assert_int_equal(emb_tok_scratch_create(&scratch, &env), EMBED_OK);
    const embed_text text = {"a\u00e9", 3};
    assert_int_equal(emb_tokenizer_encode(tok, scratch, text, NULL, &ids, &n, &truncated),
                     EMBED_ERR_FORMAT);
    assert_non_null(strstr(emb_fail_message(), "model.unk_id: expected an id, since U+00E9"));
    emb_tok_scratch_free(scratch);
    emb_tokenizer_free(tok);
}

/* A megabyte without a space goes through the search in linear time. */
static void test_huge_word(void **state) {
    (void)state;
    emb_tokenizer *tok = tok_make(NULL, NULL, NULL, NULL, MODEL("false"));
    const size_t words = 350000;
    char *text = malloc(words * 3);
    int32_t *want = malloc(words * sizeof *want);
    assert_non_null(text);
    assert_non_null(want);
    for (size_t i = 0; i < words; i++) {
        memcpy(text + i * 3, "abc", 3);
        want[i] = 4;
    }
    tok_check(tok, text, words * 3, want, words);
    free(text);
    free(want);
    emb_tokenizer_free(tok);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_byte_fallback),
        cmocka_unit_test(test_odd_vocabularies),
        cmocka_unit_test(test_no_unknown),
        cmocka_unit_test(test_huge_word),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
