/* Rows computed elsewhere: every format and element type gives the same numbers; what is not such a
 * file is refused by name. */
#include "support/handles.h"
#include "support/tensors.h"

#include "base/dtype.h"
#include "ngram/ngram_npy.h"
#include "ngram/ngram_rows_file.h"

#define ROWS 700
#define WIDTH 101 /* 70,700 numbers: several pieces */

static char dir[256];
static float values[ROWS * WIDTH]; /* exact in every type */

static int set_up(void **state) {
    uint64_t seed = 5;
    (void)state;
    test_dir_make(dir);
    for (size_t i = 0; i < ROWS * WIDTH; i++)
        values[i] = (float)((int)(test_rand(&seed) % 255) - 127) / 16.0f;
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    test_dir_remove(dir);
    return 0;
}

/* The numbers in a type, bytes reversed if `big`; for free(). */
static unsigned char *as_type(int dtype, int big, size_t *bytes) {
    const size_t element = dtype == EMB_NGRAM_ROWS_F64 ? 8 : emb_dtype_bytes(dtype);
    unsigned char *out = malloc(ROWS * WIDTH * element), *p = out;
    assert_non_null(out);
    for (size_t i = 0; i < ROWS * WIDTH; i++, p += element) {
        const double wide = (double)values[i];
        const uint16_t half = emb_f32_to_f16(values[i]);
        uint32_t u;
        memcpy(&u, &values[i], 4);
        const uint16_t brain = (uint16_t)(u >> 16);
        memcpy(p,
               dtype == EMBED_F32    ? (const void *)&values[i]
               : dtype == EMBED_F16  ? (const void *)&half
               : dtype == EMBED_BF16 ? (const void *)&brain
                                     : (const void *)&wide,
               element);
        for (size_t a = 0, b = element - 1; big && a < b; a++, b--) {
            const unsigned char t = p[a];
            p[a] = p[b];
            p[b] = t;
        }
    }
    *bytes = ROWS * WIDTH * element;
    return out;
}

static void check_file(const char *name, const emb_ngram_rows_params *params) {
    static const size_t pieces[][2] = {{0, ROWS}, {0, 1}, {ROWS - 1, 1}, {13, 300}, {ROWS, 0}};
    const emb_env env = test_env();
    emb_ngram_rows_file *f;
    float *got = malloc(sizeof values);
    assert_non_null(got);
    TEST_OK(emb_ngram_rows_file_open(&f, &env, test_path(dir, name), params));
    assert_int_equal(emb_ngram_rows_file_rows(f), ROWS);
    assert_int_equal(emb_ngram_rows_file_width(f), WIDTH);
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        TEST_OK(emb_ngram_rows_file_read(f, pieces[i][0], pieces[i][1], got));
        assert_memory_equal(got, values + pieces[i][0] * WIDTH, pieces[i][1] * WIDTH * 4);
    }
    test_fails(emb_ngram_rows_file_read(f, ROWS, 1, got), EMBED_ERR_INTERNAL, name);
    emb_ngram_rows_file_free(f);
    free(got);
}

/* A .npy file of this dict and data. */
static void write_npy(const char *name, int version, const char *dict, const void *data,
                      size_t bytes) {
    const size_t n = strlen(dict), start = version == 1 ? 10 : 12;
    unsigned char *out = malloc(start + n + bytes);
    assert_non_null(out);
    memcpy(out, "\x93NUMPY", 6);
    out[6] = (unsigned char)version;
    out[7] = 0;
    for (size_t i = 8; i < start; i++)
        out[i] = (unsigned char)(n >> 8 * (i - 8));
    memcpy(out + start, dict, n);
    if (bytes > 0)
        memcpy(out + start + n, data, bytes);
    test_write(dir, name, out, (long)(start + n + bytes));
    free(out);
}

static void npy_files(void **state) {
    (void)state;
    static const struct {
        int dtype, big, version;
        const char *dict;
    } forms[] = {
        {EMBED_F32, 0, 1, "{'descr': '<f4', 'fortran_order': False, 'shape': (700, 101), }   \n"},
        {EMBED_F32, 1, 2, "{'descr': '>f4', 'fortran_order': False, 'shape': (700, 101), }\n"},
        {EMBED_F16, 0, 3, "{'shape': (700L, 101L), 'fortran_order':False,'descr':'<f2'}\n"},
        {EMBED_F16, 1, 1, "{'descr': '>f2', 'fortran_order': False, 'shape': (700,101)}"},
        {EMB_NGRAM_ROWS_F64, 0, 1, "{'descr': '<f8', 'fortran_order': False, 'shape': (700, 101)}"},
        {EMB_NGRAM_ROWS_F64, 1, 1, "{'descr': '>f8', 'fortran_order': False, 'shape': (700, 101)}"},
    };
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        size_t bytes;
        unsigned char *data = as_type(forms[i].dtype, forms[i].big, &bytes);
        write_npy("a.npy", forms[i].version, forms[i].dict, data, bytes);
        check_file("a.npy", NULL);
        free(data);
    }
    char header[EMB_NPY_HEADER_BYTES], *whole = malloc(sizeof header + sizeof values);
    assert_non_null(whole);
    emb_npy_make_header(header, ROWS, WIDTH);
    memcpy(whole, header, sizeof header);
    memcpy(whole + sizeof header, values, sizeof values);
    test_write(dir, "ours", whole, (long)(sizeof header + sizeof values)); /* known by content */
    check_file("ours", NULL);
    free(whole);
}

static void safetensors_files(void **state) {
    (void)state;
    static const int dtypes[] = {EMBED_F32, EMBED_F16, EMBED_BF16};
    const emb_ngram_rows_params named = {.tensor = "rows"};
    for (size_t i = 0; i < 3; i++) {
        test_tensors t;
        test_tensors_init(&t);
        test_tensors_add(&t, "rows", dtypes[i], ROWS, WIDTH, values, 1, NULL);
        test_tensors_write(&t, dir, "one.safetensors", 8);
        check_file("one.safetensors", NULL);
        check_file("one.safetensors", &named);
    }
    size_t bytes;
    unsigned char *data = as_type(EMB_NGRAM_ROWS_F64, 0, &bytes);
    test_tensors t;
    uint64_t seed = 1;
    test_tensors_init(&t);
    test_tensors_add(&t, "other", EMBED_F32, 3, 4, NULL, 1, &seed);
    test_tensors_add_bytes(&t, "rows", "F64", "700,101", data, bytes);
    test_tensors_add_bytes(&t, "words", "I32", "2,2", data, 16);
    test_tensors_add(&t, "line", EMBED_F32, 3, 0, NULL, 1, &seed);
    test_tensors_write(&t, dir, "four.safetensors", 1);
    check_file("four.safetensors", &named);
    free(data);

    const emb_env env = test_env();
    emb_ngram_rows_file *f;
    const char *path = test_path(dir, "four.safetensors");
    test_fails(emb_ngram_rows_file_open(&f, &env, path, NULL), EMBED_ERR_ARG, "4 tensors; name");
    static const struct {
        const char *name, *message;
        embed_status st;
    } wrong[] = {
        {"none", "no tensor named none", EMBED_ERR_FORMAT},
        {"words", "words: expected F16, BF16, F32 or F64, found I32", EMBED_ERR_UNSUPPORTED},
        {"line", "line: expected a shape [rows, width], found [3]", EMBED_ERR_UNSUPPORTED}};
    for (size_t i = 0; i < 3; i++) {
        const emb_ngram_rows_params p = {.tensor = wrong[i].name};
        test_fails(emb_ngram_rows_file_open(&f, &env, path, &p), wrong[i].st, wrong[i].message);
        assert_null(f);
    }
}

static void bare_numbers(void **state) {
    (void)state;
    static const int dtypes[] = {EMBED_F32, EMBED_F16, EMBED_BF16, EMB_NGRAM_ROWS_F64};
    const emb_env env = test_env();
    emb_ngram_rows_file *f;
    for (size_t i = 0; i < 4; i++) {
        size_t bytes;
        unsigned char *data = as_type(dtypes[i], 0, &bytes);
        const emb_ngram_rows_params p = {NULL, dtypes[i], WIDTH};
        const emb_ngram_rows_params other = {NULL, dtypes[i], WIDTH + 2};
        test_write(dir, "rows.bin", data, (long)bytes);
        check_file("rows.bin", &p);
        test_fails(emb_ngram_rows_file_open(&f, &env, test_path(dir, "rows.bin"), &other),
                   EMBED_ERR_TRUNCATED, "which is no multiple");
        test_fails(emb_ngram_rows_file_open(&f, &env, test_path(dir, "rows.bin"), NULL),
                   EMBED_ERR_FORMAT, "rows.bin: neither .npy nor .safetensors");
        free(data);
    }
}

static void wrong_npy_files(void **state) {
    (void)state;
    static const struct {
        const char *dict, *message;
        size_t bytes;
        embed_status st;
    } wrong[] = {
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)}", "2 x 3 f4, so ", 23,
         EMBED_ERR_TRUNCATED},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)}", "2 x 3 f4, so ", 25,
         EMBED_ERR_FORMAT},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (6,)}", "found 1 dimension", 24,
         EMBED_ERR_UNSUPPORTED},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2, 3)}", "found 3 dimensions", 24,
         EMBED_ERR_UNSUPPORTED},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': ()}", "found 0 dimensions", 4,
         EMBED_ERR_UNSUPPORTED},
        {"{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3)}", "fortran_order", 24,
         EMBED_ERR_UNSUPPORTED},
        {"{'descr': '<i4', 'fortran_order': False, 'shape': (2, 3)}", "f2, f4 or f8, found i4", 24,
         EMBED_ERR_UNSUPPORTED},
        {"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (6,)}", "of one type", 24,
         EMBED_ERR_UNSUPPORTED},
        {"{'descr': '<f4', 'fortran_order': 0, 'shape': (2, 3)}", "expected a .npy header", 24,
         EMBED_ERR_FORMAT},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, -3)}", "expected a .npy header", 24,
         EMBED_ERR_FORMAT},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3", "expected a .npy header", 24,
         EMBED_ERR_FORMAT},
        {"{'descr': '<f4', 'fortran_order': False}", "expected a .npy header", 24,
         EMBED_ERR_FORMAT},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999, 3)}",
         "expected a .npy header", 24, EMBED_ERR_FORMAT},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999999999999, 3)}", "overflows",
         24, EMBED_ERR_NOMEM},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 0)}", "rows of 0 numbers", 0,
         EMBED_ERR_FORMAT},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (0, 3000000000)}", "3000000000 columns",
         0, EMBED_ERR_UNSUPPORTED},
    };
    const emb_env env = test_env();
    const unsigned char data[64] = {0};
    emb_ngram_rows_file *f;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        write_npy("w.npy", 1, wrong[i].dict, data, wrong[i].bytes);
        test_fails(emb_ngram_rows_file_open(&f, &env, test_path(dir, "w.npy"), NULL), wrong[i].st,
                   wrong[i].message);
        assert_null(f);
    }
    write_npy("w.npy", 9, wrong[0].dict, data, 24);
    test_fails(emb_ngram_rows_file_open(&f, &env, test_path(dir, "w.npy"), NULL),
               EMBED_ERR_UNSUPPORTED, ".npy version 9");
    test_write(dir, "w.npy", "\x93NUMPY\x01", 7);
    test_fails(emb_ngram_rows_file_open(&f, &env, test_path(dir, "w.npy"), NULL),
               EMBED_ERR_TRUNCATED, "w.npy");
    test_write(dir, "w.npy", "\x93NUMPY\x02\0\xff\xff\xff\xff", 12);
    test_fails(emb_ngram_rows_file_open(&f, &env, test_path(dir, "w.npy"), NULL), EMBED_ERR_FORMAT,
               ".npy header of 4294967295 bytes");
    test_write(dir, "w.npy", "text", 4);
    test_fails(emb_ngram_rows_file_open(&f, &env, test_path(dir, "w.npy"), NULL), EMBED_ERR_FORMAT,
               "not a .npy file");
    test_fails(emb_ngram_rows_file_open(&f, &env, test_path(dir, "none"), NULL), EMBED_ERR_IO,
               "none");
}

static void allocations_that_fail(void **state) {
    (void)state;
    static const char *const names[] = {"x.npy", "x.safetensors"};
    test_tensors t;
    test_tensors_init(&t);
    test_tensors_add(&t, "rows", EMBED_F32, 2, 3, values, 1, NULL);
    test_tensors_write(&t, dir, names[1], 8);
    write_npy(names[0], 1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)}", values, 24);
    for (int i = 0; i < 2; i++)
        for (long n = 1;; n++) {
            test_allocator a;
            emb_env env;
            emb_ngram_rows_file *f;
            test_allocator_init(&a, n);
            TEST_OK(emb_env_init(&env, &a.allocator, NULL, NULL));
            const embed_status st =
                emb_ngram_rows_file_open(&f, &env, test_path(dir, names[i]), NULL);
            emb_ngram_rows_file_free(f);
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
        cmocka_unit_test(npy_files),
        cmocka_unit_test(safetensors_files),
        cmocka_unit_test(bare_numbers),
        cmocka_unit_test(wrong_npy_files),
        cmocka_unit_test(allocations_that_fail),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
