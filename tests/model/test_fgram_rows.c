/* Rows of n-grams from an f-gram model: equal to a double reference that is fed the main model's
 * word embeddings, the same bits alone, in any batch and on any number of threads. */
#include "support/handles.h"

#include "base/dtype.h"
#include "model/fgram_rows.h"
#include "support/everywhere.h"
#include "support/reference.h"

#define N 300
#define HIDDEN 48

static emb_ngram_fgram set[N];

static int set_up(void **state) {
    uint64_t seed = 11;
    (void)state;
    for (int i = 0; i < N; i++) {
        set[i].length = (uint8_t)(2 + test_rand(&seed) % 7);
        for (int t = 0; t < set[i].length; t++)
            set[i].ids[t] = (uint32_t)(TINY_FIRST_WORD + test_rand(&seed) % 190);
    }
    return 0;
}

static float *rows_of(embed_model *model, embed_model *fgram, int source, int threads, int batch,
                      size_t step) {
    emb_fgram_encoder *e;
    float *out = calloc(N * HIDDEN, sizeof *out);
    assert_non_null(out);
    TEST_OK(emb_fgram_create(&e, model, fgram, source, threads, batch, NULL));
    for (size_t i = 0; i < N; i += step) {
        const size_t n = step < N - i ? step : N - i;
        TEST_OK(emb_fgram_run(e, set + i, n, i, out + i * HIDDEN));
    }
    assert_true(emb_fgram_bytes(e) > 0 && emb_fgram_window(e) > 0);
    emb_fgram_free(e);
    return out;
}

/* The double reference of the f-gram model with the main model's word embeddings in it. */
static void check_reference(const tiny_model *main_model, tiny_model *fgram, const float *rows) {
    tiny_tensor *word = NULL;
    float *own;
    size_t compared = 0;
    for (int i = 0; i < fgram->n_tensors; i++)
        if (strcmp(fgram->tensors[i].name, "embeddings.word_embeddings.weight") == 0)
            word = &fgram->tensors[i];
    assert_non_null(word);
    own = word->data;
    word->data = (float *)(uintptr_t)tiny_model_tensor(main_model, "%s", word->name);
    for (int i = 0; i < N; i += 3) {
        const size_t n = set[i].length;
        const int32_t *ids = (const int32_t *)set[i].ids;
        if (fgram->spec.moe_every > 0 && reference_router_gap(fgram, ids, n) < 1e-5)
            continue; /* rounding may choose another expert */
        double *states = reference_states(fgram, ids, n);
        const double *last = states + ((size_t)fgram->spec.layers * n + n - 1) * HIDDEN;
        assert_true(test_rel_l2(rows + i * HIDDEN, last, HIDDEN) < 2e-6);
        free(states);
        compared++;
    }
    assert_true(compared > N / 4);
    word->data = own;
}

static void check_pair(tiny_spec main_spec, tiny_spec fgram_spec) {
    tiny_model main_model, fgram;
    fgram_spec.seed = main_spec.seed + 5;
    tiny_model_make(&main_model, &main_spec);
    tiny_model_make(&fgram, &fgram_spec);
    embed_model *a = test_open(main_model.dir), *b = test_open(fgram.dir);
    float *rows = rows_of(a, b, EMB_FGRAM_MODEL, 1, 4096, N);
    check_reference(&main_model, &fgram, rows);
    static const struct {
        int threads, batch;
        size_t step;
    } ways[] = {{3, 4096, N}, {2, 1, N}, {1, 100, 1}, {4, 37, 41}};
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        float *again = rows_of(a, b, EMB_FGRAM_MODEL, ways[i].threads, ways[i].batch, ways[i].step);
        test_same_bits("rows", again, rows, N * HIDDEN);
        free(again);
    }
    free(rows);
    embed_model_free(b);
    embed_model_free(a);
    tiny_model_remove(&fgram);
    tiny_model_remove(&main_model);
}

static void dense_feeds_dense(void **state) {
    (void)state;
    check_pair(tiny_spec_dense(), tiny_spec_gated());
}

static void half_precision_feeds_experts(void **state) {
    (void)state;
    tiny_spec s = tiny_spec_bert();
    s.dtype = EMBED_BF16;
    check_pair(s, tiny_spec_moe());
}

static void experts_feed_bert(void **state) {
    (void)state;
    tiny_spec s = tiny_spec_moe();
    s.dtype = EMBED_F16;
    check_pair(s, tiny_spec_bert());
}

static void positions_with_an_offset(void **state) {
    (void)state;
    check_pair(tiny_spec_dense(), tiny_spec_xlmr());
}

/* A model that is its own f-gram model gives the last token state of the very text. */
static void own_model_is_the_encoder(void **state) {
    (void)state;
    tiny_model tiny;
    const tiny_spec spec = tiny_spec_moe();
    tiny_model_make(&tiny, &spec);
    embed_model *model = test_open(tiny.dir);
    float *rows = rows_of(model, model, EMB_FGRAM_MODEL, 2, 4096, N);
    const embed_encode_params p = {.struct_size = sizeof p, .flags = EMBED_NO_NORMALIZE};
    tiny_model last;
    tiny_spec last_spec = spec;
    last_spec.pooling = "lasttoken";
    tiny_model_make(&last, &last_spec); /* the same seed, so the same weights */
    embed_model *pooled = test_open(last.dir);
    embed_context *encoder = test_context(pooled, 1, 0);
    for (size_t i = 0; i < N; i += 7) {
        const embed_ids text = {(const int32_t *)set[i].ids, set[i].length};
        float want[HIDDEN];
        TEST_OK(embed_encode_ids(encoder, &text, 1, &p, want, HIDDEN));
        test_same_bits("last state", rows + i * HIDDEN, want, HIDDEN);
    }
    free(rows);
    embed_context_free(encoder);
    embed_model_free(pooled);
    tiny_model_remove(&last);
    embed_model_free(model);
    tiny_model_remove(&tiny);
}

static void derived_rows(void **state) {
    (void)state;
    static const int dtypes[] = {EMBED_F32, EMBED_F16, EMBED_BF16};
    for (size_t d = 0; d < 3; d++) {
        tiny_model tiny;
        tiny_spec spec = tiny_spec_dense();
        spec.dtype = dtypes[d];
        tiny_model_make(&tiny, &spec);
        const float *word = tiny_model_tensor(&tiny, "embeddings.word_embeddings.weight");
        embed_model *model = test_open(tiny.dir);
        float *last = rows_of(model, NULL, EMB_FGRAM_LAST, 2, 50, N);
        float *mean = rows_of(model, NULL, EMB_FGRAM_MEAN, 3, 4096, 60);
        for (size_t i = 0; i < N; i++) {
            const int n = set[i].length;
            for (size_t c = 0; c < HIDDEN; c++) {
                double sum = 0;
                for (int t = 0; t < n; t++)
                    sum += (double)word[set[i].ids[t] * HIDDEN + c];
                assert_true(last[i * HIDDEN + c] == word[set[i].ids[n - 1] * HIDDEN + c]);
                assert_true(fabs((double)mean[i * HIDDEN + c] - sum / n) < 1e-6);
            }
        }
        free(last);
        free(mean);
        embed_model_free(model);
        tiny_model_remove(&tiny);
    }
}

static void what_does_not_fit_is_refused(void **state) {
    (void)state;
    tiny_model tiny, wide, wordy, brief;
    tiny_spec spec = tiny_spec_dense();
    tiny_model_make(&tiny, &spec);
    spec.hidden = 64;
    tiny_model_make(&wide, &spec);
    spec = tiny_spec_dense();
    spec.words += 64;
    tiny_model_make(&wordy, &spec);
    spec = tiny_spec_dense();
    spec.positions = 5;
    tiny_model_make(&brief, &spec);
    embed_model *model = test_open(tiny.dir), *a = test_open(wide.dir), *b = test_open(wordy.dir),
                *c = test_open(brief.dir);
    emb_fgram_encoder *e = (emb_fgram_encoder *)1;
    test_fails(emb_fgram_create(&e, model, a, EMB_FGRAM_MODEL, 1, 100, NULL), EMBED_ERR_MISMATCH,
               "hidden width 64, but ");
    assert_null(e);
    test_fails(emb_fgram_create(&e, model, b, EMB_FGRAM_MODEL, 1, 100, NULL), EMBED_ERR_MISMATCH,
               "vocabulary of 320, but ");
    TEST_OK(emb_fgram_create(&e, model, c, EMB_FGRAM_MODEL, 1, 100, NULL));
    float out[HIDDEN];
    emb_ngram_fgram g = {{60, 61, 62, 63, 64, 65, 66, 67}, 1, 5, {0}};
    TEST_OK(emb_fgram_run(e, &g, 1, 0, out));
    g.length = 6;
    test_fails(emb_fgram_run(e, &g, 1, 7, out), EMBED_ERR_FORMAT,
               "f-gram 7: 6 ids, but the f-gram model ");
    g.length = 1;
    test_fails(emb_fgram_run(e, &g, 1, 8, out), EMBED_ERR_FORMAT, "f-gram 8: expected 2");
    g.length = 3;
    g.ids[2] = 256;
    test_fails(emb_fgram_run(e, &g, 1, 9, out), EMBED_ERR_FORMAT,
               "f-gram 9: expected ids below 256");
    TEST_OK(emb_fgram_run(e, &g, 0, 0, out));
    emb_fgram_free(e);
    emb_fgram_free(NULL);
    embed_model_free(a);
    embed_model_free(b);
    embed_model_free(c);
    embed_model_free(model);
    tiny_model_remove(&tiny);
    tiny_model_remove(&wide);
    tiny_model_remove(&wordy);
    tiny_model_remove(&brief);
}

/* A context is big: here the allocations that are the encoder's own. */
static void allocations_that_fail(void **state) {
    (void)state;
    tiny_model tiny;
    const tiny_spec spec = tiny_spec_dense();
    tiny_model_make(&tiny, &spec);
    test_allocator a;
    test_allocator_init(&a, 0);
    embed_model_params p = EMBED_MODEL_PARAMS_INIT;
    p.allocator = &a.allocator;
    embed_model *model;
    TEST_OK(embed_model_open(&model, tiny.dir, &p));
    const long open = a.live;
    for (long n = 1;; n++) {
        emb_fgram_encoder *e;
        float out[4 * HIDDEN];
        assert_true(n < 200);
        a.failed = 0;
        a.fail_at = a.calls + n;
        embed_status st = emb_fgram_create(&e, model, model, EMB_FGRAM_MODEL, 2, 64, NULL);
        if (st == EMBED_OK)
            st = emb_fgram_run(e, set, 4, 0, out);
        emb_fgram_free(e);
        assert_int_equal(a.live, open);
        if (!a.failed) {
            TEST_OK(st);
            break;
        }
        test_fails(st, EMBED_ERR_NOMEM, "EMBED_ERR_NOMEM: ");
    }
    a.fail_at = 0;
    embed_model_free(model);
    assert_int_equal(a.live, 0);
    tiny_model_remove(&tiny);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dense_feeds_dense),
        cmocka_unit_test(half_precision_feeds_experts),
        cmocka_unit_test(experts_feed_bert),
        cmocka_unit_test(positions_with_an_offset),
        cmocka_unit_test(own_model_is_the_encoder),
        cmocka_unit_test(derived_rows),
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(allocations_that_fail),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
