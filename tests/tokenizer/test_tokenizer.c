/* The whole way from text to ids with the two tokenizers that the tree ships, and the options of
 * one call. */
#include "tokenizer/tok_case.h"

typedef struct fixture {
    emb_tokenizer *minilm, *xlmr;
    emb_tok_scratch *scratch;
} fixture;

static int set_up(void **state) {
    static fixture f;
    const emb_env env = test_env();
    if (emb_tokenizer_open(&f.minilm, &env,
                           TEST_DATA_DIR "/tokenizers/all-MiniLM-L6-v2/tokenizer.json") ||
        emb_tokenizer_open(&f.xlmr, &env, TEST_DATA_DIR "/tokenizers/xlm-roberta/tokenizer.json") ||
        emb_tok_scratch_create(&f.scratch, &env)) {
        print_error("%s\n", emb_fail_message());
        return 1;
    }
    *state = &f;
    return 0;
}

static int tear_down(void **state) {
    fixture *f = *state;
    emb_tokenizer_free(f->minilm);
    emb_tokenizer_free(f->xlmr);
    emb_tok_scratch_free(f->scratch);
    return 0;
}

static void test_wordpiece_text(void **state) {
    const emb_tokenizer *t = ((fixture *)*state)->minilm;
    TOK_CHECK(t, "Hello, world! Caf\u00e9 na\u00efve", 101, 7592, 1010, 2088, 999, 7668, 15743,
              102);
    TOK_CHECK(t, "", 101, 102);
    TOK_CHECK(t, "\u4e2d\u6587 and \ud55c\uad6d\uc5b4", 101, 1746, 1861, 1998, 1469, 30006, 30021,
              29991, 30014, 30020, 29999, 30008, 102);
    TOK_CHECK(t, "a\0b\u200bc [MASK] <mask>  x", 101, 5925, 103, 1026, 7308, 1028, 1060, 102);
    TOK_CHECK(t, "unaffable supercalifragilistic", 101, 14477, 20961, 3468, 3565, 9289, 10128,
              29181, 24411, 4588, 102);
    TOK_CHECK(t, "\u0644\u0627 \U0001f600\u200d\U0001f525 \ufb01 \u2460", 101, 1294, 25573, 100,
              1984, 100, 102);
}

static void test_unigram_text(void **state) {
    const emb_tokenizer *t = ((fixture *)*state)->xlmr;
    TOK_CHECK(t, "Hello, world! Caf\u00e9 na\u00efve", 0, 35378, 4, 8999, 38, 61427, 24, 9392, 272,
              2);
    TOK_CHECK(t, "", 0, 2);
    TOK_CHECK(t, "\u4e2d\u6587 and \ud55c\uad6d\uc5b4", 0, 6, 32095, 136, 193751, 2);
    TOK_CHECK(t, "a\0b\u200bc [MASK] <mask>  x", 0, 10, 3, 275, 501, 378, 40639, 605, 268, 250001,
              1022, 2);
    TOK_CHECK(t, "unaffable supercalifragilistic", 0, 220, 4902, 2886, 1601, 52777, 6000, 8726,
              48242, 2);
    TOK_CHECK(t, "\u0644\u0627 \U0001f600\u200d\U0001f525 \ufb01 \u2460", 0, 1327, 21119, 6, 222326,
              809, 106, 2);
}

static void test_facts(void **state) {
    const fixture *f = *state;
    assert_int_equal(emb_tokenizer_vocab(f->minilm), 30522);
    assert_int_equal(emb_tokenizer_vocab(f->xlmr), 250002);
    assert_int_equal(emb_tokenizer_max_length(f->minilm), 128);
    assert_int_equal(emb_tokenizer_max_length(f->xlmr), 0);
    assert_int_equal(emb_tokenizer_special_count(f->minilm), 2);
    assert_int_equal(emb_tokenizer_ends_special(f->xlmr), 1);
    assert_int_equal(emb_tokenizer_id(f->minilm, "[CLS]", 5), 101);
    assert_int_equal(emb_tokenizer_id(f->minilm, "##ing", 5), 2075);
    assert_int_equal(emb_tokenizer_id(f->minilm, "no such token", 13), -1);
    assert_int_equal(emb_tokenizer_id(f->xlmr, "<mask>", 6), 250001);
    assert_int_equal(emb_tokenizer_id(f->xlmr, "</s>", 4), 2);
    assert_int_equal(emb_tokenizer_id(f->xlmr, "", 0), -1);
}

/* Stopping early gives what cutting the whole does. */
static void test_truncation(void **state) {
    const fixture *f = *state;
    static const char text[] =
        "The quick br\u00f6wn fox <mask> jumps [MASK] over the lazy dog\u3002\u4e2d\u6587 "
        "incomprehensibilities, 12345 \u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22.";
    const embed_text span = {text, sizeof text - 1};
    const emb_tokenizer *const both[] = {f->minilm, f->xlmr};
    for (int k = 0; k < 2; k++) {
        int32_t whole[128], truncated;
        const int32_t *ids;
        size_t n, len;
        emb_tok_options options = {{NULL, 0}, 0, 0};
        assert_int_equal(
            emb_tokenizer_encode(both[k], f->scratch, span, &options, &ids, &len, &truncated), 0);
        assert_in_range(len, 20, 128);
        assert_int_equal(truncated, 0);
        memcpy(whole, ids, len * sizeof *ids);
        for (int64_t max = 2; max < (int64_t)len + 3; max++) {
            options.max_tokens = max;
            assert_int_equal(
                emb_tokenizer_encode(both[k], f->scratch, span, &options, &ids, &n, &truncated), 0);
            const size_t want = max < (int64_t)len ? (size_t)max : len;
            assert_int_equal(n, want);
            assert_int_equal(truncated, want < len);
            assert_memory_equal(ids, whole, (n - 1) * sizeof *ids);
            assert_int_equal(ids[n - 1], whole[len - 1]);
        }
        options.flags = EMBED_NO_SPECIAL_TOKENS;
        for (int64_t max = 1; max < (int64_t)len; max++) {
            options.max_tokens = max;
            assert_int_equal(
                emb_tokenizer_encode(both[k], f->scratch, span, &options, &ids, &n, &truncated), 0);
            const size_t want = max < (int64_t)len - 2 ? (size_t)max : len - 2;
            assert_int_equal(n, want);
            assert_int_equal(truncated, want < len - 2);
            assert_memory_equal(ids, whole + 1, n * sizeof *ids);
        }
        options = (emb_tok_options){{NULL, 0}, 1, 0};
        assert_int_equal(
            emb_tokenizer_encode(both[k], f->scratch, span, &options, &ids, &n, &truncated),
            EMBED_ERR_ARG);
        assert_non_null(strstr(emb_fail_message(), "max_tokens: expected at least the 2 special"));
    }
}

/* A prefix and a text are one string, even inside a word or a character. */
static void test_prefix(void **state) {
    const fixture *f = *state;
    static const char text[] = "query: caf\u00e9 \U0001f600 latt\u00e9";
    const size_t len = sizeof text - 1;
    const emb_tokenizer *const both[] = {f->minilm, f->xlmr};
    for (int k = 0; k < 2; k++) {
        int32_t whole[64], truncated;
        const int32_t *ids;
        size_t n, want;
        const embed_text all = {text, len};
        assert_int_equal(
            emb_tokenizer_encode(both[k], f->scratch, all, NULL, &ids, &want, &truncated), 0);
        memcpy(whole, ids, want * sizeof *ids);
        for (size_t cut = 0; cut <= len; cut++) {
            const emb_tok_options options = {{text, cut}, 0, 0};
            const embed_text rest = {text + cut, len - cut};
            assert_int_equal(
                emb_tokenizer_encode(both[k], f->scratch, rest, &options, &ids, &n, &truncated), 0);
            tok_check_ids(text, ids, n, whole, want);
        }
    }
}

static void test_invalid_utf8(void **state) {
    const fixture *f = *state;
    const int32_t *ids;
    size_t n;
    int32_t truncated;
    /* As the well-formed text "a\ufffdb\ufffd\ufffdc\ufffd", whose ids come from the reference. */
    TOK_CHECK(f->xlmr,
              "a\x80"
              "b\xe4\xb8\xff"
              "c\xf0\x9f",
              0, 10, 876, 501, 2);
    const emb_tok_options options = {{"ok ", 3}, 0, EMBED_UTF8_REFUSE};
    const embed_text text = {"ab\xc0z", 4};
    assert_int_equal(
        emb_tokenizer_encode(f->xlmr, f->scratch, text, &options, &ids, &n, &truncated),
        EMBED_ERR_UTF8);
    assert_string_equal(emb_fail_message(),
                        "EMBED_ERR_UTF8: text: expected UTF-8, found byte 0xc0 at offset 2");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wordpiece_text), cmocka_unit_test(test_unigram_text),
        cmocka_unit_test(test_facts),          cmocka_unit_test(test_truncation),
        cmocka_unit_test(test_prefix),         cmocka_unit_test(test_invalid_utf8),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
