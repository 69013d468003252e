/* ngram_peer: the stores that ngram_peers compares, behind one interface. Each holds n-grams with
 * either their numbers or their vectors (f16) as values, and answers for whole texts: the longest
 * n-gram that ends at each position. */
#ifndef EMB_BENCH_NGRAM_PEER_H
#define EMB_BENCH_NGRAM_PEER_H

#include <stddef.h>
#include <stdint.h>

#include "ngram/ngram_format.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What goes into a store; borrowed while it is there. */
typedef struct peer_data {
    const emb_ngram_fgram *grams; /* by falling count */
    size_t n;
    int32_t k, vocab;
    int32_t width;   /* floats of a vector; 0: the values are numbers */
    const char *dir; /* an empty directory for files */
} peer_data;

/* Value c of the vector of n-gram `row`, the same in all stores and exact in f16. */
static inline float peer_value(uint64_t row, int32_t c) {
    const uint64_t h = (row * 0x9E3779B97F4A7C15u + (uint64_t)c) * 0xD6E8FEB86659FD93u;
    return (float)((int)(h >> 57) - 64) / 64.0f;
}
void peer_vector_f16(uint64_t row, int32_t width, uint16_t *out);
/* f16 to f32 by the processor's instruction where it has one. */
void peer_widen(const uint16_t *in, int32_t width, float *out);

typedef struct peer peer;
struct peer {
    const char *name;
    const peer_data *data;
    void *state;
    uint64_t disk_bytes, memory_bytes; /* after build */
    /* 1, or 0 after a message. build leaves the store open. */
    int (*build)(peer *p);
    int (*drop)(peer *p); /* close, forget the page cache, open again; NULL: nothing on disk */
    /* rows [positions] receive the numbers, UINT32_MAX: none. NULL if the values are vectors. */
    int (*look_up)(peer *p, const int32_t *ids, const int32_t *offsets, size_t texts,
                   uint32_t *rows);
    /* out [hits, width]: vectors of the matches one after the other; returns how many, -1: failed.
     * Any number of threads at once. NULL if the values are numbers. */
    long (*fetch_texts)(peer *p, const int32_t *ids, const int32_t *offsets, size_t texts,
                        float *out);
    /* out [n, width]: vectors of these n-grams. */
    int (*fetch_grams)(peer *p, const uint32_t *which, size_t n, float *out);
    void (*close)(peer *p);
};

peer peer_ours(const peer_data *data);
peer peer_lmdb(const peer_data *data);
peer peer_unordered_map(const peer_data *data); /* of the C++ library */
peer peer_robin_map(const peer_data *data);     /* name NULL if it was not there at build time */

#ifdef __cplusplus
}
#endif
#endif
