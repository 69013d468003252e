#include "model/plan.h"

#include "kernels/attention/attention.h"
#include "kernels/router_topk/router_topk.h"

/* Lays regions one after the other; a size that does not fit is remembered and reported once. */
struct layout {
    size_t at;
    embed_status st;
};

static size_t place(struct layout *l, int64_t count, size_t size) {
    const size_t start = l->at;
    size_t bytes;
    if (l->st == EMBED_OK)
        l->st = emb_mul((size_t)count, size, "batch memory", &bytes);
    if (l->st == EMBED_OK)
        l->st = emb_add(l->at, bytes, "batch memory", &l->at);
    if (l->st == EMBED_OK)
        l->st = emb_add(l->at, EMB_ALIGN - 1, "batch memory", &l->at);
    l->at = l->at / EMB_ALIGN * EMB_ALIGN;
    return start;
}

static size_t larger(size_t a, size_t b) {
    return a > b ? a : b;
}

static int64_t at_most(int64_t n, int64_t limit) {
    return n < limit ? n : limit;
}

/* Widest vector from pooling through the dense modules. */
static int64_t vector_width(const embed_model *m) {
    int64_t width = (int64_t)m->config.encoder.hidden * m->config.pipeline.n_pooling;
    for (int32_t i = 0; i < m->config.pipeline.n_dense; i++)
        if (m->config.pipeline.dense[i].out > width)
            width = m->config.pipeline.dense[i].out;
    return width;
}

static void place_routing(struct layout *l, emb_regions *at, const emb_encoder_config *c,
                          int64_t tokens) {
    const int64_t pairs = tokens * c->top_k;
    at->gate = place(l, pairs, sizeof(float));
    at->expert = place(l, pairs, sizeof(int32_t));
    at->slot = place(l, pairs, sizeof(int32_t));
    at->rows = place(l, pairs, sizeof(int32_t));
    at->expert_offset = place(l, c->experts + 1, sizeof(int32_t));
    at->gate_sum = place(l, c->experts, sizeof(double));
    at->groups = place(l, c->experts, sizeof(emb_gemm_group));
}

/* The shared region: each stage starts at its beginning. */
static void place_work(struct layout *l, emb_plan *p, const emb_encoder_config *c, int moe,
                       int dense) {
    const size_t start = l->at;
    size_t end;
    p->at.work = start;
    (void)place(l, p->tokens, 3 * (size_t)c->hidden * sizeof(float));
    end = l->at;
    l->at = start;
    p->at.expert_out = start;
    if (moe)
        (void)place(l, p->tokens * c->top_k, (size_t)c->hidden * sizeof(float));
    p->at.inner = place(l, p->inner_rows, (size_t)c->inner * sizeof(float));
    end = larger(end, l->at);
    l->at = start;
    for (int i = 0; i < 2; i++) /* the second only where dense modules go from one to the other */
        p->at.vectors[i] =
            i == 0 || dense ? place(l, p->texts, (size_t)p->vector_width * sizeof(float)) : start;
    l->at = larger(end, l->at);
}

/* Per thread: the kernels take turns. */
static embed_status kernel_scratch(size_t *bytes, const embed_model *m, int64_t longest) {
    size_t need;
    const embed_status st =
        emb_attention_scratch_bytes(m->isa, longest, m->config.encoder.head_dim, &need);
    if (st != EMBED_OK)
        return st;
    need = larger(need, emb_gemm_scratch_bytes(m->isa));
    if (m->moe_layers > 0)
        need = larger(need, emb_router_topk_scratch_bytes(m->isa, m->config.encoder.experts));
    *bytes = emb_round_up(need, EMB_ALIGN);
    return EMBED_OK;
}

embed_status emb_plan_make(emb_plan *plan, const embed_model *m, int32_t threads,
                           int32_t batch_tokens, int64_t tokens) {
    embed_status st = EMBED_OK;
    const emb_encoder_config *c = &m->config.encoder;
    const int moe = m->moe_layers > 0;
    const int64_t max_tokens = m->config.pipeline.max_tokens;
    const int64_t rows = tokens * (moe ? c->top_k : 1);
    struct layout l = {0, EMBED_OK};
    emb_plan p = {.threads = threads, .batch_tokens = batch_tokens, .tokens = tokens};
    p.texts = at_most(tokens, EMB_MAX_BATCH_TEXTS);
    p.inner_rows = (int64_t)(EMB_INNER_BYTES / ((size_t)c->inner * sizeof(float)));
    p.inner_rows = at_most(p.inner_rows > 64 ? p.inner_rows : 64, rows);
    p.vector_width = vector_width(m);
    p.window_tokens = (size_t)batch_tokens * EMB_WINDOW_BATCHES;
    p.window_texts = larger(p.window_tokens / 8, 64);
    p.window_tokens = larger(p.window_tokens, (size_t)max_tokens);
    p.at.skip = place(&l, p.texts, sizeof(int32_t));
    p.at.x = place(&l, tokens, (size_t)c->hidden * sizeof(float));
    p.at.y = place(&l, tokens, (size_t)c->hidden * sizeof(float));
    if (moe)
        place_routing(&l, &p.at, c, tokens);
    place_work(&l, &p, c, moe, m->config.pipeline.n_dense > 0);
    p.at.bytes = l.at;
    EMB_TRY(l.st);
    EMB_TRY(kernel_scratch(&p.scratch_bytes, m, at_most(tokens, max_tokens)));
    *plan = p;
fail:
    return st;
}
