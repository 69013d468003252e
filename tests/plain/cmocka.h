/* The part of cmocka's interface that our tests use, for machines without it: programs that check a
 * GPU are compiled with this directory in the include path. A check that fails ends its test;
 * the others run. One line a test on stdout. */
#ifndef EMB_TESTS_PLAIN_CMOCKA_H
#define EMB_TESTS_PLAIN_CMOCKA_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef int (*plain_fixture)(void **state);

typedef struct CMUnitTest {
    const char *name;
    void (*test_func)(void **state);
    plain_fixture setup_func, teardown_func;
    void *initial_state;
} CMUnitTest;

#define cmocka_unit_test(f)                                                                        \
    { #f, f, NULL, NULL, NULL }
#define cmocka_unit_test_setup_teardown(f, setup, teardown)                                        \
    { #f, f, setup, teardown, NULL }
#define cmocka_run_group_tests(tests, setup, teardown)                                             \
    plain_run((tests), sizeof(tests) / sizeof((tests)[0]), (setup), (teardown))
/* How many failed. */
int plain_run(const CMUnitTest *tests, size_t n, plain_fixture setup, plain_fixture teardown);

_Noreturn void plain_fail(const char *file, int line, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
_Noreturn void plain_skip(void);
void plain_integers(const char *file, int line, const char *what, uintmax_t a, uintmax_t b,
                    int equal);
void plain_range(const char *file, int line, const char *what, uintmax_t v, uintmax_t least,
                 uintmax_t most);
void plain_strings(const char *file, int line, const char *a, const char *b, int equal);
void plain_memory(const char *file, int line, const void *a, const void *b, size_t n, int equal);

#define PLAIN_HERE __FILE__, __LINE__
#define PLAIN_INT(x) ((uintmax_t)(x))
#define PLAIN_POINTER(p) ((uintmax_t)(uintptr_t)(p))
#define fail_msg(...) plain_fail(PLAIN_HERE, __VA_ARGS__)
#define fail() plain_fail(PLAIN_HERE, "failed")
#define skip() plain_skip()
#define print_message(...) ((void)fprintf(stdout, __VA_ARGS__))
#define print_error(...) ((void)fprintf(stderr, __VA_ARGS__))
#define assert_true(c) ((c) ? (void)0 : plain_fail(PLAIN_HERE, "expected %s", #c))
#define assert_false(c) ((c) ? plain_fail(PLAIN_HERE, "expected not %s", #c) : (void)0)
#define assert_null(p) assert_true((p) == NULL)
#define assert_non_null(p) assert_true((p) != NULL)
#define assert_int_equal(a, b)                                                                     \
    plain_integers(PLAIN_HERE, #a " == " #b, PLAIN_INT(a), PLAIN_INT(b), 1)
#define assert_int_not_equal(a, b)                                                                 \
    plain_integers(PLAIN_HERE, #a " != " #b, PLAIN_INT(a), PLAIN_INT(b), 0)
#define assert_ptr_equal(a, b)                                                                     \
    plain_integers(PLAIN_HERE, #a " == " #b, PLAIN_POINTER(a), PLAIN_POINTER(b), 1)
#define assert_ptr_not_equal(a, b)                                                                 \
    plain_integers(PLAIN_HERE, #a " != " #b, PLAIN_POINTER(a), PLAIN_POINTER(b), 0)
#define assert_in_range(v, least, most)                                                            \
    plain_range(PLAIN_HERE, #v, PLAIN_INT(v), PLAIN_INT(least), PLAIN_INT(most))
#define assert_string_equal(a, b) plain_strings(PLAIN_HERE, (a), (b), 1)
#define assert_string_not_equal(a, b) plain_strings(PLAIN_HERE, (a), (b), 0)
#define assert_memory_equal(a, b, n) plain_memory(PLAIN_HERE, (a), (b), (n), 1)
#define assert_memory_not_equal(a, b, n) plain_memory(PLAIN_HERE, (a), (b), (n), 0)

#endif
