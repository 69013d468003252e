#include "model/device_group.h"

#include "model/encode.h"

/* ---------------------------------------------------------------------------------- replicated */

static embed_status group_begin(embed_context *ctx, const emb_job *job) {
    embed_status st = EMBED_OK;
    const emb_device_group *g = ctx->group;
    emb_device_output output = {.type = EMBED_F32};
    if (job != NULL)
        output = (emb_device_output){
            .type = job->output, .dim = job->pooling.dim, .ranges = job->ranges};
    EMB_TRY(emb_runner_cpu.begin(ctx, job)); /* counts start at zero */
    for (int32_t r = 0; r < g->n; r++)
        EMB_TRY(emb_device_forward_begin(g->forwards[r], job != NULL ? &output : NULL));
fail:
    return st;
}

static embed_status group_counts(embed_context *ctx) {
    embed_status st = EMBED_OK;
    const emb_device_group *g = ctx->group;
    emb_expert_counts *c = &ctx->forward.counts;
    const size_t n = (size_t)ctx->model->moe_layers * (size_t)ctx->model->config.encoder.experts;
    if (n == 0)
        return EMBED_OK;
    EMB_TRY(emb_runner_cpu.begin(ctx, NULL)); /* from zero, if it failed half-way before */
    for (int32_t r = 0; r < g->n; r++) {
        EMB_TRY(emb_device_forward_counts(g->forwards[r], g->tokens, g->gate_sum));
        for (size_t i = 0; i < n; i++) {
            c->tokens[i] += g->tokens[i];
            c->gate_sum[i] += g->gate_sum[i];
        }
    }
fail:
    return st;
}

/* One text longer than all batches has room on one device. */
static embed_status group_reserve(embed_context *ctx, int64_t tokens) {
    const emb_device_group *g = ctx->group;
    for (int32_t r = 0; r < g->n; r++)
        if (g->forwards[r]->plan.tokens >= tokens)
            return EMBED_OK;
    return emb_device_forward_reserve(g->forwards[0], tokens);
}

/* Of the devices with room for it, the one with least to do; -1: none. */
static int32_t least_busy(const emb_device_group *g, int64_t tokens) {
    int32_t best = -1;
    for (int32_t r = 0; r < g->n; r++)
        if (g->forwards[r]->pending < EMB_DEVICE_SETS && g->forwards[r]->plan.tokens >= tokens &&
            (best < 0 || g->queued[r] < g->queued[best]))
            best = r;
    return best;
}

static void note(emb_device_group *g, int32_t r, int64_t tokens, int32_t round) {
    const int32_t at = (g->first + g->under_way++) % (g->n * EMB_DEVICE_SETS);
    g->order[at].device = r;
    g->order[at].round = round;
    g->queued[r] += tokens;
}

static embed_status no_room(int64_t tokens) {
    return emb_fail(EMBED_ERR_INTERNAL, "batch of %lld tokens: no device has room",
                    (long long)tokens);
}

/* Rows of the table that a batch takes to its device. */
static void count_rows(embed_context *ctx, const emb_batch *b) {
    const uint64_t row = (uint64_t)ctx->model->config.encoder.hidden * sizeof(float);
    emb_ngram_stats here = {.place = EMBED_TABLE_PLACE_COPY};
    if (b->rows == NULL)
        return;
    for (int64_t t = 0; t < b->tokens; t++)
        here.device_bytes += b->rows[t] != NULL ? row : 0;
    emb_stage_count(ctx->stage, &here, &ctx->table_stats);
}

static embed_status group_submit(embed_context *ctx, const emb_slot *slot,
                                 const emb_pooling_options *options) {
    embed_status st = EMBED_OK;
    emb_device_group *g = ctx->group;
    const int32_t r = least_busy(g, slot->batch.tokens);
    if (r < 0)
        return no_room(slot->batch.tokens);
    EMB_TRY(emb_device_forward_submit(g->forwards[r], slot, options));
    count_rows(ctx, &slot->batch);
    note(g, r, slot->batch.tokens, 0);
fail:
    return st;
}

static embed_status group_collect(embed_context *ctx, emb_result *result) {
    embed_status st = EMBED_OK;
    emb_device_group *g = ctx->group;
    const int32_t r = g->order[g->first].device;
    const emb_device_set *set;
    emb_ngram_stats here = {0};
    EMB_TRY(emb_device_forward_collect(g->forwards[r], &set));
    g->queued[r] -= set->tokens;
    g->first = (g->first + 1) % (g->n * EMB_DEVICE_SETS);
    g->under_way--;
    *result = (emb_result){
        .texts = set->texts, .n_texts = set->n_texts, .tokens = set->tokens, .rows = set->out};
    if (set->floats.on) {
        EMB_TRY(emb_device_row_floats_done(&set->floats, &set->row_events, &here.device_wait_ns));
        emb_stage_count(ctx->stage, &here, &ctx->table_stats);
    }
fail:
    return st;
}

static embed_status group_states(embed_context *ctx, const emb_slot *slot, const float **states) {
    const emb_device_group *g = ctx->group;
    int32_t r = 0;
    count_rows(ctx, &slot->batch);
    while (r < g->n - 1 && g->forwards[r]->plan.tokens < slot->batch.tokens)
        r++;
    return emb_device_forward_states(g->forwards[r], slot, states);
}

static void group_drop(embed_context *ctx) {
    emb_device_group *g = ctx->group;
    if (g->experts != NULL)
        emb_device_experts_drop(g->experts);
    for (int32_t r = 0; r < g->n; r++) {
        emb_device_forward_drop(g->forwards[r]);
        g->queued[r] = 0;
    }
    g->first = g->under_way = 0;
}

static const emb_runner replicated = {
    .begin = group_begin,
    .counts = group_counts,
    .reserve = group_reserve,
    .submit = group_submit,
    .collect = group_collect,
    .states = group_states,
    .drop = group_drop,
};

/* ------------------------------------------------------------------------------ spread experts */

static embed_status experts_reserve(embed_context *ctx, int64_t tokens) {
    return emb_device_experts_reserve(ctx->group->experts, tokens);
}

/* Of the devices without a batch in this round. */
static int32_t next_in_round(const emb_device_group *g, int64_t tokens) {
    int32_t best = -1;
    for (int32_t r = 0; r < g->n; r++)
        if (g->experts->ranks[r].staged == NULL && g->forwards[r]->pending < EMB_DEVICE_SETS &&
            g->experts->tokens >= tokens && (best < 0 || g->queued[r] < g->queued[best]))
            best = r;
    return best;
}

static embed_status experts_submit(embed_context *ctx, const emb_slot *slot,
                                   const emb_pooling_options *options) {
    embed_status st = EMBED_OK;
    emb_device_group *g = ctx->group;
    emb_device_experts *x = g->experts;
    int32_t r = next_in_round(g, slot->batch.tokens);
    if (r < 0) { /* after a round that was not full */
        EMB_TRY(emb_device_experts_run(x));
        r = next_in_round(g, slot->batch.tokens);
    }
    if (r < 0)
        return no_room(slot->batch.tokens);
    EMB_TRY(emb_device_experts_stage(x, r, slot, options));
    count_rows(ctx, &slot->batch);
    note(g, r, slot->batch.tokens, x->round);
    if (x->staged == x->n)
        EMB_TRY(emb_device_experts_run(x));
fail:
    return st;
}

static embed_status experts_collect(embed_context *ctx, emb_result *result) {
    embed_status st = EMBED_OK;
    emb_device_group *g = ctx->group;
    const int32_t r = g->order[g->first].device, round = g->order[g->first].round;
    if (round == g->experts->round)
        EMB_TRY(emb_device_experts_run(g->experts));
    EMB_TRY(emb_device_experts_wait(g->experts, r, round));
    EMB_TRY(group_collect(ctx, result));
fail:
    return st;
}

static embed_status experts_states(embed_context *ctx, const emb_slot *slot, const float **states) {
    count_rows(ctx, &slot->batch);
    return emb_device_experts_states(ctx->group->experts, slot, states);
}

static const emb_runner spread = {
    .begin = group_begin,
    .counts = group_counts,
    .reserve = experts_reserve,
    .submit = experts_submit,
    .collect = experts_collect,
    .states = experts_states,
    .drop = group_drop,
};

/* 1: the experts of this model are spread; one without experts is replicated. */
static int is_spread(const embed_model *model, const emb_places *places) {
    return places->placement == EMBED_PLACE_EXPERTS && model->moe_layers > 0 && places->n > 1;
}

/* -------------------------------------------------------------------------------------- memory */

int64_t emb_device_group_most_tokens(const embed_model *model, const emb_places *places) {
    return is_spread(model, places) ? emb_device_experts_most_tokens(model, places->n)
                                    : emb_device_plan_most_tokens(model);
}

embed_status emb_device_group_plan_bytes(const embed_model *model, const emb_places *places,
                                         int64_t tokens, uint64_t *bytes) {
    embed_status st = EMBED_OK;
    emb_device_plan plan;
    const uint64_t n = places->n > 0 ? (uint64_t)places->n : 1;
    *bytes = 0;
    EMB_TRY(emb_device_plan_make(&plan, model, places->place.dtype, tokens));
    for (int32_t r = 0; is_spread(model, places) && r < places->n; r++) {
        size_t more;
        EMB_TRY(emb_device_experts_plan(model, places->place.dtype, places->n, r, tokens, &more));
        *bytes += more;
    }
    *bytes +=
        n * (plan.device_bytes + plan.pinned_bytes + plan.host_bytes +
             emb_device_products_bytes(places->place.dtype, (places->place.flags & EMBED_TF32) != 0,
                                       places->place.products));
fail:
    return st;
}

uint64_t emb_device_group_bytes(const emb_device_group *g) {
    uint64_t bytes = 0;
    for (int32_t r = 0; r < g->n; r++)
        bytes += emb_device_forward_bytes(g->forwards[r]);
    return bytes + (g->experts != NULL ? emb_device_experts_bytes(g->experts) : 0);
}

embed_status emb_device_group_create(emb_device_group **out, embed_model *model,
                                     const emb_places *places, int64_t tokens) {
    embed_status st = EMBED_OK;
    emb_device_group *g = NULL;
    const emb_device_home *homes[EMB_MAX_RANKS];
    emb_device_plan plan;
    const int sharded = is_spread(model, places);
    const size_t counts = (size_t)model->moe_layers * (size_t)model->config.encoder.experts;
    *out = NULL;
    EMB_TRY(emb_device_plan_make(&plan, model, places->place.dtype, tokens));
    EMB_TRY(emb_device_homes_get(homes, model, places->place.backend, places->devices, places->n,
                                 places->place.dtype, sharded));
    EMB_TRY(emb_new(&model->base, sizeof *g, (void **)&g));
    g->env = model->base;
    g->n = places->n;
    g->runner = sharded ? spread : replicated;
    g->runner.depth = g->n * EMB_DEVICE_SETS;
    if (counts > 0) {
        EMB_TRY(emb_new_array(&g->env, counts, sizeof *g->tokens, (void **)&g->tokens));
        EMB_TRY(emb_new_array(&g->env, counts, sizeof *g->gate_sum, (void **)&g->gate_sum));
    }
    for (int32_t r = 0; r < g->n; r++) {
        EMB_TRY(emb_device_forward_create_at(&g->forwards[r], model, homes[r], tokens));
        emb_device_forward_allow(g->forwards[r], places->place.flags);
        EMB_TRY(
            emb_device_products_allow(&g->forwards[r]->products, model, places->place.products));
    }
    if (sharded)
        EMB_TRY(emb_device_experts_create(&g->experts, g->forwards, g->n, tokens));
    *out = g;
    return EMBED_OK;
fail:
    emb_device_group_free(g);
    return st;
}

void emb_device_group_free(emb_device_group *g) {
    if (g == NULL)
        return;
    const emb_env env = g->env;
    if (g->experts != NULL) { /* on the devices of the forward passes, which close them */
        emb_device_experts_drop(g->experts);
        for (int32_t r = 0; r < g->n; r++)
            if (emb_device_check(g->forwards[r]->device) == EMBED_OK)
                emb_device_forward_drop(g->forwards[r]);
        emb_device_experts_free(g->experts);
    }
    for (int32_t r = 0; r < g->n; r++)
        emb_device_forward_free(g->forwards[r]);
    emb_free(&env, g->tokens);
    emb_free(&env, g->gate_sum);
    emb_free(&env, g);
}
