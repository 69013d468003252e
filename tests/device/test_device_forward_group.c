/* One model on several fake devices: whole on each of them, batches spread. The vectors have the
 * bits of one device, whatever their number and the order in which streams run; statistics are
 * those of one; and every failure of any device has its status. */
#include "device/device_ranks.h"

#include "device/transport.h"

/* ------------------------------------------------------------------------------------ results */

static void same_everywhere(tiny_spec spec, int32_t dtype, int32_t output) {
    static float want[TEXTS * MAX_DIM], got[TEXTS * MAX_DIM];
    world w;
    spec.layers = 2;
    open_world(&w, spec, 16);
    one_device(&w, NULL, dtype, output, want);
    for (size_t i = 0; i < RANK_COUNTS; i++)
        for (uint64_t seed = 0; seed < (i == 0 ? 1 : 2); seed++) {
            embed_context *ctx;
            make_fakes(&w, seed, rank_counts[i]);
            TEST_OK(on_devices(&w, NULL, dtype, rank_counts[i], EMBED_PLACE_REPLICATED, &ctx));
            memset(got, 0, sizeof got);
            TEST_OK(encode_as(ctx, &w, output, got));
            assert_memory_equal(got, want, sizeof got);
            check_experts_against(&w, ctx, dtype);
            embed_context_free(ctx);
            assert_string_equal(emb_fake_fault(w.fake), "");
            drop_fake(&w);
        }
    close_world(&w);
}

static void nomic_moe(void **state) {
    (void)state;
    same_everywhere(tiny_spec_moe(), EMBED_F32, EMBED_F32);
    same_everywhere(small_moe_spec(), EMBED_BF16, EMBED_F32);
}

static void nomic_dense(void **state) {
    (void)state;
    same_everywhere(tiny_spec_dense(), EMBED_F32, EMBED_F16);
}

static void bert(void **state) {
    (void)state;
    same_everywhere(tiny_spec_bert(), EMBED_BF16, EMBED_F32);
}

static void tables(void **state) {
    (void)state;
    static float want[TEXTS * MAX_DIM], got[TEXTS * MAX_DIM], without[TEXTS * MAX_DIM];
    world w;
    table_on_disk t;
    open_world(&w, small_moe_spec(), 30);
    table_open(&t, &w);
    one_device(&w, NULL, EMBED_F32, EMBED_F32, without);
    one_device(&w, t.table, EMBED_F32, EMBED_F32, want);
    assert_memory_not_equal(want, without, sizeof want);
    for (uint64_t seed = 0; seed < 4; seed++) {
        embed_context *ctx;
        const int32_t ranks = rank_counts[seed % RANK_COUNTS];
        make_fakes(&w, seed, ranks);
        TEST_OK(on_devices(&w, t.table, EMBED_F32, ranks, EMBED_PLACE_REPLICATED, &ctx));
        TEST_OK(encode_as(ctx, &w, EMBED_F32, got));
        assert_memory_equal(got, want, sizeof got);
        check_rows_against(&w, ctx);
        TEST_OK(embed_context_set_table(ctx, NULL));
        TEST_OK(encode_as(ctx, &w, EMBED_F32, got));
        assert_memory_equal(got, without, sizeof got);
        embed_context_free(ctx);
        drop_fake(&w);
    }
    table_close(&t);
    close_world(&w);
}

/* Each device gets its share, hidden states come from one, and a text longer than a batch has
 * room. */
static void spread(void **state) {
    (void)state;
    static float want[TEXTS * MAX_DIM], got[TEXTS * MAX_DIM], a[128 * MAX_DIM], b[128 * MAX_DIM];
    world w;
    embed_context *ctx, *one;
    size_t n, m;
    tiny_spec spec = tiny_spec_dense();
    spec.layers = 1;
    open_world(&w, spec, 80);
    one_device(&w, NULL, EMBED_F32, EMBED_F32, want);
    make_fakes(&w, 3, 3);
    TEST_OK(on_devices(&w, NULL, EMBED_F32, 3, EMBED_PLACE_REPLICATED, &ctx));
    TEST_OK(on_device(&w, NULL, EMBED_F32, &one));
    const uint64_t before = embed_context_bytes(ctx);
    for (int again = 0; again < 2; again++) {
        TEST_OK(encode_as(ctx, &w, EMBED_F32, got));
        assert_memory_equal(got, want, sizeof got);
    }
    assert_true(ctx->group->forwards[0]->plan.tokens > BATCH);
    assert_true(embed_context_bytes(ctx) > before);
    assert_int_equal(ctx->group->under_way, 0);
    for (int32_t r = 0; r < 3; r++) {
        assert_int_equal(ctx->group->queued[r], 0);
        assert_true(ctx->group->forwards[r]->sets[0].n_texts > 0);
    }
    TEST_OK(embed_encode_tokens(ctx, w.texts[1], NULL, a, sizeof a / sizeof *a, NULL, &n));
    TEST_OK(embed_encode_tokens(one, w.texts[1], NULL, b, sizeof b / sizeof *b, NULL, &m));
    assert_int_equal(n, m);
    assert_memory_equal(a, b, n * (size_t)w.checkpoint.spec.hidden * sizeof *a);
    embed_context_free(one);
    embed_context_free(ctx);
    drop_fake(&w);
    close_world(&w);
}

/* Calls in the background work on several devices as on one; their output is host memory. */
static void in_the_background(void **state) {
    (void)state;
    static float want[TEXTS * MAX_DIM], got[2][TEXTS * MAX_DIM];
    world w;
    open_world(&w, small_moe_spec(), 16);
    one_device(&w, NULL, EMBED_F32, EMBED_F32, want);
    for (int32_t placement = 0; placement < 2; placement++) {
        embed_context *ctx;
        embed_pending *pending[2];
        make_fakes(&w, 7, 3);
        TEST_OK(on_devices(&w, NULL, EMBED_F32, 3, placement, &ctx));
        for (int i = 0; i < 2; i++)
            TEST_OK(embed_encode_async(ctx, w.texts, TEXTS, NULL, got[i], TEXTS * MAX_DIM,
                                       &pending[i]));
        for (int i = 0; i < 2; i++) {
            TEST_OK(embed_pending_wait(pending[i], -1, NULL));
            embed_pending_free(pending[i]);
            assert_memory_equal(got[i], want, TEXTS * (size_t)w.model->dim * sizeof *want);
        }
        embed_async_params p = EMBED_ASYNC_PARAMS_INIT;
        p.on_device = 1;
        test_fails(embed_encode_async(ctx, w.texts, TEXTS, &p, got[0], TEXTS * MAX_DIM, pending),
                   EMBED_ERR_ARG, "does not encode on one device");
        embed_context_free(ctx);
        assert_string_equal(emb_fake_fault(w.fake), "");
        drop_fake(&w);
    }
    close_world(&w);
}

/* ------------------------------------------------------------------------------------ weights */

/* From the files once: the copies into the first device are all that one device takes. */
static void weights_come_once(void **state) {
    (void)state;
    static float want[TEXTS * MAX_DIM], got[TEXTS * MAX_DIM];
    world w;
    embed_context *ctx;
    open_world(&w, small_moe_spec(), 6);
    one_device(&w, NULL, EMBED_F32, EMBED_F32, want);
    for (int there = 0; there < 2; there++) { /* 1: one of the devices has them already */
        const emb_device_home *homes[8];
        const int32_t indices[] = {2, 0, 1, 3}, last = 3;
        make_fakes(&w, 5, 4);
        const emb_backend *b = emb_fake_backend(w.fake);
        TEST_OK(emb_device_home_get(&homes[0], w.model, b, there ? last : 2, EMBED_F32));
        const long copies = emb_fake_calls(w.fake, EMB_FAKE_COPY);
        TEST_OK(emb_device_homes_get(homes, w.model, b, indices, 4, EMBED_F32, 0));
        assert_int_equal(emb_fake_calls(w.fake, EMB_FAKE_COPY), copies);
        TEST_OK(on_devices(&w, NULL, EMBED_F32, 4, EMBED_PLACE_REPLICATED, &ctx));
        assert_int_equal(ctx->group->n, 4);
        for (int32_t r = 0; r < 4; r++)
            assert_true(ctx->group->forwards[indices[r]]->weights == &homes[r]->weights);
        TEST_OK(encode_as(ctx, &w, EMBED_F32, got));
        assert_memory_equal(got, want, sizeof got);
        embed_context_free(ctx);
        drop_fake(&w);
    }
    close_world(&w);
}

/* Devices that cannot talk to each other. */
static void no_transport(void **state) {
    (void)state;
    static float want[TEXTS * MAX_DIM], got[TEXTS * MAX_DIM];
    world w;
    embed_context *ctx;
    open_world(&w, small_moe_spec(), 6);
    one_device(&w, NULL, EMBED_F32, EMBED_F32, want);
    make_fakes_without(&w, 2, 3, "no NCCL here");
    TEST_OK(on_devices(&w, NULL, EMBED_F32, 3, EMBED_PLACE_REPLICATED, &ctx));
    TEST_OK(encode_as(ctx, &w, EMBED_F32, got));
    assert_memory_equal(got, want, sizeof got);
    embed_context_free(ctx);
    drop_fake(&w);
    close_world(&w);
}

/* ------------------------------------------------------------------------------------- faults */

static void every_call(void **state) {
    (void)state;
    every_call_fails(EMBED_PLACE_REPLICATED, 3);
}

static void every_allocation(void **state) {
    (void)state;
    every_allocation_fails(EMBED_PLACE_REPLICATED, 3);
}

static void one_is_lost(void **state) {
    (void)state;
    one_device_is_lost(EMBED_PLACE_REPLICATED);
}

/* Half the batch on all, where one has too little memory. */
static void too_little_memory(void **state) {
    (void)state;
    static float want[TEXTS * MAX_DIM], got[TEXTS * MAX_DIM];
    world w;
    embed_context *ctx;
    size_t weights;
    uint64_t whole, half;
    const int32_t tokens = 8 * BATCH;
    open_world(&w, tiny_spec_dense(), 30);
    one_device(&w, NULL, EMBED_F32, EMBED_F32, want);
    const emb_places one = {.place = {.dtype = EMBED_F32}};
    TEST_OK(emb_device_weights_bytes(w.model, EMBED_F32, &weights));
    TEST_OK(emb_device_group_plan_bytes(w.model, &one, tokens, &whole));
    TEST_OK(emb_device_group_plan_bytes(w.model, &one, tokens / 2, &half));
    make_fakes_with(&w, 1, 2, weights + (whole + half) / 2);
    emb_places places = places_of(&w, EMBED_F32, 2, EMBED_PLACE_REPLICATED);
    TEST_OK(emb_context_create_on(&ctx, w.model, NULL, 1, tokens, &places));
    assert_true(ctx->group->forwards[0]->plan.tokens < tokens);
    assert_int_equal(ctx->group->forwards[1]->plan.tokens, ctx->group->forwards[0]->plan.tokens);
    TEST_OK(encode_as(ctx, &w, EMBED_F32, got));
    assert_memory_equal(got, want, sizeof got);
    embed_context_free(ctx);
    drop_fake(&w);
    make_fakes_with(&w, 1, 2, weights);
    places = places_of(&w, EMBED_F32, 2, EMBED_PLACE_REPLICATED);
    assert_int_equal(emb_context_create_on(&ctx, w.model, NULL, 1, tokens, &places),
                     EMBED_ERR_NOMEM);
    drop_fake(&w);
    close_world(&w);
}

/* ------------------------------------------------------------------------------- lists of them */

static void lists(void **state) {
    (void)state;
    world w;
    int32_t devices[EMB_MAX_RANKS + 1] = {2, 0, 2};
    embed_context_params p = EMBED_CONTEXT_PARAMS_INIT;
    memset(&w, 0, sizeof w);
    make_fakes(&w, 1, 3);
    emb_places places = {.place = {.backend = emb_fake_backend(w.fake), .dtype = EMBED_F32}};
    p.device = EMBED_DEVICE_CUDA;
    p.devices = devices;
    p.n_devices = 2;
    TEST_OK(emb_places_take(&places, &p));
    assert_int_equal(places.n, 2);
    assert_int_equal(places.devices[0], 2);
    for (int32_t wrong = -1; wrong <= EMBED_TABLE_PLACE_RESIDENT + 1;
         wrong += EMBED_TABLE_PLACE_RESIDENT + 2) {
        p.table_place = wrong;
        test_fails(emb_places_take(&places, &p), EMBED_ERR_ARG, "expected an embed_table_place");
    }
    p.table_place = EMBED_TABLE_PLACE_AUTO;
    p.n_devices = 3;
    test_fails(emb_places_take(&places, &p), EMBED_ERR_ARG,
               "devices[2]: 2 is there twice, also at 0");
    devices[2] = 3;
    test_fails(emb_places_take(&places, &p), EMBED_ERR_DEVICE,
               "devices[2]: expected a device below 3, found 3");
    devices[2] = -1;
    test_fails(emb_places_take(&places, &p), EMBED_ERR_DEVICE, "found -1");
    p.n_devices = EMB_MAX_RANKS + 1;
    test_fails(emb_places_take(&places, &p), EMBED_ERR_ARG, "n_devices: expected 1 to 64");
    p.n_devices = EMBED_ALL_DEVICES;
    test_fails(emb_places_take(&places, &p), EMBED_ERR_ARG, "found -1 with");
    p.devices = NULL;
    TEST_OK(emb_places_take(&places, &p));
    assert_int_equal(places.n, 3);
    p.n_devices = 2;
    test_fails(emb_places_take(&places, &p), EMBED_ERR_ARG, "found 2 without");
    p.devices = devices;
    p.device_index = 1;
    test_fails(emb_places_take(&places, &p), EMBED_ERR_ARG, "device_index: expected 0");
    p.device_index = 0;
    p.placement = 7;
    test_fails(emb_places_take(&places, &p), EMBED_ERR_ARG, "placement");
    p.placement = EMBED_PLACE_EXPERTS;
    p.device = EMBED_DEVICE_AUTO;
    test_fails(emb_places_take(&places, &p), EMBED_ERR_ARG, "EMBED_DEVICE_EMULATED");
    emb_fake_free(w.fake);
    const emb_fake_params none = {.devices = 2, .no_device = "asleep"};
    assert_int_equal(emb_fake_create(&w.fake, &w.env, &none), EMBED_OK);
    places.place.backend = emb_fake_backend(w.fake);
    p.device = EMBED_DEVICE_CUDA;
    devices[0] = 1;
    p.n_devices = 1;
    test_fails(emb_places_take(&places, &p), EMBED_ERR_DEVICE, ":1: not usable: asleep");
    p.devices = NULL;
    p.n_devices = EMBED_ALL_DEVICES;
    test_fails(emb_places_take(&places, &p), EMBED_ERR_DEVICE, "none of 2 devices");
    emb_fake_free(w.fake);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(nomic_moe),
                                       cmocka_unit_test(nomic_dense),
                                       cmocka_unit_test(bert),
                                       cmocka_unit_test(tables),
                                       cmocka_unit_test(spread),
                                       cmocka_unit_test(in_the_background),
                                       cmocka_unit_test(weights_come_once),
                                       cmocka_unit_test(no_transport),
                                       cmocka_unit_test(every_call),
                                       cmocka_unit_test(every_allocation),
                                       cmocka_unit_test(one_is_lost),
                                       cmocka_unit_test(too_little_memory),
                                       cmocka_unit_test(lists)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
