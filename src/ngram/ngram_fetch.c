#define _POSIX_C_SOURCE 200809L
#include "ngram/ngram_fetch.h"

#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "ngram/ngram_fetching.h"
#include "ngram/ngram_projector.h"

/* Room for the projections of all rows that the bringer has room for. */
static embed_status reserve_projected(emb_ngram_fetcher *f) {
    const size_t capacity = f->bringer.capacity;
    embed_status st = EMBED_OK;
    size_t bytes;
    if (f->table->projection == NULL || f->projected_capacity >= capacity)
        return EMBED_OK;
    EMB_TRY(emb_mul(capacity, f->projected_stride * sizeof(float), "rows", &bytes));
    EMB_TRY(emb_realloc(&f->env, bytes, (void **)&f->projected));
    f->projected_capacity = capacity;
fail:
    return st;
}

static embed_status make_exec(emb_ngram_fetcher *f) {
    embed_status st = EMBED_OK;
    f->exec.isa = f->table->isa;
    f->exec.scratch_bytes = emb_round_up(emb_gemm_scratch_bytes(f->exec.isa), EMB_ALIGN);
    f->projected_stride = emb_round_up((size_t)f->table->manifest.binding.hidden, 16);
    EMB_TRY(emb_pool_create(&f->exec.pool, &f->env, 1));
    EMB_TRY(emb_alloc(&f->env, f->exec.scratch_bytes, (void **)&f->exec.scratch));
fail:
    return st;
}

static embed_status create(emb_ngram_fetcher **out, const emb_env *env, embed_table *t,
                           size_t max_positions, int raw) {
    embed_status st = EMBED_OK;
    emb_ngram_fetcher *f = NULL;
    *out = NULL;
    EMB_TRY(emb_new(env, sizeof *f, (void **)&f));
    f->env = *env;
    f->table = t;
    emb_ngram_rowset_init(&f->set, env);
    emb_ngram_rowset_init(&f->single, env);
    emb_ngram_bringer_init(&f->bringer, env, t);
    f->bringer.raw = raw && t->projection == NULL;
    EMB_TRY(emb_ngram_rowset_reserve(&f->set, max_positions));
    EMB_TRY(emb_ngram_bringer_reserve(
        &f->bringer, max_positions < t->manifest.rows ? max_positions : (size_t)t->manifest.rows));
    if (t->projection != NULL)
        EMB_TRY(make_exec(f));
    EMB_TRY(reserve_projected(f));
    *out = f;
    return EMBED_OK;
fail:
    emb_ngram_fetcher_free(f);
    return st;
}

embed_status emb_ngram_fetcher_create(emb_ngram_fetcher **out, const emb_env *env, embed_table *t,
                                      size_t max_positions) {
    return create(out, env, t, max_positions, 0);
}

embed_status emb_ngram_carrier_create(emb_ngram_fetcher **out, const emb_env *env, embed_table *t,
                                      size_t max_positions) {
    const size_t rows = max_positions < t->manifest.rows ? max_positions : (size_t)t->manifest.rows;
    embed_status st = create(out, env, t, max_positions, 1);
    if (st == EMBED_OK)
        st = emb_ngram_carry_reserve(*out, rows);
    if (st != EMBED_OK) {
        emb_ngram_fetcher_free(*out);
        *out = NULL;
    }
    return st;
}

void emb_ngram_fetcher_free(emb_ngram_fetcher *f) {
    if (f == NULL)
        return;
    const emb_env env = f->env;
    emb_ngram_rowset_clear(&f->set);
    emb_ngram_rowset_clear(&f->single);
    emb_ngram_bringer_clear(&f->bringer);
    emb_pool_free(f->exec.pool);
    emb_free(&env, f->exec.scratch);
    emb_free(&env, f->projected);
    emb_free(&env, f->targets);
    emb_free(&env, f->cargo);
    emb_free(&env, f->missing);
    emb_free(&env, f);
}

int emb_ngram_is_row_of(const emb_ngram_row_header *h, const int32_t *last, int32_t length) {
    return h->length == length &&
           memcmp(h->ids, last - length + 1, (size_t)length * sizeof *last) == 0;
}

/* The longest match below *length whose row is its own. */
static embed_status fall_back(emb_ngram_fetcher *f, const int32_t *last, int32_t *length,
                              uint32_t *slot, emb_ngram_stats *stats) {
    emb_ngram_bringer *b = &f->bringer;
    *slot = EMB_NGRAM_NO_SLOT;
    for (int32_t n = *length - 1; n >= 2; n--) {
        const uint32_t row = emb_ngram_index_find(&f->table->index, last - n + 1, n);
        if (row == EMB_NGRAM_NO_ROW)
            continue;
        embed_status st = emb_ngram_rowset_take(&f->single, f->table, &row, 1);
        if (st == EMBED_OK)
            st = emb_ngram_bring(b, &f->single, stats);
        if (st != EMBED_OK)
            return st;
        if (emb_ngram_is_row_of(&b->headers[b->used - 1], last, n)) {
            *slot = (uint32_t)(b->used - 1);
            *length = n;
            return EMBED_OK;
        }
        stats->foreign_rows++;
    }
    *length = 0;
    return EMBED_OK;
}

/* Each position's row must be of its own n-gram. */
static embed_status check_owners(emb_ngram_fetcher *f, const int32_t *ids, emb_ngram_stats *stats) {
    emb_ngram_rowset *set = &f->set;
    for (size_t i = 0; i < set->positions; i++) {
        int32_t length = set->lengths[i];
        if (length > 0 &&
            !emb_ngram_is_row_of(&f->bringer.headers[set->slots[i]], ids + i, length)) {
            stats->foreign_rows++;
            const embed_status st = fall_back(f, ids + i, &length, &set->slots[i], stats);
            if (st != EMBED_OK)
                return st;
        }
        stats->hits[length]++;
    }
    return EMBED_OK;
}

embed_status emb_ngram_project(emb_ngram_fetcher *f, const float **vectors, size_t *stride) {
    const emb_ngram_bringer *b = &f->bringer;
    embed_status st = EMBED_OK;
    *vectors = b->vectors;
    *stride = b->stride;
    if (f->table->projection == NULL || b->used == 0)
        return EMBED_OK;
    EMB_TRY(reserve_projected(f));
    const emb_gemm_group group = {
        .w = &f->table->projection->weight,
        .x = b->vectors,
        .y = f->projected,
        .m = (int64_t)b->used,
        .ldx = (int64_t)b->stride,
        .ldy = (int64_t)f->projected_stride,
    };
    EMB_TRY(emb_gemm(&f->exec, &group, 1, EMB_ACT_NONE));
    *vectors = f->projected;
    *stride = f->projected_stride;
fail:
    return st;
}

void emb_ngram_count_fetch(emb_ngram_fetcher *f, emb_ngram_stats *here, uint64_t start,
                           emb_ngram_stats *stats) {
    here->fetch_ns = emb_clock_ns() - start;
    emb_ngram_table_count(f->table, here);
    if (stats != NULL)
        emb_ngram_stats_add(stats, here);
}

embed_status emb_ngram_fetch(emb_ngram_fetcher *f, const int32_t *ids, const int32_t *offsets,
                             size_t texts, const float **rows, emb_ngram_stats *stats) {
    embed_status st = EMBED_OK;
    emb_ngram_stats here = {0};
    const uint64_t start = emb_clock_ns();
    const float *vectors;
    size_t stride;
    f->bringer.used = 0;
    EMB_TRY(emb_ngram_rowset_lookup(&f->set, f->table, ids, offsets, texts));
    here.positions = f->set.positions;
    EMB_TRY(emb_ngram_bring(&f->bringer, &f->set, &here));
    EMB_TRY(check_owners(f, ids, &here));
    EMB_TRY(emb_ngram_project(f, &vectors, &stride));
    for (size_t i = 0; i < f->set.positions; i++)
        rows[i] = f->set.slots[i] == EMB_NGRAM_NO_SLOT ? NULL
                                                       : vectors + (size_t)f->set.slots[i] * stride;
    emb_ngram_count_fetch(f, &here, start, stats);
fail:
    return st;
}

embed_status emb_ngram_fetch_rows(emb_ngram_fetcher *f, const uint32_t *rows, size_t n,
                                  const float **vectors, const emb_ngram_row_header **headers,
                                  emb_ngram_stats *stats) {
    embed_status st = EMBED_OK;
    emb_ngram_stats here = {0};
    const uint64_t start = emb_clock_ns();
    const emb_ngram_bringer *b = &f->bringer;
    f->bringer.used = 0;
    EMB_TRY(emb_ngram_rowset_take(&f->set, f->table, rows, n));
    EMB_TRY(emb_ngram_bring(&f->bringer, &f->set, &here));
    for (size_t i = 0; i < n; i++) {
        const uint32_t slot = f->set.slots[i];
        if (vectors != NULL)
            vectors[i] = slot == EMB_NGRAM_NO_SLOT ? NULL : b->vectors + (size_t)slot * b->stride;
        if (headers != NULL)
            headers[i] = slot == EMB_NGRAM_NO_SLOT ? NULL : &b->headers[slot];
    }
    emb_ngram_count_fetch(f, &here, start, stats);
fail:
    return st;
}

/* Each slot's vector goes to the first place that asks for it. */
static embed_status aim(emb_ngram_fetcher *f, float *out) {
    const emb_ngram_rowset *set = &f->set;
    const size_t width = (size_t)f->table->manifest.layout.width;
    const embed_status st = emb_grow(&f->env, (void **)&f->targets, &f->target_capacity,
                                     set->positions, sizeof *f->targets);
    if (st != EMBED_OK)
        return st;
    for (size_t i = set->positions; i-- > 0;)
        if (set->slots[i] != EMB_NGRAM_NO_SLOT)
            f->targets[set->slots[i]] = out + i * width;
    return EMBED_OK;
}

static void copy_rest(const emb_ngram_fetcher *f, float *out) {
    const emb_ngram_rowset *set = &f->set;
    const size_t width = (size_t)f->table->manifest.layout.width;
    for (size_t i = 0; i < set->positions; i++) {
        float *to = out + i * width;
        if (set->slots[i] == EMB_NGRAM_NO_SLOT)
            memset(to, 0, width * sizeof *to);
        else if (f->targets[set->slots[i]] != to)
            memcpy(to, f->targets[set->slots[i]], width * sizeof *to);
    }
}

embed_status emb_ngram_fetch_into(emb_ngram_fetcher *f, const uint32_t *rows, size_t n, float *out,
                                  const emb_ngram_row_header **headers, emb_ngram_stats *stats) {
    embed_status st = EMBED_OK;
    emb_ngram_stats here = {0};
    const uint64_t start = emb_clock_ns();
    f->bringer.used = 0;
    EMB_TRY(emb_ngram_rowset_take(&f->set, f->table, rows, n));
    EMB_TRY(aim(f, out));
    f->bringer.targets = f->targets;
    st = emb_ngram_bring(&f->bringer, &f->set, &here);
    f->bringer.targets = NULL;
    EMB_TRY(st);
    copy_rest(f, out);
    for (size_t i = 0; i < n && headers != NULL; i++)
        headers[i] =
            f->set.slots[i] == EMB_NGRAM_NO_SLOT ? NULL : &f->bringer.headers[f->set.slots[i]];
    emb_ngram_count_fetch(f, &here, start, stats);
fail:
    return st;
}
