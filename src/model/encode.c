#include "model/encode.h"

#include <string.h>

#include "kernels/quantize/quantize.h"
#include "model/text_window.h"

int64_t emb_encode_row_len(int32_t output, int64_t dim) {
    return output == EMBED_BINARY || output == EMBED_UBINARY ? (dim + 7) / 8 : dim;
}

size_t emb_encode_element_bytes(int32_t output) {
    switch (output) {
    case EMBED_F32:
        return sizeof(float);
    case EMBED_F16:
        return sizeof(uint16_t);
    case EMBED_I8:
    case EMBED_U8:
    case EMBED_BINARY:
    case EMBED_UBINARY:
        return 1;
    default:
        return 0;
    }
}

/* Items order[0..n) side by side into the batch's arrays. Position ids count from 0, or from the
 * offset where the pad token keeps its own position and is not counted (transformers
 * XLMRobertaEmbeddings.create_position_ids_from_input_ids). */
static emb_batch pack(embed_context *ctx, const uint64_t *order, size_t n) {
    const emb_encoder_config *c = &ctx->model->config.encoder;
    const int32_t pad = c->position_offset - 1;
    emb_batch b = emb_forward_batch(&ctx->forward);
    for (size_t i = 0; i < n; i++) {
        const emb_item *item = &ctx->items[emb_order_item(order[i])];
        int32_t position = c->position_offset;
        b.offsets[b.texts++] = (int32_t)b.tokens;
        for (int32_t t = 0; t < item->tokens; t++, b.tokens++) {
            b.ids[b.tokens] = item->ids[t];
            b.positions[b.tokens] = item->ids[t] == pad ? pad : position++;
        }
    }
    b.offsets[b.texts] = (int32_t)b.tokens;
    return b;
}

static void write_rows(embed_context *ctx, const emb_job *job, const uint64_t *order, size_t n,
                       const float *vectors, int64_t stride) {
    const int64_t dim = job->pooling.dim;
    const size_t row_bytes =
        (size_t)emb_encode_row_len(job->output, dim) * emb_encode_element_bytes(job->output);
    for (size_t i = 0; i < n; i++) {
        const emb_item *item = &ctx->items[emb_order_item(order[i])];
        unsigned char *row = (unsigned char *)job->out + item->index * row_bytes;
        const float *vector = vectors + (int64_t)i * stride;
        if (job->output == EMBED_F32)
            memcpy(row, vector, row_bytes);
        else
            emb_quantize_row(vector, dim, job->output, job->ranges, row);
        if (job->reports != NULL)
            job->reports[item->index] = (embed_text_report){item->tokens, item->truncated};
    }
}

struct progress {
    uint64_t texts, tokens;
};

static embed_status run_batch(embed_context *ctx, const emb_job *job, const uint64_t *order,
                              size_t n, struct progress *done) {
    embed_status st = EMBED_OK;
    emb_forward *f = &ctx->forward;
    const float *vectors;
    int64_t stride;
    EMB_TRY(emb_context_reserve(ctx, emb_order_tokens(order[0])));
    const emb_batch batch = pack(ctx, order, n);
    EMB_TRY(emb_forward_run(f, &batch));
    EMB_TRY(emb_pooling_run(f, &batch, &job->pooling, &vectors, &stride));
    write_rows(ctx, job, order, n, vectors, stride);
    done->texts += n;
    done->tokens += (uint64_t)batch.tokens;
    if (job->progress != NULL &&
        job->progress(job->progress_user, done->texts, job->n, done->tokens) != 0)
        st = emb_fail(EMBED_ERR_CANCELLED,
                      "the progress callback stopped the call after %llu of "
                      "%zu texts",
                      (unsigned long long)done->texts, job->n);
fail:
    return st;
}

static void start_counts(embed_context *ctx) {
    emb_expert_counts *c = &ctx->forward.counts;
    const size_t n = (size_t)ctx->model->moe_layers * (size_t)ctx->model->config.encoder.experts;
    for (size_t i = 0; c->tokens != NULL && i < n; i++) {
        c->tokens[i] = 0;
        c->gate_sum[i] = 0;
        c->mean_gate[i] = 0;
    }
}

static void finish_counts(embed_context *ctx) {
    emb_expert_counts *c = &ctx->forward.counts;
    const size_t n = (size_t)ctx->model->moe_layers * (size_t)ctx->model->config.encoder.experts;
    for (size_t i = 0; c->tokens != NULL && i < n; i++)
        c->mean_gate[i] = c->tokens[i] > 0 ? c->gate_sum[i] / (double)c->tokens[i] : 0;
}

embed_status emb_encode_run(embed_context *ctx, const emb_job *job) {
    embed_status st = EMBED_OK;
    const emb_plan *plan = &ctx->forward.plan;
    emb_window window = {0, 0};
    struct progress done = {0, 0};
    start_counts(ctx);
    while (done.texts < job->n) {
        int64_t tokens;
        EMB_TRY(emb_window_fill(&window, ctx, job));
        const size_t ready = emb_batch_sort(ctx->items, window.items, ctx->order, &tokens);
        const int64_t target = emb_batch_target(tokens, plan->batch_tokens);
        for (size_t from = 0, n; from < ready; from += n) {
            n = emb_batch_take(ctx->order + from, ready - from, plan->batch_tokens, target,
                               plan->texts);
            EMB_TRY(run_batch(ctx, job, ctx->order + from, n, &done));
        }
    }
fail:
    finish_counts(ctx);
    return st;
}

embed_status emb_encode_read(embed_context *ctx, const emb_job *job, emb_batch *batch) {
    embed_status st = EMBED_OK;
    emb_window window = {0, 0};
    int64_t tokens;
    EMB_TRY(emb_window_fill(&window, ctx, job));
    const size_t ready = emb_batch_sort(ctx->items, window.items, ctx->order, &tokens);
    EMB_TRY(emb_context_reserve(ctx, tokens));
    *batch = pack(ctx, ctx->order, ready);
    if (job->reports != NULL)
        job->reports[0] = (embed_text_report){(int32_t)tokens, ctx->items[0].truncated};
fail:
    return st;
}

embed_status emb_encode_states(embed_context *ctx, const emb_batch *batch) {
    start_counts(ctx);
    const embed_status st = emb_forward_run(&ctx->forward, batch);
    finish_counts(ctx);
    return st;
}
