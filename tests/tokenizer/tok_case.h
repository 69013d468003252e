/* tok_case: opening tokenizers from text and comparing their ids, for the tests of this folder. */
#ifndef EMB_TESTS_TOKENIZER_TOK_CASE_H
#define EMB_TESTS_TOKENIZER_TOK_CASE_H

#include "support/files.h"
#include "support/test.h"
#include "tokenizer/tokenizer_impl.h"

/* Expected ids and strings in these tests come from the Hugging Face tokenizers library, 0.23.3:
 *   tokenizers.Tokenizer.from_str(json).encode(text).ids      (truncation and padding off)
 *   tokenizers.Tokenizer.from_str(json).normalizer.normalize_str(text)
 *   tokenizers.Tokenizer.from_str(json).pre_tokenizer.pre_tokenize_str(text) */

static inline embed_status tok_open(emb_tokenizer **out, const emb_env *env, const char *json) {
    char dir[256];
    test_dir_make(dir);
    test_write(dir, "tokenizer.json", json, -1);
    const embed_status st = emb_tokenizer_open(out, env, test_path(dir, "tokenizer.json"));
    test_dir_remove(dir);
    return st;
}

/* A tokenizer.json of these parts; NULL for null. */
static inline char *tok_json(const char *added, const char *normalizer, const char *pre,
                             const char *post, const char *model) {
    static const char format[] =
        "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":%s,"
        "\"normalizer\":%s,\"pre_tokenizer\":%s,\"post_processor\":%s,\"decoder\":null,"
        "\"model\":%s}";
    const char *const part[] = {added, normalizer, pre, post, model};
    size_t room = sizeof format;
    for (int i = 0; i < 5; i++)
        room += part[i] != NULL ? strlen(part[i]) : 4;
    char *json = malloc(room);
    assert_non_null(json);
    (void)snprintf(json, room, format, added != NULL ? added : "[]",
                   normalizer != NULL ? normalizer : "null", pre != NULL ? pre : "null",
                   post != NULL ? post : "null", model != NULL ? model : "null");
    return json;
}

static inline emb_tokenizer *tok_make(const char *added, const char *normalizer, const char *pre,
                                      const char *post, const char *model) {
    emb_tokenizer *tok;
    const emb_env env = test_env();
    char *json = tok_json(added, normalizer, pre, post, model);
    const embed_status st = tok_open(&tok, &env, json);
    free(json);
    if (st != EMBED_OK)
        fail_msg("%s", emb_fail_message());
    return tok;
}

static inline void tok_check_ids(const char *what, const int32_t *got, size_t n,
                                 const int32_t *want, size_t want_n) {
    int equal = n == want_n;
    for (size_t i = 0; equal && i < n; i++)
        equal = got[i] == want[i];
    if (equal)
        return;
    print_message("%s\n  got ", what);
    for (size_t i = 0; i < n; i++)
        print_message(" %d", (int)got[i]);
    print_message("\n  want");
    for (size_t i = 0; i < want_n; i++)
        print_message(" %d", (int)want[i]);
    print_message("\n");
    fail_msg("ids differ");
}

/* Encode text[0 .. len) with a fresh scratch and compare. */
static inline void tok_check(const emb_tokenizer *tok, const char *text, size_t len,
                             const int32_t *want, size_t want_n) {
    const emb_env env = test_env();
    emb_tok_scratch *scratch;
    const int32_t *ids;
    size_t n;
    int32_t truncated;
    assert_int_equal(emb_tok_scratch_create(&scratch, &env), EMBED_OK);
    const embed_text span = {text, len};
    if (emb_tokenizer_encode(tok, scratch, span, NULL, &ids, &n, &truncated) != EMBED_OK)
        fail_msg("%s", emb_fail_message());
    assert_int_equal(truncated, 0);
    tok_check_ids(text, ids, n, want, want_n);
    emb_tok_scratch_free(scratch);
}

/* TOK_CHECK(tok, "text", 1, 2, 3): the text's ids; the text may hold NUL bytes. */
#define TOK_CHECK(tok, text, ...)                                                                  \
    do {                                                                                           \
        const int32_t want_[] = {__VA_ARGS__};                                                     \
        tok_check(tok, text, sizeof(text) - 1, want_, sizeof want_ / sizeof *want_);               \
    } while (0)

#endif
