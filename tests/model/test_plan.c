/* Memory of a context: regions that are alive together do not overlap, the promised limits hold for
 * the shapes of published models, and sizes that no machine has are refused. */
#include "support/test.h"

#include "model/plan.h"

struct shape {
    const char *name;
    int hidden, heads, inner, top_k, experts, max_tokens, dense;
};

/* all-MiniLM-L6-v2, bge-base, nomic-embed-text-v2-moe, bge-m3, and one with a Dense module */
static const struct shape shapes[] = {
    {"MiniLM", 384, 12, 1536, 0, 0, 256, 0},   {"base", 768, 12, 3072, 0, 0, 512, 0},
    {"moe", 768, 12, 3072, 2, 8, 512, 0},      {"m3", 1024, 16, 4096, 0, 0, 8192, 0},
    {"dense", 768, 12, 3072, 0, 0, 512, 3072},
};

static embed_model model_of(const struct shape *s) {
    embed_model m = {.env = test_env()};
    m.config.encoder = (emb_encoder_config){
        .hidden = s->hidden,
        .heads = s->heads,
        .head_dim = s->hidden / s->heads,
        .inner = s->inner,
        .layers = 12,
        .moe_every = s->experts > 0 ? 2 : 0,
        .experts = s->experts,
        .top_k = s->top_k,
    };
    m.config.pipeline.max_tokens = s->max_tokens;
    m.config.pipeline.pooling = EMBED_POOL_MEAN;
    m.config.pipeline.n_pooling = 1;
    m.config.pipeline.n_dense = s->dense > 0;
    m.config.pipeline.dense[0].in = s->hidden;
    m.config.pipeline.dense[0].out = s->dense;
    m.moe_layers = s->experts > 0 ? 6 : 0;
    assert_int_equal(emb_isa_select(&m.isa, EMBED_ISA_AUTO), EMBED_OK);
    return m;
}

/* One region: its place and the bytes that the batch writes there. */
struct region {
    size_t at, bytes;
};

static void check_apart(const char *name, const struct region *r, size_t n, size_t total) {
    for (size_t i = 0; i < n; i++) {
        if (r[i].at % EMB_ALIGN != 0 || r[i].at + r[i].bytes > total)
            fail_msg("%s: region %zu at %zu + %zu of %zu", name, i, r[i].at, r[i].bytes, total);
        for (size_t j = 0; j < i; j++)
            if (r[i].at < r[j].at + r[j].bytes && r[j].at < r[i].at + r[i].bytes)
                fail_msg("%s: regions %zu and %zu overlap", name, j, i);
    }
}

/* The groups of regions that one stage uses at the same time. */
static void check_regions(const struct shape *s, const emb_plan *p) {
    const emb_regions *a = &p->at;
    const size_t T = (size_t)p->tokens, d = (size_t)s->hidden * 4, pairs = T * (size_t)s->top_k;
    const struct region always[] = {{a->skip, (size_t)p->texts * 4}, {a->x, T * d}, {a->y, T * d}};
    struct region r[20];
    const size_t n = sizeof always / sizeof always[0];
    memcpy(r, always, sizeof always);
    r[n] = (struct region){a->work, 3 * T * d};
    check_apart(s->name, r, n + 1, a->bytes);
    r[n] = (struct region){a->vectors[0], (size_t)(p->texts * p->vector_width) * 4};
    r[n + 1] = (struct region){a->vectors[1], r[n].bytes};
    check_apart(s->name, r, s->dense > 0 ? n + 2 : n + 1, a->bytes);
    r[n] = (struct region){a->inner, (size_t)p->inner_rows * (size_t)s->inner * 4};
    check_apart(s->name, r, n + 1, a->bytes);
    if (s->experts == 0)
        return;
    const size_t e = (size_t)s->experts;
    const struct region routing[] = {{a->gate, pairs * 4},
                                     {a->expert, pairs * 4},
                                     {a->slot, pairs * 4},
                                     {a->rows, pairs * 4},
                                     {a->expert_offset, 4 * e + 4},
                                     {a->gate_sum, 8 * e},
                                     {a->groups, e * sizeof(emb_gemm_group)},
                                     {a->expert_out, pairs * d}};
    memcpy(r + n + 1, routing, sizeof routing);
    check_apart(s->name, r, n + 1 + sizeof routing / sizeof routing[0], a->bytes);
}

static void regions_stay_apart(void **state) {
    (void)state;
    const int32_t batches[] = {1, 2, 63, 64, 1000, 4096, 8192};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        for (size_t b = 0; b < sizeof batches / sizeof batches[0]; b++) {
            const embed_model m = model_of(&shapes[i]);
            emb_plan p;
            assert_int_equal(emb_plan_make(&p, &m, 2, batches[b], batches[b]), EMBED_OK);
            check_regions(&shapes[i], &p);
            assert_true(p.window_tokens >= (size_t)shapes[i].max_tokens);
            assert_in_range(p.inner_rows, 1, p.tokens * (shapes[i].top_k > 0 ? 2 : 1));
        }
}

/* The bound of 256 MB beside the mapped weights, tokenizer included: leave it 64 MB. */
static void defaults_fit_the_promise(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        const embed_model m = model_of(&shapes[i]);
        const int64_t longest = shapes[i].max_tokens > EMB_DEFAULT_BATCH_TOKENS
                                    ? shapes[i].max_tokens
                                    : EMB_DEFAULT_BATCH_TOKENS;
        emb_plan p;
        assert_int_equal(emb_plan_make(&p, &m, 2, EMB_DEFAULT_BATCH_TOKENS, longest), EMBED_OK);
        const size_t bytes = p.at.bytes + 2 * p.scratch_bytes;
        print_message("%s: %zu bytes for %lld tokens\n", shapes[i].name, bytes, (long long)longest);
        if (!(bytes <= (size_t)192 << 20))
            fail_msg("%s: %zu bytes", shapes[i].name, bytes);
    }
}

static void absurd_sizes_are_refused(void **state) {
    (void)state;
    embed_model m = model_of(&shapes[2]);
    emb_plan p;
    m.config.encoder.inner = INT32_MAX;
    m.config.encoder.hidden = INT32_MAX;
    assert_int_equal(emb_plan_make(&p, &m, 2, 4096, INT64_C(1) << 34), EMBED_ERR_NOMEM);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(regions_stay_apart),
        cmocka_unit_test(defaults_fit_the_promise),
        cmocka_unit_test(absurd_sizes_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
