#include "ngram/ngram_advice.h"

#include <stdio.h>
#include <string.h>

#include "ngram/ngram_count.h"
#include "ngram/ngram_index.h"

/* Bytes that counting takes at its peak for each token of the sample: its id twice, a number for
 * each length up to 8, the table of one length (real text has some 0.6 different n-grams a token)
 * while it grows, and the list of frequent n-grams. */
#define POSITION_BYTES 112
#define SEEDS 8              /* a clash in the index: try another seed; one is rare */
#define LEAST_POSITIONS 4096 /* a sample below that tells nothing */

/* A table of one cell and what looking up needs, at most: ids, length and index entries per row. */
#define ROW_BYTES (EMB_NGRAM_MAX_K * sizeof(uint32_t) + 1 + 16)

/* A frequent n-gram, by the first place where it stands. */
typedef struct seen_ngram {
    uint32_t end; /* one past its last token among the tokens that are counted */
    uint32_t length;
    uint32_t count;
} seen_ngram;

typedef struct advising {
    const emb_env *env;
    const emb_ngram_sample *sample;
    const emb_ngram_advise_params *params;
    uint32_t *counted; /* [positions] the texts that are counted, marked as ngram_count.h wants */
    size_t positions;
    seen_ngram *seen; /* all frequent n-grams, best first */
    size_t n_seen, seen_capacity;
    int32_t *ids;     /* the held-out texts */
    int32_t *offsets; /* [texts + 1] */
    size_t texts;
    uint32_t *found; /* [tokens] answers of one cell */
    uint8_t *lengths;
    uint32_t (*fgrams)[EMB_NGRAM_MAX_K]; /* the table of one cell */
    uint8_t *fgram_lengths;
    emb_ngram_bucket *buckets;
    uint64_t *touched; /* bit set of rows */
} advising;

embed_status emb_ngram_advise_positions(const emb_ngram_advise_params *params, uint64_t memory,
                                        uint64_t *positions) {
    uint64_t most = 0;
    for (size_t i = 0; i < params->n_rows; i++)
        most = params->rows[i] > most ? params->rows[i] : most;
    /* Text of n positions has fewer than n n-grams that occur twice: tables are no larger. */
    const uint64_t each = POSITION_BYTES, both = each + ROW_BYTES;
    *positions = memory / both;
    if (*positions > most)
        *positions = (memory - most * ROW_BYTES) / each;
    if (*positions < LEAST_POSITIONS)
        return emb_fail(EMBED_ERR_ARG, "memory: expected at least %llu bytes, found %llu",
                        (unsigned long long)(LEAST_POSITIONS * both), (unsigned long long)memory);
    return EMBED_OK;
}

/* The held-out texts one after the other, as lookup wants them. */
static embed_status gather_held(advising *a) {
    embed_status st = EMBED_OK;
    const emb_ngram_sample *s = a->sample;
    size_t tokens = 0, start = 0;
    for (size_t i = 0; i < s->texts; start = s->ends[i++]) {
        a->texts += s->held[i];
        tokens += s->held[i] ? s->ends[i] - start : 0;
    }
    EMB_TRY(emb_new_array(a->env, tokens, sizeof *a->ids, (void **)&a->ids));
    EMB_TRY(emb_new_array(a->env, a->texts + 1, sizeof *a->offsets, (void **)&a->offsets));
    EMB_TRY(emb_new_array(a->env, tokens, sizeof *a->found, (void **)&a->found));
    EMB_TRY(emb_new_array(a->env, tokens, 1, (void **)&a->lengths));
    tokens = start = 0;
    for (size_t i = 0, text = 0; i < s->texts; start = s->ends[i++]) {
        if (!s->held[i])
            continue;
        if (s->ends[i] > start)
            memcpy(a->ids + tokens, s->ids + start, (s->ends[i] - start) * sizeof *a->ids);
        tokens += s->ends[i] - start;
        a->offsets[++text] = (int32_t)tokens;
    }
fail:
    return st;
}

static int is_special(const emb_ngram_advise_params *p, int32_t id) {
    return id < 0 || id >= p->vocab || (p->special[id / 64] >> (id % 64) & 1);
}

static embed_status gather_counted(advising *a) {
    const emb_ngram_sample *s = a->sample;
    uint64_t start = 0;
    const embed_status st =
        emb_new_array(a->env, s->tokens + s->texts, sizeof *a->counted, (void **)&a->counted);
    if (st != EMBED_OK)
        return st;
    for (size_t i = 0; i < s->texts; start = s->ends[i++]) {
        if (s->held[i])
            continue;
        for (uint64_t t = start; t < s->ends[i]; t++)
            a->counted[a->positions++] =
                is_special(a->params, s->ids[t]) ? EMB_NGRAM_BREAK : (uint32_t)s->ids[t];
        a->counted[a->positions++] = EMB_NGRAM_END;
    }
    return EMBED_OK;
}

/* Byte `digit` of the key (count downwards, length, end), the least significant first. */
static unsigned digit_of(const seen_ngram *g, int digit) {
    const uint32_t value = digit < 4 ? g->end : digit < 5 ? g->length : ~g->count;
    return value >> (8 * (digit < 4 ? digit : digit < 5 ? 0 : digit - 5)) & 255;
}

/* By falling count, shorter ones first, then by where they first stand: every suffix of an n-gram
 * stands before it. One stable pass a digit. */
static embed_status sort_seen(advising *a) {
    seen_ngram *from = a->seen, *to;
    const embed_status st = emb_new_array(a->env, a->n_seen, sizeof *to, (void **)&to);
    if (st != EMBED_OK)
        return st;
    for (int digit = 0; digit < 9; digit++) {
        size_t starts[257] = {0};
        for (size_t i = 0; i < a->n_seen; i++)
            starts[digit_of(&from[i], digit) + 1]++;
        for (int d = 0; d < 256; d++)
            starts[d + 1] += starts[d];
        for (size_t i = 0; i < a->n_seen; i++)
            to[starts[digit_of(&from[i], digit)]++] = from[i];
        seen_ngram *swap = from;
        from = to;
        to = swap;
    }
    a->seen = from;
    emb_free(a->env, to);
    return EMBED_OK;
}

/* Each n-gram of one length where it first ends. */
static embed_status list_length(advising *a, const emb_ngram_survivors *s, int32_t length) {
    embed_status st = EMBED_OK;
    uint64_t *met = NULL;
    EMB_TRY(emb_new_array(a->env, (size_t)s->n / 64 + 1, sizeof *met, (void **)&met));
    EMB_TRY(emb_grow(a->env, (void **)&a->seen, &a->seen_capacity, a->n_seen + (size_t)s->n,
                     sizeof *a->seen));
    for (size_t t = 0; t < a->positions; t++) {
        const uint32_t number = s->at[t];
        if (number >= s->n || (met[number / 64] >> (number % 64) & 1))
            continue;
        const uint64_t count = s->counts[number];
        met[number / 64] |= UINT64_C(1) << (number % 64);
        a->seen[a->n_seen++] = (seen_ngram){(uint32_t)t + 1, (uint32_t)length,
                                            count < UINT32_MAX ? (uint32_t)count : UINT32_MAX};
    }
fail:
    emb_free(a->env, met);
    return st;
}

static int32_t report_count(void *user, int32_t length, uint32_t pass, uint64_t done,
                            uint64_t total) {
    const advising *a = user;
    char phase[32];
    (void)pass;
    snprintf(phase, sizeof phase, "count %d-grams", length);
    const embed_job_report report = {
        .phase = phase, .unit = "tokens", .done = done, .total = total};
    return a->params->tell != NULL && a->params->tell(a->params->user, &report) != EMBED_OK;
}

static embed_status count(advising *a, emb_pool *pool) {
    embed_status st = EMBED_OK;
    emb_ngram_survivors survivors[EMB_NGRAM_MAX_K + 1] = {{0}};
    int32_t k = 2;
    for (size_t i = 0; i < a->params->n_k; i++)
        k = a->params->k[i] > k ? a->params->k[i] : k;
    EMB_TRY(gather_counted(a));
    EMB_TRY(emb_ngram_count_array(a->env, pool, a->counted, a->positions, k, a->params->min_count,
                                  report_count, a, survivors));
    for (int32_t n = 2; n <= k; n++)
        EMB_TRY(list_length(a, &survivors[n], n));
fail:
    emb_ngram_survivors_clear(survivors, k, a->env);
    return st == EMBED_OK ? sort_seen(a) : st;
}

/* The best `wanted` n-grams of at most k tokens; *n is how many there are. */
static embed_status take(advising *a, int32_t k, uint64_t wanted, size_t *n) {
    embed_status st = EMBED_OK;
    const size_t most = wanted < a->n_seen ? (size_t)wanted : a->n_seen;
    EMB_TRY(emb_new_array(a->env, most, sizeof *a->fgrams, (void **)&a->fgrams));
    EMB_TRY(emb_new_array(a->env, most, 1, (void **)&a->fgram_lengths));
    EMB_TRY(emb_new_array(a->env, most / 64 + 1, sizeof *a->touched, (void **)&a->touched));
    *n = 0;
    for (size_t i = 0; i < a->n_seen && *n < most; i++) {
        const seen_ngram *g = &a->seen[i];
        if (g->length > (uint32_t)k)
            continue;
        for (uint32_t j = 0; j < g->length; j++)
            a->fgrams[*n][j] = a->counted[g->end - g->length + j];
        a->fgram_lengths[(*n)++] = (uint8_t)g->length;
    }
fail:
    return st;
}

static embed_status fill(advising *a, size_t n, emb_ngram_index *index, uint64_t *keys) {
    embed_status st = EMBED_OK;
    int clash = 1;
    EMB_TRY(emb_ngram_index_buckets(n, EMB_NGRAM_LOAD, &index->n_buckets));
    EMB_TRY(emb_new_array(a->env, index->n_buckets, sizeof *a->buckets, (void **)&a->buckets));
    for (index->seed = 1; clash && index->seed <= SEEDS; index->seed++) {
        memset(a->buckets, 0, index->n_buckets * sizeof *a->buckets);
        EMB_TRY(emb_ngram_index_fill(a->buckets, index->n_buckets, index->seed,
                                     (const uint32_t(*)[EMB_NGRAM_MAX_K])a->fgrams,
                                     a->fgram_lengths, (uint32_t)n, keys, &clash));
    }
    index->seed--;
    index->buckets = a->buckets;
    if (clash)
        st = emb_fail(EMBED_ERR_INTERNAL, "index: no seed without a clash");
fail:
    return st;
}

static void tally(const advising *a, size_t n, embed_advise_cell *cell) {
    const size_t tokens = (size_t)a->offsets[a->texts];
    uint64_t hot[2] = {0, 0};
    cell->positions = tokens;
    for (size_t t = 0; t < tokens; t++) {
        const uint32_t row = a->found[t];
        cell->hits[a->lengths[t]]++;
        if (row == EMB_NGRAM_NO_ROW)
            continue;
        cell->matched++;
        uint64_t *word = &a->touched[row / 64];
        cell->distinct_rows += !(*word >> (row % 64) & 1);
        *word |= UINT64_C(1) << (row % 64);
        hot[0] += row < (n + 50) / 100;
        hot[1] += row < (n + 5) / 10;
    }
    cell->hot_1_percent = cell->matched ? (double)hot[0] / (double)cell->matched : 0;
    cell->hot_10_percent = cell->matched ? (double)hot[1] / (double)cell->matched : 0;
}

static void clear_cell(advising *a) {
    emb_free(a->env, a->fgrams);
    emb_free(a->env, a->fgram_lengths);
    emb_free(a->env, a->buckets);
    emb_free(a->env, a->touched);
    a->fgrams = NULL;
    a->fgram_lengths = NULL;
    a->buckets = NULL;
    a->touched = NULL;
}

/* Bytes of a table's files but for the manifest. */
static uint64_t table_bytes(const emb_ngram_layout *layout, uint64_t rows, uint64_t n_buckets) {
    const uint64_t bytes = emb_ngram_rows_bytes(layout, rows);
    const uint64_t parts = bytes / EMB_NGRAM_PART_BYTES + 1;
    return bytes + n_buckets * sizeof(emb_ngram_bucket) + (parts + 1) * EMB_NGRAM_FILE_HEADER_BYTES;
}

static embed_status advise_cell(advising *a, const emb_ngram_layout *layout,
                                embed_advise_cell *cell) {
    embed_status st = EMBED_OK;
    emb_ngram_index index = {
        .special = a->params->special, .vocab = a->params->vocab, .k = cell->k};
    uint64_t keys;
    size_t n = 0;
    EMB_TRY(take(a, cell->k, cell->rows_wanted, &n));
    EMB_TRY(fill(a, n, &index, &keys));
    emb_ngram_index_lookup(&index, a->ids, a->offsets, a->texts, a->found, a->lengths);
    cell->rows = n;
    cell->disk_bytes = table_bytes(layout, n, index.n_buckets);
    tally(a, n, cell);
fail:
    clear_cell(a);
    return st;
}

/* Count of the last n-gram that is in: the cut-off. */
static uint64_t cutoff(const advising *a, const embed_advise_cell *cell) {
    uint64_t left = cell->rows;
    for (size_t i = 0; i < a->n_seen && left > 0; i++)
        if (a->seen[i].length <= (uint32_t)cell->k && --left == 0)
            return a->seen[i].count;
    return 0;
}

embed_status emb_ngram_advise(emb_ngram_sample *sample, emb_pool *pool,
                              const emb_ngram_advise_params *params, embed_advise_cell *cells) {
    embed_status st = EMBED_OK;
    advising a = {.env = &sample->env, .sample = sample, .params = params};
    emb_ngram_layout layout;
    const size_t n_cells = params->n_k * params->n_rows;
    EMB_TRY(emb_ngram_layout_init(&layout, params->width, params->dtype));
    EMB_TRY(emb_ngram_sample_split(sample, params->held_out));
    EMB_TRY(gather_held(&a));
    EMB_TRY(count(&a, pool));
    for (size_t i = 0; i < n_cells; i++) {
        const embed_job_report report = {
            .phase = "look up", .unit = "tables", .done = i, .total = n_cells};
        if (params->tell != NULL)
            EMB_TRY(params->tell(params->user, &report));
        cells[i] = (embed_advise_cell){.k = params->k[i / params->n_rows],
                                       .rows_wanted = params->rows[i % params->n_rows]};
        EMB_TRY(advise_cell(&a, &layout, &cells[i]));
        cells[i].least_count = cutoff(&a, &cells[i]);
    }
fail:
    clear_cell(&a);
    emb_free(a.env, a.counted);
    emb_free(a.env, a.seen);
    emb_free(a.env, a.ids);
    emb_free(a.env, a.offsets);
    emb_free(a.env, a.found);
    emb_free(a.env, a.lengths);
    return st;
}
