#include "ngram/ngram_index.h"

#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#define LANES 32 /* probes in flight; more than the core's outstanding misses */

/* Where and what to look for: bucket from the high bits of the hash, everything else from a second
 * mix of it, for overlapping bits would make misses longer. */
typedef struct probe {
    uint64_t bucket;
    uint32_t fingerprint;
    uint8_t meta;     /* length, fingerprint bits, used */
    uint8_t selector; /* one overflow flag */
} probe;

static probe probe_of(uint64_t h, uint64_t n_buckets, int32_t length) {
    const uint64_t g = (h ^ h >> 31) * 0xbf58476d1ce4e5b9u;
    return (probe){
        (uint64_t)((unsigned __int128)h * n_buckets >> 64), (uint32_t)(g >> 32),
        (uint8_t)((uint32_t)(length - 1) | (uint32_t)(g >> 29 & 7) << 4 | EMB_NGRAM_META_USED),
        (uint8_t)(1u << (g >> 26 & 7))};
}

/* Entry of a bucket that answers to the probe, -1 if none. */
static int match(const emb_ngram_bucket *b, const probe *p) {
#if defined(__SSE2__)
    const __m128i want = _mm_set1_epi32((int)p->fingerprint);
    const __m128i lo = _mm_loadu_si128((const __m128i *)(const void *)b->fingerprint);
    const __m128i hi = _mm_loadu_si128((const __m128i *)(const void *)(b->fingerprint + 3));
    unsigned hits = (unsigned)_mm_movemask_ps(_mm_castsi128_ps(_mm_cmpeq_epi32(lo, want))) |
                    (unsigned)_mm_movemask_ps(_mm_castsi128_ps(_mm_cmpeq_epi32(hi, want))) << 3;
#else
    unsigned hits = 0;
    for (unsigned i = 0; i < EMB_NGRAM_BUCKET_ENTRIES; i++)
        hits |= (unsigned)(b->fingerprint[i] == p->fingerprint) << i;
#endif
    for (; hits != 0; hits &= hits - 1) {
        const int i = __builtin_ctz(hits);
        if ((b->meta[i] & ~EMB_NGRAM_META_EXTENDABLE) == p->meta)
            return i;
    }
    return -1;
}

static uint64_t next_bucket(uint64_t bucket, uint64_t n_buckets) {
    return bucket + 1 == n_buckets ? 0 : bucket + 1;
}

uint64_t emb_ngram_hash(uint64_t seed, const int32_t *ids, int32_t n) {
    uint64_t h = seed;
    for (int32_t i = n - 1; i >= 0; i--)
        h = emb_ngram_hash_step(h, ids[i]);
    return h;
}

static int usable(const emb_ngram_index *ix, int32_t id) {
    return (uint32_t)id < (uint32_t)ix->vocab &&
           (ix->special[(uint32_t)id / 64] >> ((uint32_t)id % 64) & 1) == 0;
}

int emb_ngram_index_entry(const emb_ngram_index *ix, const int32_t *ids, int32_t n,
                          uint64_t *bucket) {
    if (n < 2 || n > ix->k || ix->n_buckets == 0)
        return -1;
    for (int32_t i = 0; i < n; i++)
        if (!usable(ix, ids[i]))
            return -1;
    probe p = probe_of(emb_ngram_hash(ix->seed, ids, n), ix->n_buckets, n);
    for (uint64_t steps = 0; steps < ix->n_buckets; steps++) {
        const emb_ngram_bucket *b = &ix->buckets[p.bucket];
        const int i = match(b, &p);
        *bucket = p.bucket;
        if (i >= 0)
            return i;
        if ((b->overflow & p.selector) == 0)
            break;
        p.bucket = next_bucket(p.bucket, ix->n_buckets);
    }
    return -1;
}

uint32_t emb_ngram_index_find(const emb_ngram_index *ix, const int32_t *ids, int32_t n) {
    uint64_t bucket;
    const int entry = emb_ngram_index_entry(ix, ids, n, &bucket);
    return entry < 0 ? EMB_NGRAM_NO_ROW : ix->buckets[bucket].row[entry];
}

/* One position on its way through shorter to longer suffixes. */
typedef struct lane {
    uint64_t h;
    probe p;
    uint32_t position;
    uint32_t start; /* first position its n-grams may reach: text start or after a special token */
    int32_t length; /* of the suffix being probed */
    uint32_t steps; /* overflow hops, bounded so that a corrupt index cannot loop */
} lane;

static void aim(const emb_ngram_index *ix, lane *l, int32_t id) {
    l->h = emb_ngram_hash_step(l->h, id);
    l->length++;
    l->steps = 0;
    l->p = probe_of(l->h, ix->n_buckets, l->length);
    __builtin_prefetch(&ix->buckets[l->p.bucket]);
}

/* Look at the bucket that has arrived; 1 if the lane goes on. */
static int advance(const emb_ngram_index *ix, lane *l, const int32_t *ids, uint32_t *rows,
                   uint8_t *lengths) {
    const emb_ngram_bucket *b = &ix->buckets[l->p.bucket];
    const int i = match(b, &l->p);
    if (i < 0) {
        if ((b->overflow & l->p.selector) == 0 || ++l->steps >= ix->n_buckets)
            return 0;
        l->p.bucket = next_bucket(l->p.bucket, ix->n_buckets);
        __builtin_prefetch(&ix->buckets[l->p.bucket]);
        return 1;
    }
    if (b->row[i] != EMB_NGRAM_NO_ROW) {
        rows[l->position] = b->row[i];
        lengths[l->position] = (uint8_t)l->length;
    }
    if ((b->meta[i] & EMB_NGRAM_META_EXTENDABLE) == 0 || l->length == ix->k ||
        l->position - l->start < (uint32_t)l->length)
        return 0;
    aim(ix, l, ids[l->position - (uint32_t)l->length]);
    return 1;
}

void emb_ngram_index_lookup(const emb_ngram_index *ix, const int32_t *ids, const int32_t *offsets,
                            size_t texts, uint32_t *rows, uint8_t *lengths) {
    lane lanes[LANES];
    size_t active = 0;
    uint32_t position = 0, start = 0;
    size_t text = 0;
    const uint32_t total = texts > 0 ? (uint32_t)offsets[texts] : 0;
    for (uint32_t i = 0; i < total; i++)
        rows[i] = EMB_NGRAM_NO_ROW;
    if (total > 0)
        memset(lengths, 0, total);
    if (ix->n_buckets == 0)
        return;
    while (position < total || active > 0) {
        while (active < LANES && position < total) {
            while (text < texts && position >= (uint32_t)offsets[text])
                start = (uint32_t)offsets[text++];
            /* `start` also moves past special tokens, which end the history */
            const uint32_t i = position++;
            if (!usable(ix, ids[i])) {
                start = i + 1;
                continue;
            }
            if (i == start)
                continue;
            lane *l = &lanes[active++];
            *l = (lane){.h = emb_ngram_hash_step(ix->seed, ids[i]),
                        .position = i,
                        .start = start,
                        .length = 1};
            aim(ix, l, ids[i - 1]);
        }
        for (size_t j = 0; j < active;) {
            if (advance(ix, &lanes[j], ids, rows, lengths))
                j++;
            else
                lanes[j] = lanes[--active];
        }
    }
}

embed_status emb_ngram_index_buckets(uint64_t keys, double load, uint64_t *n_buckets) {
    if (!(load > 0 && load <= 0.9))
        return emb_fail(EMBED_ERR_ARG, "index load: expected above 0 and up to 0.9, found %g",
                        load);
    const double buckets = (double)keys / (load * EMB_NGRAM_BUCKET_ENTRIES) + 1;
    if (buckets > (double)(UINT64_C(1) << 40))
        return emb_fail(EMBED_ERR_ARG, "index: %llu keys are too many", (unsigned long long)keys);
    *n_buckets = (uint64_t)buckets;
    return EMBED_OK;
}

/* ------------------------------------------------------------------------------------ filling */

/* Find the probe's entry or a free place for it. Returns the entry number in *bucket, or -1 if the
 * table is full; *found tells which. Overflow flags are set on the way only when `insert`. */
static int locate(emb_ngram_bucket *buckets, uint64_t n_buckets, const probe *p, int insert,
                  uint64_t *bucket, int *found) {
    uint64_t at = p->bucket;
    for (uint64_t steps = 0; steps < n_buckets; steps++, at = next_bucket(at, n_buckets)) {
        emb_ngram_bucket *b = &buckets[at];
        const int i = match(b, p);
        *bucket = at;
        *found = i >= 0;
        if (i >= 0)
            return i;
        if (b->overflow & p->selector)
            continue;
        for (int e = 0; e < EMB_NGRAM_BUCKET_ENTRIES; e++)
            if ((b->meta[e] & EMB_NGRAM_META_USED) == 0)
                return e;
        if (!insert)
            return -1;
        b->overflow |= p->selector;
    }
    return -1;
}

static void put(emb_ngram_bucket *b, int e, const probe *p, uint32_t row, unsigned extendable) {
    b->fingerprint[e] = p->fingerprint;
    b->row[e] = row;
    b->meta[e] = (uint8_t)(p->meta | extendable);
}

#define GROUP 32 /* insertions in flight */

static probe suffix_probe(const emb_ngram_filler *f, const emb_ngram_fgram *g, int32_t suffix) {
    uint64_t h = f->seed;
    for (int32_t i = 0; i < suffix; i++)
        h = emb_ngram_hash_step(h, (int32_t)g->ids[g->length - 1 - i]);
    return probe_of(h, f->n_buckets, suffix);
}

static embed_status full(const emb_ngram_filler *f) {
    return emb_fail(EMBED_ERR_CAPACITY, "index: %llu buckets are full",
                    (unsigned long long)f->n_buckets);
}

static embed_status insert_key(emb_ngram_filler *f, const emb_ngram_fgram *g, const probe *p,
                               uint32_t row) {
    uint64_t at;
    int found;
    const int e = locate(f->buckets, f->n_buckets, p, 1, &at, &found);
    if (e < 0)
        return full(f);
    if (found) {
        emb_ngram_fgram other;
        f->same[0] = f->buckets[at].row[e];
        f->same[1] = row;
        const embed_status st = f->recall(f->user, f->same[0], &other);
        if (st != EMBED_OK)
            return st;
        if (other.length == g->length && memcmp(other.ids, g->ids, sizeof g->ids) == 0)
            return emb_fail(EMBED_ERR_FORMAT, "f-grams: rows %u and %u are the same n-gram",
                            f->same[0], row);
        f->clash = 1;
        return EMBED_OK;
    }
    put(&f->buckets[at], e, p, row, 0);
    f->keys++;
    return EMBED_OK;
}

/* The first `n` n-grams' probes for their suffixes of length - shorter, on their way into cache. */
static void aim_group(const emb_ngram_filler *f, const emb_ngram_fgram *g, size_t n,
                      int32_t shorter, probe *probes) {
    for (size_t i = 0; i < n && i < GROUP; i++) {
        if (g[i].length < 2 + shorter)
            continue;
        probes[i] = suffix_probe(f, &g[i], g[i].length - shorter);
        __builtin_prefetch(&f->buckets[probes[i].bucket], 1);
    }
}

embed_status emb_ngram_filler_add(emb_ngram_filler *f, const emb_ngram_fgram *grams, uint32_t first,
                                  size_t n) {
    probe probes[2][GROUP];
    aim_group(f, grams, n, 0, probes[0]);
    for (size_t i = 0; i < n && !f->clash; i++) {
        if (i % GROUP == 0 && n - i > GROUP)
            aim_group(f, grams + i + GROUP, n - i - GROUP, 0, probes[(i / GROUP + 1) % 2]);
        const embed_status st =
            insert_key(f, &grams[i], &probes[i / GROUP % 2][i % GROUP], first + (uint32_t)i);
        if (st != EMBED_OK)
            return st;
    }
    return EMBED_OK;
}

/* Mark every proper suffix as extendable, adding those that are missing. */
static embed_status link_suffixes(emb_ngram_filler *f, const emb_ngram_fgram *g, probe p) {
    for (int32_t n = g->length - 1;;) {
        uint64_t at;
        int found;
        const int e = locate(f->buckets, f->n_buckets, &p, 1, &at, &found);
        if (e < 0)
            return full(f);
        emb_ngram_bucket *b = &f->buckets[at];
        if (found && (b->meta[e] & EMB_NGRAM_META_EXTENDABLE))
            return EMBED_OK; /* whoever set it went on to the shorter ones */
        if (!found) {
            put(b, e, &p, EMB_NGRAM_NO_ROW, EMB_NGRAM_META_EXTENDABLE);
            f->keys++;
        } else
            b->meta[e] |= EMB_NGRAM_META_EXTENDABLE;
        if (--n < 2)
            return EMBED_OK;
        p = suffix_probe(f, g, n);
    }
}

embed_status emb_ngram_filler_link(emb_ngram_filler *f, const emb_ngram_fgram *grams, size_t n) {
    probe probes[2][GROUP];
    embed_status st = EMBED_OK;
    aim_group(f, grams, n, 1, probes[0]);
    for (size_t i = 0; i < n && st == EMBED_OK; i++) {
        if (i % GROUP == 0 && n - i > GROUP)
            aim_group(f, grams + i + GROUP, n - i - GROUP, 1, probes[(i / GROUP + 1) % 2]);
        if (grams[i].length > 2)
            st = link_suffixes(f, &grams[i], probes[i / GROUP % 2][i % GROUP]);
    }
    return st;
}

typedef struct arrays {
    const uint32_t (*ids)[EMB_NGRAM_MAX_K];
    const uint8_t *lengths;
} arrays;

static embed_status recall_from_arrays(void *user, uint32_t row, emb_ngram_fgram *out) {
    const arrays *a = user;
    *out = (emb_ngram_fgram){.length = a->lengths[row]};
    memcpy(out->ids, a->ids[row], out->length * sizeof out->ids[0]);
    return EMBED_OK;
}

embed_status emb_ngram_index_fill(emb_ngram_bucket *buckets, uint64_t n_buckets, uint64_t seed,
                                  const uint32_t (*ids)[EMB_NGRAM_MAX_K], const uint8_t *lengths,
                                  uint32_t n, uint64_t *keys, int *clash) {
    arrays a = {ids, lengths};
    emb_ngram_filler f = {.buckets = buckets,
                          .n_buckets = n_buckets,
                          .seed = seed,
                          .recall = recall_from_arrays,
                          .user = &a};
    emb_ngram_fgram piece[GROUP];
    embed_status st = EMBED_OK;
    for (int pass = 0; pass < 2; pass++)
        for (uint32_t row = 0; row < n && st == EMBED_OK && !f.clash; row += GROUP) {
            const uint32_t here = n - row < GROUP ? n - row : GROUP;
            for (uint32_t i = 0; i < here; i++)
                (void)recall_from_arrays(&a, row + i, &piece[i]);
            st = pass == 0 ? emb_ngram_filler_add(&f, piece, row, here)
                           : emb_ngram_filler_link(&f, piece, here);
        }
    *keys = f.keys;
    *clash = f.clash;
    return st;
}
