/* key_tally: exact counts of 64-bit keys in bounded memory, for one thread. Open addressing with
 * 16-byte slots. A table that may not grow any further gives up the upper part of its key range
 * instead of failing; the caller counts that part in another pass. */
#ifndef EMB_NGRAM_KEY_TALLY_H
#define EMB_NGRAM_KEY_TALLY_H

#include "base/alloc.h"

#define EMB_NGRAM_TALLY_BATCH 128
#define EMB_NGRAM_NONE UINT32_MAX /* no n-gram */

typedef struct emb_ngram_tally_slot {
    uint64_t key;   /* complement of the key, so that a zeroed slot is free; no key is all ones */
    uint32_t count; /* modulo 2^32, see wraps */
    uint32_t id;    /* dense number of the key while it is in the table */
} emb_ngram_tally_slot;

typedef struct emb_ngram_tally_docs {
    uint32_t last, n; /* number + 1 of the last document seen; documents seen */
} emb_ngram_tally_docs;

typedef struct emb_ngram_tally {
    const emb_env *env;
    emb_ngram_tally_slot *slots;
    uint64_t size, used, room;  /* slots, entries, entries that it takes before it must grow */
    uint64_t max_bytes;         /* of all blocks together, also while it grows */
    uint32_t *ids;              /* while counting: ids given back; then: number of each survivor */
    emb_ngram_tally_docs *docs; /* by id; NULL unless documents are counted */
    uint32_t *wraps;            /* ids whose count went over 2^32, once for each time */
    size_t n_wraps, wraps_capacity;
    uint32_t next_id, free_ids, max_id;
    int32_t with_docs;
} emb_ngram_tally;

/* Least max_bytes that makes sense: room for some batches. */
#define EMB_NGRAM_TALLY_LEAST_BYTES ((uint64_t)64 << 10)

/* Ids stay below max_id, at least 256. */
embed_status emb_ngram_tally_init(emb_ngram_tally *t, const emb_env *env, uint64_t max_bytes,
                                  uint32_t max_id, int with_docs);
void emb_ngram_tally_clear(emb_ngram_tally *t); /* frees; a zeroed one is a no-op */
void emb_ngram_tally_reset(emb_ngram_tally *t); /* empty again, blocks kept */

/* A bijection of the key, so different keys never have one hash (MurmurHash3's finaliser). */
static inline uint64_t emb_ngram_tally_hash(uint64_t key) {
    key = (key ^ key >> 33) * 0xff51afd7ed558ccdu;
    key = (key ^ key >> 33) * 0xc4ceb9fe1a85ec53u;
    return key ^ key >> 33;
}

/* Room for a batch: grows the table or, where memory does not allow it, lowers *end and drops the
 * keys from there on. */
embed_status emb_ngram_tally_reserve(emb_ngram_tally *t, uint64_t *end);

/* Count n <= EMB_NGRAM_TALLY_BATCH keys after _reserve. ids [n] receives their numbers. documents
 * [n]: where each key stands, NULL if documents are not counted. */
embed_status emb_ngram_tally_add(emb_ngram_tally *t, const uint64_t *keys, const uint64_t *hashes,
                                 const uint32_t *documents, size_t n, uint32_t *ids);

/* One key that was frequent enough. */
typedef struct emb_ngram_tally_entry {
    uint64_t key, count;
    uint32_t documents, id;
} emb_ngram_tally_entry;

/* End of the counting: the slots become the keys below `end` that reached both thresholds, in
 * ascending order, *n of them; all ids are set to EMB_NGRAM_NONE. */
void emb_ngram_tally_finish(emb_ngram_tally *t, uint64_t end, uint64_t min_count,
                            uint64_t min_documents, uint64_t *n);
emb_ngram_tally_entry emb_ngram_tally_get(const emb_ngram_tally *t, uint64_t i);

#endif
