/* Which way rows are brought in: as asked for, as measured, and where io_uring is forbidden, as
 * containers often do. */
#define _DEFAULT_SOURCE
#include "support/table_fixture.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ngram/ngram_fetch.h"

#define WIDTH 4000
#define ROWS 1100 /* 17 MiB: worth a probe */

typedef struct fixture {
    char dir[256], path[300];
    test_grams grams;
} fixture;

static fixture shared;

static int make(void **state) {
    uint64_t rng = 2;
    const test_table_spec spec = {.vocab = 100};
    (void)state;
    test_dir_make(shared.dir);
    (void)snprintf(shared.path, sizeof shared.path, "%s/t", shared.dir);
    test_grams_init(&shared.grams, WIDTH);
    test_grams_random(&shared.grams, ROWS, 4, 0, 100, 0, &rng);
    test_table_write(shared.path, &spec, &shared.grams);
    return 0;
}

static int clear(void **state) {
    (void)state;
    test_grams_free(&shared.grams);
    test_dir_remove(shared.dir);
    return 0;
}

/* Opens and fetches all rows; the io in force, or minus the status. */
static int use(int32_t mode, int32_t io) {
    const emb_env env = test_env();
    embed_table_params p = EMBED_TABLE_PARAMS_INIT;
    embed_table *t;
    emb_ngram_fetcher *f;
    static uint32_t rows[ROWS];
    static const float *vectors[ROWS];
    p.mode = mode;
    p.io = io;
    embed_status st = emb_ngram_table_open(&t, &env, shared.path, &p, NULL);
    if (st != EMBED_OK)
        return -(int)st;
    const uint32_t n = (uint32_t)shared.grams.n;
    for (uint32_t i = 0; i < n; i++)
        rows[i] = (i * 7919u) % n;
    st = emb_ngram_fetcher_create(&f, &env, t, 1);
    if (st == EMBED_OK)
        st = emb_ngram_fetch_rows(f, rows, n, vectors, NULL, NULL);
    for (uint32_t i = 0; i < n && st == EMBED_OK; i++)
        if (memcmp(vectors[i], shared.grams.vectors + (size_t)rows[i] * WIDTH,
                   WIDTH * sizeof(float)) != 0)
            st = EMBED_ERR_INTERNAL;
    const int chosen = t->io;
    emb_ngram_fetcher_free(f);
    emb_ngram_table_release(t);
    return st == EMBED_OK ? chosen : -(int)st;
}

static void a_way_is_chosen(void **state) {
    (void)state;
    const int lazy = use(EMBED_TABLE_LAZY, EMBED_TABLE_IO_AUTO);
    assert_true(lazy == EMBED_TABLE_IO_WILLNEED || lazy == EMBED_TABLE_IO_URING ||
                lazy == EMBED_TABLE_IO_PREAD);
    const int reads = use(EMBED_TABLE_READ, EMBED_TABLE_IO_AUTO);
    assert_true(reads == EMBED_TABLE_IO_URING || reads == EMBED_TABLE_IO_PREAD);
    assert_int_equal(use(EMBED_TABLE_POPULATE, EMBED_TABLE_IO_AUTO), EMBED_TABLE_IO_WILLNEED);
    assert_int_equal(use(EMBED_TABLE_HUGE, EMBED_TABLE_IO_AUTO), EMBED_TABLE_IO_WILLNEED);
    assert_int_equal(use(EMBED_TABLE_LAZY, EMBED_TABLE_IO_WILLNEED), EMBED_TABLE_IO_WILLNEED);
    assert_int_equal(use(EMBED_TABLE_READ, EMBED_TABLE_IO_PREAD), EMBED_TABLE_IO_PREAD);
    assert_int_equal(use(EMBED_TABLE_READ, EMBED_TABLE_IO_WILLNEED), -EMBED_ERR_ARG);
}

/* From here on io_uring_setup is EPERM in this process. */
static int forbid_uring(void) {
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0), /* offset of the call's number */
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {sizeof rules / sizeof rules[0], rules};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static void where_io_uring_is_forbidden(void **state) {
    (void)state;
    int status;
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (!forbid_uring())
            _exit(77); /* filters are forbidden themselves */
        if (use(EMBED_TABLE_READ, EMBED_TABLE_IO_URING) != -EMBED_ERR_UNSUPPORTED)
            _exit(1);
        if (strstr(emb_fail_message(), "io_uring") == NULL &&
            strstr(emb_fail_message(), "liburing") == NULL)
            _exit(2);
        if (use(EMBED_TABLE_READ, EMBED_TABLE_IO_AUTO) != EMBED_TABLE_IO_PREAD)
            _exit(3);
        if (use(EMBED_TABLE_LAZY, EMBED_TABLE_IO_AUTO) != EMBED_TABLE_IO_WILLNEED)
            _exit(4);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77)
        skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_way_is_chosen),
        cmocka_unit_test(where_io_uring_is_forbidden),
    };
    return cmocka_run_group_tests(tests, make, clear);
}
