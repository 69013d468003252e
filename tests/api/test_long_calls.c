/* What a call reports while it runs and afterwards: reports, progress, cancelling, windows of many
 * texts, expert statistics, memory. */
#include "support/handles.h"
#include "support/reference.h"

#define DIM 48

struct fixture {
    tiny_model m;
    embed_model *model;
};

static void set_up(struct fixture *f, tiny_spec spec) {
    tiny_model_make(&f->m, &spec);
    f->model = test_open(f->m.dir);
}

static void tear_down(struct fixture *f) {
    embed_model_free(f->model);
    tiny_model_remove(&f->m);
}

static void reports_and_truncation(void **state) {
    (void)state;
    struct fixture f;
    tiny_spec s = tiny_spec_dense();
    s.positions = 20;
    set_up(&f, s);
    char words[2][256];
    uint64_t seed = 1;
    tiny_words(&f.m, &seed, 18, words[0], sizeof words[0]); /* just fits with two special tokens */
    tiny_words(&f.m, &seed, 19, words[1], sizeof words[1]);
    const embed_text texts[] = {test_text(words[0]), test_text(words[1]), {NULL, 0}};
    embed_context *ctx = test_context(f.model, 2, 0);
    embed_encode_params p = EMBED_ENCODE_PARAMS_INIT;
    embed_text_report reports[3];
    float out[3 * DIM], cut[DIM];
    p.reports = reports;
    TEST_OK(embed_encode(ctx, texts, 3, &p, out, 3 * DIM));
    const embed_text_report want[] = {{20, 0}, {20, 1}, {2, 0}};
    assert_memory_equal(reports, want, sizeof want);
    int32_t ids[32];
    size_t n;
    TEST_OK(embed_tokenize(f.model, texts[1], NULL, ids, 32, &n));
    assert_int_equal(n, 21);
    ids[19] = ids[20]; /* cut on the right, the special token stays */
    const embed_ids row = {ids, 20};
    TEST_OK(embed_encode_ids(ctx, &row, 1, NULL, cut, DIM));
    assert_memory_equal(out + DIM, cut, sizeof cut);
    p.max_tokens = 5;
    TEST_OK(embed_encode(ctx, texts, 3, &p, out, 3 * DIM));
    const embed_text_report shorter[] = {{5, 1}, {5, 1}, {2, 0}};
    assert_memory_equal(reports, shorter, sizeof shorter);
    p.max_tokens = 0;
    p.flags = EMBED_TRUNCATE_ERROR;
    test_fails(embed_encode(ctx, texts, 3, &p, out, 3 * DIM), EMBED_ERR_TOO_LONG,
               "text 1: expected at most 20 tokens, found 21");
    TEST_OK(embed_encode(ctx, texts, 1, &p, out, DIM)); /* the context is as good as before */
    embed_context_free(ctx);
    tear_down(&f);
}

static void invalid_utf8(void **state) {
    (void)state;
    struct fixture f;
    set_up(&f, tiny_spec_dense());
    const embed_text texts[] = {test_text("w1"), {"w2 \xff\xc3", 5}};
    embed_context *ctx = test_context(f.model, 2, 0);
    embed_encode_params p = EMBED_ENCODE_PARAMS_INIT;
    float out[2 * DIM];
    size_t n;
    TEST_OK(embed_encode(ctx, texts, 2, &p, out, 2 * DIM));
    p.flags = EMBED_UTF8_REFUSE;
    test_fails(embed_encode(ctx, texts, 2, &p, out, 2 * DIM), EMBED_ERR_UTF8, "text 1");
    test_fails(embed_tokenize(f.model, texts[1], &p, NULL, 0, &n), EMBED_ERR_UTF8,
               "EMBED_ERR_UTF8");
    embed_context_free(ctx);
    tear_down(&f);
}

struct watch {
    uint64_t calls, texts, total, tokens, stop_at;
    int orderly;
};

static int32_t watch_progress(void *user, uint64_t done, uint64_t total, uint64_t tokens) {
    struct watch *w = user;
    w->orderly &= done > w->texts && done <= total && tokens > w->tokens;
    w->calls++;
    w->texts = done;
    w->total = total;
    w->tokens = tokens;
    return w->calls == w->stop_at;
}

static void progress_and_cancel(void **state) {
    (void)state;
    enum { TEXTS = 300 };
    struct fixture f;
    set_up(&f, tiny_spec_dense());
    embed_text *texts = test_texts(&f.m, 8, TEXTS, 20);
    embed_context *ctx = test_context(f.model, 2, 100);
    static float out[TEXTS * DIM];
    struct watch w = {.orderly = 1};
    static embed_text_report reports[TEXTS];
    embed_encode_params p = EMBED_ENCODE_PARAMS_INIT;
    p.progress = watch_progress;
    p.progress_user = &w;
    p.reports = reports;
    TEST_OK(embed_encode(ctx, texts, TEXTS, &p, out, TEXTS * DIM));
    uint64_t tokens = 0;
    for (int i = 0; i < TEXTS; i++)
        tokens += (uint64_t)reports[i].tokens;
    assert_true(w.orderly);
    assert_int_equal(w.texts, TEXTS);
    assert_int_equal(w.total, TEXTS);
    assert_int_equal(w.tokens, tokens);
    assert_true(w.calls >= tokens / 100);
    const uint64_t calls = w.calls;
    for (uint64_t at = 1; at <= calls; at += 7) {
        w = (struct watch){.orderly = 1, .stop_at = at};
        test_fails(embed_encode(ctx, texts, TEXTS, &p, out, TEXTS * DIM), EMBED_ERR_CANCELLED,
                   "of 300 texts");
        assert_int_equal(w.calls, at);
    }
    test_texts_free(texts, TEXTS);
    embed_context_free(ctx);
    tear_down(&f);
}

static int32_t reenter(void *user, uint64_t done, uint64_t total, uint64_t tokens) {
    (void)done;
    (void)total;
    (void)tokens;
    float out[DIM];
    const embed_text text = {"w1", 2};
    test_fails(embed_encode(user, &text, 1, NULL, out, DIM), EMBED_ERR_ARG, "in use");
    return 0;
}

static void second_call_meanwhile_is_refused(void **state) {
    (void)state;
    struct fixture f;
    set_up(&f, tiny_spec_dense());
    embed_context *ctx = test_context(f.model, 1, 0);
    const embed_text text = test_text("w4");
    float out[DIM];
    embed_encode_params p = EMBED_ENCODE_PARAMS_INIT;
    p.progress = reenter;
    p.progress_user = ctx;
    TEST_OK(embed_encode(ctx, &text, 1, &p, out, DIM));
    embed_context_free(ctx);
    tear_down(&f);
}

/* Far more texts than a window holds; every row is written once, in input order. */
static void many_windows(void **state) {
    (void)state;
    enum { TEXTS = 5000, KINDS = 50 };
    struct fixture f;
    tiny_spec s = tiny_spec_dense();
    s.layers = 1;
    set_up(&f, s);
    embed_text *kinds = test_texts(&f.m, 21, KINDS, 12);
    embed_text *texts = calloc(TEXTS, sizeof *texts);
    static float want[KINDS * DIM];
    float *out = malloc((size_t)TEXTS * DIM * sizeof *out);
    embed_text_report *reports = calloc(TEXTS, sizeof *reports);
    assert_true(texts != NULL && out != NULL && reports != NULL);
    uint64_t seed = 3;
    for (size_t i = 0; i < TEXTS; i++)
        texts[i] = kinds[test_rand(&seed) % KINDS];
    embed_context *ctx = test_context(f.model, 3, 64); /* windows of 512 tokens, 64 texts */
    TEST_OK(embed_encode(ctx, kinds, KINDS, NULL, want, KINDS * DIM));
    embed_encode_params p = EMBED_ENCODE_PARAMS_INIT;
    p.reports = reports;
    TEST_OK(embed_encode(ctx, texts, TEXTS, &p, out, (size_t)TEXTS * DIM));
    for (size_t i = 0; i < TEXTS; i++) {
        size_t kind = 0;
        while (kinds[kind].ptr != texts[i].ptr)
            kind++;
        if (memcmp(out + i * DIM, want + kind * DIM, DIM * sizeof *out) != 0)
            fail_msg("row %zu differs", i);
        assert_true(reports[i].tokens > 2);
    }
    embed_context_free(ctx);
    test_texts_free(kinds, KINDS);
    free(texts);
    free(out);
    free(reports);
    tear_down(&f);
}

static void expert_statistics(void **state) {
    (void)state;
    enum { TEXTS = 80 };
    struct fixture f;
    set_up(&f, tiny_spec_moe());
    embed_text *texts = test_texts(&f.m, 13, TEXTS, 20);
    static float out[TEXTS * DIM];
    static embed_text_report reports[TEXTS];
    embed_encode_params p = EMBED_ENCODE_PARAMS_INIT;
    p.reports = reports;
    uint64_t seen[2][5];
    for (int round = 0; round < 2; round++) { /* the same counts however the batches fall */
        embed_context *ctx = test_context(f.model, 2, round == 0 ? 4096 : 64);
        TEST_OK(embed_encode(ctx, texts, TEXTS, &p, out, TEXTS * DIM));
        uint64_t tokens = 0;
        for (int i = 0; i < TEXTS; i++)
            tokens += (uint64_t)reports[i].tokens;
        for (int l = 0; l < 2; l++) {
            embed_expert_stats s = {.struct_size = sizeof s};
            TEST_OK(embed_get_expert_stats(ctx, l, &s));
            assert_int_equal(s.layer, 2 * l + 1);
            assert_int_equal(s.experts, 5);
            assert_int_equal(s.tokens, tokens);
            uint64_t sum = 0, most = 0;
            double gates = 0;
            for (int e = 0; e < 5; e++) {
                sum += s.expert_tokens[e];
                most = s.expert_tokens[e] > most ? s.expert_tokens[e] : most;
                gates += s.expert_gate[e] * (double)s.expert_tokens[e];
                if (round == 0)
                    seen[l][e] = s.expert_tokens[e];
                assert_int_equal(seen[l][e], s.expert_tokens[e]);
            }
            assert_int_equal(sum, 2 * tokens);
            assert_true(fabs((double)s.busiest_share - (double)most / (double)sum) < 1e-6);
            assert_true(fabs((double)s.mean_gate - gates / (double)sum) < 1e-6);
            assert_true(s.mean_gate > 1.f / 5 && s.mean_gate <= 0.5f);
        }
        embed_context_free(ctx);
    }
    test_texts_free(texts, TEXTS);
    tear_down(&f);
}

/* A text longer than batch_tokens grows the context once. */
static void memory_is_as_planned(void **state) {
    (void)state;
    struct fixture f;
    set_up(&f, tiny_spec_moe());
    const embed_context_params p = {.struct_size = sizeof p, .threads = 2, .batch_tokens = 64};
    uint64_t planned;
    TEST_OK(embed_plan_bytes(f.model, &p, &planned));
    embed_context *ctx = test_context(f.model, 2, 64);
    assert_int_equal(embed_context_threads(ctx), 2);
    assert_int_equal(embed_context_bytes(ctx), planned);
    char words[1600];
    uint64_t seed = 2;
    float out[DIM];
    tiny_words(&f.m, &seed, 40, words, sizeof words);
    embed_text text = test_text(words);
    TEST_OK(embed_encode(ctx, &text, 1, NULL, out, DIM));
    const uint64_t before = embed_context_bytes(ctx);
    tiny_words(&f.m, &seed, 250, words, sizeof words);
    text = test_text(words);
    TEST_OK(embed_encode(ctx, &text, 1, NULL, out, DIM));
    const uint64_t after = embed_context_bytes(ctx);
    assert_true(after > before + (252 - 64) * DIM * 4);
    TEST_OK(embed_encode(ctx, &text, 1, NULL, out, DIM));
    assert_int_equal(embed_context_bytes(ctx), after);
    embed_context_free(ctx);
    tear_down(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reports_and_truncation),
        cmocka_unit_test(invalid_utf8),
        cmocka_unit_test(progress_and_cancel),
        cmocka_unit_test(second_call_meanwhile_is_refused),
        cmocka_unit_test(many_windows),
        cmocka_unit_test(expert_statistics),
        cmocka_unit_test(memory_is_as_planned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
