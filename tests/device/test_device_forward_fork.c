/* A child of fork() while the parent has a model on a device: it is refused there at once, whatever
 * the parent's threads were at; freeing what it inherited neither hangs nor disturbs the parent. */
#include "support/device_world.h"

#include <sys/wait.h>
#include <unistd.h>

static float want[TEXTS * MAX_DIM], got[TEXTS * MAX_DIM];

static int refused(embed_status st, const char *why) {
    return st == EMBED_ERR_DEVICE && strstr(embed_last_error(), why) != NULL;
}

/* A device that the parent uses is no child's, whichever model it opens. */
static int on_new_model(world *w) {
    world own = *w;
    embed_context *ctx = NULL;
    if (embed_model_open(&own.model, w->checkpoint.dir, NULL) != EMBED_OK)
        return 1;
    const int wrong = !refused(on_device(&own, NULL, EMBED_F32, &ctx), "use it only after fork()");
    embed_model_free(own.model);
    return wrong || ctx != NULL;
}

/* The number of what went wrong, 0: nothing. */
static int in_child(world *w, embed_context *device, embed_context *cpu, int locked) {
    embed_context *ctx = NULL;
    (void)alarm(30); /* a hang is a failure */
    if (!refused(encode(device, w, TEXTS, got), "open models and contexts after fork()"))
        return 1;
    if (!refused(on_device(w, NULL, EMBED_F32, &ctx), "open models and contexts after fork()") ||
        ctx != NULL)
        return 2;
    if (encode(cpu, w, TEXTS, got) != EMBED_ERR_ARG) /* it would wait for its threads */
        return 5;
    if (on_new_model(w) != 0)
        return 6;
    embed_context_free(cpu); /* has worker threads in the parent */
    embed_context_free(device);
    if (locked)
        return 0;
    /* The parent's model serves on the CPU. */
    ctx = test_context(w->model, 1, BATCH);
    if (encode(ctx, w, TEXTS, got) != EMBED_OK)
        return 3;
    for (size_t i = 0; i < TEXTS * (size_t)w->model->dim; i++)
        if (!(fabs((double)got[i] - (double)want[i]) < 2e-5))
            return 4;
    embed_context_free(ctx);
    embed_model_free(w->model);
    return 0;
}

static void fork_and_check(world *w, embed_context *device, embed_context *cpu, int locked) {
    int how;
    (void)fflush(NULL);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(in_child(w, device, cpu, locked));
    assert_int_equal(waitpid(child, &how, 0), child);
    if (!WIFEXITED(how) || WEXITSTATUS(how) != 0)
        fail_msg("the child ended with %s %d", WIFEXITED(how) ? "status" : "signal",
                 WIFEXITED(how) ? WEXITSTATUS(how) : WTERMSIG(how));
}

static void parent_goes_on(void **state) {
    world w;
    embed_context *device;
    (void)state;
    open_world(&w, tiny_spec_bert(), 12);
    make_fake(&w, 3, 0);
    embed_context *cpu = test_context(w.model, 3, BATCH);
    TEST_OK(on_device(&w, NULL, EMBED_F32, &device));
    TEST_OK(encode(device, &w, TEXTS, want));
    for (int locked = 0; locked < 2; locked++) {
        if (locked) /* as if another thread were bringing the model to a second device */
            assert_int_equal(pthread_mutex_lock(&w.model->homes_mutex), 0);
        const long live = emb_fake_live(w.fake);
        fork_and_check(&w, device, cpu, locked);
        if (locked)
            assert_int_equal(pthread_mutex_unlock(&w.model->homes_mutex), 0);
        assert_int_equal(emb_fake_live(w.fake), live);
        TEST_OK(encode(device, &w, TEXTS, got));
        assert_memory_equal(got, want, TEXTS * (size_t)w.model->dim * sizeof *got);
        TEST_OK(encode(cpu, &w, TEXTS, got));
    }
    embed_context_free(device);
    embed_context_free(cpu);
    drop_fake(&w);
    close_world(&w);
}

/* With a table, whose rows a helper thread fetches. */
static void with_a_table(void **state) {
    world w;
    test_grams grams;
    char dir[256], path[300];
    uint64_t rng = 5;
    embed_context *device;
    (void)state;
    open_world(&w, tiny_spec_dense(), 12);
    test_grams_init(&grams, w.checkpoint.spec.hidden);
    test_grams_of_texts(&grams, w.model, w.texts, TEXTS, 3, 0.5, 0, &rng);
    test_dir_make(dir);
    (void)snprintf(path, sizeof path, "%s/table", dir);
    const test_table_spec spec = {.mode = EMB_NGRAM_REPLACE,
                                  .vocab = (int32_t)w.model->weights.word.rows};
    embed_table *table = test_table_make(w.model, path, &spec, &grams);
    make_fake(&w, 4, 0);
    embed_context *cpu = test_context_with(w.model, table, 2, BATCH);
    TEST_OK(on_device(&w, table, EMBED_F32, &device));
    TEST_OK(encode(device, &w, TEXTS, want));
    fork_and_check(&w, device, cpu, 1);
    TEST_OK(encode(device, &w, TEXTS, got));
    assert_memory_equal(got, want, TEXTS * (size_t)w.model->dim * sizeof *got);
    embed_context_free(device);
    embed_context_free(cpu);
    embed_table_free(table);
    drop_fake(&w);
    test_dir_remove(dir);
    test_grams_free(&grams);
    close_world(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(parent_goes_on),
                                       cmocka_unit_test(with_a_table)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
