/* What of a model a table is bound to: the word embeddings and the tokenizer, nothing else. */
#include "support/handles.h"

#include "model/ngram_binding.h"

struct prints {
    char tokenizer[33], embedding[33], model[33];
};

static struct prints prints_of(const tiny_spec *spec, int32_t vocab) {
    struct prints p;
    tiny_model m;
    emb_ngram_binding b, check;
    tiny_model_make(&m, spec);
    embed_model *model = test_open(m.dir);
    TEST_OK(emb_ngram_binding_to_check(model, &check));
    assert_string_equal(check.model, "");
    TEST_OK(emb_ngram_binding_of(model, &b));
    assert_string_equal(check.embedding, b.embedding);
    assert_string_equal(check.tokenizer, b.tokenizer);
    assert_int_equal(b.hidden, spec->hidden);
    assert_int_equal(b.vocab, vocab);
    assert_int_equal(b.n_special, 5);
    for (int32_t i = 0; i < 5; i++)
        assert_int_equal(b.special[i], i);
    char whole[33];
    TEST_OK(embed_model_fingerprint(model, whole));
    assert_string_equal(b.model, whole);
    assert_int_equal(strspn(b.embedding, "0123456789abcdef"), 32);
    memcpy(p.tokenizer, b.tokenizer, sizeof p.tokenizer);
    memcpy(p.embedding, b.embedding, sizeof p.embedding);
    memcpy(p.model, b.model, sizeof p.model);
    embed_model_free(model);
    tiny_model_remove(&m);
    return p;
}

static void what_changes_what(void **state) {
    (void)state;
    const tiny_spec base = tiny_spec_dense();
    tiny_spec deeper = base, other = base, half = base;
    deeper.layers++; /* the word embeddings are drawn first and stay */
    other.seed++;
    half.dtype = EMBED_F16;
    const struct prints a = prints_of(&base, 256), again = prints_of(&base, 256),
                        b = prints_of(&deeper, 256), c = prints_of(&other, 256),
                        d = prints_of(&half, 256);
    assert_memory_equal(&a, &again, sizeof a);
    assert_string_equal(a.tokenizer, b.tokenizer);
    assert_string_equal(a.embedding, b.embedding);
    assert_string_not_equal(a.model, b.model);
    assert_string_equal(a.tokenizer, c.tokenizer);
    assert_string_not_equal(a.embedding, c.embedding);
    assert_string_not_equal(a.embedding, d.embedding);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_changes_what)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
