#define _POSIX_C_SOURCE 200809L
#include "support/counting.h"

#include <unistd.h>

#include "ngram/count_bins.h"
#include "ngram/counts_select.h"

#define POSITIONS 60000

static char dir[256], counts[300], list[300], other[300];
static uint32_t stream[POSITIONS];
static naive_ngrams all; /* of the stream, min_count 1, by rank */

static int by_rank(const void *a, const void *b) {
    const naive_ngram *x = a, *y = b;
    if (x->count != y->count)
        return x->count < y->count ? 1 : -1;
    if (x->length != y->length)
        return x->length - y->length;
    for (int32_t i = 0; i < x->length; i++)
        if (x->ids[i] != y->ids[i])
            return x->ids[i] < y->ids[i] ? -1 : 1;
    return 0;
}

static int count_stream(void **state) {
    (void)state;
    const emb_env env = test_env();
    uint64_t rng = 21;
    test_dir_make(dir);
    (void)snprintf(counts, sizeof counts, "%s/counts", dir);
    (void)snprintf(list, sizeof list, "%s/list.jsonl", dir);
    (void)snprintf(other, sizeof other, "%s/other", dir);
    naive_stream(stream, POSITIONS, 2000, &rng);
    const emb_ngram_counter_params p = counting_params(counts, 5, 1, 1);
    assert_int_equal(counting_run(&env, &p, stream, POSITIONS, NULL), EMBED_OK);
    all = naive_count(stream, POSITIONS, 5, 1, 1);
    qsort(all.items, all.n, sizeof *all.items, by_rank);
    return 0;
}

static int remove_all(void **state) {
    (void)state;
    free(all.items);
    test_dir_remove(dir);
    return 0;
}

static emb_counts_selection run(const char *from, const emb_counts_limits *limits,
                                uint64_t memory) {
    const emb_env env = test_env();
    const emb_counts_job job = {memory, NULL, NULL};
    emb_counts_selection result;
    const embed_status st = emb_counts_select(&env, from, list, limits, &job, &result);
    if (st != EMBED_OK)
        fail_msg("%s", emb_fail_message());
    assert_false(counting_exists(test_path(dir, "list.jsonl.partial")));
    return result;
}

/* The list holds `want` in this order and nothing else. */
static void check_list(const naive_ngram *const *want, size_t n) {
    FILE *f = fopen(list, "r");
    char line[256], expected[256];
    assert_non_null(f);
    for (size_t i = 0; i < n; i++) {
        int at = snprintf(expected, sizeof expected, "{\"ids\":[");
        for (int32_t j = 0; j < want[i]->length; j++)
            at += snprintf(expected + at, sizeof expected - (size_t)at, "%s%u", j ? "," : "",
                           want[i]->ids[j]);
        (void)snprintf(expected + at, sizeof expected - (size_t)at, "],\"count\":%llu}\n",
                       (unsigned long long)want[i]->count);
        assert_non_null(fgets(line, sizeof line, f));
        assert_string_equal(line, expected);
    }
    assert_null(fgets(line, sizeof line, f));
    fclose(f);
}

/* What the limits mean, one n-gram at a time. */
static size_t naive_select(const emb_counts_limits *l, uint64_t most, const naive_ngram **out) {
    size_t n = 0;
    uint64_t taken[9] = {0};
    for (size_t i = 0; i < all.n && n < most; i++) {
        const naive_ngram *g = &all.items[i];
        int fits = g->count >= l->min_count && g->documents >= l->min_documents;
        for (int32_t e = 0; e < l->n_excluded; e++)
            for (int32_t j = 0; j < g->length; j++)
                fits &= g->ids[j] != (uint32_t)l->excluded[e];
        if (fits && l->quotas && l->per_length[g->length] > 0)
            fits = l->per_length[g->length] != UINT64_MAX &&
                   taken[g->length] < l->per_length[g->length];
        if (fits && l->quotas && g->length > 2) {
            int suffix = 0;
            for (size_t j = 0; j < n && !suffix; j++)
                suffix =
                    out[j]->length == g->length - 1 &&
                    memcmp(out[j]->ids, g->ids + 1, (size_t)out[j]->length * sizeof g->ids[0]) == 0;
            fits = suffix;
        }
        if (!fits)
            continue;
        taken[g->length]++;
        out[n++] = g;
    }
    return n;
}

static void check(const emb_counts_limits *l, uint64_t most, uint64_t memory) {
    const naive_ngram **want = malloc((all.n + 1) * sizeof *want);
    const size_t n = naive_select(l, most, want);
    const emb_counts_selection r = run(counts, l, memory);
    assert_int_equal(r.rows, n);
    assert_int_equal(r.cut_off, n > 0 ? want[n - 1]->count : 0);
    uint64_t rows[9] = {0}, positions[9] = {0};
    for (size_t i = 0; i < n; i++) {
        rows[want[i]->length]++;
        positions[want[i]->length] += want[i]->count;
    }
    assert_memory_equal(r.length_rows, rows, sizeof rows);
    assert_memory_equal(r.positions, positions, sizeof positions);
    check_list(want, n);
    free(want);
}

static void rank_and_limits(void **state) {
    (void)state;
    const uint64_t tops[] = {1, 2, 1000, 30000, 10000000};
    for (size_t i = 0; i < 5; i++)
        for (int small = 0; small < 2; small++) {
            const emb_counts_limits l = {.rows = tops[i], .dtype = EMBED_I8};
            check(&l, tops[i], small ? EMB_COUNTS_SELECT_LEAST_MEMORY : 256 << 20);
        }
    const uint64_t least[] = {1, 2, 17, 1000000};
    for (size_t i = 0; i < 4; i++) {
        const emb_counts_limits l = {.min_count = least[i], .dtype = EMBED_I8};
        check(&l, UINT64_MAX, 4 << 20);
    }
    const int32_t excluded[] = {0, 3, 1999};
    const emb_counts_limits l = {.min_count = 2,
                                 .min_documents = 2,
                                 .excluded = excluded,
                                 .n_excluded = 3,
                                 .dtype = EMBED_I8};
    check(&l, UINT64_MAX, 4 << 20);
}

static void limits_by_length_keep_it_closed(void **state) {
    (void)state;
    emb_counts_limits l = {.rows = 3000, .quotas = 1, .dtype = EMBED_I8};
    l.per_length[2] = 500;
    check(&l, 3000, 64 << 20);
    l.per_length[2] = 0;
    l.per_length[3] = 10;
    l.per_length[5] = 1;
    check(&l, 3000, 64 << 20);
    check(&l, 3000, EMB_COUNTS_SELECT_LEAST_MEMORY);
    l.per_length[3] = UINT64_MAX; /* pairs only, since longer ones lose their suffixes */
    l.per_length[5] = 0;
    check(&l, 3000, 64 << 20);
    l.per_length[3] = 10;
    const emb_env env = test_env();
    const emb_counts_job job = {EMB_COUNTS_SELECT_LEAST_MEMORY, NULL, NULL};
    emb_counts_selection result;
    l.rows = 0;
    l.min_count = 1;
    assert_int_equal(emb_counts_select(&env, counts, list, &l, &job, &result), EMBED_ERR_ARG);
    assert_non_null(strstr(emb_fail_message(), "limits by length need at least"));
}

static void bytes_of_the_table(void **state) {
    (void)state;
    for (uint64_t bytes = 20000; bytes < 20000000; bytes *= 3) {
        const emb_counts_limits l = {.bytes = bytes, .dtype = EMBED_F16, .width = 100};
        const emb_counts_selection r = run(counts, &l, 4 << 20);
        assert_true(r.table_bytes <= bytes);
        check(&l, r.rows, 4 << 20);
        const emb_counts_limits more = {.rows = r.rows + 1, .dtype = EMBED_F16, .width = 100};
        if (r.rows < all.n)
            assert_true(run(counts, &more, 4 << 20).table_bytes > bytes);
        assert_int_equal(r.width, 100);
    }
    const emb_env env = test_env();
    const emb_counts_job job = {4 << 20, NULL, NULL};
    const emb_counts_limits none = {.bytes = 100, .dtype = EMBED_I8};
    emb_counts_selection result;
    assert_int_equal(emb_counts_select(&env, counts, list, &none, &job, &result), EMBED_ERR_ARG);
    const emb_counts_limits own = {.rows = 5, .dtype = EMBED_I8};
    assert_int_equal(run(counts, &own, 4 << 20).width, 64); /* of the model that counted */
}

/* Positions by length of their longest match, as a lookup in the selected set finds them. */
static void coverage_is_what_a_lookup_finds(void **state) {
    (void)state;
    const emb_counts_limits l = {.rows = 2000, .dtype = EMBED_I8};
    const emb_counts_selection r = run(counts, &l, 4 << 20);
    uint64_t want[9] = {0}, tokens = 0;
    size_t first = 0;
    for (size_t i = 0; i < POSITIONS; i++) {
        if (stream[i] >= EMB_NGRAM_BREAK) {
            first = i + 1;
            continue;
        }
        tokens++;
        int32_t longest = 0;
        for (size_t j = 0; j < 2000; j++) {
            const size_t n = (size_t)all.items[j].length;
            if (i + 1 - first >= n && all.items[j].length > longest &&
                memcmp(stream + i + 1 - n, all.items[j].ids, n * sizeof *stream) == 0)
                longest = all.items[j].length;
        }
        for (int32_t n = 2; n <= longest; n++)
            want[n]++;
    }
    assert_int_equal(r.tokens, tokens);
    assert_memory_equal(r.positions, want, sizeof want);
}

/* Counts up to 2^63, so many of one bin that it must be split again and again. */
static void huge_counts(void **state) {
    (void)state;
    const emb_env env = test_env();
    const uint32_t pairs = 60000;
    uint64_t rng = 5;
    emb_counts_header h;
    emb_counts_reader r;
    emb_counts_writer w;
    assert_int_equal(emb_counts_open(&r, &env, counts, 100), EMBED_OK);
    h = r.header;
    emb_counts_close(&r);
    memset(h.sections, 0, sizeof h.sections);
    h.k = 2;
    h.with_documents = 0;
    free(all.items);
    all = (naive_ngrams){calloc(pairs, sizeof *all.items), pairs};
    assert_int_equal(emb_counts_writer_open(&w, &env, other, &h, 0, 1 << 16), EMBED_OK);
    emb_counts_writer_start(&w, 2);
    for (uint32_t i = 0; i < pairs; i++) {
        emb_counts_record record = {.length = 2, .ids = {i / 100, i % 100}};
        record.count = i % 2 ? ((uint64_t)1 << 62) + test_rand(&rng) % 1000
                             : 1 + (test_rand(&rng) >> test_rand(&rng) % 64);
        assert_int_equal(emb_counts_writer_put(&w, &record), EMBED_OK);
        all.items[i] = (naive_ngram){.length = 2, .count = record.count};
        memcpy(all.items[i].ids, record.ids, sizeof record.ids);
    }
    assert_int_equal(emb_counts_writer_end(&w), EMBED_OK);
    assert_int_equal(emb_counts_writer_publish(&w, counts), EMBED_OK);
    emb_counts_writer_close(&w);
    qsort(all.items, all.n, sizeof *all.items, by_rank);
    const emb_counts_limits l = {.min_count = 1, .dtype = EMBED_I8};
    const naive_ngram **want = malloc(all.n * sizeof *want);
    for (size_t i = 0; i < all.n; i++)
        want[i] = &all.items[i];
    assert_true(run(counts, &l, EMB_COUNTS_SELECT_LEAST_MEMORY).passes > 10);
    check_list(want, all.n);
    free(want);
}

static void bins_cover_all_counts(void **state) {
    (void)state;
    uint64_t rng = 9;
    for (size_t bin = 0; bin < EMB_COUNT_BINS; bin++) {
        const uint64_t least = emb_count_bin_least(bin), most = emb_count_bin_greatest(bin);
        assert_true(least <= most);
        assert_int_equal(emb_count_bin(least), bin);
        assert_int_equal(emb_count_bin(most), bin);
        assert_int_equal(emb_count_bin(least + test_rand(&rng) % (most - least + 1)), bin);
    }
    assert_int_equal(emb_count_bin(UINT64_MAX), EMB_COUNT_BINS - 1);
}

static void failing_selections(void **state) {
    (void)state;
    const emb_env env = test_env();
    const emb_counts_job job = {4 << 20, NULL, NULL};
    emb_counts_limits l = {.rows = 100, .dtype = EMBED_I8};
    emb_counts_selection result;
    for (long fail_at = 1, refused = 1; refused; fail_at++) {
        test_allocator a;
        test_allocator_init(&a, fail_at);
        emb_env failing;
        assert_int_equal(emb_env_init(&failing, &a.allocator, NULL, NULL), EMBED_OK);
        const embed_status st = emb_counts_select(&failing, counts, list, &l, &job, &result);
        refused = a.failed;
        assert_int_equal(st, refused ? EMBED_ERR_NOMEM : EMBED_OK);
        assert_int_equal(a.live, 0);
    }
    assert_int_equal(unlink(list), 0);
    const int32_t outside[] = {COUNTING_VOCAB};
    l.excluded = outside;
    l.n_excluded = 1;
    assert_int_equal(emb_counts_select(&env, counts, list, &l, &job, &result), EMBED_ERR_ARG);
    assert_non_null(strstr(emb_fail_message(), "excluded ids"));
    assert_int_equal(emb_counts_select(&env, counts, test_path(dir, "missing/list"),
                                       &(emb_counts_limits){.rows = 1, .dtype = EMBED_I8}, &job,
                                       &result),
                     EMBED_ERR_IO);
    const emb_ngram_counter_params p = counting_params(other, 3, 1, 0);
    assert_int_equal(counting_run(&env, &p, stream, POSITIONS, NULL), EMBED_OK);
    l = (emb_counts_limits){.rows = 1, .min_documents = 2, .dtype = EMBED_I8};
    assert_int_equal(emb_counts_select(&env, other, list, &l, &job, &result), EMBED_ERR_ARG);
    assert_non_null(strstr(emb_fail_message(), "--min-docs"));
    assert_false(counting_exists(list));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(rank_and_limits, count_stream, remove_all),
        cmocka_unit_test_setup_teardown(limits_by_length_keep_it_closed, count_stream, remove_all),
        cmocka_unit_test_setup_teardown(bytes_of_the_table, count_stream, remove_all),
        cmocka_unit_test_setup_teardown(coverage_is_what_a_lookup_finds, count_stream, remove_all),
        cmocka_unit_test_setup_teardown(huge_counts, count_stream, remove_all),
        cmocka_unit_test(bins_cover_all_counts),
        cmocka_unit_test_setup_teardown(failing_selections, count_stream, remove_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
