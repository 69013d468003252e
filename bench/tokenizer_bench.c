/* Speed of the tokeniser on one thread: MB of text a second and the time to open a tokenizer.json.
 * usage: tokenizer_bench TOKENIZER_JSON TEXTS [REPS]    TEXTS has one text a line
 *        tokenizer_bench TOKENIZER_JSON TEXTS --serve   for tokenizer_peer.py: reads "open",
 *                                                       "encode" and "cpu" (use CPU time) lines,
 *                                                       answers each with a time */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tokenizer/tokenizer.h"

typedef struct bench {
    const char *path;
    emb_env env;
    emb_tokenizer *tok;
    emb_tok_scratch *scratch;
    char *bytes;
    embed_text *texts;
    size_t n, total;
    uint64_t ids, sum; /* how many ids the last pass gave, and a checksum of them in order */
} bench;

static clockid_t clock_used = CLOCK_MONOTONIC;

static double now(void) {
    struct timespec t;
    clock_gettime(clock_used, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int fail(const char *what) {
    fprintf(stderr, "tokenizer_bench: %s\n", what);
    return 1;
}

static int read_texts(bench *b, const char *path) {
    FILE *f = fopen(path, "rb");
    long size;
    if (!f || fseek(f, 0, SEEK_END) || (size = ftell(f)) < 0)
        return fail("cannot read TEXTS");
    rewind(f);
    b->bytes = malloc((size_t)size + 1);
    if (!b->bytes || fread(b->bytes, 1, (size_t)size, f) != (size_t)size)
        return fail("cannot read TEXTS");
    fclose(f);
    for (long i = 0; i < size; i++)
        b->n += b->bytes[i] == '\n';
    b->texts = calloc(b->n + 1, sizeof *b->texts);
    if (!b->texts)
        return fail("out of memory");
    const char *from = b->bytes;
    for (size_t i = 0; i < b->n; i++) {
        const char *end = memchr(from, '\n', (size_t)(b->bytes + size - from));
        b->texts[i] = (embed_text){from, (size_t)(end - from)};
        b->total += b->texts[i].len;
        from = end + 1;
    }
    return 0;
}

/* Seconds to open the file anew; < 0 on failure. */
static double time_open(bench *b) {
    emb_tokenizer_free(b->tok);
    const double start = now();
    const embed_status st = emb_tokenizer_open(&b->tok, &b->env, b->path);
    return st == EMBED_OK ? now() - start : -1;
}

static double time_encode(bench *b) {
    const emb_tok_options options = {{NULL, 0}, 0, 0};
    b->ids = b->sum = 0;
    const double start = now();
    for (size_t i = 0; i < b->n; i++) {
        const int32_t *ids;
        size_t n;
        int32_t truncated;
        if (emb_tokenizer_encode(b->tok, b->scratch, b->texts[i], &options, &ids, &n, &truncated))
            return -1;
        b->ids += n;
        for (size_t k = 0; k < n; k++)
            b->sum = b->sum * 31 + (uint64_t)ids[k];
    }
    return now() - start;
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int serve(bench *b) {
    char line[32];
    while (fgets(line, sizeof line, stdin)) {
        if (line[0] == 'c')
            clock_used = CLOCK_THREAD_CPUTIME_ID;
        const double seconds = line[0] == 'o' ? time_open(b) : line[0] == 'e' ? time_encode(b) : 0;
        if (seconds < 0)
            return fail(emb_fail_message());
        printf("%.9f %llu %llu\n", seconds, (unsigned long long)b->ids, (unsigned long long)b->sum);
        fflush(stdout);
    }
    return 0;
}

static int report(bench *b, int reps) {
    double opens[64], encodes[64];
    reps = reps < 1 ? 1 : reps > 64 ? 64 : reps;
    for (int i = 0; i < reps; i++) {
        opens[i] = time_open(b);
        encodes[i] = opens[i] < 0 ? -1 : time_encode(b);
        if (encodes[i] < 0)
            return fail(emb_fail_message());
    }
    qsort(opens, (size_t)reps, sizeof *opens, by_value);
    qsort(encodes, (size_t)reps, sizeof *encodes, by_value);
    const double mb = 1e-6 * (double)b->total;
    printf("texts,bytes,ids,reps,open_ms,encode_ms,mb_s_median,mb_s_best,mids_s\n");
    printf("%zu,%zu,%llu,%d,%.4g,%.4g,%.4g,%.4g,%.4g\n", b->n, b->total, (unsigned long long)b->ids,
           reps, 1e3 * opens[reps / 2], 1e3 * encodes[reps / 2], mb / encodes[reps / 2],
           mb / encodes[0], 1e-6 * (double)b->ids / encodes[reps / 2]);
    return 0;
}

int main(int argc, char **argv) {
    bench b = {0};
    if (argc < 3 || argc > 4)
        return fail("usage: tokenizer_bench TOKENIZER_JSON TEXTS [REPS | --serve]"), 2;
    b.path = argv[1];
    if (read_texts(&b, argv[2]))
        return 1;
    if (emb_env_init(&b.env, NULL, NULL, NULL) || emb_tok_scratch_create(&b.scratch, &b.env) ||
        emb_tokenizer_open(&b.tok, &b.env, b.path))
        return fail(emb_fail_message());
    const int serving = argc == 4 && !strcmp(argv[3], "--serve");
    const int rc = serving ? serve(&b) : report(&b, argc == 4 ? atoi(argv[3]) : 7);
    emb_tokenizer_free(b.tok);
    emb_tok_scratch_free(b.scratch);
    free(b.texts);
    free(b.bytes);
    return rc;
}
