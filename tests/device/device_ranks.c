#include "device/device_ranks.h"

const int32_t rank_counts[RANK_COUNTS] = {1, 2, 3, 8};

tiny_spec small_moe_spec(void) {
    tiny_spec spec = tiny_spec_moe();
    spec.layers = 2;
    spec.hidden = 16;
    spec.heads = 2;
    spec.inner = 24;
    spec.experts = 3;
    return spec;
}

static void make(world *w, const emb_fake_params *as) {
    emb_fake_params params = *as;
    params.run_job = emb_emulation_run;
    params.job_error = emb_emulation_error;
    params.ops = emb_cuda_ops(&params.n_ops);
    w->env = test_env();
    emb_emulation_redirect(emb_fake_submit, NULL);
    emb_emulation_seed(as->seed);
    assert_int_equal(emb_fake_create(&w->fake, &w->env, &params), EMBED_OK);
}

void make_fakes(world *w, uint64_t seed, int32_t devices) {
    const emb_fake_params params = {.devices = devices, .seed = seed};
    make(w, &params);
}

void make_fakes_without(world *w, uint64_t seed, int32_t devices, const char *no_comm) {
    const emb_fake_params params = {.devices = devices, .seed = seed, .no_comm = no_comm};
    make(w, &params);
}

void make_fakes_with(world *w, uint64_t seed, int32_t devices, uint64_t memory_bytes) {
    const emb_fake_params params = {.devices = devices, .seed = seed, .memory_bytes = memory_bytes};
    make(w, &params);
}

emb_places places_of(const world *w, int32_t dtype, int32_t n, int32_t placement) {
    emb_places places = {.place = {.backend = emb_fake_backend(w->fake), .dtype = dtype},
                         .n = n,
                         .placement = placement};
    for (int32_t i = 0; i < n; i++)
        places.devices[i] = i;
    return places;
}

embed_status on_devices(world *w, embed_table *table, int32_t dtype, int32_t n, int32_t placement,
                        embed_context **ctx) {
    const emb_places places = places_of(w, dtype, n, placement);
    return emb_context_create_on(ctx, w->model, table, 1, BATCH, &places);
}

embed_status encode_as(embed_context *ctx, const world *w, int32_t output, float *out) {
    embed_encode_params params = EMBED_ENCODE_PARAMS_INIT;
    params.output = output;
    return embed_encode(ctx, w->texts, TEXTS, &params, out, TEXTS * MAX_DIM * sizeof *out);
}

void one_device(world *w, embed_table *table, int32_t dtype, int32_t output, float *want) {
    embed_context *ctx;
    make_fake(w, 1, 0);
    TEST_OK(on_device(w, table, dtype, &ctx));
    memset(want, 0, TEXTS * MAX_DIM * sizeof *want);
    TEST_OK(encode_as(ctx, w, output, want));
    embed_context_free(ctx);
    drop_fake(w);
}

void check_experts_against(const world *w, const embed_context *ctx, int32_t dtype) {
    static float out[TEXTS * MAX_DIM];
    embed_context *cpu = test_context(w->model, 1, BATCH);
    TEST_OK(encode_as(cpu, w, EMBED_F32, out));
    for (int32_t i = 0; i < w->model->moe_layers; i++) {
        embed_expert_stats a = {.struct_size = sizeof a}, b = {.struct_size = sizeof b};
        TEST_OK(embed_get_expert_stats(ctx, i, &a));
        TEST_OK(embed_get_expert_stats(cpu, i, &b));
        assert_true(b.tokens > 0);
        assert_int_equal(a.tokens, b.tokens);
        if (dtype == EMBED_F32)
            assert_memory_equal(a.expert_tokens, b.expert_tokens,
                                (size_t)b.experts * sizeof *b.expert_tokens);
        assert_true(fabs((double)a.mean_gate - (double)b.mean_gate) <
                    (dtype == EMBED_F32 ? 1e-5 : 1e-2));
    }
    embed_context_free(cpu);
}

void table_open(table_on_disk *t, world *w) {
    char path[300];
    uint64_t rng = 5;
    test_grams_init(&t->grams, w->checkpoint.spec.hidden);
    test_grams_of_texts(&t->grams, w->model, w->texts, TEXTS, 3, 0.5, 0, &rng);
    test_dir_make(t->dir);
    (void)snprintf(path, sizeof path, "%s/table", t->dir);
    const test_table_spec spec = {.mode = EMB_NGRAM_REPLACE,
                                  .vocab = (int32_t)w->model->weights.word.rows};
    t->table = test_table_make(w->model, path, &spec, &t->grams);
}

void table_close(table_on_disk *t) {
    embed_table_free(t->table);
    test_dir_remove(t->dir);
    test_grams_free(&t->grams);
}

void check_rows_against(const world *w, const embed_context *ctx) {
    embed_table_stats s = {.struct_size = sizeof s};
    const uint64_t row = (uint64_t)w->checkpoint.spec.hidden * sizeof(float);
    TEST_OK(embed_context_get_table_stats(ctx, &s));
    assert_true(s.positions > s.hits[0]);
    if (ctx->group == NULL)
        return;
    assert_int_equal(s.place, EMBED_TABLE_PLACE_COPY);
    assert_int_equal(s.device_bytes, (s.positions - s.hits[0]) * row);
    assert_true(s.device_wait_seconds >= 0);
}

/* ------------------------------------------------------------------------------------- faults */

/* 1: every device of the context still works. */
static int all_alive(const embed_context *ctx) {
    for (int32_t r = 0; r < ctx->group->n; r++)
        if (!emb_device_alive(ctx->group->forwards[r]->device))
            return 0;
    return 1;
}

/* Make a context and encode with the n-th call failing: 1 if it came so far. */
static int fails_at(world *w, int32_t placement, int32_t ranks, emb_fake_call call,
                    emb_device_code code, long n, const float *want) {
    static float got[TEXTS * MAX_DIM];
    embed_context *ctx = NULL;
    make_fakes(w, (uint64_t)n, ranks);
    emb_fake_fail(w->fake, call, n, code);
    embed_status st = on_devices(w, NULL, EMBED_F32, ranks, placement, &ctx);
    if (st == EMBED_OK)
        st = encode_as(ctx, w, EMBED_F32, got);
    const int reached = emb_fake_calls(w->fake, call) >= n;
    if (st != EMBED_OK) {
        assert_true(st == EMBED_ERR_DEVICE || st == EMBED_ERR_NOMEM);
        assert_true(strlen(embed_last_error()) > 20);
        /* For this context it is over if a device is lost; else it works again. */
        if (ctx != NULL && all_alive(ctx)) {
            TEST_OK(encode_as(ctx, w, EMBED_F32, got));
            st = EMBED_OK;
        } else if (ctx != NULL)
            assert_int_equal(encode_as(ctx, w, EMBED_F32, got), EMBED_ERR_DEVICE);
    }
    if (st == EMBED_OK)
        assert_memory_equal(got, want, TEXTS * (size_t)w->model->dim * sizeof *got);
    embed_context_free(ctx);
    assert_string_equal(emb_fake_fault(w->fake), "");
    drop_fake(w);
    return reached;
}

void every_call_fails(int32_t placement, int32_t ranks) {
    static const struct {
        emb_fake_call call;
        emb_device_code code;
    } cases[] = {{EMB_FAKE_ANY, EMB_DEVICE_FAILED},
                 {EMB_FAKE_ANY, EMB_DEVICE_LOST},
                 {EMB_FAKE_COMM, EMB_DEVICE_LOST},
                 {EMB_FAKE_ALLOC, EMB_DEVICE_NO_MEMORY},
                 {EMB_FAKE_EXECUTION, EMB_DEVICE_LOST}};
    static float want[TEXTS * MAX_DIM];
    world w;
    open_world(&w, small_moe_spec(), 6);
    one_device(&w, NULL, EMBED_F32, EMBED_F32, want);
    const long before = w.memory.live;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        long n = 1, step = cases[i].call == EMB_FAKE_ANY || cases[i].call == EMB_FAKE_EXECUTION;
        while (fails_at(&w, placement, ranks, cases[i].call, cases[i].code, n, want))
            n += 1 + step * (n / 12); /* each of the first, then here and there */
        assert_true(n > 2);
        assert_int_equal(w.memory.live, before);
    }
    close_world(&w);
}

void every_allocation_fails(int32_t placement, int32_t ranks) {
    static float got[TEXTS * MAX_DIM];
    world w;
    open_world(&w, small_moe_spec(), 6);
    one_device(&w, NULL, EMBED_F32, EMBED_F32, got);
    for (long n = 1, failed = 1; failed; n += 1 + n / 16) {
        embed_context *ctx = NULL;
        const long before = w.memory.live;
        make_fakes(&w, (uint64_t)n, ranks);
        w.memory.failed = 0;
        w.memory.fail_at = w.memory.calls + n;
        embed_status st = on_devices(&w, NULL, EMBED_F32, ranks, placement, &ctx);
        if (st == EMBED_OK)
            st = encode_as(ctx, &w, EMBED_F32, got);
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

/* The last device goes in the middle of a call: that context is over, one without it is not. */
void one_device_is_lost(int32_t placement) {
    static float want[TEXTS * MAX_DIM], got[TEXTS * MAX_DIM];
    world w;
    embed_context *ctx, *other, *one;
    open_world(&w, small_moe_spec(), 30);
    one_device(&w, NULL, EMBED_F32, EMBED_F32, want);
    for (long n = 1; n <= 29; n += 7) {
        make_fakes(&w, (uint64_t)n, 3);
        TEST_OK(on_devices(&w, NULL, EMBED_F32, 3, placement, &ctx));
        TEST_OK(on_device(&w, NULL, EMBED_F32, &one));
        emb_fake_fail(w.fake, EMB_FAKE_LAUNCH, n, EMB_DEVICE_LOST);
        test_fails(encode_as(ctx, &w, EMBED_F32, got), EMBED_ERR_DEVICE, "");
        test_fails(encode_as(ctx, &w, EMBED_F32, got), EMBED_ERR_DEVICE, "");
        other = test_context(w.model, 1, BATCH);
        TEST_OK(encode_as(other, &w, EMBED_F32, got));
        embed_context_free(other);
        if (emb_device_alive(one->device->device)) {
            TEST_OK(encode_as(one, &w, EMBED_F32, got));
            assert_memory_equal(got, want, sizeof got);
        }
        embed_context_free(one);
        embed_context_free(ctx);
        drop_fake(&w);
    }
    close_world(&w);
}
