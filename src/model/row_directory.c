#include "model/row_directory.h"

#include <string.h>

#define WAYS 16

/* The places of a set; what a search looks at is one cache line. */
typedef struct row_set {
    uint32_t row[WAYS];    /* number + 1, 0 for an empty place */
    uint64_t filled[WAYS]; /* the batch that brings it */
    uint64_t used[WAYS];   /* the last batch that uses it */
    uint8_t ready[WAYS];   /* 1: checked, the header is there */
} row_set;

struct emb_row_directory {
    emb_env env;
    row_set *set;                  /* [sets] */
    emb_ngram_row_header *headers; /* [sets, ways] */
    uint64_t sets, ways;
};

/* Fewer places than one set's are one set. */
uint64_t emb_row_directory_round(uint64_t places) {
    return places < WAYS ? places : places / WAYS * WAYS;
}

static uint64_t ways_of(uint64_t places) {
    return places < WAYS ? places : WAYS;
}

uint64_t emb_row_directory_bytes(uint64_t places) {
    return sizeof(emb_row_directory) + places / ways_of(places) * sizeof(row_set) +
           emb_row_directory_round(places) * sizeof(emb_ngram_row_header);
}

embed_status emb_row_directory_create(emb_row_directory **out, const emb_env *env, uint64_t n) {
    embed_status st = EMBED_OK;
    emb_row_directory *d = NULL;
    *out = NULL;
    EMB_TRY(emb_new(env, sizeof *d, (void **)&d));
    d->env = *env;
    d->ways = ways_of(n);
    d->sets = n / d->ways;
    EMB_TRY(emb_new_array(env, d->sets, sizeof *d->set, (void **)&d->set));
    EMB_TRY(emb_new_array(env, d->sets * d->ways, sizeof *d->headers, (void **)&d->headers));
    *out = d;
    return EMBED_OK;
fail:
    emb_row_directory_free(d);
    return st;
}

void emb_row_directory_free(emb_row_directory *d) {
    if (d == NULL)
        return;
    const emb_env env = d->env;
    emb_free(&env, d->headers);
    emb_free(&env, d->set);
    emb_free(&env, d);
}

uint64_t emb_row_directory_places(const emb_row_directory *d) {
    return d->sets * d->ways;
}

/* Rows that are neighbours are hot together: spread them. */
static uint64_t set_of(const emb_row_directory *d, uint32_t row) {
    const uint64_t h = (row + UINT64_C(1)) * 0x9fb21c651e98df25u;
    return (uint64_t)((unsigned __int128)(h ^ h << 32) * d->sets >> 64);
}

/* ways: it is not there. */
static uint64_t way_of(const emb_row_directory *d, const row_set *set, uint32_t row) {
    uint64_t w = 0;
    while (w < d->ways && set->row[w] != row + 1)
        w++;
    return w;
}

uint64_t emb_row_directory_find(emb_row_directory *d, uint32_t row, uint64_t batch,
                                emb_ngram_row_header *header) {
    const uint64_t at = set_of(d, row);
    row_set *set = &d->set[at];
    const uint64_t w = way_of(d, set, row);
    if (w == d->ways || !set->ready[w] || set->filled[w] > batch)
        return EMB_NO_PLACE;
    set->used[w] = set->used[w] > batch ? set->used[w] : batch;
    *header = d->headers[at * d->ways + w];
    return at * d->ways + w;
}

uint64_t emb_row_directory_take(emb_row_directory *d, uint32_t row, uint64_t batch) {
    const uint64_t at = set_of(d, row);
    row_set *set = &d->set[at];
    uint64_t oldest = 0;
    if (way_of(d, set, row) < d->ways)
        return EMB_NO_PLACE; /* another batch brings it just now */
    for (uint64_t w = 1; w < d->ways; w++)
        if (set->used[w] < set->used[oldest])
            oldest = w;
    if (set->used[oldest] >= batch)
        return EMB_NO_PLACE;
    set->row[oldest] = row + 1;
    set->filled[oldest] = set->used[oldest] = batch;
    set->ready[oldest] = 0;
    return at * d->ways + oldest;
}

void emb_row_directory_ready(emb_row_directory *d, uint64_t place,
                             const emb_ngram_row_header *header) {
    d->headers[place] = *header;
    d->set[place / d->ways].ready[place % d->ways] = 1;
}

void emb_row_directory_clear(emb_row_directory *d) {
    memset(d->set, 0, d->sets * sizeof *d->set);
}
