/* embed_ngram_advisor_*: arguments, cancelling, and the n-th allocation refused. */
#include "support/handles.h"

#define TEXTS 40
#define LENGTH 30

static tiny_model tiny;
static int32_t ids[TEXTS][LENGTH];
static embed_ids texts[TEXTS];
static embed_advise_cell cells[24], again[24]; /* of the default grid */

typedef struct test_peak {
    embed_allocator base;
    uint64_t now, most;
} test_peak;

static void *peak_alloc(void *user, size_t size, size_t align) {
    test_peak *p = user;
    p->now += size;
    p->most = p->now > p->most ? p->now : p->most;
    return p->base.alloc(p->base.user, size, align);
}

static void peak_free(void *user, void *ptr, size_t size) {
    test_peak *p = user;
    p->now -= size;
    p->base.free(p->base.user, ptr, size);
}

static int set_up(void **state) {
    (void)state;
    uint64_t rng = 3;
    tiny_spec s = tiny_spec_bert();
    tiny_model_make(&tiny, &s);
    for (size_t i = 0; i < TEXTS; i++) {
        for (size_t t = 0; t < LENGTH; t++)
            ids[i][t] = t == 0            ? TINY_CLS
                        : t == LENGTH - 1 ? TINY_SEP
                                          : TINY_FIRST_WORD + (int32_t)(test_rand(&rng) % 6);
        texts[i] = (embed_ids){ids[i], LENGTH};
    }
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    tiny_model_remove(&tiny);
    return 0;
}

static embed_model *open_model(void) {
    embed_model *model;
    TEST_OK(embed_model_open(&model, tiny.dir, NULL));
    return model;
}

static void advises(void **state) {
    (void)state;
    embed_model *model = open_model();
    embed_ngram_advisor *a;
    embed_advise_sample sample = {.struct_size = sizeof sample};
    size_t n;
    TEST_OK(embed_ngram_advisor_create(&a, model, NULL));
    embed_model_free(model); /* the advisor keeps it */
    TEST_OK(embed_ngram_advisor_add(a, texts, TEXTS));
    TEST_OK(embed_ngram_advisor_run(a, NULL, 0, &n, NULL));
    assert_int_equal(n, 24);
    n = 0;
    test_fails(embed_ngram_advisor_run(a, cells, 23, &n, NULL), EMBED_ERR_CAPACITY, "24");
    assert_int_equal(n, 24);
    TEST_OK(embed_ngram_advisor_run(a, cells, 24, &n, &sample));
    assert_int_equal(sample.texts_seen, TEXTS);
    assert_int_equal(sample.tokens_seen, TEXTS * LENGTH);
    assert_int_equal(sample.texts_held, TEXTS / 10);
    assert_int_equal(sample.tokens_held, TEXTS / 10 * LENGTH);
    assert_int_equal(sample.texts_counted, TEXTS - TEXTS / 10);
    assert_int_equal(sample.tokens_counted, (TEXTS - TEXTS / 10) * LENGTH);
    /* 36 pairs of 6 words, all of them often: all but the first word of a text match */
    assert_int_equal(cells[0].k, 2);
    assert_int_equal(cells[0].rows, 36);
    assert_int_equal(cells[0].matched, TEXTS / 10 * (LENGTH - 3));
    assert_int_equal(cells[0].hits[2], cells[0].matched);
    TEST_OK(embed_ngram_advisor_run(a, again, 24, &n, NULL));
    assert_memory_equal(cells, again, sizeof cells);
    embed_ngram_advisor_free(a);
    embed_ngram_advisor_free(NULL);
}

static void refuses(void **state) {
    (void)state;
    embed_model *model = open_model();
    embed_ngram_advisor *a = (embed_ngram_advisor *)1;
    const int32_t nine = 9, wrong = INT32_MAX, k = 3;
    const uint64_t none = 0;
    size_t n;
    test_fails(embed_ngram_advisor_create(NULL, model, NULL), EMBED_ERR_ARG, "out");
    test_fails(embed_ngram_advisor_create(&a, NULL, NULL), EMBED_ERR_ARG, "model");
    assert_null(a);
    const struct {
        embed_advise_params params;
        embed_status status;
        const char *says;
    } cases[] = {
        {{.struct_size = 0}, EMBED_ERR_ABI, "struct_size"},
        {{.struct_size = sizeof cases->params, .k = &nine, .n_k = 1}, EMBED_ERR_ARG, "k[0]"},
        {{.struct_size = sizeof cases->params, .k = &k}, EMBED_ERR_ARG, "k: "},
        {{.struct_size = sizeof cases->params, .n_rows = 2}, EMBED_ERR_ARG, "rows: "},
        {{.struct_size = sizeof cases->params, .rows = &none, .n_rows = 1},
         EMBED_ERR_ARG,
         "rows[0]"},
        {{.struct_size = sizeof cases->params, .held_out = 1}, EMBED_ERR_ARG, "held_out"},
        {{.struct_size = sizeof cases->params, .held_out = NAN}, EMBED_ERR_ARG, "held_out"},
        {{.struct_size = sizeof cases->params, .min_count = 1}, EMBED_ERR_ARG, "min_count"},
        {{.struct_size = sizeof cases->params, .width = -1}, EMBED_ERR_ARG, "width"},
        {{.struct_size = sizeof cases->params, .dtype = 77}, EMBED_ERR_ARG, "77"},
        {{.struct_size = sizeof cases->params, .job = {.memory = 5}}, EMBED_ERR_ARG, "memory"},
        {{.struct_size = sizeof cases->params, .job = {.threads = -1}}, EMBED_ERR_ARG, "threads"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        test_fails(embed_ngram_advisor_create(&a, model, &cases[i].params), cases[i].status,
                   cases[i].says);
        assert_null(a);
    }
    TEST_OK(embed_ngram_advisor_create(&a, model, NULL));
    const embed_ids foreign = {&wrong, 1}, missing = {NULL, 1};
    test_fails(embed_ngram_advisor_add(a, &foreign, 1), EMBED_ERR_ARG, "texts[0]");
    test_fails(embed_ngram_advisor_add(a, &missing, 1), EMBED_ERR_ARG, "texts[0].ptr");
    test_fails(embed_ngram_advisor_add(a, NULL, 1), EMBED_ERR_ARG, "texts");
    test_fails(embed_ngram_advisor_add(NULL, texts, 1), EMBED_ERR_ARG, "advisor");
    TEST_OK(embed_ngram_advisor_add(a, texts, 1));
    test_fails(embed_ngram_advisor_run(a, cells, 24, &n, NULL), EMBED_ERR_ARG, "2 texts");
    test_fails(embed_ngram_advisor_run(a, cells, 24, NULL, NULL), EMBED_ERR_ARG, "n");
    test_fails(embed_ngram_advisor_run(a, NULL, 24, &n, NULL), EMBED_ERR_ARG, "cells");
    embed_ngram_advisor_free(a);
    embed_model_free(model);
}

/* Every text twice: many more frequent n-grams than text usually has, and still within memory. */
static void stays_within_memory(void **state) {
    (void)state;
    enum { LONG = 200, PIECES = 400 };
    const uint64_t memory = 8 << 20;
    test_allocator allocator;
    embed_model *model = open_model();
    embed_ngram_advisor *a;
    embed_advise_params p = EMBED_ADVISE_PARAMS_INIT;
    embed_advise_sample sample = {.struct_size = sizeof sample};
    static int32_t long_ids[LONG];
    size_t n;
    uint64_t rng = 11;
    test_allocator_init(&allocator, 0);
    test_peak peak = {.base = allocator.allocator};
    const embed_allocator counting = {&peak, peak_alloc, peak_free};
    p.job.memory = memory;
    p.job.threads = 1;
    p.job.allocator = &counting;
    TEST_OK(embed_ngram_advisor_create(&a, model, &p));
    for (int i = 0; i < PIECES; i++) {
        const embed_ids text = {long_ids, LONG};
        for (size_t t = 0; i % 2 == 0 && t < LONG; t++)
            long_ids[t] = TINY_FIRST_WORD + (int32_t)(test_rand(&rng) % 40);
        TEST_OK(embed_ngram_advisor_add(a, &text, 1));
    }
    TEST_OK(embed_ngram_advisor_run(a, cells, 24, &n, &sample));
    assert_int_equal(sample.texts_seen, PIECES);
    assert_true(sample.texts_counted + sample.texts_held < PIECES); /* it was thinned */
    assert_true(sample.texts_counted > PIECES / 16);
    assert_true(peak.most <= memory + 4096);
    assert_true(peak.most > memory / 4);
    embed_ngram_advisor_free(a);
    embed_model_free(model);
    assert_int_equal(allocator.live, 0);
}

/* Stops at the report that *user counts down to. */
static int32_t count_down(void *user, const embed_job_report *report) {
    assert_non_null(report->phase);
    assert_non_null(report->unit);
    return --*(int *)user == 0;
}

static void cancels(void **state) {
    (void)state;
    embed_model *model = open_model();
    int finished = 0;
    for (int at = 1; !finished; at++) {
        int left = at;
        embed_ngram_advisor *a;
        embed_advise_params p = EMBED_ADVISE_PARAMS_INIT;
        size_t n;
        p.job.report = count_down;
        p.job.user = &left;
        embed_status st = embed_ngram_advisor_create(&a, model, &p);
        if (st == EMBED_OK)
            st = embed_ngram_advisor_add(a, texts, TEXTS);
        if (st == EMBED_OK)
            st = embed_ngram_advisor_run(a, cells, 24, &n, NULL);
        finished = left > 0;
        assert_int_equal(st, finished ? EMBED_OK : EMBED_ERR_CANCELLED);
        assert_true(finished ? at > 10 : at < 1000);
        embed_ngram_advisor_free(a);
    }
    embed_model_free(model);
}

static void out_of_memory(void **state) {
    (void)state;
    embed_model *model = open_model();
    for (long n = 1;; n++) {
        test_allocator allocator;
        embed_ngram_advisor *a;
        embed_advise_params p = EMBED_ADVISE_PARAMS_INIT;
        size_t n_cells;
        test_allocator_init(&allocator, n);
        p.job.allocator = &allocator.allocator;
        p.job.threads = 2;
        embed_status st = embed_ngram_advisor_create(&a, model, &p);
        if (st == EMBED_OK)
            st = embed_ngram_advisor_add(a, texts, TEXTS);
        if (st == EMBED_OK)
            st = embed_ngram_advisor_run(a, cells, 24, &n_cells, NULL);
        assert_int_equal(st, allocator.failed ? EMBED_ERR_NOMEM : EMBED_OK);
        embed_ngram_advisor_free(a);
        assert_int_equal(allocator.live, 0);
        if (!allocator.failed)
            break;
        assert_true(n < 5000);
    }
    embed_model_free(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(advises), cmocka_unit_test(refuses),
                                       cmocka_unit_test(stays_within_memory),
                                       cmocka_unit_test(cancels), cmocka_unit_test(out_of_memory)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
