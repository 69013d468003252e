#include "model/device_forward.h"

#include <stdio.h>
#include <string.h>

#include "base/dtype.h"

static const char *const op_names[EMB_OPS] = {
    "embed_lookup", "attention", "layernorm", "router_topk", "moe_combine", "pool", "quantize"};

/* ------------------------------------------------------------------------------------- memory */

static void set_free(emb_device_forward *f, emb_device_set *s) {
    emb_graph_free(s->graph);
    emb_event_free(s->arrived);
    emb_device_rows_clear(&s->rows, f->device);
    emb_event_free(s->finished);
    emb_event_free(s->back);
    emb_device_host_free(f->device, s->in);
    emb_device_host_free(f->device, s->out);
    emb_device_free(f->device, s->in_at);
    emb_device_free(f->device, s->out_at);
    emb_free(&f->env, s->texts);
    *s = (emb_device_set){.in = NULL};
}

/* On failure the caller frees what is there. */
static embed_status set_create(emb_device_forward *f, emb_device_set *s,
                               const emb_device_plan *plan) {
    embed_status st = EMBED_OK;
    EMB_TRY(emb_event_create(&s->arrived, f->device, 0));
    EMB_TRY(emb_event_create(&s->finished, f->device, 0));
    EMB_TRY(emb_event_create(&s->back, f->device, 0));
    EMB_TRY(emb_device_host_alloc(f->device, plan->in_bytes, (void **)&s->in));
    EMB_TRY(emb_device_host_alloc(f->device, plan->out_bytes, (void **)&s->out));
    EMB_TRY(emb_device_alloc(f->device, plan->in_bytes, &s->in_at));
    EMB_TRY(emb_device_alloc(f->device, plan->out_bytes, &s->out_at));
    EMB_TRY(emb_new_array(&f->env, (size_t)plan->texts, sizeof *s->texts, (void **)&s->texts));
    memset(s->in, 0, plan->in_bytes);
fail:
    return st;
}

embed_status emb_device_forward_reserve(emb_device_forward *f, int64_t tokens) {
    embed_status st = EMBED_OK;
    emb_device_plan plan;
    emb_arena arena = {.device = NULL};
    emb_device_set sets[EMB_DEVICE_SETS] = {{.in = NULL}};
    if (tokens <= f->plan.tokens)
        return EMBED_OK;
    EMB_TRY(emb_device_plan_make(&plan, f->model, f->weights->dtype, tokens));
    EMB_TRY(emb_arena_create(&arena, f->device, plan.regions, EMB_AT_REGIONS));
    for (int i = 0; i < EMB_DEVICE_SETS; i++)
        EMB_TRY(set_create(f, &sets[i], &plan));
    emb_arena_free(&f->arena);
    f->arena = arena;
    for (int i = 0; i < EMB_DEVICE_SETS; i++) {
        set_free(f, &f->sets[i]);
        f->sets[i] = sets[i];
    }
    f->plan = plan;
    return EMBED_OK;
fail:
    emb_arena_free(&arena);
    for (int i = 0; i < EMB_DEVICE_SETS; i++)
        set_free(f, &sets[i]);
    return st;
}

embed_status emb_device_forward_create(emb_device_forward **out, embed_model *model,
                                       const emb_backend *backend, int32_t index, int32_t dtype,
                                       int64_t tokens) {
    embed_status st = EMBED_OK;
    const emb_device_home *home;
    emb_device_plan plan;
    *out = NULL;
    EMB_TRY(emb_device_plan_make(&plan, model, dtype, tokens)); /* before weights are uploaded */
    EMB_TRY(emb_device_home_get(&home, model, backend, index, dtype));
    EMB_TRY(emb_device_forward_create_at(out, model, home, tokens));
fail:
    return st;
}

embed_status emb_device_forward_create_at(emb_device_forward **out, embed_model *model,
                                          const emb_device_home *home, int64_t tokens) {
    embed_status st = EMBED_OK;
    emb_device_forward *f = NULL;
    emb_device_plan plan;
    *out = NULL;
    EMB_TRY(emb_device_plan_make(&plan, model, home->weights.dtype, tokens));
    EMB_TRY(emb_new(&model->base, sizeof *f, (void **)&f));
    f->env = model->base;
    f->model = model;
    f->weights = &home->weights;
    EMB_TRY(emb_device_open(&f->device, &f->env, home->backend, home->index));
    for (int i = 0; i < EMB_OPS; i++)
        EMB_TRY(emb_op_find(f->device, op_names[i], &f->ops[i]));
    EMB_TRY(emb_device_products_create(&f->products, f->device, model, home->weights.dtype));
    EMB_TRY(emb_stream_create(&f->copy_in, f->device));
    EMB_TRY(emb_stream_create(&f->main, f->device));
    EMB_TRY(emb_stream_create(&f->copy_out, f->device));
    EMB_TRY(emb_device_output_create(f));
    if (plan.count_bytes > 0) {
        EMB_TRY(emb_device_alloc(f->device, plan.count_bytes, &f->counts));
        EMB_TRY(emb_device_host_alloc(f->device, plan.count_bytes, &f->counts_host));
    }
    EMB_TRY(emb_device_forward_reserve(f, tokens));
    *out = f;
    return EMBED_OK;
fail:
    emb_device_forward_free(f);
    return st;
}

/* All streams have run out. */
static embed_status settle(emb_device_forward *f) {
    embed_status st = EMBED_OK;
    emb_stream *const streams[] = {f->copy_in, f->main, f->copy_out};
    for (size_t i = 0; i < sizeof streams / sizeof streams[0]; i++)
        if (streams[i] != NULL)
            EMB_TRY(emb_stream_sync(streams[i]));
    f->unsettled = 0;
fail:
    return st;
}

void emb_device_forward_drop(emb_device_forward *f) {
    f->unsettled = 1;
    (void)settle(f); /* if that fails, the next call tries again before it does anything */
    f->first = f->pending = 0;
    for (int i = 0; i < EMB_DEVICE_SETS; i++) {
        emb_graph_free(f->sets[i].graph);
        f->sets[i].graph = NULL;
    }
}

void emb_device_forward_free(emb_device_forward *f) {
    if (f == NULL)
        return;
    const emb_env env = f->env;
    if (f->device != NULL) {
        if (emb_device_check(f->device) == EMBED_OK)
            emb_device_forward_drop(f);
        emb_stream_free(f->copy_in); /* first: what is left on them uses all the rest */
        emb_stream_free(f->main);
        emb_stream_free(f->copy_out);
        for (int i = 0; i < EMB_DEVICE_SETS; i++)
            set_free(f, &f->sets[i]);
        emb_arena_free(&f->arena);
        emb_device_output_free(f);
        emb_device_free(f->device, f->counts);
        emb_device_host_free(f->device, f->counts_host);
        emb_device_host_free(f->device, f->states);
        emb_device_close(f->device);
    }
    emb_free(&env, f);
}

uint64_t emb_device_forward_bytes(const emb_device_forward *f) {
    uint64_t rows = 0;
    for (int i = 0; i < EMB_DEVICE_SETS; i++)
        rows += emb_device_rows_bytes(&f->sets[i].rows);
    return f->plan.device_bytes + f->plan.pinned_bytes + rows;
}

/* ------------------------------------------------------------------------------------ a batch */

/* What the kernels read, in pinned memory. */
static void pack(const emb_device_forward *f, emb_device_set *s, const emb_slot *slot,
                 const emb_pooling_options *o) {
    const emb_batch *b = &slot->batch;
    const emb_device_plan *p = &f->plan;
    int32_t *skip = (void *)(s->in + p->at_skip);
    const size_t tokens = (size_t)b->tokens * sizeof(int32_t);
    memcpy(s->in + p->at_offsets, b->offsets, (size_t)(b->texts + 1) * sizeof(int32_t));
    memcpy(s->in + p->at_ids, b->ids, tokens);
    memcpy(s->in + p->at_positions, b->positions, tokens);
    emb_device_output_pack(f, s, slot);
    memcpy(s->texts, slot->texts, (size_t)b->texts * sizeof *s->texts);
    s->n_texts = b->texts;
    s->tokens = b->tokens;
    s->pooling = *o;
    s->dim = o->dim;
    s->with_skip = o->skip > 0;
    for (int64_t i = 0; s->with_skip && i < b->texts; i++)
        skip[i] = o->skip;
}

/* Enqueue the copies of a packed set; the main stream waits for them. */
static embed_status send(emb_device_forward *f, emb_device_set *s) {
    embed_status st = EMBED_OK;
    EMB_TRY(emb_copy_in(f->copy_in, s->in_at, s->in,
                        s->has_rows ? f->plan.in_bytes : f->plan.at_pointers));
    EMB_TRY(emb_event_record(s->arrived, f->copy_in));
    EMB_TRY(emb_stream_wait(f->main, s->arrived));
    EMB_TRY(emb_device_rows_send(&s->rows, f->copy_in, f->main));
fail:
    return st;
}

static embed_status fill(emb_device_forward *f, emb_device_set *s, const emb_slot *slot,
                         const emb_pooling_options *o) {
    embed_status st = EMBED_OK;
    const emb_batch *b = &slot->batch;
    const emb_device_row_places places = {(void *)(s->in + f->plan.at_pointers),
                                          (void *)(s->in + f->plan.at_scales)};
    if (b->tokens > f->plan.tokens || b->texts > f->plan.texts)
        return emb_fail(EMBED_ERR_INTERNAL,
                        "device batch: expected at most %lld tokens, found %lld",
                        (long long)f->plan.tokens, (long long)b->tokens);
    pack(f, s, slot, o);
    EMB_TRY(emb_device_rows_pack(&s->rows, f->device, slot, f->model->config.encoder.hidden,
                                 f->plan.tokens, &places));
    s->has_rows = s->rows.on;
    s->add_rows = s->rows.add;
    s->rows_dtype = s->rows.dtype;
    EMB_TRY(send(f, s));
fail:
    return st;
}

static embed_status launch(emb_device_forward *f, const emb_device_set *s) {
    const embed_status st = emb_device_layers_run(f, s);
    return st != EMBED_OK ? st : emb_device_layers_pool(f, s);
}

/* The same from a graph. A capture that has begun is ended in any case; its own failure is told
 * before that of ending it. */
static embed_status launch_captured(emb_device_forward *f, emb_device_set *s) {
    emb_graph *graph = NULL;
    embed_status st = emb_capture_begin(f->main), ended;
    if (st != EMBED_OK)
        return st;
    st = launch(f, s);
    if (st != EMBED_OK) {
        char message[512];
        (void)snprintf(message, sizeof message, "%s",
                       emb_fail_message() + strlen(embed_status_name(st)) + 2);
        (void)emb_capture_end(f->main, &graph, NULL);
        emb_graph_free(graph);
        return emb_fail(st, "%s", message);
    }
    ended = emb_capture_end(f->main, &graph, &f->captured);
    s->graph = graph;
    return ended != EMBED_OK ? ended : emb_graph_launch(graph, f->main);
}

embed_status emb_device_forward_begin(emb_device_forward *f, const emb_device_output *output) {
    embed_status st = EMBED_OK;
    EMB_TRY(emb_device_check(f->device));
    if (f->unsettled)
        EMB_TRY(settle(f));
    if (f->plan.count_bytes > 0)
        EMB_TRY(emb_set_device(f->main, f->counts, 0, f->plan.count_bytes));
    EMB_TRY(emb_device_output_begin(f, output));
fail:
    return st;
}

embed_status emb_device_forward_stage(emb_device_forward *f, const emb_slot *slot,
                                      const emb_pooling_options *o, emb_device_set **set) {
    *set = &f->sets[(f->first + f->pending) % EMB_DEVICE_SETS];
    return fill(f, *set, slot, o);
}

embed_status emb_device_forward_return(emb_device_forward *f, emb_device_set *s) {
    embed_status st = EMBED_OK;
    EMB_TRY(emb_device_output_run(f, s));
    f->pending++;
fail:
    return st;
}

embed_status emb_device_forward_submit(emb_device_forward *f, const emb_slot *slot,
                                       const emb_pooling_options *o) {
    embed_status st = EMBED_OK;
    emb_device_set *s;
    EMB_TRY(emb_device_forward_stage(f, slot, o, &s));
    EMB_TRY(f->capture ? launch_captured(f, s) : launch(f, s));
    EMB_TRY(emb_device_forward_return(f, s));
fail:
    return st;
}

embed_status emb_device_forward_collect(emb_device_forward *f, const emb_device_set **set) {
    embed_status st = EMBED_OK;
    emb_device_set *s = &f->sets[f->first];
    EMB_TRY(emb_event_sync(s->back));
    emb_graph_free(s->graph);
    s->graph = NULL;
    f->first = (f->first + 1) % EMB_DEVICE_SETS;
    f->pending--;
    *set = s;
fail:
    return st;
}

/* From the back, since floats take more room than what lies there. */
static void widen(float *states, size_t n, int32_t dtype) {
    const unsigned char *from = (const unsigned char *)states;
    for (size_t i = n; i-- > 0;) {
        uint16_t h;
        memcpy(&h, from + i * sizeof h, sizeof h);
        states[i] = dtype == EMBED_F16 ? emb_f16_to_f32(h) : emb_bf16_to_f32(h);
    }
}

embed_status emb_device_forward_states(emb_device_forward *f, const emb_slot *slot,
                                       const float **states) {
    embed_status st = EMBED_OK;
    emb_device_set *s = &f->sets[f->first];
    const emb_pooling_options none = {0, 0, 0};
    const size_t n = (size_t)slot->batch.tokens * (size_t)f->model->config.encoder.hidden;
    const int32_t dtype = f->weights->dtype;
    if (slot->batch.tokens > f->states_tokens) {
        emb_device_host_free(f->device, f->states);
        f->states = NULL;
        f->states_tokens = 0;
        EMB_TRY(emb_device_host_alloc(f->device, n * sizeof(float), (void **)&f->states));
        f->states_tokens = slot->batch.tokens;
    }
    EMB_TRY(fill(f, s, slot, &none));
    EMB_TRY(emb_device_layers_run(f, s));
    EMB_TRY(emb_copy_out(f->main, f->states, emb_arena_at(&f->arena, EMB_AT_X),
                         n * emb_dtype_bytes(dtype)));
    EMB_TRY(emb_stream_sync(f->main));
    if (dtype != EMBED_F32)
        widen(f->states, n, dtype);
    *states = f->states;
fail:
    return st;
}

embed_status emb_device_forward_counts(emb_device_forward *f, uint64_t *tokens, double *gate_sum) {
    embed_status st = EMBED_OK;
    const size_t n = f->plan.count_bytes / (sizeof *tokens + sizeof *gate_sum);
    if (n == 0)
        return EMBED_OK;
    EMB_TRY(emb_copy_out(f->main, f->counts_host, f->counts, f->plan.count_bytes));
    EMB_TRY(emb_stream_sync(f->main));
    memcpy(tokens, f->counts_host, n * sizeof *tokens);
    memcpy(gate_sum, (const unsigned char *)f->counts_host + n * sizeof *tokens,
           n * sizeof *gate_sum);
fail:
    return st;
}
