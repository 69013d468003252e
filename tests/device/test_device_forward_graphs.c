/* Batches in buckets and from graphs: every text has the same bits alone and beside others, in
 * every bucket, launched one by one and replayed, after other buckets and in every order of
 * streams; pooled tokens that are computed alone have the bits they have among all. */
#include "support/device_world.h"

#include "api/place.h"
#include "model/device_group.h"

#define ROUNDS 4

static void buckets(void **state) {
    (void)state;
    int64_t before = 0;
    int n = 0;
    for (int64_t tokens = 0; tokens <= EMB_BUCKET_LAST; tokens++) {
        const int64_t bucket = emb_bucket_tokens(tokens);
        assert_true(bucket >= tokens && bucket >= EMB_BUCKET_FIRST && bucket <= EMB_BUCKET_LAST);
        assert_true(bucket == EMB_BUCKET_FIRST || 4 * bucket <= 5 * (tokens + 1));
        n += bucket != before;
        before = bucket;
        assert_int_equal(emb_bucket_tokens(bucket), bucket);
    }
    assert_in_range(n, 20, 30);
    assert_int_equal(emb_bucket_tokens(EMB_BUCKET_LAST + 1), 0);
    assert_int_equal(emb_bucket_texts(0), 1);
    assert_int_equal(emb_bucket_texts(5), 8);
    assert_int_equal(emb_bucket_texts(1024), 1024);
}

/* The least recently used place is taken when all are. */
static void places(void **state) {
    (void)state;
    static emb_graphs g;
    int warm;
    emb_graph_key key = {.tokens = 16};
    emb_graph_entry *const first = emb_graphs_find(&g, &key, &warm);
    assert_int_equal(warm, 0);
    for (int32_t i = 1; i < EMB_GRAPHS; i++) {
        key = (emb_graph_key){.tokens = 16 + i % 7, .texts = 1 + i / 7};
        (void)emb_graphs_find(&g, &key, &warm);
        assert_int_equal(warm, 0);
    }
    key = (emb_graph_key){.tokens = 16};
    assert_ptr_equal(emb_graphs_find(&g, &key, &warm), first);
    assert_int_equal(warm, 1);
    key = (emb_graph_key){.tokens = 17, .texts = 1}; /* the oldest by now, of the other set */
    key.set = 1;
    const emb_graph_entry *const other = emb_graphs_find(&g, &key, &warm);
    assert_int_equal(warm, 1);
    assert_ptr_not_equal(other, first);
    key.set = 0;
    (void)emb_graphs_find(&g, &key, &warm); /* its place was taken; the launches are known */
    assert_int_equal(warm, 1);
    const emb_graph_key differ[] = {{.tokens = 16, .texts = 99},     {.tokens = 16, .rows = 1},
                                    {.tokens = 16, .rows = 2},       {.tokens = 16, .skip = 1},
                                    {.tokens = 16, .rows_dtype = 1}, {.tokens = 99}};
    for (size_t i = 0; i < sizeof differ / sizeof *differ; i++) {
        assert_ptr_not_equal(emb_graphs_find(&g, &differ[i], &warm), first);
        assert_int_equal(warm, 0);
    }
    emb_graphs_clear(&g);
    key = (emb_graph_key){.tokens = 16};
    (void)emb_graphs_find(&g, &key, &warm);
    assert_int_equal(warm, 0);
}

/* ------------------------------------------------------------------------------------ the bits */

/* Each text by itself, launched as it is. */
static void alone(world *w, int32_t dtype, float *want) {
    embed_context *ctx;
    make_fake(w, 9, 0);
    TEST_OK(on_device(w, NULL, dtype, &ctx));
    ctx->device->graphs_mode = EMB_GRAPHS_OFF;
    for (size_t i = 0; i < TEXTS; i++)
        TEST_OK(embed_encode(ctx, &w->texts[i], 1, NULL, want + i * MAX_DIM, MAX_DIM));
    assert_int_equal(ctx->device->graphs.plain + ctx->device->graphs.captured, 0);
    embed_context_free(ctx);
    drop_fake(w);
}

/* The experts' statistics are of the tokens of the call, not of the bucket. */
static void check_statistics(const embed_context *ctx, int32_t layers, int32_t top_k,
                             uint64_t tokens) {
    for (int32_t i = 0; i < layers; i++) {
        embed_expert_stats stats = {.struct_size = sizeof stats};
        uint64_t pairs = 0;
        TEST_OK(embed_get_expert_stats(ctx, i, &stats));
        for (int32_t e = 0; e < stats.experts; e++)
            pairs += stats.expert_tokens[e];
        assert_int_equal(pairs, tokens * (uint64_t)top_k);
    }
}

/* Texts by chance, one to eight of them, in any order and more than once. */
static void some_texts(world *w, embed_context *ctx, uint64_t *rng, const float *want) {
    static float got[TEXTS * MAX_DIM];
    embed_text texts[TEXTS];
    size_t which[TEXTS], n = 1 + (size_t)(test_rand(rng) % TEXTS), dim = (size_t)w->model->dim;
    for (size_t i = 0; i < n; i++) {
        which[i] = (size_t)(test_rand(rng) % TEXTS);
        texts[i] = w->texts[which[i]];
    }
    embed_text_report reports[TEXTS];
    embed_encode_params params = EMBED_ENCODE_PARAMS_INIT;
    params.reports = reports;
    TEST_OK(embed_encode(ctx, texts, n, &params, got, n * dim));
    uint64_t tokens = 0;
    for (size_t i = 0; i < n; i++) {
        assert_memory_equal(got + i * dim, want + which[i] * MAX_DIM, dim * sizeof *got);
        tokens += (uint64_t)reports[i].tokens;
    }
    check_statistics(ctx, w->model->moe_layers, w->checkpoint.spec.top_k, tokens);
}

static void same_bits(tiny_spec spec, int32_t dtype) {
    world w;
    static float want[TEXTS * MAX_DIM];
    uint64_t rng = 3;
    open_world(&w, spec, 8);
    alone(&w, dtype, want);
    for (uint64_t seed = dtype == EMBED_F32 ? 0 : 2; seed < 4; seed++) {
        embed_context *ctx;
        make_fake(&w, seed, 0);
        TEST_OK(on_device(&w, NULL, dtype, &ctx));
        assert_int_equal(ctx->device->graphs_mode, EMB_GRAPHS_ON); /* without being asked */
        if (seed == 3)
            ctx->device->graphs_mode = EMB_GRAPHS_AT_ONCE;
        const emb_graphs *g = &ctx->device->graphs;
        for (int i = 0; i < ROUNDS; i++)
            some_texts(&w, ctx, &rng, want);
        for (int i = 0; i < 3; i++) { /* launched, captured, replayed, if that was not before */
            uint64_t same = 11;
            some_texts(&w, ctx, &same, want);
        }
        assert_true(g->captured > 0 && g->replayed > 0);
        assert_true(seed == 3 ? g->plain == 0 : g->plain > 0);
        /* Nothing but kernels, and the zeros under the vectors. */
        assert_true(g->info.kernels > 6 * w.checkpoint.spec.layers);
        assert_int_equal(g->info.sets, 1);
        assert_int_equal(g->info.copies, 0);
        embed_context_free(ctx);
        assert_string_equal(emb_fake_fault(w.fake), "");
        drop_fake(&w);
    }
    close_world(&w);
}

static tiny_spec small(tiny_spec spec) {
    spec.layers = 2;
    spec.hidden = 32;
    spec.heads = 2;
    spec.inner = spec.gated ? spec.inner : 40; /* of the gated it is what the hidden size makes */
    return spec;
}

static void bert(void **state) {
    (void)state;
    same_bits(small(tiny_spec_bert()), EMBED_F32);
}

static void xlm_roberta(void **state) {
    (void)state;
    same_bits(small(tiny_spec_xlmr()), EMBED_F32);
}

static void nomic_gated(void **state) {
    (void)state;
    same_bits(small(tiny_spec_gated()), EMBED_BF16);
}

static void nomic_moe(void **state) {
    (void)state;
    same_bits(small(tiny_spec_moe()), EMBED_F32);
}

static void modules(void **state) {
    (void)state;
    tiny_spec spec = small(tiny_spec_bert());
    spec.pooling2 = "max";
    spec.dense = 24;
    same_bits(spec, EMBED_F16);
}

/* Buckets up to the room of the context, which grows with a longer text: graphs start anew. */
static void room_grows(void **state) {
    (void)state;
    world w;
    static float want[TEXTS * MAX_DIM];
    uint64_t rng = 4;
    embed_context *ctx;
    open_world(&w, small(tiny_spec_dense()), 80);
    alone(&w, EMBED_F32, want);
    make_fake(&w, 2, 0);
    TEST_OK(on_device(&w, NULL, EMBED_F32, &ctx));
    for (int i = 0; i < 6; i++)
        some_texts(&w, ctx, &rng, want);
    for (int i = 0; i < 3; i++) {
        uint64_t same = 11;
        some_texts(&w, ctx, &same, want);
    }
    assert_true(ctx->device->plan.tokens > BATCH);
    assert_true(ctx->device->graphs.replayed > 0);
    embed_context_free(ctx);
    drop_fake(&w);
    close_world(&w);
}

/* --------------------------------------------------------------------------- one token of a text
 */

/* The vector is the state of that token where nothing is normalised. */
static void one_token(tiny_spec spec, const char *pooling, int32_t dtype) {
    world w;
    embed_encode_params plain = EMBED_ENCODE_PARAMS_INIT;
    static float states[64 * MAX_DIM], got[TEXTS * MAX_DIM];
    embed_context *ctx, *cpu;
    embed_expert_stats a = {.struct_size = sizeof a}, b = {.struct_size = sizeof b};
    spec.pooling = pooling;
    plain.flags = EMBED_NO_NORMALIZE;
    open_world(&w, spec, 8);
    const size_t dim = (size_t)w.model->dim;
    assert_true(emb_device_plan_one_token(w.model));
    make_fake(&w, 5, 0);
    TEST_OK(on_device(&w, NULL, dtype, &ctx));
    TEST_OK(embed_encode(ctx, w.texts, TEXTS, &plain, got, TEXTS * dim));
    cpu = test_context(w.model, 1, BATCH);
    TEST_OK(embed_encode(cpu, w.texts, TEXTS, NULL, states, TEXTS * dim));
    for (int32_t i = 0; i < w.model->moe_layers; i++) {
        TEST_OK(embed_get_expert_stats(ctx, i, &a)); /* of all tokens nevertheless */
        TEST_OK(embed_get_expert_stats(cpu, i, &b));
        assert_memory_equal(a.expert_tokens, b.expert_tokens,
                            (size_t)b.experts * sizeof *b.expert_tokens);
    }
    for (size_t i = 0; i < TEXTS; i++) {
        size_t n;
        TEST_OK(embed_encode_tokens(ctx, w.texts[i], NULL, states, sizeof states / sizeof *states,
                                    NULL, &n));
        const float *want = strcmp(pooling, "cls") == 0 ? states : states + (n - 1) * dim;
        assert_memory_equal(got + i * dim, want, dim * sizeof *got);
    }
    embed_context_free(cpu);
    embed_context_free(ctx);
    assert_string_equal(emb_fake_fault(w.fake), "");
    drop_fake(&w);
    close_world(&w);
}

static void pooled_tokens_only(void **state) {
    (void)state;
    tiny_spec moe = small(tiny_spec_moe());
    moe.moe_every = 1; /* in the last layer too */
    one_token(moe, "cls", EMBED_F32);
    one_token(moe, "lasttoken", EMBED_BF16);
    one_token(small(tiny_spec_gated()), "lasttoken", EMBED_F32);
    one_token(small(tiny_spec_bert()), "cls", EMBED_F16);
}

/* The first token behind the prompt, with and without one in the same context. */
static void behind_a_prompt(void **state) {
    (void)state;
    world w;
    tiny_spec spec = small(tiny_spec_bert());
    static float want[TEXTS * MAX_DIM], got[TEXTS * MAX_DIM];
    embed_context *ctx, *cpu;
    spec.pooling = "cls";
    spec.exclude_prompt = 1;
    spec.prompts = "{\"query\": \"w3 w4 \"}";
    open_world(&w, spec, 6);
    const size_t n = TEXTS * (size_t)w.model->dim;
    cpu = test_context(w.model, 1, BATCH);
    make_fake(&w, 6, 0);
    TEST_OK(on_device(&w, NULL, EMBED_F32, &ctx));
    for (int i = 0; i < 6; i++) {
        embed_encode_params params = EMBED_ENCODE_PARAMS_INIT;
        params.role = i % 2 == 0 ? EMBED_ROLE_QUERY : EMBED_ROLE_NONE;
        TEST_OK(embed_encode(cpu, w.texts, TEXTS, &params, want, n));
        TEST_OK(embed_encode(ctx, w.texts, TEXTS, &params, got, n));
        for (size_t j = 0; j < n; j++)
            assert_true(fabs((double)got[j] - (double)want[j]) <= 2e-5);
    }
    assert_true(ctx->device->graphs.replayed > 0);
    embed_context_free(ctx);
    embed_context_free(cpu);
    drop_fake(&w);
    close_world(&w);
}

/* -------------------------------------------------------------------------------------- failures
 */

/* A capture that fails costs a graph, not the batch; after some no more are tried. */
static void captures_fail(void **state) {
    (void)state;
    world w;
    static float want[TEXTS * MAX_DIM];
    uint64_t rng = 8;
    embed_context *ctx;
    open_world(&w, small(tiny_spec_moe()), 6);
    alone(&w, EMBED_F32, want);
    for (long nth = 1; nth <= 2; nth++) { /* beginning it, ending it */
        make_fake(&w, 1, 0);
        TEST_OK(on_device(&w, NULL, EMBED_F32, &ctx));
        ctx->device->graphs_mode = EMB_GRAPHS_AT_ONCE;
        emb_graphs *g = &ctx->device->graphs;
        for (uint32_t i = 1; i <= EMB_GRAPH_FAILURES; i++) {
            emb_graphs_clear(g);
            emb_fake_fail(w.fake, EMB_FAKE_CAPTURE, nth, EMB_DEVICE_FAILED);
            some_texts(&w, ctx, &rng, want);
            assert_int_equal(g->failures, i);
        }
        emb_graphs_clear(g);
        const uint64_t captured = g->captured, plain = g->plain;
        for (int i = 0; i < 4; i++)
            some_texts(&w, ctx, &rng, want);
        assert_int_equal(g->captured, captured);
        assert_true(g->plain >= plain + 4);
        embed_context_free(ctx);
        drop_fake(&w);
    }
    close_world(&w);
}

/* A device that is lost meanwhile is told. */
static void device_is_lost(void **state) {
    (void)state;
    world w;
    float got[MAX_DIM];
    open_world(&w, small(tiny_spec_bert()), 6);
    for (long nth = 1; nth <= 2; nth++) {
        embed_context *ctx;
        make_fake(&w, 1, 0);
        TEST_OK(on_device(&w, NULL, EMBED_F32, &ctx));
        ctx->device->graphs_mode = EMB_GRAPHS_AT_ONCE;
        emb_fake_fail(w.fake, EMB_FAKE_CAPTURE, nth, EMB_DEVICE_LOST);
        test_fails(encode(ctx, &w, 1, got), EMBED_ERR_DEVICE, "injected");
        test_fails(encode(ctx, &w, 1, got), EMBED_ERR_DEVICE, "injected");
        embed_context_free(ctx);
        drop_fake(&w);
    }
    close_world(&w);
}

/* A graph that the device does not take ends the call; the next one finds all as it was. */
static void replays_fail(void **state) {
    (void)state;
    world w;
    static float want[TEXTS * MAX_DIM];
    float got[MAX_DIM];
    embed_context *ctx;
    open_world(&w, small(tiny_spec_dense()), 6);
    alone(&w, EMBED_F32, want);
    make_fake(&w, 2, 0);
    TEST_OK(on_device(&w, NULL, EMBED_F32, &ctx));
    const emb_graphs *g = &ctx->device->graphs;
    for (int i = 0; i < 3; i++)
        TEST_OK(encode(ctx, &w, 1, got));
    assert_int_equal(g->replayed, 1);
    for (int i = 0; i < 3; i++) {
        emb_fake_fail(w.fake, EMB_FAKE_LAUNCH, 1 + i % 2, EMB_DEVICE_FAILED);
        test_fails(encode(ctx, &w, 1, got), EMBED_ERR_DEVICE, "injected");
        TEST_OK(encode(ctx, &w, 1, got));
        assert_memory_equal(got, want, (size_t)w.model->dim * sizeof *got);
    }
    emb_fake_fail(w.fake, EMB_FAKE_EXECUTION, 4, EMB_DEVICE_LOST); /* while a replay runs */
    test_fails(encode(ctx, &w, 1, got), EMBED_ERR_DEVICE, "injected");
    embed_context_free(ctx);
    drop_fake(&w);
    close_world(&w);
}

/* Replays with rows of a table, without it, and with it again. */
static void tables(void **state) {
    (void)state;
    world w;
    test_grams grams;
    char dir[256], path[300];
    uint64_t rng = 5;
    static float want[2][TEXTS * MAX_DIM];
    open_world(&w, small(tiny_spec_dense()), 12);
    test_grams_init(&grams, w.checkpoint.spec.hidden);
    test_grams_of_texts(&grams, w.model, w.texts, TEXTS, 3, 0.5, 0, &rng);
    test_dir_make(dir);
    (void)snprintf(path, sizeof path, "%s/table", dir);
    const test_table_spec spec = {.mode = EMB_NGRAM_ADD,
                                  .vocab = (int32_t)w.model->weights.word.rows};
    embed_table *table = test_table_make(w.model, path, &spec, &grams);
    const size_t dim = (size_t)w.model->dim;
    for (uint64_t seed = 0; seed < 3; seed++) {
        embed_context *ctx;
        make_fake(&w, seed, 0);
        TEST_OK(on_device(&w, table, EMBED_F32, &ctx));
        if (seed == 0)
            ctx->device->graphs_mode = EMB_GRAPHS_OFF;
        for (int on = 1; seed == 0 && on >= 0; on--) {
            TEST_OK(embed_context_set_table(ctx, on ? table : NULL));
            for (size_t i = 0; i < TEXTS; i++)
                TEST_OK(embed_encode(ctx, &w.texts[i], 1, NULL, want[on] + i * MAX_DIM, dim));
        }
        assert_memory_not_equal(want[0], want[1], sizeof want[0]);
        for (int i = 0; seed > 0 && i < 9; i++) {
            const int on = i / 3 % 2;
            uint64_t same = 11;
            TEST_OK(embed_context_set_table(ctx, on ? table : NULL));
            some_texts(&w, ctx, i % 3 == 0 ? &rng : &same, want[on]);
        }
        assert_true(seed == 0 || ctx->device->graphs.replayed > 0);
        embed_context_free(ctx);
        assert_string_equal(emb_fake_fault(w.fake), "");
        drop_fake(&w);
    }
    embed_table_free(table);
    test_dir_remove(dir);
    test_grams_free(&grams);
    close_world(&w);
}

/* What a context takes is what was planned, before and after graphs. */
static void planned(void **state) {
    (void)state;
    world w;
    float got[TEXTS * MAX_DIM];
    emb_plan plan;
    uint64_t host, device;
    embed_context *ctx;
    open_world(&w, small(tiny_spec_moe()), 6);
    make_fake(&w, 2, 0);
    const emb_places places = {.place = {.backend = emb_fake_backend(w.fake), .dtype = EMBED_F32}};
    TEST_OK(emb_context_plan(&plan, w.model, 1, BATCH, &places.place));
    TEST_OK(emb_context_plan_bytes(&plan, w.model, NULL, NULL, &host));
    TEST_OK(emb_device_group_plan_bytes(w.model, &places, BATCH, &device));
    TEST_OK(emb_context_create_on(&ctx, w.model, NULL, 1, BATCH, &places));
    for (int i = 0; i < 4; i++) {
        const uint64_t tokenizer = emb_tok_scratch_bytes(ctx->tokenizers[0]);
        assert_int_equal(emb_context_bytes(ctx), host + device + tokenizer);
        const uint64_t peak = emb_fake_peak_bytes(w.fake);
        TEST_OK(encode(ctx, &w, TEXTS, got));
        assert_int_equal(emb_fake_peak_bytes(w.fake), peak);
    }
    embed_context_free(ctx);
    drop_fake(&w);
    close_world(&w);
}

/* The public flags arrive: no graphs, and products by tensor cores, as near as f16's. */
static void flags(void **state) {
    (void)state;
    world w;
    static float want[TEXTS * MAX_DIM], got[TEXTS * MAX_DIM];
    uint64_t rng = 5;
    embed_context *ctx, *cpu;
    open_world(&w, small(tiny_spec_moe()), 12);
    const size_t n = TEXTS * (size_t)w.model->dim;
    cpu = test_context(w.model, 1, BATCH);
    TEST_OK(embed_encode(cpu, w.texts, TEXTS, NULL, want, n));
    make_fake(&w, 3, 0);
    emb_place place = {.backend = emb_fake_backend(w.fake),
                       .dtype = EMBED_F32,
                       .flags = EMBED_TF32 | EMBED_NO_GRAPHS};
    TEST_OK(emb_context_create(&ctx, w.model, NULL, 1, BATCH, &place));
    TEST_OK(embed_encode(ctx, w.texts, TEXTS, NULL, got, n));
    double worst = 0;
    for (size_t i = 0; i < n; i++)
        worst = fmax(worst, isnan(got[i]) ? INFINITY : fabs((double)got[i] - (double)want[i]));
    assert_true(worst > 1e-5 && worst <= 8 * 0x1p-11);
    assert_int_equal(ctx->device->graphs.plain + ctx->device->graphs.captured, 0);
    embed_context_free(ctx);
    place.flags = EMBED_TF32;
    TEST_OK(emb_context_create(&ctx, w.model, NULL, 1, BATCH, &place));
    for (size_t i = 0; i < TEXTS; i++) /* the bits of this type */
        memcpy(want + i * MAX_DIM, got + i * (size_t)w.model->dim,
               (size_t)w.model->dim * sizeof *got);
    for (int i = 0; i < 4; i++)
        some_texts(&w, ctx, &rng, want);
    embed_context_free(ctx);
    drop_fake(&w);
    embed_context_free(cpu);
    close_world(&w);
    embed_context_params p = EMBED_CONTEXT_PARAMS_INIT;
    emb_place found;
    p.device_flags = 4;
    test_fails(emb_place_find(&found, &p), EMBED_ERR_ARG, "found 0x4");
    p.device_flags = EMBED_TF32;
    p.device_dtype = EMBED_F16;
    test_fails(emb_place_find(&found, &p), EMBED_ERR_ARG, "expected device_dtype EMBED_F32");
    p.device_dtype = EMBED_F32;
    TEST_OK(emb_place_find(&found, &p));
    assert_int_equal(found.flags, EMBED_TF32);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(buckets),
                                       cmocka_unit_test(places),
                                       cmocka_unit_test(bert),
                                       cmocka_unit_test(xlm_roberta),
                                       cmocka_unit_test(nomic_gated),
                                       cmocka_unit_test(nomic_moe),
                                       cmocka_unit_test(modules),
                                       cmocka_unit_test(room_grows),
                                       cmocka_unit_test(captures_fail),
                                       cmocka_unit_test(pooled_tokens_only),
                                       cmocka_unit_test(behind_a_prompt),
                                       cmocka_unit_test(flags),
                                       cmocka_unit_test(replays_fail),
                                       cmocka_unit_test(tables),
                                       cmocka_unit_test(planned),
                                       cmocka_unit_test(device_is_lost)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
