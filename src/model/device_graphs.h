/* device_graphs: small batches run from captured graphs. A batch's tokens and texts round up to a
 * bucket; launches are made for the bucket and read the real counts from the header of the batch
 * (device_plan), so that one graph serves every batch of it. Here: the buckets, and the graphs of a
 * context by what they were captured for. A graph holds addresses, so it belongs to one of the sets
 * of buffers, and all go when the buffers do.
 *
 * A bucket's first batch runs without a graph: a kernel's first launch may load its code, which a
 * capture does not allow. The second is captured and launched, all further ones are replayed. */
#ifndef EMB_MODEL_DEVICE_GRAPHS_H
#define EMB_MODEL_DEVICE_GRAPHS_H

#include "device/device.h"

#define EMB_BUCKET_FIRST 16
#define EMB_BUCKET_LAST 4096  /* tokens; larger batches have no bucket */
#define EMB_GRAPHS 64         /* kept; then the least recently used goes */
#define EMB_GRAPH_FAILURES 3u /* captures that fail before no more are tried */

/* The bucket of a batch: 16, and 1.25 times the one before, rounded up, to 4096; 0 beyond. */
int64_t emb_bucket_tokens(int64_t tokens);
/* Powers of two: empty texts cost attention and pooling empty blocks. */
int64_t emb_bucket_texts(int64_t texts);

/* What the launches of a graph depend on. All of it is compared, so it starts zeroed. */
typedef struct emb_graph_key {
    int32_t set;
    int32_t tokens, texts; /* of the bucket */
    int32_t rows;          /* of a table: 0 none, 1 in place of the word's, 2 added to it */
    int32_t rows_dtype;
    int32_t skip; /* 1: leading tokens are not pooled */
} emb_graph_key;

typedef struct emb_graph_entry {
    emb_graph_key key;
    emb_graph *graph; /* NULL: not yet captured */
    uint64_t used;    /* when, of emb_graphs.clock; 0: a free place */
} emb_graph_entry;

/* Starts zeroed; one thread at a time. */
typedef struct emb_graphs {
    emb_graph_entry entries[EMB_GRAPHS];
    uint64_t clock;
    uint64_t plain, captured,
        replayed;      /* batches so far: launched one by one, captured, replayed */
    uint32_t failures; /* captures that failed */
    uint32_t reserved;
    emb_graph_info info; /* of the last one captured */
} emb_graphs;

/* The entry of a key, which is then the most recently used one; a new one takes a free place or
 * that of the least recently used. *warm: 1 if a batch of the same launches, of either set, has run
 * before. */
emb_graph_entry *emb_graphs_find(emb_graphs *g, const emb_graph_key *key, int *warm);
/* Frees all graphs; they may still run (the driver and the fake device keep what runs). */
void emb_graphs_clear(emb_graphs *g);

#endif
