/* ngram_table: an open table: manifest checked, index in memory, row files ready to be read.
 * Shared by threads; counted references, so that a version that was swapped out lives until the
 * last batch that uses it ends. */
#ifndef EMB_NGRAM_NGRAM_TABLE_H
#define EMB_NGRAM_NGRAM_TABLE_H

#include <pthread.h>
#include <stdatomic.h>

#include "kernels/isa.h"
#include "ngram/ngram_index.h"
#include "ngram/ngram_manifest.h"

#define EMB_NGRAM_MAX_PARTS 1000

/* How row bytes get from disk to us: one row file. */
typedef struct emb_ngram_part {
    int fd;
    int direct;               /* the same file, opened with O_DIRECT; -1: not wanted or refused */
    const unsigned char *map; /* the whole file, header first; NULL where rows are read */
    uint64_t map_bytes;
    int32_t clear;         /* 1: the map holds rows as they are, not encrypted */
    int32_t is_private;    /* 1: the map is memory of our own, never paged out to the file */
    unsigned char *tags;   /* encrypted and not mapped: a tag for each block */
    unsigned char *pinned; /* the first blocks, decrypted, locked in memory; or NULL */
    uint64_t pinned_bytes, pinned_rows;
    uint64_t first_row, rows, payload_bytes;
} emb_ngram_part;

/* What was looked up and brought in. Numbers are added to, never set. */
typedef struct emb_ngram_stats {
    uint64_t positions;
    uint64_t hits[EMB_NGRAM_MAX_K + 1]; /* by length; [0] counts positions without a match */
    uint64_t distinct_rows, cache_hits, bytes_read, foreign_rows;
    uint64_t fetch_ns, wait_ns; /* spent bringing rows; spent by the encoder waiting for them */
    /* On devices: what crossed to them, distinct rows that were there, their waiting for rows. */
    uint64_t device_bytes, device_hits, device_wait_ns;
    int32_t place; /* embed_table_place of whoever counted last; 0: none */
    int32_t reserved;
} emb_ngram_stats;

struct embed_table {
    emb_env env;
    atomic_int refs;
    int32_t mode; /* embed_table_mode that is in force */
    int32_t io;   /* embed_table_io that is in force, chosen by a probe if the caller did not */
    int32_t any_model; /* 1: opened with EMBED_TABLE_ALLOW_MISMATCH */
    int32_t io_asked;
    char *path; /* the version's directory */
    emb_ngram_manifest manifest;
    emb_ngram_index index;
    emb_ngram_part *parts;
    int32_t n_parts;
    uint64_t pinned_rows;                   /* a prefix of the rows is locked in memory */
    struct emb_ngram_cipher *cipher;        /* NULL unless encrypted */
    struct emb_ngram_projector *projection; /* NULL: rows are used as they are */
    _Atomic uint64_t *verified; /* a bit for each row whose checksum was found right; a mapping that
                                   takes memory where it is touched */
    size_t verified_bytes;
    const void *index_map; /* the mapping that index.buckets lies in */
    uint64_t index_map_bytes;
    const emb_isa *isa;
    struct emb_ngram_cache *cache;     /* rows that were read; NULL: none */
    struct emb_ngram_service *service; /* of the public calls */
    pthread_mutex_t lock;              /* of the totals */
    pthread_mutex_t image_lock;        /* of the next */
    struct emb_device_image *images;   /* rows on devices, for model/device_image */
    emb_ngram_stats totals;            /* since open */
    /* For tests: what a read is made to return instead of its result. */
    int32_t (*fault)(void *arg, int32_t result);
    void *fault_arg;
};

static inline int emb_ngram_is_verified(const embed_table *t, uint32_t row) {
    return (int)(atomic_load_explicit(&t->verified[row / 64], memory_order_relaxed) >> row % 64 &
                 1);
}
static inline void emb_ngram_set_verified(embed_table *t, uint32_t row) {
    (void)atomic_fetch_or_explicit(&t->verified[row / 64], UINT64_C(1) << row % 64,
                                   memory_order_relaxed);
}

/* A key file: exactly 32 bytes. */
embed_status emb_ngram_key_read(const emb_env *env, const char *path, uint8_t key[32]);

/* params: embed_table_params, already read (api/params.h). binding NULL: not checked. */
embed_status emb_ngram_table_open(embed_table **out, const emb_env *env, const char *path,
                                  const embed_table_params *params,
                                  const emb_ngram_binding *binding);
void emb_ngram_table_retain(embed_table *table);
void emb_ngram_table_release(embed_table *table); /* NULL is a no-op */

/* Add to the table's totals; any thread. emb_ngram_fetch does so itself: this is for wait_ns. */
void emb_ngram_table_count(embed_table *table, const emb_ngram_stats *more);
void emb_ngram_table_totals(embed_table *table, emb_ngram_stats *totals);
void emb_ngram_stats_add(emb_ngram_stats *sum, const emb_ngram_stats *more);

#endif
