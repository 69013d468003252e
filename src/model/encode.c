#include "model/encode.h"

#include <string.h>

#include "kernels/quantize/quantize.h"
#include "model/output_type.h"
#include "model/runner.h"
#include "model/text_window.h"

/* Row i of a batch into its place. */
static void write_row(const emb_job *job, const emb_result *result, int64_t i) {
    const int64_t dim = job->pooling.dim;
    const size_t bytes = emb_output_row_bytes(job->output, dim);
    unsigned char *row = (unsigned char *)job->out + result->texts[i].index * bytes;
    if (job->on_device)
        return;
    if (result->rows != NULL)
        memcpy(row, result->rows + (size_t)i * bytes, bytes);
    else if (job->output == EMBED_F32)
        memcpy(row, result->vectors + i * result->stride, bytes);
    else
        emb_quantize_row(result->vectors + i * result->stride, dim, job->output, job->ranges, row);
}

static void write_rows(const emb_job *job, const emb_result *result) {
    for (int64_t i = 0; i < result->n_texts; i++) {
        const emb_slot_text *text = &result->texts[i];
        write_row(job, result, i);
        if (job->reports != NULL)
            job->reports[text->index] = (embed_text_report){text->tokens, text->truncated};
    }
}

/* How far a call has come. */
struct progress {
    size_t submitted;       /* texts */
    int32_t under_way;      /* batches */
    uint64_t texts, tokens; /* done */
};

/* The oldest batch to its rows. */
static embed_status finish_batch(embed_context *ctx, const emb_job *job, struct progress *done) {
    embed_status st = EMBED_OK;
    emb_result result;
    EMB_TRY(ctx->runner->collect(ctx, &result));
    done->under_way--;
    write_rows(job, &result);
    done->texts += (uint64_t)result.n_texts;
    done->tokens += (uint64_t)result.tokens;
    if (job->progress != NULL &&
        job->progress(job->progress_user, done->texts, job->n, done->tokens) != 0)
        st = emb_fail(EMBED_ERR_CANCELLED,
                      "the progress callback stopped the call after %llu of "
                      "%zu texts",
                      (unsigned long long)done->texts, job->n);
fail:
    return st;
}

/* A batch larger than all before it needs room, which is made while nothing is under way. */
static embed_status submit_batch(embed_context *ctx, const emb_job *job, const emb_slot *slot,
                                 struct progress *done) {
    embed_status st = EMBED_OK;
    while (done->under_way > 0 && slot->batch.tokens > ctx->forward.plan.batch_tokens)
        EMB_TRY(finish_batch(ctx, job, done));
    if (done->under_way == 0)
        EMB_TRY(ctx->runner->reserve(ctx, slot->batch.tokens));
    EMB_TRY(ctx->runner->submit(ctx, slot, &job->pooling));
    done->under_way++;
    done->submitted += (size_t)slot->batch.texts;
fail:
    return st;
}

/* Ends a call. Statistics stay where they are until somebody asks; after a failure on a device
 * there are none. */
static embed_status end_call(embed_context *ctx, embed_status st) {
    ctx->counts_due = st == EMBED_OK;
    if (st != EMBED_OK)
        ctx->runner->drop(ctx);
    return st;
}

embed_status emb_encode_counts(embed_context *ctx) {
    embed_status st = EMBED_OK;
    emb_expert_counts *c = &ctx->forward.counts;
    const size_t n = (size_t)ctx->model->moe_layers * (size_t)ctx->model->config.encoder.experts;
    if (ctx->counts_due)
        EMB_TRY(ctx->runner->counts(ctx));
    ctx->counts_due = 0;
    for (size_t i = 0; c->tokens != NULL && i < n; i++)
        c->mean_gate[i] = c->tokens[i] > 0 ? c->gate_sum[i] / (double)c->tokens[i] : 0;
fail:
    return st;
}

/* Texts on their way into the stage: the window, sorted, and how far it has been packed. */
struct feed {
    emb_window window;
    size_t at, ready; /* ctx->order[at .. ready) is still to be packed */
    int64_t target;   /* tokens of each of this window's batches */
    size_t packed;    /* texts of the call */
};

/* The next window. Batches of the one before may still be in flight. */
static embed_status refill(embed_context *ctx, const emb_job *job, struct feed *feed) {
    int64_t tokens;
    const embed_status st = emb_window_fill(&feed->window, ctx, job);
    if (st != EMBED_OK)
        return st;
    feed->ready = emb_batch_sort(ctx->items, feed->window.items, ctx->order, &tokens);
    feed->at = 0;
    feed->target = emb_batch_target(tokens, ctx->forward.plan.batch_tokens);
    return EMBED_OK;
}

/* Pack batches until the stage is full or nothing is left. */
static embed_status feed_stage(embed_context *ctx, const emb_job *job, struct feed *feed) {
    embed_status st = EMBED_OK;
    const emb_plan *plan = &ctx->forward.plan;
    while (feed->packed < job->n && emb_stage_has_room(ctx->stage)) {
        emb_slot *slot;
        if (feed->at == feed->ready)
            EMB_TRY(refill(ctx, job, feed));
        const uint64_t *order = ctx->order + feed->at;
        const size_t n = emb_batch_take(order, feed->ready - feed->at, plan->batch_tokens,
                                        feed->target, plan->texts);
        /* A batch over batch_tokens is one long text. */
        EMB_TRY(emb_stage_vacant(ctx->stage, emb_order_tokens(order[0]), &slot));
        emb_slot_pack(slot, &ctx->model->config.encoder, ctx->items, order, n);
        emb_stage_submit(ctx->stage);
        feed->at += n;
        feed->packed += n;
    }
fail:
    return st;
}

static embed_status check_cancel(const emb_job *job, const struct progress *done) {
    if (job->cancel == NULL || atomic_load(job->cancel) == 0)
        return EMBED_OK;
    return emb_fail(EMBED_ERR_CANCELLED, "the call was cancelled after %llu of %zu texts",
                    (unsigned long long)done->texts, job->n);
}

/* Up to runner->depth batches are under way: the next is on its way to the device while one is in
 * work, and while the host writes the rows of the one before. */
static embed_status run_batches(embed_context *ctx, const emb_job *job) {
    embed_status st = EMBED_OK;
    struct feed feed = {{0, 0}, 0, 0, 1, 0};
    struct progress done = {0, 0, 0, 0};
    emb_slot *slot;
    while (done.texts < job->n) {
        const int more = done.submitted < job->n;
        EMB_TRY(check_cancel(job, &done));
        if (more) {
            EMB_TRY(feed_stage(ctx, job, &feed));
            EMB_TRY(emb_stage_take(ctx->stage, &slot, &ctx->table_stats));
            EMB_TRY(submit_batch(ctx, job, slot, &done));
            if (done.submitted == job->n && job->enqueued != NULL)
                EMB_TRY(job->enqueued(job->enqueued_user));
        }
        if (done.under_way == ctx->runner->depth || done.submitted == job->n)
            EMB_TRY(finish_batch(ctx, job, &done));
        if (more)
            emb_stage_release(ctx->stage);
    }
fail:
    emb_stage_reset(ctx->stage);
    return st;
}

embed_status emb_encode_run(embed_context *ctx, const emb_job *job) {
    embed_status st = EMBED_OK;
    EMB_TRY(ctx->runner->begin(ctx, job));
    EMB_TRY(run_batches(ctx, job));
fail:
    return end_call(ctx, st);
}

embed_status emb_encode_read(embed_context *ctx, const emb_job *job, const emb_batch **batch) {
    embed_status st = EMBED_OK;
    struct feed feed = {{0, 0}, 0, 0, 1, 0};
    emb_slot *slot;
    EMB_TRY(refill(ctx, job, &feed));
    EMB_TRY(emb_stage_vacant(ctx->stage, emb_order_tokens(ctx->order[0]), &slot));
    emb_slot_pack(slot, &ctx->model->config.encoder, ctx->items, ctx->order, 1);
    *batch = &slot->batch;
    if (job->reports != NULL)
        job->reports[0] = (embed_text_report){slot->texts[0].tokens, slot->texts[0].truncated};
fail:
    return st;
}

embed_status emb_encode_states(embed_context *ctx, const float **states) {
    embed_status st = EMBED_OK;
    emb_slot *slot;
    EMB_TRY(ctx->runner->begin(ctx, NULL));
    emb_stage_submit(ctx->stage);
    EMB_TRY(emb_stage_take(ctx->stage, &slot, &ctx->table_stats));
    EMB_TRY(ctx->runner->reserve(ctx, slot->batch.tokens));
    EMB_TRY(ctx->runner->states(ctx, slot, states));
fail:
    emb_stage_reset(ctx->stage);
    return end_call(ctx, st);
}
