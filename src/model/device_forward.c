#include "model/device_forward.h"

#include <stdio.h>
#include <string.h>

#include "base/dtype.h"

static const char *const op_names[EMB_OPS] = {
    "embed_lookup", "attention", "layernorm", "router_topk", "moe_combine", "pool", "quantize"};

/* ------------------------------------------------------------------------------------- memory */

static void set_free(emb_device_forward *f, emb_device_set *s) {
    emb_event_free(s->arrived);
    emb_device_row_floats_clear(&s->floats, f->device);
    emb_device_row_events_free(&s->row_events);
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
    EMB_TRY(emb_device_row_events_create(&s->row_events, f->device));
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

/* All that a plan asks for, or nothing of it. */
struct room {
    emb_device_plan plan;
    emb_arena arena;
    emb_device_set sets[EMB_DEVICE_SETS];
};

static void room_free(emb_device_forward *f, struct room *r) {
    emb_arena_free(&r->arena);
    for (int i = 0; i < EMB_DEVICE_SETS; i++)
        set_free(f, &r->sets[i]);
}

static embed_status room_create(emb_device_forward *f, struct room *r, int64_t tokens) {
    embed_status st = EMBED_OK;
    memset(r, 0, sizeof *r);
    EMB_TRY(emb_device_plan_make(&r->plan, f->model, f->weights->dtype, tokens));
    EMB_TRY(emb_arena_create(&r->arena, f->device, r->plan.regions, EMB_AT_REGIONS));
    for (int i = 0; i < EMB_DEVICE_SETS; i++)
        EMB_TRY(set_create(f, &r->sets[i], &r->plan));
    return EMBED_OK;
fail:
    room_free(f, r);
    return st;
}

/* What f has goes, and with r comes what r has. NULL: none, as far as batches go. */
static void room_take(emb_device_forward *f, const struct room *r) {
    static const struct room none;
    const emb_device_plan old = f->plan;
    struct room mine = {.arena = f->arena};
    memcpy(mine.sets, f->sets, sizeof mine.sets);
    emb_graphs_clear(&f->graphs); /* they know the old addresses */
    room_free(f, &mine);
    r = r != NULL ? r : &none;
    f->plan = r->plan;
    f->arena = r->arena;
    memcpy(f->sets, r->sets, sizeof f->sets);
    if (r == &none) { /* of the whole context */
        f->plan.count_bytes = old.count_bytes;
        f->plan.pinned_bytes = f->plan.device_bytes =
            old.pinned_bytes - EMB_DEVICE_SETS * (uint64_t)(old.in_bytes + old.out_bytes);
        f->plan.host_bytes = sizeof *f;
    }
}

/* Both numbers: what the batch takes, and, behind it, what was refused and what there was. */
static embed_status too_large(const emb_device_forward *f, int64_t tokens) {
    emb_device_plan plan;
    char message[512];
    (void)snprintf(message, sizeof message, "%s", emb_fail_sentence());
    const embed_status st = emb_device_plan_make(&plan, f->model, f->weights->dtype, tokens);
    if (st != EMBED_OK)
        return st;
    return emb_fail(EMBED_ERR_NOMEM,
                    "batches of %lld tokens: expected %llu bytes on the device and %llu pinned: %s",
                    (long long)tokens, (unsigned long long)plan.device_bytes,
                    (unsigned long long)plan.pinned_bytes, message);
}

static embed_status reserve(emb_device_forward *f, int64_t tokens) {
    struct room room;
    embed_status st = room_create(f, &room, tokens);
    if (st == EMBED_ERR_NOMEM && f->plan.tokens > 0 && emb_device_alive(f->device)) {
        room_take(f, NULL); /* there is none beside the old one; perhaps in its place */
        st = room_create(f, &room, tokens);
    }
    if (st != EMBED_OK)
        return st;
    room_take(f, &room);
    f->room_tokens = tokens;
    return EMBED_OK;
}

embed_status emb_device_forward_reserve(emb_device_forward *f, int64_t tokens) {
    if (tokens <= f->plan.tokens)
        return EMBED_OK;
    tokens = tokens > f->room_tokens ? tokens : f->room_tokens;
    const embed_status st = reserve(f, tokens);
    return st == EMBED_ERR_NOMEM ? too_large(f, tokens) : st;
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
    *out = NULL;
    EMB_TRY(emb_new(&model->base, sizeof *f, (void **)&f));
    f->env = model->base;
    f->model = model;
    f->weights = &home->weights;
    f->graphs_mode = EMB_GRAPHS_ON;
    EMB_TRY(emb_device_open(&f->device, &f->env, home->backend, home->index));
    for (int i = 0; i < EMB_OPS; i++)
        EMB_TRY(emb_op_find(f->device, op_names[i], &f->ops[i]));
    emb_device_attention_init(&f->attention);
    EMB_TRY(emb_device_products_create(&f->products, f->device, model, home->weights.dtype));
    EMB_TRY(emb_stream_create(&f->copy_in, f->device));
    EMB_TRY(emb_stream_create(&f->main, f->device));
    EMB_TRY(emb_stream_create(&f->copy_out, f->device));
    EMB_TRY(emb_device_output_create(f));
    EMB_TRY(reserve(f, tokens));
    if (f->plan.count_bytes > 0) {
        EMB_TRY(emb_device_alloc(f->device, f->plan.count_bytes, &f->counts));
        EMB_TRY(emb_device_host_alloc(f->device, f->plan.count_bytes, &f->counts_host));
    }
    *out = f;
    return EMBED_OK;
fail:
    if (st == EMBED_ERR_NOMEM && f != NULL)
        st = too_large(f, tokens);
    emb_device_forward_free(f);
    return st;
}

void emb_device_forward_allow(emb_device_forward *f, uint32_t flags) {
    f->graphs_mode = (flags & EMBED_NO_GRAPHS) != 0 ? EMB_GRAPHS_OFF : EMB_GRAPHS_ON;
    f->products.tf32 = (flags & EMBED_TF32) != 0;
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
        emb_graphs_clear(&f->graphs);
        for (int i = 0; i < EMB_DEVICE_SETS; i++)
            set_free(f, &f->sets[i]);
        emb_arena_free(&f->arena);
        emb_device_attention_free(f);
        emb_device_products_free(&f->products);
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
        rows += emb_device_row_floats_bytes(&f->sets[i].floats);
    return f->products.workspace_bytes + f->plan.device_bytes + f->plan.pinned_bytes +
           f->plan.host_bytes + rows;
}

/* ------------------------------------------------------------------------------------ a batch */

/* The token of a text that CLS or the last takes; one of the batch in any case, also of a text of
 * which nothing is left. */
static int32_t pooled_token(const emb_device_forward *f, const emb_batch *b, int64_t text,
                            int32_t skip) {
    const int32_t end = b->offsets[text + 1];
    const int cls = f->model->config.pipeline.pooling_order[0] == EMBED_POOL_CLS;
    const int32_t at = cls && skip < end - b->offsets[text] ? b->offsets[text] + skip : end - 1;
    return at > 0 ? at : 0;
}

/* What the kernels read, in pinned memory. */
static void pack(const emb_device_forward *f, emb_device_set *s, const emb_slot *slot,
                 const emb_pooling_options *o) {
    const emb_batch *b = &slot->batch;
    int32_t *header = (void *)(s->in + s->at.header), *skip = (void *)(s->in + s->at.skip);
    int32_t *last = (void *)(s->in + s->at.last), longest = 0;
    const size_t tokens = (size_t)b->tokens * sizeof(int32_t);
    memcpy(s->in + s->at.offsets, b->offsets, (size_t)(b->texts + 1) * sizeof(int32_t));
    memcpy(s->in + s->at.ids, b->ids, tokens);
    memcpy(s->in + s->at.positions, b->positions, tokens);
    emb_device_output_pack(s, slot);
    memcpy(s->texts, slot->texts, (size_t)b->texts * sizeof *s->texts);
    s->n_texts = b->texts;
    s->tokens = b->tokens;
    s->pooling = *o;
    s->dim = o->dim;
    s->with_skip = o->skip > 0;
    for (int64_t i = 0; i < b->texts; i++) {
        const int32_t length = b->offsets[i + 1] - b->offsets[i];
        longest = length > longest ? length : longest;
        skip[i] = o->skip;
        last[i] = pooled_token(f, b, i, o->skip);
    }
    header[EMB_HEADER_TOKENS] = (int32_t)b->tokens;
    header[EMB_HEADER_TEXTS] = (int32_t)b->texts;
    header[EMB_HEADER_LONGEST] = longest;
    s->longest = longest;
}

/* Enqueue the copies of a packed set; the main stream waits for them. */
static embed_status send(emb_device_forward *f, emb_device_set *s) {
    embed_status st = EMBED_OK;
    EMB_TRY(emb_copy_in(f->copy_in, s->in_at, s->in, s->has_rows ? s->at.bytes : s->at.pointers));
    EMB_TRY(emb_event_record(s->arrived, f->copy_in));
    EMB_TRY(emb_stream_wait(f->main, s->arrived));
    if (s->rows != NULL)
        EMB_TRY(
            emb_device_rows_send(s->rows, (int)(s - f->sets), &s->row_events, f->copy_in, f->main));
    else
        EMB_TRY(emb_device_row_floats_send(&s->floats, &s->row_events, f->copy_in, f->main));
fail:
    return st;
}

/* What launches are made for: the batch itself, or its bucket as far as there is room. */
static void shape(const emb_device_forward *f, emb_device_set *s, const emb_batch *b, int buckets) {
    const int64_t bucket = buckets ? emb_bucket_tokens(b->tokens) : 0;
    int64_t tokens = b->tokens, texts = b->texts;
    s->counted = bucket > 0;
    if (s->counted) {
        const int64_t more = emb_bucket_texts(b->texts);
        tokens = bucket < f->plan.tokens ? bucket : f->plan.tokens;
        texts = more < f->plan.texts ? more : f->plan.texts;
    }
    s->at = emb_device_layout_make(tokens, texts);
}

/* Where the lookup finds the rows of the table, if there is one. */
static embed_status pack_rows(emb_device_forward *f, emb_device_set *s, const emb_slot *slot) {
    embed_status st = EMBED_OK;
    emb_device_carried *c = slot->carried;
    const emb_device_row_places places = {(void *)(s->in + s->at.pointers),
                                          (void *)(s->in + s->at.scales)};
    s->rows = NULL;
    if (c != NULL) {
        EMB_TRY(emb_device_rows_pack(c, (int)(s - f->sets), slot->batch.tokens, &places));
        s->rows = c->rows;
        s->has_rows = 1;
        s->add_rows = emb_device_rows_add(c->rows);
        s->rows_dtype = emb_device_rows_dtype(c->rows);
        return EMBED_OK;
    }
    EMB_TRY(emb_device_row_floats_pack(&s->floats, f->device, slot, f->model->config.encoder.hidden,
                                       f->plan.tokens, &places));
    s->has_rows = s->floats.on;
    s->add_rows = s->floats.add;
    s->rows_dtype = EMBED_F32;
fail:
    return st;
}

static embed_status fill(emb_device_forward *f, emb_device_set *s, const emb_slot *slot,
                         const emb_pooling_options *o, int buckets) {
    embed_status st = EMBED_OK;
    const emb_batch *b = &slot->batch;
    if (b->tokens > f->plan.tokens || b->texts > f->plan.texts)
        return emb_fail(EMBED_ERR_INTERNAL,
                        "device batch: expected at most %lld tokens of %lld texts, found %lld of "
                        "%lld",
                        (long long)f->plan.tokens, (long long)f->plan.texts, (long long)b->tokens,
                        (long long)b->texts);
    EMB_TRY(emb_device_layers_prepare(f, b->tokens));
    shape(f, s, b, buckets);
    pack(f, s, slot, o);
    EMB_TRY(pack_rows(f, s, slot));
    EMB_TRY(send(f, s));
    EMB_TRY(emb_device_attention_prepare(f, s));
fail:
    return st;
}

/* ----------------------------------------------------------------------------------- launching */

static emb_graph_key key_of(const emb_device_forward *f, const emb_device_set *s) {
    return (emb_graph_key){.set = (int32_t)(s - f->sets),
                           .tokens = (int32_t)s->at.tokens,
                           .texts = (int32_t)s->at.texts,
                           .rows = s->has_rows ? 1 + s->add_rows : 0,
                           .rows_dtype = s->has_rows ? s->rows_dtype : 0,
                           .skip = s->with_skip};
}

static embed_status capture(emb_device_forward *f, const emb_device_set *s, emb_graph **graph) {
    embed_status st = emb_capture_begin(f->main);
    *graph = NULL;
    if (st != EMBED_OK)
        return st;
    st = emb_device_layers_embed(f, s);
    return st != EMBED_OK ? emb_capture_give_up(f->main, st)
                          : emb_capture_end(f->main, graph, &f->graphs.info);
}

/* One by one, from a graph, or captured and then from the graph: the same kernels with the same
 * arguments. A capture has run nothing, so where one fails on a device that goes on to work, the
 * batch is launched; after EMB_GRAPH_FAILURES of these no more are tried. */
static embed_status launch(emb_device_forward *f, const emb_device_set *s) {
    embed_status st = EMBED_OK;
    emb_graphs *g = &f->graphs;
    int warm;
    if (!s->counted)
        return emb_device_layers_embed(f, s);
    const emb_graph_key key = key_of(f, s);
    emb_graph_entry *e = emb_graphs_find(g, &key, &warm);
    if (e->graph != NULL) {
        g->replayed++;
        return emb_graph_launch(e->graph, f->main);
    }
    if ((warm || f->graphs_mode == EMB_GRAPHS_AT_ONCE) && g->failures < EMB_GRAPH_FAILURES) {
        st = capture(f, s, &e->graph);
        if (st == EMBED_OK) {
            g->captured++;
            return emb_graph_launch(e->graph, f->main);
        }
        if (!emb_device_alive(f->device))
            return st;
        g->failures++;
        emb_log(&f->env, EMBED_LOG_WARN, "%s; the batch runs without a graph", emb_fail_message());
    }
    g->plain++;
    return emb_device_layers_embed(f, s);
}

static emb_device_set *next_set(emb_device_forward *f) {
    return &f->sets[(f->first + f->pending) % EMB_DEVICE_SETS];
}

embed_status emb_device_forward_begin(emb_device_forward *f, const emb_device_output *output) {
    embed_status st = EMBED_OK;
    EMB_TRY(emb_device_check(f->device));
    if (f->unsettled)
        EMB_TRY(settle(f));
    if (f->pending == 0)
        f->first = 0; /* calls of one batch always find the same graph */
    if (f->plan.count_bytes > 0)
        EMB_TRY(emb_set_device(f->main, f->counts, 0, f->plan.count_bytes));
    EMB_TRY(emb_device_output_begin(f, output));
fail:
    return st;
}

embed_status emb_device_forward_stage(emb_device_forward *f, const emb_slot *slot,
                                      const emb_pooling_options *o, emb_device_set **set) {
    *set = next_set(f);
    return fill(f, *set, slot, o, 0);
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
    emb_device_set *s = next_set(f);
    EMB_TRY(fill(f, s, slot, o, f->graphs_mode != EMB_GRAPHS_OFF));
    EMB_TRY(launch(f, s));
    EMB_TRY(emb_device_forward_return(f, s));
fail:
    return st;
}

embed_status emb_device_forward_collect(emb_device_forward *f, const emb_device_set **set) {
    embed_status st = EMBED_OK;
    emb_device_set *s = &f->sets[f->first];
    EMB_TRY(emb_event_sync(s->back));
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
    EMB_TRY(fill(f, s, slot, &none, 0));
    EMB_TRY(f->run != NULL ? f->run(f->run_user, s) : emb_device_layers_run(f, s));
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
