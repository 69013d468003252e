/* Rows on a device, with every call of the device and every allocation failing in turn, in each of
 * the ways they can come there: a status each time, nothing left over, and afterwards the bits. */
#include "support/device_rows_world.h"

/* Make a context and encode with the n-th call failing: 1 if it came so far. */
static int fails_at(rows_world *r, int32_t place, emb_device_code code, long n) {
    static float got[TEXTS * MAX_DIM];
    world *w = &r->w;
    embed_context *ctx = NULL;
    make_fake(w, (uint64_t)n, 0);
    emb_fake_fail(w->fake, EMB_FAKE_ANY, n, code);
    embed_status st = rows_context(r, place, 6 * HIDDEN, &ctx);
    if (st == EMBED_OK)
        st = encode(ctx, w, 3, got);
    const int reached = emb_fake_calls(w->fake, EMB_FAKE_ANY) >= n;
    if (st != EMBED_OK) {
        assert_true(st == EMBED_ERR_DEVICE || st == EMBED_ERR_NOMEM);
        assert_true(strlen(embed_last_error()) > 20);
        st = ctx != NULL ? encode(ctx, w, 3, got) : st;
        if (code == EMB_DEVICE_FAILED && ctx != NULL)
            TEST_OK(st);
    }
    if (st == EMBED_OK)
        assert_memory_equal(got, r->want, 3 * (size_t)w->model->dim * sizeof *got);
    embed_context_free(ctx);
    assert_string_equal(emb_fake_fault(w->fake), "");
    drop_fake(w);
    return reached;
}

static void every_call(void **state) {
    (void)state;
    static rows_world r;
    open_rows(&r, &(test_table_spec){.dtype = EMBED_I8}, 0, NULL);
    const long before = r.w.memory.live;
    for (size_t p = 0; p < PLACES; p++)
        for (int lost = 0; lost < 2; lost++) {
            long n = 1;
            while (fails_at(&r, all_places[p], lost ? EMB_DEVICE_LOST : EMB_DEVICE_FAILED, n))
                n += 1 + 2 * lost; /* every third where nothing goes on */
            assert_true(n > 60);
            assert_int_equal(r.w.memory.live, before);
        }
    close_rows(&r);
}

static void every_allocation(void **state) {
    (void)state;
    static float got[TEXTS * MAX_DIM];
    static rows_world r;
    open_rows(&r, &(test_table_spec){.dtype = EMBED_I8}, 0, NULL);
    for (size_t p = 0; p < PLACES; p++)
        for (long n = 1, failed = 1; failed; n++) {
            embed_context *ctx = NULL;
            test_allocator *m = &r.w.memory;
            const long before = m->live;
            make_fake(&r.w, (uint64_t)n, 0);
            m->failed = 0;
            m->fail_at = m->calls + n;
            embed_status st = rows_context(&r, all_places[p], 0, &ctx);
            if (st == EMBED_OK)
                st = encode(ctx, &r.w, 3, got);
            m->fail_at = 0;
            failed = m->failed;
            if (st != EMBED_OK)
                assert_int_equal(st, EMBED_ERR_NOMEM);
            else
                assert_memory_equal(got, r.want, 3 * (size_t)r.w.model->dim * sizeof *got);
            embed_context_free(ctx);
            drop_fake(&r.w);
            assert_int_equal(m->live, before);
        }
    close_rows(&r);
}

/* What contexts share is made by the table's allocator. */
static void every_allocation_of_a_table(void **state) {
    (void)state;
    static const int32_t shared[] = {EMBED_TABLE_PLACE_MAP, EMBED_TABLE_PLACE_RESIDENT};
    static float got[TEXTS * MAX_DIM];
    static rows_world r;
    test_allocator m;
    embed_table_params params = EMBED_TABLE_PARAMS_INIT;
    test_allocator_init(&m, 0);
    params.allocator = &m.allocator;
    open_rows(&r, &(test_table_spec){.dtype = EMBED_I8}, 0, &params);
    for (size_t p = 0; p < 2; p++) {
        long n = 1;
        for (int failed = 1; failed; n++) {
            embed_context *ctx = NULL;
            const long before = m.live;
            make_fake(&r.w, (uint64_t)n, 0);
            m.failed = 0;
            m.fail_at = m.calls + n;
            const embed_status st = rows_context(&r, shared[p], 0, &ctx);
            m.fail_at = 0;
            failed = m.failed;
            assert_int_equal(st, failed ? EMBED_ERR_NOMEM : EMBED_OK);
            if (st == EMBED_OK) {
                TEST_OK(encode(ctx, &r.w, 3, got));
                assert_memory_equal(got, r.want, 3 * (size_t)r.w.model->dim * sizeof *got);
            }
            embed_context_free(ctx);
            assert_null(r.table->images);
            drop_fake(&r.w);
            assert_int_equal(m.live, before);
        }
        assert_true(n > 3);
    }
    close_rows(&r);
    assert_int_equal(m.live, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_call),
                                       cmocka_unit_test(every_allocation),
                                       cmocka_unit_test(every_allocation_of_a_table)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
