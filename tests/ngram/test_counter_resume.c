#define _DEFAULT_SOURCE
#include "support/counting.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define POSITIONS 60000
#define KILLS 30 /* of each of two jobs */

static char dir[256], output[300];
static uint32_t stream[POSITIONS];

typedef struct job { /* with the bytes it must end with */
    emb_ngram_counter_params params;
    char *want;
    size_t size;
    double seconds;
} job;

static int make_stream(void **state) {
    (void)state;
    uint64_t rng = 11;
    test_dir_make(dir);
    (void)snprintf(output, sizeof output, "%s/c", dir);
    naive_stream(stream, POSITIONS, 3000, &rng);
    return 0;
}

static int remove_dir(void **state) {
    (void)state;
    test_dir_remove(dir);
    return 0;
}

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static embed_status run(const job *j) {
    const emb_env env = test_env();
    return counting_run(&env, &j->params, stream, POSITIONS, NULL);
}

/* The undisturbed run. memory 0: the least, where the streams are files. */
static job make_job(uint64_t memory) {
    job j = {.params = counting_params(output, 4, 2, 0)};
    j.params.memory = memory != 0 ? memory : emb_ngram_counter_least_memory(1);
    j.params.save_seconds = 0;
    const double start = seconds();
    assert_int_equal(run(&j), EMBED_OK);
    j.seconds = seconds() - start;
    j.want = counting_read(j.params.output, &j.size);
    assert_non_null(j.want);
    assert_int_equal(unlink(j.params.output), 0);
    j.params.resume = 1;
    return j;
}

static void ends_well(const job *j) {
    assert_int_equal(run(j), EMBED_OK);
    assert_true(counting_same(j->params.output, j->want, j->size));
    assert_false(counting_exists(test_path(dir, "c.work")));
    assert_false(counting_exists(test_path(dir, "c.partial")));
    assert_int_equal(unlink(j->params.output), 0);
}

/* 1 if the child ended by itself, which must then have been in success. */
static int run_and_kill(const job *j, double after) {
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(run(j) == EMBED_OK ? 0 : 1);
    const struct timespec pause = {(time_t)after, (long)((after - (double)(time_t)after) * 1e9)};
    (void)nanosleep(&pause, NULL);
    (void)kill(child, SIGKILL);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFEXITED(status))
        assert_int_equal(WEXITSTATUS(status), 0);
    return WIFEXITED(status);
}

/* Killed at random points, again and again: the output is absent or whole, and in the end it has
 * the bytes of an undisturbed run. The first run may have been slow (cold caches, a busy machine):
 * a child that ends by itself shortens the time in which the next ones are killed. */
static void kill_and_resume(uint64_t memory) {
    job j = make_job(memory);
    uint64_t rng = 12 + memory;
    int killed = 0;
    for (int i = 0; i < 4 * KILLS && killed < KILLS; i++) {
        const int ended = run_and_kill(&j, test_uniform(&rng) * j.seconds);
        killed += !ended;
        if (ended)
            j.seconds *= 0.8;
        if (counting_exists(j.params.output))
            assert_true(counting_same(j.params.output, j.want, j.size));
        else
            assert_false(ended);
        if (i % 2) /* published or not, a resumed run finds its way */
            (void)unlink(j.params.output);
        if (i % 10 == 9)
            ends_well(&j);
    }
    assert_true(killed >= KILLS / 2); /* or nothing was tested */
    free(j.want);
}

static void killed_in_memory(void **state) {
    (void)state;
    kill_and_resume(64 << 20);
}

static void killed_on_disk(void **state) {
    (void)state;
    kill_and_resume(0);
}

/* ----------------------------------------------------------------------------- other failures */

static int32_t stop_after(void *user, const embed_job_report *report) {
    int *left = user;
    assert_non_null(report->phase);
    assert_true(report->total == 0 || report->done <= report->total);
    return (*left)-- == 0;
}

static void cancelled_anywhere(void **state) {
    (void)state;
    job j = make_job(0);
    j.params.report = stop_after;
    for (int calls = 0, done = 0; !done; calls += 1 + calls / 2) {
        int left = calls;
        j.params.user = &left;
        j.params.resume = calls % 2;
        const embed_status st = run(&j);
        done = st == EMBED_OK;
        if (!done)
            assert_int_equal(st, EMBED_ERR_CANCELLED);
        assert_int_equal(counting_exists(j.params.output), done);
    }
    j.params.report = NULL;
    j.params.resume = 1;
    ends_well(&j);
    free(j.want);
}

/* A full disk: no file may be longer than the limit. */
static void no_room_on_disk(void **state) {
    (void)state;
    job j = make_job(0);
    struct rlimit was, limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
    (void)signal(SIGXFSZ, SIG_IGN);
    for (rlim_t bytes = 0; bytes < 220000; bytes = bytes * 2 + 997) {
        limit = was;
        limit.rlim_cur = bytes;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
        const embed_status st = run(&j);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
        assert_int_equal(st, EMBED_ERR_IO);
        assert_non_null(strstr(emb_fail_message(), "File too large"));
        assert_false(counting_exists(j.params.output));
    }
    ends_well(&j);
    (void)signal(SIGXFSZ, SIG_DFL);
    free(j.want);
}

static void no_memory(void **state) {
    (void)state;
    job j = make_job(0);
    j.params.save_seconds = 1e9;
    long step = 1;
    for (long fail_at = 1, refused = 1; refused; fail_at += step) {
        test_allocator a;
        test_allocator_init(&a, fail_at);
        emb_env env;
        assert_int_equal(emb_env_init(&env, &a.allocator, NULL, NULL), EMBED_OK);
        j.params.resume = fail_at % 2 == 0;
        const embed_status st = counting_run(&env, &j.params, stream, POSITIONS, NULL);
        refused = a.failed;
        assert_int_equal(st, refused ? EMBED_ERR_NOMEM : EMBED_OK);
        assert_int_equal(a.live, 0);
        step = fail_at > 40 ? 5 : 1;
    }
    assert_true(counting_same(j.params.output, j.want, j.size));
    free(j.want);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(killed_in_memory, make_stream, remove_dir),
        cmocka_unit_test_setup_teardown(killed_on_disk, make_stream, remove_dir),
        cmocka_unit_test_setup_teardown(cancelled_anywhere, make_stream, remove_dir),
        cmocka_unit_test_setup_teardown(no_room_on_disk, make_stream, remove_dir),
        cmocka_unit_test_setup_teardown(no_memory, make_stream, remove_dir),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
