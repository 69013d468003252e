/* Counting n-grams of texts through the public interface, on one to four threads, compared with a
 * naive count of what embed_tokenize gives. Run under the thread sanitizer too. */
#define _POSIX_C_SOURCE 200809L
#include "support/counting.h"
#include "support/handles.h"

#define TEXTS 700
#define SPECIAL 5 /* ids 0 .. 4 of the tiny tokenizer are special */
#define MOST_IDS 400

typedef struct corpus {
    tiny_model files;
    embed_model *model;
    embed_text *texts;
    embed_ids *rows; /* the same as ids, special tokens around them */
    uint32_t *stream;
    size_t positions;
    char output[300];
} corpus;

static embed_text copy(const char *s) {
    char *bytes = malloc(strlen(s) + 1);
    memcpy(bytes, s, strlen(s) + 1);
    return (embed_text){bytes, strlen(s)};
}

static int make_corpus(void **state) {
    corpus *c = calloc(1, sizeof *c);
    const tiny_spec spec = tiny_spec_bert();
    embed_encode_params bare = EMBED_ENCODE_PARAMS_INIT;
    int32_t ids[MOST_IDS];
    tiny_model_make(&c->files, &spec);
    c->model = test_open(c->files.dir);
    c->texts = test_texts(&c->files, 4, TEXTS, 30);
    free((char *)c->texts[7].ptr);
    c->texts[7] = copy("");
    free((char *)c->texts[8].ptr);
    c->texts[8] = copy("w1 w2 [SEP] w1 w2 \xE2\x98\x83 w1 w2"); /* a snowman is unknown */
    c->rows = calloc(TEXTS, sizeof *c->rows);
    c->stream = calloc((size_t)TEXTS * MOST_IDS, sizeof *c->stream);
    bare.flags = EMBED_NO_SPECIAL_TOKENS;
    for (size_t i = 0; i < TEXTS; i++) {
        size_t n;
        TEST_OK(embed_tokenize(c->model, c->texts[i], &bare, ids, MOST_IDS, &n));
        for (size_t j = 0; j < n; j++)
            c->stream[c->positions++] = ids[j] < SPECIAL ? EMB_NGRAM_BREAK : (uint32_t)ids[j];
        c->stream[c->positions++] = EMB_NGRAM_END;
        TEST_OK(embed_tokenize(c->model, c->texts[i], NULL, ids, MOST_IDS, &n));
        int32_t *row = malloc(n * sizeof *row);
        memcpy(row, ids, n * sizeof *row);
        c->rows[i] = (embed_ids){row, n};
    }
    (void)snprintf(c->output, sizeof c->output, "%s/counts", c->files.dir);
    *state = c;
    return 0;
}

static int free_corpus(void **state) {
    corpus *c = *state;
    for (size_t i = 0; i < TEXTS; i++)
        free((int32_t *)c->rows[i].ptr);
    free(c->rows);
    free(c->stream);
    test_texts_free(c->texts, TEXTS);
    embed_model_free(c->model);
    tiny_model_remove(&c->files);
    free(c);
    return 0;
}

static embed_count_params params(int32_t threads) {
    embed_count_params p = EMBED_COUNT_PARAMS_INIT;
    p.k = 4;
    p.min_count = 2;
    p.min_documents = 2;
    p.job.threads = threads;
    p.job.memory = 2 << 20;
    return p;
}

static void check_counts(const corpus *c) {
    naive_ngrams want = naive_count(c->stream, c->positions, 4, 2, 2);
    assert_true(want.n > 500);
    counting_check(c->output, &want, 1);
    free(want.items);
}

static void texts_and_ids_on_any_threads(void **state) {
    const corpus *c = *state;
    char *first = NULL;
    size_t size = 0;
    for (int32_t threads = 1; threads <= 4; threads++)
        for (int as_ids = 0; as_ids < 2; as_ids++) {
            const embed_count_params p = params(threads);
            embed_ngram_counter *counter;
            embed_count_result result = {.struct_size = sizeof result};
            TEST_OK(embed_ngram_counter_create(&counter, c->model, c->output, &p));
            for (size_t i = 0, n; i < TEXTS; i += n) {
                n = i + 97 < TEXTS ? 97 : TEXTS - i;
                TEST_OK(as_ids ? embed_ngram_counter_add_ids(counter, c->rows + i, n)
                               : embed_ngram_counter_add(counter, c->texts + i, n));
            }
            TEST_OK(embed_ngram_counter_finish(counter, &result));
            embed_ngram_counter_free(counter);
            assert_int_equal(result.texts, TEXTS);
            check_counts(c);
            if (first == NULL)
                first = counting_read(c->output, &size);
            assert_true(counting_same(c->output, first, size));
        }
    free(first);
}

static void info_merge_and_select(void **state) {
    const corpus *c = *state;
    char merged[320], list[320];
    (void)snprintf(merged, sizeof merged, "%s-merged", c->output);
    (void)snprintf(list, sizeof list, "%s-list", c->output);
    const embed_count_params p = params(2);
    embed_ngram_counter *counter;
    TEST_OK(embed_ngram_counter_create(&counter, c->model, c->output, &p));
    TEST_OK(embed_ngram_counter_add(counter, c->texts, TEXTS));
    TEST_OK(embed_ngram_counter_finish(counter, NULL));
    embed_ngram_counter_free(counter);
    embed_counts_info info = {.struct_size = sizeof info}, sum = info;
    TEST_OK(embed_counts_get_info(c->output, &info));
    assert_int_equal(info.k, 4);
    assert_int_equal(info.vocab, c->files.vocab);
    assert_int_equal(info.hidden, c->files.spec.hidden);
    assert_int_equal(info.texts, TEXTS);
    assert_int_equal(info.min_documents, 2);
    assert_int_equal(strlen(info.tokenizer), 32);
    const char *const twice[] = {c->output, c->output};
    TEST_OK(embed_ngram_merge(twice, 2, merged, NULL));
    TEST_OK(embed_counts_get_info(merged, &sum));
    assert_int_equal(sum.tokens, 2 * info.tokens);
    assert_int_equal(sum.ngrams[3], info.ngrams[3]);
    embed_select_params s = EMBED_SELECT_PARAMS_INIT;
    embed_select_result r = {.struct_size = sizeof r};
    s.top = 100;
    TEST_OK(embed_ngram_select(merged, list, &s, &r));
    assert_int_equal(r.rows, 100);
    assert_int_equal(r.width, c->files.spec.hidden);
    assert_true(r.matches_by_length[2] > r.matches_by_length[3] && r.cut_off >= 4);
    test_fails(embed_ngram_select(merged, list, NULL, &r), EMBED_ERR_ARG,
               "top, min_count or bytes");
    s.dtype = EMBED_BINARY;
    test_fails(embed_ngram_select(merged, list, &s, &r), EMBED_ERR_ARG, "dtype");
    test_fails(embed_ngram_select(list, merged,
                                  &(embed_select_params){.struct_size = sizeof s, .top = 1}, &r),
               EMBED_ERR_FORMAT, "expected a file of `embed ngram count`");
    test_fails(embed_ngram_merge(NULL, 1, merged, NULL), EMBED_ERR_ARG, "inputs");
    test_fails(embed_ngram_merge(twice, 2, NULL, NULL), EMBED_ERR_ARG, "output");
    test_fails(embed_counts_get_info(list, &info), EMBED_ERR_FORMAT, "list");
}

static void a_prompt_is_counted_if_asked_for(void **state) {
    const corpus *c = *state;
    embed_ngram_counter *counter;
    embed_count_result r = {.struct_size = sizeof r};
    embed_count_params p = params(1);
    p.prefix = "w5 w6 ";
    p.prefix_len = 6;
    p.min_count = 10;
    p.min_documents = 0;
    TEST_OK(embed_ngram_counter_create(&counter, c->model, c->output, &p));
    const embed_text text = test_text("w7");
    for (int i = 0; i < 10; i++)
        TEST_OK(embed_ngram_counter_add(counter, &text, 1));
    TEST_OK(embed_ngram_counter_finish(counter, &r));
    embed_ngram_counter_free(counter);
    assert_int_equal(r.tokens, 30);
    assert_int_equal(r.ngrams[2], 2);
    assert_int_equal(r.ngrams[3], 1);
    assert_int_equal(r.ngrams[4], 0);
}

static void a_resumed_job_says_where_to_go_on(void **state) {
    const corpus *c = *state;
    embed_ngram_counter *counter;
    embed_count_params p = params(1);
    uint64_t texts;
    int32_t complete;
    p.input = "corpus";
    TEST_OK(embed_ngram_counter_create(&counter, c->model, c->output, &p));
    TEST_OK(embed_ngram_counter_add(counter, c->texts, TEXTS));
    embed_ngram_counter_free(counter);
    p.job.resume = 1;
    TEST_OK(embed_ngram_counter_create(&counter, c->model, c->output, &p));
    TEST_OK(embed_ngram_counter_position(counter, &texts, &complete));
    assert_true(texts <= TEXTS && !complete);
    TEST_OK(embed_ngram_counter_add(counter, c->texts + texts, TEXTS - (size_t)texts));
    TEST_OK(embed_ngram_counter_finish(counter, NULL));
    test_fails(embed_ngram_counter_add(counter, c->texts, 1), EMBED_ERR_ARG, "counter");
    test_fails(embed_ngram_counter_finish(counter, NULL), EMBED_ERR_ARG, "counter");
    embed_ngram_counter_free(counter);
    check_counts(c);
}

static void wrong_arguments(void **state) {
    const corpus *c = *state;
    embed_ngram_counter *counter;
    embed_count_params p = params(1);
    test_fails(embed_ngram_counter_create(NULL, c->model, c->output, &p), EMBED_ERR_ARG, "out");
    test_fails(embed_ngram_counter_create(&counter, NULL, c->output, &p), EMBED_ERR_ARG, "model");
    test_fails(embed_ngram_counter_create(&counter, c->model, "", &p), EMBED_ERR_ARG, "output");
    for (int32_t k = -1; k <= 9; k += k == -1 ? 2 : 8) {
        p.k = k;
        test_fails(embed_ngram_counter_create(&counter, c->model, c->output, &p), EMBED_ERR_ARG,
                   "embed_count_params.k: expected 2 to 8");
    }
    p = params(1);
    p.flags = 1u << 30;
    test_fails(embed_ngram_counter_create(&counter, c->model, c->output, &p), EMBED_ERR_ABI,
               "flags");
    p = params(-1);
    test_fails(embed_ngram_counter_create(&counter, c->model, c->output, &p), EMBED_ERR_ARG,
               "threads");
    p = params(1);
    p.job.memory = 5000;
    test_fails(embed_ngram_counter_create(&counter, c->model, c->output, &p), EMBED_ERR_ARG,
               "memory: expected at least");
    p = params(2);
    p.flags = EMBED_UTF8_REFUSE;
    TEST_OK(embed_ngram_counter_create(&counter, c->model, c->output, &p));
    const embed_text texts[] = {test_text("w1 w2"), test_text("w1 \xFF")};
    test_fails(embed_ngram_counter_add(counter, texts, 2), EMBED_ERR_UTF8, "text 1: ");
    test_fails(embed_ngram_counter_add(counter, texts, 1), EMBED_ERR_ARG, "earlier call failed");
    embed_ngram_counter_free(counter);
    const int32_t ids[] = {7, c->files.vocab};
    const embed_ids row = {ids, 2};
    TEST_OK(embed_ngram_counter_create(&counter, c->model, c->output, &p));
    test_fails(embed_ngram_counter_add_ids(counter, &row, 1), EMBED_ERR_ARG,
               "text 0: token 1: expected an id below");
    embed_ngram_counter_free(counter);
    embed_ngram_counter_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_and_ids_on_any_threads),
        cmocka_unit_test(info_merge_and_select),
        cmocka_unit_test(a_prompt_is_counted_if_asked_for),
        cmocka_unit_test(a_resumed_job_says_where_to_go_on),
        cmocka_unit_test(wrong_arguments),
    };
    return cmocka_run_group_tests(tests, make_corpus, free_corpus);
}
