/* Rows of an n-gram table from a hot mapping, beside a plain memcpy gather of as many random f16
 * rows from the same file: rows a second on one core, interleaved rounds, medians.
 *   ngram_gather_bench [--rows N] [--width N] [--batch N] [--rounds N] [--dir DIR]
 * Makes two tables (f16 and int8) of random rows in DIR (default TMPDIR or /tmp) and removes them.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "kernels/row_decode/row_decode.h"
#include "ngram/ngram_fetch.h"
#include "ngram/ngram_writer.h"

enum { VOCAB = 30000, LENGTH = 3, MAX_ROUNDS = 101, AHEAD = 4 };

typedef struct bench {
    long rows, width, batch, rounds;
    const char *dir;
    emb_env env;
    uint32_t *numbers;     /* [batch] random rows */
    int32_t *ids;          /* a text of the n-grams of these rows */
    int32_t *offsets;      /* that text alone */
    const float **vectors; /* [batch * LENGTH] */
    unsigned char *copies; /* [batch, 2 * width] */
    float *floats;         /* [batch, width] */
} bench;

static uint64_t next_random(uint64_t *state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static void must(embed_status st) {
    if (st != EMBED_OK) {
        fprintf(stderr, "ngram_gather_bench: %s\n", emb_fail_message());
        exit(1);
    }
}

static void *need(size_t bytes) {
    void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (p == NULL) {
        fprintf(stderr, "ngram_gather_bench: no memory for %zu bytes\n", bytes);
        exit(1);
    }
    memset(p, 0, bytes);
    return p;
}

static double seconds(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ------------------------------------------------------------------------------------ the table */

/* N-gram of a row: three ids that are never the same for two rows, in an order without locality. */
static void ids_of(uint64_t row, int32_t ids[LENGTH]) {
    const uint64_t x = row * 2654435761u % ((uint64_t)VOCAB * VOCAB);
    ids[0] = (int32_t)(x / VOCAB);
    ids[1] = (int32_t)(x % VOCAB);
    ids[2] = (int32_t)(row / ((uint64_t)VOCAB * VOCAB));
}

static embed_status some_fgrams(void *user, uint64_t first, size_t n, emb_ngram_fgram *out) {
    (void)user;
    for (size_t i = 0; i < n; i++) {
        int32_t ids[LENGTH];
        ids_of(first + i, ids);
        out[i] = (emb_ngram_fgram){.length = LENGTH, .count = 1};
        for (int j = 0; j < LENGTH; j++)
            out[i].ids[j] = (uint32_t)ids[j];
    }
    return EMBED_OK;
}

static embed_status some_vectors(void *user, uint64_t first, size_t n, float *out) {
    const bench *b = user;
    uint64_t state = first;
    for (size_t i = 0; i < n * (size_t)b->width; i++)
        out[i] = (float)(next_random(&state) >> 40) * 0x1p-23f - 1;
    return EMBED_OK;
}

static void remove_table(const char *path) {
    static const char *const names[] = {"manifest.json", "index.bin",    "rows-000.bin",
                                        "rows-001.bin",  "rows-002.bin", "rows-003.bin"};
    char file[600];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        (void)snprintf(file, sizeof file, "%s/%s", path, names[i]);
        (void)unlink(file);
    }
    (void)rmdir(path);
}

static embed_table *make_table(bench *b, int32_t dtype, char path[512]) {
    static char zeros[] = "00000000000000000000000000000000";
    emb_ngram_manifest m = {.layout = {.width = (int32_t)b->width, .dtype = dtype}};
    memcpy(m.binding.tokenizer, zeros, sizeof zeros);
    memcpy(m.binding.embedding, zeros, sizeof zeros);
    memcpy(m.binding.model, zeros, sizeof zeros);
    m.binding.hidden = (int32_t)b->width;
    m.binding.vocab = VOCAB;
    const emb_ngram_source source = {
        .rows = (uint64_t)b->rows, .user = b, .fgrams = some_fgrams, .vectors = some_vectors};
    const emb_ngram_write_params p = {.manifest = &m};
    const embed_table_params open = {.struct_size = sizeof open, .mode = EMBED_TABLE_POPULATE};
    embed_table *t;
    (void)snprintf(path, 512, "%s/ngram_gather_bench-%ld-%d", b->dir, (long)getpid(), (int)dtype);
    must(emb_ngram_write(&b->env, path, &p, &source));
    must(emb_ngram_table_open(&t, &b->env, path, &open, NULL));
    return t;
}

/* ---------------------------------------------------------------------------------- the cases */

static const unsigned char *row_at(const embed_table *t, uint32_t row) {
    int32_t p = 0;
    while (p + 1 < t->n_parts && t->parts[p + 1].first_row <= row)
        p++;
    return t->parts[p].map + EMB_NGRAM_FILE_HEADER_BYTES +
           emb_ngram_row_offset(&t->manifest.layout, row - t->parts[p].first_row);
}

/* No checks, one row after the other, in the order asked for; plain: nothing asked for ahead. */
static void gather(const bench *b, const embed_table *t, int ahead, int decode) {
    const size_t width = (size_t)b->width, bytes = t->manifest.layout.row_bytes;
    for (long i = 0; i < b->batch; i++) {
        if (ahead && i + AHEAD < b->batch)
            emb_row_touch(row_at(t, b->numbers[i + AHEAD]), bytes);
        const unsigned char *row = row_at(t, b->numbers[i]);
        const float scale = ((const emb_ngram_row_header *)(const void *)row)->scale;
        if (decode)
            emb_row_decode(t->isa, b->floats + (size_t)i * width,
                           row + sizeof(emb_ngram_row_header), b->width, t->manifest.layout.dtype,
                           scale, 1);
        else
            memcpy(b->copies + (size_t)i * 2 * width, row + sizeof(emb_ngram_row_header),
                   2 * width);
    }
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void fetch(const bench *b, emb_ngram_fetcher *f, int lookup) {
    if (lookup)
        must(emb_ngram_fetch(f, b->ids, b->offsets, 1, b->vectors, NULL));
    else
        must(emb_ngram_fetch_rows(f, b->numbers, (size_t)b->batch, b->vectors, NULL, NULL));
}

/* Each row once: later rounds find its checksum verified, as a table in use does. */
static void verify(bench *b, emb_ngram_fetcher *f) {
    for (long at = 0; at < b->rows; at += b->batch) {
        const long n = b->rows - at < b->batch ? b->rows - at : b->batch;
        for (long i = 0; i < n; i++)
            b->numbers[i] = (uint32_t)(at + i);
        must(emb_ngram_fetch_rows(f, b->numbers, (size_t)n, b->vectors, NULL, NULL));
    }
}

static void choose(bench *b, uint64_t *state) {
    for (long i = 0; i < b->batch; i++) {
        b->numbers[i] = (uint32_t)(next_random(state) % (uint64_t)b->rows);
        ids_of(b->numbers[i], b->ids + i * LENGTH);
    }
    b->offsets[1] = (int32_t)(b->batch * LENGTH);
}

static void run(bench *b, embed_table *f16, embed_table *int8) {
    static const char *const names[] = {
        "memcpy, f16",     "memcpy, ahead, f16", "decode, f16",          "decode, int8",
        "fetch rows, f16", "fetch rows, int8",   "look up + fetch, f16",
    };
    enum { CASES = sizeof names / sizeof names[0] };
    static double times[CASES][MAX_ROUNDS];
    emb_ngram_fetcher *a, *c;
    uint64_t state = 1;
    must(emb_ngram_fetcher_create(&a, &b->env, f16, (size_t)b->batch * LENGTH));
    must(emb_ngram_fetcher_create(&c, &b->env, int8, (size_t)b->batch * LENGTH));
    verify(b, a);
    verify(b, c);
    for (long r = -2; r < b->rounds; r++)
        for (int k = 0; k < CASES; k++) {
            double start = 0;
            for (int twice = 0; twice < 2; twice++) { /* the first warms what is written to */
                choose(b, &state);
                start = seconds();
                if (k < 4)
                    gather(b, k == 3 ? int8 : f16, k > 0, k > 1);
                else
                    fetch(b, k == 5 ? c : a, k == 6);
            }
            if (r >= 0)
                times[k][r] = seconds() - start;
        }
    emb_ngram_fetcher_free(a);
    emb_ngram_fetcher_free(c);
    printf("case,rows,width,batch,rounds,isa,best_us,median_us,rows_per_s,share_of_memcpy\n");
    double base = 0;
    for (int k = 0; k < CASES; k++) {
        qsort(times[k], (size_t)b->rounds, sizeof times[k][0], by_value);
        const double median = times[k][b->rounds / 2];
        base = k == 0 ? median : base;
        printf("\"%s\",%ld,%ld,%ld,%ld,%s,%.1f,%.1f,%.4g,%.3f\n", names[k], b->rows, b->width,
               b->batch, b->rounds, f16->isa->name, 1e6 * times[k][0], 1e6 * median,
               (double)b->batch / median, base / median);
    }
}

static int usage(FILE *out, int status) {
    fprintf(out, "usage: ngram_gather_bench [--rows N] [--width N] [--batch N] [--rounds N] "
                 "[--dir DIR]\n"
                 "Rows a second from a hot n-gram table on one core, beside a memcpy gather.\n"
                 "  --rows N    rows of each table (300000; f16 takes N * (2 * width + 48) bytes)\n"
                 "  --width N   floats of a row (768)\n"
                 "  --batch N   rows of one batch (4096)\n"
                 "  --rounds N  rounds, up to 101 (15)\n"
                 "  --dir DIR   where the tables are made (TMPDIR or /tmp)\n");
    return status;
}

int main(int argc, char **argv) {
    static char f16_path[512], int8_path[512];
    const char *tmp = getenv("TMPDIR");
    bench b = {.rows = 300000, .width = 768, .batch = 4096, .rounds = 15};
    b.dir = tmp != NULL ? tmp : "/tmp";
    for (int i = 1; i < argc; i++) {
        const struct {
            const char *name;
            long *value;
        } numbers[] = {{"--rows", &b.rows},
                       {"--width", &b.width},
                       {"--batch", &b.batch},
                       {"--rounds", &b.rounds}};
        int known = strcmp(argv[i], "--dir") == 0 && i + 1 < argc;
        if (strcmp(argv[i], "--help") == 0)
            return usage(stdout, 0);
        if (known)
            b.dir = argv[++i];
        for (size_t n = 0; n < sizeof numbers / sizeof numbers[0] && !known; n++)
            if (strcmp(argv[i], numbers[n].name) == 0 && i + 1 < argc) {
                *numbers[n].value = strtol(argv[++i], NULL, 10);
                known = *numbers[n].value > 0;
            }
        if (!known)
            return usage(stderr, 2);
    }
    if (b.rounds > MAX_ROUNDS || b.batch > 1 << 24)
        return usage(stderr, 2);
    must(emb_env_init(&b.env, NULL, NULL, NULL));
    const size_t batch = (size_t)b.batch, width = (size_t)b.width;
    b.numbers = need(batch * sizeof *b.numbers);
    b.ids = need(batch * LENGTH * sizeof *b.ids);
    b.offsets = need(2 * sizeof *b.offsets);
    b.vectors = need(batch * LENGTH * sizeof *b.vectors);
    b.copies = need(batch * 2 * width);
    b.floats = need(batch * width * sizeof *b.floats);
    embed_table *f16 = make_table(&b, EMBED_F16, f16_path);
    embed_table *int8 = make_table(&b, EMBED_I8, int8_path);
    run(&b, f16, int8);
    emb_ngram_table_release(f16);
    emb_ngram_table_release(int8);
    remove_table(f16_path);
    remove_table(int8_path);
    return 0;
}
