/* embed_ngram_rows: the file equals what the encoder gives row by row, whatever threads, batches
 * and interruptions; what does not fit is refused; nothing half-written stays under the output's
 * name. */
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/handles.h"

#include "model/fgram_rows.h"
#include "ngram/ngram_list.h"
#include "ngram/ngram_npy.h"

#define N 1000
#define HIDDEN 48
#define ROW_BYTES (HIDDEN * sizeof(float))
#define FILE_BYTES (EMB_NPY_HEADER_BYTES + N * ROW_BYTES)

static char dir[256];
static tiny_model main_tiny, fgram_tiny;
static embed_model *main_model, *fgram;
static unsigned char *want; /* the file of an undisturbed run */

/* "dir/name" for names used here; the strings last. */
static const char *at(const char *name) {
    static char paths[64][320];
    static size_t n;
    for (size_t i = 0; i < n; i++)
        if (strcmp(paths[i] + strlen(dir) + 1, name) == 0)
            return paths[i];
    assert_true(n < 64);
    (void)snprintf(paths[n], sizeof paths[n], "%s/%s", dir, name);
    return paths[n++];
}

static void write_list(const char *name, size_t n, uint64_t seed) {
    char *text = malloc(n * 96 + 1);
    size_t len = 0;
    assert_non_null(text);
    for (size_t i = 0; i < n; i++) {
        const int length = 2 + (int)(test_rand(&seed) % 7);
        len += (size_t)snprintf(text + len, 24, "{\"ids\":[");
        for (int t = 0; t < length; t++)
            len += (size_t)snprintf(text + len, 12, "%s%u", t > 0 ? "," : "",
                                    (unsigned)(TINY_FIRST_WORD + test_rand(&seed) % 190));
        len += (size_t)snprintf(text + len, 32, "],\"count\":%u}\n", (unsigned)(n - i));
    }
    test_write(dir, name, text, (long)len);
    free(text);
}

/* A whole file, for free(); NULL if there is none. */
static unsigned char *contents(const char *name, size_t *bytes) {
    FILE *f = fopen(at(name), "rb");
    if (f == NULL)
        return NULL;
    unsigned char *data = malloc(FILE_BYTES + 1);
    assert_non_null(data);
    *bytes = fread(data, 1, FILE_BYTES + 1, f);
    (void)fclose(f);
    return data;
}

static int exists(const char *name) {
    return access(at(name), F_OK) == 0;
}

static void check_output(const char *name) {
    size_t bytes;
    char partial[64];
    unsigned char *got = contents(name, &bytes);
    assert_non_null(got);
    assert_int_equal(bytes, FILE_BYTES);
    assert_memory_equal(got, want, FILE_BYTES);
    free(got);
    (void)snprintf(partial, sizeof partial, "%s.partial", name);
    assert_false(exists(partial));
    (void)snprintf(partial, sizeof partial, "%s.partial.state", name);
    assert_false(exists(partial));
    assert_int_equal(unlink(at(name)), 0);
}

static int set_up(void **state) {
    size_t bytes;
    tiny_spec spec = tiny_spec_bert();
    (void)state;
    spec.dtype = EMBED_F16;
    test_dir_make(dir);
    tiny_model_make(&main_tiny, &spec);
    spec = tiny_spec_moe();
    spec.seed = 99;
    tiny_model_make(&fgram_tiny, &spec);
    main_model = test_open(main_tiny.dir);
    fgram = test_open(fgram_tiny.dir);
    write_list("list", N, 17);
    embed_rows_params p = {.struct_size = sizeof p};
    p.job.threads = 1;
    TEST_OK(embed_ngram_rows(main_model, fgram, at("list"), at("first.npy"), &p));
    want = contents("first.npy", &bytes);
    assert_non_null(want);
    assert_int_equal(bytes, FILE_BYTES);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    free(want);
    embed_model_free(main_model);
    embed_model_free(fgram);
    tiny_model_remove(&main_tiny);
    tiny_model_remove(&fgram_tiny);
    test_dir_remove(dir);
    return 0;
}

/* The file's rows are those of the encoder, which test_fgram_rows compares with the reference. */
static void rows_of_the_list(void **state) {
    (void)state;
    const emb_env env = test_env();
    emb_ngram_list *list;
    emb_fgram_encoder *e;
    char header[EMB_NPY_HEADER_BYTES];
    emb_ngram_fgram *grams = malloc(N * sizeof *grams);
    float *rows = malloc(N * ROW_BYTES);
    assert_true(grams != NULL && rows != NULL);
    TEST_OK(emb_ngram_list_open(&list, &env, at("list")));
    TEST_OK(emb_ngram_list_read(list, 0, N, grams));
    TEST_OK(emb_fgram_create(&e, main_model, fgram, EMB_FGRAM_MODEL, 2, 333, NULL));
    TEST_OK(emb_fgram_run(e, grams, N, 0, rows));
    emb_npy_make_header(header, N, HIDDEN);
    assert_memory_equal(want, header, sizeof header);
    assert_memory_equal(want + sizeof header, rows, N * ROW_BYTES);
    emb_fgram_free(e);
    emb_ngram_list_free(list);
    free(grams);
    free(rows);
}

static void threads_and_batches(void **state) {
    (void)state;
    static const struct {
        int threads, batch;
        uint64_t memory;
    } ways[] = {{3, 0, 0}, {2, 8, 0}, {4, 100, 0}, {0, 4096, 64 << 20}};
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        embed_rows_params p = {.struct_size = sizeof p};
        p.batch_tokens = ways[i].batch;
        p.job.threads = ways[i].threads;
        p.job.memory = ways[i].memory;
        TEST_OK(embed_ngram_rows(main_model, fgram, at("list"), at("out.npy"), &p));
        check_output("out.npy");
    }
}

struct stop {
    uint64_t after, seen;
    int calls, kill;
};

static int32_t stop_after(void *user, const embed_job_report *r) {
    struct stop *s = user;
    assert_string_equal(r->unit, "f-grams");
    assert_int_equal(r->total, N);
    assert_true(r->memory_bytes > 0);
    assert_int_equal(r->disk_bytes, FILE_BYTES);
    assert_true(r->done >= s->seen);
    s->seen = r->done;
    s->calls++;
    if (r->done < s->after)
        return 0;
    if (s->kill)
        (void)kill(getpid(), SIGKILL);
    return 1;
}

/* Small batches, so that there are many windows. */
static embed_rows_params stopping(struct stop *s, int resume) {
    embed_rows_params p = {.struct_size = sizeof p};
    p.batch_tokens = 64;
    p.job.threads = 1;
    p.job.resume = resume;
    p.job.report = stop_after;
    p.job.user = s;
    return p;
}

static void cancelled_and_resumed(void **state) {
    (void)state;
    struct stop s = {0};
    embed_rows_params p = stopping(&s, 0);
    test_fails(embed_ngram_rows(main_model, fgram, at("list"), at("c.npy"), &p),
               EMBED_ERR_CANCELLED, "after 0 of 1000 f-grams");
    assert_false(exists("c.npy.partial")); /* the estimate comes before anything is written */
    for (uint64_t after = 1; after < N; after += 250) {
        s = (struct stop){.after = after};
        p = stopping(&s, after > 1);
        test_fails(embed_ngram_rows(main_model, fgram, at("list"), at("c.npy"), &p),
                   EMBED_ERR_CANCELLED, "f-grams");
        assert_true(exists("c.npy.partial") && !exists("c.npy"));
        assert_true(s.seen >= after && s.seen < N);
    }
    p = stopping(&s, 0);
    s = (struct stop){.after = N + 1};
    test_fails(embed_ngram_rows(main_model, fgram, at("list"), at("c.npy"), &p), EMBED_ERR_IO,
               "c.npy.partial: left by an earlier run");
    write_list("other", N, 18);
    p.job.resume = 1;
    s.seen = 0;
    test_fails(embed_ngram_rows(main_model, fgram, at("other"), at("c.npy"), &p),
               EMBED_ERR_MISMATCH, "c.npy.partial: begun with another list");
    s.seen = 0;
    test_fails(embed_ngram_rows(main_model, main_model, at("list"), at("c.npy"), &p),
               EMBED_ERR_MISMATCH, "c.npy.partial: begun with another list");
    s = (struct stop){.after = N + 1};
    TEST_OK(embed_ngram_rows(main_model, fgram, at("list"), at("c.npy"), &p));
    assert_true(s.calls > 2);
    check_output("c.npy");
}

/* A child killed in mid-work, again and again, and a torn tail behind what is safe. */
static void killed_and_resumed(void **state) {
    (void)state;
    uint64_t seed = 4;
    for (int round = 0; round < 9; round++) {
        struct stop s = {.after = test_rand(&seed) % N, .kill = 1};
        const embed_rows_params p = stopping(&s, 1);
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) { /* models of the parent may not be used after fork */
            embed_model *a, *b;
            if (embed_model_open(&a, main_tiny.dir, NULL) == EMBED_OK &&
                embed_model_open(&b, fgram_tiny.dir, NULL) == EMBED_OK)
                (void)embed_ngram_rows(a, b, at("list"), at("k.npy"), &p);
            _exit(1);
        }
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        assert_false(exists("k.npy"));
        if (exists("k.npy.partial") && round % 3 == 0) {
            FILE *f = fopen(at("k.npy.partial"), "ab");
            assert_non_null(f);
            assert_int_equal(fwrite("torn", 1, 4, f), 4);
            (void)fclose(f);
        }
    }
    struct stop s = {.after = N + 1};
    const embed_rows_params p = stopping(&s, 1);
    TEST_OK(embed_ngram_rows(main_model, fgram, at("list"), at("k.npy"), &p));
    check_output("k.npy");
}

/* A file that may not grow, as on a full disk: a message, nothing under the output's name, and what
 * was written is gone on from. */
static void full_disk(void **state) {
    (void)state;
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        const struct rlimit limit = {100000, 100000};
        struct stop s = {.after = N + 1};
        const embed_rows_params p = stopping(&s, 0);
        embed_model *a, *b;
        if (signal(SIGXFSZ, SIG_IGN) == SIG_ERR || setrlimit(RLIMIT_FSIZE, &limit) != 0 ||
            embed_model_open(&a, main_tiny.dir, NULL) != EMBED_OK ||
            embed_model_open(&b, fgram_tiny.dir, NULL) != EMBED_OK)
            _exit(2);
        _exit(embed_ngram_rows(a, b, at("list"), at("l.npy"), &p) == EMBED_ERR_IO &&
                      strstr(embed_last_error(), "l.npy.partial: cannot write") != NULL
                  ? 0
                  : 3);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_true(exists("l.npy.partial") && !exists("l.npy"));
    struct stop s = {.after = N + 1};
    const embed_rows_params p = stopping(&s, 1);
    TEST_OK(embed_ngram_rows(main_model, fgram, at("list"), at("l.npy"), &p));
    check_output("l.npy");
}

/* Damage to what a stopped run left: afresh, or from the older note; the bytes are the same. */
static void damaged_leftovers(void **state) {
    (void)state;
    for (int how = 0; how < 4; how++) {
        struct stop s = {.after = 500};
        embed_rows_params p = stopping(&s, 0);
        test_fails(embed_ngram_rows(main_model, fgram, at("list"), at("d.npy"), &p),
                   EMBED_ERR_CANCELLED, "f-grams");
        if (how == 0)
            assert_int_equal(truncate(at("d.npy.partial"), 1000), 0);
        else if (how == 1)
            assert_int_equal(unlink(at("d.npy.partial")), 0);
        else if (how == 2)
            assert_int_equal(unlink(at("d.npy.partial.state")), 0);
        else
            test_write(dir, "d.npy.partial.state", "not a state", 11);
        s = (struct stop){.after = N + 1};
        p = stopping(&s, 1);
        TEST_OK(embed_ngram_rows(main_model, fgram, at("list"), at("d.npy"), &p));
        check_output("d.npy");
    }
}

static void derived_rows(void **state) {
    (void)state;
    const float *word = tiny_model_tensor(&main_tiny, "embeddings.word_embeddings.weight");
    for (int derive = EMBED_ROWS_LAST; derive <= EMBED_ROWS_MEAN; derive++) {
        embed_rows_params p = {.struct_size = sizeof p};
        size_t bytes;
        p.derive = derive;
        test_write(dir, "two", "{\"ids\":[60,61,62],\"count\":9}\n{\"ids\":[70,71],\"count\":8}\n",
                   -1);
        TEST_OK(embed_ngram_rows(main_model, NULL, at("two"), at("t.npy"), &p));
        unsigned char *file = contents("t.npy", &bytes);
        assert_int_equal(bytes, EMB_NPY_HEADER_BYTES + 2 * ROW_BYTES);
        float rows[2][HIDDEN];
        memcpy(rows, file + EMB_NPY_HEADER_BYTES, sizeof rows);
        for (size_t c = 0; c < HIDDEN; c++) {
            const float a = word[60 * HIDDEN + c], b = word[61 * HIDDEN + c],
                        d = word[62 * HIDDEN + c], e = word[70 * HIDDEN + c],
                        f = word[71 * HIDDEN + c];
            assert_true(rows[0][c] == (derive == EMBED_ROWS_LAST ? d : (a + b + d) / 3.0f));
            assert_true(rows[1][c] == (derive == EMBED_ROWS_LAST ? f : (e + f) / 2.0f));
        }
        free(file);
        assert_int_equal(unlink(at("t.npy")), 0);
    }
}

static void rows_from_elsewhere(void **state) {
    (void)state;
    embed_rows_params p = {.struct_size = sizeof p};
    test_write(dir, "theirs.bin", want + EMB_NPY_HEADER_BYTES, N * ROW_BYTES);
    p.from = at("first.npy");
    TEST_OK(embed_ngram_rows(main_model, NULL, at("list"), at("f.npy"), &p));
    check_output("f.npy");
    p.from = at("theirs.bin");
    TEST_OK(embed_ngram_rows(main_model, NULL, at("list"), at("f.npy"), &p));
    check_output("f.npy");
    test_fails(embed_ngram_rows(main_model, NULL, at("two"), at("f.npy"), &p), EMBED_ERR_MISMATCH,
               "theirs.bin: 1000 rows, but ");
    /* half as many rows of twice the width */
    char header[EMB_NPY_HEADER_BYTES];
    unsigned char *wide = malloc(FILE_BYTES);
    assert_non_null(wide);
    emb_npy_make_header(header, N / 2, (uint64_t)2 * HIDDEN);
    memcpy(wide, want, FILE_BYTES);
    memcpy(wide, header, sizeof header);
    test_write(dir, "wide.npy", wide, FILE_BYTES);
    write_list("half", N / 2, 17);
    p.from = at("wide.npy");
    test_fails(embed_ngram_rows(main_model, NULL, at("half"), at("f.npy"), &p), EMBED_ERR_MISMATCH,
               "wide.npy: rows of 96 numbers, but the hidden width of ");
    const float infinite = INFINITY;
    memcpy(wide, want, FILE_BYTES);
    memcpy(wide + EMB_NPY_HEADER_BYTES + 700 * ROW_BYTES + 20, &infinite, 4);
    test_write(dir, "bad.npy", wide, FILE_BYTES);
    p.from = at("bad.npy");
    test_fails(embed_ngram_rows(main_model, NULL, at("list"), at("f.npy"), &p), EMBED_ERR_FORMAT,
               "row 700, number 5 of ");
    assert_true(!exists("f.npy") && !exists("f.npy.partial"));
    free(wide);
}

static void wrong_arguments(void **state) {
    (void)state;
    embed_rows_params p = {.struct_size = sizeof p};
    const char *list = at("list"), *out = at("w.npy");
    test_fails(embed_ngram_rows(NULL, NULL, list, out, NULL), EMBED_ERR_ARG, "model: NULL");
    test_fails(embed_ngram_rows(main_model, NULL, NULL, out, NULL), EMBED_ERR_ARG, "fgrams: ");
    test_fails(embed_ngram_rows(main_model, NULL, list, "", NULL), EMBED_ERR_ARG, "output: ");
    test_fails(embed_ngram_rows(main_model, NULL, at("none"), out, NULL), EMBED_ERR_IO, "none");
    p.derive = 2;
    test_fails(embed_ngram_rows(main_model, NULL, list, out, &p), EMBED_ERR_ARG, "derive");
    p.derive = EMBED_ROWS_MEAN;
    test_fails(embed_ngram_rows(main_model, fgram, list, out, &p), EMBED_ERR_ARG, "not both");
    p.derive = 0;
    p.from_dtype = EMBED_I8;
    test_fails(embed_ngram_rows(main_model, NULL, list, out, &p), EMBED_ERR_ARG, "from_dtype");
    p.from_dtype = 0;
    p.job.memory = 1000;
    test_fails(embed_ngram_rows(main_model, fgram, list, out, &p), EMBED_ERR_ARG,
               "embed_job.memory: expected at least ");
    p.job.memory = 0;
    p.job.reserved[1] = 1;
    test_fails(embed_ngram_rows(main_model, fgram, list, out, &p), EMBED_ERR_ABI, "reserved");
    p.job.reserved[1] = 0;
    p.device = 99;
    test_fails(embed_ngram_rows(main_model, fgram, list, out, &p), EMBED_ERR_ARG,
               "embed_rows_params");
    p.device = EMBED_DEVICE_AUTO;
    p.device_dtype = EMBED_I8;
    test_fails(embed_ngram_rows(main_model, fgram, list, out, &p), EMBED_ERR_ARG, "device_dtype");
    p.device_dtype = 0;
    p.reserved2 = 1;
    test_fails(embed_ngram_rows(main_model, fgram, list, out, &p), EMBED_ERR_ABI, "reserved");
    p.reserved2 = 0;
    p.struct_size = offsetof(embed_rows_params, device); /* of callers that know no devices */
    p.device = 99;
    TEST_OK(embed_ngram_rows(main_model, fgram, list, out, &p));
    assert_int_equal(unlink(out), 0);
    test_fails(embed_ngram_rows(main_model, fgram, list, at("no/dir/w.npy"), NULL), EMBED_ERR_IO,
               "no/dir/w.npy.partial");
    test_write(dir, "beyond", "{\"ids\":[60,61]}\n{\"ids\":[60,256]}\n", -1);
    test_fails(embed_ngram_rows(main_model, fgram, at("beyond"), out, NULL), EMBED_ERR_FORMAT,
               "beyond: line 2: ids[1]: expected an id below 256");
    test_write(dir, "special", "{\"ids\":[60,61]}\n\n{\"ids\":[60,61,2]}\n", -1);
    test_fails(embed_ngram_rows(main_model, NULL, at("special"), out, NULL), EMBED_ERR_FORMAT,
               "special: line 3: ids[2]: 2 is a special token");
    assert_true(!exists("w.npy") && !exists("w.npy.partial"));
    tiny_spec spec = tiny_spec_dense();
    spec.hidden = 64;
    tiny_model wide;
    tiny_model_make(&wide, &spec);
    embed_model *other = test_open(wide.dir);
    test_fails(embed_ngram_rows(main_model, other, list, out, NULL), EMBED_ERR_MISMATCH,
               "hidden width 64, but ");
    embed_model_free(other);
    tiny_model_remove(&wide);
    spec = tiny_spec_dense();
    spec.positions = 5;
    tiny_model_make(&wide, &spec);
    other = test_open(wide.dir);
    test_write(dir, "long", "{\"ids\":[60,61,62,63,64]}\n{\"ids\":[60,61,62,63,64,65]}\n", -1);
    test_fails(embed_ngram_rows(main_model, other, at("long"), out, NULL), EMBED_ERR_FORMAT,
               "long: line 2: 6 ids, but the f-gram model ");
    embed_model_free(other);
    tiny_model_remove(&wide);
}

static void no_ngrams_at_all(void **state) {
    (void)state;
    size_t bytes;
    test_write(dir, "empty", "", 0);
    TEST_OK(embed_ngram_rows(main_model, fgram, at("empty"), at("e.npy"), NULL));
    unsigned char *file = contents("e.npy", &bytes);
    assert_int_equal(bytes, EMB_NPY_HEADER_BYTES);
    file[EMB_NPY_HEADER_BYTES - 1] = '\0';
    assert_non_null(strstr((char *)file + 10, "'shape': (0, 48)"));
    free(file);
}

static void allocations_that_fail(void **state) {
    (void)state;
    for (long n = 1;; n++) {
        test_allocator a;
        embed_rows_params p = {.struct_size = sizeof p};
        test_allocator_init(&a, n);
        p.job.allocator = &a.allocator;
        p.job.threads = 1;
        const embed_status st = embed_ngram_rows(main_model, NULL, at("two"), at("a.npy"), &p);
        assert_int_equal(a.live, 0);
        assert_false(exists("a.npy.partial"));
        if (!a.failed) {
            TEST_OK(st);
            break;
        }
        assert_true(n < 200);
        test_fails(st, EMBED_ERR_NOMEM, "EMBED_ERR_NOMEM");
        assert_false(exists("a.npy"));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_of_the_list),
        cmocka_unit_test(threads_and_batches),
        cmocka_unit_test(cancelled_and_resumed),
        cmocka_unit_test(killed_and_resumed),
        cmocka_unit_test(full_disk),
        cmocka_unit_test(damaged_leftovers),
        cmocka_unit_test(derived_rows),
        cmocka_unit_test(rows_from_elsewhere),
        cmocka_unit_test(wrong_arguments),
        cmocka_unit_test(no_ngrams_at_all),
        cmocka_unit_test(allocations_that_fail),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
