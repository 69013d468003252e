/* batch_slot: one packed batch with all it takes to encode it and to write its results, in memory
 * of its own: the window its texts came from may be refilled while it waits its turn. */
#ifndef EMB_MODEL_BATCH_SLOT_H
#define EMB_MODEL_BATCH_SLOT_H

#include "base/alloc.h"
#include "model/batch.h"
#include "model/config.h"

typedef struct emb_slot_text {
    size_t index; /* of the text in the call */
    int32_t tokens, truncated;
} emb_slot_text;

typedef struct emb_slot {
    emb_batch batch;                    /* its arrays lie in `memory` */
    emb_slot_text *texts;               /* [batch.texts] */
    const float **rows;                 /* [batch.tokens] where a table is attached, else NULL */
    struct emb_device_carried *carried; /* rows of a table for a device, instead */
    void *memory;
    int64_t capacity; /* tokens */
    size_t bytes;     /* of memory */
} emb_slot;

/* Room for a batch of `tokens`, with row pointers or without. On failure the slot is as before;
 * otherwise it is empty. A zeroed slot has no room. */
embed_status emb_slot_reserve(emb_slot *slot, const emb_env *env, int64_t tokens, int with_rows);
void emb_slot_clear(emb_slot *slot, const emb_env *env);
/* Bytes that emb_slot_reserve takes. */
embed_status emb_slot_plan_bytes(int64_t tokens, int with_rows, size_t *bytes);

/* Items order[0..n) side by side. Position ids count from 0, or from the offset where the pad token
 * keeps its own position and is not counted (transformers
 * XLMRobertaEmbeddings.create_position_ids_from_input_ids). */
void emb_slot_pack(emb_slot *slot, const emb_encoder_config *config, const emb_item *items,
                   const uint64_t *order, size_t n);

#endif
