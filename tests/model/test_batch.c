/* Grouping of texts by length into batches. */
#include "support/test.h"

#include "model/batch.h"

#define ITEMS 1000

/* Against the obvious: every pair of neighbours is in order, and nothing is lost. */
static void sorts_longest_first(void **state) {
    (void)state;
    static emb_item items[ITEMS];
    static uint64_t order[ITEMS];
    uint64_t seed = 7;
    for (size_t n = 0; n < ITEMS; n = n < 20 ? n + 1 : n * 3) {
        int64_t tokens, sum = 0;
        size_t expected = 0;
        for (size_t i = 0; i < n; i++) {
            items[i].tokens = (int32_t)(test_rand(&seed) % 40);
            if (items[i].tokens == 0)
                items[i].tokens = EMB_ITEM_PENDING;
            else {
                expected++;
                sum += items[i].tokens;
            }
        }
        const size_t ready = emb_batch_sort(items, n, order, &tokens);
        assert_int_equal(ready, expected);
        assert_int_equal(tokens, sum);
        for (size_t i = 0; i < ready; i++) {
            const size_t item = emb_order_item(order[i]);
            assert_in_range(item, 0, n - 1);
            assert_int_equal(emb_order_tokens(order[i]), items[item].tokens);
            if (i == 0)
                continue;
            const size_t before = emb_order_item(order[i - 1]);
            assert_true(items[before].tokens > items[item].tokens ||
                        (items[before].tokens == items[item].tokens && before < item));
        }
    }
}

static size_t order_of(const int32_t *lengths, size_t n, uint64_t *order) {
    emb_item items[16] = {{0}};
    int64_t tokens;
    for (size_t i = 0; i < n; i++)
        items[i].tokens = lengths[i];
    return emb_batch_sort(items, n, order, &tokens);
}

static void takes_what_fits(void **state) {
    (void)state;
    const int32_t lengths[] = {9, 5, 4, 3, 3, 2};
    uint64_t order[16];
    const size_t n = order_of(lengths, 6, order);
    assert_int_equal(emb_batch_take(order, n, 10, 10, 100), 1);         /* 9, then 5 is too much */
    assert_int_equal(emb_batch_take(order + 1, n - 1, 10, 10, 100), 2); /* 5 + 4, not 3 */
    assert_int_equal(emb_batch_take(order + 1, n - 1, 12, 12, 100), 3); /* exactly 12 */
    assert_int_equal(emb_batch_take(order + 1, n - 1, 100, 100, 2), 2); /* limit of texts */
    assert_int_equal(emb_batch_take(order + 1, n - 1, 100, 8, 100), 2); /* target reached */
    assert_int_equal(emb_batch_take(order, n, 4, 4, 100), 1); /* longer than a batch: alone */
    assert_int_equal(emb_batch_take(order, n, 1, 1, 100), 1);
    assert_int_equal(emb_batch_take(order, 0, 10, 10, 100), 0);
}

static void batches_come_out_even(void **state) {
    (void)state;
    assert_int_equal(emb_batch_target(0, 4096), 1);
    assert_int_equal(emb_batch_target(1, 4096), 1);
    assert_int_equal(emb_batch_target(4096, 4096), 4096);
    assert_int_equal(emb_batch_target(4100, 4096), 2050);
    assert_int_equal(emb_batch_target(8192, 4096), 4096);
    assert_int_equal(emb_batch_target(8193, 4096), 2731);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sorts_longest_first),
        cmocka_unit_test(takes_what_fits),
        cmocka_unit_test(batches_come_out_even),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
