#define _DEFAULT_SOURCE
#include "model/device_experts.h"

#include <time.h>

#include "base/dtype.h"
#include "kernels/moe_exchange/moe_exchange_cuda.h"

/* Of a layer of experts. */
enum {
    STEP_DISPATCH,
    STEP_THERE,
    STEP_COLLECT,
    STEP_UP,
    STEP_DOWN,
    STEP_ORDER,
    STEP_BACK,
    STEP_COMBINE
};

#define MOST_PRODUCT_ROWS ((1 << 20) - 1) /* gemm_cuda */
#define ASK_NS 20000                      /* between two looks at devices that work */

static emb_dptr at(const emb_expert_rank *k, emb_exchange_region i) {
    return emb_arena_at(&k->arena, i);
}

static embed_status begin(const emb_expert_rank *k, emb_exchange_region i) {
    return emb_arena_begin(&k->arena, k->forward->main, i);
}

/* -------------------------------------------------------------------------------------- memory */

int64_t emb_device_experts_most_tokens(const embed_model *m, int32_t n) {
    const emb_encoder_config *c = &m->config.encoder;
    const int64_t most = MOST_PRODUCT_ROWS / (n * emb_moe_width(c->experts, n, c->top_k, 0));
    const int64_t alone = emb_device_plan_most_tokens(m);
    return most < alone ? most : alone;
}

/* Regions of a rank; sizes are in bytes a token here, a token anywhere, or in all. */
static embed_status plan_regions(emb_arena_region *regions, const embed_model *m, int32_t dtype,
                                 int32_t n, int32_t rank, int64_t tokens) {
    const emb_encoder_config *c = &m->config.encoder;
    const size_t element = emb_dtype_bytes(dtype), row = (size_t)c->hidden * element,
                 word = sizeof(int32_t);
    const int32_t here = emb_moe_experts_of(c->experts, n, rank);
    const size_t width = (size_t)emb_moe_width(c->experts, n, c->top_k, rank) * (size_t)n,
                 before = (size_t)emb_moe_before(c->experts, n, c->top_k, n);
    const struct {
        const char *name;
        size_t each, fixed; /* bytes a token, and in all */
        int32_t first, last;
    } want[EMB_EXCHANGE_REGIONS] = {
        [EMB_EXCHANGE_COUNTS_OUT] = {"counts for experts", 0, (size_t)c->experts * word,
                                     STEP_DISPATCH, STEP_THERE},
        [EMB_EXCHANGE_COUNTS_IN] = {"counts from devices", 0, (size_t)(n * here) * word, STEP_THERE,
                                    STEP_COLLECT},
        [EMB_EXCHANGE_PLACE] = {"places of pairs", (size_t)c->top_k * word, 0, STEP_DISPATCH,
                                STEP_COMBINE},
        [EMB_EXCHANGE_SEND] = {"rows for experts", before * row, 0, STEP_DISPATCH, STEP_THERE},
        [EMB_EXCHANGE_INBOX] = {"rows from devices", width * row, 0, STEP_THERE, STEP_UP},
        [EMB_EXCHANGE_OFFSET] = {"offsets of experts here", 0, (size_t)(here + 1) * word,
                                 STEP_COLLECT, STEP_DOWN},
        [EMB_EXCHANGE_ROWS] = {"rows of experts here", width * word, 0, STEP_COLLECT, STEP_UP},
        [EMB_EXCHANGE_ORDER] = {"order of rows", width * word, 0, STEP_COLLECT, STEP_ORDER},
        [EMB_EXCHANGE_INNER] = {"inner of experts here", width * (size_t)c->inner * element, 0,
                                STEP_UP, STEP_DOWN},
        [EMB_EXCHANGE_OUT] = {"out of experts here", width * row, 0, STEP_DOWN, STEP_ORDER},
        [EMB_EXCHANGE_RETURN] = {"rows on their way back", width * row, 0, STEP_ORDER, STEP_BACK},
        [EMB_EXCHANGE_RESULT] = {"rows come back", before * row, 0, STEP_BACK, STEP_COMBINE},
    };
    embed_status st = EMBED_OK;
    if (tokens > emb_device_experts_most_tokens(m, n))
        return emb_fail(EMBED_ERR_UNSUPPORTED,
                        "%s: tokens of a batch: expected at most %lld with experts on %d devices, "
                        "found %lld",
                        m->name, (long long)emb_device_experts_most_tokens(m, n), n,
                        (long long)tokens);
    for (size_t i = 0; i < EMB_EXCHANGE_REGIONS; i++) {
        size_t bytes;
        EMB_TRY(emb_mul((size_t)tokens, want[i].each, want[i].name, &bytes));
        EMB_TRY(emb_add(bytes, want[i].fixed, want[i].name, &bytes));
        regions[i] = (emb_arena_region){want[i].name, bytes, want[i].first, want[i].last, 0};
    }
fail:
    return st;
}

embed_status emb_device_experts_plan(const embed_model *m, int32_t dtype, int32_t n, int32_t rank,
                                     int64_t tokens, size_t *bytes) {
    embed_status st = EMBED_OK;
    emb_arena_region regions[EMB_EXCHANGE_REGIONS];
    *bytes = 0;
    EMB_TRY(plan_regions(regions, m, dtype, n, rank, tokens));
    EMB_TRY(emb_arena_plan(regions, EMB_EXCHANGE_REGIONS, 0, bytes));
fail:
    return st;
}

uint64_t emb_device_experts_bytes(const emb_device_experts *x) {
    uint64_t bytes = 0;
    for (int32_t r = 0; r < x->n; r++) {
        const emb_device_forward *f = x->ranks[r].forward;
        size_t arena; /* without guards, as planned; it was planned before */
        (void)emb_device_experts_plan(f->model, f->weights->dtype, x->n, r, x->tokens, &arena);
        bytes += arena;
    }
    return bytes;
}

embed_status emb_device_experts_reserve(emb_device_experts *x, int64_t tokens) {
    embed_status st = EMBED_OK;
    emb_arena *arenas = NULL;
    if (tokens <= x->tokens)
        return EMBED_OK;
    EMB_TRY(emb_new_array(&x->env, (size_t)x->n, sizeof *arenas, (void **)&arenas));
    for (int32_t r = 0; r < x->n; r++) {
        const emb_device_forward *f = x->ranks[r].forward;
        emb_arena_region regions[EMB_EXCHANGE_REGIONS];
        EMB_TRY(emb_device_forward_reserve(x->ranks[r].forward, tokens));
        EMB_TRY(plan_regions(regions, f->model, f->weights->dtype, x->n, r, tokens));
        EMB_TRY(emb_arena_create(&arenas[r], f->device, regions, EMB_EXCHANGE_REGIONS));
    }
    for (int32_t r = 0; r < x->n; r++) {
        const emb_arena old = x->ranks[r].arena;
        x->ranks[r].arena = arenas[r];
        arenas[r] = old;
    }
    x->tokens = tokens;
fail:
    for (int32_t r = 0; arenas != NULL && r < x->n; r++)
        emb_arena_free(&arenas[r]);
    emb_free(&x->env, arenas);
    return st;
}

static embed_status rank_create(emb_expert_rank *k, emb_device_forward *f, int32_t r, int32_t n) {
    embed_status st = EMBED_OK;
    const emb_encoder_config *c = &f->model->config.encoder;
    k->forward = f;
    k->experts = emb_moe_experts_of(c->experts, n, r);
    k->width = emb_moe_width(c->experts, n, c->top_k, r);
    EMB_TRY(emb_op_find(f->device, "moe_dispatch", &k->dispatch));
    EMB_TRY(emb_op_find(f->device, "moe_collect", &k->collect));
    EMB_TRY(emb_op_find(f->device, "moe_return", &k->back));
    for (int i = 0; i < EMB_DEVICE_SETS; i++)
        EMB_TRY(emb_event_create(&k->done[i], f->device, 0));
fail:
    return st;
}

embed_status emb_device_experts_create(emb_device_experts **out,
                                       emb_device_forward *const *forwards, int32_t n,
                                       int64_t tokens) {
    embed_status st = EMBED_OK;
    emb_device_experts *x = NULL;
    emb_device *devices[EMB_MAX_RANKS];
    const emb_env *env = &forwards[0]->env;
    *out = NULL;
    EMB_TRY(emb_new(env, sizeof *x, (void **)&x));
    x->env = *env;
    x->top_k = forwards[0]->model->config.encoder.top_k;
    EMB_TRY(emb_new_array(env, (size_t)n, sizeof *x->ranks, (void **)&x->ranks));
    x->n = n;
    EMB_TRY(emb_new_array(env, (size_t)n * (size_t)n, sizeof *x->parts, (void **)&x->parts));
    for (int32_t r = 0; r < n; r++) {
        devices[r] = forwards[r]->device;
        EMB_TRY(rank_create(&x->ranks[r], forwards[r], r, n));
    }
    EMB_TRY(emb_transport_create(&x->transport, env, devices, n));
    EMB_TRY(emb_device_experts_reserve(x, tokens));
    *out = x;
    return EMBED_OK;
fail:
    emb_device_experts_free(x);
    return st;
}

void emb_device_experts_free(emb_device_experts *x) {
    if (x == NULL)
        return;
    const emb_env env = x->env;
    emb_transport_free(x->transport);
    for (int32_t r = 0; r < x->n; r++) {
        for (int i = 0; i < EMB_DEVICE_SETS; i++)
            emb_event_free(x->ranks[r].done[i]);
        emb_arena_free(&x->ranks[r].arena);
    }
    emb_free(&env, x->ranks);
    emb_free(&env, x->parts);
    emb_free(&env, x);
}

/* -------------------------------------------------------------------------------- an exchange */

static int64_t tokens_of(const emb_device_set *set) {
    return set != NULL ? set->tokens : 0;
}

static size_t row_bytes(const emb_expert_rank *k) {
    return (size_t)k->forward->model->config.encoder.hidden *
           emb_dtype_bytes(k->forward->weights->dtype);
}

/* x->parts is set; regions of all ranks. */
static embed_status exchange(emb_device_experts *x, emb_exchange_region from,
                             emb_exchange_region to, size_t element) {
    embed_status st = EMBED_OK;
    emb_stream *streams[EMB_MAX_RANKS];
    emb_dptr send[EMB_MAX_RANKS], recv[EMB_MAX_RANKS];
    for (int32_t r = 0; r < x->n; r++) {
        streams[r] = x->ranks[r].forward->main;
        send[r] = at(&x->ranks[r], from);
        recv[r] = at(&x->ranks[r], to);
        EMB_TRY(begin(&x->ranks[r], to));
    }
    EMB_TRY(emb_transport_all_to_all(x->transport, streams, send, recv, x->parts, element));
fail:
    return st;
}

/* Counts of pairs, then rows, to the owners of experts. */
static embed_status there(emb_device_experts *x, emb_device_set *const *sets) {
    embed_status st = EMBED_OK;
    const size_t n = (size_t)x->n;
    for (size_t s = 0; s < n; s++)
        for (size_t d = 0; d < n; d++)
            x->parts[s * n + d] = (size_t)x->ranks[d].experts;
    EMB_TRY(exchange(x, EMB_EXCHANGE_COUNTS_OUT, EMB_EXCHANGE_COUNTS_IN, sizeof(int32_t)));
    for (size_t s = 0; s < n; s++)
        for (size_t d = 0; d < n; d++)
            x->parts[s * n + d] = (size_t)(tokens_of(sets[s]) * x->ranks[d].width);
    EMB_TRY(exchange(x, EMB_EXCHANGE_SEND, EMB_EXCHANGE_INBOX, row_bytes(&x->ranks[0])));
fail:
    return st;
}

static embed_status back(emb_device_experts *x, emb_device_set *const *sets) {
    const size_t n = (size_t)x->n;
    for (size_t s = 0; s < n; s++)
        for (size_t d = 0; d < n; d++)
            x->parts[d * n + s] = (size_t)(tokens_of(sets[s]) * x->ranks[d].width);
    return exchange(x, EMB_EXCHANGE_RETURN, EMB_EXCHANGE_RESULT, row_bytes(&x->ranks[0]));
}

/* The choices of rank k's tokens, and their rows by owner. */
static embed_status dispatch(const emb_device_experts *x, emb_expert_rank *k,
                             const emb_device_set *set, int32_t moe) {
    embed_status st = EMBED_OK;
    emb_device_forward *f = k->forward;
    const emb_encoder_config *c = &f->model->config.encoder;
    EMB_TRY(begin(k, EMB_EXCHANGE_COUNTS_OUT));
    if (set == NULL)
        return emb_set_device(f->main, at(k, EMB_EXCHANGE_COUNTS_OUT), 0,
                              (size_t)c->experts * sizeof(int32_t));
    const emb_cuda_moe_dispatch_args args = {
        .x = emb_dptr_raw(emb_arena_at(&f->arena, EMB_AT_X)),
        .expert = emb_dptr_raw(emb_arena_at(&f->arena, EMB_AT_EXPERT)),
        .slot = emb_dptr_raw(emb_arena_at(&f->arena, EMB_AT_SLOT)),
        .offset = emb_dptr_raw(emb_arena_at(&f->arena, EMB_AT_OFFSET)),
        .send = emb_dptr_raw(at(k, EMB_EXCHANGE_SEND)),
        .place = emb_dptr_raw(at(k, EMB_EXCHANGE_PLACE)),
        .counts = emb_dptr_raw(at(k, EMB_EXCHANGE_COUNTS_OUT)),
        .tokens = set->tokens,
        .row_bytes = (int64_t)row_bytes(k),
        .experts = c->experts,
        .top_k = c->top_k,
        .ranks = x->n,
    };
    EMB_TRY(emb_device_layers_route(f, set, moe));
    EMB_TRY(begin(k, EMB_EXCHANGE_SEND));
    EMB_TRY(begin(k, EMB_EXCHANGE_PLACE));
    EMB_TRY(emb_op_run(f->main, k->dispatch, &args, sizeof args));
fail:
    return st;
}

/* Which of the received rows belong to which expert here. */
static embed_status collect(const emb_device_experts *x, emb_expert_rank *k,
                            emb_device_set *const *sets, int64_t *rows) {
    embed_status st = EMBED_OK;
    emb_cuda_moe_collect_args args = {
        .counts = emb_dptr_raw(at(k, EMB_EXCHANGE_COUNTS_IN)),
        .offset = emb_dptr_raw(at(k, EMB_EXCHANGE_OFFSET)),
        .rows = emb_dptr_raw(at(k, EMB_EXCHANGE_ROWS)),
        .place = emb_dptr_raw(at(k, EMB_EXCHANGE_ORDER)),
        .experts = k->experts,
        .ranks = x->n,
    };
    for (int32_t s = 0; s < x->n; s++)
        args.first[s + 1] = args.first[s] + (int32_t)(tokens_of(sets[s]) * k->width);
    *rows = args.first[x->n];
    EMB_TRY(begin(k, EMB_EXCHANGE_OFFSET));
    EMB_TRY(begin(k, EMB_EXCHANGE_ROWS));
    EMB_TRY(begin(k, EMB_EXCHANGE_ORDER));
    EMB_TRY(emb_op_run(k->forward->main, k->collect, &args, sizeof args));
fail:
    return st;
}

/* The two products of the experts here, of all that came, into the order it came in. */
static embed_status work(const emb_device_experts *x, emb_expert_rank *k,
                         emb_device_set *const *sets, int32_t layer) {
    embed_status st = EMBED_OK;
    emb_device_forward *f = k->forward;
    const emb_device_layer *l = &f->weights->layers[layer];
    const emb_encoder_config *c = &f->model->config.encoder;
    int64_t rows;
    if (k->experts == 0)
        return EMBED_OK;
    EMB_TRY(collect(x, k, sets, &rows));
    EMB_TRY(begin(k, EMB_EXCHANGE_INNER));
    EMB_TRY(emb_device_products_own(
        &f->products, f->main,
        (emb_cuda_gemm_args){.x = emb_dptr_raw(at(k, EMB_EXCHANGE_INBOX)),
                             .x_rows = emb_dptr_raw(at(k, EMB_EXCHANGE_ROWS)),
                             .w = emb_dptr_raw(l->up),
                             .y = emb_dptr_raw(at(k, EMB_EXCHANGE_INNER)),
                             .offset = emb_dptr_raw(at(k, EMB_EXCHANGE_OFFSET)),
                             .m = rows,
                             .n = c->inner,
                             .k = c->hidden,
                             .groups = k->experts,
                             .act = c->expert_activation}));
    EMB_TRY(begin(k, EMB_EXCHANGE_OUT));
    EMB_TRY(emb_device_products_own(
        &f->products, f->main,
        (emb_cuda_gemm_args){.x = emb_dptr_raw(at(k, EMB_EXCHANGE_INNER)),
                             .w = emb_dptr_raw(l->down),
                             .y = emb_dptr_raw(at(k, EMB_EXCHANGE_OUT)),
                             .offset = emb_dptr_raw(at(k, EMB_EXCHANGE_OFFSET)),
                             .m = rows,
                             .n = c->hidden,
                             .k = c->inner,
                             .groups = k->experts,
                             .layout = EMB_CUDA_NN}));
    const emb_cuda_moe_return_args order = {.y = emb_dptr_raw(at(k, EMB_EXCHANGE_OUT)),
                                            .place = emb_dptr_raw(at(k, EMB_EXCHANGE_ORDER)),
                                            .out = emb_dptr_raw(at(k, EMB_EXCHANGE_RETURN)),
                                            .rows = rows,
                                            .row_bytes = (int64_t)row_bytes(k)};
    EMB_TRY(begin(k, EMB_EXCHANGE_RETURN));
    EMB_TRY(emb_op_run(f->main, k->back, &order, sizeof order));
fail:
    return st;
}

/* ---------------------------------------------------------------------------------- in lockstep */

static embed_status expert_layer(emb_device_experts *x, emb_device_set *const *sets, int32_t layer,
                                 int32_t moe) {
    embed_status st = EMBED_OK;
    for (int32_t r = 0; r < x->n; r++)
        EMB_TRY(dispatch(x, &x->ranks[r], sets[r], moe));
    EMB_TRY(there(x, sets));
    for (int32_t r = 0; r < x->n; r++)
        EMB_TRY(work(x, &x->ranks[r], sets, layer));
    EMB_TRY(back(x, sets));
    for (int32_t r = 0; r < x->n; r++) {
        const emb_expert_rank *k = &x->ranks[r];
        if (sets[r] != NULL)
            EMB_TRY(emb_device_layers_combine(k->forward, sets[r], layer,
                                              emb_dptr_raw(at(k, EMB_EXCHANGE_RESULT)),
                                              emb_dptr_raw(at(k, EMB_EXCHANGE_PLACE))));
    }
fail:
    return st;
}

/* The first n layers of all tokens on each device; sets[r] NULL: none there. */
static embed_status layers(emb_device_experts *x, emb_device_set *const *sets, int32_t n) {
    embed_status st = EMBED_OK;
    const emb_device_forward *any = x->ranks[0].forward;
    int32_t moe = 0;
    for (int32_t r = 0; r < x->n; r++)
        if (sets[r] != NULL)
            EMB_TRY(emb_device_layers_lookup(x->ranks[r].forward, sets[r]));
    for (int32_t i = 0; i < n; i++) {
        const int experts = any->weights->layers[i].router.at != 0;
        for (int32_t r = 0; r < x->n; r++)
            if (sets[r] != NULL) {
                EMB_TRY(emb_device_layers_mix(x->ranks[r].forward, sets[r], i));
                if (!experts)
                    EMB_TRY(emb_device_layers_feed(x->ranks[r].forward, sets[r], i, moe));
            }
        if (experts)
            EMB_TRY(expert_layer(x, sets, i, moe++));
    }
fail:
    return st;
}

static int32_t count_layers(const emb_device_experts *x) {
    return x->ranks[0].forward->model->config.encoder.layers;
}

/* 1: the last layer has no experts and is wanted for one token of each text: every device does it
 * alone. */
static int pooled_end(const emb_device_experts *x) {
    const emb_device_forward *f = x->ranks[0].forward;
    return emb_device_plan_one_token(f->model) &&
           f->weights->layers[count_layers(x) - 1].router.at == 0;
}

static embed_status end_round(emb_device_experts *x) {
    embed_status st = EMBED_OK;
    for (int32_t r = 0; r < x->n; r++) {
        const emb_expert_rank *k = &x->ranks[r];
        EMB_TRY(emb_event_record(k->done[x->round % EMB_DEVICE_SETS], k->forward->main));
    }
    x->round = (x->round + 1) % (1 << 20);
fail:
    return st;
}

embed_status emb_device_experts_stage(emb_device_experts *x, int32_t r, const emb_slot *slot,
                                      const emb_pooling_options *options) {
    emb_expert_rank *k = &x->ranks[r];
    const embed_status st = emb_device_forward_stage(k->forward, slot, options, &k->staged);
    x->staged += st == EMBED_OK;
    return st;
}

embed_status emb_device_experts_run(emb_device_experts *x) {
    embed_status st = EMBED_OK;
    emb_device_set *sets[EMB_MAX_RANKS];
    if (x->staged == 0)
        return EMBED_OK;
    for (int32_t r = 0; r < x->n; r++)
        sets[r] = x->ranks[r].staged;
    EMB_TRY(layers(x, sets, pooled_end(x) ? count_layers(x) - 1 : count_layers(x)));
    for (int32_t r = 0; r < x->n; r++)
        if (sets[r] != NULL) {
            emb_device_forward *f = x->ranks[r].forward;
            EMB_TRY(pooled_end(x) ? emb_device_layers_end(f, sets[r], f->model->moe_layers)
                                  : emb_device_layers_pool(f, sets[r]));
            EMB_TRY(emb_device_forward_return(x->ranks[r].forward, sets[r]));
            x->ranks[r].staged = NULL;
        }
    x->staged = 0;
    EMB_TRY(end_round(x));
fail:
    return st;
}

embed_status emb_device_experts_wait(emb_device_experts *x, int32_t r, int32_t round) {
    embed_status st = EMBED_OK;
    const struct timespec pause = {0, ASK_NS};
    for (;;) {
        int done = 0;
        for (int32_t other = 0; other < x->n; other++) {
            int through;
            EMB_TRY(emb_event_query(x->ranks[other].done[round % EMB_DEVICE_SETS], &through));
            done |= other == r && through;
        }
        if (done)
            break;
        (void)nanosleep(&pause, NULL);
    }
fail:
    return st;
}

/* In place of the layers of rank 0 alone. */
static embed_status run_first(void *user, emb_device_set *set) {
    embed_status st = EMBED_OK;
    emb_device_experts *x = user;
    emb_device_set *sets[EMB_MAX_RANKS] = {set};
    const int32_t round = x->round;
    EMB_TRY(layers(x, sets, count_layers(x)));
    EMB_TRY(end_round(x));
    EMB_TRY(emb_device_experts_wait(x, 0, round));
fail:
    return st;
}

embed_status emb_device_experts_states(emb_device_experts *x, const emb_slot *slot,
                                       const float **states) {
    emb_device_forward *f = x->ranks[0].forward;
    f->run = run_first;
    f->run_user = x;
    const embed_status st = emb_device_forward_states(f, slot, states);
    f->run = NULL;
    return st;
}

void emb_device_experts_drop(emb_device_experts *x) {
    int alive = 1;
    x->staged = 0;
    for (int32_t r = 0; r < x->n; r++) {
        x->ranks[r].staged = NULL;
        alive &= emb_device_alive(x->ranks[r].forward->device);
    }
    if (alive)
        return;
    emb_transport_free(x->transport);
    x->transport = NULL;
}
