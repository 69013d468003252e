/* F-gram lists: what is read, from any row on, and what is refused, by line. */
#include "support/files.h"
#include "support/handles.h"

#include "ngram/ngram_list.h"

static char dir[256];

static int set_up(void **state) {
    (void)state;
    test_dir_make(dir);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    test_dir_remove(dir);
    return 0;
}

static emb_ngram_list *open_text(const char *text) {
    const emb_env env = test_env();
    emb_ngram_list *list;
    test_write(dir, "list.jsonl", text, -1);
    TEST_OK(emb_ngram_list_open(&list, &env, test_path(dir, "list.jsonl")));
    return list;
}

static void forms_of_a_line(void **state) {
    (void)state;
    emb_ngram_list *list =
        open_text("{\"ids\":[12,7,911],\"count\":42}\n"
                  "\n  \r\n"
                  " { \"count\" : 4294967295 , \"ids\" : [ 0 , 2147483647 ] } \r\n"
                  "{\"ids\": [1, 2], \"text\": \"of \\u0074he\", \"count\": 99999999999}\n"
                  "{\"count\":12345678901234,\"ids\":[1,3]}\n"
                  "{\"ids\":[1,2,3,4,5,6,7,8]}"); /* no count, no line end */
    static const emb_ngram_fgram want[] = {{{12, 7, 911}, 42, 3, {0}},
                                           {{0, 2147483647}, UINT32_MAX, 2, {0}},
                                           {{1, 2}, UINT32_MAX, 2, {0}},
                                           {{1, 3}, UINT32_MAX, 2, {0}},
                                           {{1, 2, 3, 4, 5, 6, 7, 8}, 0, 8, {0}}};
    emb_ngram_fgram got[5];
    uint64_t line;
    assert_int_equal(emb_ngram_list_rows(list), 5);
    assert_int_equal(emb_ngram_list_lengths(list)[2], 3);
    assert_int_equal(emb_ngram_list_lengths(list)[8], 1);
    TEST_OK(emb_ngram_list_read(list, 0, 5, got));
    assert_memory_equal(got, want, sizeof want);
    TEST_OK(emb_ngram_list_line(list, 1, &line));
    assert_int_equal(line, 4);
    TEST_OK(emb_ngram_list_read(list, 5, 0, got));
    test_fails(emb_ngram_list_read(list, 5, 1, got), EMBED_ERR_INTERNAL, "rows 5 + 1 of 5");
    emb_ngram_list_free(list);
}

/* The digest tells what is said, not how. */
static void digests(void **state) {
    (void)state;
    static const char *const texts[] = {"{\"ids\":[1,2],\"count\":3}\n",
                                        "{\"count\": 3, \"more\": {}, \"ids\": [1, 2]}",
                                        "{\"ids\":[1,2],\"count\":4}\n", ""};
    uint8_t digest[4][16];
    for (int i = 0; i < 4; i++) {
        emb_ngram_list *list = open_text(texts[i]);
        assert_int_equal(emb_ngram_list_rows(list), i < 3);
        emb_ngram_list_digest(list, digest[i]);
        emb_ngram_list_free(list);
    }
    assert_memory_equal(digest[0], digest[1], 16);
    assert_memory_not_equal(digest[0], digest[2], 16);
    assert_memory_not_equal(digest[0], digest[3], 16);
}

static void counts_of_other_programs(void **state) {
    (void)state;
    static const struct {
        const char *line;
        uint32_t count;
    } right[] = {
        {"{\"ids\":[1,2],\"count\":5.0}\n", 5},
        {"{\"ids\":[1,2],\"count\":1e3}\n", 1000},
        {"{\"ids\":[1,2],\"count\":5000000000}\n", UINT32_MAX},
        {"{\"ids\":[1,2],\"count\":18446744073709551615}\n", UINT32_MAX},
    };
    for (size_t i = 0; i < sizeof right / sizeof right[0]; i++) {
        emb_ngram_list *list = open_text(right[i].line);
        emb_ngram_fgram gram;
        assert_int_equal(emb_ngram_list_read(list, 0, 1, &gram), EMBED_OK);
        assert_int_equal(gram.count, right[i].count);
        emb_ngram_list_free(list);
    }
}

static void what_is_refused(void **state) {
    (void)state;
    static const struct {
        const char *line, *message;
    } wrong[] = {
        {"[1,2]", "expected an object"},
        {"{\"ids\":[1,2],\"count\":3", "JSON"},
        {"{\"ids\":[1,2],\"count\":3} x", "JSON"},
        {"{\"ids\":[1,2],,\"count\":3}", "JSON"},
        {"{\"ids\":[1,02],\"count\":3}", "JSON"},
        {"{\"count\":3}", "ids"},
        {"{\"ids\":7,\"count\":3}", "ids"},
        {"{\"ids\":[1],\"count\":3}", "expected 2 to 8 ids, found 1"},
        {"{\"ids\":[],\"count\":3}", "expected 2 to 8 ids, found 0"},
        {"{\"ids\":[1,2,3,4,5,6,7,8,9],\"count\":3}", "expected 2 to 8 ids, found 9"},
        {"{\"ids\":[1,-2],\"count\":3}", "expected token ids, found -2"},
        {"{\"ids\":[1,2147483648],\"count\":3}", "expected token ids, found 2147483648"},
        {"{\"ids\":[1,2.5],\"count\":3}", "expected token ids, found 2.5"},
        {"{\"ids\":[1,\"2\"],\"count\":3}", "expected token ids, found \"2\""},
        {"{\"ids\":[1,2],\"count\":-3}", "expected a whole number, found -3"},
        {"{\"ids\":[1,2],\"count\":2.5}", "expected a whole number, found 2.5"},
        {"{\"ids\":[1,2],\"count\":1e20}", "expected a whole number, found 1e+20"},
        {"{\"ids\":[1,2],\"count\":\"3\"}", "count"},
        {"{\"ids\":[1,2],\"ids\":[1,2],\"count\":3}", "ids"},
        {"{\"ids\":[1,2],\"count\":3,\"count\":3}", "count"},
        {"{\"ids\":[1,2],\"count\":3}{\"ids\":[1,2],\"count\":3}", "JSON"},
        {"\xff", "JSON"},
    };
    const emb_env env = test_env();
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        emb_ngram_list *list = (emb_ngram_list *)1;
        char text[256];
        (void)snprintf(text, sizeof text, "{\"ids\":[1,2],\"count\":3}\n\n%s\n", wrong[i].line);
        test_write(dir, "wrong.jsonl", text, -1);
        const embed_status st = emb_ngram_list_open(&list, &env, test_path(dir, "wrong.jsonl"));
        test_fails(st, EMBED_ERR_FORMAT, "wrong.jsonl: line 3 (");
        test_fails(st, EMBED_ERR_FORMAT, wrong[i].message);
        assert_null(list);
    }
    emb_ngram_list *list;
    test_fails(emb_ngram_list_open(&list, &env, test_path(dir, "none")), EMBED_ERR_IO, "none");
    const size_t len = (size_t)2 << 20;
    char *endless = malloc(len);
    assert_non_null(endless);
    memset(endless, '1', len);
    test_write(dir, "endless", endless, (long)len);
    free(endless);
    test_fails(emb_ngram_list_open(&list, &env, test_path(dir, "endless")), EMBED_ERR_FORMAT,
               "line 1 is longer than");
}

/* Enough lines for several buffers and marks; pieces in any order are what the whole is. */
static void any_row_of_many(void **state) {
    (void)state;
    const size_t n = 50000;
    uint64_t seed = 3;
    char *text = malloc(n * 120);
    size_t at = 0;
    emb_ngram_fgram *want = calloc(n, sizeof *want), *got = calloc(n, sizeof *got);
    assert_true(text != NULL && want != NULL && got != NULL);
    for (size_t i = 0; i < n; i++) {
        want[i].length = (uint8_t)(2 + test_rand(&seed) % 7);
        want[i].count = (uint32_t)(test_rand(&seed) % 100000);
        at += (size_t)snprintf(text + at, 120, "%s{\"ids\":[", i % 100 == 0 ? "\n" : "");
        for (int t = 0; t < want[i].length; t++) {
            want[i].ids[t] = (uint32_t)(test_rand(&seed) % 250000);
            at += (size_t)snprintf(text + at, 20, "%s%u", t > 0 ? "," : "", want[i].ids[t]);
        }
        at += (size_t)snprintf(text + at, 40, "],\"count\":%u}\n", want[i].count);
    }
    emb_ngram_list *list = open_text(text);
    assert_int_equal(emb_ngram_list_rows(list), n);
    TEST_OK(emb_ngram_list_read(list, 0, n, got));
    assert_memory_equal(got, want, n * sizeof *got);
    for (int i = 0; i < 300; i++) {
        const size_t first = test_rand(&seed) % n, most = n - first < 3000 ? n - first : 3000;
        const size_t count = test_rand(&seed) % (most + 1);
        uint64_t line;
        TEST_OK(emb_ngram_list_read(list, first, count, got));
        assert_memory_equal(got, want + first, count * sizeof *got);
        TEST_OK(emb_ngram_list_line(list, first, &line));
        assert_int_equal(line, first + 2 + first / 100);
    }
    /* a file that shrinks meanwhile */
    test_write(dir, "list.jsonl", text, 1000);
    test_fails(emb_ngram_list_read(list, 0, n, got), EMBED_ERR_FORMAT, "list.jsonl");
    emb_ngram_list_free(list);
    free(text);
    free(want);
    free(got);
}

static void allocations_that_fail(void **state) {
    (void)state;
    emb_ngram_list_free(open_text("{\"ids\":[1,2],\"other\":1}\n{\"ids\":[1,2]}\n"));
    for (long n = 1;; n++) {
        test_allocator a;
        emb_env env;
        emb_ngram_list *list;
        test_allocator_init(&a, n);
        TEST_OK(emb_env_init(&env, &a.allocator, NULL, NULL));
        const embed_status st = emb_ngram_list_open(&list, &env, test_path(dir, "list.jsonl"));
        if (st == EMBED_OK)
            emb_ngram_list_free(list);
        assert_int_equal(a.live, 0);
        if (!a.failed) {
            TEST_OK(st);
            break;
        }
        assert_true(n < 100);
        test_fails(st, EMBED_ERR_NOMEM, "EMBED_ERR_NOMEM");
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forms_of_a_line),          cmocka_unit_test(digests),
        cmocka_unit_test(counts_of_other_programs), cmocka_unit_test(what_is_refused),
        cmocka_unit_test(any_row_of_many),          cmocka_unit_test(allocations_that_fail),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
