#include "model/batch_slot.h"

/* Where the arrays of a slot lie in its memory: widest elements first, so all are aligned. */
struct layout {
    size_t rows, texts, ids, positions, offsets, bytes;
};

static embed_status place(size_t *at, size_t *start, int64_t count, size_t size) {
    size_t bytes;
    *start = *at;
    const embed_status st = emb_mul((size_t)count, size, "batch", &bytes);
    return st != EMBED_OK ? st : emb_add(*at, bytes, "batch", at);
}

static embed_status lay_out(struct layout *l, int64_t tokens, int with_rows) {
    embed_status st = EMBED_OK;
    const int64_t texts = tokens < EMB_MAX_BATCH_TEXTS ? tokens : EMB_MAX_BATCH_TEXTS;
    *l = (struct layout){0};
    EMB_TRY(place(&l->bytes, &l->rows, with_rows ? tokens : 0, sizeof(float *)));
    EMB_TRY(place(&l->bytes, &l->texts, texts, sizeof(emb_slot_text)));
    EMB_TRY(place(&l->bytes, &l->ids, tokens, sizeof(int32_t)));
    EMB_TRY(place(&l->bytes, &l->positions, tokens, sizeof(int32_t)));
    EMB_TRY(place(&l->bytes, &l->offsets, texts + 1, sizeof(int32_t)));
fail:
    return st;
}

embed_status emb_slot_plan_bytes(int64_t tokens, int with_rows, size_t *bytes) {
    struct layout l;
    const embed_status st = lay_out(&l, tokens, with_rows);
    *bytes = l.bytes;
    return st;
}

embed_status emb_slot_reserve(emb_slot *slot, const emb_env *env, int64_t tokens, int with_rows) {
    embed_status st = EMBED_OK;
    struct layout l;
    void *memory;
    if (slot->memory != NULL && tokens <= slot->capacity)
        return EMBED_OK;
    EMB_TRY(lay_out(&l, tokens, with_rows));
    EMB_TRY(emb_alloc(env, l.bytes, &memory));
    emb_free(env, slot->memory);
    unsigned char *base = memory;
    *slot = (emb_slot){
        .batch = {.ids = (void *)(base + l.ids),
                  .positions = (void *)(base + l.positions),
                  .offsets = (void *)(base + l.offsets)},
        .texts = (void *)(base + l.texts),
        .rows = with_rows ? (void *)(base + l.rows) : NULL,
        .memory = memory,
        .capacity = tokens,
        .bytes = l.bytes,
    };
fail:
    return st;
}

void emb_slot_clear(emb_slot *slot, const emb_env *env) {
    emb_free(env, slot->memory);
    *slot = (emb_slot){0};
}

void emb_slot_pack(emb_slot *slot, const emb_encoder_config *c, const emb_item *items,
                   const uint64_t *order, size_t n) {
    const int32_t pad = c->position_offset - 1;
    emb_batch *b = &slot->batch;
    b->tokens = b->texts = 0;
    for (size_t i = 0; i < n; i++) {
        const emb_item *item = &items[emb_order_item(order[i])];
        int32_t position = c->position_offset;
        slot->texts[i] = (emb_slot_text){item->index, item->tokens, item->truncated};
        b->offsets[b->texts++] = (int32_t)b->tokens;
        for (int32_t t = 0; t < item->tokens; t++, b->tokens++) {
            b->ids[b->tokens] = item->ids[t];
            b->positions[b->tokens] = item->ids[t] == pad ? pad : position++;
        }
    }
    b->offsets[b->texts] = (int32_t)b->tokens;
    b->rows = NULL;
    b->add_rows = 0;
}
