/* WordPiece: longest match first, continuation prefixes, words that are too long or unknown. */
#include "tokenizer/tok_case.h"

#define MODEL(prefix)                                                                              \
    "{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"continuing_subword_prefix\":\"" prefix      \
    "\",\"max_input_chars_per_word\":10,\"vocab\":{\"[UNK]\":0,\"un\":1,\"##aff\":2,"              \
    "\"##able\":3,\"a\":4,\"##b\":5,\"##c\":6,\"\u00e9\":7,\"##\u4e2d\":8,\"ab\":9,\"##\":10,"     \
    "\"##\u00e9\":11}}"

static void test_words(void **state) {
    (void)state;
    emb_tokenizer *tok = tok_make(NULL, NULL, NULL, NULL, MODEL("##"));
    TOK_CHECK(tok, "unaffable", 1, 2, 3);
    TOK_CHECK(tok, "abc", 9, 6);
    TOK_CHECK(tok, "abcb", 9, 6, 5);
    TOK_CHECK(tok, "abd", 0);
    TOK_CHECK(tok, "\u00e9\u4e2d\u00e9", 7, 8, 11);
    TOK_CHECK(tok, "aaaaaaaaaa", 0);
    TOK_CHECK(tok, "##", 10);
    TOK_CHECK(tok, "##b", 5);
    TOK_CHECK(tok, "b", 0);
    /* The limit counts characters, not bytes. */
    TOK_CHECK(tok, "abbbbbbbbb", 9, 5, 5, 5, 5, 5, 5, 5, 5);
    TOK_CHECK(tok, "abbbbbbbbbb", 0);
    TOK_CHECK(tok, "\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9", 7, 11, 11, 11,
              11, 11, 11, 11, 11, 11);
    TOK_CHECK(tok, "\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9", 0);
    emb_tokenizer_free(tok);
}

static void test_prefixes(void **state) {
    (void)state;
    emb_tokenizer *tok = tok_make(NULL, NULL, NULL, NULL, MODEL(""));
    TOK_CHECK(tok, "unab", 1, 9);
    TOK_CHECK(tok, "aab", 4, 9);
    TOK_CHECK(tok, "abc", 0);
    emb_tokenizer_free(tok);
    tok = tok_make(NULL, NULL, NULL, NULL, MODEL("@@")); /* no token has it */
    TOK_CHECK(tok, "ab", 9);
    TOK_CHECK(tok, "abb", 0);
    TOK_CHECK(tok, "un", 1);
    emb_tokenizer_free(tok);
}

/* One word of a megabyte is one unknown token. */
static void test_huge_word(void **state) {
    (void)state;
    emb_tokenizer *tok = tok_make(NULL, NULL, NULL, NULL, MODEL("##"));
    const size_t n = 1 << 20;
    const int32_t want[] = {0};
    char *text = malloc(n);
    assert_non_null(text);
    memset(text, 'a', n);
    tok_check(tok, text, n, want, 1);
    free(text);
    emb_tokenizer_free(tok);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_words),
                                       cmocka_unit_test(test_prefixes),
                                       cmocka_unit_test(test_huge_word)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
