#include "model/context.h"

#include <unistd.h>

#include "model/async.h"
#include "model/device_forward.h"
#include "model/device_group.h"
#include "model/runner.h"

void emb_context_free(embed_context *ctx) {
    if (ctx == NULL)
        return;
    const emb_env env = ctx->env;
    emb_forward *f = &ctx->forward;
    if (!emb_async_stop(ctx))
        return;
    emb_device_forward_free(ctx->device);
    emb_device_group_free(ctx->group);
    for (int32_t i = 0; ctx->tokenizers != NULL && i < f->plan.threads; i++)
        emb_tok_scratch_free(ctx->tokenizers[i]);
    emb_pool_free(f->exec.pool);
    emb_free(&env, f->exec.scratch);
    emb_free(&env, f->arena);
    emb_free(&env, f->counts.tokens);
    emb_free(&env, f->counts.gate_sum);
    emb_free(&env, f->counts.mean_gate);
    emb_free(&env, ctx->ids);
    emb_free(&env, ctx->items);
    emb_free(&env, ctx->order);
    emb_free(&env, ctx->tokenizers);
    emb_free(&env, ctx->faults);
    emb_stage_free(ctx->next);
    emb_stage_free(ctx->stage);
    pthread_mutex_destroy(&ctx->mutex);
    emb_model_release(ctx->model);
    emb_free(&env, ctx);
}

static embed_status create_window(embed_context *ctx) {
    embed_status st = EMBED_OK;
    const emb_env *env = &ctx->env;
    const emb_plan *p = &ctx->forward.plan;
    const size_t threads = (size_t)p->threads;
    EMB_TRY(emb_new_array(env, p->window_tokens, sizeof *ctx->ids, (void **)&ctx->ids));
    EMB_TRY(emb_new_array(env, p->window_texts, sizeof *ctx->items, (void **)&ctx->items));
    EMB_TRY(emb_new_array(env, p->window_texts, sizeof *ctx->order, (void **)&ctx->order));
    EMB_TRY(emb_new_array(env, threads, sizeof *ctx->faults, (void **)&ctx->faults));
    EMB_TRY(emb_new_array(env, threads, sizeof(void *), (void **)&ctx->tokenizers));
    for (size_t i = 0; i < threads; i++)
        EMB_TRY(emb_tok_scratch_create(&ctx->tokenizers[i], env));
fail:
    return st;
}

static embed_status create_counts(embed_context *ctx) {
    embed_status st = EMBED_OK;
    const emb_env *env = &ctx->env;
    emb_expert_counts *c = &ctx->forward.counts;
    const size_t n = (size_t)ctx->model->moe_layers * (size_t)ctx->model->config.encoder.experts;
    if (ctx->model->moe_layers == 0)
        return EMBED_OK;
    EMB_TRY(emb_new_array(env, n, sizeof *c->tokens, (void **)&c->tokens));
    EMB_TRY(emb_new_array(env, n, sizeof *c->gate_sum, (void **)&c->gate_sum));
    EMB_TRY(emb_new_array(env, n, sizeof *c->mean_gate, (void **)&c->mean_gate));
fail:
    return st;
}

/* Arena and kernel scratch for the plan. The old ones are given back only when both new ones are
 * there. Fresh pages cost nothing until they are touched, so the peak does not double. */
static embed_status apply_plan(embed_context *ctx, const emb_plan *plan) {
    embed_status st = EMBED_OK;
    emb_forward *f = &ctx->forward;
    unsigned char *arena = NULL, *scratch = NULL;
    size_t scratch_bytes;
    EMB_TRY(emb_mul(plan->scratch_bytes, (size_t)plan->threads, "kernel scratch", &scratch_bytes));
    EMB_TRY(emb_alloc(&ctx->env, plan->at.bytes, (void **)&arena));
    EMB_TRY(emb_alloc(&ctx->env, scratch_bytes, (void **)&scratch));
    emb_free(&ctx->env, f->arena);
    emb_free(&ctx->env, f->exec.scratch);
    f->plan = *plan;
    f->arena = arena;
    f->exec.scratch = scratch;
    f->exec.scratch_bytes = plan->scratch_bytes;
    return EMBED_OK;
fail:
    emb_free(&ctx->env, arena);
    return st;
}

embed_status emb_context_plan(emb_plan *plan, const embed_model *model, int32_t threads,
                              int32_t batch_tokens, const emb_place *place) {
    const embed_status st = emb_plan_make(plan, model, threads, batch_tokens, batch_tokens);
    if (st == EMBED_OK && place != NULL && place->backend != NULL)
        plan->at.bytes = plan->scratch_bytes = 0;
    return st;
}

/* Devices with room for batches of `tokens` and for what their products need. */
static embed_status place_on(embed_context *ctx, const emb_places *places, int64_t tokens) {
    embed_status st = EMBED_OK;
    const emb_place *place = &places->place;
    const int32_t index = places->n > 0 ? places->devices[0] : place->index;
    if (places->n > 1)
        return emb_device_group_create(&ctx->group, ctx->model, places, tokens);
    EMB_TRY(emb_device_forward_create(&ctx->device, ctx->model, place->backend, index, place->dtype,
                                      tokens));
    emb_device_forward_allow(ctx->device, place->flags);
    EMB_TRY(emb_device_products_allow(&ctx->device->products, ctx->model, place->products));
    return EMBED_OK;
fail:
    emb_device_forward_free(ctx->device);
    ctx->device = NULL;
    return st;
}

/* Before anything is halved: that would not help them. A group brings those of its devices. */
static embed_status bring_weights(embed_context *ctx, const emb_places *places, int64_t tokens) {
    embed_status st = EMBED_OK;
    const emb_place *place = &places->place;
    const emb_device_home *home;
    emb_device_plan plan;
    if (places->n > 1)
        return EMBED_OK;
    EMB_TRY(emb_device_plan_make(&plan, ctx->model, place->dtype, tokens)); /* limits first */
    EMB_TRY(emb_device_home_get(&home, ctx->model, place->backend,
                                places->n > 0 ? places->devices[0] : place->index, place->dtype));
fail:
    return st;
}

/* With half the batch, and half of that, where the memory of a device is too small. */
static embed_status create_device(embed_context *ctx, const emb_places *places) {
    const int64_t most = emb_device_group_most_tokens(ctx->model, places);
    int32_t tokens = ctx->batch_tokens < most ? ctx->batch_tokens : (int32_t)most;
    embed_status st = bring_weights(ctx, places, tokens);
    if (st != EMBED_OK)
        return st;
    for (;;) {
        st = place_on(ctx, places, tokens);
        if (st != EMBED_ERR_NOMEM || tokens / 2 < EMB_LEAST_BATCH_TOKENS)
            break;
        tokens /= 2;
        emb_log(&ctx->env, EMBED_LOG_WARN, "%s; trying batches of %d tokens", emb_fail_message(),
                tokens);
    }
    ctx->forward.plan.batch_tokens = ctx->batch_tokens = tokens;
    ctx->runner = ctx->group != NULL ? &ctx->group->runner : &emb_runner_device;
    return st;
}

/* Rows go to a single device as they are stored; batches of a group get theirs as floats. */
emb_device_rows_spec emb_places_rows(const emb_places *p) {
    return (emb_device_rows_spec){.backend = p->n <= 1 ? p->place.backend : NULL,
                                  .index = p->n > 0 ? p->devices[0] : p->place.index,
                                  .place = p->table_place,
                                  .cache_bytes = p->cache_bytes};
}

static const emb_device_rows_spec *device_of(const embed_context *ctx) {
    return ctx->rows.backend != NULL ? &ctx->rows : NULL;
}

embed_status emb_context_create(embed_context **out, embed_model *model, embed_table *table,
                                int32_t threads, int32_t batch_tokens, const emb_place *place) {
    emb_places places = {.n = 0};
    if (place != NULL)
        places.place = *place;
    return emb_context_create_on(out, model, table, threads, batch_tokens, &places);
}

embed_status emb_context_create_on(embed_context **out, embed_model *model, embed_table *table,
                                   int32_t threads, int32_t batch_tokens,
                                   const emb_places *places) {
    embed_status st = EMBED_OK;
    embed_context *ctx = NULL;
    emb_plan plan;
    *out = NULL;
    EMB_TRY(emb_context_plan(&plan, model, threads, batch_tokens, &places->place));
    EMB_TRY(emb_new(&model->base, sizeof *ctx, (void **)&ctx));
    ctx->env = model->base;
    emb_model_retain(model);
    ctx->model = model;
    ctx->batch_tokens = batch_tokens;
    ctx->runner = &emb_runner_cpu;
    ctx->pid = getpid();
    atomic_flag_clear(&ctx->busy);
    pthread_mutex_init(&ctx->mutex, NULL);
    emb_async_init(ctx);
    ctx->forward.model = model;
    ctx->forward.exec.isa = model->isa;
    EMB_TRY(apply_plan(ctx, &plan));
    if (places->place.backend != NULL)
        EMB_TRY(create_device(ctx, places));
    EMB_TRY(create_window(ctx));
    EMB_TRY(create_counts(ctx));
    if (ctx->device != NULL)
        ctx->rows = emb_places_rows(places);
    EMB_TRY(emb_stage_create(&ctx->stage, &ctx->env, table, ctx->batch_tokens, device_of(ctx)));
    EMB_TRY(emb_pool_create(&ctx->forward.exec.pool, &ctx->env, threads));
    *out = ctx;
    return EMBED_OK;
fail:
    emb_context_free(ctx);
    return st;
}

embed_status emb_context_reserve(embed_context *ctx, int64_t tokens) {
    const emb_plan *now = &ctx->forward.plan;
    emb_plan plan;
    if (tokens <= now->tokens)
        return EMBED_OK;
    const embed_status st =
        emb_plan_make(&plan, ctx->model, now->threads, now->batch_tokens, tokens);
    return st != EMBED_OK ? st : apply_plan(ctx, &plan);
}

embed_status emb_context_check_process(const embed_context *ctx) {
    if (ctx->pid == getpid())
        return EMBED_OK;
    return emb_fail(ctx->runner != &emb_runner_cpu ? EMBED_ERR_DEVICE : EMBED_ERR_ARG,
                    "ctx: made by process %ld and used in its child %ld; open models and contexts "
                    "after fork()",
                    (long)ctx->pid, (long)getpid());
}

void emb_context_begin(embed_context *ctx) {
    pthread_mutex_lock(&ctx->mutex);
    ctx->running = 1;
    pthread_mutex_unlock(&ctx->mutex);
    ctx->table_stats = (emb_ngram_stats){0};
}

void emb_context_end(embed_context *ctx) {
    emb_stage *old = NULL;
    pthread_mutex_lock(&ctx->mutex);
    ctx->running = 0;
    if (ctx->next != NULL) {
        old = ctx->stage;
        ctx->stage = ctx->next;
        ctx->next = NULL;
    }
    pthread_mutex_unlock(&ctx->mutex);
    emb_stage_free(old);
}

embed_status emb_context_set_table(embed_context *ctx, embed_table *table) {
    emb_stage *stage, *old;
    const embed_status st =
        emb_stage_create(&stage, &ctx->env, table, ctx->batch_tokens, device_of(ctx));
    if (st != EMBED_OK)
        return st;
    pthread_mutex_lock(&ctx->mutex);
    emb_stage **place = ctx->running ? &ctx->next : &ctx->stage;
    old = *place;
    *place = stage;
    pthread_mutex_unlock(&ctx->mutex);
    emb_stage_free(old);
    return EMBED_OK;
}

/* Without the stage. */
static embed_status fixed_bytes(const emb_plan *p, const embed_model *m, uint64_t *bytes) {
    embed_status st = EMBED_OK;
    const size_t threads = (size_t)p->threads;
    const size_t fixed =
        sizeof(embed_context) + p->window_tokens * sizeof(int32_t) +
        p->window_texts * (sizeof(emb_item) + sizeof(uint64_t)) +
        threads * (sizeof(emb_text_fault) + sizeof(void *)) +
        (m->moe_layers > 0 ? (size_t)m->moe_layers * (size_t)m->config.encoder.experts *
                                 (sizeof(uint64_t) + 2 * sizeof(double))
                           : 0);
    size_t scratch, total;
    EMB_TRY(emb_mul(p->scratch_bytes, threads, "kernel scratch", &scratch));
    EMB_TRY(emb_add(scratch, p->at.bytes, "context", &total));
    EMB_TRY(emb_add(total, fixed, "context", &total));
    *bytes = total;
fail:
    return st;
}

embed_status emb_context_plan_bytes(const emb_plan *p, const embed_model *m, embed_table *table,
                                    const emb_device_rows_spec *rows, uint64_t *bytes) {
    uint64_t stage = 0;
    embed_status st = fixed_bytes(p, m, bytes);
    if (st == EMBED_OK)
        st = emb_stage_plan_bytes(&m->base, table, p->tokens,
                                  rows != NULL && rows->backend != NULL ? rows : NULL, &stage);
    *bytes += stage;
    return st;
}

uint64_t emb_context_bytes(embed_context *ctx) {
    uint64_t bytes;
    if (fixed_bytes(&ctx->forward.plan, ctx->model, &bytes) != EMBED_OK)
        return 0; /* cannot be: these sizes were allocated */
    pthread_mutex_lock(&ctx->mutex);
    bytes += emb_stage_bytes(ctx->stage);
    bytes += ctx->next != NULL ? emb_stage_bytes(ctx->next) : 0;
    pthread_mutex_unlock(&ctx->mutex);
    bytes += ctx->device != NULL ? emb_device_forward_bytes(ctx->device) : 0;
    bytes += ctx->group != NULL ? emb_device_group_bytes(ctx->group) : 0;
    for (int32_t i = 0; i < ctx->forward.plan.threads; i++)
        bytes += emb_tok_scratch_bytes(ctx->tokenizers[i]);
    return bytes;
}
