/* Which way rows take to a device, by numbers alone. */
#include "support/test.h"

#include "model/row_place.h"

#define GIB ((uint64_t)1 << 30)

static emb_row_place chosen(const emb_row_place_facts *f, int32_t wish, uint64_t limit) {
    emb_row_place p;
    if (emb_row_place_choose(&p, f, wish, limit) != EMBED_OK)
        fail_msg("%s", emb_fail_message());
    return p;
}

static void automatic(void **state) {
    (void)state;
    emb_row_place_facts f = {
        .table_bytes = 30 * GIB, .row_bytes = 768, .free_bytes = 60 * GIB, .registers = 1};
    assert_int_equal(chosen(&f, 0, 0).place, EMBED_TABLE_PLACE_RESIDENT);
    f.table_bytes++;
    assert_int_equal(chosen(&f, 0, 0).place, EMBED_TABLE_PLACE_CACHE);
    assert_true(chosen(&f, 0, 0).cache_bytes == 15 * GIB);
    assert_true(chosen(&f, 0, 2 * GIB).cache_bytes == 2 * GIB);
    assert_int_equal(chosen(&f, 0, 31 * GIB).place, EMBED_TABLE_PLACE_RESIDENT);
    assert_int_equal(chosen(&f, 0, 700).place, EMBED_TABLE_PLACE_COPY);
    f.table_bytes = 100 * GIB;
    f.free_bytes = 4 * GIB; /* a quarter is a hundredth of the rows, and then no longer */
    assert_int_equal(chosen(&f, 0, 0).place, EMBED_TABLE_PLACE_CACHE);
    f.free_bytes -= 1 << 20;
    assert_int_equal(chosen(&f, 0, 0).place, EMBED_TABLE_PLACE_COPY);
    f.table_bytes = 0; /* of a table without rows */
    for (int32_t wish = 0; wish <= EMBED_TABLE_PLACE_RESIDENT; wish++)
        if (wish != EMBED_TABLE_PLACE_MAP)
            assert_int_equal(chosen(&f, wish, 0).place, EMBED_TABLE_PLACE_COPY);
}

/* A device that reads all memory of the host: measured. */
static void measured(void **state) {
    (void)state;
    emb_row_place_facts f = {
        .table_bytes = 100 * GIB, .row_bytes = 768, .free_bytes = 60 * GIB, .native = 1};
    f.copy_seconds = 1e-3;
    f.map_seconds = 1.2e-3;
    assert_int_equal(chosen(&f, 0, 0).place, EMBED_TABLE_PLACE_MAP);
    assert_true(chosen(&f, 0, 0).native);
    f.map_seconds = 1.3e-3;
    assert_int_equal(chosen(&f, 0, 0).place, EMBED_TABLE_PLACE_CACHE);
    f.map_seconds = 0;
    f.unmapped = "encrypted rows";
    assert_int_equal(chosen(&f, 0, 0).place, EMBED_TABLE_PLACE_CACHE);
    f.unmapped = NULL;
    assert_int_equal(chosen(&f, 0, GIB).place, EMBED_TABLE_PLACE_CACHE); /* as the caller says */
    f.table_bytes = GIB;
    assert_int_equal(chosen(&f, 0, 0).place, EMBED_TABLE_PLACE_RESIDENT);
}

static void refused(embed_status want, const char *what, const emb_row_place_facts *f, int32_t wish,
                    uint64_t limit) {
    emb_row_place p;
    assert_int_equal(emb_row_place_choose(&p, f, wish, limit), want);
    if (strstr(emb_fail_message(), what) == NULL)
        fail_msg("expected '%s' in: %s", what, emb_fail_message());
}

static void wishes(void **state) {
    (void)state;
    emb_row_place_facts f = {
        .table_bytes = 30 * GIB, .row_bytes = 768, .free_bytes = 20 * GIB, .registers = 1};
    assert_int_equal(chosen(&f, EMBED_TABLE_PLACE_COPY, 0).place, EMBED_TABLE_PLACE_COPY);
    assert_int_equal(chosen(&f, EMBED_TABLE_PLACE_MAP, 0).place, EMBED_TABLE_PLACE_MAP);
    assert_false(chosen(&f, EMBED_TABLE_PLACE_MAP, 0).native);
    assert_true(chosen(&f, EMBED_TABLE_PLACE_CACHE, 768).cache_bytes == 768);
    refused(EMBED_ERR_NOMEM, "RESIDENT: expected 32212254720 bytes free", &f,
            EMBED_TABLE_PLACE_RESIDENT, 0);
    refused(EMBED_ERR_NOMEM, "CACHE: expected", &f, EMBED_TABLE_PLACE_CACHE, 21 * GIB);
    refused(EMBED_ERR_ARG, "expected at least 768, a row, found 767", &f, EMBED_TABLE_PLACE_CACHE,
            767);
    refused(EMBED_ERR_ARG, "expected an embed_table_place, found 5", &f, 5, 0);
    f.registers = 0;
    refused(EMBED_ERR_UNSUPPORTED, "neither register them", &f, EMBED_TABLE_PLACE_MAP, 0);
    f.native = 1;
    assert_true(chosen(&f, EMBED_TABLE_PLACE_MAP, 0).native);
    f.unmapped = "encrypted rows";
    refused(EMBED_ERR_UNSUPPORTED, "found encrypted rows", &f, EMBED_TABLE_PLACE_MAP, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(automatic), cmocka_unit_test(measured),
                                       cmocka_unit_test(wishes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
