#include "api/params.h"
#include "model/context.h"

/* The caller's params with defaults filled in. */
static embed_status read_params(embed_context_params *p, const embed_context_params *params) {
    const embed_status st = emb_params_read(p, sizeof *p, params, "embed_context_params");
    if (st != EMBED_OK)
        return st;
    if (p->threads < 0 || p->threads > EMB_MAX_THREADS)
        return emb_fail(EMBED_ERR_ARG, "embed_context_params.threads: expected 0 to %d, found %d",
                        EMB_MAX_THREADS, p->threads);
    if (p->batch_tokens < 0 || p->batch_tokens > EMB_MAX_BATCH_TOKENS)
        return emb_fail(EMBED_ERR_ARG,
                        "embed_context_params.batch_tokens: expected 0 to %d, found %d",
                        EMB_MAX_BATCH_TOKENS, p->batch_tokens);
    if (p->threads == 0) {
        const int cpus = emb_usable_cpus();
        p->threads = cpus < EMB_MAX_THREADS ? cpus : EMB_MAX_THREADS;
    }
    if (p->batch_tokens == 0)
        p->batch_tokens = EMB_DEFAULT_BATCH_TOKENS;
    return EMBED_OK;
}

embed_status embed_context_create(embed_context **out, embed_model *model,
                                  const embed_context_params *params) {
    embed_context_params p;
    if (out == NULL)
        return emb_fail(EMBED_ERR_ARG, "out: NULL");
    *out = NULL;
    if (model == NULL)
        return emb_fail(EMBED_ERR_ARG, "model: NULL");
    const embed_status st = read_params(&p, params);
    return st != EMBED_OK ? st : emb_context_create(out, model, p.threads, p.batch_tokens);
}

void embed_context_free(embed_context *ctx) {
    emb_context_free(ctx);
}

embed_status embed_plan_bytes(const embed_model *model, const embed_context_params *params,
                              uint64_t *bytes) {
    embed_status st = EMBED_OK;
    embed_context_params p;
    emb_plan plan;
    emb_tok_scratch *scratch = NULL;
    if (model == NULL || bytes == NULL)
        return emb_fail(EMBED_ERR_ARG, "%s: NULL", model == NULL ? "model" : "bytes");
    EMB_TRY(read_params(&p, params));
    EMB_TRY(emb_plan_make(&plan, model, p.threads, p.batch_tokens, p.batch_tokens));
    EMB_TRY(emb_context_plan_bytes(&plan, model, bytes));
    EMB_TRY(emb_tok_scratch_create(&scratch, &model->base)); /* as each thread will have */
    *bytes += emb_tok_scratch_bytes(scratch) * (uint64_t)p.threads;
    emb_tok_scratch_free(scratch);
fail:
    return st;
}

uint64_t embed_context_bytes(const embed_context *ctx) {
    return ctx == NULL ? 0 : emb_context_bytes(ctx);
}

int32_t embed_context_threads(const embed_context *ctx) {
    return ctx == NULL ? 0 : ctx->forward.plan.threads;
}

embed_status embed_get_expert_stats(const embed_context *ctx, int32_t i,
                                    embed_expert_stats *stats) {
    if (ctx == NULL || stats == NULL)
        return emb_fail(EMBED_ERR_ARG, "%s: NULL", ctx == NULL ? "ctx" : "stats");
    const emb_encoder_config *c = &ctx->model->config.encoder;
    if (i < 0 || i >= ctx->model->moe_layers)
        return emb_fail(EMBED_ERR_ARG,
                        "i: expected a number below %d, the MoE layers of %s, found %d",
                        ctx->model->moe_layers, ctx->model->name, i);
    const size_t first = (size_t)i * (size_t)c->experts;
    const uint64_t *tokens = ctx->forward.counts.tokens + first;
    embed_expert_stats ours = {.experts = c->experts,
                               .expert_tokens = tokens,
                               .expert_gate = ctx->forward.counts.mean_gate + first};
    for (int32_t seen = 0; ours.layer < c->layers; ours.layer++)
        if (emb_config_is_moe(c, ours.layer) && seen++ == i)
            break;
    uint64_t pairs = 0, busiest = 0;
    double gates = 0;
    for (int32_t e = 0; e < c->experts; e++) {
        pairs += tokens[e];
        busiest = tokens[e] > busiest ? tokens[e] : busiest;
        gates += ctx->forward.counts.gate_sum[first + (size_t)e];
    }
    ours.tokens = pairs / (uint64_t)c->top_k;
    if (pairs > 0) {
        ours.busiest_share = (float)((double)busiest / (double)pairs);
        ours.mean_gate = (float)(gates / (double)pairs);
    }
    return emb_params_write(stats, &ours, sizeof ours, "embed_expert_stats");
}
