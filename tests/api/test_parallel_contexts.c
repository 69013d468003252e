/* Threads of one application: contexts of one model side by side, tokenising and fingerprinting
 * meanwhile, the model freed while contexts live. Run under the thread sanitizer too. */
#include "support/handles.h"

#include <pthread.h>

#define THREADS 3
#define TEXTS 40
#define DIM 48
#define ROUNDS 4

struct user {
    embed_model *model;
    embed_context *ctx;
    embed_text *texts;
    float out[TEXTS * DIM];
    char print[33];
    size_t tokens;
    int failed;
};

static void *work(void *arg) {
    struct user *u = arg;
    for (int round = 0; round < ROUNDS && !u->failed; round++) {
        u->failed |= embed_encode(u->ctx, u->texts, TEXTS, NULL, u->out, TEXTS * DIM) != EMBED_OK;
        u->failed |= embed_model_fingerprint(u->model, u->print) != EMBED_OK;
        for (size_t i = 0; i < TEXTS; i++) {
            size_t n;
            u->failed |= embed_tokenize(u->model, u->texts[i], NULL, NULL, 0, &n) != EMBED_OK;
            u->tokens += n;
        }
    }
    embed_context_free(u->ctx);
    return NULL;
}

static void side_by_side(void **state) {
    (void)state;
    const tiny_spec specs[] = {tiny_spec_moe(), tiny_spec_bert()};
    for (int i = 0; i < 2; i++) {
        static struct user users[THREADS];
        pthread_t threads[THREADS];
        tiny_model m;
        tiny_model_make(&m, &specs[i]);
        embed_model *model = test_open(m.dir);
        embed_text *texts = test_texts(&m, 31, TEXTS, 40);
        memset(users, 0, sizeof users);
        for (int t = 0; t < THREADS; t++) {
            users[t].model = model;
            users[t].ctx = test_context(model, 1 + t, t == 1 ? 64 : 0);
            users[t].texts = texts;
        }
        for (int t = 0; t < THREADS; t++)
            assert_int_equal(pthread_create(&threads[t], NULL, work, &users[t]), 0);
        for (int t = 0; t < THREADS; t++)
            assert_int_equal(pthread_join(threads[t], NULL), 0);
        for (int t = 0; t < THREADS; t++) {
            assert_false(users[t].failed);
            assert_memory_equal(users[t].out, users[0].out, sizeof users[0].out);
            assert_string_equal(users[t].print, users[0].print);
            assert_int_equal(users[t].tokens, users[0].tokens);
        }
        embed_model_free(model);
        test_texts_free(texts, TEXTS);
        tiny_model_remove(&m);
    }
}

/* Two threads at one context is a mistake that is told, never a race. */
static void *intrude(void *arg) {
    struct user *u = arg;
    const embed_text text = {"w1", 2};
    float out[DIM];
    for (int i = 0; i < 2000; i++) {
        const embed_status st = embed_encode(u->ctx, &text, 1, NULL, out, DIM);
        u->failed |= st != EMBED_OK && st != EMBED_ERR_ARG;
    }
    return NULL;
}

static void one_context_two_threads(void **state) {
    (void)state;
    const tiny_spec s = tiny_spec_dense();
    tiny_model m;
    tiny_model_make(&m, &s);
    embed_model *model = test_open(m.dir);
    embed_context *ctx = test_context(model, 1, 0);
    static struct user users[2];
    users[0].ctx = users[1].ctx = ctx;
    pthread_t threads[2];
    for (int t = 0; t < 2; t++)
        assert_int_equal(pthread_create(&threads[t], NULL, intrude, &users[t]), 0);
    for (int t = 0; t < 2; t++) {
        assert_int_equal(pthread_join(threads[t], NULL), 0);
        assert_false(users[t].failed);
    }
    embed_model_free(model);
    embed_context_free(ctx);
    tiny_model_remove(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(side_by_side),
        cmocka_unit_test(one_context_two_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
