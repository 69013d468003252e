#define _POSIX_C_SOURCE 200809L
#include "ngram/ngram_fetch.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "io/file.h"
#include "ngram/ngram_cache.h"
#include "ngram/ngram_crypt.h"
#include "ngram/ngram_parts.h"
#include "ngram/ngram_rowset.h"

#define HEADER EMB_NGRAM_FILE_HEADER_BYTES

struct emb_ngram_fetcher {
    emb_env env;
    embed_table *table;
    emb_ngram_rowset set;
    emb_ngram_rowset single;       /* one row, for a shorter match in the place of a foreign row */
    size_t stride;                 /* floats from one vector to the next */
    float *vectors;                /* [capacity, stride] */
    emb_ngram_row_header *headers; /* [capacity] */
    size_t capacity, used;
    unsigned char *block; /* one block, read or decrypted */
};

static uint64_t now_ns(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

embed_status emb_ngram_fetcher_create(emb_ngram_fetcher **out, const emb_env *env, embed_table *t,
                                      size_t max_positions) {
    embed_status st = EMBED_OK;
    emb_ngram_fetcher *f = NULL;
    *out = NULL;
    EMB_TRY(emb_new(env, sizeof *f, (void **)&f));
    f->env = *env;
    f->table = t;
    f->stride = emb_round_up((size_t)t->manifest.layout.width, 16);
    emb_ngram_rowset_init(&f->set, env);
    emb_ngram_rowset_init(&f->single, env);
    EMB_TRY(emb_ngram_rowset_reserve(&f->set, max_positions));
    EMB_TRY(emb_alloc(env, t->manifest.layout.block_bytes, (void **)&f->block));
    *out = f;
    return EMBED_OK;
fail:
    emb_ngram_fetcher_free(f);
    return st;
}

void emb_ngram_fetcher_free(emb_ngram_fetcher *f) {
    if (f == NULL)
        return;
    const emb_env env = f->env;
    emb_ngram_rowset_clear(&f->set);
    emb_ngram_rowset_clear(&f->single);
    emb_free(&env, f->vectors);
    emb_free(&env, f->headers);
    emb_free(&env, f->block);
    emb_free(&env, f);
}

/* ------------------------------------------------------------------------------ bringing rows */

static const emb_ngram_part *part_of(const embed_table *t, uint32_t row) {
    int32_t low = 0, high = t->n_parts - 1;
    while (low < high) {
        const int32_t middle = (low + high + 1) / 2;
        if (t->parts[middle].first_row <= row)
            low = middle;
        else
            high = middle - 1;
    }
    return &t->parts[low];
}

/* The block that holds the row, as it was before encryption. */
static embed_status bring_block(emb_ngram_fetcher *f, const emb_ngram_part *part, uint64_t block,
                                const unsigned char **out, emb_ngram_stats *stats) {
    const embed_table *t = f->table;
    const uint64_t bytes = t->manifest.layout.block_bytes;
    const uint64_t at = HEADER + block * bytes;
    const uint32_t number = (uint32_t)(part - t->parts);
    unsigned char tag[EMB_NGRAM_TAG_BYTES];
    const uint64_t tag_at = HEADER + part->payload_bytes + block * sizeof tag;
    char name[32];
    embed_status st = EMBED_OK;
    emb_ngram_part_name(number, name);
    if (part->map != NULL && t->cipher == NULL) {
        *out = part->map + at;
        return EMBED_OK;
    }
    if (part->map != NULL)
        memcpy(f->block, part->map + at, bytes);
    else
        EMB_TRY(emb_file_read_at(part->fd, name, at, f->block, bytes));
    stats->bytes_read += bytes;
    if (t->cipher != NULL) {
        if (part->map != NULL)
            memcpy(tag, part->map + tag_at, sizeof tag);
        else
            EMB_TRY(emb_file_read_at(part->fd, name, tag_at, tag, sizeof tag));
        EMB_TRY(
            emb_ngram_cipher_open(t->cipher, number, block, f->block, bytes, f->block, tag, name));
    }
    *out = f->block;
fail:
    return st;
}

static embed_status bring_row(emb_ngram_fetcher *f, uint32_t row, size_t slot,
                              emb_ngram_stats *stats) {
    const embed_table *t = f->table;
    const emb_ngram_layout *l = &t->manifest.layout;
    const emb_ngram_part *part = part_of(t, row);
    const uint64_t local = row - part->first_row;
    const unsigned char *block = NULL;
    const embed_status st = bring_block(f, part, local / l->rows_per_block, &block, stats);
    if (st != EMBED_OK)
        return st;
    const unsigned char *bytes = block + local % l->rows_per_block * l->row_bytes;
    if (emb_ngram_row_check(l, bytes, NULL, 0) != EMB_NGRAM_ROW_GOOD)
        return emb_fail(EMBED_ERR_FORMAT, "%s/rows-%03d.bin: row %" PRIu32 " fails its checksum",
                        t->path, (int)(part - t->parts), row);
    memcpy(&f->headers[slot], bytes, sizeof f->headers[slot]);
    emb_ngram_row_decode(l, bytes, f->vectors + slot * f->stride);
    return EMBED_OK;
}

/* Room for `more` vectors after those in use; vectors already handed out may move. */
static embed_status make_room(emb_ngram_fetcher *f, size_t more) {
    embed_status st = EMBED_OK;
    size_t need, floats;
    EMB_TRY(emb_add(f->used, more, "rows of a batch", &need));
    if (need <= f->capacity)
        return EMBED_OK;
    EMB_TRY(emb_mul(need, f->stride * sizeof(float), "rows of a batch", &floats));
    EMB_TRY(emb_realloc(&f->env, floats, (void **)&f->vectors));
    EMB_TRY(emb_realloc(&f->env, need * sizeof *f->headers, (void **)&f->headers));
    f->capacity = need;
fail:
    return st;
}

static embed_status bring_set(emb_ngram_fetcher *f, emb_ngram_rowset *set, emb_ngram_stats *stats) {
    embed_status st = EMBED_OK;
    embed_table *t = f->table;
    EMB_TRY(make_room(f, set->n));
    stats->distinct_rows += set->n;
    for (size_t i = 0; i < set->n; i++) {
        const size_t slot = f->used + i;
        float *vector = f->vectors + slot * f->stride;
        if (t->cache != NULL &&
            emb_ngram_cache_get(t->cache, set->rows[i], &f->headers[slot], vector)) {
            stats->cache_hits++;
            continue;
        }
        EMB_TRY(bring_row(f, set->rows[i], slot, stats));
        if (t->cache != NULL)
            emb_ngram_cache_put(t->cache, set->rows[i], &f->headers[slot], vector);
    }
    f->used += set->n;
fail:
    return st;
}

/* ---------------------------------------------------------------------------------- fetching */

static int is_row_of(const emb_ngram_row_header *h, const int32_t *last, int32_t length) {
    return h->length == length &&
           memcmp(h->ids, last - length + 1, (size_t)length * sizeof *last) == 0;
}

/* The longest match below `length` whose row is its own. */
static embed_status fall_back(emb_ngram_fetcher *f, const int32_t *last, int32_t length,
                              uint32_t *slot, int32_t *found, emb_ngram_stats *stats) {
    *slot = EMB_NGRAM_NO_SLOT;
    *found = 0;
    for (int32_t n = length - 1; n >= 2; n--) {
        const uint32_t row = emb_ngram_index_find(&f->table->index, last - n + 1, n);
        if (row == EMB_NGRAM_NO_ROW)
            continue;
        embed_status st = emb_ngram_rowset_take(&f->single, f->table, &row, 1);
        if (st == EMBED_OK)
            st = bring_set(f, &f->single, stats);
        if (st != EMBED_OK)
            return st;
        if (is_row_of(&f->headers[f->used - 1], last, n)) {
            *slot = (uint32_t)(f->used - 1);
            *found = n;
            return EMBED_OK;
        }
        stats->foreign_rows++;
    }
    return EMBED_OK;
}

/* Each position's row must be of its own n-gram. */
static embed_status check_owners(emb_ngram_fetcher *f, const int32_t *ids, emb_ngram_stats *stats) {
    emb_ngram_rowset *set = &f->set;
    for (size_t i = 0; i < set->positions; i++) {
        int32_t length = set->lengths[i];
        if (set->slots[i] != EMB_NGRAM_NO_SLOT &&
            !is_row_of(&f->headers[set->slots[i]], ids + i, length)) {
            stats->foreign_rows++;
            const embed_status st = fall_back(f, ids + i, length, &set->slots[i], &length, stats);
            if (st != EMBED_OK)
                return st;
        }
        stats->hits[length]++;
    }
    return EMBED_OK;
}

static void count(emb_ngram_fetcher *f, emb_ngram_stats *here, uint64_t start,
                  emb_ngram_stats *stats) {
    here->fetch_ns = now_ns() - start;
    emb_ngram_table_count(f->table, here);
    if (stats != NULL)
        emb_ngram_stats_add(stats, here);
}

embed_status emb_ngram_fetch(emb_ngram_fetcher *f, const int32_t *ids, const int32_t *offsets,
                             size_t texts, const float **rows, emb_ngram_stats *stats) {
    embed_status st = EMBED_OK;
    emb_ngram_stats here = {0};
    const uint64_t start = now_ns();
    f->used = 0;
    EMB_TRY(emb_ngram_rowset_lookup(&f->set, f->table, ids, offsets, texts));
    here.positions = f->set.positions;
    EMB_TRY(bring_set(f, &f->set, &here));
    EMB_TRY(check_owners(f, ids, &here));
    for (size_t i = 0; i < f->set.positions; i++)
        rows[i] = f->set.slots[i] == EMB_NGRAM_NO_SLOT
                      ? NULL
                      : f->vectors + (size_t)f->set.slots[i] * f->stride;
    count(f, &here, start, stats);
fail:
    return st;
}

embed_status emb_ngram_fetch_rows(emb_ngram_fetcher *f, const uint32_t *rows, size_t n,
                                  const float **vectors, const emb_ngram_row_header **headers,
                                  emb_ngram_stats *stats) {
    embed_status st = EMBED_OK;
    emb_ngram_stats here = {0};
    const uint64_t start = now_ns();
    f->used = 0;
    EMB_TRY(emb_ngram_rowset_take(&f->set, f->table, rows, n));
    EMB_TRY(bring_set(f, &f->set, &here));
    for (size_t i = 0; i < n; i++) {
        const uint32_t slot = f->set.slots[i];
        if (vectors != NULL)
            vectors[i] = slot == EMB_NGRAM_NO_SLOT ? NULL : f->vectors + (size_t)slot * f->stride;
        if (headers != NULL)
            headers[i] = slot == EMB_NGRAM_NO_SLOT ? NULL : &f->headers[slot];
    }
    count(f, &here, start, stats);
fail:
    return st;
}
