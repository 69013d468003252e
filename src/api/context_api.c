#include "api/params.h"
#include "api/place.h"
#include "model/context.h"
#include "model/encode.h"
#include "model/device_group.h"
#include "model/ngram_binding.h"

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
    if (p->table_place < EMBED_TABLE_PLACE_AUTO || p->table_place > EMBED_TABLE_PLACE_RESIDENT)
        return emb_fail(EMBED_ERR_ARG,
                        "embed_context_params.table_place: expected 0 to %d, found %d",
                        EMBED_TABLE_PLACE_RESIDENT, p->table_place);
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
    emb_places places;
    if (out == NULL)
        return emb_fail(EMBED_ERR_ARG, "out: NULL");
    *out = NULL;
    if (model == NULL)
        return emb_fail(EMBED_ERR_ARG, "model: NULL");
    embed_status st = EMBED_OK;
    EMB_TRY(read_params(&p, params));
    if (p.table != NULL)
        EMB_TRY(emb_ngram_binding_fits(model, p.table));
    EMB_TRY(emb_places_find(&places, &p));
    EMB_TRY(emb_context_create_on(out, model, p.table, p.threads, p.batch_tokens, &places));
fail:
    return st;
}

void embed_context_free(embed_context *ctx) {
    emb_context_free(ctx);
}

embed_status embed_plan_bytes(const embed_model *model, const embed_context_params *params,
                              uint64_t *bytes) {
    embed_status st = EMBED_OK;
    embed_context_params p;
    emb_places places;
    emb_plan plan;
    emb_device_rows_spec rows;
    uint64_t device = 0;
    size_t weights;
    emb_tok_scratch *scratch = NULL;
    if (model == NULL || bytes == NULL)
        return emb_fail(EMBED_ERR_ARG, "%s: NULL", model == NULL ? "model" : "bytes");
    EMB_TRY(read_params(&p, params));
    EMB_TRY(emb_places_find(&places, &p));
    EMB_TRY(emb_context_plan(&plan, model, p.threads, p.batch_tokens, &places.place));
    rows = emb_places_rows(&places);
    if (places.place.backend != NULL) {
        const int64_t most = emb_device_group_most_tokens(model, &places);
        const int64_t tokens = p.batch_tokens < most ? p.batch_tokens : most;
        EMB_TRY(emb_device_group_plan_bytes(model, &places, tokens, &device));
        if (p.table != NULL && rows.backend == NULL)
            device += (uint64_t)places.n * EMB_DEVICE_SETS *
                      emb_device_row_floats_plan_bytes(model->config.encoder.hidden, tokens);
        EMB_TRY(emb_device_weights_bytes(model, places.place.dtype, &weights));
        rows.taken = device; /* what is pinned too: a little less for the rows */
        if (!emb_device_home_there(model, places.place.backend, rows.index, places.place.dtype))
            rows.taken += weights;
    }
    EMB_TRY(emb_context_plan_bytes(&plan, model, p.table, &rows, bytes));
    *bytes += device;
    EMB_TRY(emb_tok_scratch_create(&scratch, &model->base)); /* as each thread will have */
    *bytes += emb_tok_scratch_bytes(scratch) * (uint64_t)p.threads;
    emb_tok_scratch_free(scratch);
fail:
    return st;
}

uint64_t embed_context_bytes(const embed_context *ctx) {
    /* The lock inside is the only thing that changes. */
    return ctx == NULL ? 0 : emb_context_bytes((embed_context *)ctx);
}

int32_t embed_context_threads(const embed_context *ctx) {
    return ctx == NULL ? 0 : ctx->forward.plan.threads;
}

embed_status embed_context_set_table(embed_context *ctx, embed_table *table) {
    if (ctx == NULL)
        return emb_fail(EMBED_ERR_ARG, "ctx: NULL");
    embed_status st = emb_context_check_process(ctx);
    if (st == EMBED_OK && table != NULL)
        st = emb_ngram_binding_fits(ctx->model, table);
    return st != EMBED_OK ? st : emb_context_set_table(ctx, table);
}

embed_status embed_context_get_table_stats(const embed_context *ctx, embed_table_stats *stats) {
    if (ctx == NULL || stats == NULL)
        return emb_fail(EMBED_ERR_ARG, "%s: NULL", ctx == NULL ? "ctx" : "stats");
    embed_context *own = (embed_context *)ctx; /* only its lock changes */
    if (atomic_flag_test_and_set(&own->busy))
        return emb_fail(EMBED_ERR_ARG, "ctx: in use by another call; use one context per thread");
    const emb_ngram_stats stats_now = ctx->table_stats;
    atomic_flag_clear(&own->busy);
    const emb_ngram_stats *s = &stats_now;
    embed_table_stats ours = {
        .positions = s->positions,
        .distinct_rows = s->distinct_rows,
        .cache_hits = s->cache_hits,
        .bytes_read = s->bytes_read,
        .foreign_rows = s->foreign_rows,
        .fetch_seconds = 1e-9 * (double)s->fetch_ns,
        .wait_seconds = 1e-9 * (double)s->wait_ns,
        .resident_share = -1,
        .place = s->place,
        .device_bytes = s->device_bytes,
        .device_hits = s->device_hits,
        .device_wait_seconds = 1e-9 * (double)s->device_wait_ns,
    };
    for (int i = 0; i <= EMB_NGRAM_MAX_K; i++)
        ours.hits[i] = s->hits[i];
    return emb_params_write(stats, &ours, sizeof ours, "embed_table_stats");
}

embed_status embed_get_expert_stats(const embed_context *ctx, int32_t i,
                                    embed_expert_stats *stats) {
    if (ctx == NULL || stats == NULL)
        return emb_fail(EMBED_ERR_ARG, "%s: NULL", ctx == NULL ? "ctx" : "stats");
    const emb_encoder_config *c = &ctx->model->config.encoder;
    embed_status st;
    if (i < 0 || i >= ctx->model->moe_layers)
        return emb_fail(EMBED_ERR_ARG,
                        "i: expected a number below %d, the MoE layers of %s, found %d",
                        ctx->model->moe_layers, ctx->model->name, i);
    embed_context *own = (embed_context *)ctx; /* what it brings here is all that changes */
    if (atomic_flag_test_and_set(&own->busy))
        return emb_fail(EMBED_ERR_ARG, "ctx: in use by another call; use one context per thread");
    st = emb_encode_counts(own);
    atomic_flag_clear(&own->busy);
    if (st != EMBED_OK)
        return st;
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
