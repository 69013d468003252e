/* Numbers as serde_json rounds them: values of
 *   json.loads(tokenizers.Tokenizer.from_str(json).to_str())["model"]["vocab"]  (tokenizers
 * 0.23.3), written with all their digits. */
#include "support/test.h"
#include "tokenizer/json_number.h"

static void test_values(void **state) {
    (void)state;
    static const struct {
        const char *text;
        double value;
    } cases[] = {
        {"0", 0.0},
        {"-1", -1.0},
        {"-10.5", -10.5},
        {"1e2", 100.0},
        {"1.5E-3", 0.0015},
        {"-3.4635426998138428", -3.4635426998138428},
        /* One unit in the last place away from the nearest double. */
        {"-7.4715776443481445", -7.471577644348144},
        {"-7.7206902503967285", -7.720690250396728},
        {"-7.8046770095825195", -7.804677009582520},
        {"-7.8616509437561035", -7.861650943756104},
        {"0e999", 0.0},
        {"1e-999", 0.0},
        {"1e-99999999999999999999", 0.0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double got = 99;
        assert_int_equal(emb_json_number_read(cases[i].text, strlen(cases[i].text), &got), 1);
        if (!(got == cases[i].value))
            fail_msg("%s: got %.17g, want %.17g", cases[i].text, got, cases[i].value);
    }
}

static void test_out_of_range(void **state) {
    (void)state;
    double got;
    assert_int_equal(emb_json_number_read("1e309", 5, &got), 0);
    assert_int_equal(emb_json_number_read("-1e999", 6, &got), 0);
    assert_int_equal(emb_json_number_read("1e99999999999", 13, &got), 0);
    assert_int_equal(emb_json_number_read("99e307", 6, &got), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_values),
                                       cmocka_unit_test(test_out_of_range)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
