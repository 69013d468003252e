/* encode: a call from texts to output rows, window by window and batch by batch. */
#ifndef EMB_MODEL_ENCODE_H
#define EMB_MODEL_ENCODE_H

#include "model/context.h"
#include "model/pooling.h"

/* A call whose arguments have been checked. */
typedef struct emb_job {
    const embed_text *texts; /* [n], or */
    const embed_ids *rows;   /* [n], ids within the vocabulary, lengths within the limit */
    size_t n;
    emb_tok_options tokenize;
    int32_t refuse_long; /* 1: a text over tokenize.max_tokens is an error */
    int32_t output;      /* embed_dtype */
    emb_pooling_options pooling;
    const float *ranges; /* [2, dim] for EMBED_I8, EMBED_U8 */
    embed_text_report *reports;
    embed_progress_fn progress;
    void *progress_user;
    void *out;
    /* Of calls in the background only. */
    int32_t on_device;        /* 1: out is memory of the context's device */
    const atomic_int *cancel; /* set: the call is to end before its next batch; or NULL */
    struct emb_event *after;  /* on_device: comes before `out` is written; or NULL */
    embed_status (*enqueued)(void *user); /* on_device: the last batch is on its way; or NULL */
    void *enqueued_user;
} emb_job;

embed_status emb_encode_run(embed_context *ctx, const emb_job *job);
/* Statistics of the last call into ctx->forward.counts: from a device one copy, the first time. */
embed_status emb_encode_counts(embed_context *ctx);

/* job->texts[0] as a batch of one, and its way through the encoder: the two halves of per-token
 * output, between which the caller learns the number of tokens and may leave it at that. *batch
 * and *states [tokens, hidden] live until the next call. */
embed_status emb_encode_read(embed_context *ctx, const emb_job *job, const emb_batch **batch);
embed_status emb_encode_states(embed_context *ctx, const float **states);

#endif
