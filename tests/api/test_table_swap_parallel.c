/* A table swapped for another while four threads encode: every vector is one of table A or one of
 * table B, whole; contexts share tables and caches; a table outlives its handle. Run under the
 * thread sanitizer too. */
#include "support/table_model.h"

#include "ngram/ngram_table.h"

#include <pthread.h>
#include <stdatomic.h>

#define THREADS 4
#define TEXTS 10
#define DIM 48
#define ROUNDS 6

struct user {
    embed_context *ctx;
    const embed_text *texts;
    const float *a, *b; /* [TEXTS, DIM] */
    atomic_int *running;
    int seen_a, seen_b, failed;
    float out[TEXTS * DIM];
};

static void *encode(void *arg) {
    struct user *u = arg;
    for (int round = 0; round < ROUNDS; round++) {
        embed_table_stats s = {.struct_size = sizeof s};
        u->failed |= embed_encode(u->ctx, u->texts, TEXTS, NULL, u->out, TEXTS * DIM) != EMBED_OK;
        u->failed |= embed_context_get_table_stats(u->ctx, &s) != EMBED_OK || s.positions == 0;
        /* one call, one table */
        if (memcmp(u->out, u->a, sizeof u->out) == 0)
            u->seen_a++;
        else if (memcmp(u->out, u->b, sizeof u->out) == 0)
            u->seen_b++;
        else
            u->failed = 1;
    }
    atomic_fetch_sub(u->running, 1);
    return NULL;
}

static void swap_under_load(void **state) {
    (void)state;
    const tiny_spec spec = tiny_spec_moe();
    static struct user users[THREADS];
    static float want[2][TEXTS * DIM];
    char dir[256];
    const char *paths[2];
    pthread_t threads[THREADS];
    atomic_int running;
    tiny_model m;
    test_dir_make(dir);
    tiny_model_make(&m, &spec);
    embed_model *model = test_open(m.dir);
    embed_text *texts = test_texts(&m, 31, TEXTS, 40);
    for (int i = 0; i < 2; i++) { /* the same n-grams, other rows */
        const test_table_spec t = {.dtype = EMBED_F16, .mode = i};
        uint64_t rng = 1 + (uint64_t)i;
        test_grams g;
        test_grams_init(&g, DIM);
        test_grams_of_texts(&g, model, texts, TEXTS, 4, 1, 0, &rng);
        paths[i] = test_path(dir, i == 0 ? "a" : "b");
        embed_table *table = test_table_make(model, paths[i], &t, &g);
        embed_context *ctx = test_context_with(model, table, 1, 0);
        TEST_OK(embed_encode(ctx, texts, TEXTS, NULL, want[i], TEXTS * DIM));
        embed_context_free(ctx);
        embed_table_free(table);
        test_grams_free(&g);
    }
    assert_memory_not_equal(want[0], want[1], sizeof want[0]);
    embed_table *table = test_table_open(model, paths[0], NULL);
    atomic_init(&running, THREADS);
    memset(users, 0, sizeof users);
    for (int t = 0; t < THREADS; t++)
        users[t] = (struct user){/* some texts are longer than a batch: contexts grow */
                                 .ctx = test_context_with(model, table, 1 + t % 2, 24),
                                 .texts = texts,
                                 .a = want[0],
                                 .b = want[1],
                                 .running = &running};
    embed_table_free(table);
    for (int t = 0; t < THREADS; t++)
        assert_int_equal(pthread_create(&threads[t], NULL, encode, &users[t]), 0);
    int swaps = 0;
    for (; atomic_load(&running) > 0; swaps++) {
        const embed_table_params p = {.struct_size = sizeof p,
                                      .mode = swaps % 3 == 2 ? EMBED_TABLE_READ : EMBED_TABLE_LAZY,
                                      .io = swaps % 3 == 2 ? EMBED_TABLE_IO_PREAD : 0};
        table = test_table_open(model, paths[(swaps + 1) % 2], &p);
        for (int t = 0; t < THREADS; t++)
            TEST_OK(embed_context_set_table(users[t].ctx, table));
        embed_table_free(table);
    }
    for (int t = 0; t < THREADS; t++) {
        assert_int_equal(pthread_join(threads[t], NULL), 0);
        assert_false(users[t].failed);
        assert_int_equal(users[t].seen_a + users[t].seen_b, ROUNDS);
        print_message("thread %d: %d calls with table A, %d with B\n", t, users[t].seen_a,
                      users[t].seen_b);
    }
    /* An idle context gives the old table back at once and uses the new one. */
    for (int i = 0; i < 2; i++) {
        table = test_table_open(model, paths[i], NULL);
        TEST_OK(embed_context_set_table(users[0].ctx, table));
        assert_int_equal(atomic_load(&table->refs), 2);
        TEST_OK(embed_encode(users[0].ctx, texts, TEXTS, NULL, users[0].out, TEXTS * DIM));
        assert_memory_equal(users[0].out, want[i], sizeof want[i]);
        TEST_OK(embed_context_set_table(users[0].ctx, NULL));
        assert_int_equal(atomic_load(&table->refs), 1);
        embed_table_free(table);
    }
    assert_true(swaps > 0);
    for (int t = 0; t < THREADS; t++)
        embed_context_free(users[t].ctx);
    test_texts_free(texts, TEXTS);
    embed_model_free(model);
    tiny_model_remove(&m);
    test_dir_remove(dir);
}

/* Contexts that share one table and its row cache. */
static void one_table_many_contexts(void **state) {
    (void)state;
    const tiny_spec spec = tiny_spec_bert();
    const test_table_spec t = {.dtype = EMBED_I8};
    static struct user users[THREADS];
    static float want[TEXTS * DIM];
    char dir[256];
    pthread_t threads[THREADS];
    atomic_int running;
    uint64_t rng = 5;
    tiny_model m;
    test_grams g;
    test_dir_make(dir);
    tiny_model_make(&m, &spec);
    embed_model *model = test_open(m.dir);
    embed_text *texts = test_texts(&m, 31, TEXTS, 40);
    test_grams_init(&g, DIM);
    test_grams_of_texts(&g, model, texts, TEXTS, 4, 1, 0, &rng);
    embed_table_free(test_table_make(model, test_path(dir, "t"), &t, &g));
    const embed_table_params p = {.struct_size = sizeof p,
                                  .mode = EMBED_TABLE_READ,
                                  .io = EMBED_TABLE_IO_PREAD,
                                  .cache_bytes = 32 << 10};
    embed_table *table = test_table_open(model, test_path(dir, "t"), &p);
    embed_context *ctx = test_context_with(model, table, 1, 0);
    TEST_OK(embed_encode(ctx, texts, TEXTS, NULL, want, TEXTS * DIM));
    embed_context_free(ctx);
    atomic_init(&running, THREADS);
    for (int i = 0; i < THREADS; i++) {
        users[i] = (struct user){.ctx = test_context_with(model, table, 1, 64),
                                 .texts = texts,
                                 .a = want,
                                 .b = want,
                                 .running = &running};
        assert_int_equal(pthread_create(&threads[i], NULL, encode, &users[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(users[i].seen_a, ROUNDS);
        assert_false(users[i].failed);
        embed_context_free(users[i].ctx);
    }
    embed_table_free(table);
    test_grams_free(&g);
    test_texts_free(texts, TEXTS);
    embed_model_free(model);
    tiny_model_remove(&m);
    test_dir_remove(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(swap_under_load),
        cmocka_unit_test(one_table_many_contexts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
