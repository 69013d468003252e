#include "support/files.h"
#include "support/tensors.h"

#include "io/safetensors.h"

static char dir[256];

static void expect(embed_status got, embed_status status, const char *message) {
    if (got != status || strstr(emb_fail_message(), message) == NULL)
        fail_msg("expected %s and \"%s\", found %s and \"%s\"", embed_status_name(status), message,
                 embed_status_name(got), emb_fail_message());
}

static embed_status try_open(const char *name) {
    const emb_env env = test_env();
    emb_safetensors file;
    const embed_status st = emb_safetensors_open(&file, &env, test_path(dir, name));
    if (st != EMBED_OK) { /* nothing is left to close */
        assert_null(file.map.data);
        assert_null(file.tensors);
        assert_null(file.header);
    }
    emb_safetensors_close(&file, &env);
    return st;
}

static void test_accepted(void **state) {
    (void)state;
    const emb_env env = test_env();
    const float values[] = {1, -2, 0.5f, 3, 4, 5};
    char shape[EMB_SHAPE_SHOWN];
    emb_safetensors file;
    test_tensors t;
    test_tensors_init(&t);
    test_tensors_add(&t, "z.weight", EMBED_F32, 2, 3, values, 1, NULL);
    test_tensors_add(&t, "a.bias", EMBED_F16, 3, 0, values, 1, NULL);
    test_tensors_add(&t, "m", EMBED_BF16, 1, 2, values, 1, NULL);
    test_tensors_add_bytes(&t, "ids", "I64", "1,2", "0123456789abcdef", 16);
    test_tensors_add_bytes(&t, "none", "F32", "0,7", "", 0);
    test_tensors_add_bytes(&t, "scalar", "U8", "", "x", 1);
    test_tensors_add_bytes(&t, "deep", "F4", "1,1,1,1,2", "y", 1);
    for (size_t align = 1; align <= 8; align += 7) {
        test_tensors copy = t;
        if (align == 1) { /* writing frees */
            copy.header = memcpy(malloc(t.header_len + 1), t.header, t.header_len + 1);
            copy.data = memcpy(malloc(t.data_len), t.data, t.data_len);
        }
        test_tensors_write(&copy, dir, "ok.safetensors", align);
        assert_int_equal(emb_safetensors_open(&file, &env, test_path(dir, "ok.safetensors")),
                         EMBED_OK);
        assert_int_equal(file.n, 7);
        for (size_t i = 1; i < file.n; i++)
            assert_true(strcmp(file.tensors[i - 1].name, file.tensors[i].name) < 0);
        const emb_tensor *z = emb_safetensors_find(&file, "z.weight");
        assert_non_null(z);
        assert_int_equal(z->dtype, EMBED_F32);
        assert_int_equal(z->rank, 2);
        assert_int_equal(z->shape[0], 2);
        assert_int_equal(z->shape[1], 3);
        assert_int_equal(z->bytes, sizeof values);
        assert_memory_equal(z->data, values, sizeof values);
        assert_string_equal(emb_tensor_show_shape(z, shape), "[2,3]");
        const emb_tensor *a = emb_safetensors_find(&file, "a.bias");
        assert_int_equal(a->dtype, EMBED_F16);
        assert_memory_equal(a->data, "\x00\x3c\x00\xc0\x00\x38", 6);
        assert_int_equal(emb_safetensors_find(&file, "m")->dtype, EMBED_BF16);
        const emb_tensor *ids = emb_safetensors_find(&file, "ids");
        assert_int_equal(ids->dtype, 0);
        assert_string_equal(ids->dtype_name, "I64");
        assert_int_equal(emb_safetensors_find(&file, "none")->bytes, 0);
        assert_string_equal(emb_tensor_show_shape(emb_safetensors_find(&file, "scalar"), shape),
                            "[]");
        assert_string_equal(emb_tensor_show_shape(emb_safetensors_find(&file, "deep"), shape),
                            "[1,1,1,1,...]");
        assert_null(emb_safetensors_find(&file, "b"));
        assert_null(emb_safetensors_find(&file, ""));
        emb_safetensors_close(&file, &env);
    }
}

/* Headers that the reference library takes. */
static void test_accepted_headers(void **state) {
    (void)state;
    static const struct {
        const char *header;
        size_t data;
    } cases[] = {
        {"{}", 0},
        {"{\"__metadata__\":{\"format\":\"pt\"}}", 0},
        {" \n{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}   ", 1},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[3,5]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3],\"more\":[1]}}",
         5},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[0,9223372036854775807],\"data_offsets\":[0,0]}}", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        test_safetensors_raw(dir, "h.safetensors", cases[i].header, cases[i].data);
        if (try_open("h.safetensors") != EMBED_OK)
            fail_msg("%s: %s", cases[i].header, emb_fail_message());
    }
}

#define A(dtype, shape, offsets)                                                                   \
    "{\"a\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"

static const struct bad_header {
    const char *header;
    size_t data;
    embed_status status;
    const char *message;
} bad_headers[] = {
    {"", 0, EMBED_ERR_FORMAT, "header: expected a JSON object, found nothing"},
    {"\xef\xbb\xbf{}", 0, EMBED_ERR_FORMAT, "found a byte order mark"},
    {"[]", 0, EMBED_ERR_FORMAT, "expected an object as header, found an array of 0"},
    {"{\"a\":", 0, EMBED_ERR_FORMAT, "expected JSON, line 1 column 6"},
    {"{} x", 0, EMBED_ERR_FORMAT, "expected JSON"},
    {"{\"a\xff\":1}", 0, EMBED_ERR_FORMAT, "expected JSON"},
    {"{\"a\":1}", 0, EMBED_ERR_FORMAT, "a: expected an object, found 1"},
    {"{\"a\":{}}", 0, EMBED_ERR_FORMAT, "a.dtype: expected a string, found nothing"},
    {"{\"__metadata__\":1}", 0, EMBED_ERR_FORMAT, "__metadata__: expected an object, found 1"},
    {"{\"__metadata__\":{\"k\":[1]}}", 0, EMBED_ERR_FORMAT,
     "__metadata__.k: expected a string, found an array of 1"},
    {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, EMBED_ERR_FORMAT,
     "__metadata__: expected one value, the key stands there 2 times"},
    {"{\"a\\u0000b\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", 1, EMBED_ERR_FORMAT,
     "expected a name without NUL bytes"},
    {A("F23", "[1]", "[0,4]"), 4, EMBED_ERR_FORMAT,
     "a.dtype: expected a dtype of the safetensors format, found \"F23\""},
    {A("f32", "[1]", "[0,4]"), 4, EMBED_ERR_FORMAT, "found \"f32\""},
    {A("F32", "1", "[0,4]"), 4, EMBED_ERR_FORMAT, "a.shape: expected an array, found 1"},
    {A("F32", "[-1]", "[0,4]"), 4, EMBED_ERR_FORMAT,
     "a.shape[0]: expected an integer of at least 0, found -1"},
    {A("F32", "[1.0]", "[0,4]"), 4, EMBED_ERR_FORMAT, "a.shape[0]: expected an integer"},
    {A("F32", "[1,\"1\"]", "[0,4]"), 4, EMBED_ERR_FORMAT, "a.shape[1]: expected an integer"},
    {A("F32", "[18446744073709551616]", "[0,4]"), 4, EMBED_ERR_FORMAT, "a.shape[0]: expected an"},
    {A("F32", "[4294967296,4294967296]", "[0,0]"), 0, EMBED_ERR_FORMAT,
     "a.shape: expected a product that fits 64 bits"},
    {A("F32", "[4294967296,4294967296,0]", "[0,0]"), 0, EMBED_ERR_FORMAT,
     "a.shape: expected a product that fits 64 bits"},
    {A("F32", "[4611686018427387904]", "[0,0]"), 0, EMBED_ERR_FORMAT,
     "a.shape: expected a size that fits 64 bits"},
    {A("F4", "[3]", "[0,1]"), 1, EMBED_ERR_FORMAT,
     "a.shape: expected a size that fits 64 bits and "
     "is whole bytes"},
    {A("F32", "[1]", "4"), 4, EMBED_ERR_FORMAT, "a.data_offsets: expected an array, found 4"},
    {A("F32", "[1]", "[0]"), 4, EMBED_ERR_FORMAT, "a.data_offsets: expected [begin, end]"},
    {A("F32", "[1]", "[]"), 4, EMBED_ERR_FORMAT, "a.data_offsets: expected [begin, end]"},
    {A("F32", "[1]", "[0,4,4]"), 4, EMBED_ERR_FORMAT, "a.data_offsets: expected [begin, end]"},
    {A("F32", "[1]", "[0,-4]"), 4, EMBED_ERR_FORMAT, "a.data_offsets[1]: expected an integer"},
    {A("F32", "[1]", "[4,0]"), 4, EMBED_ERR_FORMAT,
     "a.data_offsets: expected 4 bytes for this shape and dtype, which [4, 0] are not"},
    {A("F32", "[1]", "[0,8]"), 8, EMBED_ERR_FORMAT, "expected 4 bytes for this shape and dtype"},
    {A("F32", "[2]", "[0,4]"), 4, EMBED_ERR_FORMAT, "expected 8 bytes for this shape and dtype"},
    {A("F32", "[1]", "[4,8]"), 8, EMBED_ERR_FORMAT,
     "a: data_offsets: expected data to begin at 0, where the header ends, found 4"},
    {A("F32", "[1]", "[0,4]"), 3, EMBED_ERR_TRUNCATED,
     "a: expected 4 bytes at offset 0 of the data, found only 3"},
    {A("F32", "[1]", "[0,4]"), 5, EMBED_ERR_FORMAT,
     "expected the data to end after 4 bytes with the last tensor, found 5"},
    {A("F32", "[1],\"shape\":[1]", "[0,4]"), 4, EMBED_ERR_FORMAT,
     "a.shape: expected one value, the key stands there 2 times"},
    {A("U8", "[1152921504606846976]", "[0,1152921504606846976]"), 1, EMBED_ERR_TRUNCATED,
     "a: expected 1152921504606846976 bytes at offset 0"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
     "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}",
     3, EMBED_ERR_FORMAT, "b: data_offsets: expected data to begin at 2, where a ends, found 1"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
     "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[3,5]}}",
     5, EMBED_ERR_FORMAT, "b: data_offsets: expected data to begin at 2, where a ends, found 3"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
     "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}",
     2, EMBED_ERR_FORMAT, "data_offsets: expected data to begin at 2"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
     "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
     2, EMBED_ERR_FORMAT, "a: expected one tensor of this name, found two"},
};

static void test_refused_headers(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof bad_headers / sizeof *bad_headers; i++) {
        const struct bad_header *bad = &bad_headers[i];
        test_safetensors_raw(dir, "bad.safetensors", bad->header, bad->data);
        expect(try_open("bad.safetensors"), bad->status, bad->message);
        expect(EMBED_OK, EMBED_OK, "bad.safetensors: "); /* the file is named */
    }
}

static void test_refused_files(void **state) {
    (void)state;
    static const unsigned char too_long[] = {1, 0xe1, 0xf5, 5, 0, 0, 0, 0, '{', '}'};
    static const unsigned char beyond[] = {3, 0, 0, 0, 0, 0, 0, 0, '{', '}'};
    static const unsigned char enormous[] = {255, 255, 255, 255, 255, 255, 255, 255, '{', '}'};
    test_write(dir, "f", "", 0);
    expect(try_open("f"), EMBED_ERR_TRUNCATED,
           "f: header length: expected 8 bytes at offset 0, found a file of 0");
    test_write(dir, "f", too_long, sizeof too_long);
    expect(try_open("f"), EMBED_ERR_FORMAT,
           "f: header length: expected at most 100000000 bytes, found 100000001");
    test_write(dir, "f", enormous, sizeof enormous);
    expect(try_open("f"), EMBED_ERR_FORMAT, "found 18446744073709551615");
    test_write(dir, "f", beyond, sizeof beyond);
    expect(try_open("f"), EMBED_ERR_TRUNCATED,
           "f: header: expected 3 bytes at offset 8, found a file of 10");
    expect(try_open("missing"), EMBED_ERR_IO, "missing: cannot open: No such file or directory");
    expect(try_open("."), EMBED_ERR_IO, "expected a file, found a directory");
}

/* A valid file, for the tests that damage it. */
static unsigned char *sample(size_t *size) {
    uint64_t seed = 1;
    test_tensors t;
    test_tensors_init(&t);
    test_tensors_add(&t, "layer.0.weight", EMBED_F32, 3, 4, NULL, 1, &seed);
    test_tensors_add(&t, "layer.0.bias", EMBED_F16, 5, 0, NULL, 1, &seed);
    test_tensors_add(&t, "layer.1.weight", EMBED_BF16, 2, 2, NULL, 1, &seed);
    test_tensors_write(&t, dir, "sample", 8);
    FILE *f = fopen(test_path(dir, "sample"), "rb");
    assert_non_null(f);
    unsigned char *bytes = malloc(4096);
    *size = fread(bytes, 1, 4096, f);
    (void)fclose(f);
    return bytes;
}

static void test_cut_at_every_byte(void **state) {
    (void)state;
    size_t size;
    unsigned char *bytes = sample(&size);
    for (size_t n = 0; n < size; n++) {
        test_write(dir, "cut", bytes, (long)n);
        const embed_status st = try_open("cut");
        if (st != EMBED_ERR_TRUNCATED)
            fail_msg("cut after %zu of %zu bytes: %s", n, size, emb_fail_message());
    }
    test_write(dir, "cut", bytes, (long)size);
    assert_int_equal(try_open("cut"), EMBED_OK);
    free(bytes);
}

/* Any damage to length or header: a status, and if it is accepted, views that lie in the file. */
static void test_random_damage(void **state) {
    (void)state;
    const emb_env env = test_env();
    uint64_t seed = 20261123;
    size_t size, accepted = 0;
    unsigned char *bytes = sample(&size), *copy = malloc(size);
    const size_t header = 8 + (size_t)bytes[0] + ((size_t)bytes[1] << 8);
    print_message("seed %llu\n", (unsigned long long)seed);
    for (int round = 0; round < 3000; round++) {
        memcpy(copy, bytes, size);
        for (uint64_t edits = 1 + test_rand(&seed) % 4; edits > 0; edits--) {
            const size_t at = (size_t)(test_rand(&seed) % header);
            static const char likely[] = "0123456789[]{},:\"- ";
            copy[at] = test_rand(&seed) % 2 ? (unsigned char)test_rand(&seed)
                                            : (unsigned char)likely[test_rand(&seed) % 19];
        }
        emb_safetensors file;
        test_write(dir, "damaged", copy, (long)size);
        const embed_status st = emb_safetensors_open(&file, &env, test_path(dir, "damaged"));
        if (st != EMBED_OK && st != EMBED_ERR_FORMAT && st != EMBED_ERR_TRUNCATED)
            fail_msg("round %d: %s", round, emb_fail_message());
        volatile unsigned sum = 0;
        for (size_t i = 0; i < file.n; i++) {
            const emb_tensor *t = &file.tensors[i];
            assert_true(t->data >= file.map.data && t->bytes <= size &&
                        t->data + t->bytes <= file.map.data + size);
            for (size_t j = 0; j < t->bytes; j++)
                sum += t->data[j];
        }
        (void)sum;
        accepted += st == EMBED_OK;
        emb_safetensors_close(&file, &env);
    }
    print_message("%zu of 3000 damaged files are still valid\n", accepted);
    free(bytes);
    free(copy);
}

static void test_allocation_failures(void **state) {
    (void)state;
    size_t size;
    free(sample(&size));
    for (long n = 1;; n++) {
        test_allocator a;
        emb_env env;
        emb_safetensors file;
        test_allocator_init(&a, n);
        assert_int_equal(emb_env_init(&env, &a.allocator, NULL, NULL), EMBED_OK);
        const embed_status st = emb_safetensors_open(&file, &env, test_path(dir, "sample"));
        assert_int_equal(st, a.failed ? EMBED_ERR_NOMEM : EMBED_OK);
        emb_safetensors_close(&file, &env);
        assert_int_equal(a.live, 0);
        if (!a.failed) {
            assert_true(n > 4);
            return;
        }
    }
}

/* Sorting and finding with many tensors, in an order that is neither by name nor by offset. */
static void test_many(void **state) {
    (void)state;
    const emb_env env = test_env();
    enum { N = 3000 };
    char *header = malloc(N * 100), name[32];
    size_t used = 0;
    emb_safetensors file;
    for (unsigned i = 0; i < N; i++) {
        const unsigned k = i * 1009 % N; /* 1009 is prime to N */
        used += (size_t)sprintf(
            header + used, "%c\"t%u\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[%u,%u]}",
            i == 0 ? '{' : ',', k * 7919 % N, k, k + 1);
    }
    (void)sprintf(header + used, "}");
    test_safetensors_raw(dir, "many", header, N);
    assert_int_equal(emb_safetensors_open(&file, &env, test_path(dir, "many")), EMBED_OK);
    assert_int_equal(file.n, N);
    for (unsigned k = 0; k < N; k++) {
        (void)sprintf(name, "t%u", k * 7919 % N);
        const emb_tensor *t = emb_safetensors_find(&file, name);
        assert_non_null(t);
        assert_int_equal(t->offset, k);
    }
    emb_safetensors_close(&file, &env);
    free(header);
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_accepted),
                                       cmocka_unit_test(test_accepted_headers),
                                       cmocka_unit_test(test_refused_headers),
                                       cmocka_unit_test(test_refused_files),
                                       cmocka_unit_test(test_cut_at_every_byte),
                                       cmocka_unit_test(test_random_damage),
                                       cmocka_unit_test(test_allocation_failures),
                                       cmocka_unit_test(test_many)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
