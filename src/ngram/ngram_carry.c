#include "ngram/ngram_carry.h"

#include <string.h>

#include "base/clock.h"
#include "ngram/ngram_fetching.h"

size_t emb_ngram_carried_bytes(const embed_table *t) {
    return t->projection != NULL ? (size_t)t->manifest.binding.hidden * sizeof(float)
                                 : emb_ngram_vector_bytes(&t->manifest.layout);
}

int32_t emb_ngram_carried_dtype(const embed_table *t) {
    return t->projection != NULL ? EMBED_F32 : t->manifest.layout.dtype;
}

const emb_ngram_cargo *emb_ngram_cargo_of(const emb_ngram_fetcher *f, size_t *n) {
    *n = f->n_cargo;
    return f->cargo;
}

embed_status emb_ngram_carry_reserve(emb_ngram_fetcher *f, size_t more) {
    embed_status st = EMBED_OK;
    EMB_TRY(emb_grow(&f->env, (void **)&f->cargo, &f->cargo_capacity, f->n_cargo + more,
                     sizeof *f->cargo));
    EMB_TRY(emb_grow(&f->env, (void **)&f->targets, &f->target_capacity, more, sizeof *f->targets));
    EMB_TRY(
        emb_grow(&f->env, (void **)&f->missing, &f->missing_capacity, more, sizeof *f->missing));
fail:
    return st;
}

/* The rows that were decoded, projected, into their places. */
static embed_status put_projected(emb_ngram_fetcher *f, size_t n) {
    const float *vectors;
    size_t stride;
    const embed_status st = emb_ngram_project(f, &vectors, &stride);
    for (size_t i = 0; i < n && st == EMBED_OK; i++)
        memcpy(f->targets[i], vectors + i * stride, emb_ngram_carried_bytes(f->table));
    return st;
}

/* The set's rows follow the cargo that is there. */
static embed_status load(emb_ngram_fetcher *f, const emb_ngram_rowset *set,
                         const emb_ngram_depot *depot, emb_ngram_stats *stats) {
    embed_status st = EMBED_OK;
    emb_ngram_bringer *b = &f->bringer;
    const int projected = f->table->projection != NULL;
    emb_ngram_rowset missing = {.n = 0};
    EMB_TRY(emb_ngram_carry_reserve(f, set->n));
    emb_ngram_cargo *cargo = f->cargo + f->n_cargo;
    EMB_TRY(depot->choose(depot->self, set->rows, set->n, cargo));
    for (size_t i = 0; i < set->n; i++)
        if (cargo[i].into != NULL) {
            f->targets[missing.n] = cargo[i].into;
            f->missing[missing.n++] = set->rows[i];
        }
    missing.rows = f->missing;
    b->used = 0;
    b->targets = projected ? NULL : f->targets;
    st = emb_ngram_bring(b, &missing, stats);
    b->targets = NULL;
    EMB_TRY(st);
    if (projected)
        EMB_TRY(put_projected(f, missing.n));
    for (size_t i = 0, m = 0; i < set->n; i++)
        if (cargo[i].into != NULL)
            cargo[i].header = b->headers[m++];
    if (depot->brought != NULL)
        depot->brought(depot->self, set->rows, set->n, cargo);
    stats->distinct_rows += set->n - missing.n;
    f->n_cargo += set->n;
fail:
    return st;
}

/* The longest match below *length whose row is its own. */
static embed_status fall_back(emb_ngram_fetcher *f, const int32_t *last,
                              const emb_ngram_depot *depot, int32_t *length, uint32_t *slot,
                              emb_ngram_stats *stats) {
    embed_status st = EMBED_OK;
    *slot = EMB_NGRAM_NO_SLOT;
    for (int32_t n = *length - 1; n >= 2; n--) {
        const uint32_t row = emb_ngram_index_find(&f->table->index, last - n + 1, n);
        if (row == EMB_NGRAM_NO_ROW)
            continue;
        EMB_TRY(emb_ngram_rowset_take(&f->single, f->table, &row, 1));
        EMB_TRY(load(f, &f->single, depot, stats));
        if (emb_ngram_is_row_of(&f->cargo[f->n_cargo - 1].header, last, n)) {
            *slot = (uint32_t)(f->n_cargo - 1);
            *length = n;
            return EMBED_OK;
        }
        stats->foreign_rows++;
    }
    *length = 0;
fail:
    return st;
}

embed_status emb_ngram_carry(emb_ngram_fetcher *f, const int32_t *ids, const int32_t *offsets,
                             size_t texts, const emb_ngram_depot *depot, uint32_t *slots,
                             emb_ngram_stats *stats) {
    embed_status st = EMBED_OK;
    emb_ngram_stats here = {0};
    const uint64_t start = emb_clock_ns();
    emb_ngram_rowset *set = &f->set;
    f->n_cargo = 0;
    EMB_TRY(emb_ngram_rowset_lookup(set, f->table, ids, offsets, texts));
    here.positions = set->positions;
    EMB_TRY(load(f, set, depot, &here));
    for (size_t i = 0; i < set->positions; i++) {
        int32_t length = set->lengths[i];
        slots[i] = set->slots[i];
        if (length > 0 && !emb_ngram_is_row_of(&f->cargo[slots[i]].header, ids + i, length)) {
            here.foreign_rows++;
            EMB_TRY(fall_back(f, ids + i, depot, &length, &slots[i], &here));
        }
        here.hits[length]++;
    }
    emb_ngram_count_fetch(f, &here, start, stats);
fail:
    return st;
}

embed_status emb_ngram_carry_rows(emb_ngram_fetcher *f, const uint32_t *rows, size_t n,
                                  const emb_ngram_depot *depot) {
    emb_ngram_stats nobody = {0};
    f->n_cargo = 0;
    const embed_status st = emb_ngram_rowset_take(&f->set, f->table, rows, n);
    return st != EMBED_OK ? st : load(f, &f->set, depot, &nobody);
}
