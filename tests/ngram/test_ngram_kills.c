/* Runs that are killed, or whose disk fails, at any of their system calls. This program has its own
 * write, fsync, rename ..., which the library's calls are linked to. */
#define _GNU_SOURCE
#include "support/handles.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define WIDTH 16
#define ROWS 900
#define POINTS 50

/* ------------------------------------------------------------------------------ system calls */

/* In shared memory, so that a parent sees how far its child came. */
static struct plan {
    long calls;   /* so far */
    long kill_at; /* the process dies in that call, 0: in none */
    long fail_at; /* that call fails with `error` */
    int error;
} * plan;

/* 1: fail with *plan's error; a call that dies does half of its work first. */
static int step(void) {
    if (plan == NULL)
        return 0;
    const long call = __atomic_add_fetch(&plan->calls, 1, __ATOMIC_SEQ_CST);
    if (call == plan->kill_at)
        return 2;
    if (call == plan->fail_at) {
        errno = plan->error;
        return 1;
    }
    return 0;
}

static void die(void) {
    (void)kill(getpid(), SIGKILL);
    for (;;)
        (void)pause();
}

ssize_t write(int fd, const void *data, size_t bytes);
int fsync(int fd);
int rename(const char *from, const char *to);
int symlink(const char *target, const char *path);
int mkdir(const char *path, mode_t mode);
int unlink(const char *path);

ssize_t write(int fd, const void *data, size_t bytes) {
    const int s = step();
    if (s == 1)
        return -1;
    if (s == 2) {
        (void)syscall(SYS_write, fd, data, bytes / 2);
        die();
    }
    return syscall(SYS_write, fd, data, bytes > 5000 ? bytes - 1000 : bytes); /* short writes */
}

int fsync(int fd) {
    const int s = step();
    if (s == 2)
        die();
    return s == 1 ? -1 : 0; /* nothing here outlives the machine */
    (void)fd;
}

int rename(const char *from, const char *to) {
    const int s = step();
    if (s == 2)
        die();
    return s == 1 ? -1 : renameat(AT_FDCWD, from, AT_FDCWD, to);
}

int symlink(const char *target, const char *path) {
    const int s = step();
    if (s == 2)
        die();
    return s == 1 ? -1 : symlinkat(target, AT_FDCWD, path);
}

int mkdir(const char *path, mode_t mode) {
    const int s = step();
    if (s == 2)
        die();
    return s == 1 ? -1 : mkdirat(AT_FDCWD, path, mode);
}

int unlink(const char *path) {
    const int s = step();
    if (s == 2)
        die();
    return s == 1 ? -1 : unlinkat(AT_FDCWD, path, 0);
}

/* ------------------------------------------------------------------------------ inputs */

typedef struct place {
    char dir[256];
    tiny_model model;
} place;

static place p;

static void write_inputs(void) {
    static float rows[ROWS][WIDTH];
    char line[64], header[128];
    uint64_t rng = 9;
    FILE *list = fopen(test_path(p.dir, "list.jsonl"), "w");
    assert_non_null(list);
    for (int i = 0; i < ROWS; i++) { /* distinct pairs of words */
        const int n = snprintf(line, sizeof line, "{\"ids\":[%d,%d],\"count\":%d}\n",
                               TINY_FIRST_WORD + i / 30, TINY_FIRST_WORD + i % 30, ROWS - i);
        assert_int_equal(fwrite(line, 1, (size_t)n, list), n);
        for (int j = 0; j < WIDTH; j++)
            rows[i][j] = (float)test_normal(&rng);
    }
    assert_int_equal(fclose(list), 0);
    const int n = snprintf(header, sizeof header,
                           "\x93NUMPY\x01%cv%c{'descr': '<f4', 'fortran_order': False, 'shape': "
                           "(%d, %d), }",
                           0, 0, ROWS, WIDTH);
    memset(header + n, ' ', sizeof header - (size_t)n);
    header[127] = '\n';
    FILE *f = fopen(test_path(p.dir, "rows.npy"), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(header, 1, 128, f), 128);
    assert_int_equal(fwrite(rows, sizeof rows, 1, f), 1);
    assert_int_equal(fclose(f), 0);
}

static int set_up(void **state) {
    (void)state;
    tiny_spec spec = tiny_spec_bert();
    spec.hidden = WIDTH;
    spec.heads = 2;
    spec.words = 40;
    tiny_model_make(&p.model, &spec);
    test_dir_make(p.dir);
    write_inputs();
    plan = mmap(NULL, sizeof *plan, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(plan != MAP_FAILED);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    test_dir_remove(p.dir);
    tiny_model_remove(&p.model);
    return 0;
}

static embed_status build(const char *output, int resume, const embed_allocator *allocator) {
    embed_model *model = test_open(p.model.dir);
    char list[300], rows[300];
    (void)snprintf(list, sizeof list, "%s/list.jsonl", p.dir);
    (void)snprintf(rows, sizeof rows, "%s/rows.npy", p.dir);
    const embed_build_params params = {
        .struct_size = sizeof params,
        .part_bytes = 13000,
        .corpus = "pairs",
        .job = {.threads = 2, .resume = resume, .allocator = allocator}};
    const embed_status st = embed_ngram_build(model, list, rows, output, &params);
    embed_model_free(model);
    return st;
}

static void arm(long kill_at, long fail_at, int error) {
    *plan = (struct plan){0, kill_at, fail_at, error};
}

/* In a child that is killed in that call; returns its calls, or -1 if it was killed. */
static long in_child(long kill_at, embed_status (*work)(void *), void *arg) {
    arm(kill_at, 0, 0);
    const pid_t child = fork();
    if (child == 0) {
        const embed_status st = work(arg);
        _exit(st == EMBED_OK ? 0 : 1);
    }
    assert_true(child > 0);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    const long calls = plan->calls;
    arm(0, 0, 0);
    if (WIFSIGNALED(status)) {
        assert_int_equal(WTERMSIG(status), SIGKILL);
        return -1;
    }
    assert_int_equal(WEXITSTATUS(status), 0);
    return calls;
}

static char *read_file(const char *path, long *size) {
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        fail_msg("%s is missing", path);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    *size = ftell(f);
    rewind(f);
    char *bytes = malloc((size_t)*size + 1);
    assert_int_equal(fread(bytes, 1, (size_t)*size, f), *size);
    (void)fclose(f);
    return bytes;
}

static int count_files(const char *dir) {
    DIR *d = opendir(dir);
    assert_non_null(d);
    int n = 0;
    while (readdir(d) != NULL)
        n++;
    (void)closedir(d);
    return n;
}

/* The same files with the same bytes. */
static void same_table(const char *a, const char *b) {
    DIR *d = opendir(a);
    assert_non_null(d);
    assert_int_equal(count_files(a), count_files(b));
    for (const struct dirent *e; (e = readdir(d)) != NULL;) {
        long sizes[2];
        if (e->d_name[0] == '.')
            continue;
        char *x = read_file(test_path(a, e->d_name), &sizes[0]);
        char *y = read_file(test_path(b, e->d_name), &sizes[1]);
        if (sizes[0] != sizes[1] || memcmp(x, y, (size_t)sizes[0]) != 0)
            fail_msg("%s/%s differs from %s", b, e->d_name, a);
        free(x);
        free(y);
    }
    (void)closedir(d);
}

static int exists(const char *path) {
    struct stat info;
    return lstat(path, &info) == 0;
}

/* ------------------------------------------------------------------------------ build */

static embed_status resume_build(void *output) {
    return build(output, 1, NULL);
}

static void killed_builds_are_finished_with_the_same_bytes(void **state) {
    (void)state;
    char whole[300], output[300];
    uint64_t rng = 4;
    (void)snprintf(whole, sizeof whole, "%s/whole", p.dir);
    const long calls = in_child(0, resume_build, whole);
    assert_true(calls > 20);
    for (long i = 0; i < POINTS; i++) {
        (void)snprintf(output, sizeof output, "%s/killed", p.dir);
        const long at = 1 + i * calls / POINTS;
        assert_int_equal(in_child(at, resume_build, output), -1);
        if (exists(output)) /* whole or not at all */
            same_table(whole, output);
        if (i % 2 == 0) /* and killed again */
            (void)in_child(1 + (long)(test_rand(&rng) % (uint64_t)calls), resume_build, output);
        assert_true(in_child(0, resume_build, output) >= 0);
        same_table(whole, output);
        TEST_OK(embed_table_verify(output, NULL, NULL, NULL));
        test_dir_remove(output);
        (void)strcat(output, ".partial");
        assert_false(exists(output));
    }
}

static void left_overs_are_not_taken_for_a_table(void **state) {
    (void)state;
    char output[300], partial[320];
    embed_table *table;
    (void)snprintf(output, sizeof output, "%s/left", p.dir);
    (void)snprintf(partial, sizeof partial, "%s.partial", output);
    assert_int_equal(in_child(25, resume_build, output), -1);
    assert_true(exists(partial) && !exists(output));
    assert_int_equal(embed_table_open(&table, partial, NULL, NULL), EMBED_ERR_IO);
    test_fails(build(output, 0, NULL), EMBED_ERR_IO, "--resume");
    const int other = open(test_path(partial, "journal"), O_RDWR);
    assert_true(other >= 0 && flock(other, LOCK_EX | LOCK_NB) == 0);
    for (int resume = 0; resume < 2; resume++)
        test_fails(build(output, resume, NULL), EMBED_ERR_IO, "another run is writing this table");
    assert_int_equal(close(other), 0);
    /* With other inputs it cannot be gone on with. */
    char list[300];
    (void)snprintf(list, sizeof list, "%s/list.jsonl", p.dir);
    long size;
    char *text = read_file(list, &size);
    char *first = strstr(text, "900}");
    assert_non_null(first);
    first[0] = '8';
    test_write(p.dir, "list.jsonl", text, size);
    test_fails(build(output, 1, NULL), EMBED_ERR_MISMATCH, "begun from other inputs");
    first[0] = '9';
    test_write(p.dir, "list.jsonl", text, size);
    free(text);
    TEST_OK(build(output, 1, NULL));
    TEST_OK(build(output, 1, NULL)); /* it is there already */
    test_fails(build(output, 0, NULL), EMBED_ERR_IO, "exists already");
    test_dir_remove(output);
}

static void failing_disks_are_told_and_survived(void **state) {
    static const int errors[] = {ENOSPC, EIO, EDQUOT};
    (void)state;
    char whole[300], output[300];
    (void)snprintf(whole, sizeof whole, "%s/whole", p.dir);
    (void)snprintf(output, sizeof output, "%s/failed", p.dir);
    arm(0, 0, 0);
    TEST_OK(build(output, 1, NULL));
    const long calls = plan->calls;
    same_table(whole, output);
    test_dir_remove(output);
    for (long at = 1, i = 0; at <= calls; at++, i++) {
        arm(0, at, errors[i % 3]);
        const embed_status st = build(output, 1, NULL);
        const int tolerated = st == EMBED_OK; /* removing what is not there, for instance */
        arm(0, 0, 0);
        if (!tolerated) {
            assert_int_equal(st, EMBED_ERR_IO);
            TEST_OK(build(output, 1, NULL));
        }
        same_table(whole, output);
        test_dir_remove(output);
    }
}

static void failed_allocations_are_told(void **state) {
    (void)state;
    char output[300], partial[320];
    (void)snprintf(output, sizeof output, "%s/short", p.dir);
    (void)snprintf(partial, sizeof partial, "%s.partial", output);
    arm(0, 0, 0);
    for (long n = 1;; n++) {
        test_allocator a;
        test_allocator_init(&a, n);
        const embed_status st = build(output, 0, &a.allocator);
        assert_int_equal(a.live, 0);
        if (!a.failed) {
            TEST_OK(st);
            break;
        }
        assert_int_equal(st, EMBED_ERR_NOMEM);
        test_dir_remove(partial);
        test_dir_remove(output);
    }
    test_dir_remove(output);
}

/* ------------------------------------------------------------------------------ publish */

typedef struct publication {
    char store[300], table[300];
} publication;

static embed_status publish(void *arg) {
    const publication *x = arg;
    return embed_table_publish(x->store, x->table, NULL, NULL);
}

static embed_status roll_back(void *arg) {
    const publication *x = arg;
    return embed_table_rollback(x->store, NULL, NULL);
}

static void id_of(const char *path, char id[33]) {
    embed_table *table;
    embed_table_info info = {.struct_size = sizeof info};
    TEST_OK(embed_table_open(&table, path, NULL, NULL));
    TEST_OK(embed_table_get_info(table, &info));
    memcpy(id, info.id, 33);
    embed_table_free(table);
}

/* A second table, of other rows. */
static void build_other(const char *output) {
    embed_model *model = test_open(p.model.dir);
    char list[300], rows[300];
    (void)snprintf(list, sizeof list, "%s/list.jsonl", p.dir);
    (void)snprintf(rows, sizeof rows, "%s/rows.npy", p.dir);
    const embed_build_params params = {
        .struct_size = sizeof params, .dtype = EMBED_F16, .part_bytes = 20000};
    TEST_OK(embed_ngram_build(model, list, rows, output, &params));
    embed_model_free(model);
}

static void either_version_opens_after_a_kill(void **state) {
    (void)state;
    char ids[2][33], now[33], other[300];
    publication x;
    arm(0, 0, 0);
    (void)snprintf(x.table, sizeof x.table, "%s/whole", p.dir);
    (void)snprintf(other, sizeof other, "%s/other", p.dir);
    (void)snprintf(x.store, sizeof x.store, "%s/trial", p.dir);
    build_other(other);
    id_of(x.table, ids[0]);
    id_of(other, ids[1]);
    TEST_OK(embed_table_publish(x.store, x.table, NULL, NULL));
    (void)snprintf(x.table, sizeof x.table, "%s/other", p.dir); /* the one of fewer parts */
    const long calls = in_child(0, publish, &x);
    assert_true(calls > 15);
    test_dir_remove(x.store);

    (void)snprintf(x.store, sizeof x.store, "%s/store", p.dir);
    TEST_OK(embed_table_publish(x.store, other, NULL, NULL));
    for (long i = 0, turn = 1; i < POINTS; i++) {
        (void)snprintf(x.table, sizeof x.table, "%s/%s", p.dir, turn == 1 ? "whole" : "other");
        assert_int_equal(in_child(1 + i * calls / POINTS, publish, &x), -1);
        id_of(x.store, now);
        assert_true(strcmp(now, ids[0]) == 0 || strcmp(now, ids[1]) == 0);
        const embed_verify_params full = {.struct_size = sizeof full, .full = 1};
        TEST_OK(embed_table_verify(x.store, NULL, &full, NULL));
        if (i % 5 == 4) {
            TEST_OK(publish(&x));
            id_of(x.store, now);
            assert_string_equal(now, ids[turn == 1 ? 0 : 1]);
            turn = 1 - turn;
        }
    }
    const long steps = in_child(0, roll_back, &x);
    for (long at = 1; at <= steps; at++) {
        (void)in_child(at, roll_back, &x);
        id_of(x.store, now);
        assert_true(strcmp(now, ids[0]) == 0 || strcmp(now, ids[1]) == 0);
    }
    test_dir_remove(x.store);
    test_dir_remove(other);
}

static void failing_disks_leave_the_old_version(void **state) {
    (void)state;
    char ids[2][33], now[33];
    publication x;
    embed_store_version versions[4];
    size_t n;
    (void)snprintf(x.store, sizeof x.store, "%s/store", p.dir);
    (void)snprintf(x.table, sizeof x.table, "%s/whole", p.dir);
    arm(0, 0, 0);
    TEST_OK(publish(&x));
    TEST_OK(publish(&x));
    const long calls = plan->calls / 2 + 5;
    id_of(x.store, ids[0]);
    for (long at = 1; at <= calls; at++) {
        arm(0, at, ENOSPC);
        const embed_status st = publish(&x);
        arm(0, 0, 0);
        assert_true(st == EMBED_OK || st == EMBED_ERR_IO);
        id_of(x.store, now);
        assert_string_equal(now, ids[0]);
    }
    assert_int_equal(embed_table_versions(x.store, versions, 4, &n), EMBED_ERR_CAPACITY);
    assert_true(n > 4);
    test_dir_remove(x.store);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_builds_are_finished_with_the_same_bytes),
        cmocka_unit_test(left_overs_are_not_taken_for_a_table),
        cmocka_unit_test(failing_disks_are_told_and_survived),
        cmocka_unit_test(failed_allocations_are_told),
        cmocka_unit_test(either_version_opens_after_a_kill),
        cmocka_unit_test(failing_disks_leave_the_old_version),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
