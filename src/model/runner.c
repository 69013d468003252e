#include "model/runner.h"

#include <string.h>

#include "model/device_forward.h"
#include "model/encode.h"

static size_t experts(const embed_context *ctx) {
    return (size_t)ctx->model->moe_layers * (size_t)ctx->model->config.encoder.experts;
}

/* ---- the CPU: a batch is through when submit returns */

static embed_status cpu_begin(embed_context *ctx, const emb_job *job) {
    emb_expert_counts *c = &ctx->forward.counts;
    (void)job;
    for (size_t i = 0; c->tokens != NULL && i < experts(ctx); i++) {
        c->tokens[i] = 0;
        c->gate_sum[i] = 0;
    }
    return EMBED_OK;
}

static embed_status cpu_counts(embed_context *ctx) {
    (void)ctx; /* counted as batches run */
    return EMBED_OK;
}

static embed_status cpu_submit(embed_context *ctx, const emb_slot *slot,
                               const emb_pooling_options *options) {
    embed_status st = EMBED_OK;
    emb_result *r = &ctx->result;
    r->rows = NULL;
    r->texts = slot->texts;
    r->n_texts = slot->batch.texts;
    r->tokens = slot->batch.tokens;
    EMB_TRY(emb_forward_run(&ctx->forward, &slot->batch));
    EMB_TRY(emb_pooling_run(&ctx->forward, &slot->batch, options, &r->vectors, &r->stride));
fail:
    return st;
}

static embed_status cpu_collect(embed_context *ctx, emb_result *result) {
    *result = ctx->result;
    return EMBED_OK;
}

static embed_status cpu_states(embed_context *ctx, const emb_slot *slot, const float **states) {
    *states = emb_forward_states(&ctx->forward);
    return emb_forward_run(&ctx->forward, &slot->batch);
}

static void cpu_drop(embed_context *ctx) {
    (void)ctx; /* nothing is ever under way */
}

const emb_runner emb_runner_cpu = {
    .depth = 1,
    .begin = cpu_begin,
    .counts = cpu_counts,
    .reserve = emb_context_reserve,
    .submit = cpu_submit,
    .collect = cpu_collect,
    .states = cpu_states,
    .drop = cpu_drop,
};

/* ---- a device */

static embed_status device_begin(embed_context *ctx, const emb_job *job) {
    (void)cpu_begin(ctx, job);
    if (job == NULL)
        return emb_device_forward_begin(ctx->device, NULL);
    const emb_device_output output = {.type = job->output,
                                      .dim = job->pooling.dim,
                                      .ranges = job->ranges,
                                      .to = {job->on_device ? (uint64_t)(uintptr_t)job->out : 0},
                                      .after = job->after};
    return emb_device_forward_begin(ctx->device, &output);
}

static embed_status device_counts(embed_context *ctx) {
    return emb_device_forward_counts(ctx->device, ctx->forward.counts.tokens,
                                     ctx->forward.counts.gate_sum);
}

static embed_status device_reserve(embed_context *ctx, int64_t tokens) {
    return emb_device_forward_reserve(ctx->device, tokens);
}

static embed_status device_submit(embed_context *ctx, const emb_slot *slot,
                                  const emb_pooling_options *options) {
    return emb_device_forward_submit(ctx->device, slot, options);
}

static embed_status device_collect(embed_context *ctx, emb_result *result) {
    const emb_device_set *set;
    embed_status st = emb_device_forward_collect(ctx->device, &set);
    if (st == EMBED_OK && set->rows != NULL)
        st = emb_device_rows_done(set->rows, (int)(set - ctx->device->sets), &set->row_events,
                                  &ctx->table_stats);
    if (st == EMBED_OK)
        *result = (emb_result){
            .texts = set->texts, .n_texts = set->n_texts, .tokens = set->tokens, .rows = set->out};
    return st;
}

static embed_status device_states(embed_context *ctx, const emb_slot *slot, const float **states) {
    return emb_device_forward_states(ctx->device, slot, states);
}

static void device_drop(embed_context *ctx) {
    emb_device_forward_drop(ctx->device);
}

const emb_runner emb_runner_device = {
    .depth = EMB_DEVICE_SETS,
    .begin = device_begin,
    .counts = device_counts,
    .reserve = device_reserve,
    .submit = device_submit,
    .collect = device_collect,
    .states = device_states,
    .drop = device_drop,
};
