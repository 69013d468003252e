#include "support/files.h"
#include "support/tensors.h"

#include "io/tensor_files.h"

static char dir[256];

static void expect(embed_status got, embed_status status, const char *message) {
    if (got != status || strstr(emb_fail_message(), message) == NULL)
        fail_msg("expected %s and \"%s\", found %s and \"%s\"", embed_status_name(status), message,
                 embed_status_name(got), emb_fail_message());
}

static embed_status try_open(void) {
    const emb_env env = test_env();
    emb_tensor_files set;
    const embed_status st = emb_tensor_files_open(&set, &env, dir);
    if (st != EMBED_OK)
        assert_true(set.files == NULL && set.n == 0);
    emb_tensor_files_close(&set, &env);
    return st;
}

/* Tensors of one float each, named by the letters of `names`. */
static void write_file(const char *file, const char *names) {
    test_tensors t;
    uint64_t seed = 1;
    test_tensors_init(&t);
    for (; *names != '\0'; names++) {
        const char name[] = {*names, '\0'};
        test_tensors_add(&t, name, EMBED_F32, 1, 0, NULL, 1, &seed);
    }
    test_tensors_write(&t, dir, file, 8);
}

static void write_index(const char *map) {
    char text[1024];
    (void)snprintf(text, sizeof text, "{\"metadata\": {\"total_size\": 1}, \"weight_map\": %s}",
                   map);
    test_write(dir, "model.safetensors.index.json", text, -1);
}

static void test_one_file(void **state) {
    (void)state;
    const emb_env env = test_env();
    const emb_safetensors *file;
    emb_tensor_files set;
    write_index("{\"x\": \"gone.safetensors\"}"); /* not looked at beside model.safetensors */
    write_file("model.safetensors", "ba");
    assert_int_equal(emb_tensor_files_open(&set, &env, dir), EMBED_OK);
    assert_int_equal(set.n, 1);
    assert_non_null(emb_tensor_files_find(&set, "a", &file));
    assert_ptr_equal(file, &set.files[0]);
    assert_null(emb_tensor_files_find(&set, "c", &file));
    emb_tensor_files_close(&set, &env);
}

static void test_sharded(void **state) {
    (void)state;
    const emb_env env = test_env();
    const emb_safetensors *file;
    emb_tensor_files set;
    write_file("one.safetensors", "ca");
    write_file("two.safetensors", "b");
    write_index(
        "{\"a\": \"one.safetensors\", \"b\": \"two.safetensors\", \"c\": \"one.safetensors\"}");
    assert_int_equal(emb_tensor_files_open(&set, &env, dir), EMBED_OK);
    assert_int_equal(set.n, 2);
    const emb_tensor *b = emb_tensor_files_find(&set, "b", &file);
    assert_non_null(b);
    assert_int_equal(b->used, 0);
    assert_ptr_equal(file, &set.files[1]);
    assert_ptr_equal(b, &set.files[1].tensors[0]);
    emb_tensor_files_close(&set, &env);
}

static void test_refused_indexes(void **state) {
    (void)state;
    static const struct {
        const char *map;
        embed_status status;
        const char *message;
    } cases[] = {
        {"[]", EMBED_ERR_FORMAT, "index.json: weight_map: expected an object, found an array of 0"},
        {"{\"a\": 1}", EMBED_ERR_FORMAT,
         "weight_map.a: expected the name of a .safetensors file beside the index, found 1"},
        {"{\"a\": \"\"}", EMBED_ERR_FORMAT,
         "weight_map.a: expected the name of a .safetensors file"},
        {"{\"a\": \".safetensors\"}", EMBED_ERR_FORMAT, "expected the name of a .safetensors file"},
        {"{\"a\": \"one.bin\"}", EMBED_ERR_FORMAT, "expected the name of a .safetensors file"},
        {"{\"a\": \"../one.safetensors\"}", EMBED_ERR_FORMAT,
         "beside the index, found \"../one.safetensors\""},
        {"{\"a\": \"/tmp/one.safetensors\"}", EMBED_ERR_FORMAT, "beside the index"},
        {"{\"a\": \"sub\\\\one.safetensors\"}", EMBED_ERR_FORMAT, "beside the index"},
        {"{\"a\": \"one\\u0000.safetensors\"}", EMBED_ERR_FORMAT, "beside the index"},
        {"{\"a\": \"gone.safetensors\"}", EMBED_ERR_IO,
         "gone.safetensors: cannot open: No such file or directory"},
        {"{\"a\": \"broken.safetensors\"}", EMBED_ERR_TRUNCATED,
         "broken.safetensors: header length"},
        {"{\"a\": \"one.safetensors\", \"c\": \"one.safetensors\", \"b\": \"one.safetensors\"}",
         EMBED_ERR_MISMATCH,
         "index.json: weight_map: b: expected in one.safetensors, found nowhere"},
        {"{\"b\": \"two.safetensors\", \"c\": \"two.safetensors\", \"a\": \"one.safetensors\"}",
         EMBED_ERR_MISMATCH, "weight_map: c: expected in two.safetensors alone, found in "},
        {"{\"a\": \"one.safetensors\", \"b\": \"two.safetensors\"}", EMBED_ERR_MISMATCH,
         "weight_map: expected every tensor of its files, found no c of "},
        {"{\"a\": \"one.safetensors\", \"c\": \"one.safetensors\", \"b\": \"two.safetensors\", "
         "\"a2\": \"also_a.safetensors\", \"a\": \"also_a.safetensors\"}",
         EMBED_ERR_MISMATCH, "weight_map: a: expected in one.safetensors alone, found in "},
        {"{\"a\": \"one.safetensors\", \"c\": \"one.safetensors\", \"a\": \"one.safetensors\"}",
         EMBED_ERR_FORMAT, "weight_map: a: expected once, found twice"},
    };
    write_file("one.safetensors", "ca");
    write_file("two.safetensors", "b");
    write_file("also_a.safetensors", "a");
    test_write(dir, "broken.safetensors", "1234", 4);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_index(cases[i].map);
        expect(try_open(), cases[i].status, cases[i].message);
    }
    test_write(dir, "model.safetensors.index.json", "{}", -1);
    expect(try_open(), EMBED_ERR_FORMAT, "weight_map: expected an object, found nothing");
}

static void test_too_many_shards(void **state) {
    (void)state;
    char *text = malloc(200000), name[64];
    size_t used = (size_t)sprintf(text, "{\"weight_map\": {");
    for (int i = 0; i <= 1000; i++) {
        (void)sprintf(name, "s%d.safetensors", i);
        test_safetensors_raw(dir, name, "{}", 0);
        used += (size_t)sprintf(text + used, "%s\"t%d\": \"%s\"", i > 0 ? "," : "", i, name);
    }
    (void)sprintf(text + used, "}}");
    test_write(dir, "model.safetensors.index.json", text, -1);
    free(text);
    const embed_status st = try_open(); /* or the process may not have that many files */
    if (st != EMBED_ERR_IO)
        expect(st, EMBED_ERR_FORMAT, "weight_map: expected at most 1000 files");
}

static void test_no_safetensors(void **state) {
    (void)state;
    expect(try_open(), EMBED_ERR_IO, "model.safetensors: cannot open: No such file or directory");
    test_write(dir, "pytorch_model.bin.index.json", "{}", -1);
    expect(try_open(), EMBED_ERR_UNSUPPORTED, "pytorch_model.bin.index.json: expected");
    test_write(dir, "pytorch_model.bin", "x", 1);
    expect(try_open(), EMBED_ERR_UNSUPPORTED,
           "pytorch_model.bin: expected model.safetensors beside it: a pickle can run code and is "
           "not read; convert it to safetensors");
    write_file("model.safetensors", "a");
    assert_int_equal(try_open(), EMBED_OK);
}

static void test_allocation_failures(void **state) {
    (void)state;
    write_file("one.safetensors", "ca");
    write_file("two.safetensors", "b");
    write_index(
        "{\"a\": \"one.safetensors\", \"b\": \"two.safetensors\", \"c\": \"one.safetensors\"}");
    for (long n = 1;; n++) {
        test_allocator a;
        emb_env env;
        emb_tensor_files set;
        test_allocator_init(&a, n);
        assert_int_equal(emb_env_init(&env, &a.allocator, NULL, NULL), EMBED_OK);
        const embed_status st = emb_tensor_files_open(&set, &env, dir);
        assert_int_equal(st, a.failed ? EMBED_ERR_NOMEM : EMBED_OK);
        emb_tensor_files_close(&set, &env);
        assert_int_equal(a.live, 0);
        if (!a.failed) {
            assert_true(n > 20);
            return;
        }
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
        cmocka_unit_test_setup_teardown(test_one_file, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sharded, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused_indexes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_too_many_shards, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_safetensors, setup, teardown),
        cmocka_unit_test_setup_teardown(test_allocation_failures, setup, teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
