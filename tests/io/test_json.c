#include "support/files.h"
#include "support/test.h"

#include "io/json.h"

static char dir[256];

static emb_json_doc *parse(const char *text) {
    const emb_env env = test_env();
    emb_json_doc *doc;
    if (emb_json_parse(&doc, &env, "a.json", text, strlen(text)) != EMBED_OK)
        fail_msg("%s: %s", text, emb_fail_message());
    return doc;
}

static void expect(embed_status got, embed_status status, const char *message) {
    if (got != status || strstr(emb_fail_message(), message) == NULL)
        fail_msg("expected %s and \"%s\", found %s and \"%s\"", embed_status_name(status), message,
                 embed_status_name(got), emb_fail_message());
}

static void test_values(void **state) {
    (void)state;
    emb_json_doc *doc =
        parse("\xef\xbb\xbf{\"b\": true, \"i\": -7, \"n\": 1e-5, \"s\": \"a\\u0000z\", "
              "\"l\": [1, 2], \"o\": {}, \"z\": null, \"big\": 1"
              "000000000000000019884624838656"
              ", \"inf\": [Infinity, -Infinity, NaN], \"u\": 18446744073709551615}");
    const emb_json *root = emb_json_root(doc), *value;
    int32_t i = 0, b = 0;
    double n = 0;
    const char *s = NULL;
    size_t len = 0;
    assert_string_equal(emb_json_name(doc), "a.json");
    assert_int_equal(emb_json_need_bool(doc, root, "b", &b), EMBED_OK);
    assert_int_equal(b, 1);
    assert_int_equal(emb_json_need_int(doc, root, "i", -7, 7, &i), EMBED_OK);
    assert_int_equal(i, -7);
    assert_int_equal(emb_json_need_number(doc, root, "n", &n), EMBED_OK);
    assert_true(n == 1e-5);
    assert_int_equal(emb_json_need_string(doc, root, "s", &s, &len), EMBED_OK);
    assert_int_equal(len, 3);
    assert_memory_equal(s, "a\0z", 4);
    assert_int_equal(emb_json_need_number(doc, root, "big", &n), EMBED_OK);
    assert_true(n == 1e30);
    assert_int_equal(emb_json_need(doc, root, "o", EMB_JSON_OBJECT, &value), EMBED_OK);
    assert_int_equal(emb_json_count(value), 0);
    assert_int_equal(emb_json_find(doc, root, "absent", &value), EMBED_OK);
    assert_null(value);
    assert_int_equal(emb_json_type_of(value), EMB_JSON_ABSENT);
    /* Absent and null leave the default. */
    i = 5;
    assert_int_equal(emb_json_get_int(doc, root, "z", 0, 9, &i), EMBED_OK);
    assert_int_equal(emb_json_get_int(doc, root, "absent", 0, 9, &i), EMBED_OK);
    assert_int_equal(i, 5);
    assert_int_equal(emb_json_need(doc, root, "u", EMB_JSON_NUMBER, &value), EMBED_OK);
    assert_false(emb_json_is_integer(value));
    assert_true(emb_json_number(value) == 18446744073709551615.0);
    expect(emb_json_need_int(doc, root, "u", 0, 9, &i), EMBED_ERR_FORMAT,
           "a.json: u: expected an integer from 0 to 9, found 1.84467440737096e+19");
    assert_int_equal(emb_json_need(doc, root, "inf", EMB_JSON_ARRAY, &value), EMBED_OK);
    emb_json_iter it = emb_json_iterate(value);
    assert_true(isinf(emb_json_number(emb_json_next(&it, NULL))));
    assert_true(emb_json_number(emb_json_next(&it, NULL)) < 0);
    assert_true(isnan(emb_json_number(emb_json_next(&it, NULL))));
    assert_null(emb_json_next(&it, NULL));
    emb_json_free(doc);
}

static void test_iterate(void **state) {
    (void)state;
    emb_json_doc *doc = parse("{\"a\": [[1, 2], {\"x\": 3}], \"b\": 4, \"c\": {}}");
    const emb_json *key, *value;
    const char *names[] = {"a", "b", "c"};
    int n = 0;
    for (emb_json_iter it = emb_json_iterate(emb_json_root(doc));
         (value = emb_json_next(&it, &key)) != NULL; n++)
        assert_true(emb_json_equals(key, names[n]));
    assert_int_equal(n, 3);
    emb_json_iter it = emb_json_iterate(NULL);
    assert_null(emb_json_next(&it, &key));
    emb_json_free(doc);
}

static void test_wrong_types(void **state) {
    (void)state;
    emb_json_doc *doc = parse(
        "{\"a\": {\"b\": [0, {\"c\": \"text\", \"d\": 1.5, \"d2\": NaN, \"n\": null}]}, \"k\": 1,"
        " \"k\": 2, \"long\": "
        "\"0123456789012345678901234567890123456789012345678901234567890123456789\"}");
    const emb_json *root = emb_json_root(doc), *a, *b, *at;
    int32_t i;
    double n;
    const char *s;
    assert_int_equal(emb_json_need(doc, root, "a", EMB_JSON_OBJECT, &a), EMBED_OK);
    assert_int_equal(emb_json_need(doc, a, "b", EMB_JSON_ARRAY, &b), EMBED_OK);
    emb_json_iter it = emb_json_iterate(b);
    (void)emb_json_next(&it, NULL);
    at = emb_json_next(&it, NULL);
    expect(emb_json_need_int(doc, at, "c", 0, 9, &i), EMBED_ERR_FORMAT,
           "EMBED_ERR_FORMAT: a.json: a.b[1].c: expected a number, found \"text\"");
    expect(emb_json_need_int(doc, at, "d", 0, 9, &i), EMBED_ERR_FORMAT,
           "a.json: a.b[1].d: expected an integer from 0 to 9, found 1.5");
    expect(emb_json_need_number(doc, at, "d2", &n), EMBED_ERR_FORMAT,
           "a.b[1].d2: expected a finite number, found nan");
    expect(emb_json_need_bool(doc, at, "n", &i), EMBED_ERR_FORMAT,
           "a.b[1].n: expected true or false, found null");
    expect(emb_json_get_bool(doc, at, "d", &i), EMBED_ERR_FORMAT,
           "a.b[1].d: expected true or false, found 1.5");
    expect(emb_json_need_string(doc, at, "q", &s, NULL), EMBED_ERR_FORMAT,
           "a.b[1].q: expected a string, found nothing");
    expect(emb_json_need_int(doc, root, "k", 0, 9, &i), EMBED_ERR_FORMAT,
           "a.json: k: expected one value, the key stands there 2 times, found 1");
    expect(emb_json_need_bool(doc, b, "k", &i), EMBED_ERR_FORMAT,
           "a.json: a.b: expected an object, found an array of 2");
    expect(emb_json_need_int(doc, root, "long", 0, 9, &i), EMBED_ERR_FORMAT,
           "found \"012345678901234567890123456789012345678901234567890123456789...\"");
    expect(emb_json_fail(EMBED_ERR_UNSUPPORTED, doc, a, NULL, "expected %d", 3),
           EMBED_ERR_UNSUPPORTED, "a.json: a: expected 3, found an object of 1");
    emb_json_free(doc);
    doc = parse("[1]");
    expect(emb_json_need_bool(doc, emb_json_root(doc), "k", &i), EMBED_ERR_FORMAT,
           "a.json: expected an object, found an array of 1");
    emb_json_free(doc);
}

static void test_malformed(void **state) {
    (void)state;
    const emb_env env = test_env();
    static const struct {
        const char *text, *message;
    } cases[] = {{"", "a.json: expected JSON"},
                 {"{\"a\": 1,\n \"b\": }", "a.json: expected JSON, line 2 column 7"},
                 {"{\"a\": 1} x", "line 1 column 10"},
                 {"{\"a\": \"\xff\"}", "a.json: expected JSON"},
                 {"{\"a\": \"\\ud800\"}", "a.json: expected JSON"},
                 {"{'a': 1}", "a.json: expected JSON"},
                 {"{\"a\": 1,}", "a.json: expected JSON"},
                 {"[01]", "a.json: expected JSON"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        emb_json_doc *doc = (emb_json_doc *)&env;
        expect(emb_json_parse(&doc, &env, "a.json", cases[i].text, strlen(cases[i].text)),
               EMBED_ERR_FORMAT, cases[i].message);
        assert_null(doc);
    }
}

static void test_bombs(void **state) {
    (void)state;
    const emb_env env = test_env();
    enum { N = 1 << 20 };
    char *text = malloc(N);
    emb_json_doc *doc;
    for (int object = 0; object < 2; object++) {
        for (int i = 0; i < N; i++)
            text[i] = object ? "{\"\":"[i % 4] : '[';
        expect(emb_json_parse(&doc, &env, "bomb.json", text, N), EMBED_ERR_FORMAT,
               "bomb.json: expected at most 128 levels of JSON");
    }
    memset(text, '[', 128);
    memset(text + 128, ']', 128);
    assert_int_equal(emb_json_parse(&doc, &env, "deep.json", text, 256), EMBED_OK);
    emb_json_free(doc);
    free(text);
}

static void test_files(void **state) {
    (void)state;
    const emb_env env = test_env();
    emb_json_doc *doc;
    test_write(dir, "ok.json", "{\"a\": 1}", -1);
    assert_int_equal(emb_json_open(&doc, &env, test_path(dir, "ok.json"), 8), EMBED_OK);
    emb_json_free(doc);
    expect(emb_json_open(&doc, &env, test_path(dir, "ok.json"), 7), EMBED_ERR_FORMAT,
           "ok.json: expected at most 7 bytes, found 8");
    expect(emb_json_open(&doc, &env, test_path(dir, "none.json"), 100), EMBED_ERR_IO,
           "none.json: cannot open: No such file or directory");
    expect(emb_json_open(&doc, &env, dir, 100), EMBED_ERR_IO, "expected a file, found a directory");
}

/* Numbers that keep their digits are still numbers to every other call. */
static void test_digits(void **state) {
    (void)state;
    const emb_env env = test_env();
    emb_json_doc *doc;
    const emb_json *value;
    size_t len = 9;
    int32_t i = 0;
    double n = 0;
    test_write(dir, "digits.json", "{\"i\": -12, \"n\": 0.10e+1, \"s\": \"1\", \"h\": 1e999}", -1);
    assert_int_equal(emb_json_open_digits(&doc, &env, test_path(dir, "digits.json"), 99), 0);
    const emb_json *root = emb_json_root(doc);
    assert_int_equal(emb_json_need_int(doc, root, "i", -20, 20, &i), EMBED_OK);
    assert_int_equal(i, -12);
    assert_int_equal(emb_json_need_number(doc, root, "n", &n), EMBED_OK);
    assert_true(n == 1);
    assert_int_equal(emb_json_need(doc, root, "n", EMB_JSON_NUMBER, &value), EMBED_OK);
    assert_string_equal(emb_json_digits(value, &len), "0.10e+1");
    assert_int_equal(len, 7);
    assert_false(emb_json_is_integer(value));
    assert_int_equal(emb_json_find(doc, root, "h", &value), EMBED_OK);
    assert_string_equal(emb_json_digits(value, &len), "1e999");
    assert_int_equal(emb_json_find(doc, root, "s", &value), EMBED_OK);
    assert_string_equal(emb_json_digits(value, &len), "");
    assert_int_equal(len, 0);
    emb_json_free(doc);
    test_write(dir, "digits.json", "{\"n\": [NaN]}", -1);
    expect(emb_json_open_digits(&doc, &env, test_path(dir, "digits.json"), 99), EMBED_ERR_FORMAT,
           "digits.json: expected JSON, line 1 column 8");
}

static void test_allocation_failures(void **state) {
    (void)state;
    test_write(dir, "fail.json", "{\"a\": [1, 2, {\"b\": \"text\"}]}", -1);
    for (long n = 1;; n++) {
        test_allocator a;
        emb_env env;
        emb_json_doc *doc;
        test_allocator_init(&a, n);
        assert_int_equal(emb_env_init(&env, &a.allocator, NULL, NULL), EMBED_OK);
        const embed_status st = emb_json_open(&doc, &env, test_path(dir, "fail.json"), 1000);
        if (a.failed) {
            assert_int_equal(st, EMBED_ERR_NOMEM);
            assert_null(doc);
        } else {
            assert_int_equal(st, EMBED_OK);
            assert_true(n > 3);
        }
        emb_json_free(doc);
        assert_int_equal(a.live, 0);
        if (!a.failed)
            return;
    }
}

static int setup(void **state) {
    (void)state;
    test_dir_make(dir);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    test_dir_remove(dir);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),      cmocka_unit_test(test_iterate),
        cmocka_unit_test(test_wrong_types), cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_bombs),       cmocka_unit_test(test_files),
        cmocka_unit_test(test_digits),      cmocka_unit_test(test_allocation_failures)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
