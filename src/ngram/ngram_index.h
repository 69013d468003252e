/* ngram_index: from token ids to rows. An immutable bucketed hash of fingerprints: one cache line a
 * probe, most misses end in the first line (README.md). It may answer for a foreign n-gram once in
 * some 5e10 misses; whoever uses a row compares the ids in its header, so no wrong row is used. */
#ifndef EMB_NGRAM_NGRAM_INDEX_H
#define EMB_NGRAM_NGRAM_INDEX_H

#include "base/alloc.h"
#include "ngram/ngram_format.h"

typedef struct emb_ngram_index {
    const emb_ngram_bucket *buckets;
    uint64_t n_buckets;
    uint64_t seed;
    const uint64_t *special; /* bit set of token ids that end the history, `vocab` bits */
    int32_t vocab;
    int32_t k; /* longest n-gram, 2 .. 8 */
} emb_ngram_index;

/* Hash of an n-gram, from its last token leftwards: h = step(step(seed, id[i]), id[i-1]) ... so
 * each longer suffix costs one step. For a fixed id a bijection of h (two odd multiplications and
 * xor shifts, as in MurmurHash3's finaliser). */
static inline uint64_t emb_ngram_hash_step(uint64_t h, int32_t id) {
    h = (h ^ (uint32_t)id) * 0x9fb21c651e98df25u;
    h ^= h >> 32;
    h *= 0xd6e8feb86659fd93u;
    return h ^ h >> 29;
}
uint64_t emb_ngram_hash(uint64_t seed, const int32_t *ids, int32_t n);

/* For each position of packed texts the longest f-gram that ends there and lies wholly inside the
 * same text. offsets [texts + 1]. rows [T]: its row or EMB_NGRAM_NO_ROW; lengths [T]: its length
 * or 0. No allocation; about 2.4 probes a position, kept in flight 32 at a time.
 * Source  SCONE, arXiv:2502.01637, Algorithm 1 */
void emb_ngram_index_lookup(const emb_ngram_index *index, const int32_t *ids,
                            const int32_t *offsets, size_t texts, uint32_t *rows, uint8_t *lengths);
/* The same for one n-gram exactly: its row, or EMB_NGRAM_NO_ROW. ids outside the vocabulary and
 * special ids never match. */
uint32_t emb_ngram_index_find(const emb_ngram_index *index, const int32_t *ids, int32_t n);
/* Its entry in *bucket, path entries included; -1: none. */
int emb_ngram_index_entry(const emb_ngram_index *index, const int32_t *ids, int32_t n,
                          uint64_t *bucket);

/* Buckets for n keys at the given load (entries used / entries), 0 < load <= 0.9. */
embed_status emb_ngram_index_buckets(uint64_t keys, double load, uint64_t *n_buckets);

/* Filling zeroed buckets with n-grams that stream by twice in row order: first all of them through
 * _add, then all through _link, which adds path entries for suffixes that are no f-grams. The
 * result does not depend on the sizes of the pieces. */
typedef struct emb_ngram_filler {
    emb_ngram_bucket *buckets;
    uint64_t n_buckets, seed;
    uint64_t keys; /* entries made so far */
    /* An n-gram added before; asked for when two look alike. */
    embed_status (*recall)(void *user, uint32_t row, emb_ngram_fgram *out);
    void *user;
    uint32_t same[2]; /* the rows in question when _add reports equal n-grams */
    int32_t clash; /* 1: two n-grams cannot be told apart and filling stopped; try another seed */
    int32_t reserved;
} emb_ngram_filler;
/* Errors: EMBED_ERR_FORMAT naming both rows of equal n-grams, EMBED_ERR_CAPACITY if the table is
 * full, what recall returns. */
embed_status emb_ngram_filler_add(emb_ngram_filler *f, const emb_ngram_fgram *grams, uint32_t first,
                                  size_t n);
embed_status emb_ngram_filler_link(emb_ngram_filler *f, const emb_ngram_fgram *grams, size_t n);

/* All at once, row i = n-gram i. ids: n rows of EMB_NGRAM_MAX_K ids in text order; *keys receives
 * the entries made, path entries included; *clash as above. The result depends on the arguments
 * alone. */
embed_status emb_ngram_index_fill(emb_ngram_bucket *buckets, uint64_t n_buckets, uint64_t seed,
                                  const uint32_t (*ids)[EMB_NGRAM_MAX_K], const uint8_t *lengths,
                                  uint32_t n, uint64_t *keys, int *clash);

#endif
