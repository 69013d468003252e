#include "support/test.h"

#include "base/clock.h"
#include "base/hex.h"

static void there_and_back(void **state) {
    (void)state;
    uint8_t bytes[256], again[256];
    char text[2 * sizeof bytes + 1];
    for (int i = 0; i < 256; i++)
        bytes[i] = (uint8_t)i;
    emb_hex_write(bytes, sizeof bytes, text);
    assert_int_equal(strlen(text), 2 * sizeof bytes);
    assert_memory_equal(text, "000102", 6);
    assert_string_equal(text + 2 * 253, "fdfeff");
    assert_true(emb_hex_read(text, sizeof bytes, again));
    assert_memory_equal(again, bytes, sizeof bytes);
}

static void other_digits_are_refused(void **state) {
    (void)state;
    uint8_t bytes[2];
    assert_true(emb_hex_read("09af", 2, bytes));
    assert_true(emb_hex_read("09afxx", 2, bytes)); /* what follows is not looked at */
    const char *const bad[] = {"", "0", "09a", "09aG", "09 f", "0xaf", "/9af", ":9af", "`9af"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(emb_hex_read(bad[i], 2, bytes));
}

static void time_does_not_go_back(void **state) {
    (void)state;
    uint64_t last = emb_clock_ns();
    for (int i = 0; i < 1000; i++) {
        const uint64_t now = emb_clock_ns();
        assert_true(now >= last);
        last = now;
    }
    assert_true(emb_clock_seconds() > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(there_and_back),
        cmocka_unit_test(other_digits_are_refused),
        cmocka_unit_test(time_does_not_go_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
