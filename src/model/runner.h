/* runner: what brings packed batches through the encoder, behind one table: the CPU back end here,
 * or a device (model/device_forward). The way from texts to batches and from vectors to rows is the
 * same for both (model/encode). */
#ifndef EMB_MODEL_RUNNER_H
#define EMB_MODEL_RUNNER_H

#include "model/context.h"
#include "model/pooling.h"

struct emb_job;

typedef struct emb_runner {
    int32_t depth; /* batches that may be under way */
    int32_t reserved;
    /* A call starts: statistics of the experts at zero; what becomes of vectors. job NULL: a call
     * for states. */
    embed_status (*begin)(embed_context *ctx, const struct emb_job *job);
    /* Read the statistics of the last call; nothing is under way. */
    embed_status (*counts)(embed_context *ctx);
    /* Room for a batch of `tokens`; nothing is under way. */
    embed_status (*reserve)(embed_context *ctx, int64_t tokens);
    /* The slot must stay as it is until the batch is collected if depth is 1. */
    embed_status (*submit)(embed_context *ctx, const emb_slot *slot,
                           const emb_pooling_options *options);
    /* The oldest one; *result lives until the next call. */
    embed_status (*collect)(embed_context *ctx, emb_result *result);
    /* Hidden states [tokens, hidden] instead of vectors. */
    embed_status (*states)(embed_context *ctx, const emb_slot *slot, const float **states);
    void (*drop)(embed_context *ctx); /* what is under way, after a failure */
} emb_runner;

extern const emb_runner emb_runner_cpu, emb_runner_device;

#endif
