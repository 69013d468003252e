#include "model/row_directory.h"

#include <string.h>

#define WAYS 16

typedef struct entry {
    uint64_t filled, used; /* batches: that brings it, of the last use; used 0: empty */
    uint32_t row;
    uint32_t ready; /* 1: checked, the header is there */
    emb_ngram_row_header header;
} entry;

struct emb_row_directory {
    emb_env env;
    entry *entries; /* [sets, ways] */
    uint64_t sets, ways;
};

/* Fewer places than one set's are one set. */
uint64_t emb_row_directory_round(uint64_t places) {
    return places < WAYS ? places : places / WAYS * WAYS;
}

uint64_t emb_row_directory_bytes(uint64_t places) {
    return sizeof(emb_row_directory) + emb_row_directory_round(places) * sizeof(entry);
}

embed_status emb_row_directory_create(emb_row_directory **out, const emb_env *env,
                                      uint64_t places) {
    embed_status st = EMBED_OK;
    emb_row_directory *d = NULL;
    *out = NULL;
    EMB_TRY(emb_new(env, sizeof *d, (void **)&d));
    d->env = *env;
    d->ways = places < WAYS ? places : WAYS;
    d->sets = places / d->ways;
    EMB_TRY(emb_new_array(env, d->sets * d->ways, sizeof *d->entries, (void **)&d->entries));
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
    emb_free(&env, d->entries);
    emb_free(&env, d);
}

uint64_t emb_row_directory_places(const emb_row_directory *d) {
    return d->sets * d->ways;
}

/* Rows that are neighbours are hot together: spread them. */
static entry *set_of(const emb_row_directory *d, uint32_t row) {
    const uint64_t h = (row + UINT64_C(1)) * 0x9fb21c651e98df25u;
    return d->entries + (uint64_t)((unsigned __int128)(h ^ h << 32) * d->sets >> 64) * d->ways;
}

static entry *entry_of(const emb_row_directory *d, uint32_t row) {
    entry *set = set_of(d, row);
    for (uint64_t w = 0; w < d->ways; w++)
        if (set[w].used != 0 && set[w].row == row)
            return &set[w];
    return NULL;
}

uint64_t emb_row_directory_find(emb_row_directory *d, uint32_t row, uint64_t batch,
                                emb_ngram_row_header *header) {
    entry *e = entry_of(d, row);
    if (e == NULL || !e->ready || e->filled > batch)
        return EMB_NO_PLACE;
    e->used = e->used > batch ? e->used : batch;
    *header = e->header;
    return (uint64_t)(e - d->entries);
}

uint64_t emb_row_directory_take(emb_row_directory *d, uint32_t row, uint64_t batch) {
    entry *set = set_of(d, row), *oldest = set;
    if (entry_of(d, row) != NULL)
        return EMB_NO_PLACE; /* another batch brings it just now */
    for (uint64_t w = 1; w < d->ways; w++)
        if (set[w].used < oldest->used)
            oldest = &set[w];
    if (oldest->used >= batch)
        return EMB_NO_PLACE;
    *oldest = (entry){.filled = batch, .used = batch, .row = row};
    return (uint64_t)(oldest - d->entries);
}

void emb_row_directory_ready(emb_row_directory *d, uint64_t place,
                             const emb_ngram_row_header *header) {
    d->entries[place].header = *header;
    d->entries[place].ready = 1;
}

void emb_row_directory_clear(emb_row_directory *d) {
    memset(d->entries, 0, d->sets * d->ways * sizeof *d->entries);
}
