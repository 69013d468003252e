/* Encoding with an n-gram table: rows that say nothing new change no bit, whatever the model; rows
 * are used where the rule says and nowhere else; no residency mode, cache, batch, thread count or
 * neighbour changes a bit. */
#include "support/table_model.h"

#include "model/ngram_binding.h"

#include <unistd.h>

#define TEXTS 40
#define MINILM TEST_MODELS_DIR "/all-MiniLM-L6-v2"
#define CORPUS "../examples/data/corpus.txt"
#define MAX_DIM 1024

static char dir[256];

static int set_up(void **state) {
    (void)state;
    test_dir_make(dir);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    test_dir_remove(dir);
    return 0;
}

/* A path in the test's directory that was not used before. */
static const char *fresh(void) {
    static int n;
    static char name[32];
    (void)snprintf(name, sizeof name, "table%d", n++);
    return test_path(dir, name);
}

static size_t dim_of(const embed_model *model) {
    embed_model_info info = {.struct_size = sizeof info};
    TEST_OK(embed_model_get_info(model, &info));
    assert_true(info.dim <= MAX_DIM);
    return (size_t)info.dim;
}

static embed_table_stats stats_of(const embed_context *ctx) {
    embed_table_stats s = {.struct_size = sizeof s};
    TEST_OK(embed_context_get_table_stats(ctx, &s));
    return s;
}

/* ------------------------------------------------------------------ rows that say nothing new */

static size_t read_corpus(embed_text texts[TEXTS], size_t most) {
    char line[1024];
    size_t n = 0;
    FILE *f = fopen(CORPUS, "r");
    assert_non_null(f);
    while (n < most && fgets(line, sizeof line, f) != NULL) {
        char *copy = malloc(strlen(line) + 1);
        assert_non_null(copy);
        memcpy(copy, line, strlen(line) + 1);
        copy[strcspn(copy, "\n")] = '\0';
        texts[n++] = test_text(copy);
    }
    (void)fclose(f);
    return n;
}

static void same_as_none(const char *what, embed_model *model, const embed_text *texts, size_t n) {
    static float want[TEXTS * MAX_DIM], got[TEXTS * MAX_DIM];
    const size_t size = n * dim_of(model);
    uint64_t rng = 3;
    test_grams g;
    const test_table_spec spec = {.dtype = EMBED_F32};
    test_grams_init(&g, model->config.encoder.hidden);
    test_grams_of_texts(&g, model, texts, n, 5, 0.5, 1, &rng);
    embed_table *table = test_table_make(model, fresh(), &spec, &g);
    embed_context *plain = test_context(model, 2, 300);
    embed_context *ctx = test_context_with(model, table, 2, 300);
    embed_table_free(table); /* the context keeps it */
    TEST_OK(embed_encode(plain, texts, n, NULL, want, size));
    TEST_OK(embed_encode(ctx, texts, n, NULL, got, size));
    const embed_table_stats s = stats_of(ctx), none = stats_of(plain);
    if (memcmp(got, want, size * sizeof *got) != 0)
        fail_msg("%s: vectors differ", what);
    assert_true(s.hits[2] > 0 && s.hits[3] > 0 && s.hits[5] > 0);
    assert_int_equal(none.positions, 0);
    print_message("%s: %zu n-grams, %d of %d positions matched\n", what, g.n,
                  (int)(s.positions - s.hits[0]), (int)s.positions);
    TEST_OK(embed_context_set_table(ctx, NULL));
    TEST_OK(embed_encode(ctx, texts, n, NULL, got, size));
    assert_memory_equal(got, want, size * sizeof *got);
    assert_int_equal(stats_of(ctx).positions, 0);
    embed_context_free(ctx);
    embed_context_free(plain);
    test_grams_free(&g);
}

static void rows_of_the_last_token_change_nothing(void **state) {
    (void)state;
    const tiny_spec specs[] = {tiny_spec_bert(), tiny_spec_dense(), tiny_spec_moe(),
                               tiny_spec_xlmr()};
    for (int i = 0; i < 8; i++) {
        tiny_spec spec = specs[i % 4];
        tiny_model m;
        char what[64];
        spec.dtype = i < 4 ? EMBED_F32 : i % 2 ? EMBED_F16 : EMBED_BF16;
        tiny_model_make(&m, &spec);
        embed_model *model = test_open(m.dir);
        embed_text *texts = test_texts(&m, 7, TEXTS, 60);
        (void)snprintf(what, sizeof what, "tiny model %d, dtype %d", i % 4, spec.dtype);
        same_as_none(what, model, texts, TEXTS);
        test_texts_free(texts, TEXTS);
        embed_model_free(model);
        tiny_model_remove(&m);
    }
}

static void in_checkpoints_too(void **state) {
    (void)state;
    static const char *const names[] = {"golden/checkpoints/bert", "golden/checkpoints/nomic-dense",
                                        "golden/checkpoints/nomic-moe",
                                        "golden/checkpoints/nomic-moe-odd", MINILM};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        embed_text texts[TEXTS];
        if (access(names[i], R_OK) != 0) {
            print_message("%s is not there: examples/fetch_minilm.sh fetches it\n", names[i]);
            continue;
        }
        embed_model *model = test_open(names[i]);
        const size_t n = read_corpus(texts, i == 4 ? 12 : TEXTS);
        same_as_none(names[i], model, texts, n);
        for (size_t t = 0; t < n; t++)
            free((void *)(uintptr_t)texts[t].ptr);
        embed_model_free(model);
    }
}

/* A table without n-grams, one with a single n-gram, texts too short for any. */
static void smallest_tables(void **state) {
    (void)state;
    const tiny_spec tiny = tiny_spec_bert();
    const test_table_spec spec = {0};
    const int32_t pair[] = {TINY_FIRST_WORD, TINY_FIRST_WORD + 1};
    const embed_text texts[] = {test_text(""), test_text("w0"), test_text("w0 w1 w0 w1")};
    tiny_model m;
    uint64_t rng = 1;
    test_grams g;
    float want[3 * 48], got[3 * 48];
    tiny_model_make(&m, &tiny);
    embed_model *model = test_open(m.dir);
    embed_context *ctx = test_context(model, 1, 0);
    TEST_OK(embed_encode(ctx, texts, 3, NULL, want, 3 * 48));
    test_grams_init(&g, 48);
    for (int n = 0; n < 2; n++) {
        embed_table *table = test_table_make(model, fresh(), &spec, &g);
        TEST_OK(embed_context_set_table(ctx, table));
        embed_table_free(table);
        TEST_OK(embed_encode(ctx, texts, 3, NULL, got, 3 * 48));
        const embed_table_stats s = stats_of(ctx);
        assert_int_equal(s.positions, 2 + 3 + 6);
        assert_int_equal(s.hits[2], 2 * n);
        assert_int_equal(s.distinct_rows, n);
        assert_memory_equal(got, want, (size_t)(n == 0 ? 3 : 2) * 48 * sizeof *got);
        assert_int_equal(memcmp(got + 96, want + 96, 48 * sizeof *got) == 0, n == 0);
        test_grams_add(&g, pair, 2, 5, NULL, &rng);
    }
    embed_context_free(ctx);
    test_grams_free(&g);
    embed_model_free(model);
    tiny_model_remove(&m);
}

/* ----------------------------------------------------------------------------- same text, same
 * bits */

struct fixture {
    tiny_model m;
    embed_model *model;
    embed_text *texts;
    test_grams g;
    float want[TEXTS * 48]; /* each text by itself, one thread */
};

static void open_fixture(struct fixture *f, tiny_spec spec) {
    uint64_t rng = 29;
    tiny_model_make(&f->m, &spec);
    f->model = test_open(f->m.dir);
    f->texts = test_texts(&f->m, 5, TEXTS, 70);
    test_grams_init(&f->g, spec.hidden);
    test_grams_of_texts(&f->g, f->model, f->texts, TEXTS, 5, 0.3, 0, &rng);
}

static void close_fixture(struct fixture *f) {
    test_grams_free(&f->g);
    test_texts_free(f->texts, TEXTS);
    embed_model_free(f->model);
    tiny_model_remove(&f->m);
}

static void encode_alone(struct fixture *f, embed_table *table) {
    embed_context *ctx = test_context_with(f->model, table, 1, 0);
    for (size_t t = 0; t < TEXTS; t++)
        TEST_OK(embed_encode(ctx, f->texts + t, 1, NULL, f->want + t * 48, 48));
    embed_context_free(ctx);
}

static void same(const struct fixture *f, embed_context *ctx, const size_t *order, const char *what,
                 int value) {
    static float got[TEXTS * 48];
    static embed_text texts[TEXTS];
    for (size_t i = 0; i < TEXTS; i++)
        texts[i] = f->texts[order != NULL ? order[i] : i];
    TEST_OK(embed_encode(ctx, texts, TEXTS, NULL, got, TEXTS * 48));
    for (size_t i = 0; i < TEXTS; i++)
        if (memcmp(got + i * 48, f->want + (order != NULL ? order[i] : i) * 48, 48 * 4) != 0)
            fail_msg("%s %d: text %zu differs", what, value, i);
}

static void batches_threads_and_order(void **state) {
    (void)state;
    static struct fixture f;
    const int batch_tokens[] = {1, 100, 4096};
    size_t order[TEXTS];
    open_fixture(&f, tiny_spec_moe());
    for (size_t i = 0; i < TEXTS; i++)
        order[i] = (i * 17 + 5) % TEXTS; /* 17 and 40 have no common divisor */
    for (int dtype = EMBED_F32; dtype <= EMBED_I8; dtype++) {
        const test_table_spec spec = {.dtype = dtype, .mode = dtype % 2};
        embed_table *table = test_table_make(f.model, fresh(), &spec, &f.g);
        encode_alone(&f, table);
        for (int b = 0; b < 3; b++)
            for (int threads = 1; threads <= 3; threads++) {
                embed_context *ctx = test_context_with(f.model, table, threads, batch_tokens[b]);
                same(&f, ctx, threads == b + 1 ? order : NULL, "batch_tokens", batch_tokens[b]);
                embed_context_free(ctx);
            }
        embed_table_free(table);
    }
    close_fixture(&f);
}

static void modes_and_caches(void **state) {
    (void)state;
    static struct fixture f;
    const uint64_t caches[] = {0, 1, 4096}; /* default, none, tiny */
    const test_table_spec spec = {.dtype = EMBED_F16, .part_bytes = 64 << 10};
    int tried = 0;
    open_fixture(&f, tiny_spec_bert());
    const char *path = fresh();
    embed_table *first = test_table_make(f.model, path, &spec, &f.g);
    encode_alone(&f, first);
    embed_table_free(first);
    for (int mode = EMBED_TABLE_AUTO; mode <= EMBED_TABLE_READ; mode++)
        for (int io = EMBED_TABLE_IO_AUTO; io <= EMBED_TABLE_IO_PREAD; io++) {
            const embed_table_params p = {.struct_size = sizeof p,
                                          .mode = mode,
                                          .io = io,
                                          .cache_bytes = caches[(mode + io) % 3]};
            embed_table *table;
            const embed_status st = embed_table_open(&table, path, f.model, &p);
            if (st == EMBED_ERR_UNSUPPORTED || st == EMBED_ERR_ARG) {
                print_message("mode %d, io %d: %s\n", mode, io, embed_last_error());
                continue;
            }
            TEST_OK(st);
            embed_context *ctx = test_context_with(f.model, table, 2, 200);
            same(&f, ctx, NULL, "mode", mode);
            same(&f, ctx, NULL, "io, warm", io);
            embed_context_free(ctx);
            embed_table_free(table);
            tried++;
        }
    assert_true(tried >= 10);
    close_fixture(&f);
}

/* The other two ways into the encoder see the table as well. */
static void ids_and_tokens(void **state) {
    (void)state;
    static struct fixture f;
    static int32_t ids[TEXTS][128];
    static embed_ids rows[TEXTS];
    static float got[TEXTS * 48], states[128 * 48], plain_states[128 * 48];
    const test_table_spec spec = {0};
    open_fixture(&f, tiny_spec_dense());
    embed_table *table = test_table_make(f.model, fresh(), &spec, &f.g);
    encode_alone(&f, table);
    embed_context *ctx = test_context_with(f.model, table, 2, 333);
    embed_context *plain = test_context(f.model, 2, 333);
    for (size_t t = 0; t < TEXTS; t++)
        rows[t] = (embed_ids){ids[t], test_ids(f.model, f.texts[t], ids[t], 128)};
    TEST_OK(embed_encode_ids(ctx, rows, TEXTS, NULL, got, TEXTS * 48));
    assert_memory_equal(got, f.want, sizeof got);
    for (size_t t = 0; t < 5; t++) { /* mean and length 1 of the states are the vector */
        double sum[48] = {0}, norm = 0;
        size_t n;
        TEST_OK(embed_encode_tokens(ctx, f.texts[t], NULL, states, 128 * 48, NULL, &n));
        assert_int_equal(stats_of(ctx).positions, n);
        for (size_t i = 0; i < n * 48; i++)
            sum[i % 48] += (double)states[i];
        for (int i = 0; i < 48; i++)
            norm += sum[i] * sum[i];
        for (int i = 0; i < 48; i++)
            sum[i] /= sqrt(norm);
        test_close("mean of states", f.want + t * 48, sum, 48, 1e-5, 0);
        TEST_OK(embed_encode_tokens(plain, f.texts[t], NULL, plain_states, 128 * 48, NULL, &n));
        if (stats_of(ctx).hits[0] < n)
            assert_memory_not_equal(states, plain_states, n * 48 * sizeof *states);
    }
    embed_context_free(plain);
    embed_context_free(ctx);
    embed_table_free(table);
    close_fixture(&f);
}

/* -------------------------------------------------------------------------- what takes part */

#define W(n) (TINY_FIRST_WORD + (n))

/* Vector of ids with the table, or without; *hits: positions matched. */
static void encode_row(embed_model *model, embed_table *table, const int32_t *ids, size_t n,
                       float *out, int *hits) {
    const embed_ids row = {ids, n};
    embed_context *ctx = test_context_with(model, table, 1, 0);
    TEST_OK(embed_encode_ids(ctx, &row, 1, NULL, out, 48));
    const embed_table_stats s = stats_of(ctx);
    *hits = (int)(s.positions - s.hits[0]);
    embed_context_free(ctx);
}

static void special_tokens_end_the_history(void **state) {
    (void)state;
    const tiny_spec tiny = tiny_spec_bert();
    const test_table_spec spec = {0};
    /* what the table has; none of it may match across or with a special token */
    const int32_t pair[] = {W(1), W(2)}, triple[] = {W(0), W(1), W(2)};
    const int32_t begins[] = {TINY_CLS, W(1)}, ends[] = {W(2), TINY_SEP},
                  middle[] = {W(1), TINY_SEP, W(2)}, mask[] = {W(1), 4};
    const struct {
        int32_t ids[6];
        size_t n;
        int hits;
    } texts[] = {
        {{TINY_CLS, W(1), W(2), TINY_SEP}, 4, 1},
        {{TINY_CLS, W(0), W(1), W(2), TINY_SEP}, 5, 1},
        {{TINY_CLS, W(1), TINY_SEP, W(2), TINY_SEP}, 5, 0}, /* one in the middle */
        {{W(1), W(2), TINY_SEP, W(1), W(2)}, 5, 2},
        {{TINY_CLS, W(1), TINY_PAD, W(2), TINY_SEP}, 5, 0},
        {{TINY_CLS, W(1), 4, TINY_UNK, W(2), TINY_SEP}, 6, 0},
        {{W(2)}, 1, 0},
    };
    tiny_model m;
    uint64_t rng = 1;
    test_grams g;
    tiny_model_make(&m, &tiny);
    embed_model *model = test_open(m.dir);
    test_grams_init(&g, 48);
    test_grams_add(&g, pair, 2, 9, NULL, &rng);
    test_grams_add(&g, triple, 3, 8, NULL, &rng);
    embed_table *table = test_table_make(model, fresh(), &spec, &g);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        float with[48], without[48];
        int hits, none;
        encode_row(model, table, texts[i].ids, texts[i].n, with, &hits);
        encode_row(model, NULL, texts[i].ids, texts[i].n, without, &none);
        assert_int_equal(hits, texts[i].hits);
        assert_int_equal(none, 0);
        assert_int_equal(memcmp(with, without, sizeof with) == 0, hits == 0);
    }
    /* A list of n-grams that holds special tokens may be refused or never matched. */
    const int32_t *odd[] = {begins, ends, middle, mask};
    const int32_t lengths[] = {2, 2, 3, 2};
    for (int i = 0; i < 4; i++) {
        const emb_env env = test_env();
        emb_ngram_binding binding;
        test_table_spec bound = {.binding = &binding};
        test_grams one;
        TEST_OK(emb_ngram_binding_of(model, &binding));
        test_grams_init(&one, 48);
        test_grams_add(&one, pair, 2, 9, NULL, &rng);
        test_grams_add(&one, odd[i], lengths[i], 9, NULL, &rng);
        const char *path = fresh();
        if (test_table_try(&env, path, &bound, &one) == EMBED_OK) {
            embed_table *t = test_table_open(model, path, NULL);
            float out[48];
            int hits;
            encode_row(model, t, odd[i], (size_t)lengths[i], out, &hits);
            assert_int_equal(hits, 0);
            embed_table_free(t);
        }
        test_grams_free(&one);
    }
    embed_table_free(table);
    test_grams_free(&g);
    embed_model_free(model);
    tiny_model_remove(&m);
}

/* A prompt's tokens match among themselves and together with the text's. */
static void prompts_are_ordinary(void **state) {
    (void)state;
    tiny_spec tiny = tiny_spec_bert();
    const test_table_spec spec = {0};
    const int32_t within[] = {W(1), W(2)}, across[] = {W(2), W(7)};
    tiny_model m;
    uint64_t rng = 1;
    test_grams g;
    tiny.prompts = "{\"query\": \"w1 w2 \"}";
    tiny_model_make(&m, &tiny);
    embed_model *model = test_open(m.dir);
    test_grams_init(&g, 48);
    test_grams_add(&g, within, 2, 9, NULL, &rng);
    test_grams_add(&g, across, 2, 8, NULL, &rng);
    embed_table *table = test_table_make(model, fresh(), &spec, &g);
    embed_context *ctx = test_context_with(model, table, 1, 0);
    embed_encode_params p = EMBED_ENCODE_PARAMS_INIT;
    const embed_text text = test_text("w7 w8"), whole = test_text("w1 w2 w7 w8");
    float a[48], b[48];
    p.role = EMBED_ROLE_QUERY;
    TEST_OK(embed_encode(ctx, &text, 1, &p, a, 48));
    const embed_table_stats s = stats_of(ctx);
    assert_int_equal(s.positions, 6);
    assert_int_equal(s.hits[2], 2);
    assert_int_equal(s.distinct_rows, 2);
    TEST_OK(embed_encode(ctx, &whole, 1, NULL, b, 48));
    assert_memory_equal(a, b, sizeof a);
    embed_context_free(ctx);
    embed_table_free(table);
    test_grams_free(&g);
    embed_model_free(model);
    tiny_model_remove(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_of_the_last_token_change_nothing),
        cmocka_unit_test(in_checkpoints_too),
        cmocka_unit_test(smallest_tables),
        cmocka_unit_test(batches_threads_and_order),
        cmocka_unit_test(modes_and_caches),
        cmocka_unit_test(ids_and_tokens),
        cmocka_unit_test(special_tokens_end_the_history),
        cmocka_unit_test(prompts_are_ordinary),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
