#include "support/handles.h"
#include "support/table_fixture.h"

#include <unistd.h>

#define WIDTH 40

static const uint8_t key[32] = {4, 5, 6}, other_key[32] = {7};

static int32_t give_key(void *user, unsigned char out[32]) {
    memcpy(out, user, 32);
    return 0;
}

static embed_table *open_table(const char *path, const uint8_t *with_key) {
    embed_table *t;
    const embed_table_params p = {.struct_size = sizeof p,
                                  .key = with_key != NULL ? give_key : NULL,
                                  .key_user = (void *)(uintptr_t)with_key};
    TEST_OK(embed_table_open(&t, path, NULL, &p));
    return t;
}

static void verify(const char *path, const uint8_t *with_key) {
    const embed_verify_params p = {.struct_size = sizeof p,
                                   .full = 1,
                                   .key = with_key != NULL ? give_key : NULL,
                                   .key_user = (void *)(uintptr_t)with_key};
    TEST_OK(embed_table_verify(path, NULL, &p, NULL));
}

static test_grams make_grams(void) {
    test_grams g;
    uint64_t rng = 21;
    test_grams_init(&g, WIDTH);
    test_grams_random(&g, 300, 5, 3, 250, 1, &rng);
    for (size_t i = 0; i < g.n; i++)
        g.list[i].count = (uint32_t)(1000 - i);
    return g;
}

/* Row `row` is n-gram `gram` with exactly these numbers. */
static void is_row(embed_table *t, int64_t row, const test_grams *g, size_t gram,
                   const float *want) {
    float got[WIDTH];
    embed_ngram n;
    TEST_OK(embed_table_fetch(t, &row, 1, got, WIDTH, &n));
    assert_int_equal(n.length, g->list[gram].length);
    assert_memory_equal(n.ids, g->list[gram].ids, sizeof n.ids);
    assert_int_equal(n.count, g->list[gram].count);
    assert_memory_equal(got, want, sizeof got);
}

static char *payload(const char *path, long *size) {
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    *size = ftell(f) - 4096;
    assert_int_equal(fseek(f, 4096, SEEK_SET), 0);
    char *bytes = malloc((size_t)*size + 1);
    assert_int_equal(fread(bytes, 1, (size_t)*size, f), *size);
    (void)fclose(f);
    return bytes;
}

static void unchanged_rows_keep_their_bytes(void **state) {
    static const int32_t dtypes[] = {EMBED_F32, EMBED_F16, EMBED_BF16, EMBED_I8};
    (void)state;
    char dir[256];
    test_dir_make(dir);
    test_grams g = make_grams();
    for (size_t d = 0; d < 4; d++) {
        char from[300], to[300];
        (void)snprintf(from, sizeof from, "%s/from%zu", dir, d);
        (void)snprintf(to, sizeof to, "%s/to%zu", dir, d);
        const test_table_spec spec = {.dtype = dtypes[d]};
        test_table_write(from, &spec, &g);
        TEST_OK(embed_table_compact(from, to, NULL));
        long sizes[2];
        char *a = payload(test_path(from, "rows-000.bin"), &sizes[0]);
        char *b = payload(test_path(to, "rows-000.bin"), &sizes[1]);
        assert_int_equal(sizes[0], sizes[1]);
        assert_memory_equal(a, b, (size_t)sizes[0]);
        free(a);
        free(b);
    }
    test_grams_free(&g);
    test_dir_remove(dir);
}

static void encoding_a_decoded_row_gives_it_again(void **state) {
    (void)state;
    emb_ngram_layout l;
    uint64_t rng = 77;
    unsigned char row[2][48 + WIDTH];
    float v[WIDTH];
    const uint32_t ids[EMB_NGRAM_MAX_K] = {5, 6};
    assert_int_equal(emb_ngram_layout_init(&l, WIDTH, EMBED_I8), EMBED_OK);
    for (int i = 0; i < 100000; i++) {
        const double size = ldexp(1 + test_uniform(&rng), (int)(test_rand(&rng) % 60) - 30);
        for (int j = 0; j < WIDTH; j++)
            v[j] = (float)(test_normal(&rng) * size);
        assert_int_equal(emb_ngram_row_encode(&l, ids, 2, 1, v, row[0]), EMBED_OK);
        emb_ngram_row_decode(&l, row[0], v);
        assert_int_equal(emb_ngram_row_encode(&l, ids, 2, 1, v, row[1]), EMBED_OK);
        if (memcmp(row[0], row[1], sizeof row[0]) != 0)
            fail_msg("row %d changes", i);
    }
}

static void rows_come_in_the_order_of_their_use(void **state) {
    (void)state;
    char dir[256];
    test_dir_make(dir);
    test_grams g = make_grams();
    const test_table_spec spec = {0};
    test_table_write(test_path(dir, "t"), &spec, &g);
    test_write(dir, "log", "7\n{\"hits\":10,\"x\":[],\"row\":290}\r\n\n30 4\n7\t2\n{\"row\":2}",
               -1);
    char log[300], to[300];
    (void)snprintf(log, sizeof log, "%s/log", dir);
    (void)snprintf(to, sizeof to, "%s/to", dir);
    const embed_compact_params p = {
        .struct_size = sizeof p, .access_log = log, .part_bytes = 20000};
    TEST_OK(embed_table_compact(test_path(dir, "t"), to, &p));
    verify(to, NULL);
    embed_table *t = open_table(to, NULL);
    static const size_t want[] = {290, 30, 7, 2, 0, 1, 3, 4, 5, 6, 8};
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++)
        is_row(t, (int64_t)i, &g, want[i], g.vectors + want[i] * WIDTH);
    is_row(t, 299, &g, 299, g.vectors + 299 * WIDTH);
    embed_table *old = open_table(test_path(dir, "t"), NULL);
    embed_table_info a = {.struct_size = sizeof a}, b = {.struct_size = sizeof b};
    TEST_OK(embed_table_get_info(old, &a));
    TEST_OK(embed_table_get_info(t, &b));
    assert_string_equal(b.parent, a.id);
    assert_string_not_equal(a.id, b.id);
    embed_table_free(old);
    embed_table_free(t);
    test_grams_free(&g);
    test_dir_remove(dir);
}

static void longer_matches_survive_their_suffixes(void **state) {
    (void)state;
    char dir[256];
    test_dir_make(dir);
    test_grams g = make_grams();
    for (size_t i = 0; i < g.n; i++) /* all short ones are rare */
        g.list[i].count = g.list[i].length < 4 ? 1 : 100;
    const test_table_spec spec = {0};
    test_table_write(test_path(dir, "t"), &spec, &g);
    const embed_compact_params p = {.struct_size = sizeof p, .drop_below = 2, .dtype = EMBED_F16};
    TEST_OK(embed_table_compact(test_path(dir, "t"), test_path(dir, "to"), &p));
    verify(test_path(dir, "to"), NULL);
    embed_table *t = open_table(test_path(dir, "to"), NULL);
    int64_t rows[EMB_NGRAM_MAX_K], next = 0;
    int32_t lengths[EMB_NGRAM_MAX_K];
    for (size_t i = 0; i < g.n; i++) {
        const embed_ids text = {(const int32_t *)g.list[i].ids, g.list[i].length};
        TEST_OK(embed_table_lookup(t, &text, 1, rows, lengths, EMB_NGRAM_MAX_K));
        if (text.len < 4) {
            assert_int_equal(rows[text.len - 1], -1);
            continue;
        }
        assert_int_equal(rows[text.len - 1], next++);
        assert_int_equal(lengths[text.len - 1], text.len);
    }
    assert_true(next > 20);
    embed_table_free(t);
    test_grams_free(&g);
    test_dir_remove(dir);
}

static void encryption_is_kept_changed_or_taken_off(void **state) {
    (void)state;
    char dir[256], from[300];
    test_dir_make(dir);
    test_grams g = make_grams();
    const test_table_spec spec = {.key = key};
    (void)snprintf(from, sizeof from, "%s/from", dir);
    test_table_write(from, &spec, &g);
    embed_compact_params p = {
        .struct_size = sizeof p, .key = give_key, .key_user = (void *)(uintptr_t)key};
    const uint8_t *const keys[] = {key, other_key, NULL};
    for (int i = 0; i < 3; i++) {
        const char *to = test_path(dir, i == 0 ? "kept" : i == 1 ? "changed" : "clear");
        p.new_key = i == 1 ? give_key : NULL;
        p.new_key_user = (void *)(uintptr_t)other_key;
        p.decrypt = i == 2;
        TEST_OK(embed_table_compact(from, to, &p));
        verify(to, keys[i]);
        embed_table *t = open_table(to, keys[i]);
        is_row(t, 123, &g, 123, g.vectors + 123 * WIDTH);
        embed_table_free(t);
    }
    p.key_user = (void *)(uintptr_t)other_key;
    test_fails(embed_table_compact(from, test_path(dir, "no"), &p), EMBED_ERR_ARG, "wrong key");
    test_grams_free(&g);
    test_dir_remove(dir);
}

static void wrong_logs_are_told(void **state) {
    static const struct {
        const char *log, *message;
    } cases[] = {{"1\n300\n", "line 2: row: expected less than 300, found 300"},
                 {"x", "line 1: expected {\"row\""},
                 {"1 2 3", "line 1: expected {\"row\""},
                 {"\n\n{\"hits\":1}", "line 3: expected {\"row\""},
                 {"{\"row\":-1}", "line 1: expected {\"row\""},
                 {"{\"row\":1", "line 1: expected {\"row\""}};
    (void)state;
    char dir[256], log[300];
    test_dir_make(dir);
    test_grams g = make_grams();
    const test_table_spec spec = {0};
    test_table_write(test_path(dir, "t"), &spec, &g);
    (void)snprintf(log, sizeof log, "%s/log", dir);
    const embed_compact_params p = {.struct_size = sizeof p, .access_log = log};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        test_write(dir, "log", cases[i].log, -1);
        test_fails(embed_table_compact(test_path(dir, "t"), test_path(dir, "to"), &p),
                   EMBED_ERR_FORMAT, cases[i].message);
    }
    test_grams_free(&g);
    test_dir_remove(dir);
}

static void failed_allocations_are_told(void **state) {
    (void)state;
    char dir[256], from[300], to[300], partial[320];
    test_dir_make(dir);
    test_grams g = make_grams();
    const test_table_spec spec = {.key = key};
    (void)snprintf(from, sizeof from, "%s/from", dir);
    (void)snprintf(to, sizeof to, "%s/to", dir);
    (void)snprintf(partial, sizeof partial, "%s.partial", to);
    test_table_write(from, &spec, &g);
    test_write(dir, "log", "1\n2\n{\"row\":3}\n", -1);
    char log[300];
    (void)snprintf(log, sizeof log, "%s/log", dir);
    for (long n = 1;; n++) {
        test_allocator a;
        test_allocator_init(&a, n);
        const embed_compact_params p = {.struct_size = sizeof p,
                                        .key = give_key,
                                        .key_user = (void *)(uintptr_t)key,
                                        .access_log = log,
                                        .drop_below = 900,
                                        .job = {.threads = 2, .allocator = &a.allocator}};
        const embed_status st = embed_table_compact(from, to, &p);
        assert_int_equal(a.live, 0);
        if (!a.failed) {
            TEST_OK(st);
            break;
        }
        assert_int_equal(st, EMBED_ERR_NOMEM);
        test_dir_remove(to);
        test_dir_remove(partial);
    }
    test_grams_free(&g);
    test_dir_remove(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unchanged_rows_keep_their_bytes),
        cmocka_unit_test(encoding_a_decoded_row_gives_it_again),
        cmocka_unit_test(rows_come_in_the_order_of_their_use),
        cmocka_unit_test(longer_matches_survive_their_suffixes),
        cmocka_unit_test(encryption_is_kept_changed_or_taken_off),
        cmocka_unit_test(wrong_logs_are_told),
        cmocka_unit_test(failed_allocations_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
