/* What the system refuses (memory, reads) is a status, leaks nothing and leaves the table usable;
 * rows that belong to another n-gram are never used; processes share a table. */
#define _DEFAULT_SOURCE
#include "support/table_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "ngram/ngram_parts.h"
#include "ngram/ngram_residency.h"
#include "ngram/ngram_service.h"

#define VOCAB 120
#define WIDTH 16
#define TOKENS 400

static const uint8_t key[32] = {9};
static int32_t give_key(void *user, unsigned char out[32]) {
    (void)user;
    memcpy(out, key, 32);
    return 0;
}

typedef struct fixture {
    char dir[256], table[300];
    test_grams grams;
    int32_t ids[TOKENS], offsets[2];
} fixture;

static void make(fixture *f, int encrypted, int32_t hidden, size_t n) {
    uint64_t rng = 77;
    float matrix[24 * WIDTH];
    for (size_t i = 0; i < sizeof matrix / sizeof matrix[0]; i++)
        matrix[i] = (float)test_normal(&rng);
    const test_table_spec spec = {.vocab = VOCAB,
                                  .key = encrypted ? key : NULL,
                                  .hidden = hidden,
                                  .projection = hidden != 0 ? matrix : NULL,
                                  .part_bytes = 20000};
    test_dir_make(f->dir);
    (void)snprintf(f->table, sizeof f->table, "%s/t", f->dir);
    test_grams_init(&f->grams, WIDTH);
    test_grams_random(&f->grams, n, 5, 0, VOCAB, 1, &rng);
    test_table_write(f->table, &spec, &f->grams);
    for (int i = 0; i < TOKENS; i++) {
        const double u = test_uniform(&rng);
        f->ids[i] = (int32_t)(VOCAB * u * u * u);
    }
    f->offsets[0] = 0;
    f->offsets[1] = TOKENS;
}

static void clear(fixture *f) {
    test_grams_free(&f->grams);
    test_dir_remove(f->dir);
}

static embed_table_params params_of(int32_t mode, int32_t io) {
    embed_table_params p = EMBED_TABLE_PARAMS_INIT;
    p.mode = mode;
    p.io = io;
    p.key = give_key;
    return p;
}

/* Open, encode's fetch, rows by number, a ticket, statistics: all a user can ask for. */
static embed_status use(const emb_env *env, const fixture *f, const embed_table_params *p) {
    embed_status st = EMBED_OK;
    embed_table *t = NULL;
    emb_ngram_fetcher *fetcher = NULL;
    embed_table_ticket *ticket = NULL;
    static const float *rows[TOKENS];
    const int64_t ahead[3] = {5, -1, 17};
    EMB_TRY(emb_ngram_table_open(&t, env, f->table, p, NULL));
    EMB_TRY(emb_ngram_fetcher_create(&fetcher, env, t, 10));
    EMB_TRY(emb_ngram_fetch(fetcher, f->ids, f->offsets, 1, rows, NULL));
    EMB_TRY(emb_ngram_service_prefetch(t->service, ahead, 3, &ticket));
    EMB_TRY(emb_ngram_service_wait(ticket));
    EMB_TRY(emb_ngram_warm(t, 0, NULL, NULL));
fail:
    emb_ngram_fetcher_free(fetcher);
    emb_ngram_table_release(t);
    return st;
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    static const struct {
        int encrypted;
        int32_t hidden, mode, io;
    } cases[] = {{0, 0, EMBED_TABLE_LAZY, EMBED_TABLE_IO_AUTO},
                 {0, 24, EMBED_TABLE_HUGE, EMBED_TABLE_IO_AUTO},
                 {1, 0, EMBED_TABLE_READ, EMBED_TABLE_IO_URING},
                 {1, 0, EMBED_TABLE_POPULATE, EMBED_TABLE_IO_AUTO},
                 {0, 0, EMBED_TABLE_READ, EMBED_TABLE_IO_PREAD}};
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        fixture f;
        make(&f, cases[c].encrypted, cases[c].hidden, 200);
        const embed_table_params p = params_of(cases[c].mode, cases[c].io);
        embed_status st = EMBED_ERR_NOMEM;
        for (long n = 1; st != EMBED_OK && st != EMBED_ERR_UNSUPPORTED; n++) {
            test_allocator a;
            emb_env env = test_env();
            test_allocator_init(&a, n);
            env.allocator = a.allocator;
            st = use(&env, &f, &p);
            assert_true(st == EMBED_OK || st == EMBED_ERR_NOMEM || st == EMBED_ERR_UNSUPPORTED);
            assert_true((st == EMBED_ERR_NOMEM) == a.failed);
            assert_int_equal(a.live, 0);
            assert_true(n < 3000);
        }
        clear(&f);
    }
}

/* ---------------------------------------------------------------------------------- bad reads */

typedef struct faults {
    long calls, bad; /* number of the read that goes wrong; 0: each is cut short */
    int32_t result;
} faults;

static int32_t inject(void *arg, int32_t result) {
    faults *x = arg;
    x->calls++;
    if (x->bad == 0)
        return result > 512 && x->calls % 3 != 0 ? 512 : result;
    return x->calls == x->bad ? x->result : result;
}

static void reads_that_fail(void **state) {
    (void)state;
    static const struct {
        int32_t result;
        embed_status want;
    } kinds[] = {{-EIO, EMBED_ERR_IO},
                 {0, EMBED_ERR_TRUNCATED},
                 {-EINTR, EMBED_OK},
                 {-EAGAIN, EMBED_OK},
                 {700, EMBED_OK}};
    for (int32_t io = EMBED_TABLE_IO_URING; io <= EMBED_TABLE_IO_PREAD; io++)
        for (int encrypted = 0; encrypted < 2; encrypted++) {
            fixture f;
            embed_table *t;
            emb_ngram_fetcher *fetcher;
            const emb_env env = test_env();
            static const float *good[TOKENS], *rows[TOKENS];
            make(&f, encrypted, 0, 300);
            embed_table_params p = params_of(EMBED_TABLE_READ, io);
            p.cache_bytes = 1;
            if (emb_ngram_table_open(&t, &env, f.table, &p, NULL) == EMBED_ERR_UNSUPPORTED) {
                clear(&f);
                continue;
            }
            assert_int_equal(emb_ngram_fetcher_create(&fetcher, &env, t, TOKENS), EMBED_OK);
            assert_int_equal(emb_ngram_fetch(fetcher, f.ids, f.offsets, 1, good, NULL), EMBED_OK);
            static float copy[TOKENS][WIDTH];
            for (int i = 0; i < TOKENS; i++)
                if (good[i] != NULL)
                    memcpy(copy[i], good[i], sizeof copy[i]);
            for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++)
                for (long bad = 0; bad < 20; bad++) {
                    faults x = {0, bad, kinds[k].result};
                    t->fault = inject;
                    t->fault_arg = &x;
                    const embed_status st =
                        emb_ngram_fetch(fetcher, f.ids, f.offsets, 1, rows, NULL);
                    t->fault = NULL;
                    assert_int_equal(st, bad == 0 || x.calls < bad ? EMBED_OK : kinds[k].want);
                    if (st != EMBED_OK) {
                        assert_non_null(strstr(emb_fail_message(), "rows-00"));
                        continue;
                    }
                    for (int i = 0; i < TOKENS; i++) {
                        assert_true((rows[i] == NULL) == (good[i] == NULL));
                        if (rows[i] != NULL)
                            assert_memory_equal(rows[i], copy[i], sizeof copy[i]);
                    }
                }
            emb_ngram_fetcher_free(fetcher);
            emb_ngram_table_release(t);
            clear(&f);
        }
}

/* ------------------------------------------------------------------------------- foreign rows */

/* Let the index answer b where it should answer a, and seal it again: what chance does once in 5e10
 * misses. */
static void redirect(const char *path, uint32_t a, uint32_t b) {
    const int fd = open(path, O_RDWR);
    emb_ngram_file_header h;
    assert_int_equal(pread(fd, &h, sizeof h, 0), sizeof h);
    emb_ngram_bucket *buckets = malloc(h.payload_bytes);
    assert_int_equal(pread(fd, buckets, h.payload_bytes, 4096), h.payload_bytes);
    for (uint64_t i = 0; i < h.count; i++)
        for (int e = 0; e < EMB_NGRAM_BUCKET_ENTRIES; e++)
            if (buckets[i].meta[e] & EMB_NGRAM_META_USED) {
                uint32_t *row = &buckets[i].row[e];
                *row = *row == a ? b : *row;
            }
    h.payload_checksum = XXH3_64bits(buckets, h.payload_bytes);
    emb_ngram_header_seal(&h);
    assert_int_equal(pwrite(fd, buckets, h.payload_bytes, 4096), h.payload_bytes);
    assert_int_equal(pwrite(fd, &h, sizeof h, 0), sizeof h);
    free(buckets);
    (void)close(fd);
}

static void foreign_rows_fall_back(void **state) {
    (void)state;
    char dir[256];
    uint64_t rng = 1;
    test_grams g;
    test_dir_make(dir);
    test_grams_init(&g, WIDTH);
    const int32_t text[6] = {1, 2, 3, 4, 50, 51};
    for (int32_t n = 2; n <= 4; n++) /* 3 4, 2 3 4, 1 2 3 4: each the suffix of the next */
        test_grams_add(&g, text + 4 - n, n, 9, NULL, &rng);
    test_grams_add(&g, text + 4, 2, 9, NULL, &rng); /* row 3: 50 51 */
    const test_table_spec spec = {.vocab = VOCAB};
    const char *path = test_path(dir, "t");
    test_table_write(path, &spec, &g);
    redirect(test_path(path, "index.bin"), 2, 3);
    for (int32_t mode = EMBED_TABLE_LAZY; mode <= EMBED_TABLE_READ; mode++) {
        const emb_env env = test_env();
        const embed_table_params p = params_of(mode, EMBED_TABLE_IO_AUTO);
        embed_table *t;
        emb_ngram_fetcher *f;
        emb_ngram_stats stats = {0};
        const float *rows[6];
        const int32_t offsets[2] = {0, 6};
        assert_int_equal(emb_ngram_table_open(&t, &env, path, &p, NULL), EMBED_OK);
        assert_int_equal(emb_ngram_fetcher_create(&f, &env, t, 6), EMBED_OK);
        assert_int_equal(emb_ngram_fetch(f, text, offsets, 1, rows, &stats), EMBED_OK);
        for (int i = 0; i < 6; i++)
            assert_true((rows[i] != NULL) == (i == 3 || i == 5));
        assert_memory_equal(rows[3], g.vectors + WIDTH, WIDTH * 4); /* 2 3 4, one shorter */
        assert_memory_equal(rows[5], g.vectors + 3 * WIDTH, WIDTH * 4);
        assert_int_equal(stats.foreign_rows, 1);
        assert_int_equal(stats.hits[3], 1);
        assert_int_equal(stats.hits[4], 0);
        assert_int_equal(stats.hits[2], 1);
        assert_int_equal(stats.hits[0], 4);
        emb_ngram_fetcher_free(f);
        emb_ngram_table_release(t);
    }
    redirect(test_path(path, "index.bin"), 1, 77); /* a row that is not there */
    const emb_env env = test_env();
    const embed_table_params p = params_of(0, 0);
    embed_table *t;
    emb_ngram_fetcher *f;
    const float *rows[6];
    const int32_t offsets[2] = {0, 3}, other[3] = {2, 3, 4};
    assert_int_equal(emb_ngram_table_open(&t, &env, path, &p, NULL), EMBED_OK);
    assert_int_equal(emb_ngram_fetcher_create(&f, &env, t, 6), EMBED_OK);
    assert_int_equal(emb_ngram_fetch(f, other, offsets, 1, rows, NULL), EMBED_ERR_FORMAT);
    assert_non_null(strstr(emb_fail_message(), "row 77"));
    emb_ngram_fetcher_free(f);
    emb_ngram_table_release(t);
    test_grams_free(&g);
    test_dir_remove(dir);
}

/* ---------------------------------------------------------------------------------- processes */

static uint64_t digest(const fixture *f, int32_t mode) {
    const emb_env env = test_env();
    const embed_table_params p = params_of(mode, EMBED_TABLE_IO_AUTO);
    embed_table *t;
    emb_ngram_fetcher *fetcher;
    static const float *rows[TOKENS];
    uint64_t sum = 1;
    if (emb_ngram_table_open(&t, &env, f->table, &p, NULL) != EMBED_OK ||
        emb_ngram_fetcher_create(&fetcher, &env, t, 0) != EMBED_OK ||
        emb_ngram_fetch(fetcher, f->ids, f->offsets, 1, rows, NULL) != EMBED_OK)
        return 0;
    for (int i = 0; i < TOKENS; i++)
        sum = sum * 31 + (rows[i] != NULL ? XXH3_64bits(rows[i], WIDTH * 4) : 7);
    emb_ngram_fetcher_free(fetcher);
    emb_ngram_table_release(t);
    return sum;
}

static void processes_share_a_table(void **state) {
    (void)state;
    fixture f;
    make(&f, 0, 0, 300);
    for (int32_t mode = EMBED_TABLE_LAZY; mode <= EMBED_TABLE_READ; mode++) {
        int ends[2];
        uint64_t theirs[3] = {0};
        pid_t children[3];
        assert_int_equal(pipe(ends), 0);
        for (int i = 0; i < 3; i++) {
            children[i] = fork();
            assert_true(children[i] >= 0);
            if (children[i] == 0) {
                const uint64_t sum = digest(&f, mode);
                _exit(write(ends[1], &sum, sizeof sum) == sizeof sum ? 0 : 1);
            }
        }
        const uint64_t ours = digest(&f, mode);
        assert_true(ours != 0);
        for (int i = 0; i < 3; i++) {
            int status;
            assert_int_equal(waitpid(children[i], &status, 0), children[i]);
            assert_int_equal(status, 0);
        }
        assert_int_equal(read(ends[0], theirs, sizeof theirs), sizeof theirs);
        for (int i = 0; i < 3; i++)
            assert_true(theirs[i] == ours);
        (void)close(ends[0]);
        (void)close(ends[1]);
    }
    clear(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(reads_that_fail),
        cmocka_unit_test(foreign_rows_fall_back),
        cmocka_unit_test(processes_share_a_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
