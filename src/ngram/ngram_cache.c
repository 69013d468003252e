#define _DEFAULT_SOURCE
#include "ngram/ngram_cache.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#define WAYS 8
#define MAX_LOCKS 256

/* The places of a set. row is the number + 1, 0 for an empty place. */
typedef struct cache_set {
    uint32_t row[WAYS];
    uint8_t used[WAYS]; /* since the hand last came by */
    uint8_t hand;
} cache_set;

struct emb_ngram_cache {
    emb_env env;
    size_t row_bytes; /* header, vector, rounded up to cache lines */
    size_t vector_bytes;
    uint64_t sets, ways, n_locks;
    cache_set *set;
    unsigned char *rows; /* [sets, ways, row_bytes], a private mapping */
    size_t map_bytes;
    pthread_mutex_t *locks;
    _Atomic uint64_t filled;
};

embed_status emb_ngram_cache_create(emb_ngram_cache **out, const emb_env *env, uint64_t bytes,
                                    size_t vector_bytes) {
    embed_status st = EMBED_OK;
    emb_ngram_cache *c = NULL;
    const size_t row = emb_round_up(sizeof(emb_ngram_row_header) + vector_bytes, EMB_ALIGN);
    const uint64_t places = bytes / (row + sizeof(cache_set) / WAYS);
    *out = NULL;
    if (places == 0)
        return EMBED_OK;
    EMB_TRY(emb_new(env, sizeof *c, (void **)&c));
    c->env = *env;
    c->row_bytes = row;
    c->vector_bytes = vector_bytes;
    c->ways = places < WAYS ? places : WAYS;
    c->sets = places / c->ways;
    const uint64_t locks = c->sets < MAX_LOCKS ? c->sets : MAX_LOCKS;
    EMB_TRY(emb_mul(c->sets * c->ways, row, "row cache", &c->map_bytes));
    EMB_TRY(emb_new_array(env, c->sets, sizeof *c->set, (void **)&c->set));
    EMB_TRY(emb_new_array(env, locks, sizeof *c->locks, (void **)&c->locks));
    for (; c->n_locks < locks; c->n_locks++)
        (void)pthread_mutex_init(&c->locks[c->n_locks], NULL);
    void *map = mmap(NULL, c->map_bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) {
        st = emb_fail(EMBED_ERR_NOMEM, "row cache: no room for %zu bytes", c->map_bytes);
        goto fail;
    }
    c->rows = map;
    *out = c;
    return EMBED_OK;
fail:
    emb_ngram_cache_free(c);
    return st;
}

void emb_ngram_cache_free(emb_ngram_cache *c) {
    if (c == NULL)
        return;
    const emb_env env = c->env;
    if (c->rows != NULL)
        (void)munmap(c->rows, c->map_bytes);
    for (uint64_t i = 0; i < c->n_locks; i++)
        (void)pthread_mutex_destroy(&c->locks[i]);
    emb_free(&env, c->locks);
    emb_free(&env, c->set);
    emb_free(&env, c);
}

/* Rows that are neighbours are hot together: spread them. */
static uint64_t set_of(const emb_ngram_cache *c, uint32_t row) {
    const uint64_t h = (row + UINT64_C(1)) * 0x9fb21c651e98df25u;
    return (uint64_t)((unsigned __int128)(h ^ h << 32) * c->sets >> 64);
}

static unsigned char *place(const emb_ngram_cache *c, uint64_t set, uint64_t way) {
    return c->rows + (set * c->ways + way) * c->row_bytes;
}

int emb_ngram_cache_get(emb_ngram_cache *c, uint32_t row, emb_ngram_row_header *header,
                        void *vector) {
    const uint64_t at = set_of(c, row);
    cache_set *s = &c->set[at];
    pthread_mutex_t *lock = &c->locks[at % c->n_locks];
    int found = 0;
    (void)pthread_mutex_lock(lock);
    for (uint64_t w = 0; w < c->ways && !found; w++)
        if (s->row[w] == row + 1) {
            const unsigned char *bytes = place(c, at, w);
            s->used[w] = 1;
            memcpy(header, bytes, sizeof *header);
            memcpy(vector, bytes + sizeof *header, c->vector_bytes);
            found = 1;
        }
    (void)pthread_mutex_unlock(lock);
    return found;
}

/* An empty place, or the first that the hand finds unused. */
static uint64_t victim(emb_ngram_cache *c, cache_set *s) {
    for (uint64_t w = 0; w < c->ways; w++)
        if (s->row[w] == 0) {
            atomic_fetch_add_explicit(&c->filled, 1, memory_order_relaxed);
            return w;
        }
    for (;;) {
        const uint64_t w = s->hand;
        s->hand = (uint8_t)((w + 1) % c->ways);
        if (!s->used[w])
            return w;
        s->used[w] = 0;
    }
}

void emb_ngram_cache_put(emb_ngram_cache *c, uint32_t row, const emb_ngram_row_header *header,
                         const void *vector) {
    const uint64_t at = set_of(c, row);
    cache_set *s = &c->set[at];
    pthread_mutex_t *lock = &c->locks[at % c->n_locks];
    int there = 0;
    (void)pthread_mutex_lock(lock);
    for (uint64_t w = 0; w < c->ways; w++)
        there |= s->row[w] == row + 1; /* another thread was faster */
    if (!there) {
        const uint64_t w = victim(c, s);
        unsigned char *bytes = place(c, at, w);
        memcpy(bytes, header, sizeof *header);
        memcpy(bytes + sizeof *header, vector, c->vector_bytes);
        s->row[w] = row + 1;
        s->used[w] = 0; /* earns its second round by a second use */
    }
    (void)pthread_mutex_unlock(lock);
}

uint64_t emb_ngram_cache_rows(const emb_ngram_cache *c) {
    return c == NULL ? 0 : c->sets * c->ways;
}

uint64_t emb_ngram_cache_bytes(const emb_ngram_cache *c) {
    return c == NULL ? 0 : atomic_load_explicit(&c->filled, memory_order_relaxed) * c->row_bytes;
}
