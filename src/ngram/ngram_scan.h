/* ngram_scan: one length of the counting: from the numbers of the n-grams that end at each position
 * to the counts, and then the numbers, of the (n+1)-grams.
 *
 * An n-gram that reached the thresholds has a number, in ascending order of its ids. An (n+1)-gram
 * is then exactly the pair (number of its n-prefix, last id), a 64-bit key without collisions, and
 * it can only be frequent if its n-prefix and its n-suffix are (SCONE, arXiv:2502.01637, sec. 3.1).
 * The key range is cut where the table outgrows its memory, and what was cut off is counted in
 * further passes over the streams; threads share the keys by hash. Neither changes the result. */
#ifndef EMB_NGRAM_NGRAM_SCAN_H
#define EMB_NGRAM_NGRAM_SCAN_H

#include "base/threads.h"
#include "ngram/key_tally.h"

/* In a stream of tokens or numbers: what is no token, or no frequent n-gram. */
#define EMB_NGRAM_END UINT32_MAX         /* the end of a text */
#define EMB_NGRAM_BREAK (UINT32_MAX - 1) /* a special token: ends the history */
#define EMB_NGRAM_MAX_THREADS 256

/* 4 bytes a position, in memory or in a file that is read and written from front to back. */
typedef struct emb_ngram_stream {
    uint32_t *data;   /* NULL: the file */
    const char *path; /* for messages */
    int fd;
    int32_t reserved;
} emb_ngram_stream;

/* Called between chunks; a non-zero return stops with EMBED_ERR_CANCELLED. pass: of the counting,
 * from 0 on, or EMB_NGRAM_NUMBERING while the positions get their numbers after one. */
#define EMB_NGRAM_NUMBERING UINT32_MAX
typedef int32_t (*emb_ngram_scan_fn)(void *user, int32_t length, uint32_t pass, uint64_t done,
                                     uint64_t total);
/* One frequent n-gram, in ascending order of keys: number of the prefix << 32 | last id. */
typedef embed_status (*emb_ngram_emit_fn)(void *user, uint64_t key, uint64_t count,
                                          uint32_t documents);

typedef struct emb_ngram_scan {
    const emb_env *env;
    emb_pool *pool;
    uint64_t positions;                /* of the streams */
    uint64_t min_count, min_documents; /* min_documents <= 1 and !with_documents: none counted */
    int32_t with_documents;
    int32_t reserved;
    uint64_t table_bytes; /* for all tables together */
    size_t chunk;         /* positions that streams in files are read and written by */
    uint32_t *buffers;    /* [3, chunk]; NULL if all streams are in memory */
    emb_ngram_stream tokens;
    emb_ngram_stream before; /* numbers of the (n-1)-grams; for n = 2 the tokens once more */
    emb_ngram_stream now;    /* numbers of the n-grams are written here */
    emb_ngram_scan_fn report;
    emb_ngram_emit_fn emit;
    void *user; /* of both */
} emb_ngram_scan;

/* Count the n-grams of `length`. want_numbers 0: nothing is written to `now` (the longest length).
 * *n: how many were frequent; *passes: scans it took. */
embed_status emb_ngram_scan_run(const emb_ngram_scan *scan, int32_t length, int want_numbers,
                                uint64_t *n, uint32_t *passes);

#endif
