/* Tables that are damaged, mixed up, unsafe or cut: each is noticed, and says so. */
#define _DEFAULT_SOURCE
#include "support/table_fixture.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ngram/ngram_fetch.h"
#include "ngram/ngram_parts.h"

#define VOCAB 100
#define WIDTH 12
#define ROWS 90

static const uint8_t key[32] = {4, 5, 6};
static int32_t give_key(void *user, unsigned char out[32]) {
    memcpy(out, user != NULL ? user : key, 32);
    return 0;
}

typedef struct fixture {
    char dir[256], table[300];
    test_grams grams;
} fixture;

static void make(fixture *f, int encrypted, uint64_t seed) {
    const test_table_spec spec = {.dtype = EMBED_F16,
                                  .vocab = VOCAB,
                                  .key = encrypted ? key : NULL,
                                  .part_bytes = 8300, /* one block */
                                  .corpus = "tales of \"checksum\" and more"};
    test_dir_make(f->dir);
    (void)snprintf(f->table, sizeof f->table, "%s/t", f->dir);
    test_grams_init(&f->grams, WIDTH);
    test_grams_random(&f->grams, ROWS, 4, 0, VOCAB, 1, &seed);
    test_table_write(f->table, &spec, &f->grams);
}

static void clear(fixture *f) {
    test_grams_free(&f->grams);
    test_dir_remove(f->dir);
}

static embed_status open_as(embed_table **t, const char *path, int32_t mode, int32_t io,
                            uint32_t flags) {
    const emb_env env = test_env();
    embed_table_params p = EMBED_TABLE_PARAMS_INIT;
    p.mode = mode;
    p.io = io;
    p.flags = flags;
    p.key = give_key;
    emb_fail_clear();
    return emb_ngram_table_open(t, &env, path, &p, NULL);
}

static embed_status try_open(const char *path) {
    embed_table *t;
    const embed_status st = open_as(&t, path, EMBED_TABLE_AUTO, EMBED_TABLE_IO_AUTO, 0);
    assert_true((st == EMBED_OK) == (t != NULL));
    emb_ngram_table_release(t);
    return st;
}

/* Every row of the open table. */
static embed_status fetch_all(embed_table *t) {
    const emb_env env = test_env();
    emb_ngram_fetcher *f = NULL;
    uint32_t rows[2 * ROWS];
    const uint32_t n = (uint32_t)t->manifest.rows;
    for (uint32_t i = 0; i < n; i++)
        rows[i] = i;
    embed_status st = emb_ngram_fetcher_create(&f, &env, t, 1);
    if (st == EMBED_OK)
        st = emb_ngram_fetch_rows(f, rows, n, NULL, NULL, NULL);
    emb_ngram_fetcher_free(f);
    return st;
}

static embed_status open_and_fetch(const char *path, int32_t mode) {
    embed_table *t;
    embed_status st = open_as(&t, path, mode, EMBED_TABLE_IO_AUTO, 0);
    if (st == EMBED_OK)
        st = fetch_all(t);
    emb_ngram_table_release(t);
    return st;
}

static const char *file_of(const fixture *f, const char *name) {
    return test_path(f->table, name);
}

static size_t size_of(const char *path) {
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    return (size_t)info.st_size;
}

static void flip(const char *path, size_t at, int bit) {
    unsigned char c;
    const int fd = open(path, O_RDWR);
    assert_int_equal(pread(fd, &c, 1, (off_t)at), 1);
    c = (unsigned char)(c ^ 1 << bit);
    assert_int_equal(pwrite(fd, &c, 1, (off_t)at), 1);
    (void)close(fd);
}

static void must_say(embed_status st, embed_status want, const char *text) {
    if (st != want || strstr(emb_fail_message(), text) == NULL)
        fail_msg("expected %d with \"%s\", found %d: %s", want, text, st, emb_fail_message());
}

/* Bits first, first + step ... of a file, one at a time; how many were not noticed. */
static size_t flip_bits(const fixture *f, const char *name, size_t first, size_t end, size_t step,
                        int32_t mode) {
    const char *path = file_of(f, name);
    size_t silent = 0;
    for (size_t bit = first * 8; bit < end * 8; bit += step) {
        flip(path, bit / 8, (int)(bit % 8));
        const embed_status st = mode < 0 ? try_open(f->table) : open_and_fetch(f->table, mode);
        silent += st == EMBED_OK;
        assert_true(st == EMBED_OK || emb_fail_message()[0] != '\0');
        flip(path, bit / 8, (int)(bit % 8));
    }
    return silent;
}

static void every_flipped_bit_is_found(void **state) {
    (void)state;
    for (int encrypted = 0; encrypted < 2; encrypted++) {
        fixture f;
        make(&f, encrypted, 31);
        const emb_ngram_file_header h;
        const size_t header = sizeof h, index = size_of(file_of(&f, "index.bin"));
        const size_t rows = size_of(file_of(&f, "rows-000.bin"));
        const size_t text = size_of(file_of(&f, "manifest.json"));
        /* The manifest: all bits of some bytes, one bit of each. A blank may become another one. */
        assert_int_equal(flip_bits(&f, "manifest.json", 0, text, 9, -1), 0);
        assert_int_equal(flip_bits(&f, "index.bin", 0, header, 3, -1), 0);
        assert_int_equal(flip_bits(&f, "index.bin", 4096, index, 29, -1), 0);
        assert_int_equal(flip_bits(&f, "rows-000.bin", 0, header, 3, -1), 0);
        const size_t row = 48 + 2 * WIDTH;
        for (int32_t mode = EMBED_TABLE_LAZY; mode <= EMBED_TABLE_READ; mode++)
            assert_int_equal(flip_bits(&f, "rows-000.bin", 4096 + row, 4096 + 3 * row, 13, mode),
                             0);
        if (encrypted) /* padding and tags are sealed too */
            assert_int_equal(flip_bits(&f, "rows-000.bin", 8192 - 16, rows, 7, EMBED_TABLE_LAZY),
                             0);
        assert_int_equal(open_and_fetch(f.table, EMBED_TABLE_AUTO), EMBED_OK);
        clear(&f);
    }
}

static void a_corrupt_row_is_named(void **state) {
    (void)state;
    fixture f;
    make(&f, 0, 5);
    embed_table *t;
    assert_int_equal(open_as(&t, f.table, 0, 0, 0), EMBED_OK);
    const uint32_t rows_per_part = (uint32_t)t->parts[0].rows;
    assert_true(t->n_parts > 1);
    emb_ngram_table_release(t);
    flip(file_of(&f, "rows-001.bin"), 4096 + 2 * (48 + 2 * WIDTH) + 50, 3);
    char want[64];
    (void)snprintf(want, sizeof want, "rows-001.bin: row %u fails", rows_per_part + 2);
    for (int32_t mode = EMBED_TABLE_LAZY; mode <= EMBED_TABLE_READ; mode++)
        must_say(open_and_fetch(f.table, mode), EMBED_ERR_FORMAT, want);
    clear(&f);
}

/* Sound rows that changed places in their file are no chance answers of the index. */
static void rows_that_changed_places(void **state) {
    (void)state;
    fixture f;
    make(&f, 0, 9);
    enum { BYTES = 48 + 2 * WIDTH };
    unsigned char rows[2 * BYTES];
    const int fd = open(file_of(&f, "rows-000.bin"), O_RDWR);
    assert_int_equal(pread(fd, rows, sizeof rows, 4096), sizeof rows);
    assert_int_equal(pwrite(fd, rows + BYTES, BYTES, 4096), BYTES);
    assert_int_equal(pwrite(fd, rows, BYTES, 4096 + BYTES), BYTES);
    (void)close(fd);
    for (int32_t mode = EMBED_TABLE_LAZY; mode <= EMBED_TABLE_READ; mode++)
        must_say(open_and_fetch(f.table, mode), EMBED_ERR_FORMAT,
                 "rows-000.bin: row 0 is not found by its own n-gram");
    clear(&f);
}

static void truncation_is_its_own_error(void **state) {
    (void)state;
    static const char *const names[] = {"index.bin", "rows-000.bin", "rows-001.bin"};
    for (int encrypted = 0; encrypted < 2; encrypted++) {
        fixture f;
        make(&f, encrypted, 6);
        for (size_t i = 0; i < 3; i++) {
            const char *path = file_of(&f, names[i]);
            const size_t size = size_of(path);
            const size_t cuts[] = {0,    1,    8,        103,       104,     4095,
                                   4096, 4097, size / 2, size - 17, size - 1};
            char *bytes = malloc(size);
            const int fd = open(path, O_RDONLY);
            assert_int_equal(read(fd, bytes, size), size);
            (void)close(fd);
            for (size_t c = 0; c < sizeof cuts / sizeof cuts[0]; c++) {
                assert_int_equal(truncate(path, (off_t)cuts[c]), 0);
                must_say(try_open(f.table), EMBED_ERR_TRUNCATED, names[i]);
            }
            const int out = open(path, O_WRONLY | O_TRUNC);
            assert_int_equal(write(out, bytes, size), size);
            assert_int_equal(try_open(f.table), EMBED_OK);
            assert_int_equal(write(out, bytes, 1), 1); /* a byte too many */
            (void)close(out);
            must_say(try_open(f.table), EMBED_ERR_FORMAT, names[i]);
            assert_int_equal(truncate(path, (off_t)size), 0);
            free(bytes);
        }
        assert_int_equal(unlink(file_of(&f, "rows-001.bin")), 0);
        must_say(try_open(f.table), EMBED_ERR_IO, "rows-001.bin");
        clear(&f);
    }
}

/* In mode read a file that shrinks while it is open is a status, not a signal. */
static void a_file_cut_while_open(void **state) {
    (void)state;
    for (int32_t io = EMBED_TABLE_IO_AUTO; io <= EMBED_TABLE_IO_PREAD; io++)
        for (int encrypted = 0; encrypted < 2; encrypted++) {
            fixture f;
            embed_table *t;
            make(&f, encrypted, 8);
            if (io == EMBED_TABLE_IO_WILLNEED ||
                open_as(&t, f.table, EMBED_TABLE_READ, io, 0) == EMBED_ERR_UNSUPPORTED) {
                clear(&f);
                continue;
            }
            assert_non_null(t);
            assert_int_equal(truncate(file_of(&f, "rows-000.bin"), 4096 + 1000), 0);
            must_say(fetch_all(t), EMBED_ERR_TRUNCATED, "rows-000.bin");
            assert_int_equal(truncate(file_of(&f, "rows-000.bin"), 0), 0);
            must_say(fetch_all(t), EMBED_ERR_TRUNCATED, "rows-000.bin");
            emb_ngram_table_release(t);
            clear(&f);
        }
}

static void put_header(const char *path, const emb_ngram_file_header *h) {
    const int fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, h, sizeof *h, 0), sizeof *h);
    (void)close(fd);
}

static emb_ngram_file_header get_header(const char *path) {
    emb_ngram_file_header h;
    const int fd = open(path, O_RDONLY);
    assert_int_equal(pread(fd, &h, sizeof h, 0), sizeof h);
    (void)close(fd);
    return h;
}

static void newer_foreign_and_mixed_files(void **state) {
    (void)state;
    fixture f, g;
    make(&f, 0, 6);
    make(&g, 0, 7);
    static const char *const names[] = {"index.bin", "rows-000.bin"};
    for (size_t i = 0; i < 2; i++) {
        const char *path = file_of(&f, names[i]);
        const emb_ngram_file_header good = get_header(path);
        emb_ngram_file_header h = good;
        h.version++;
        emb_ngram_header_seal(&h);
        put_header(path, &h);
        must_say(try_open(f.table), EMBED_ERR_UNSUPPORTED, "version");
        h = good;
        memcpy(&h, "\x93NUMPY\x01", 8);
        put_header(path, &h);
        must_say(try_open(f.table), EMBED_ERR_FORMAT, "magic");
        h = get_header(file_of(&g, names[i])); /* a file of the same shape, of another table */
        put_header(path, &h);
        must_say(try_open(f.table), EMBED_ERR_MISMATCH, "another table");
        put_header(path, &good);
    }
    /* parts that changed places */
    char spare[320];
    (void)snprintf(spare, sizeof spare, "%s/spare", f.dir);
    assert_int_equal(rename(file_of(&f, "rows-000.bin"), spare), 0);
    assert_int_equal(rename(file_of(&f, "rows-001.bin"), file_of(&f, "rows-000.bin")), 0);
    assert_int_equal(rename(spare, file_of(&f, "rows-001.bin")), 0);
    must_say(try_open(f.table), EMBED_ERR_MISMATCH, "rows-000.bin");
    clear(&f);
    clear(&g);
}

/* A text that stands in the manifest once, replaced by another of the same length. */
static void edit_manifest(const fixture *f, const char *from, const char *to) {
    const char *path = file_of(f, "manifest.json");
    const size_t size = size_of(path);
    char *text = calloc(1, size + 1);
    int fd = open(path, O_RDWR);
    assert_int_equal(read(fd, text, size), size);
    char *at = strstr(text, from);
    assert_non_null(at);
    memcpy(at, to, strlen(to));
    assert_int_equal(pwrite(fd, text, size, 0), size);
    (void)close(fd);
    free(text);
}

static void manifests_that_were_changed(void **state) {
    (void)state;
    fixture f;
    make(&f, 0, 6);
    edit_manifest(&f, "tales", "TALES");
    must_say(try_open(f.table), EMBED_ERR_FORMAT, "checksum");
    edit_manifest(&f, "TALES", "tales");
    assert_int_equal(try_open(f.table), EMBED_OK);
    edit_manifest(&f, "\"version\": 1", "\"version\": 2");
    must_say(try_open(f.table), EMBED_ERR_UNSUPPORTED, "newer");
    edit_manifest(&f, "\"version\": 2", "\"version\": 1");
    assert_int_equal(unlink(file_of(&f, "manifest.json")), 0);
    must_say(try_open(f.table), EMBED_ERR_IO, "neither a manifest.json nor");
    char partial[320];
    (void)snprintf(partial, sizeof partial, "%s.partial", f.table);
    assert_int_equal(rename(f.table, partial), 0);
    must_say(try_open(partial), EMBED_ERR_IO, "--resume");
    clear(&f);
}

static void allowed(const char *path, int yes) {
    embed_table *t;
    const embed_status st = open_as(&t, path, 0, 0, EMBED_TABLE_ALLOW_UNSAFE);
    assert_true(yes ? st == EMBED_OK : st != EMBED_OK);
    emb_ngram_table_release(t);
}

static void unsafe_files_are_refused(void **state) {
    (void)state;
    static const char *const names[] = {"index.bin", "rows-000.bin", "manifest.json", "."};
    fixture f;
    make(&f, 0, 6);
    for (size_t i = 0; i < 4; i++) {
        const char *path = file_of(&f, names[i]);
        struct stat info;
        assert_int_equal(stat(path, &info), 0);
        assert_int_equal(chmod(path, info.st_mode | S_IWOTH), 0);
        must_say(try_open(f.table), EMBED_ERR_IO, "anyone may write");
        allowed(f.table, 1);
        assert_int_equal(chmod(path, info.st_mode), 0);
        if (i == 3)
            continue;
        char moved[320];
        (void)snprintf(moved, sizeof moved, "%s/moved", f.dir);
        assert_int_equal(rename(path, moved), 0);
        assert_int_equal(symlink(moved, path), 0);
        must_say(try_open(f.table), EMBED_ERR_IO, "symbolic link");
        allowed(f.table, 1);
        assert_int_equal(unlink(path), 0);
        assert_int_equal(mkfifo(path, 0600), 0); /* must not be waited for */
        assert_true(try_open(f.table) != EMBED_OK);
        allowed(f.table, 0);
        assert_int_equal(unlink(path), 0);
        assert_int_equal(mkdir(path, 0700), 0);
        assert_true(try_open(f.table) != EMBED_OK);
        assert_int_equal(rmdir(path), 0);
        assert_int_equal(rename(moved, path), 0);
    }
    assert_int_equal(try_open(f.table), EMBED_OK);
    clear(&f);
}

static void stores_and_their_links(void **state) {
    (void)state;
    fixture f;
    char path[400], other[400];
    make(&f, 0, 6);
    (void)snprintf(path, sizeof path, "%s/current", f.dir);
    assert_int_equal(symlink("t", path), 0);
    assert_int_equal(try_open(f.dir), EMBED_OK); /* the store, its link, and with a slash */
    assert_int_equal(try_open(path), EMBED_OK);
    (void)snprintf(other, sizeof other, "%s/current/", f.dir);
    assert_int_equal(try_open(other), EMBED_OK);
    assert_int_equal(unlink(path), 0);
    for (int i = 0; i < 3; i++) { /* links that lead out, or nowhere */
        const char *const targets[3] = {f.table, "../t", "gone"};
        assert_int_equal(symlink(targets[i], path), 0);
        assert_int_equal(try_open(f.dir), EMBED_ERR_IO);
        assert_int_equal(unlink(path), 0);
    }
    (void)snprintf(other, sizeof other, "%s/link", f.dir); /* any other link */
    assert_int_equal(symlink("t", other), 0);
    must_say(try_open(other), EMBED_ERR_IO, "symbolic link");
    (void)snprintf(path, sizeof path, "%s/link//", f.dir);
    must_say(try_open(path), EMBED_ERR_IO, "symbolic link");
    allowed(other, 1);
    must_say(try_open(test_path(f.dir, "none")), EMBED_ERR_IO, "none");
    must_say(try_open(file_of(&f, "index.bin")), EMBED_ERR_IO, "found a file");
    clear(&f);
}

static void keys(void **state) {
    (void)state;
    fixture f;
    const emb_env env = test_env();
    embed_table *t;
    uint8_t wrong[32] = {4, 5, 7}, bytes[100] = {0};
    embed_table_params p = EMBED_TABLE_PARAMS_INIT;
    make(&f, 1, 6);
    must_say(emb_ngram_table_open(&t, &env, f.table, &p, NULL), EMBED_ERR_ARG, "key file");
    p.key = give_key;
    p.key_user = wrong;
    must_say(emb_ngram_table_open(&t, &env, f.table, &p, NULL), EMBED_ERR_ARG, "wrong key");
    p = (embed_table_params)EMBED_TABLE_PARAMS_INIT;
    const char *path = test_path(f.dir, "key");
    p.key_path = path;
    for (long n = 0; n < 100; n += n == 31 || n == 32 ? 1 : 31) {
        memcpy(bytes, key, sizeof key);
        test_write(f.dir, "key", bytes, n);
        const embed_status st = emb_ngram_table_open(&t, &env, f.table, &p, NULL);
        if (n == 32)
            assert_int_equal(st, EMBED_OK);
        else
            must_say(st, EMBED_ERR_FORMAT, "32 bytes");
        emb_ngram_table_release(t);
    }
    clear(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_flipped_bit_is_found),
        cmocka_unit_test(a_corrupt_row_is_named),
        cmocka_unit_test(rows_that_changed_places),
        cmocka_unit_test(truncation_is_its_own_error),
        cmocka_unit_test(a_file_cut_while_open),
        cmocka_unit_test(newer_foreign_and_mixed_files),
        cmocka_unit_test(manifests_that_were_changed),
        cmocka_unit_test(unsafe_files_are_refused),
        cmocka_unit_test(stores_and_their_links),
        cmocka_unit_test(keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
