#define _POSIX_C_SOURCE 200809L
#include "support/counting.h"

#include <unistd.h>

#include "ngram/counts_merge.h"

#define POSITIONS 9000

static char dir[256], counts[300], merged[300];
static uint32_t stream[POSITIONS];

static int count_stream(void **state) {
    (void)state;
    const emb_env env = test_env();
    uint64_t rng = 31;
    test_dir_make(dir);
    (void)snprintf(counts, sizeof counts, "%s/counts", dir);
    (void)snprintf(merged, sizeof merged, "%s/merged", dir);
    naive_stream(stream, POSITIONS, 300, &rng);
    const emb_ngram_counter_params p = counting_params(counts, 3, 1, 1);
    assert_int_equal(counting_run(&env, &p, stream, POSITIONS, NULL), EMBED_OK);
    return 0;
}

static int remove_dir(void **state) {
    (void)state;
    test_dir_remove(dir);
    return 0;
}

static embed_status read_all(const char *path) {
    const emb_env env = test_env();
    emb_counts_reader r;
    emb_counts_record record = {.length = 2};
    embed_status st = emb_counts_open(&r, &env, path, 1000);
    while (st == EMBED_OK && record.length != 0)
        st = emb_counts_next(&r, &record);
    emb_counts_close(&r);
    return st;
}

static void write_file(const char *path, const char *bytes, size_t size) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

/* One bit flipped in every structure, and files that end early. */
static void damage_is_found(void **state) {
    (void)state;
    size_t size;
    char *bytes = counting_read(counts, &size);
    assert_int_equal(read_all(counts), EMBED_OK);
    for (size_t at = 0; at < size; at += at < sizeof(emb_counts_header) ? 1 : 97) {
        bytes[at] = (char)(bytes[at] ^ 1 << at % 8);
        write_file(merged, bytes, size);
        const embed_status st = read_all(merged);
        if (st != EMBED_ERR_FORMAT && !(st == EMBED_ERR_UNSUPPORTED && at >= 8 && at < 12))
            fail_msg("byte %zu: status %d", at, (int)st);
        assert_non_null(strstr(emb_fail_message(), "merged"));
        bytes[at] = (char)(bytes[at] ^ 1 << at % 8);
    }
    for (size_t left = 0; left < size; left = left * 2 + 1) {
        write_file(merged, bytes, left);
        assert_int_equal(read_all(merged), left < 8 ? EMBED_ERR_FORMAT : EMBED_ERR_TRUNCATED);
    }
    write_file(merged, bytes, size - 1);
    assert_int_equal(read_all(merged), EMBED_ERR_TRUNCATED);
    bytes[size] = 0;
    write_file(merged, bytes, size + 1);
    assert_int_equal(read_all(merged), EMBED_ERR_FORMAT);
    free(bytes);
    test_write(dir, "merged", "{\"ids\":[1,2],\"count\":3}\n", -1);
    assert_int_equal(read_all(merged), EMBED_ERR_FORMAT);
    assert_non_null(strstr(emb_fail_message(), "expected a file of `embed ngram count`"));
    assert_int_equal(read_all(dir), EMBED_ERR_IO);
    assert_int_equal(read_all(test_path(dir, "none")), EMBED_ERR_IO);
}

/* Sealed records that make no sense are found too. */
static void senseless_records(void **state) {
    (void)state;
    const emb_env env = test_env();
    const emb_counts_record records[][2] = {
        {{.count = 0, .length = 2, .ids = {1, 2}}, {.count = 1, .length = 2, .ids = {1, 3}}},
        {{.count = 1, .length = 2, .ids = {1, 2}}, {.count = 1, .length = 2, .ids = {1, 2}}},
        {{.count = 1, .length = 2, .ids = {1, 2}}, {.count = 1, .length = 2, .ids = {0, 3}}},
        {{.count = 1, .length = 2, .ids = {1, 2}},
         {.count = 1, .length = 2, .ids = {1, COUNTING_VOCAB}}}};
    const char *const words[] = {"a count of 0", "ascending", "ascending", "vocabulary"};
    emb_counts_reader r;
    assert_int_equal(emb_counts_open(&r, &env, counts, 100), EMBED_OK);
    emb_counts_header h = r.header;
    emb_counts_close(&r);
    memset(h.sections, 0, sizeof h.sections);
    h.k = 2;
    for (size_t i = 0; i < 4; i++) {
        emb_counts_writer w;
        assert_int_equal(emb_counts_writer_open(&w, &env, test_path(dir, "new"), &h, 0, 100),
                         EMBED_OK);
        emb_counts_writer_start(&w, 2);
        assert_int_equal(emb_counts_writer_put(&w, &records[i][0]), EMBED_OK);
        assert_int_equal(emb_counts_writer_put(&w, &records[i][1]), EMBED_OK);
        assert_int_equal(emb_counts_writer_end(&w), EMBED_OK);
        assert_int_equal(emb_counts_writer_publish(&w, merged), EMBED_OK);
        emb_counts_writer_close(&w);
        assert_int_equal(read_all(merged), EMBED_ERR_FORMAT);
        assert_non_null(strstr(emb_fail_message(), words[i]));
    }
}

/* ------------------------------------------------------------------------------------ merging */

/* Count parts of the stream, cut behind ends of texts, into part-0, part-1 ... */
static void count_parts(size_t parts, uint64_t min_count, char paths[][300]) {
    const emb_env env = test_env();
    size_t from = 0;
    for (size_t i = 0; i < parts; i++) {
        size_t to = i + 1 == parts ? POSITIONS : POSITIONS / parts * (i + 1);
        while (stream[to - 1] != EMB_NGRAM_END)
            to++;
        (void)snprintf(paths[i], sizeof paths[i], "%s/part-%zu", dir, i);
        const emb_ngram_counter_params p = counting_params(paths[i], 3, min_count, 1);
        assert_int_equal(counting_run(&env, &p, stream + from, to - from, NULL), EMBED_OK);
        from = to;
    }
}

static embed_status merge(char paths[][300], size_t n, uint64_t memory) {
    const emb_env env = test_env();
    const char *inputs[16];
    const emb_counts_job job = {memory, NULL, NULL};
    for (size_t i = 0; i < n; i++)
        inputs[i] = paths[i];
    return emb_counts_merge(&env, inputs, n, merged, &job);
}

static void parts_sum_up_to_the_whole(void **state) {
    (void)state;
    static char paths[16][300];
    size_t size;
    char *want = counting_read(counts, &size);
    for (size_t parts = 1; parts <= 13; parts += 6) {
        count_parts(parts, 1, paths);
        assert_int_equal(merge(paths, parts, 1 << 30), EMBED_OK);
        assert_true(counting_same(merged, want, size));
        assert_int_equal(merge(paths, parts, emb_counts_merge_least_memory(parts)), EMBED_OK);
        assert_true(counting_same(merged, want, size));
    }
    free(want);
}

static void merged_headers(void **state) {
    (void)state;
    const emb_env env = test_env();
    static char paths[2][300];
    emb_counts_reader r;
    count_parts(2, 1, paths);
    emb_ngram_counter_params p = counting_params(paths[0], 3, 4, 1);
    p.identity.hidden = 65;
    assert_int_equal(counting_run(&env, &p, stream, POSITIONS, NULL), EMBED_OK);
    assert_int_equal(merge(paths, 2, 1 << 20), EMBED_OK);
    assert_int_equal(emb_counts_open(&r, &env, merged, 100), EMBED_OK);
    assert_int_equal(r.header.min_count, 4);
    assert_int_equal(r.header.hidden, 0);
    emb_counts_close(&r);
}

static void parts_that_do_not_fit(void **state) {
    (void)state;
    const emb_env env = test_env();
    static char paths[2][300];
    count_parts(2, 1, paths);
    for (int what = 0; what < 4; what++) {
        emb_ngram_counter_params p = counting_params(paths[1], what == 0 ? 4 : 3, 1, what != 1);
        p.identity.vocab += what == 2;
        p.identity.tokenizer[5] = what == 3 ? 'f' : p.identity.tokenizer[5];
        const char *const words[] = {"K 3, but", "document counts", "vocabulary 5000, but",
                                     "tokenizer 00112233445566778899aabbccddeeff, but"};
        assert_int_equal(counting_run(&env, &p, stream, POSITIONS, NULL), EMBED_OK);
        assert_int_equal(merge(paths, 2, 1 << 20), EMBED_ERR_MISMATCH);
        assert_non_null(strstr(emb_fail_message(), words[what]));
        assert_non_null(strstr(emb_fail_message(), "part-1"));
    }
    assert_int_equal(merge(paths, 0, 1 << 20), EMBED_ERR_ARG);
    assert_int_equal(merge(paths, 1, 1000), EMBED_ERR_ARG);
    assert_int_equal(truncate(paths[0], 5000), 0);
    assert_int_equal(merge(paths, 1, 1 << 20), EMBED_ERR_TRUNCATED);
    assert_false(counting_exists(merged));
    assert_false(counting_exists(test_path(dir, "merged.partial")));
}

static void merging_without_memory(void **state) {
    (void)state;
    static char paths[3][300];
    const char *const inputs[] = {paths[0], paths[1], paths[2]};
    count_parts(3, 1, paths);
    for (long fail_at = 1, refused = 1; refused; fail_at++) {
        test_allocator a;
        test_allocator_init(&a, fail_at);
        emb_env env;
        assert_int_equal(emb_env_init(&env, &a.allocator, NULL, NULL), EMBED_OK);
        const emb_counts_job job = {1 << 20, NULL, NULL};
        const embed_status st = emb_counts_merge(&env, inputs, 3, merged, &job);
        refused = a.failed;
        assert_int_equal(st, refused ? EMBED_ERR_NOMEM : EMBED_OK);
        assert_int_equal(counting_exists(test_path(dir, "merged.partial")), 0);
        assert_int_equal(a.live, 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(damage_is_found, count_stream, remove_dir),
        cmocka_unit_test_setup_teardown(senseless_records, count_stream, remove_dir),
        cmocka_unit_test_setup_teardown(parts_sum_up_to_the_whole, count_stream, remove_dir),
        cmocka_unit_test_setup_teardown(merged_headers, count_stream, remove_dir),
        cmocka_unit_test_setup_teardown(parts_that_do_not_fit, count_stream, remove_dir),
        cmocka_unit_test_setup_teardown(merging_without_memory, count_stream, remove_dir),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
