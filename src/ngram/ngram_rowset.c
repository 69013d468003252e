#include "ngram/ngram_rowset.h"

#include <inttypes.h>
#include <string.h>

#define DIGIT 11 /* bits that one pass sorts by */
#define PASSES 3
#define BINS EMB_NGRAM_SORT_BINS

_Static_assert(1 << DIGIT == BINS, "a bin for each digit");

void emb_ngram_rowset_init(emb_ngram_rowset *set, const emb_env *env) {
    *set = (emb_ngram_rowset){.env = *env};
}

void emb_ngram_rowset_clear(emb_ngram_rowset *set) {
    emb_free(&set->env, set->rows);
    emb_free(&set->env, set->found);
    emb_free(&set->env, set->lengths);
    emb_free(&set->env, set->slots);
    emb_free(&set->env, set->pairs[0]);
    emb_free(&set->env, set->pairs[1]);
    emb_free(&set->env, set->bins);
    emb_ngram_rowset_init(set, &set->env);
}

embed_status emb_ngram_rowset_reserve(emb_ngram_rowset *set, size_t n) {
    embed_status st = EMBED_OK;
    if (n <= set->capacity && set->bins != NULL)
        return EMBED_OK;
    const emb_env env = set->env;
    emb_ngram_rowset_clear(set);
    EMB_TRY(emb_new_array(&env, n, sizeof *set->rows, (void **)&set->rows));
    EMB_TRY(emb_new_array(&env, n, sizeof *set->found, (void **)&set->found));
    EMB_TRY(emb_new_array(&env, n, sizeof *set->lengths, (void **)&set->lengths));
    EMB_TRY(emb_new_array(&env, n, sizeof *set->slots, (void **)&set->slots));
    for (int i = 0; i < 2; i++)
        EMB_TRY(emb_new_array(&env, n, sizeof *set->pairs[i], (void **)&set->pairs[i]));
    EMB_TRY(emb_new_array(&env, PASSES, sizeof *set->bins, (void **)&set->bins));
    set->capacity = n;
    return EMBED_OK;
fail:
    emb_ngram_rowset_clear(set);
    return st;
}

static uint32_t digit_of(uint64_t pair, int pass) {
    return (uint32_t)(pair >> (32 + DIGIT * pass)) & (BINS - 1);
}

/* By row, least significant digit first; a digit that all pairs share costs no pass. */
static const uint64_t *sort_pairs(emb_ngram_rowset *set, size_t n) {
    uint64_t *from = set->pairs[0], *to = set->pairs[1];
    memset(set->bins, 0, PASSES * sizeof *set->bins);
    for (size_t i = 0; i < n; i++)
        for (int pass = 0; pass < PASSES; pass++)
            set->bins[pass][digit_of(from[i], pass)]++;
    for (int pass = 0; pass < PASSES; pass++) {
        uint32_t *bins = set->bins[pass];
        if (n == 0 || bins[digit_of(from[0], pass)] == n)
            continue;
        uint32_t sum = 0;
        for (size_t b = 0; b < BINS; b++) {
            const uint32_t here = bins[b];
            bins[b] = sum;
            sum += here;
        }
        for (size_t i = 0; i < n; i++)
            to[bins[digit_of(from[i], pass)]++] = from[i];
        uint64_t *swap = from;
        from = to;
        to = swap;
    }
    return from;
}

/* found -> rows, n and slots. */
static embed_status collect(emb_ngram_rowset *set, const embed_table *t) {
    size_t pairs = 0;
    for (size_t i = 0; i < set->positions; i++) {
        set->slots[i] = EMB_NGRAM_NO_SLOT;
        if (set->found[i] != EMB_NGRAM_NO_ROW)
            set->pairs[0][pairs++] = (uint64_t)set->found[i] << 32 | i;
    }
    const uint64_t *sorted = sort_pairs(set, pairs);
    set->n = 0;
    for (size_t i = 0; i < pairs; i++) {
        const uint32_t row = (uint32_t)(sorted[i] >> 32);
        if (set->n == 0 || set->rows[set->n - 1] != row)
            set->rows[set->n++] = row;
        set->slots[(uint32_t)sorted[i]] = (uint32_t)(set->n - 1);
    }
    if (set->n > 0 && set->rows[set->n - 1] >= t->manifest.rows)
        return emb_fail(EMBED_ERR_FORMAT,
                        "%s: index.bin: names row %" PRIu32 " of a table of %" PRIu64, t->path,
                        set->rows[set->n - 1], t->manifest.rows);
    return EMBED_OK;
}

embed_status emb_ngram_rowset_lookup(emb_ngram_rowset *set, const embed_table *t,
                                     const int32_t *ids, const int32_t *offsets, size_t texts) {
    const size_t n = texts > 0 ? (size_t)offsets[texts] : 0;
    const embed_status st = emb_ngram_rowset_reserve(set, n);
    if (st != EMBED_OK)
        return st;
    set->positions = n;
    emb_ngram_index_lookup(&t->index, ids, offsets, texts, set->found, set->lengths);
    return collect(set, t);
}

embed_status emb_ngram_rowset_take(emb_ngram_rowset *set, const embed_table *t,
                                   const uint32_t *rows, size_t n) {
    const embed_status st = emb_ngram_rowset_reserve(set, n);
    if (st != EMBED_OK)
        return st;
    set->positions = n;
    if (n > 0)
        memcpy(set->found, rows, n * sizeof *rows);
    memset(set->lengths, 0, n);
    return collect(set, t);
}
