/* Replace: plain patterns and counted classes, against the reference; what is beyond is refused. */
#include "tokenizer/tok_case.h"

#define TEXTS 8
static const char *const texts[TEXTS] = {
    "a  b   c d", "  ", " a\011 \u3000b\012", "``x''y``", "xxxxx", "a.b+c", "aaa", ""};
#define R "-\u00e9"

static const struct {
    const char *pattern;
    int regex;
    const char *results[TEXTS];
} cases[] = {
    {" {2,}",
     1,
     {"a" R "b" R "c d", R, " a\011 \u3000b\012", "``x''y``", "xxxxx", "a.b+c", "aaa", ""}},
    {"\\s+", 1, {"a" R "b" R "c" R "d", R, R "a" R "b" R, "``x''y``", "xxxxx", "a.b+c", "aaa", ""}},
    {"``", 0, {"a  b   c d", "  ", " a\011 \u3000b\012", R "x''y" R, "xxxxx", "a.b+c", "aaa", ""}},
    {"x{2,3}", 1, {"a  b   c d", "  ", " a\011 \u3000b\012", "``x''y``", R R, "a.b+c", "aaa", ""}},
    {"x{2}",
     1,
     {"a  b   c d", "  ", " a\011 \u3000b\012", "``x''y``", R R "x", "a.b+c", "aaa", ""}},
    {"a\\.b\\+",
     1,
     {"a  b   c d", "  ", " a\011 \u3000b\012", "``x''y``", "xxxxx", R "c", "aaa", ""}},
    {"[ \\t]+",
     1,
     {"a" R "b" R "c" R "d", R, R "a" R "\u3000b\012", "``x''y``", "xxxxx", "a.b+c", "aaa", ""}},
    {"aa", 0, {"a  b   c d", "  ", " a\011 \u3000b\012", "``x''y``", "xxxxx", "a.b+c", R "a", ""}},
    {"[\\s\\.]",
     1,
     {"a" R R "b" R R R "c" R "d", R R, R "a" R R R "b" R, "``x''y``", "xxxxx", "a" R "b+c", "aaa",
      ""}},
    {"\u3000",
     1,
     {"a  b   c d", "  ", " a\011 " R "b\012", "``x''y``", "xxxxx", "a.b+c", "aaa", ""}},
};

static void test_patterns(void **state) {
    (void)state;
    const emb_env env = test_env();
    emb_unicode *u;
    emb_text_buf out = {NULL, 0, 0};
    assert_int_equal(emb_unicode_create(&u, &env), EMBED_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        emb_replace r;
        assert_int_equal(emb_replace_create(&r, &env, cases[i].pattern, strlen(cases[i].pattern),
                                            cases[i].regex, R, strlen(R)),
                         EMBED_OK);
        for (size_t k = 0; k < TEXTS; k++) {
            size_t zero = 0;
            out.len = 0;
            assert_int_equal(
                emb_replace_apply(&r, u, &env, texts[k], strlen(texts[k]), &out, &zero), EMBED_OK);
            assert_int_equal(zero, 0);
            assert_int_equal(emb_text_reserve(&out, &env, 1), EMBED_OK);
            out.data[out.len] = '\0';
            if (strcmp(out.data, cases[i].results[k]) != 0)
                fail_msg("%s in \"%s\": got \"%s\", want \"%s\"", cases[i].pattern, texts[k],
                         out.data, cases[i].results[k]);
        }
        emb_replace_free(&r, &env);
    }
    emb_free(&env, out.data);
    emb_unicode_free(u, &env);
}

static void test_refused(void **state) {
    (void)state;
    static const char *const beyond[] = {"",
                                         "a*",
                                         "a?",
                                         "(a)",
                                         "a|b",
                                         "^a",
                                         "a$",
                                         ".",
                                         "a+b",
                                         " {0,}",
                                         " {,2}",
                                         " {3,2}",
                                         " {2",
                                         " {2,}+",
                                         "[^a]",
                                         "[a-z]",
                                         "[a",
                                         "[]",
                                         "\\d+",
                                         "\\w",
                                         "\\b",
                                         "a\\",
                                         "\\p{L}",
                                         "[\\d]",
                                         "[abcdefghi]+",
                                         "*",
                                         "+",
                                         "{2}",
                                         "a{99999999999}",
                                         "\\1",
                                         "[a&&b]",
                                         "x{2}y"};
    const emb_env env = test_env();
    for (size_t i = 0; i < sizeof beyond / sizeof *beyond; i++) {
        emb_replace r;
        const embed_status st =
            emb_replace_create(&r, &env, beyond[i], strlen(beyond[i]), 1, " ", 1);
        if (st != EMBED_ERR_UNSUPPORTED)
            fail_msg("\"%s\": %s", beyond[i], embed_status_name(st));
        emb_replace_free(&r, &env);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_patterns),
                                       cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
