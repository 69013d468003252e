#include "support/test.h"

#include "kernels/isa.h"

static void auto_takes_the_last_of_the_list(void **state) {
    (void)state;
    const emb_isa *list[EMB_ISA_MAX], *isa;
    const size_t n = emb_isa_list(list);
    assert_in_range(n, 1, EMB_ISA_MAX);
    assert_int_equal(list[0]->id, EMBED_ISA_PORTABLE);
    assert_int_equal(emb_isa_select(&isa, EMBED_ISA_AUTO), EMBED_OK);
    assert_ptr_equal(isa, list[n - 1]);
}

static void each_isa_is_given_or_refused_by_name(void **state) {
    (void)state;
    const char *const names[] = {"portable", "avx2", "avx512"};
    const emb_isa *list[EMB_ISA_MAX];
    const size_t n = emb_isa_list(list);
    for (int32_t id = EMBED_ISA_PORTABLE; id <= EMBED_ISA_AVX512; id++) {
        const emb_isa *isa;
        const embed_status st = emb_isa_select(&isa, id);
        int listed = 0;
        for (size_t i = 0; i < n; i++)
            listed |= list[i]->id == id;
        if (listed) {
            assert_int_equal(st, EMBED_OK);
            assert_int_equal(isa->id, id);
            assert_string_equal(isa->name, names[id - 1]);
        } else {
            assert_int_equal(st, EMBED_ERR_UNSUPPORTED);
            assert_null(isa);
            assert_non_null(strstr(emb_fail_message(), names[id - 1]));
            assert_non_null(strstr(emb_fail_message(), "portable"));
        }
    }
}

static void unknown_numbers_are_refused(void **state) {
    (void)state;
    const emb_isa *isa;
    assert_int_equal(emb_isa_select(&isa, -1), EMBED_ERR_ARG);
    assert_null(isa);
    assert_int_equal(emb_isa_select(&isa, 4), EMBED_ERR_ARG);
    assert_null(isa);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(auto_takes_the_last_of_the_list),
        cmocka_unit_test(each_isa_is_given_or_refused_by_name),
        cmocka_unit_test(unknown_numbers_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
