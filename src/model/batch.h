/* batch: texts on their way into the encoder. A window of texts is tokenised, sorted by length, and
 * cut into batches of packed rows without padding. */
#ifndef EMB_MODEL_BATCH_H
#define EMB_MODEL_BATCH_H

#include <stddef.h>
#include <stdint.h>

/* Texts of one batch at most: bounds the vectors held, and costs nothing, since a thousand texts
 * of three tokens already fill the matrix products. */
#define EMB_MAX_BATCH_TEXTS 1024
#define EMB_ITEM_PENDING (-1) /* emb_item.tokens: not tokenised yet, left for the next window */

typedef struct emb_item {
    const int32_t *ids;
    size_t index; /* of the text in the call */
    int32_t tokens;
    int32_t truncated;
} emb_item;

/* Packed rows of one forward pass. */
typedef struct emb_batch {
    int64_t tokens, texts;
    int32_t *ids, *positions; /* [tokens] */
    int32_t *offsets;         /* [texts + 1] */
    const float *const
        *rows;        /* [tokens] of the n-gram table, NULL where nothing matches; or NULL */
    int32_t add_rows; /* 1: added to the word embedding instead of replacing it */
    int32_t reserved;
} emb_batch;

/* Fills order[] with (tokens << 32 | item) of the items that are ready, longest first, equal
 * lengths in the order of the items. Returns how many; *tokens is their sum. */
size_t emb_batch_sort(const emb_item *items, size_t n, uint64_t *order, int64_t *tokens);

/* How many of order[0..n) make the next batch: within batch_tokens and max_texts, at least one.
 * target: tokens after which the batch is closed, so that batches come out even. */
size_t emb_batch_take(const uint64_t *order, size_t n, int64_t batch_tokens, int64_t target,
                      int64_t max_texts);

/* Target for `tokens` in batches of batch_tokens: all batches nearly equal. */
int64_t emb_batch_target(int64_t tokens, int64_t batch_tokens);

static inline size_t emb_order_item(uint64_t entry) {
    return (size_t)(~entry & UINT32_MAX);
}
static inline int64_t emb_order_tokens(uint64_t entry) {
    return (int64_t)(entry >> 32);
}

#endif
