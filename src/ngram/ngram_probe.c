#define _GNU_SOURCE
#include "ngram/ngram_probe.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "io/file.h"
#include "ngram/ngram_parts.h"
#include "ngram/ngram_read.h"

#define PROBES 48                          /* blocks read each way */
#define WORTH_PROBING ((uint64_t)16 << 20) /* bytes; a smaller table is in memory at once */
#define PAGE 4096

/* O_DIRECT needs a descriptor of its own. A file system that refuses it, or a name that means
 * another file by now, leaves us with reads through the page cache. */
static embed_status open_direct(const embed_table *t, emb_ngram_part *part) {
    char name[32];
    char *path = NULL;
    struct stat a, b;
    emb_ngram_part_name((uint32_t)(part - t->parts), name);
    const embed_status st = emb_file_join(&t->env, t->path, name, &path);
    if (st != EMBED_OK || part->direct >= 0)
        goto out;
    part->direct = open(path, O_RDONLY | O_CLOEXEC | O_DIRECT);
    if (part->direct >= 0 && (fstat(part->direct, &a) != 0 || fstat(part->fd, &b) != 0 ||
                              a.st_ino != b.st_ino || a.st_dev != b.st_dev)) {
        emb_file_close(part->direct);
        part->direct = -1;
    }
out:
    emb_free(&t->env, path);
    return st;
}

static embed_status use_ring(embed_table *t) {
    embed_status st = EMBED_OK;
    emb_ngram_queue *queue = NULL;
    t->io = EMBED_TABLE_IO_URING;
    EMB_TRY(emb_ngram_queue_uring(&queue, &t->env)); /* refused now, not at the first batch */
    queue->free(queue);
    for (int32_t i = 0; i < t->n_parts; i++)
        EMB_TRY(open_direct(t, &t->parts[i]));
fail:
    return st;
}

/* ------------------------------------------------------------------------------------ probing */

/* The same numbers for the same table and way; different blocks for each way, so that none reads
 * what another has brought in. */
static void choose_blocks(const embed_table *t, uint64_t way, emb_ngram_span spans[PROBES]) {
    uint64_t x = way * 0x9e3779b97f4a7c15u;
    const uint32_t block = t->manifest.layout.block_bytes;
    for (int i = 0; i < PROBES; i++) {
        x ^= t->manifest.table_id[i % 16];
        x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u + 0x9e3779b97f4a7c15u;
        const int32_t part = (int32_t)((x >> 40) % (uint64_t)t->n_parts);
        spans[i] = (emb_ngram_span){(x >> 8) % (t->parts[part].payload_bytes / block), part, 0,
                                    block < PAGE ? block : PAGE};
    }
}

static embed_status take_nothing(void *arg, size_t span, unsigned char *bytes) {
    (void)arg, (void)span, (void)bytes;
    return EMBED_OK;
}

/* Seconds a block; negative: this way does not work here. */
static double time_reads(embed_table *t, int32_t io) {
    emb_ngram_span spans[PROBES];
    emb_ngram_reader *reader = NULL;
    embed_status st;
    double seconds = -1;
    t->io = io;
    choose_blocks(t, (uint64_t)io, spans);
    if (io == EMBED_TABLE_IO_URING)
        st = use_ring(t);
    else
        st = EMBED_OK;
    if (st == EMBED_OK)
        st = emb_ngram_reader_create(&reader, &t->env, t);
    if (st == EMBED_OK) {
        const double start = emb_clock_seconds();
        st = emb_ngram_reader_run(reader, spans, PROBES, take_nothing, NULL);
        seconds = st == EMBED_OK ? (emb_clock_seconds() - start) / PROBES : -1;
    }
    emb_ngram_reader_free(reader);
    return seconds;
}

static double time_advice(const embed_table *t) {
    emb_ngram_span spans[PROBES];
    volatile unsigned char touched = 0;
    choose_blocks(t, EMBED_TABLE_IO_WILLNEED, spans);
    const double start = emb_clock_seconds();
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < PROBES; i++) {
            const unsigned char *at = t->parts[spans[i].part].map + EMB_NGRAM_FILE_HEADER_BYTES +
                                      spans[i].block * t->manifest.layout.block_bytes;
            if (pass == 0)
                (void)madvise((void *)(uintptr_t)at, spans[i].bytes, MADV_WILLNEED);
            else
                touched = (unsigned char)(touched ^ *at);
        }
    return (emb_clock_seconds() - start) / PROBES;
}

static embed_status probe(embed_table *t, int mapped) {
    const double advice = mapped ? time_advice(t) : -1;
    /* Rows that are in memory come fastest through the map, so it keeps a lead of two. */
    const int in_memory = mapped && advice < 10e-6;
    const double ring = in_memory ? -1 : time_reads(t, EMBED_TABLE_IO_URING);
    if (mapped && (ring < 0 || advice <= 2 * ring)) {
        t->io = EMBED_TABLE_IO_WILLNEED;
        emb_fail_clear();
        return EMBED_OK;
    }
    const double pool = time_reads(t, EMBED_TABLE_IO_PREAD);
    emb_fail_clear();
    if (ring < 0 && pool < 0)
        return emb_fail(EMBED_ERR_IO, "%s: rows can be read neither by io_uring nor by pread",
                        t->path);
    t->io = ring >= 0 && (pool < 0 || ring <= pool) ? EMBED_TABLE_IO_URING : EMBED_TABLE_IO_PREAD;
    return EMBED_OK;
}

embed_status emb_ngram_io_choose(embed_table *t) {
    const int reads = t->mode == EMBED_TABLE_READ;
    uint64_t bytes = 0;
    for (int32_t i = 0; i < t->n_parts; i++)
        bytes += t->parts[i].payload_bytes;
    if (reads && t->io_asked == EMBED_TABLE_IO_WILLNEED)
        return emb_fail(EMBED_ERR_ARG,
                        "%s: mode read never maps the rows: expected "
                        "EMBED_TABLE_IO_AUTO, _URING or _PREAD",
                        t->path);
    t->io = reads ? EMBED_TABLE_IO_PREAD : EMBED_TABLE_IO_WILLNEED;
    if (t->mode == EMBED_TABLE_POPULATE || t->mode == EMBED_TABLE_HUGE)
        return EMBED_OK; /* already there */
    if (t->io_asked == EMBED_TABLE_IO_URING)
        return use_ring(t);
    if (t->io_asked != EMBED_TABLE_IO_AUTO)
        t->io = t->io_asked;
    else if (bytes >= WORTH_PROBING)
        return probe(t, !reads);
    return EMBED_OK;
}
