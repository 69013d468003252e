#include "support/test.h"

#include "base/status.h"

static void message_and_sentence(void **state) {
    (void)state;
    emb_fail_clear();
    assert_string_equal(emb_fail_message(), "");
    assert_string_equal(emb_fail_sentence(), "");
    assert_int_equal(emb_fail(EMBED_ERR_IO, "%s: gone", "a: b"), EMBED_ERR_IO);
    assert_string_equal(emb_fail_message(), "EMBED_ERR_IO: a: b: gone");
    assert_string_equal(emb_fail_sentence(), "a: b: gone");
    emb_fail_prefix("store %d", 3);
    assert_string_equal(emb_fail_message(), "EMBED_ERR_IO: store 3: a: b: gone");
    assert_string_equal(emb_fail_sentence(), "store 3: a: b: gone");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(message_and_sentence)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
