/* Whole models on the fake device, with the CUDA kernels compiled for the CPU: the same vectors as
 * the CPU back end within the bound of model/device_forward.h, the same bits in every order of
 * streams, from a graph, and beside other texts; with tables; and every failure has its status. */
#include "support/device_world.h"

#define BOUND 2e-5 /* of a vector of unit length, f32 */

/* The CPU's vectors of all texts. */
static void expect(world *w, embed_table *table, float *want) {
    embed_context *ctx = test_context_with(w->model, table, 1, BATCH);
    TEST_OK(encode(ctx, w, TEXTS, want));
    embed_context_free(ctx);
}

static void check(const char *what, const world *w, const float *got, const float *want,
                  double bound) {
    double worst = 0;
    for (size_t i = 0; i < (size_t)TEXTS * (size_t)w->model->dim; i++)
        worst = fmax(worst, isnan(got[i]) ? INFINITY : fabs((double)got[i] - want[i]));
    if (!(worst <= bound))
        fail_msg("%s: expected a difference of at most %g, found %g", what, bound, worst);
}

/* ------------------------------------------------------------------------------------ results */

static void check_experts(const world *w, const embed_context *device, const embed_context *cpu) {
    for (int32_t i = 0; i < w->model->moe_layers; i++) {
        embed_expert_stats a = {.struct_size = sizeof a}, b = {.struct_size = sizeof b};
        TEST_OK(embed_get_expert_stats(device, i, &a));
        TEST_OK(embed_get_expert_stats(cpu, i, &b));
        assert_true(b.tokens > 0);
        assert_memory_equal(a.expert_tokens, b.expert_tokens,
                            (size_t)b.experts * sizeof *b.expert_tokens);
        assert_true(fabs((double)a.mean_gate - (double)b.mean_gate) < 1e-5);
    }
}

static void check_states(const world *w, embed_context *device, embed_context *cpu) {
    static float a[64 * MAX_DIM], b[64 * MAX_DIM];
    size_t n, m;
    TEST_OK(embed_encode_tokens(device, w->texts[1], NULL, a, sizeof a / sizeof *a, NULL, &n));
    TEST_OK(embed_encode_tokens(cpu, w->texts[1], NULL, b, sizeof b / sizeof *b, NULL, &m));
    assert_int_equal(n, m);
    for (size_t i = 0; i < n * (size_t)w->checkpoint.spec.hidden; i++)
        assert_true(fabs((double)a[i] - (double)b[i]) <= 1e-4);
}

/* In several orders of streams and threads: near the CPU, and always the same bits. */
static void run(const char *what, tiny_spec spec) {
    world w;
    static float want[TEXTS * MAX_DIM], got[TEXTS * MAX_DIM], first[TEXTS * MAX_DIM];
    open_world(&w, spec, 30);
    expect(&w, NULL, want);
    for (uint64_t seed = 0; seed < 3; seed++) {
        embed_context *ctx, *cpu = test_context(w.model, 1, BATCH);
        make_fake(&w, seed, 0);
        TEST_OK(on_device(&w, NULL, EMBED_F32, &ctx));
        TEST_OK(encode(cpu, &w, TEXTS, want));
        TEST_OK(encode(ctx, &w, TEXTS, got));
        check(what, &w, got, want, BOUND);
        check_experts(&w, ctx, cpu);
        if (seed == 0)
            memcpy(first, got, sizeof got);
        assert_memory_equal(got, first, sizeof got);
        check_states(&w, ctx, cpu);
        embed_context_free(cpu);
        embed_context_free(ctx);
        assert_string_equal(emb_fake_fault(w.fake), "");
        drop_fake(&w);
    }
    close_world(&w);
}

static void bert(void **state) {
    (void)state;
    run("bert", tiny_spec_bert());
}

static void xlm_roberta(void **state) {
    (void)state;
    run("xlm-roberta", tiny_spec_xlmr());
}

static void nomic_dense(void **state) {
    (void)state;
    run("dense", tiny_spec_dense());
}

static void nomic_gated(void **state) {
    (void)state;
    run("gated", tiny_spec_gated());
}

static void nomic_moe(void **state) {
    (void)state;
    run("moe", tiny_spec_moe());
}

/* Two pooling modes, a dense module behind them, and weights in bf16. */
static void modules(void **state) {
    (void)state;
    tiny_spec spec = tiny_spec_bert();
    spec.dtype = EMBED_BF16;
    spec.pooling2 = "max";
    spec.dense = 40;
    run("modules", spec);
}

/* 16-bit matrices and states: u is half an ulp at 1, and a few u are lost in each layer. */
static void half_types(void **state) {
    (void)state;
    world w;
    static float want[TEXTS * MAX_DIM], got[TEXTS * MAX_DIM];
    open_world(&w, tiny_spec_dense(), 30);
    expect(&w, NULL, want);
    for (int32_t dtype = EMBED_F16; dtype <= EMBED_BF16; dtype++) {
        embed_context *ctx;
        make_fake(&w, 3, 0);
        TEST_OK(on_device(&w, NULL, dtype, &ctx));
        TEST_OK(encode(ctx, &w, TEXTS, got));
        check(dtype == EMBED_F16 ? "f16" : "bf16", &w, got, want,
              8 * (dtype == EMBED_F16 ? 0x1p-11 : 0x1p-8));
        embed_context_free(ctx);
        drop_fake(&w);
    }
    close_world(&w);
}

/* A text alone, beside others, and one longer than a batch, after which all still fits. */
static void long_and_alone(void **state) {
    (void)state;
    world w;
    static float want[TEXTS * MAX_DIM], got[TEXTS * MAX_DIM], alone[MAX_DIM];
    embed_context *ctx;
    open_world(&w, tiny_spec_dense(), 90);
    expect(&w, NULL, want);
    make_fake(&w, 4, 0);
    TEST_OK(on_device(&w, NULL, EMBED_F32, &ctx));
    TEST_OK(encode(ctx, &w, 1, alone));
    TEST_OK(encode(ctx, &w, TEXTS, got));
    check("long texts", &w, got, want, BOUND);
    assert_memory_equal(alone, got, (size_t)w.model->dim * sizeof *got);
    assert_true(ctx->device->plan.tokens > BATCH);
    TEST_OK(encode(ctx, &w, TEXTS, got));
    check("again", &w, got, want, BOUND);
    embed_context_free(ctx);
    drop_fake(&w);
    close_world(&w);
}

/* The kernels of a batch captured and replayed: nothing but kernels and sets, and the same bits. */
static void captured(void **state) {
    (void)state;
    world w;
    static float want[TEXTS * MAX_DIM], got[TEXTS * MAX_DIM];
    open_world(&w, tiny_spec_moe(), 30);
    for (uint64_t seed = 0; seed < 2; seed++) {
        embed_context *ctx;
        make_fake(&w, seed, 0);
        TEST_OK(on_device(&w, NULL, EMBED_F32, &ctx));
        TEST_OK(encode(ctx, &w, TEXTS, want));
        ctx->device->graphs_mode = EMB_GRAPHS_AT_ONCE;
        TEST_OK(encode(ctx, &w, TEXTS, got));
        assert_memory_equal(got, want, TEXTS * (size_t)w.model->dim * sizeof *got);
        const emb_graph_info *info = &ctx->device->graphs.info;
        assert_true(info->kernels > 7 * w.checkpoint.spec.layers);
        assert_int_equal(info->sets, 1);
        assert_int_equal(info->copies, 0);
        embed_context_free(ctx);
        drop_fake(&w);
    }
    close_world(&w);
}

static void tables(void **state) {
    (void)state;
    static float want[TEXTS * MAX_DIM], got[TEXTS * MAX_DIM], without[TEXTS * MAX_DIM];
    for (int32_t mode = EMB_NGRAM_REPLACE; mode <= EMB_NGRAM_ADD; mode++) {
        world w;
        test_grams grams;
        char dir[256], path[300];
        uint64_t rng = 5;
        open_world(&w, tiny_spec_dense(), 30);
        test_grams_init(&grams, w.checkpoint.spec.hidden);
        test_grams_of_texts(&grams, w.model, w.texts, TEXTS, 3, 0.5, 0, &rng);
        test_dir_make(dir);
        (void)snprintf(path, sizeof path, "%s/table", dir);
        const test_table_spec spec = {.mode = mode, .vocab = (int32_t)w.model->weights.word.rows};
        embed_table *table = test_table_make(w.model, path, &spec, &grams);
        expect(&w, NULL, without);
        expect(&w, table, want);
        assert_memory_not_equal(without, want, sizeof want);
        for (uint64_t seed = 0; seed < 8; seed++) {
            embed_context *ctx;
            make_fake(&w, seed, 0);
            TEST_OK(on_device(&w, table, EMBED_F32, &ctx));
            TEST_OK(encode(ctx, &w, TEXTS, got));
            check("with a table", &w, got, want, BOUND);
            if (seed == 0) {
                TEST_OK(embed_context_set_table(ctx, NULL));
                TEST_OK(encode(ctx, &w, TEXTS, got));
                check("table taken away", &w, got, without, BOUND);
            }
            embed_context_free(ctx);
            drop_fake(&w);
        }
        embed_table_free(table);
        test_dir_remove(dir);
        test_grams_free(&grams);
        close_world(&w);
    }
}

/* ------------------------------------------------------------------------------------- faults */

static tiny_spec small_moe(void) {
    tiny_spec spec = tiny_spec_moe();
    spec.layers = 2;
    spec.hidden = 16;
    spec.heads = 2;
    spec.inner = 24;
    spec.experts = 3;
    return spec;
}

/* Make a context and encode with the n-th call failing: 1 if it came so far. */
static int fails_at(world *w, emb_fake_call call, emb_device_code code, int capture, long n,
                    const float *want) {
    static float got[TEXTS * MAX_DIM];
    embed_context *ctx = NULL;
    make_fake(w, (uint64_t)n, 0);
    emb_fake_fail(w->fake, call, n, code);
    embed_status st = on_device(w, NULL, EMBED_F32, &ctx);
    if (st == EMBED_OK) {
        ctx->device->graphs_mode = capture ? EMB_GRAPHS_AT_ONCE : EMB_GRAPHS_OFF;
        st = encode(ctx, w, 5, got);
    }
    const int reached = emb_fake_calls(w->fake, call) >= n;
    if (st != EMBED_OK) {
        assert_true(st == EMBED_ERR_DEVICE || st == EMBED_ERR_NOMEM);
        assert_true(strlen(embed_last_error()) > 20);
        /* For this context it is over if the device is lost; else it works again. */
        if (ctx != NULL && emb_device_alive(ctx->device->device)) {
            TEST_OK(encode(ctx, w, 5, got));
            st = EMBED_OK;
        } else if (ctx != NULL)
            assert_int_equal(encode(ctx, w, 5, got), EMBED_ERR_DEVICE);
    }
    if (st == EMBED_OK)
        for (size_t i = 0; i < 5 * (size_t)w->model->dim; i++)
            assert_true(fabs((double)got[i] - (double)want[i]) <= BOUND);
    embed_context_free(ctx);
    assert_string_equal(emb_fake_fault(w->fake), "");
    drop_fake(w);
    return reached;
}

static void every_call(void **state) {
    (void)state;
    static const struct {
        emb_fake_call call;
        emb_device_code code;
        int capture; /* 1: batches run from graphs */
    } cases[] = {
        {EMB_FAKE_ANY, EMB_DEVICE_FAILED, 0},      {EMB_FAKE_ANY, EMB_DEVICE_LOST, 0},
        {EMB_FAKE_ANY, EMB_DEVICE_FAILED, 1},      {EMB_FAKE_ANY, EMB_DEVICE_LOST, 1},
        {EMB_FAKE_ALLOC, EMB_DEVICE_NO_MEMORY, 0}, {EMB_FAKE_EXECUTION, EMB_DEVICE_LOST, 0}};
    static float want[TEXTS * MAX_DIM], after[TEXTS * MAX_DIM];
    world w;
    open_world(&w, small_moe(), 6);
    expect(&w, NULL, want);
    const long before = w.memory.live;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        long n = 1;
        while (fails_at(&w, cases[i].call, cases[i].code, cases[i].capture, n, want))
            n++;
        assert_true(n > 3);
        assert_int_equal(w.memory.live, before);
    }
    expect(&w, NULL, after);
    assert_memory_equal(after, want, sizeof want);
    close_world(&w);
}

static void every_allocation(void **state) {
    (void)state;
    static float got[TEXTS * MAX_DIM];
    world w;
    open_world(&w, small_moe(), 6);
    expect(&w, NULL, got);
    for (long n = 1, failed = 1; failed; n++) {
        embed_context *ctx = NULL;
        const long before = w.memory.live;
        make_fake(&w, (uint64_t)n, 0);
        w.memory.failed = 0;
        w.memory.fail_at = w.memory.calls + n;
        embed_status st = on_device(&w, NULL, EMBED_F32, &ctx);
        if (st == EMBED_OK)
            st = encode(ctx, &w, 5, got);
        w.memory.fail_at = 0;
        failed = w.memory.failed;
        if (st != EMBED_OK)
            assert_int_equal(st, EMBED_ERR_NOMEM);
        embed_context_free(ctx);
        drop_fake(&w);
        assert_int_equal(w.memory.live, before);
    }
    close_world(&w);
}

/* Memory for the weights and for half of the batch. */
static void too_little_memory(void **state) {
    (void)state;
    static float want[TEXTS * MAX_DIM], got[TEXTS * MAX_DIM];
    world w;
    embed_context *ctx;
    size_t weights;
    emb_device_plan whole, half;
    const int32_t tokens = 8 * BATCH;
    open_world(&w, tiny_spec_dense(), 30);
    expect(&w, NULL, want);
    TEST_OK(emb_device_weights_bytes(w.model, EMBED_F32, &weights));
    TEST_OK(emb_device_plan_make(&whole, w.model, EMBED_F32, tokens));
    TEST_OK(emb_device_plan_make(&half, w.model, EMBED_F32, tokens / 2));
    make_fake(&w, 1, weights + (whole.device_bytes + half.device_bytes) / 2);
    const emb_place place = {.backend = emb_fake_backend(w.fake), .index = 0, .dtype = EMBED_F32};
    TEST_OK(emb_context_create(&ctx, w.model, NULL, 1, tokens, &place));
    assert_true(ctx->device->plan.tokens < tokens);
    TEST_OK(encode(ctx, &w, TEXTS, got));
    check("half the batch", &w, got, want, BOUND);
    embed_context_free(ctx);
    drop_fake(&w);
    make_fake(&w, 1, weights); /* and none for any batch */
    const emb_place full = {.backend = emb_fake_backend(w.fake), .dtype = EMBED_F32};
    TEST_OK(emb_device_plan_make(&half, w.model, EMBED_F32, EMB_LEAST_BATCH_TOKENS));
    char message[200];
    (void)snprintf(message, sizeof message,
                   "batches of %d tokens: expected %llu bytes on the device and %llu pinned: "
                   "emulated:0: allocation: out of memory: expected ",
                   EMB_LEAST_BATCH_TOKENS, (unsigned long long)half.device_bytes,
                   (unsigned long long)half.pinned_bytes);
    test_fails(emb_context_create(&ctx, w.model, NULL, 1, tokens, &full), EMBED_ERR_NOMEM, message);
    assert_non_null(strstr(embed_last_error(), " free"));
    drop_fake(&w);
    make_fake(&w, 1, weights - 1); /* not even for the weights: told at once */
    const emb_place none = {.backend = emb_fake_backend(w.fake), .dtype = EMBED_F32};
    (void)snprintf(message, sizeof message,
                   "weights of %s: emulated:0: allocation: out of memory: expected %zu bytes",
                   w.model->name, weights);
    test_fails(emb_context_create(&ctx, w.model, NULL, 1, tokens, &none), EMBED_ERR_NOMEM, message);
    assert_int_equal(emb_fake_calls(w.fake, EMB_FAKE_ALLOC), 1);
    drop_fake(&w);
    close_world(&w);
}

/* Texts longer than a batch where the memory for them is there only in the place of what the
 * context has; and where it is not there at all, after which shorter ones go on. Device memory is
 * what the plan says, and graphs take none of it. */
static void too_little_for_a_text(void **state) {
    (void)state;
    static float want[TEXTS * MAX_DIM], got[TEXTS * MAX_DIM], first[MAX_DIM], again[MAX_DIM];
    world w;
    embed_context *ctx;
    emb_device_plan batch, text;
    embed_text_report reports[TEXTS];
    embed_encode_params params = EMBED_ENCODE_PARAMS_INIT;
    size_t weights, longest = 0, shortest = 0;
    params.reports = reports;
    open_world(&w, tiny_spec_dense(), 90);
    ctx = test_context(w.model, 1, BATCH);
    TEST_OK(embed_encode(ctx, w.texts, TEXTS, &params, want, TEXTS * MAX_DIM));
    embed_context_free(ctx);
    for (size_t i = 0; i < TEXTS; i++) {
        longest = reports[i].tokens > reports[longest].tokens ? i : longest;
        shortest = reports[i].tokens < reports[shortest].tokens ? i : shortest;
    }
    const int64_t length = reports[longest].tokens;
    assert_true(length > BATCH && reports[shortest].tokens < BATCH);
    TEST_OK(emb_device_weights_bytes(w.model, EMBED_F32, &weights));
    TEST_OK(emb_device_plan_make(&batch, w.model, EMBED_F32, BATCH));
    TEST_OK(emb_device_plan_make(&text, w.model, EMBED_F32, length));
    const size_t guards = EMB_AT_REGIONS * 4 * EMB_FAKE_GUARD; /* of the fake device */
    const size_t memory[] = {weights + text.device_bytes + guards,
                             weights + (batch.device_bytes + text.device_bytes) / 2 + guards / 2};
    for (int i = 0; i < 2; i++) {
        make_fake(&w, (uint64_t)i, memory[i]);
        TEST_OK(on_device(&w, NULL, EMBED_F32, &ctx));
        const emb_device_forward *f = ctx->device;
        assert_int_equal(emb_fake_peak_bytes(w.fake),
                         weights + batch.device_bytes + (f->arena.bytes - batch.arena_bytes));
        TEST_OK(embed_encode(ctx, &w.texts[shortest], 1, NULL, first, MAX_DIM));
        if (i == 0) {
            TEST_OK(encode(ctx, &w, TEXTS, got));
            check("longer texts", &w, got, want, BOUND);
            assert_int_equal(f->plan.tokens, length);
        } else {
            test_fails(encode(ctx, &w, TEXTS, got), EMBED_ERR_NOMEM, " tokens: expected ");
            assert_non_null(strstr(embed_last_error(), " free"));
        }
        for (int round = 0; round < 3; round++) {
            TEST_OK(embed_encode(ctx, &w.texts[shortest], 1, NULL, again, MAX_DIM));
            assert_memory_equal(again, first, (size_t)w.model->dim * sizeof *first);
        }
        assert_int_equal(f->plan.tokens, i == 0 ? length : BATCH);
        embed_context_free(ctx);
        assert_string_equal(emb_fake_fault(w.fake), "");
        drop_fake(&w);
    }
    close_world(&w);
}

/* What the operations cannot take is told before anything is launched. */
static void limits(void **state) {
    (void)state;
    world w;
    emb_device_plan plan;
    open_world(&w, tiny_spec_moe(), 4);
    const int64_t most = emb_device_plan_most_tokens(w.model);
    assert_int_equal(most, ((1 << 20) - 1) / w.checkpoint.spec.top_k);
    TEST_OK(emb_device_plan_make(&plan, w.model, EMBED_F32, most));
    test_fails(emb_device_plan_make(&plan, w.model, EMBED_F32, most + 1), EMBED_ERR_UNSUPPORTED,
               "tokens of a batch: expected at most 524287");
    const int32_t hidden = w.model->config.encoder.hidden;
    w.model->config.encoder.hidden = 8193;
    test_fails(emb_device_plan_make(&plan, w.model, EMBED_F32, 64), EMBED_ERR_UNSUPPORTED,
               "hidden size: expected at most 8192 on a device, found 8193");
    w.model->config.encoder.hidden = hidden;
    close_world(&w);
}

/* By the public interface: what is not there is told, and the CPU is what 0 means. */
static void places(void **state) {
    (void)state;
    world w;
    embed_context *ctx;
    embed_context_params p = EMBED_CONTEXT_PARAMS_INIT;
    embed_device d = {.struct_size = sizeof d};
    int32_t n;
    open_world(&w, tiny_spec_bert(), 4);
    p.threads = 1;
    TEST_OK(embed_device_count(&n));
    TEST_OK(embed_device_info(1, &d));
    p.device = EMBED_DEVICE_CUDA;
    if (!d.usable)
        test_fails(embed_context_create(&ctx, w.model, &p), EMBED_ERR_DEVICE, "");
    if (d.index < 0) /* no module or driver */
        assert_non_null(strstr(embed_last_error(), d.reason));
    p.device = EMBED_DEVICE_AUTO;
    TEST_OK(embed_context_create(&ctx, w.model, &p));
    assert_true(d.usable || n > 2 || ctx->device == NULL);
    embed_context_free(ctx);
    p.device = EMBED_DEVICE_EMULATED;
    if (embed_context_create(&ctx, w.model, &p) != EMBED_OK)
        assert_non_null(strstr(embed_last_error(), "the CMake preset emulation"));
    embed_context_free(ctx);
    p.device = 99;
    test_fails(embed_context_create(&ctx, w.model, &p), EMBED_ERR_ARG, "device");
    p.device = EMBED_DEVICE_CPU;
    p.device_index = -1;
    test_fails(embed_context_create(&ctx, w.model, &p), EMBED_ERR_ARG, "device_index");
    p.device_index = 0;
    p.device_dtype = EMBED_I8;
    test_fails(embed_context_create(&ctx, w.model, &p), EMBED_ERR_ARG, "device_dtype");
    close_world(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(bert),
                                       cmocka_unit_test(xlm_roberta),
                                       cmocka_unit_test(nomic_dense),
                                       cmocka_unit_test(nomic_gated),
                                       cmocka_unit_test(nomic_moe),
                                       cmocka_unit_test(modules),
                                       cmocka_unit_test(half_types),
                                       cmocka_unit_test(long_and_alone),
                                       cmocka_unit_test(captured),
                                       cmocka_unit_test(tables),
                                       cmocka_unit_test(every_call),
                                       cmocka_unit_test(every_allocation),
                                       cmocka_unit_test(too_little_memory),
                                       cmocka_unit_test(too_little_for_a_text),
                                       cmocka_unit_test(limits),
                                       cmocka_unit_test(places)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
