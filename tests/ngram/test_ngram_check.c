#include "support/handles.h"
#include "support/table_fixture.h"

#include <sys/stat.h>
#include <unistd.h>

#define WIDTH 12

static const uint8_t key[32] = {9, 8, 7};

static int32_t give_key(void *user, unsigned char out[32]) {
    memcpy(out, user, 32);
    return 0;
}

typedef struct heard {
    int n;
    char files[100][32], last[512];
} heard;

static void hear(void *user, const char *file, const char *problem) {
    heard *h = user;
    (void)snprintf(h->files[h->n++], sizeof h->files[0], "%s", file);
    (void)snprintf(h->last, sizeof h->last, "%s", problem);
}

static embed_status verify(const char *path, int full, const uint8_t *with_key, heard *h,
                           embed_verify_result *r) {
    embed_verify_params p = {.struct_size = sizeof p,
                             .full = full,
                             .key = with_key != NULL ? give_key : NULL,
                             .key_user = (void *)(uintptr_t)with_key,
                             .problem = h != NULL ? hear : NULL,
                             .problem_user = h,
                             .job = {.threads = 2}};
    r->struct_size = sizeof *r;
    if (h != NULL)
        h->n = 0;
    return embed_table_verify(path, NULL, &p, r);
}

static void write_table(const char *path, int sealed) {
    static float projection[2 * WIDTH] = {1, 2, 3};
    uint64_t rng = 11;
    test_grams g;
    test_grams_init(&g, WIDTH);
    test_grams_random(&g, 150, 5, 3, 200, 1, &rng);
    test_grams_random(&g, 50, 6, 3, 200, 0, &rng);
    const test_table_spec spec = {.dtype = EMBED_I8,
                                  .key = sealed ? key : NULL,
                                  .part_bytes = 9000,
                                  .hidden = 2,
                                  .projection = projection,
                                  .special = (const int32_t[]){0, 1, 999},
                                  .n_special = 3,
                                  .corpus = "none"};
    test_table_write(path, &spec, &g);
    test_grams_free(&g);
}

static const char *const files[] = {"manifest.json", "index.bin",    "rows-000.bin",
                                    "rows-001.bin",  "rows-002.bin", "projection.safetensors"};

static void flip(const char *path, long at, int bit) {
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, at, SEEK_SET), 0);
    const int c = fgetc(f);
    assert_int_equal(fseek(f, at, SEEK_SET), 0);
    assert_int_not_equal(fputc(c ^ 1 << bit, f), EOF);
    assert_int_equal(fclose(f), 0);
}

static long size_of(const char *path) {
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    return (long)info.st_size;
}

static void sound_tables_pass(void **state) {
    (void)state;
    char dir[256];
    embed_verify_result r;
    test_dir_make(dir);
    for (int sealed = 0; sealed < 2; sealed++) {
        const char *path = test_path(dir, sealed ? "sealed" : "plain");
        write_table(path, sealed);
        TEST_OK(verify(path, 0, sealed ? key : NULL, NULL, &r));
        TEST_OK(verify(path, 1, sealed ? key : NULL, NULL, &r));
        assert_int_equal(r.problems, 0);
        assert_int_equal(r.rows, 200);
        assert_true(r.index_entries > 200);
        assert_int_equal(r.files, 5);
    }
    test_dir_remove(dir);
}

static void every_flipped_bit_is_found(void **state) {
    (void)state;
    char dir[256];
    embed_verify_result r;
    test_dir_make(dir);
    for (int sealed = 0; sealed < 2; sealed++) {
        char path[300];
        (void)snprintf(path, sizeof path, "%s/%d", dir, sealed);
        write_table(path, sealed);
        uint64_t rng = 3;
        for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
            const char *file = test_path(path, files[i]);
            const long size = size_of(file);
            for (long at = 0; at < size;
                 at += at < 104 || i == 0 ? 3 : 1 + (long)(test_rand(&rng) % 120)) {
                const int bit = (int)(test_rand(&rng) % 8);
                flip(file, at, bit);
                const embed_status st = verify(path, 1, sealed ? key : NULL, NULL, &r);
                if (st == EMBED_OK || r.problems == 0)
                    fail_msg("%s, byte %ld, bit %d: not found (%s)", file, at, bit,
                             embed_status_name(st));
                flip(file, at, bit);
            }
        }
        TEST_OK(verify(path, 1, sealed ? key : NULL, NULL, &r));
    }
    test_dir_remove(dir);
}

static void all_that_is_wrong_is_named(void **state) {
    (void)state;
    char dir[256];
    embed_verify_result r;
    static heard h; /* large */
    test_dir_make(dir);
    const char *path = test_path(dir, "t");
    write_table(path, 0);
    flip(test_path(path, "rows-000.bin"), 4096 + 50, 1);  /* row 0 */
    flip(test_path(path, "rows-000.bin"), 4096 + 650, 1); /* row 10 */
    flip(test_path(path, "rows-001.bin"), 3000, 1);       /* zeros after the header */
    test_fails(verify(path, 1, NULL, &h, &r), EMBED_ERR_FORMAT, "rows-000.bin: row 0: fails its");
    assert_int_equal(r.problems, h.n);
    assert_int_equal(h.n, 4); /* two rows, two digests */
    assert_string_equal(h.files[1], "rows-000.bin");
    assert_string_equal(h.files[3], "rows-001.bin");
    assert_non_null(strstr(h.last, "SHA-256"));
    TEST_OK(verify(path, 0, NULL, &h, &r)); /* quick does not look there */

    assert_int_equal(truncate(test_path(path, "rows-001.bin"), 5000), 0);
    assert_int_equal(unlink(test_path(path, "index.bin")), 0);
    test_fails(verify(path, 0, NULL, &h, &r), EMBED_ERR_IO, "index.bin: cannot open");
    assert_int_equal(h.n, 2);
    assert_string_equal(h.files[1], "rows-001.bin");
    assert_int_equal(verify(path, 1, NULL, &h, &r), EMBED_ERR_IO);
    assert_int_equal(h.n, 3); /* the digest of the first part too */
    test_dir_remove(dir);
}

static void three_errors_for_three_faults(void **state) {
    (void)state;
    char dir[256];
    uint8_t wrong[32] = {1};
    embed_verify_result r;
    test_dir_make(dir);
    const char *path = test_path(dir, "t");
    write_table(path, 1);
    test_fails(verify(path, 0, wrong, NULL, &r), EMBED_ERR_ARG, "wrong key");
    test_fails(verify(path, 1, NULL, NULL, &r), EMBED_ERR_ARG, "encrypted");
    TEST_OK(verify(path, 0, NULL, NULL, &r)); /* the digest of the sealed index needs no key */
    const char *part = test_path(path, "rows-000.bin");
    flip(part, 4200, 4);
    test_fails(verify(path, 1, key, NULL, &r), EMBED_ERR_FORMAT, "authentication tag");
    flip(part, 4200, 4);
    assert_int_equal(truncate(part, size_of(part) - 1), 0);
    test_fails(verify(path, 1, key, NULL, &r), EMBED_ERR_TRUNCATED, "rows-000.bin: expected");
    test_dir_remove(dir);
}

static void failed_allocations_are_told(void **state) {
    (void)state;
    char dir[256];
    embed_verify_result r = {.struct_size = sizeof r};
    test_dir_make(dir);
    const char *path = test_path(dir, "t");
    write_table(path, 1);
    for (long n = 1;; n++) {
        test_allocator a;
        test_allocator_init(&a, n);
        embed_verify_params p = {.struct_size = sizeof p,
                                 .full = 1,
                                 .key = give_key,
                                 .key_user = (void *)(uintptr_t)key,
                                 .job = {.threads = 2, .allocator = &a.allocator}};
        const embed_status st = embed_table_verify(path, NULL, &p, &r);
        assert_int_equal(a.live, 0);
        if (!a.failed) {
            TEST_OK(st);
            break;
        }
        assert_int_equal(st, EMBED_ERR_NOMEM);
    }
    test_dir_remove(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sound_tables_pass),
        cmocka_unit_test(every_flipped_bit_is_found),
        cmocka_unit_test(all_that_is_wrong_is_named),
        cmocka_unit_test(three_errors_for_three_faults),
        cmocka_unit_test(failed_allocations_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
