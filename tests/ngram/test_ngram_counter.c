#define _POSIX_C_SOURCE 200809L
#include "support/counting.h"

#include <fcntl.h>
#include <unistd.h>

static char dir[256], output[300];

static int make_dir(void **state) {
    (void)state;
    test_dir_make(dir);
    (void)snprintf(output, sizeof output, "%s/c", dir);
    return 0;
}

static int remove_dir(void **state) {
    (void)state;
    test_dir_remove(dir);
    return 0;
}

static void leaves_nothing(void) {
    assert_false(counting_exists(test_path(dir, "c.partial")));
    assert_false(counting_exists(test_path(dir, "c.work")));
}

static void files_equal_a_naive_count(void **state) {
    (void)state;
    const emb_env env = test_env();
    const uint64_t thresholds[] = {1, 2, 5};
    static uint32_t stream[30000];
    uint64_t rng = 5;
    for (int32_t k = 2; k <= 8; k++)
        for (uint64_t documents = 0; documents <= 2; documents++) {
            const uint64_t min_count = thresholds[(uint64_t)k % 3];
            const size_t n = 4000 + (size_t)k * 100;
            naive_stream(stream, n, 200, &rng);
            const emb_ngram_counter_params p = counting_params(output, k, min_count, documents);
            naive_ngrams want = naive_count(stream, n, k, min_count, documents > 0 ? documents : 1);
            emb_ngram_counter_result result;
            assert_int_equal(counting_run(&env, &p, stream, n, &result), EMBED_OK);
            counting_check(output, &want, documents > 0);
            uint64_t sum = 0;
            for (int32_t length = 2; length <= k; length++)
                sum += result.ngrams[length];
            assert_int_equal(sum, want.n);
            assert_int_equal(result.positions, n);
            leaves_nothing();
            free(want.items);
        }
}

/* Little memory forces streams in files and many passes; the bytes stay the same. */
static void memory_changes_nothing(void **state) {
    (void)state;
    const emb_env env = test_env();
    const size_t n = 300000;
    uint32_t *stream = malloc(n * sizeof *stream);
    uint64_t rng = 6;
    naive_stream(stream, n, 4000, &rng);
    for (uint64_t documents = 0; documents <= 2; documents += 2) {
        char *want = NULL;
        size_t size = 0;
        const uint64_t memories[] = {64 << 20, 6 << 20, 2 << 20, 0};
        for (int i = 0; i < 4; i++) {
            emb_ngram_counter_params p = counting_params(output, 4, 1, documents);
            emb_ngram_counter_result result;
            p.memory = memories[i] != 0 ? memories[i] : emb_ngram_counter_least_memory(1);
            assert_int_equal(counting_run(&env, &p, stream, n, &result), EMBED_OK);
            assert_int_equal(result.in_memory, i < 2);
            assert_true(i == 0 || result.passes[2] > 2);
            if (want == NULL) {
                naive_ngrams naive = naive_count(stream, n, 4, 1, documents > 0 ? documents : 1);
                counting_check(output, &naive, documents > 0);
                free(naive.items);
                want = counting_read(output, &size);
            }
            assert_true(counting_same(output, want, size));
        }
        free(want);
    }
    free(stream);
}

static void odd_inputs(void **state) {
    (void)state;
    const emb_env env = test_env();
    const uint32_t end = EMB_NGRAM_END, cut = EMB_NGRAM_BREAK;
    const uint32_t empty[] = {end, end}, single[] = {7, end, 8, end}, broken[] = {7, cut, 8, end},
                   pair[] = {7, 8, end};
    const struct {
        const uint32_t *stream;
        size_t n;
        uint64_t tokens, texts, pairs;
    } cases[] = {{NULL, 0, 0, 0, 0},
                 {empty, 2, 0, 2, 0},
                 {single, 4, 2, 2, 0},
                 {broken, 4, 2, 1, 0},
                 {pair, 3, 2, 1, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const emb_ngram_counter_params p = counting_params(output, 8, 1, 1);
        emb_ngram_counter_result r;
        assert_int_equal(counting_run(&env, &p, cases[i].stream, cases[i].n, &r), EMBED_OK);
        assert_int_equal(r.tokens, cases[i].tokens);
        assert_int_equal(r.texts, cases[i].texts);
        assert_int_equal(r.ngrams[2], cases[i].pairs);
        naive_ngrams want = naive_count(cases[i].stream, cases[i].n, 8, 1, 1);
        counting_check(output, &want, 1);
        free(want.items);
    }
    /* One text of a million tokens. */
    const size_t n = 1000001;
    uint32_t *long_text = malloc(n * sizeof *long_text);
    for (size_t i = 0; i < n; i++)
        long_text[i] = i + 1 == n ? end : (uint32_t)(i % 1000);
    emb_ngram_counter_params p = counting_params(output, 5, 5, 1);
    p.memory = 3 << 20;
    emb_ngram_counter_result r;
    assert_int_equal(counting_run(&env, &p, long_text, n, &r), EMBED_OK);
    for (int32_t length = 2; length <= 5; length++)
        assert_int_equal(r.ngrams[length], 1000);
    p.identity.min_documents = 2;
    assert_int_equal(counting_run(&env, &p, long_text, n, &r), EMBED_OK);
    assert_int_equal(r.ngrams[2], 0);
    free(long_text);
}

/* ------------------------------------------------------------------------- what is refused */

static void refused(const emb_ngram_counter_params *p, embed_status status, const char *text) {
    const emb_env env = test_env();
    emb_ngram_counter *c;
    assert_int_equal(emb_ngram_counter_create(&c, &env, p), status);
    assert_null(c);
    if (strstr(emb_fail_message(), text) == NULL)
        fail_msg("expected '%s' in: %s", text, emb_fail_message());
}

/* Begin a job and leave it with some of the input safe. */
static void begin(const emb_ngram_counter_params *p, const uint32_t *stream, size_t n) {
    const emb_env env = test_env();
    emb_ngram_counter_params now = *p;
    emb_ngram_counter *c;
    now.save_seconds = 0;
    assert_int_equal(emb_ngram_counter_create(&c, &env, &now), EMBED_OK);
    assert_int_equal(emb_ngram_counter_append(c, stream, n, 1, 0), EMBED_OK);
    emb_ngram_counter_free(c);
}

static void another_job_is_not_resumed(void **state) {
    (void)state;
    const emb_env env = test_env();
    const uint32_t stream[] = {1, 2, 3, 1, 2, EMB_NGRAM_END};
    emb_ngram_counter_params p = counting_params(output, 3, 2, 2), q;
    begin(&p, stream, 6);
    p.resume = 1;
    q = p;
    q.identity.k = 4;
    refused(&q, EMBED_ERR_MISMATCH, "K: the run to resume has 3, this one 4");
    q = p;
    q.identity.min_count = 7;
    refused(&q, EMBED_ERR_MISMATCH, "least count: the run to resume has 2, this one 7");
    q = p;
    q.identity.min_documents = 1;
    refused(&q, EMBED_ERR_MISMATCH, "least documents: the run to resume has 2, this one 1");
    q = p;
    q.identity.tokenizer[0] = 'f';
    refused(&q, EMBED_ERR_MISMATCH, "tokenizer: the run to resume has 0011");
    q = p;
    q.identity.vocab++;
    refused(&q, EMBED_ERR_MISMATCH, "vocabulary: the run to resume has 5000, this one 5001");
    q = p;
    emb_ngram_count_identify(&q.identity, "other.txt", 9);
    refused(&q, EMBED_ERR_MISMATCH, "input: the run to resume has stream, this one other.txt");
    q = p;
    q.memory = 1000;
    refused(&q, EMBED_ERR_ARG, "memory: expected at least");
    emb_ngram_counter *c;
    int complete;
    assert_int_equal(emb_ngram_counter_create(&c, &env, &p), EMBED_OK);
    assert_int_equal(emb_ngram_counter_texts(c, &complete), 1);
    refused(&p, EMBED_ERR_ARG, "another process is counting there");
    emb_ngram_counter_free(c);
    /* Without resuming it starts afresh. */
    p.resume = 0;
    assert_int_equal(emb_ngram_counter_create(&c, &env, &p), EMBED_OK);
    assert_int_equal(emb_ngram_counter_texts(c, &complete), 0);
    emb_ngram_counter_free(c);
}

static void change_byte(const char *path, long at) {
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, at, SEEK_SET), 0);
    const int c = fgetc(f);
    assert_int_equal(fseek(f, at, SEEK_SET), 0);
    assert_int_equal(fputc(c ^ 1, f), c ^ 1);
    fclose(f);
}

static void damaged_state_is_told(void **state) {
    (void)state;
    const uint32_t stream[] = {1, 2, 3, 1, 2, EMB_NGRAM_END};
    emb_ngram_counter_params p = counting_params(output, 3, 2, 0);
    begin(&p, stream, 6);
    p.resume = 1;
    size_t size;
    free(counting_read(test_path(dir, "c.work/state"), &size));
    for (size_t at = 0; at < size; at += 13) {
        change_byte(test_path(dir, "c.work/state"), (long)at);
        refused(&p, EMBED_ERR_FORMAT, "the file is damaged");
        change_byte(test_path(dir, "c.work/state"), (long)at);
    }
    assert_int_equal(truncate(test_path(dir, "c.work/tokens"), 8), 0);
    refused(&p, EMBED_ERR_TRUNCATED, "c.work/tokens: expected 24 bytes");
    assert_int_equal(truncate(test_path(dir, "c.work/state"), 8), 0);
    refused(&p, EMBED_ERR_FORMAT, "c.work/state: expected");
    p.temp_dir = test_path(dir, "missing");
    refused(&p, EMBED_ERR_IO, "missing/c.work: cannot create");
    p.resume = 0;
    p.temp_dir = dir;
    p.output = test_path(dir, "missing/c");
    refused(&p, EMBED_ERR_IO, "missing/c.partial: cannot create");
    p.output = dir;
    refused(&p, EMBED_ERR_IO, "expected a file or nothing, found a directory");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(files_equal_a_naive_count, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(memory_changes_nothing, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(odd_inputs, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(another_job_is_not_resumed, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(damaged_state_is_told, make_dir, remove_dir),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
