/* Well-formedness by Unicode 15, table 3-7, and repair by maximal subparts. Expected texts are
 * those of Python's bytes.decode("utf-8", "replace"), which follows the same rule. */
#include "support/test.h"
#include "tokenizer/utf8.h"

static void test_code_points(void **state) {
    (void)state;
    char bytes[4];
    size_t len;
    for (uint32_t c = 0; c < 0x110000; c++) {
        const size_t n = emb_utf8_encode(c, bytes);
        assert_int_equal(n, c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4);
        const int surrogate = c >= 0xd800 && c < 0xe000;
        assert_int_equal(emb_utf8_valid(bytes, n), surrogate ? 0 : n);
        if (surrogate)
            continue;
        assert_int_equal(emb_utf8_decode(bytes, &len), c);
        assert_int_equal(len, n);
        assert_int_equal(emb_utf8_len(bytes[0]), n);
        assert_int_equal(emb_utf8_back(bytes, n), 0);
        for (size_t cut = 1; cut < n; cut++)
            assert_int_equal(emb_utf8_valid(bytes, cut), 0);
    }
}

#define R "\ufffd"

static void test_repair(void **state) {
    (void)state;
    static const struct {
        const char *bytes, *text;
    } cases[] = {
        {"", ""},
        {"plain ASCII, longer than a word", "plain ASCII, longer than a word"},
        {"\x80", R},
        {"a\xc3\xa9", "a\u00e9"},
        {"\xc0\x80", R R},
        {"\xc1\xbf", R R},
        {"\xc3", R},
        {"\xc3(", R "("},
        {"\xe0\x80\xaf", R R R},
        {"\xe0\xa0", R},
        {"\xe4\xb8z", R "z"},
        {"\xe4\xb8\xad\xe6\x96", "\u4e2d" R},
        {"\xed\xa0\x80", R R R},
        {"\xed\x9f\xbf", "\ud7ff"},
        {"\xf0\x8f\xbf\xbf", R R R R},
        {"\xf0\x9f\x98", R},
        {"\xf0\x9f\x98\x80", "\U0001f600"},
        {"\xf0\x9f\x98\xf0\x9f\x98\x80", R "\U0001f600"},
        {"\xf4\x90\x80\x80", R R R R},
        {"\xf4\x8f\xbf\xbf", "\U0010ffff"},
        {"\xf5\x80", R R},
        {"\xff\xfe", R R},
        {"\x61\xf1\x80\x80\xe1\x80\xc2\x62\x80\x63\x80\xbf\x64", "a" R R R "b" R "c" R R "d"},
    };
    char out[128];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const size_t n = emb_utf8_repair(cases[i].bytes, strlen(cases[i].bytes), out);
        out[n] = '\0';
        assert_string_equal(out, cases[i].text);
        assert_int_equal(emb_utf8_valid(out, n), n);
    }
}

/* Random bytes: what repair leaves alone is what valid accepts, and its output is well-formed. */
static void test_random(void **state) {
    (void)state;
    static const unsigned char leads[] = {0x41, 0x80, 0xbf, 0xc3, 0xe0,
                                          0xed, 0xef, 0xf0, 0xf4, 0xff};
    uint64_t seed = 20261123;
    char in[24], out[72];
    print_message("seed %llu\n", (unsigned long long)seed);
    for (int round = 0; round < 100000; round++) {
        const size_t n = test_rand(&seed) % (sizeof in + 1);
        for (size_t i = 0; i < n; i++) {
            const uint64_t r = test_rand(&seed);
            in[i] = (char)(r % 3 == 0 ? leads[r / 8 % sizeof leads] : r / 8 & 0xff);
        }
        const size_t valid = emb_utf8_valid(in, n), made = emb_utf8_repair(in, n, out);
        assert_true(made <= 3 * n);
        assert_int_equal(emb_utf8_valid(out, made), made);
        assert_memory_equal(out, in, valid);
        if (valid < n)
            assert_memory_equal(out + valid, R, 3);
        else
            assert_int_equal(made, n);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_code_points),
                                       cmocka_unit_test(test_repair),
                                       cmocka_unit_test(test_random)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
