/* plan: the memory of a context, known before anything runs. One block, the arena, holds whatever a
 * batch needs on its way through the encoder; regions that are never alive together share bytes. */
#ifndef EMB_MODEL_PLAN_H
#define EMB_MODEL_PLAN_H

#include "model/batch.h"
#include "model/model.h"

#define EMB_DEFAULT_BATCH_TOKENS 4096
#define EMB_MAX_BATCH_TOKENS (1 << 24)
#define EMB_MAX_THREADS 1024
/* Inner activations of a feed-forward layer held at once, in bytes: a longer batch goes through in
 * several parts. Small enough for the last-level cache of a server core complex, large enough for
 * thousands of rows, so that weights are read rarely. */
#define EMB_INNER_BYTES ((size_t)32 << 20)
/* Texts are read, grouped by length and encoded in windows of this many batches. */
#define EMB_WINDOW_BATCHES 8

/* Byte offsets into the arena. */
typedef struct emb_regions {
    size_t skip; /* [texts] leading tokens left out of the pooling */
    size_t x, y; /* [tokens, hidden]: hidden states, and a layer's update */
    size_t gate, expert, slot, rows, expert_offset, gate_sum, groups; /* routing */
    size_t work; /* attention: qkv, then its projection. Feed-forward: inner activations, MoE: after
                    the outputs of the experts. Pooling: two sets of vectors */
    size_t expert_out, inner; /* inside work */
    size_t vectors[2];        /* inside work */
    size_t bytes;             /* of the arena */
} emb_regions;

typedef struct emb_plan {
    int64_t tokens, texts; /* capacity of a batch */
    int64_t inner_rows;    /* rows of inner activations held at once */
    int64_t vector_width;  /* widest vector between pooling and output */
    int32_t threads;
    int32_t batch_tokens; /* as asked for; tokens is larger once a long text came */
    size_t window_texts, window_tokens;
    emb_regions at;
    size_t scratch_bytes; /* of the kernels, per thread */
} emb_plan;

/* tokens: capacity of a batch, at least batch_tokens. */
embed_status emb_plan_make(emb_plan *plan, const embed_model *model, int32_t threads,
                           int32_t batch_tokens, int64_t tokens);

#endif
