#include "support/handles.h"

void test_ok(embed_status st, const char *file, int line) {
    if (st != EMBED_OK)
        fail_msg("%s:%d: %s", file, line, embed_last_error());
}

void test_fails(embed_status st, embed_status want, const char *text) {
    if (st != want || strstr(embed_last_error(), text) == NULL)
        fail_msg("expected %s with \"%s\", found %s: \"%s\"", embed_status_name(want), text,
                 embed_status_name(st), embed_last_error());
}

embed_model *test_open(const char *dir) {
    embed_model *model;
    TEST_OK(embed_model_open(&model, dir, NULL));
    return model;
}

embed_context *test_context(embed_model *model, int threads, int batch_tokens) {
    embed_context_params params = EMBED_CONTEXT_PARAMS_INIT;
    embed_context *ctx;
    params.threads = threads;
    params.batch_tokens = batch_tokens;
    TEST_OK(embed_context_create(&ctx, model, &params));
    return ctx;
}

embed_text test_text(const char *s) {
    return (embed_text){s, strlen(s)};
}

embed_text *test_texts(const tiny_model *m, uint64_t seed, size_t n, size_t max_words) {
    embed_text *texts = calloc(n, sizeof *texts);
    assert_non_null(texts);
    for (size_t i = 0; i < n; i++) {
        const size_t words = 1 + test_rand(&seed) % max_words, cap = words * 8 + 1;
        char *s = malloc(cap);
        assert_non_null(s);
        tiny_words(m, &seed, words, s, cap);
        texts[i] = test_text(s);
    }
    return texts;
}

void test_texts_free(embed_text *texts, size_t n) {
    for (size_t i = 0; i < n; i++)
        free((void *)(uintptr_t)texts[i].ptr);
    free(texts);
}

size_t test_ids(const embed_model *model, embed_text text, int32_t *ids, size_t cap) {
    size_t n;
    TEST_OK(embed_tokenize(model, text, NULL, ids, cap, &n));
    return n;
}
