/* A model whose experts are spread over several fake devices: the bits of one device, whatever
 * their number, the batches in a round and the order in which streams run; and every failure of any
 * device has its status. */
#include "device/device_ranks.h"

static void same(world *w, embed_table *table, int32_t dtype, int32_t output, const float *want) {
    static float got[TEXTS * MAX_DIM];
    for (size_t i = 0; i < RANK_COUNTS; i++)
        for (uint64_t seed = 0; seed < (i == 0 ? 1 : 2); seed++) {
            embed_context *ctx;
            make_fakes(w, seed + i, rank_counts[i]);
            TEST_OK(on_devices(w, table, dtype, rank_counts[i], EMBED_PLACE_EXPERTS, &ctx));
            assert_true(rank_counts[i] == 1 || w->model->moe_layers == 0 ||
                        ctx->group->experts != NULL);
            memset(got, 0, sizeof got);
            TEST_OK(encode_as(ctx, w, output, got));
            assert_memory_equal(got, want, sizeof got);
            if (table == NULL)
                check_experts_against(w, ctx, dtype);
            if (table != NULL)
                check_rows_against(w, ctx);
            embed_context_free(ctx);
            assert_string_equal(emb_fake_fault(w->fake), "");
            drop_fake(w);
        }
}

static void run(tiny_spec spec, int32_t dtype, int32_t output) {
    static float want[TEXTS * MAX_DIM];
    world w;
    open_world(&w, spec, 14);
    one_device(&w, NULL, dtype, output, want);
    same(&w, NULL, dtype, output, want);
    close_world(&w);
}

static void nomic_moe(void **state) {
    (void)state;
    run(tiny_spec_moe(), EMBED_F32, EMBED_F32);
}

static void half_types(void **state) {
    (void)state;
    run(small_moe_spec(), EMBED_BF16, EMBED_F16);
}

/* One token of each text is pooled; the last layer has experts, and has none. */
static void cls(void **state) {
    (void)state;
    tiny_spec spec = small_moe_spec();
    spec.pooling = "cls";
    for (int32_t layers = 2; layers <= 3; layers++) {
        spec.layers = layers;
        run(spec, EMBED_F32, EMBED_F32);
    }
}

/* Without experts there is nothing to spread. */
static void dense_models(void **state) {
    (void)state;
    tiny_spec bert = tiny_spec_bert(), dense = tiny_spec_dense();
    bert.layers = dense.layers = 1;
    run(bert, EMBED_F32, EMBED_F32);
    run(dense, EMBED_BF16, EMBED_F32);
}

static void tables(void **state) {
    (void)state;
    static float want[TEXTS * MAX_DIM], without[TEXTS * MAX_DIM];
    world w;
    table_on_disk t;
    open_world(&w, small_moe_spec(), 16);
    table_open(&t, &w);
    one_device(&w, NULL, EMBED_F32, EMBED_F32, without);
    one_device(&w, t.table, EMBED_F32, EMBED_F32, want);
    assert_memory_not_equal(want, without, sizeof want);
    same(&w, t.table, EMBED_F32, EMBED_F32, want);
    table_close(&t);
    close_world(&w);
}

/* Rounds that are not full, hidden states, and texts longer than a batch in between. */
static void rounds(void **state) {
    (void)state;
    static float want[TEXTS * MAX_DIM], got[TEXTS * MAX_DIM], a[128 * MAX_DIM], b[128 * MAX_DIM];
    world w;
    embed_context *ctx, *one;
    size_t n, m;
    open_world(&w, small_moe_spec(), 80);
    one_device(&w, NULL, EMBED_F32, EMBED_F32, want);
    make_fakes(&w, 6, 3);
    TEST_OK(on_devices(&w, NULL, EMBED_F32, 3, EMBED_PLACE_EXPERTS, &ctx));
    TEST_OK(on_device(&w, NULL, EMBED_F32, &one));
    const uint64_t before = embed_context_bytes(ctx);
    for (size_t texts = 1; texts <= TEXTS; texts += 1 + texts / 4) {
        TEST_OK(encode(ctx, &w, texts, got));
        assert_memory_equal(got, want, texts * (size_t)w.model->dim * sizeof *got);
        assert_int_equal(ctx->group->experts->staged, 0);
    }
    assert_true(embed_context_bytes(ctx) > before);
    TEST_OK(embed_encode_tokens(ctx, w.texts[1], NULL, a, sizeof a / sizeof *a, NULL, &n));
    TEST_OK(embed_encode_tokens(one, w.texts[1], NULL, b, sizeof b / sizeof *b, NULL, &m));
    assert_int_equal(n, m);
    assert_memory_equal(a, b, n * (size_t)w.checkpoint.spec.hidden * sizeof *a);
    embed_context_free(one);
    embed_context_free(ctx);
    drop_fake(&w);
    close_world(&w);
}

/* Each device holds its own experts and no others. */
static void memory(void **state) {
    (void)state;
    world w;
    size_t all, parts = 0;
    const int32_t indices[] = {0, 1, 2};
    const emb_device_home *homes[3];
    embed_context *ctx;
    uint64_t planned;
    open_world(&w, tiny_spec_moe(), 6);
    TEST_OK(emb_device_weights_bytes(w.model, EMBED_F32, &all));
    make_fakes(&w, 1, 3);
    TEST_OK(
        emb_device_homes_get(homes, w.model, emb_fake_backend(w.fake), indices, 3, EMBED_F32, 1));
    for (int32_t r = 0; r < 3; r++) {
        const emb_device_weights *own = &homes[r]->weights;
        assert_true(own->bytes < all);
        assert_int_equal(own->common_bytes, homes[0]->weights.common_bytes);
        parts += own->bytes - own->common_bytes;
    }
    assert_true(parts >= all - homes[0]->weights.common_bytes);
    assert_true(parts < all - homes[0]->weights.common_bytes + 64 * EMB_DEVICE_ALIGN);
    TEST_OK(on_devices(&w, NULL, EMBED_F32, 3, EMBED_PLACE_EXPERTS, &ctx));
    const emb_places places = places_of(&w, EMBED_F32, 3, EMBED_PLACE_EXPERTS);
    TEST_OK(emb_device_group_plan_bytes(w.model, &places, BATCH, &planned));
    assert_int_equal(planned, emb_device_group_bytes(ctx->group));
    embed_context_free(ctx);
    drop_fake(&w);
    make_fakes_without(&w, 1, 3, "no NCCL here");
    test_fails(on_devices(&w, NULL, EMBED_F32, 3, EMBED_PLACE_EXPERTS, &ctx), EMBED_ERR_UNSUPPORTED,
               "no NCCL here");
    drop_fake(&w);
    const int64_t most = emb_device_group_most_tokens(w.model, &places);
    assert_true(most < emb_device_plan_most_tokens(w.model));
    test_fails(emb_device_group_plan_bytes(w.model, &places, most + 1, &planned),
               EMBED_ERR_UNSUPPORTED, "with experts on 3 devices");
    close_world(&w);
}

static void every_call(void **state) {
    (void)state;
    every_call_fails(EMBED_PLACE_EXPERTS, 3);
}

static void every_allocation(void **state) {
    (void)state;
    every_allocation_fails(EMBED_PLACE_EXPERTS, 3);
}

static void one_is_lost(void **state) {
    (void)state;
    one_device_is_lost(EMBED_PLACE_EXPERTS);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(nomic_moe),
                                       cmocka_unit_test(half_types),
                                       cmocka_unit_test(cls),
                                       cmocka_unit_test(dense_models),
                                       cmocka_unit_test(tables),
                                       cmocka_unit_test(rounds),
                                       cmocka_unit_test(memory),
                                       cmocka_unit_test(every_call),
                                       cmocka_unit_test(every_allocation),
                                       cmocka_unit_test(one_is_lost)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
