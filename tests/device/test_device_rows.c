/* Rows of n-gram tables on the fake device: each way they can come there gives the bits of rows
 * that the CPU decoded, in every type and mode and in every order of streams; caches under
 * pressure, damage, tables attached late and shared; refusals; and every failure has its status. */
#include "support/device_rows_world.h"

#include "model/device_group.h"
#include "ngram/ngram_row.h"

/* Encodes twice, so that the second time finds what the first has left. */
static void check_place(rows_world *r, int32_t place, uint64_t seed, uint64_t cache) {
    static float got[TEXTS * MAX_DIM];
    world *w = &r->w;
    embed_context *ctx;
    make_fake(w, seed, 0);
    TEST_OK(rows_context(r, place, cache, &ctx));
    for (int again = 0; again < 2; again++) {
        TEST_OK(encode(ctx, w, TEXTS, got));
        assert_memory_equal(got, r->want, rows_bytes(r));
        embed_table_stats s = {.struct_size = sizeof s};
        TEST_OK(embed_context_get_table_stats(ctx, &s));
        assert_int_equal(s.place, place);
        assert_true(s.positions > 0 && s.hits[0] < s.positions);
        if (place == EMBED_TABLE_PLACE_RESIDENT)
            assert_int_equal(s.device_hits, s.distinct_rows);
        else if (place == EMBED_TABLE_PLACE_CACHE && cache == 0 && again)
            assert_true(s.device_hits > s.distinct_rows / 2);
        else if (place != EMBED_TABLE_PLACE_CACHE)
            assert_int_equal(s.device_hits, 0);
        assert_int_equal(s.device_bytes > 0,
                         place != EMBED_TABLE_PLACE_RESIDENT && s.device_hits < s.distinct_rows);
    }
    assert_true(embed_context_bytes(ctx) > 0);
    embed_context_free(ctx);
    assert_string_equal(emb_fake_fault(w->fake), "");
    drop_fake(w);
}

static void check_refused(rows_world *r, int32_t place, uint64_t cache, uint64_t memory,
                          embed_status want, const char *what) {
    embed_context *ctx;
    make_fake(&r->w, 1, memory);
    assert_int_equal(rows_context(r, place, cache, &ctx), want);
    if (strstr(embed_last_error(), what) == NULL)
        fail_msg("expected '%s' in: %s", what, embed_last_error());
    drop_fake(&r->w);
}

static void every_place(void **state) {
    (void)state;
    static const int32_t dtypes[] = {EMBED_F32, EMBED_F16, EMBED_BF16, EMBED_I8};
    for (size_t d = 0; d < 4; d++)
        for (int32_t mode = EMB_NGRAM_REPLACE; mode <= EMB_NGRAM_ADD; mode++) {
            static rows_world r;
            open_rows(&r, &(test_table_spec){.mode = mode, .dtype = dtypes[d]}, 0, NULL);
            for (size_t p = 0; p < PLACES; p++)
                check_place(&r, all_places[p], 3 * d + p, 0);
            close_rows(&r);
        }
}

static void orders_of_streams(void **state) {
    (void)state;
    static rows_world r;
    open_rows(&r, &(test_table_spec){.dtype = EMBED_I8, .part_bytes = 8192}, 0, NULL);
    for (uint64_t seed = 0; seed < 10; seed++) {
        check_place(&r, EMBED_TABLE_PLACE_CACHE, seed, 40 * 32);
        check_place(&r, EMBED_TABLE_PLACE_COPY, seed, 0);
    }
    close_rows(&r);
}

/* Fewer places than a batch has rows: three rows, and one. */
static void cache_under_pressure(void **state) {
    (void)state;
    static rows_world r;
    open_rows(&r, &(test_table_spec){.dtype = EMBED_F16}, 0, NULL);
    for (uint64_t seed = 0; seed < 4; seed++)
        for (uint64_t places = 1; places <= 21; places += 10)
            check_place(&r, EMBED_TABLE_PLACE_CACHE, seed, places * HIDDEN * 2);
    close_rows(&r);
}

/* A projection, encrypted rows, rows that are read: MAP is refused, the others go on. */
static void rows_without_a_mapping(void **state) {
    (void)state;
    static float projection[HIDDEN * 24];
    static const uint8_t key[32] = {7};
    uint64_t rng = 9;
    for (size_t i = 0; i < HIDDEN * 24; i++)
        projection[i] = (float)(0.3 * test_normal(&rng));
    const embed_table_params pread = {
        .struct_size = sizeof pread, .mode = EMBED_TABLE_READ, .cache_bytes = 2000};
    const struct {
        test_table_spec spec;
        int32_t width;
        const embed_table_params *params;
        const char *why;
    } cases[] = {{{.dtype = EMBED_I8, .projection = projection}, 24, NULL, "behind a projection"},
                 {{.dtype = EMBED_BF16, .key = key}, 0, NULL, "encrypted"},
                 {{.dtype = EMBED_I8}, 0, &pread, "read, not mapped"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        static rows_world r;
        open_rows(&r, &cases[i].spec, cases[i].width, cases[i].params);
        check_place(&r, EMBED_TABLE_PLACE_COPY, i, 0);
        check_place(&r, EMBED_TABLE_PLACE_CACHE, i, 0);
        check_place(&r, EMBED_TABLE_PLACE_RESIDENT, i, 0);
        check_refused(&r, EMBED_TABLE_PLACE_MAP, 0, 0, EMBED_ERR_UNSUPPORTED, cases[i].why);
        close_rows(&r);
    }
    /* decrypted into memory of its own, it is a mapping like any other */
    const embed_table_params huge = {.struct_size = sizeof huge, .mode = EMBED_TABLE_HUGE};
    static rows_world r;
    open_rows(&r, &(test_table_spec){.dtype = EMBED_I8, .key = key}, 0, &huge);
    check_place(&r, EMBED_TABLE_PLACE_MAP, 5, 0);
    close_rows(&r);
}

static void refusals(void **state) {
    (void)state;
    static rows_world r;
    size_t weights;
    emb_device_plan plan;
    open_rows(&r, &(test_table_spec){.dtype = EMBED_F32}, 0, NULL);
    TEST_OK(emb_device_weights_bytes(r.w.model, EMBED_F32, &weights));
    TEST_OK(emb_device_plan_make(&plan, r.w.model, EMBED_F32, BATCH));
    const uint64_t room = weights + plan.device_bytes + 8192;
    check_refused(&r, EMBED_TABLE_PLACE_RESIDENT, 0, room, EMBED_ERR_NOMEM, "RESIDENT: expected");
    check_refused(&r, EMBED_TABLE_PLACE_CACHE, 1 << 30, room, EMBED_ERR_NOMEM, "CACHE: expected");
    check_refused(&r, EMBED_TABLE_PLACE_CACHE, 3, 0, EMBED_ERR_ARG, "device_cache_bytes");
    check_refused(&r, 17, 0, 0, EMBED_ERR_ARG, "expected an embed_table_place, found 17");
    embed_context_params p = EMBED_CONTEXT_PARAMS_INIT;
    embed_context *ctx;
    p.table_place = EMBED_TABLE_PLACE_COPY;
    test_fails(embed_context_create(&ctx, r.w.model, &p), EMBED_ERR_ARG, "table_place");
    p.table_place = -1;
    test_fails(embed_context_create(&ctx, r.w.model, &p), EMBED_ERR_ARG, "table_place");
    p.table_place = EMBED_TABLE_PLACE_AUTO;
    p.device_cache_bytes = 1 << 20;
    test_fails(embed_context_create(&ctx, r.w.model, &p), EMBED_ERR_ARG, "0 on the CPU");
    close_rows(&r);
}

/* Too little memory for all rows: some of them, or batch by batch. */
static void automatic(void **state) {
    (void)state;
    static float got[TEXTS * MAX_DIM];
    static rows_world r;
    size_t weights;
    emb_device_plan plan;
    int32_t seen = 0;
    open_rows(&r, &(test_table_spec){.dtype = EMBED_F32}, 0, NULL);
    TEST_OK(emb_device_weights_bytes(r.w.model, EMBED_F32, &weights));
    TEST_OK(emb_device_plan_make(&plan, r.w.model, EMBED_F32, BATCH));
    for (uint64_t more = 3 << 13; more <= 1 << 20; more *= 2) {
        embed_context *ctx;
        make_fake(&r.w, more, weights + plan.device_bytes + more);
        TEST_OK(rows_context(&r, EMBED_TABLE_PLACE_AUTO, 0, &ctx));
        TEST_OK(encode(ctx, &r.w, TEXTS, got));
        assert_memory_equal(got, r.want, rows_bytes(&r));
        const int32_t place = emb_stage_place(ctx->stage);
        assert_true(place != EMBED_TABLE_PLACE_AUTO && place != EMBED_TABLE_PLACE_MAP);
        seen |= 1 << place;
        embed_context_free(ctx);
        drop_fake(&r.w);
    }
    assert_true((seen & 1 << EMBED_TABLE_PLACE_RESIDENT) != 0);
    assert_true((seen & ~(1 << EMBED_TABLE_PLACE_RESIDENT)) != 0);
    close_rows(&r);
}

/* ------------------------------------------------------------------------- attached and shared */

/* A device that reads the host's memory as it is, and one that cannot read it at all. */
static void other_devices(void **state) {
    (void)state;
    static float got[TEXTS * MAX_DIM];
    static rows_world r;
    size_t weights;
    emb_device_plan plan;
    open_rows(&r, &(test_table_spec){.dtype = EMBED_F32, .part_bytes = 8192}, 0, NULL);
    TEST_OK(emb_device_weights_bytes(r.w.model, EMBED_F32, &weights));
    TEST_OK(emb_device_plan_make(&plan, r.w.model, EMBED_F32, BATCH));
    for (int native = 0; native < 2; native++) {
        embed_context *ctx;
        /* half of what is free is too little for all rows, but the probe has room */
        const uint64_t room = r.grams.n * HIDDEN * sizeof(float) * 19 / 10;
        make_fake_of(&r.w, &(emb_fake_params){.seed = 4,
                                              .memory_bytes = weights + plan.device_bytes + room,
                                              .host_pageable = native,
                                              .no_host_map = 1});
        TEST_OK(rows_context(&r, EMBED_TABLE_PLACE_AUTO, 0, &ctx));
        if (native)
            assert_int_equal(emb_stage_place(ctx->stage), EMBED_TABLE_PLACE_MAP);
        else
            assert_int_not_equal(emb_stage_place(ctx->stage), EMBED_TABLE_PLACE_MAP);
        TEST_OK(encode(ctx, &r.w, TEXTS, got));
        assert_memory_equal(got, r.want, rows_bytes(&r));
        embed_context_free(ctx);
        const embed_status st = rows_context(&r, EMBED_TABLE_PLACE_MAP, 0, &ctx);
        assert_int_equal(st, native ? EMBED_OK : EMBED_ERR_UNSUPPORTED);
        embed_context_free(ctx);
        assert_string_equal(emb_fake_fault(r.w.fake), "");
        drop_fake(&r.w);
    }
    close_rows(&r);
}

/* What a context takes with a table is what was planned, before and after it is used. */
static void planned(void **state) {
    (void)state;
    static float got[TEXTS * MAX_DIM];
    static rows_world r;
    open_rows(&r, &(test_table_spec){.dtype = EMBED_I8}, 0, NULL);
    for (size_t p = 0; p < PLACES; p++) {
        emb_plan plan;
        uint64_t host, device;
        embed_context *ctx;
        make_fake(&r.w, p, 0);
        const emb_places places = rows_places(&r, all_places[p], 20 * HIDDEN);
        const emb_device_rows_spec spec = emb_places_rows(&places);
        TEST_OK(emb_context_plan(&plan, r.w.model, 1, BATCH, &places.place));
        TEST_OK(emb_context_plan_bytes(&plan, r.w.model, r.table, &spec, &host));
        TEST_OK(emb_device_group_plan_bytes(r.w.model, &places, BATCH, &device));
        TEST_OK(rows_context(&r, all_places[p], 20 * HIDDEN, &ctx));
        for (int i = 0; i < 3; i++) {
            const uint64_t tokenizer = emb_tok_scratch_bytes(ctx->tokenizers[0]);
            assert_int_equal(emb_context_bytes(ctx), host + device + tokenizer);
            TEST_OK(encode(ctx, &r.w, TEXTS, got));
        }
        embed_context_free(ctx);
        drop_fake(&r.w);
    }
    close_rows(&r);
}

static void attached_later(void **state) {
    (void)state;
    static float got[TEXTS * MAX_DIM], without[TEXTS * MAX_DIM];
    static rows_world r;
    open_rows(&r, &(test_table_spec){.dtype = EMBED_BF16}, 0, NULL);
    for (size_t p = 0; p < PLACES; p++) {
        embed_context *ctx;
        embed_table *table = r.table;
        make_fake(&r.w, p, 0);
        r.table = NULL;
        TEST_OK(rows_context(&r, all_places[p], 0, &ctx));
        r.table = table;
        TEST_OK(encode(ctx, &r.w, TEXTS, without));
        for (int again = 0; again < 2; again++) {
            TEST_OK(embed_context_set_table(ctx, table));
            TEST_OK(encode(ctx, &r.w, TEXTS, got));
            assert_memory_equal(got, r.want, rows_bytes(&r));
            TEST_OK(embed_context_set_table(ctx, NULL));
            TEST_OK(encode(ctx, &r.w, TEXTS, got));
            assert_memory_equal(got, without, rows_bytes(&r));
        }
        embed_context_free(ctx);
        assert_string_equal(emb_fake_fault(r.w.fake), "");
        drop_fake(&r.w);
    }
    close_rows(&r);
}

/* What a second context of the device takes there. */
static uint64_t second_takes(rows_world *r, embed_table *table) {
    static float got[TEXTS * MAX_DIM];
    embed_context *a, *b;
    embed_table *all = r->table;
    r->table = table;
    make_fake(&r->w, 2, 0);
    TEST_OK(rows_context(r, EMBED_TABLE_PLACE_RESIDENT, 0, &a));
    const uint64_t one = emb_fake_peak_bytes(r->w.fake);
    TEST_OK(rows_context(r, EMBED_TABLE_PLACE_RESIDENT, 0, &b));
    const uint64_t two = emb_fake_peak_bytes(r->w.fake);
    r->table = all;
    embed_context_free(a);
    if (table != NULL) { /* the first is gone, its rows are not */
        TEST_OK(encode(b, &r->w, TEXTS, got));
        assert_memory_equal(got, r->want, rows_bytes(r));
        assert_non_null(table->images);
    }
    embed_context_free(b);
    if (table != NULL)
        assert_null(table->images);
    drop_fake(&r->w);
    return two - one;
}

static void shared_by_contexts(void **state) {
    (void)state;
    static rows_world r;
    open_rows(&r, &(test_table_spec){.dtype = EMBED_F32}, 0, NULL);
    const uint64_t with = second_takes(&r, r.table), without = second_takes(&r, NULL);
    /* a peak while the first table was loaded is none of the second context's */
    assert_true(with <= without);
    close_rows(&r);
}

/* A bit of every row's vector. */
static void damage(const rows_world *r) {
    const emb_ngram_layout *l = &r->table->manifest.layout;
    char path[400];
    (void)snprintf(path, sizeof path, "%s/rows-000.bin", r->path);
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    for (uint64_t row = 0; row < r->grams.n; row++) {
        const long at = (long)(EMB_NGRAM_FILE_HEADER_BYTES + emb_ngram_row_offset(l, row) +
                               sizeof(emb_ngram_row_header) + 5);
        assert_int_equal(fseek(file, at, SEEK_SET), 0);
        const int byte = fgetc(file);
        assert_int_equal(fseek(file, at, SEEK_SET), 0);
        assert_true(fputc(byte ^ 4, file) != EOF);
    }
    assert_int_equal(fclose(file), 0);
}

/* Found before any of them is used, whatever their way. */
static void damaged_row(void **state) {
    (void)state;
    static float got[TEXTS * MAX_DIM];
    for (size_t p = 0; p < PLACES; p++) {
        static rows_world r;
        embed_context *ctx = NULL;
        open_rows(&r, &(test_table_spec){.dtype = EMBED_I8}, 0, NULL);
        damage(&r);
        embed_table_free(r.table);
        r.table = test_table_open(r.w.model, r.path, NULL);
        make_fake(&r.w, p, 0);
        embed_status st = rows_context(&r, all_places[p], 0, &ctx);
        if (all_places[p] == EMBED_TABLE_PLACE_RESIDENT)
            assert_null(ctx);
        else
            assert_int_equal(st, EMBED_OK);
        for (int again = 0; again < 2 && ctx != NULL; again++)
            st = encode(ctx, &r.w, TEXTS, got);
        assert_int_equal(st, EMBED_ERR_FORMAT);
        assert_non_null(strstr(embed_last_error(), "fails its checksum"));
        embed_context_free(ctx);
        assert_string_equal(emb_fake_fault(r.w.fake), "");
        drop_fake(&r.w);
        close_rows(&r);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_place),
                                       cmocka_unit_test(orders_of_streams),
                                       cmocka_unit_test(cache_under_pressure),
                                       cmocka_unit_test(rows_without_a_mapping),
                                       cmocka_unit_test(refusals),
                                       cmocka_unit_test(automatic),
                                       cmocka_unit_test(other_devices),
                                       cmocka_unit_test(planned),
                                       cmocka_unit_test(attached_later),
                                       cmocka_unit_test(shared_by_contexts),
                                       cmocka_unit_test(damaged_row)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
