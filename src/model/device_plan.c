#include "base/dtype.h"
#include "kernels/router_topk/router_topk_cuda.h"
#include "model/device_forward.h"

/* Steps of the order of work; those of a layer are the same for all layers. */
enum {
    STEP_LOOKUP,
    STEP_QKV,
    STEP_ATTENTION,
    STEP_OUT,
    STEP_NORM1,
    STEP_ROUTE,
    STEP_UP,
    STEP_DOWN,
    STEP_NORM2,
    STEP_POOL,
    STEP_MODULES
};

#define MOST_PRODUCT_ROWS ((1 << 20) - 1) /* gemm_cuda */

/* Sizes that do not fit are remembered and reported once. */
struct sum {
    embed_status st;
};

static size_t product(struct sum *s, int64_t count, size_t size) {
    size_t bytes = 0;
    if (s->st == EMBED_OK)
        s->st = emb_mul((size_t)count, size, "device memory of a batch", &bytes);
    return bytes;
}

static size_t append(size_t *at, int64_t count, size_t size) {
    const size_t start = *at;
    *at = emb_round_up(start + (size_t)count * size, sizeof(uint64_t));
    return start;
}

/* Without checks: tokens and texts are within emb_device_plan_most_tokens. */
emb_device_layout emb_device_layout_make(int64_t tokens, int64_t texts) {
    emb_device_layout l = {.tokens = tokens, .texts = texts};
    l.header = append(&l.bytes, EMB_HEADER_WORDS, sizeof(int32_t));
    l.offsets = append(&l.bytes, texts + 1, sizeof(int32_t));
    l.skip = append(&l.bytes, texts, sizeof(int32_t));
    l.last = append(&l.bytes, texts, sizeof(int32_t));
    l.index = append(&l.bytes, texts, sizeof(uint64_t));
    l.ids = append(&l.bytes, tokens, sizeof(int32_t));
    l.positions = append(&l.bytes, tokens, sizeof(int32_t));
    l.pointers = append(&l.bytes, tokens, sizeof(uint64_t));
    l.scales = append(&l.bytes, tokens, sizeof(float));
    return l;
}

static int64_t widest(const embed_model *m) {
    int64_t width = (int64_t)m->config.encoder.hidden * m->config.pipeline.n_pooling;
    for (int32_t i = 0; i < m->config.pipeline.n_dense; i++)
        if (m->config.pipeline.dense[i].out > width)
            width = m->config.pipeline.dense[i].out;
    return width;
}

static void set_region(emb_device_plan *p, emb_device_region i, const char *name, size_t bytes,
                       int32_t first, int32_t last) {
    p->regions[i] = (emb_arena_region){name, bytes, first, last, 0};
}

static void plan_states(emb_device_plan *p, struct sum *s, const emb_encoder_config *c,
                        size_t element, int64_t choices) {
    const size_t row = (size_t)c->hidden * element;
    set_region(p, EMB_AT_X, "hidden states", product(s, p->tokens, row), STEP_LOOKUP, STEP_POOL);
    set_region(p, EMB_AT_QKV, "qkv", product(s, p->tokens, 3 * row), STEP_QKV, STEP_ATTENTION);
    set_region(p, EMB_AT_HEADS, "heads", product(s, p->tokens, row), STEP_ATTENTION, STEP_OUT);
    set_region(p, EMB_AT_UPDATE, "update", product(s, p->tokens, row), STEP_OUT, STEP_NORM1);
    set_region(p, EMB_AT_INNER, "inner",
               product(s, p->tokens * choices, (size_t)c->inner * element), STEP_UP, STEP_DOWN);
    set_region(p, EMB_AT_DOWN, "down", product(s, p->tokens, row), STEP_DOWN, STEP_NORM2);
}

static void plan_routing(emb_device_plan *p, struct sum *s, const emb_encoder_config *c,
                         size_t element) {
    const int64_t pairs = p->tokens * c->top_k;
    set_region(p, EMB_AT_EXPERT_OUT, "expert out", product(s, pairs, (size_t)c->hidden * element),
               STEP_DOWN, STEP_NORM2);
    set_region(p, EMB_AT_LOGITS, "logits", product(s, p->tokens * c->experts, sizeof(float)),
               STEP_NORM1, STEP_ROUTE);
    set_region(p, EMB_AT_GATE, "gates", product(s, pairs, sizeof(float)), STEP_ROUTE, STEP_NORM2);
    set_region(p, EMB_AT_EXPERT, "experts", product(s, pairs, sizeof(int32_t)), STEP_ROUTE,
               STEP_ROUTE);
    set_region(p, EMB_AT_SLOT, "slots", product(s, pairs, sizeof(int32_t)), STEP_ROUTE, STEP_NORM2);
    set_region(p, EMB_AT_ROWS, "rows of experts", product(s, pairs, sizeof(int32_t)), STEP_ROUTE,
               STEP_UP);
    set_region(p, EMB_AT_OFFSET, "expert offsets", product(s, c->experts + 1, sizeof(int32_t)),
               STEP_ROUTE, STEP_DOWN);
    set_region(p, EMB_AT_SCRATCH, "router scratch",
               emb_cuda_router_topk_scratch_bytes(p->tokens, c->experts), STEP_ROUTE, STEP_ROUTE);
}

int emb_device_plan_one_token(const embed_model *m) {
    const emb_pipeline_config *p = &m->config.pipeline;
    return p->n_pooling == 1 &&
           (p->pooling_order[0] == EMBED_POOL_CLS || p->pooling_order[0] == EMBED_POOL_LAST);
}

int64_t emb_device_plan_most_tokens(const embed_model *m) {
    return MOST_PRODUCT_ROWS / (m->moe_layers > 0 ? m->config.encoder.top_k : 1);
}

/* What the headers of the operations say; beyond it they would refuse a launch. */
static embed_status check_limits(const embed_model *m, int64_t tokens) {
    const emb_encoder_config *c = &m->config.encoder;
    const struct {
        const char *what;
        int64_t found, most;
    } limits[] = {{"hidden size", c->hidden, 8192},
                  {"dimensions of a head", c->head_dim, 256},
                  {"experts", m->moe_layers > 0 ? c->experts : 0, 256},
                  {"experts of a token", m->moe_layers > 0 ? c->top_k : 0, 16},
                  {"tokens of a batch", tokens, emb_device_plan_most_tokens(m)}};
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++)
        if (limits[i].found > limits[i].most)
            return emb_fail(EMBED_ERR_UNSUPPORTED,
                            "%s: %s: expected at most %lld on a device, found %lld", m->name,
                            limits[i].what, (long long)limits[i].most, (long long)limits[i].found);
    return EMBED_OK;
}

embed_status emb_device_plan_make(emb_device_plan *plan, const embed_model *m, int32_t dtype,
                                  int64_t tokens) {
    embed_status st = EMBED_OK;
    const emb_encoder_config *c = &m->config.encoder;
    const size_t element = emb_dtype_bytes(dtype);
    struct sum s = {EMBED_OK};
    emb_device_plan p = {.tokens = tokens, .width = widest(m)};
    EMB_TRY(check_limits(m, tokens));
    p.texts = tokens < EMB_MAX_BATCH_TEXTS ? tokens : EMB_MAX_BATCH_TEXTS;
    plan_states(&p, &s, c, element, m->moe_layers > 0 ? c->top_k : 1);
    if (emb_device_plan_one_token(m))
        set_region(&p, EMB_AT_LAST, "pooled states",
                   product(&s, p.texts, (size_t)c->hidden * element), STEP_NORM1, STEP_POOL);
    if (m->moe_layers > 0)
        plan_routing(&p, &s, c, element);
    const size_t vectors = product(&s, p.texts * p.width, sizeof(float));
    set_region(&p, EMB_AT_VECTORS, "vectors", vectors, STEP_POOL, STEP_MODULES);
    set_region(&p, EMB_AT_VECTORS2, "vectors of a module",
               m->config.pipeline.n_dense > 0 ? vectors : 0, STEP_MODULES, STEP_MODULES);
    p.in_bytes = emb_device_layout_make(tokens, p.texts).bytes;
    p.out_bytes = product(&s, p.texts * m->dim, sizeof(float));
    p.count_bytes =
        product(&s, (int64_t)m->moe_layers * c->experts, sizeof(uint64_t) + sizeof(double));
    EMB_TRY(s.st);
    EMB_TRY(emb_arena_plan(p.regions, EMB_AT_REGIONS, 0, &p.arena_bytes));
    p.pinned_bytes = EMB_DEVICE_SETS * (uint64_t)(p.in_bytes + p.out_bytes) + p.count_bytes +
                     emb_device_output_range_bytes(m);
    p.device_bytes = p.arena_bytes + p.pinned_bytes;
    p.host_bytes =
        sizeof(emb_device_forward) + EMB_DEVICE_SETS * (uint64_t)p.texts * sizeof(emb_slot_text);
    *plan = p;
fail:
    return st;
}
