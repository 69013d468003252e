/* Encoding with a table when things go wrong: rows that cannot be had, memory that runs short, a
 * call that is cancelled with batches in flight, a table for another model. The call fails with a
 * message in the thread that made it; the context stays usable; nothing leaks or hangs. */
#include "support/table_model.h"

#include "model/ngram_binding.h"

#include <unistd.h>

#define TEXTS 30
#define FEW 6
#define DIM 48
#define BATCH_TOKENS 120 /* several batches, so that the helper is at work */
#define MAX_ALLOCATIONS 5000

static char dir[256];
static tiny_model tiny;
static embed_text *texts;
static test_grams grams;
static int32_t first_ids[128]; /* ids of the text whose rows are damaged */

static const char *fresh(void) {
    static int n;
    static char name[32];
    (void)snprintf(name, sizeof name, "table%d", n++);
    return test_path(dir, name);
}

static int set_up(void **state) {
    (void)state;
    const tiny_spec spec = tiny_spec_moe();
    uint64_t rng = 3;
    test_dir_make(dir);
    tiny_model_make(&tiny, &spec);
    texts = test_texts(&tiny, 5, TEXTS, 60);
    embed_model *model = test_open(tiny.dir);
    test_grams_init(&grams, DIM);
    test_grams_of_texts(&grams, model, texts, TEXTS, 4, 0.4, 0, &rng);
    embed_model_free(model);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    test_grams_free(&grams);
    test_texts_free(texts, TEXTS);
    tiny_model_remove(&tiny);
    test_dir_remove(dir);
    return 0;
}

static embed_model *open_with(test_allocator *a, long fail_at) {
    embed_model *model;
    embed_model_params p = EMBED_MODEL_PARAMS_INIT;
    test_allocator_init(a, fail_at);
    p.allocator = &a->allocator;
    TEST_OK(embed_model_open(&model, tiny.dir, &p));
    return model;
}

/* A table of all n-grams at a new path, which is returned; the table is closed. */
static const char *make(const test_table_spec *spec) {
    static char path[300];
    embed_model *model = test_open(tiny.dir);
    (void)snprintf(path, sizeof path, "%s", fresh());
    embed_table_free(test_table_make(model, path, spec, &grams));
    embed_model_free(model);
    return path;
}

static embed_table *open_mode(embed_model *model, const char *path, int mode, int io) {
    const embed_table_params p = {
        .struct_size = sizeof p, .mode = mode, .io = io, .cache_bytes = 1};
    return test_table_open(model, path, &p);
}

/* ---------------------------------------------------------------------- rows that cannot be had */

/* Damage the row that text `victim` uses first; returns its number. */
static int64_t damage(embed_model *model, const char *path, size_t victim) {
    const size_t n = test_ids(model, texts[victim], first_ids, 128);
    int64_t row = -1;
    int32_t length;
    for (size_t at = 0; at < n && row < 0; at++)
        row = test_longest_match(model, &grams, first_ids, at, 8, &length);
    assert_true(row >= 0);
    embed_table *table = test_table_open(model, path, NULL);
    const long at = (long)(EMB_NGRAM_FILE_HEADER_BYTES +
                           emb_ngram_row_offset(&table->manifest.layout, (uint64_t)row) + 48 + 17);
    embed_table_free(table);
    char name[320];
    (void)snprintf(name, sizeof name, "%s/rows-000.bin", path);
    FILE *f = fopen(name, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, at, SEEK_SET), 0);
    const int byte = fgetc(f);
    assert_int_equal(fseek(f, at, SEEK_SET), 0);
    assert_true(fputc(byte ^ 0x10, f) != EOF);
    assert_int_equal(fclose(f), 0);
    return row;
}

static int uses_row(embed_model *model, size_t text, int64_t row) {
    int32_t ids[128], length;
    const size_t n = test_ids(model, texts[text], ids, 128);
    for (size_t at = 0; at < n; at++)
        if (test_longest_match(model, &grams, ids, at, 8, &length) == row)
            return 1;
    return 0;
}

static void damaged_rows(void **state) {
    (void)state;
    const test_table_spec spec = {.dtype = EMBED_F16};
    static float out[TEXTS * DIM], want[TEXTS * DIM];
    const struct {
        int mode, io;
    } ways[] = {
        {EMBED_TABLE_LAZY, 0}, {EMBED_TABLE_HUGE, 0}, {EMBED_TABLE_READ, EMBED_TABLE_IO_PREAD}};
    embed_model *model = test_open(tiny.dir);
    for (size_t victim = 0; victim < TEXTS; victim += 16) {
        char good[300];
        (void)snprintf(good, sizeof good, "%s", make(&spec));
        const char *bad = make(&spec);
        const int64_t row = damage(model, bad, victim);
        embed_table *sound = test_table_open(model, good, NULL);
        embed_context *right = test_context_with(model, sound, 2, BATCH_TOKENS);
        TEST_OK(embed_encode(right, texts, TEXTS, NULL, want, TEXTS * DIM));
        for (int w = 0; w < 3; w++) {
            char number[32];
            (void)snprintf(number, sizeof number, "row %lld ", (long long)row);
            embed_table *table = open_mode(model, bad, ways[w].mode, ways[w].io);
            embed_context *ctx = test_context_with(model, table, 2, BATCH_TOKENS);
            for (int repeat = 0; repeat < 2; repeat++) {
                const embed_status st = embed_encode(ctx, texts, TEXTS, NULL, out, TEXTS * DIM);
                test_fails(st, EMBED_ERR_FORMAT, number);
                test_fails(st, EMBED_ERR_FORMAT, "rows-000.bin");
            }
            /* Texts that have no use for the row are served, with the same bits. */
            for (size_t t = 0; t < TEXTS; t++)
                if (!uses_row(model, t, row)) {
                    TEST_OK(embed_encode(ctx, texts + t, 1, NULL, out, DIM));
                    assert_memory_equal(out, want + t * DIM, DIM * sizeof *out);
                } else
                    test_fails(embed_encode(ctx, texts + t, 1, NULL, out, DIM), EMBED_ERR_FORMAT,
                               number);
            static float states[128 * DIM];
            size_t n;
            test_fails(embed_encode_tokens(ctx, texts[victim], NULL, states, 128 * DIM, NULL, &n),
                       EMBED_ERR_FORMAT, number);
            TEST_OK(embed_context_set_table(ctx, sound));
            TEST_OK(embed_encode(ctx, texts, TEXTS, NULL, out, TEXTS * DIM));
            assert_memory_equal(out, want, sizeof out);
            embed_context_free(ctx);
            embed_table_free(table);
        }
        embed_context_free(right);
        embed_table_free(sound);
    }
    embed_model_free(model);
}

static void a_file_cut_while_open(void **state) {
    (void)state;
    const test_table_spec spec = {.dtype = EMBED_F32};
    static float out[TEXTS * DIM];
    embed_model *model = test_open(tiny.dir);
    const char *path = make(&spec);
    embed_table *table = open_mode(model, path, EMBED_TABLE_READ, EMBED_TABLE_IO_PREAD);
    embed_context *ctx = test_context_with(model, table, 2, BATCH_TOKENS);
    TEST_OK(embed_encode(ctx, texts, TEXTS, NULL, out, TEXTS * DIM));
    char name[320];
    (void)snprintf(name, sizeof name, "%s/rows-000.bin", path);
    assert_int_equal(truncate(name, EMB_NGRAM_FILE_HEADER_BYTES + 8192), 0);
    test_fails(embed_encode(ctx, texts, TEXTS, NULL, out, TEXTS * DIM), EMBED_ERR_TRUNCATED,
               "rows-000.bin");
    TEST_OK(embed_context_set_table(ctx, NULL));
    TEST_OK(embed_encode(ctx, texts, TEXTS, NULL, out, TEXTS * DIM));
    embed_context_free(ctx);
    embed_table_free(table);
    embed_model_free(model);
}

/* ------------------------------------------------------------------------------- cancelling */

struct patience {
    int left;
};

static int32_t lose_patience(void *user, uint64_t done, uint64_t total, uint64_t tokens) {
    struct patience *p = user;
    (void)done;
    (void)total;
    (void)tokens;
    return p->left-- == 0;
}

static void cancelled_in_flight(void **state) {
    (void)state;
    const test_table_spec spec = {0};
    static float out[TEXTS * DIM], want[TEXTS * DIM];
    embed_model *model = test_open(tiny.dir);
    embed_table *table = test_table_open(model, make(&spec), NULL);
    embed_context *ctx = test_context_with(model, table, 2, BATCH_TOKENS);
    TEST_OK(embed_encode(ctx, texts, TEXTS, NULL, want, TEXTS * DIM));
    int batches = 0;
    for (;; batches++) {
        struct patience patience = {batches};
        embed_encode_params p = EMBED_ENCODE_PARAMS_INIT;
        p.progress = lose_patience;
        p.progress_user = &patience;
        const embed_status st = embed_encode(ctx, texts, TEXTS, &p, out, TEXTS * DIM);
        if (st == EMBED_OK)
            break;
        test_fails(st, EMBED_ERR_CANCELLED, "progress callback");
        TEST_OK(embed_encode(ctx, texts, 3, NULL, out, 3 * DIM));
        assert_memory_equal(out, want, 3 * DIM * sizeof *out);
    }
    assert_true(batches > 4);
    embed_table_free(table);
    embed_context_free(ctx);
    embed_model_free(model);
}

/* ------------------------------------------------------------------------- memory that runs short
 */

static void arm(test_allocator *a, long n) {
    a->failed = 0;
    a->fail_at = n > 0 ? a->calls + n : 0;
}

static void allocations_of_a_context(void **state) {
    (void)state;
    const test_table_spec spec = {0};
    test_allocator a;
    embed_model *model = open_with(&a, 0);
    embed_table *table = test_table_open(model, make(&spec), NULL);
    embed_context *ctx, *kept = test_context(model, 1, BATCH_TOKENS);
    const long open = a.live;
    const embed_context_params p = {
        .struct_size = sizeof p, .threads = 2, .batch_tokens = BATCH_TOKENS, .table = table};
    for (long n = 1;; n++) {
        assert_true(n < MAX_ALLOCATIONS);
        arm(&a, n);
        const embed_status st = embed_context_create(&ctx, model, &p);
        if (!a.failed) {
            TEST_OK(st);
            embed_context_free(ctx);
            assert_int_equal(a.live, open);
            break;
        }
        test_fails(st, EMBED_ERR_NOMEM, "EMBED_ERR_NOMEM: ");
        assert_null(ctx);
        assert_int_equal(a.live, open);
    }
    for (long n = 1;; n++) { /* a table that does not fit leaves the old one in place */
        float out[DIM];
        embed_table_stats s = {.struct_size = sizeof s};
        assert_true(n < MAX_ALLOCATIONS);
        arm(&a, n);
        const embed_status st = embed_context_set_table(kept, table);
        const int failed = a.failed;
        arm(&a, 0);
        TEST_OK(embed_encode(kept, texts, 1, NULL, out, DIM));
        TEST_OK(embed_context_get_table_stats(kept, &s));
        assert_int_equal(s.positions > 0, !failed);
        if (!failed) {
            TEST_OK(st);
            break;
        }
        test_fails(st, EMBED_ERR_NOMEM, "EMBED_ERR_NOMEM: ");
    }
    embed_context_free(kept);
    embed_table_free(table);
    embed_model_free(model);
    assert_int_equal(a.live, 0);
}

static void allocations_of_a_call(void **state) {
    (void)state;
    const test_table_spec spec = {.dtype = EMBED_I8};
    static float out[FEW * DIM], want[FEW * DIM];
    char path[300];
    (void)snprintf(path, sizeof path, "%s", make(&spec));
    for (int mode = EMBED_TABLE_LAZY; mode <= EMBED_TABLE_READ; mode += 3)
        for (long n = 1, failed = 1; failed; n++) {
            test_allocator a;
            embed_model *model = open_with(&a, 0);
            embed_table *table =
                open_mode(model, path, mode, mode == EMBED_TABLE_READ ? EMBED_TABLE_IO_PREAD : 0);
            /* 40 tokens: texts longer than a batch make slots and fetchers grow */
            embed_context *ctx = test_context_with(model, table, 1, 40);
            assert_true(n < MAX_ALLOCATIONS);
            arm(&a, n);
            const embed_status st = embed_encode(ctx, texts, FEW, NULL, out, FEW * DIM);
            failed = a.failed;
            if (failed)
                test_fails(st, EMBED_ERR_NOMEM, "EMBED_ERR_NOMEM: ");
            else
                TEST_OK(st);
            arm(&a, 0);
            TEST_OK(embed_encode(ctx, texts, FEW, NULL, out, FEW * DIM));
            if (n == 1)
                memcpy(want, out, sizeof want);
            assert_memory_equal(out, want, sizeof out);
            const long calls = a.calls;
            TEST_OK(embed_encode(ctx, texts, 2, NULL, out, 2 * DIM));
            if (mode == EMBED_TABLE_LAZY)
                assert_int_equal(a.calls, calls); /* a steady state without allocations */
            embed_table_free(table);              /* the context keeps both */
            embed_model_free(model);
            TEST_OK(embed_encode(ctx, texts, FEW, NULL, out, FEW * DIM));
            embed_context_free(ctx);
            assert_int_equal(a.live, 0);
            if (!failed)
                print_message("mode %d: %ld allocations in the first call\n", mode, n - 1);
        }
}

static void planned_bytes(void **state) {
    (void)state;
    test_allocator a;
    embed_model *model = open_with(&a, 0);
    static float out[TEXTS * DIM], projection[DIM * DIM];
    for (int i = 0; i < DIM * DIM; i++)
        projection[i] = i % (DIM + 1) == 0;
    for (int projected = 0; projected < 2; projected++) {
        const test_table_spec spec = {.projection = projected ? projection : NULL};
        embed_table *table = test_table_open(model, make(&spec), NULL);
        embed_context_params p = {
            .struct_size = sizeof p, .threads = 2, .batch_tokens = 256, .table = table};
        uint64_t with, without;
        const long live = a.live;
        TEST_OK(embed_plan_bytes(model, &p, &with));
        assert_int_equal(a.live, live);
        embed_context *ctx = test_context_with(model, table, 2, 256);
        assert_int_equal(embed_context_bytes(ctx), with);
        TEST_OK(embed_encode(ctx, texts, TEXTS, NULL, out, TEXTS * DIM));
        const uint64_t used = embed_context_bytes(ctx);
        p.table = NULL;
        TEST_OK(embed_plan_bytes(model, &p, &without));
        assert_true(with > without + 3 * 256 * DIM * sizeof(float));
        TEST_OK(embed_context_set_table(ctx, NULL));
        /* what encoding adds are the tokenizers' buffers, the same with and without table */
        assert_int_equal(used - with, embed_context_bytes(ctx) - without);
        embed_context_free(ctx);
        embed_table_free(table);
    }
    embed_model_free(model);
    assert_int_equal(a.live, 0);
}

/* --------------------------------------------------------------------- tables for other models */

static void other_models(void **state) {
    (void)state;
    tiny_spec wider = tiny_spec_moe(), redrawn = tiny_spec_moe();
    const test_table_spec spec = {0};
    tiny_model wide, drawn;
    wider.hidden = 64;
    redrawn.seed++;
    tiny_model_make(&wide, &wider);
    tiny_model_make(&drawn, &redrawn);
    embed_model *a = test_open(wide.dir), *b = test_open(drawn.dir), *right = test_open(tiny.dir);
    const char *path = make(&spec);
    embed_table_params p = {.struct_size = sizeof p};
    embed_context *ctx = NULL;
    float out[DIM];
    /* opened for no model, it is checked when attached */
    embed_table *table = test_table_open(NULL, path, &p);
    embed_context_params c = {
        .struct_size = sizeof c, .threads = 1, .batch_tokens = 64, .table = table};
    test_fails(embed_context_create(&ctx, a, &c), EMBED_ERR_MISMATCH, "48");
    assert_null(ctx);
    test_fails(embed_context_create(&ctx, b, &c), EMBED_ERR_MISMATCH, "word embedding matrix");
    embed_context *mine = test_context(b, 1, 64);
    test_fails(embed_context_set_table(mine, table), EMBED_ERR_MISMATCH, "word embedding matrix");
    TEST_OK(embed_encode(mine, texts, 1, NULL, out, DIM));
    TEST_OK(embed_context_create(&ctx, right, &c));
    embed_context_free(ctx);
    embed_table_free(table);
    /* another one than it was opened for */
    table = test_table_open(right, path, NULL);
    test_fails(embed_context_set_table(mine, table), EMBED_ERR_MISMATCH, "word embedding matrix");
    embed_table_free(table);
    /* an experiment: the widths must agree all the same */
    p.flags = EMBED_TABLE_ALLOW_MISMATCH;
    table = test_table_open(NULL, path, &p);
    TEST_OK(embed_context_set_table(mine, table));
    TEST_OK(embed_encode(mine, texts, 1, NULL, out, DIM));
    c.table = table;
    test_fails(embed_context_create(&ctx, a, &c), EMBED_ERR_MISMATCH, "64");
    embed_table_free(table);
    embed_context_free(mine);
    test_fails(embed_context_set_table(NULL, NULL), EMBED_ERR_ARG, "ctx");
    embed_table_stats s = {.struct_size = sizeof s};
    test_fails(embed_context_get_table_stats(NULL, &s), EMBED_ERR_ARG, "ctx");
    embed_model_free(a);
    embed_model_free(b);
    embed_model_free(right);
    tiny_model_remove(&wide);
    tiny_model_remove(&drawn);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(damaged_rows),          cmocka_unit_test(a_file_cut_while_open),
        cmocka_unit_test(cancelled_in_flight),   cmocka_unit_test(allocations_of_a_context),
        cmocka_unit_test(allocations_of_a_call), cmocka_unit_test(planned_bytes),
        cmocka_unit_test(other_models),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
