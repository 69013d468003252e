#include "support/table_fixture.h"

#include <sys/stat.h>
#include <unistd.h>

#include "ngram/ngram_crypt.h"
#include "ngram/ngram_parts.h"
#include "ngram/ngram_table.h"

#define WIDTH 24

static const uint8_t key[32] = {1, 2, 3, 250};

static int32_t give_key(void *user, unsigned char out[32]) {
    memcpy(out, user, 32);
    return 0;
}

static embed_table *open_table(const char *path, const uint8_t *with_key) {
    const emb_env env = test_env();
    embed_table_params params = {.struct_size = sizeof params,
                                 .key = with_key != NULL ? give_key : NULL,
                                 .key_user = (void *)(uintptr_t)with_key};
    embed_table *t;
    if (emb_ngram_table_open(&t, &env, path, &params, NULL) != EMBED_OK)
        fail_msg("%s", emb_fail_message());
    return t;
}

/* The bytes of a row, its block decrypted if need be. */
static void row_bytes(const embed_table *t, uint64_t row, unsigned char *out) {
    const emb_ngram_layout *l = &t->manifest.layout;
    int32_t i = 0;
    while (row >= t->parts[i].first_row + t->parts[i].rows)
        i++;
    const emb_ngram_part *part = &t->parts[i];
    const uint64_t in_part = row - part->first_row, block = in_part / l->rows_per_block;
    const unsigned char *payload = part->map + EMB_NGRAM_FILE_HEADER_BYTES;
    unsigned char *copy = malloc(l->block_bytes);
    memcpy(copy, payload + block * l->block_bytes, l->block_bytes);
    if (t->cipher != NULL)
        assert_int_equal(emb_ngram_cipher_open(t->cipher, (uint32_t)i, block, copy, l->block_bytes,
                                               copy, payload + part->payload_bytes + block * 16,
                                               "block"),
                         EMBED_OK);
    memcpy(out, copy + in_part % l->rows_per_block * l->row_bytes, l->row_bytes);
    free(copy);
}

/* Greatest error a type may make on v, in a row whose greatest number is `greatest`. */
static float error_of(int32_t dtype, float v, float greatest) {
    return dtype == EMBED_F32    ? 0
           : dtype == EMBED_F16  ? fabsf(v) * 0x1p-11f + 0x1p-24f
           : dtype == EMBED_BF16 ? fabsf(v) * 0x1p-8f
                                 : greatest / 127 * 0.5001f;
}

static void check_row(const embed_table *t, const test_grams *g, size_t row) {
    unsigned char bytes[48 + 4 * WIDTH];
    float got[WIDTH], greatest = 0;
    emb_ngram_row_header h;
    const float *want = g->vectors + row * WIDTH;
    const int32_t *ids = (const int32_t *)g->list[row].ids;
    assert_int_equal(emb_ngram_index_find(&t->index, ids, g->list[row].length), row);
    row_bytes(t, row, bytes);
    assert_int_equal(emb_ngram_row_check(&t->manifest.layout, bytes, ids, g->list[row].length),
                     EMB_NGRAM_ROW_GOOD);
    memcpy(&h, bytes, sizeof h);
    assert_int_equal(h.count, g->list[row].count);
    emb_ngram_row_decode(&t->manifest.layout, bytes, got);
    for (int i = 0; i < WIDTH; i++)
        greatest = fmaxf(greatest, fabsf(want[i]));
    for (int i = 0; i < WIDTH; i++)
        if (!(fabsf(got[i] - want[i]) <= error_of(t->manifest.layout.dtype, want[i], greatest)))
            fail_msg("row %zu, element %d: got %g, want %g", row, i, (double)got[i],
                     (double)want[i]);
}

static void every_dtype_comes_back(void **state) {
    static const int32_t dtypes[] = {EMBED_F32, EMBED_F16, EMBED_BF16, EMBED_I8};
    (void)state;
    char dir[256];
    uint64_t rng = 5;
    test_grams g;
    test_dir_make(dir);
    test_grams_init(&g, WIDTH);
    test_grams_random(&g, 700, 5, 3, 300, 1, &rng);
    test_grams_random(&g, 300, 8, 3, 300, 0, &rng); /* needs path entries */
    for (size_t d = 0; d < 4; d++)
        for (int sealed = 0; sealed < 2; sealed++) {
            const char *path = test_path(dir, sealed ? "sealed" : "plain");
            const test_table_spec spec = {
                .dtype = dtypes[d], .key = sealed ? key : NULL, .part_bytes = 40000};
            test_table_write(path, &spec, &g);
            embed_table *t = open_table(path, spec.key);
            assert_true(t->n_parts > 1);
            assert_int_equal(t->manifest.rows, g.n);
            assert_true(t->manifest.keys > g.n);
            for (size_t i = 0; i < g.n; i++)
                check_row(t, &g, i);
            emb_ngram_table_release(t);
            test_dir_remove(path);
        }
    test_grams_free(&g);
    test_dir_remove(dir);
}

static void no_rows_and_one_row(void **state) {
    (void)state;
    char dir[256];
    uint64_t rng = 5;
    test_grams g;
    test_dir_make(dir);
    test_grams_init(&g, WIDTH);
    const test_table_spec spec = {0};
    test_table_write(test_path(dir, "none"), &spec, &g);
    embed_table *t = open_table(test_path(dir, "none"), NULL);
    assert_int_equal(t->n_parts, 0);
    assert_int_equal(emb_ngram_index_find(&t->index, (const int32_t[]){4, 5}, 2), EMB_NGRAM_NO_ROW);
    emb_ngram_table_release(t);
    test_grams_random(&g, 1, 2, 3, 300, 1, &rng);
    test_table_write(test_path(dir, "one/"), &spec, &g);
    t = open_table(test_path(dir, "one"), NULL);
    check_row(t, &g, 0);
    emb_ngram_table_release(t);
    test_grams_free(&g);
    test_dir_remove(dir);
}

static void nothing_is_left_after_wrong_input(void **state) {
    (void)state;
    char dir[256];
    uint64_t rng = 5;
    struct stat info;
    test_grams g;
    const emb_env env = test_env();
    test_dir_make(dir);
    test_grams_init(&g, WIDTH);
    test_grams_random(&g, 500, 4, 3, 300, 1, &rng);
    const test_table_spec spec = {.part_bytes = 20000};
    g.vectors[300 * WIDTH + 7] = NAN;
    g.vectors[450 * WIDTH + 7] = INFINITY;
    assert_int_equal(test_table_try(&env, test_path(dir, "t"), &spec, &g), EMBED_ERR_FORMAT);
    assert_non_null(strstr(emb_fail_message(), "row 300: element 7: expected a number"));
    g.vectors[300 * WIDTH + 7] = g.vectors[450 * WIDTH + 7] = 0;
    g.list[400] = g.list[10];
    assert_int_equal(test_table_try(&env, test_path(dir, "t"), &spec, &g), EMBED_ERR_FORMAT);
    assert_non_null(strstr(emb_fail_message(), "rows 10 and 400 are the same n-gram"));
    assert_int_equal(stat(test_path(dir, "t"), &info), -1);
    assert_int_equal(stat(test_path(dir, "t.partial"), &info), -1);
    test_grams_free(&g);
    test_dir_remove(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_dtype_comes_back),
        cmocka_unit_test(no_rows_and_one_row),
        cmocka_unit_test(nothing_is_left_after_wrong_input),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
