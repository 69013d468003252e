#define _DEFAULT_SOURCE /* madvise */
#include "ngram/key_tally.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define FIRST_SLOTS ((uint64_t)1024)
#define SAMPLE 255 /* keys that a cut of the range is chosen from */
#define HUGE_PAGE ((size_t)2 << 20)

typedef emb_ngram_tally_slot slot;

/* At most 3 slots of 4 are used. */
static uint64_t room_of(uint64_t size) {
    return size - size / 4;
}

static uint64_t slot_bytes(const emb_ngram_tally *t) { /* with what goes with it, rounded up */
    return sizeof(slot) + sizeof(uint32_t) + (t->with_docs ? sizeof(emb_ngram_tally_docs) : 0);
}

static uint64_t home_of(uint64_t hash, uint64_t size) {
    return (uint64_t)((unsigned __int128)hash * size >> 64);
}

/* Slots are visited at random: fewer, larger pages where the system has them. */
static void prefer_huge_pages(void *block, size_t bytes) {
    const size_t start = emb_round_up((size_t)(uintptr_t)block, HUGE_PAGE);
    const size_t end = ((size_t)(uintptr_t)block + bytes) / HUGE_PAGE * HUGE_PAGE;
    if (end > start)
        (void)madvise((void *)(uintptr_t)start, end - start, MADV_HUGEPAGE);
}

static embed_status new_slots(const emb_env *env, uint64_t size, slot **out) {
    size_t bytes;
    embed_status st = emb_mul((size_t)size, sizeof(slot), "n-gram counts", &bytes);
    if (st == EMBED_OK)
        st = emb_alloc(env, bytes, (void **)out);
    if (st != EMBED_OK)
        return st;
    prefer_huge_pages(*out, bytes);
    memset(*out, 0, bytes);
    return EMBED_OK;
}

/* The blocks by id, for `size` slots. Only document counts outlive the call. */
static embed_status size_id_blocks(emb_ngram_tally *t, uint64_t size) {
    const size_t n = (size_t)room_of(size);
    embed_status st = EMBED_OK;
    emb_free(t->env, t->ids); /* no id is free before the first cut, and nothing grows after it */
    t->ids = NULL;
    EMB_TRY(emb_new_array(t->env, n, sizeof *t->ids, (void **)&t->ids));
    if (t->with_docs) {
        size_t bytes;
        EMB_TRY(emb_mul(n, sizeof *t->docs, "n-gram documents", &bytes));
        EMB_TRY(emb_realloc(t->env, bytes, (void **)&t->docs));
    }
fail:
    return st;
}

embed_status emb_ngram_tally_init(emb_ngram_tally *t, const emb_env *env, uint64_t max_bytes,
                                  uint32_t max_id, int with_docs) {
    embed_status st = EMBED_OK;
    *t = (emb_ngram_tally){.env = env, .max_id = max_id, .with_docs = with_docs};
    t->max_bytes =
        max_bytes < EMB_NGRAM_TALLY_LEAST_BYTES ? EMB_NGRAM_TALLY_LEAST_BYTES : max_bytes;
    EMB_TRY(size_id_blocks(t, FIRST_SLOTS));
    EMB_TRY(new_slots(env, FIRST_SLOTS, &t->slots));
    t->size = FIRST_SLOTS;
    t->room = room_of(FIRST_SLOTS) < max_id ? room_of(FIRST_SLOTS) : max_id;
    return EMBED_OK;
fail:
    emb_ngram_tally_clear(t);
    return st;
}

void emb_ngram_tally_clear(emb_ngram_tally *t) {
    if (t->env == NULL)
        return;
    emb_free(t->env, t->slots);
    emb_free(t->env, t->ids);
    emb_free(t->env, t->docs);
    emb_free(t->env, t->wraps);
    *t = (emb_ngram_tally){0};
}

void emb_ngram_tally_reset(emb_ngram_tally *t) {
    memset(t->slots, 0, (size_t)t->size * sizeof *t->slots);
    t->used = 0;
    t->next_id = t->free_ids = 0;
    t->n_wraps = 0;
}

/* ------------------------------------------------------------------------------ growing, cutting
 */

static uint64_t next_slot(const emb_ngram_tally *t, uint64_t i) {
    return i + 1 < t->size ? i + 1 : 0;
}

/* The next size, with old and new slots in memory at once; 0 if there is none worth it. */
static uint64_t larger_size(const emb_ngram_tally *t) {
    const uint64_t per = slot_bytes(t), now = t->size;
    if (t->free_ids > 0 || room_of(now) >= t->max_id)
        return 0;
    if (now * 6 * per <= t->max_bytes)
        return now * 2; /* and it can double once more after that */
    const uint64_t last = t->max_bytes / per > now ? t->max_bytes / per - now : 0;
    return last > now + now / 4 ? last : 0;
}

static embed_status grow(emb_ngram_tally *t, uint64_t size) {
    slot *old = t->slots;
    const uint64_t old_size = t->size;
    slot *bigger;
    embed_status st = new_slots(t->env, size, &bigger);
    if (st != EMBED_OK)
        return st;
    if ((st = size_id_blocks(t, size)) != EMBED_OK) {
        emb_free(t->env, bigger);
        return st;
    }
    t->slots = bigger;
    t->size = size;
    t->room = room_of(size) < t->max_id ? room_of(size) : t->max_id;
    for (uint64_t i = 0; i < old_size; i++) {
        if (old[i].key == 0)
            continue;
        uint64_t at = home_of(emb_ngram_tally_hash(~old[i].key), size);
        while (bigger[at].key != 0)
            at = next_slot(t, at);
        bigger[at] = old[i];
    }
    emb_free(t->env, old);
    return EMBED_OK;
}

static void forget_wraps(emb_ngram_tally *t, uint32_t id) {
    size_t kept = 0;
    for (size_t i = 0; i < t->n_wraps; i++)
        if (t->wraps[i] != id)
            t->wraps[kept++] = t->wraps[i];
    t->n_wraps = kept;
}

/* Empty slot i and move those after it that were pushed on by it (Knuth, TAOCP 3, 6.4 R). */
static void remove_slot(emb_ngram_tally *t, uint64_t i) {
    t->ids[t->free_ids++] = t->slots[i].id;
    if (t->n_wraps > 0)
        forget_wraps(t, t->slots[i].id);
    t->used--;
    for (uint64_t j = next_slot(t, i); t->slots[j].key != 0; j = next_slot(t, j)) {
        const uint64_t home = home_of(emb_ngram_tally_hash(~t->slots[j].key), t->size);
        if (i <= j ? i < home && home <= j : i < home || home <= j)
            continue; /* it is at home, or between the hole and itself */
        t->slots[i] = t->slots[j];
        i = j;
    }
    t->slots[i] = (slot){0};
}

static int by_key(const void *a, const void *b) {
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void drop_from(emb_ngram_tally *t, uint64_t end) {
    for (uint64_t i = 0; i < t->size; i++)
        while (t->slots[i].key != 0 && ~t->slots[i].key >= end)
            remove_slot(t, i);
}

/* Give up the upper half of the keys, judged by a sample; or less if another thread has lowered the
 * end meanwhile and that is enough. */
static void cut(emb_ngram_tally *t, uint64_t *end) {
    uint64_t sample[SAMPLE];
    drop_from(t, *end);
    if (t->used <= t->room / 4 * 3)
        return;
    size_t n = 0;
    const uint64_t step = t->size / SAMPLE > 0 ? t->size / SAMPLE : 1;
    for (uint64_t first = 0; n < SAMPLE && first < step; first++)
        for (uint64_t i = first; n < SAMPLE && i < t->size; i += step)
            if (t->slots[i].key != 0)
                sample[n++] = ~t->slots[i].key;
    if (n > 1) {
        qsort(sample, n, sizeof *sample, by_key);
        *end = sample[n / 2];
    }
    drop_from(t, *end);
}

embed_status emb_ngram_tally_reserve(emb_ngram_tally *t, uint64_t *end) {
    while (t->used + EMB_NGRAM_TALLY_BATCH > t->room) {
        const uint64_t size = larger_size(t);
        if (size == 0) {
            cut(t, end);
            continue;
        }
        const embed_status st = grow(t, size);
        if (st != EMBED_OK)
            return st;
    }
    return EMBED_OK;
}

/* -------------------------------------------------------------------------------------- counting
 */

static embed_status note_wrap(emb_ngram_tally *t, uint32_t id) {
    const embed_status st =
        emb_grow(t->env, (void **)&t->wraps, &t->wraps_capacity, t->n_wraps + 1, sizeof *t->wraps);
    if (st == EMBED_OK)
        t->wraps[t->n_wraps++] = id;
    return st;
}

static uint32_t insert(emb_ngram_tally *t, slot *at, uint64_t key) {
    const uint32_t id = t->free_ids > 0 ? t->ids[--t->free_ids] : t->next_id++;
    *at = (slot){key, 1, id};
    t->used++;
    if (t->docs != NULL)
        t->docs[id] = (emb_ngram_tally_docs){0, 0};
    return id;
}

static void add_documents(emb_ngram_tally *t, const uint32_t *documents, const uint32_t *ids,
                          size_t n) {
    for (size_t i = 0; i < n; i++)
        __builtin_prefetch(&t->docs[ids[i]], 1);
    for (size_t i = 0; i < n; i++) {
        emb_ngram_tally_docs *d = &t->docs[ids[i]];
        d->n += d->last != documents[i] + 1;
        d->last = documents[i] + 1;
    }
}

embed_status emb_ngram_tally_add(emb_ngram_tally *t, const uint64_t *keys, const uint64_t *hashes,
                                 const uint32_t *documents, size_t n, uint32_t *ids) {
    slot *const slots = t->slots;
    slot *const last = slots + t->size - 1;
    uint64_t homes[EMB_NGRAM_TALLY_BATCH];
    for (size_t i = 0; i < n; i++) {
        homes[i] = home_of(hashes[i], t->size);
        __builtin_prefetch(&slots[homes[i]], 1);
    }
    for (size_t i = 0; i < n; i++) {
        const uint64_t key = ~keys[i];
        slot *at = &slots[homes[i]];
        while (at->key != key && at->key != 0)
            at = at < last ? at + 1 : slots;
        if (at->key == 0) {
            ids[i] = insert(t, at, key);
            continue;
        }
        ids[i] = at->id;
        if (++at->count == 0) {
            const embed_status st = note_wrap(t, at->id);
            if (st != EMBED_OK)
                return st;
        }
    }
    if (t->docs != NULL)
        add_documents(t, documents, ids, n);
    return EMBED_OK;
}

/* -------------------------------------------------------------------------------------- survivors
 */

static void swap(slot *a, slot *b) {
    const slot c = *a;
    *a = *b;
    *b = c;
}

static void sift(slot *s, uint64_t i, uint64_t n) {
    for (uint64_t child; (child = 2 * i + 1) < n; i = child) {
        child += child + 1 < n && s[child].key < s[child + 1].key;
        if (s[i].key >= s[child].key)
            return;
        swap(&s[i], &s[child]);
    }
}

static void heap_sort(slot *s, uint64_t n) {
    for (uint64_t i = n / 2; i-- > 0;)
        sift(s, i, n);
    while (n > 1) {
        swap(&s[0], &s[--n]);
        sift(s, 0, n);
    }
}

/* In place, keys all different: quicksort with the median of three, insertion at the end, heap sort
 * where it does badly (introsort, Musser 1997). */
static void sort_slots(slot *s, uint64_t n, int depth) {
    while (n > 16) {
        if (depth-- == 0) {
            heap_sort(s, n);
            return;
        }
        const uint64_t a = s[0].key, b = s[n / 2].key, c = s[n - 1].key;
        const uint64_t pivot = a < b ? (b < c ? b : a < c ? c : a) : (a < c ? a : b < c ? c : b);
        uint64_t i = 0, j = n - 1;
        for (;; i++, j--) {
            while (s[i].key < pivot)
                i++;
            while (s[j].key > pivot)
                j--;
            if (i >= j)
                break;
            swap(&s[i], &s[j]);
        }
        sort_slots(s, i, depth);
        s += i;
        n -= i;
    }
    for (uint64_t i = 1; i < n; i++)
        for (uint64_t j = i; j > 0 && s[j - 1].key > s[j].key; j--)
            swap(&s[j - 1], &s[j]);
}

static uint64_t whole_count(const emb_ngram_tally *t, const slot *s) {
    uint64_t count = s->count;
    for (size_t i = 0; i < t->n_wraps; i++)
        count += (uint64_t)(t->wraps[i] == s->id) << 32;
    return count;
}

void emb_ngram_tally_finish(emb_ngram_tally *t, uint64_t end, uint64_t min_count,
                            uint64_t min_documents, uint64_t *n) {
    uint64_t kept = 0;
    for (uint64_t i = 0; i < t->size; i++) {
        const slot *s = &t->slots[i];
        if (s->key == 0 || ~s->key >= end || whole_count(t, s) < min_count ||
            (t->docs != NULL && t->docs[s->id].n < min_documents))
            continue;
        t->slots[kept++] = (slot){~s->key, s->count, s->id};
    }
    int depth = 2;
    for (uint64_t m = kept; m > 0; m /= 2)
        depth += 2;
    sort_slots(t->slots, kept, depth);
    memset(t->ids, 0xff, t->next_id * sizeof *t->ids);
    *n = kept;
}

emb_ngram_tally_entry emb_ngram_tally_get(const emb_ngram_tally *t, uint64_t i) {
    const slot *s = &t->slots[i];
    return (emb_ngram_tally_entry){s->key, whole_count(t, s),
                                   t->docs != NULL ? t->docs[s->id].n : 0, s->id};
}
