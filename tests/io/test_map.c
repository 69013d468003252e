#define _XOPEN_SOURCE 700
#include "support/files.h"
#include "support/test.h"

#include <sys/stat.h>
#include <unistd.h>

#include "io/file.h"
#include "io/map.h"

static char dir[256];

static void expect(embed_status got, embed_status status, const char *message) {
    if (got != status || strstr(emb_fail_message(), message) == NULL)
        fail_msg("expected %s and \"%s\", found %s and \"%s\"", embed_status_name(status), message,
                 embed_status_name(got), emb_fail_message());
}

static void test_views(void **state) {
    (void)state;
    const emb_env env = test_env();
    const unsigned char *view;
    emb_map map;
    test_write(dir, "ten", "0123456789", -1);
    for (int advice = EMB_MAP_NORMAL; advice <= EMB_MAP_WILLNEED; advice++) {
        assert_int_equal(emb_map_open(&map, &env, test_path(dir, "ten"), (emb_map_advice)advice),
                         EMBED_OK);
        assert_int_equal(map.size, 10);
        assert_string_equal(map.path, test_path(dir, "ten"));
        assert_int_equal(emb_map_view(&map, 4, 6, "tail", &view), EMBED_OK);
        assert_memory_equal(view, "456789", 6);
        assert_int_equal(emb_map_view(&map, 10, 0, "nothing", &view), EMBED_OK);
        emb_map_advise(&map, 3, 100, EMB_MAP_RANDOM);
        emb_map_advise(&map, 100, 3, EMB_MAP_RANDOM);
        expect(emb_map_view(&map, 5, 6, "tail", &view), EMBED_ERR_TRUNCATED,
               "ten: tail: expected 6 bytes at offset 5, found a file of 10");
        assert_null(view);
        expect(emb_map_view(&map, 11, 0, "beyond", &view), EMBED_ERR_TRUNCATED, "ten: beyond");
        expect(emb_map_view(&map, 1, UINT64_MAX, "wrap", &view), EMBED_ERR_TRUNCATED, "ten: wrap");
        expect(emb_map_view(&map, UINT64_MAX, 2, "wrap", &view), EMBED_ERR_TRUNCATED, "ten: wrap");
        emb_map_close(&map, &env);
        assert_null(map.data);
        emb_map_close(&map, &env);
    }
}

static void test_empty(void **state) {
    (void)state;
    const emb_env env = test_env();
    const unsigned char *view;
    emb_map map;
    test_write(dir, "empty", "", 0);
    assert_int_equal(emb_map_open(&map, &env, test_path(dir, "empty"), EMB_MAP_NORMAL), EMBED_OK);
    assert_int_equal(map.size, 0);
    assert_non_null(map.data);
    assert_int_equal(emb_map_view(&map, 0, 0, "all", &view), EMBED_OK);
    expect(emb_map_view(&map, 0, 1, "byte", &view), EMBED_ERR_TRUNCATED, "empty: byte");
    emb_map_close(&map, &env);
}

static void test_refused(void **state) {
    (void)state;
    const emb_env env = test_env();
    emb_map map;
    char *text;
    size_t size;
    int exists;
    expect(emb_map_open(&map, &env, test_path(dir, "none"), EMB_MAP_NORMAL), EMBED_ERR_IO,
           "none: cannot open: No such file or directory");
    assert_null(map.path);
    expect(emb_map_open(&map, &env, dir, EMB_MAP_NORMAL), EMBED_ERR_IO,
           "expected a file, found a directory");
    assert_int_equal(mkfifo(test_path(dir, "pipe"), 0600), 0);
    expect(emb_map_open(&map, &env, test_path(dir, "pipe"), EMB_MAP_NORMAL), EMBED_ERR_IO,
           "pipe: expected a file, found a pipe");
    expect(emb_file_read(test_path(dir, "pipe"), &env, 10, 0, &text, &size), EMBED_ERR_IO,
           "pipe: expected a file, found a pipe");
    expect(emb_map_open(&map, &env, "/dev/null", EMB_MAP_NORMAL), EMBED_ERR_IO,
           "/dev/null: expected a file, found a device");
    test_write(dir, "plain", "x", -1);
    expect(emb_map_open(&map, &env, test_path(dir, "plain/below"), EMB_MAP_NORMAL), EMBED_ERR_IO,
           "plain/below: cannot open: Not a directory");
    assert_int_equal(emb_file_exists(test_path(dir, "plain/below"), &exists), EMBED_OK);
    assert_int_equal(exists, 0);
    assert_int_equal(emb_file_exists(test_path(dir, "plain"), &exists), EMBED_OK);
    assert_int_equal(exists, 1);
}

static void test_no_permission(void **state) {
    (void)state;
    const emb_env env = test_env();
    emb_map map;
    int exists;
    if (geteuid() == 0) {
        print_message("root reads everything: not tried\n");
        skip();
    }
    test_write(dir, "locked", "x", -1);
    assert_int_equal(chmod(test_path(dir, "locked"), 0), 0);
    expect(emb_map_open(&map, &env, test_path(dir, "locked"), EMB_MAP_NORMAL), EMBED_ERR_IO,
           "locked: cannot open: Permission denied");
    assert_int_equal(mkdir(test_path(dir, "closed"), 0), 0);
    expect(emb_file_exists(test_path(dir, "closed/file"), &exists), EMBED_ERR_IO,
           "closed/file: cannot stat: Permission denied");
}

static void test_read(void **state) {
    (void)state;
    const emb_env env = test_env();
    char *text, *path;
    size_t size;
    test_write(dir, "five", "hello", -1);
    assert_int_equal(emb_file_join(&env, dir, "five", &path), EMBED_OK);
    assert_string_equal(path, test_path(dir, "five"));
    assert_int_equal(emb_file_read(path, &env, 5, 3, &text, &size), EMBED_OK);
    assert_int_equal(size, 5);
    assert_memory_equal(text, "hello\0\0\0", 8);
    emb_free(&env, text);
    expect(emb_file_read(path, &env, 4, 0, &text, &size), EMBED_ERR_FORMAT,
           "five: expected at most 4 bytes, found 5");
    assert_null(text);
    emb_free(&env, path);
    assert_int_equal(emb_file_join(&env, "a/", "b", &path), EMBED_OK);
    assert_string_equal(path, "a/b");
    emb_free(&env, path);
}

static void test_allocation_failures(void **state) {
    (void)state;
    test_write(dir, "fail", "data", -1);
    for (long n = 1; n <= 2; n++) {
        test_allocator a;
        emb_env env;
        emb_map map;
        char *text;
        size_t size;
        test_allocator_init(&a, n);
        assert_int_equal(emb_env_init(&env, &a.allocator, NULL, NULL), EMBED_OK);
        assert_int_equal(emb_map_open(&map, &env, test_path(dir, "fail"), EMB_MAP_NORMAL),
                         n == 1 ? EMBED_ERR_NOMEM : EMBED_OK);
        emb_map_close(&map, &env);
        assert_int_equal(emb_file_read(test_path(dir, "fail"), &env, 10, 0, &text, &size),
                         n == 2 ? EMBED_ERR_NOMEM : EMBED_OK);
        emb_free(&env, text);
        assert_int_equal(a.live, 0);
    }
}

static int setup(void **state) {
    (void)state;
    test_dir_make(dir);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    (void)chmod(test_path(dir, "closed"), 0700);
    test_dir_remove(dir);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_views),   cmocka_unit_test(test_empty),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_no_permission),
        cmocka_unit_test(test_read),    cmocka_unit_test(test_allocation_failures)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
