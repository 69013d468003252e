#include "model/device_graphs.h"

#include <string.h>

int64_t emb_bucket_tokens(int64_t tokens) {
    int64_t bucket = EMB_BUCKET_FIRST;
    while (bucket < tokens && bucket < EMB_BUCKET_LAST) {
        bucket += (bucket + 3) / 4;
        bucket = bucket < EMB_BUCKET_LAST ? bucket : EMB_BUCKET_LAST;
    }
    return tokens <= bucket ? bucket : 0;
}

int64_t emb_bucket_texts(int64_t texts) {
    int64_t bucket = 1;
    while (bucket < texts)
        bucket *= 2;
    return bucket;
}

static int same(const emb_graph_key *a, const emb_graph_key *b, int with_set) {
    return (a->set == b->set || !with_set) && a->tokens == b->tokens && a->texts == b->texts &&
           a->rows == b->rows && a->rows_dtype == b->rows_dtype && a->skip == b->skip;
}

emb_graph_entry *emb_graphs_find(emb_graphs *g, const emb_graph_key *key, int *warm) {
    emb_graph_entry *found = NULL, *oldest = &g->entries[0];
    *warm = 0;
    for (size_t i = 0; i < EMB_GRAPHS; i++) {
        emb_graph_entry *e = &g->entries[i];
        if (e->used < oldest->used)
            oldest = e;
        if (e->used == 0)
            continue;
        *warm |= same(&e->key, key, 0);
        if (same(&e->key, key, 1))
            found = e;
    }
    if (found == NULL) {
        found = oldest;
        emb_graph_free(found->graph);
        *found = (emb_graph_entry){.key = *key};
    }
    found->used = ++g->clock;
    return found;
}

void emb_graphs_clear(emb_graphs *g) {
    for (size_t i = 0; i < EMB_GRAPHS; i++)
        emb_graph_free(g->entries[i].graph);
    memset(g->entries, 0, sizeof g->entries);
}
