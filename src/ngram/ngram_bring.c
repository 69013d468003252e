#include "ngram/ngram_bring.h"

#include <inttypes.h>
#include <string.h>

#include "kernels/row_decode/row_decode.h"
#include "ngram/ngram_cache.h"
#include "ngram/ngram_crypt.h"
#include "ngram/ngram_index.h"
#include "ngram/ngram_memory.h"
#include "ngram/ngram_parts.h"

#define TOUCH_AHEAD 4 /* rows whose cache lines are asked for while one is decoded */
#define STREAM_BYTES ((size_t)1 << 20) /* batches of so many bytes are written past the caches */
#define DIRECT 4096u                   /* reads start and end at multiples of this */

void emb_ngram_bringer_init(emb_ngram_bringer *b, const emb_env *env, embed_table *t) {
    *b = (emb_ngram_bringer){
        .env = *env,
        .table = t,
        .stride = emb_round_up((size_t)t->manifest.layout.width, 16),
    };
    emb_ngram_advice_init(&b->advice);
}

void emb_ngram_bringer_clear(emb_ngram_bringer *b) {
    if (b->table == NULL)
        return;
    emb_free(&b->env, b->vectors);
    emb_free(&b->env, b->headers);
    emb_free(&b->env, b->places);
    emb_free(&b->env, b->misses);
    emb_free(&b->env, b->spans);
    emb_free(&b->env, b->first_miss);
    emb_free(&b->env, b->block);
    emb_ngram_reader_free(b->reader);
}

static embed_status make_vectors(emb_ngram_bringer *b) {
    embed_status st = EMBED_OK;
    size_t bytes;
    if (b->targets != NULL || b->raw || b->vector_capacity >= b->capacity)
        return EMBED_OK;
    EMB_TRY(emb_mul(b->capacity, b->stride * sizeof(float), "rows of a batch", &bytes));
    EMB_TRY(emb_realloc(&b->env, bytes, (void **)&b->vectors));
    emb_ngram_memory_huge(b->vectors, bytes); /* rows are written all over it */
    b->vector_capacity = b->capacity;
fail:
    return st;
}

embed_status emb_ngram_bringer_reserve(emb_ngram_bringer *b, size_t more) {
    embed_status st = EMBED_OK;
    size_t need;
    EMB_TRY(emb_add(b->used, more, "rows of a batch", &need));
    if (need <= b->capacity)
        return make_vectors(b);
    EMB_TRY(emb_add(need, need / 8 + 16, "rows of a batch", &need)); /* batches differ a little */
    EMB_TRY(emb_realloc(&b->env, need * sizeof *b->headers, (void **)&b->headers));
    EMB_TRY(emb_realloc(&b->env, need * sizeof *b->places, (void **)&b->places));
    EMB_TRY(emb_realloc(&b->env, need * sizeof *b->misses, (void **)&b->misses));
    EMB_TRY(emb_realloc(&b->env, need * sizeof *b->spans, (void **)&b->spans));
    EMB_TRY(emb_realloc(&b->env, need * sizeof *b->first_miss, (void **)&b->first_miss));
    if (b->block == NULL)
        EMB_TRY(emb_alloc(&b->env, b->table->manifest.layout.block_bytes, (void **)&b->block));
    b->capacity = need;
    EMB_TRY(make_vectors(b));
fail:
    return st;
}

/* ------------------------------------------------------------------------------ taking one row */

static float *vector_of(const emb_ngram_bringer *b, size_t slot) {
    return b->targets != NULL ? b->targets[slot] : b->vectors + slot * b->stride;
}

static void put_vector(const emb_ngram_bringer *b, size_t slot, const void *bytes) {
    const emb_ngram_layout *l = &b->table->manifest.layout;
    if (b->raw)
        memcpy(b->targets[slot], bytes, emb_ngram_vector_bytes(l));
    else
        emb_row_decode(b->table->isa, vector_of(b, slot), bytes, l->width, l->dtype,
                       b->headers[slot].scale, b->stream);
}

static embed_status refuse_row(const embed_table *t, uint32_t row, const char *problem) {
    uint32_t part = 0;
    char name[32];
    while (part + 1 < (uint32_t)t->n_parts && t->parts[part + 1].first_row <= row)
        part++;
    emb_ngram_part_name(part, name);
    return emb_fail(EMBED_ERR_FORMAT, "%s/%s: row %" PRIu32 " %s: the file was changed or damaged",
                    t->path, name, row, problem);
}

/* Of a row that is used for the first time. A sound row in the place of another one would be taken
 * for a chance answer of the index, so it is asked for the row's own n-gram. */
static embed_status check_row(const embed_table *t, uint32_t row, const unsigned char *bytes) {
    emb_ngram_row_header h;
    int32_t ids[EMB_NGRAM_MAX_K];
    if (emb_ngram_row_check(&t->manifest.layout, bytes, NULL, 0) != EMB_NGRAM_ROW_GOOD)
        return refuse_row(t, row, "fails its checksum");
    memcpy(&h, bytes, sizeof h);
    memcpy(ids, h.ids, sizeof ids);
    if (h.length < 2 || h.length > t->index.k ||
        emb_ngram_index_find(&t->index, ids, h.length) != row)
        return refuse_row(t, row, "is not found by its own n-gram");
    return EMBED_OK;
}

/* Bytes of a row into its slot. known: they were checked before, in this memory. */
static embed_status take_row(emb_ngram_bringer *b, uint32_t row, size_t slot,
                             const unsigned char *bytes, int known) {
    emb_ngram_row_header *h = &b->headers[slot];
    const embed_status st = known ? EMBED_OK : check_row(b->table, row, bytes);
    if (st != EMBED_OK)
        return st;
    memcpy(h, bytes, sizeof *h);
    put_vector(b, slot, bytes + sizeof *h);
    return EMBED_OK;
}

embed_status emb_ngram_vouch(embed_table *t, uint32_t row, const unsigned char *bytes) {
    if (emb_ngram_is_verified(t, row))
        return EMBED_OK;
    const embed_status st = check_row(t, row, bytes);
    if (st == EMBED_OK)
        emb_ngram_set_verified(t, row);
    return st;
}

/* ------------------------------------------------------------------------------ rows in memory */

static embed_status take_places(emb_ngram_bringer *b, const uint32_t *rows, size_t first) {
    embed_table *t = b->table;
    const size_t bytes = t->manifest.layout.row_bytes, n = b->n_places;
    const int paged = t->mode == EMBED_TABLE_LAZY || t->mode == EMBED_TABLE_POPULATE;
    embed_status st = EMBED_OK;
    if (n == 0)
        return EMBED_OK;
    if (paged)
        emb_ngram_advice_start(&b->advice);
    for (size_t i = 0; i < n && st == EMBED_OK; i++) {
        if (paged && i % EMB_NGRAM_ADVISE_STEP == 0)
            emb_ngram_advice_step(&b->advice, b->places, i, n, bytes);
        if (i + TOUCH_AHEAD < n)
            emb_row_touch(b->places[i + TOUCH_AHEAD].bytes, bytes);
        const size_t slot = b->places[i].slot;
        const uint32_t row = rows[slot - first];
        const int known = emb_ngram_is_verified(t, row);
        st = take_row(b, row, slot, b->places[i].bytes, known);
        if (!known && st == EMBED_OK)
            emb_ngram_set_verified(t, row);
    }
    if (paged)
        emb_ngram_advice_end(&b->advice, n);
    return st;
}

/* --------------------------------------------------------------------------- rows to be read */

/* Rows of one block come in one piece: encrypted, the block; else the pages they touch. */
static void make_spans(emb_ngram_bringer *b, int32_t part, uint64_t first_row) {
    const embed_table *t = b->table;
    const emb_ngram_layout *l = &t->manifest.layout;
    const emb_ngram_miss *m = &b->misses[b->n_misses - 1];
    const uint64_t block = (m->row - first_row) / l->rows_per_block;
    const uint32_t end = (uint32_t)emb_round_up(m->at + l->row_bytes, DIRECT);
    emb_ngram_span *s = b->n_spans > 0 ? &b->spans[b->n_spans - 1] : NULL;
    if (s != NULL && s->part == part && s->block == block) {
        if (t->cipher == NULL)
            s->bytes = end - s->skip;
        return;
    }
    b->first_miss[b->n_spans] = b->n_misses - 1;
    s = &b->spans[b->n_spans++];
    *s = (emb_ngram_span){block, part, 0, l->block_bytes};
    if (t->cipher == NULL) {
        s->skip = m->at / DIRECT * DIRECT;
        s->bytes = end - s->skip;
    }
}

static embed_status take_span(void *arg, size_t i, unsigned char *bytes) {
    emb_ngram_bringer *b = arg;
    const embed_table *t = b->table;
    const emb_ngram_span *s = &b->spans[i];
    const size_t end = i + 1 < b->n_spans ? b->first_miss[i + 1] : b->n_misses;
    embed_status st = EMBED_OK;
    char name[32];
    if (t->cipher != NULL) {
        const emb_ngram_part *part = &t->parts[s->part];
        emb_ngram_part_name((uint32_t)s->part, name);
        st = emb_ngram_cipher_open(t->cipher, (uint32_t)s->part, s->block, bytes, s->bytes,
                                   b->block, emb_ngram_part_tag(part, s->block), name);
        if (st != EMBED_OK) {
            emb_fail_prefix("%s", t->path);
            return st;
        }
        bytes = b->block;
    }
    for (size_t m = b->first_miss[i]; m < end; m++) {
        const emb_ngram_miss *miss = &b->misses[m];
        const unsigned char *row = bytes + (miss->at - s->skip);
        EMB_TRY(take_row(b, miss->row, miss->slot, row, 0));
        if (t->cache != NULL)
            emb_ngram_cache_put(t->cache, miss->row, &b->headers[miss->slot],
                                row + sizeof(emb_ngram_row_header));
    }
fail:
    return st;
}

/* Encrypted blocks of a mapping. */
static embed_status take_mapped_spans(emb_ngram_bringer *b) {
    const embed_table *t = b->table;
    const size_t bytes = t->manifest.layout.block_bytes;
    embed_status st = EMBED_OK;
    for (size_t i = 0; i < b->n_spans; i++) {
        const emb_ngram_span *s = &b->spans[i];
        b->places[i] = (emb_ngram_place){
            t->parts[s->part].map + EMB_NGRAM_FILE_HEADER_BYTES + s->block * bytes, i};
    }
    emb_ngram_advice_start(&b->advice);
    for (size_t i = 0; i < b->n_spans && st == EMBED_OK; i++) {
        if (i % EMB_NGRAM_ADVISE_STEP == 0)
            emb_ngram_advice_step(&b->advice, b->places, i, b->n_spans, bytes);
        /* take_span decrypts elsewhere; the bytes are not written to */
        st = take_span(b, i, (unsigned char *)(uintptr_t)b->places[i].bytes);
    }
    emb_ngram_advice_end(&b->advice, b->n_spans);
    return st;
}

static embed_status take_misses(emb_ngram_bringer *b, emb_ngram_stats *stats) {
    embed_table *t = b->table;
    embed_status st = EMBED_OK;
    if (b->n_misses == 0)
        return EMBED_OK;
    if (t->io == EMBED_TABLE_IO_WILLNEED)
        return take_mapped_spans(b);
    if (b->reader == NULL)
        EMB_TRY(emb_ngram_reader_create(&b->reader, &b->env, t));
    for (size_t i = 0; i < b->n_spans; i++)
        stats->bytes_read += b->spans[i].bytes;
    EMB_TRY(emb_ngram_reader_run(b->reader, b->spans, b->n_spans, take_span, b));
fail:
    return st;
}

/* ------------------------------------------------------------------------------------- all */

/* Where each row is. Rows ascend, so parts do too. */
static void sort_out(emb_ngram_bringer *b, const emb_ngram_rowset *set, emb_ngram_stats *stats) {
    const embed_table *t = b->table;
    const emb_ngram_layout *l = &t->manifest.layout;
    const int by_map = t->io == EMBED_TABLE_IO_WILLNEED;
    int32_t p = 0;
    b->n_places = b->n_misses = b->n_spans = 0;
    for (size_t i = 0; i < set->n; i++) {
        const uint32_t row = set->rows[i];
        const size_t slot = b->used + i;
        while (p + 1 < t->n_parts && t->parts[p + 1].first_row <= row)
            p++;
        const emb_ngram_part *part = &t->parts[p];
        const uint64_t local = row - part->first_row;
        const uint64_t block = local / l->rows_per_block;
        const uint32_t at = (uint32_t)(local - block * l->rows_per_block) * l->row_bytes;
        const uint64_t offset = block * l->block_bytes + at;
        if (local < part->pinned_rows)
            b->places[b->n_places++] = (emb_ngram_place){part->pinned + offset, slot};
        else if (by_map && part->clear)
            b->places[b->n_places++] =
                (emb_ngram_place){part->map + EMB_NGRAM_FILE_HEADER_BYTES + offset, slot};
        else if (t->cache != NULL &&
                 emb_ngram_cache_get(t->cache, row, &b->headers[slot], b->block)) {
            put_vector(b, slot, b->block);
            stats->cache_hits++;
        } else {
            b->misses[b->n_misses++] = (emb_ngram_miss){row, at, slot};
            make_spans(b, p, part->first_row);
        }
    }
}

embed_status emb_ngram_bring(emb_ngram_bringer *b, const emb_ngram_rowset *set,
                             emb_ngram_stats *stats) {
    embed_status st = EMBED_OK;
    EMB_TRY(emb_ngram_bringer_reserve(b, set->n));
    stats->distinct_rows += set->n;
    b->stream = set->n * b->stride * sizeof(float) >= STREAM_BYTES;
    sort_out(b, set, stats);
    EMB_TRY(take_places(b, set->rows, b->used));
    EMB_TRY(take_misses(b, stats));
    emb_row_decode_end(b->table->isa);
    b->used += set->n;
fail:
    return st;
}
