#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include "plain/cmocka.h"

static jmp_buf out_of_test;
static enum { PASSED, FAILED, SKIPPED } result;
static char reason[1024];

void plain_fail(const char *file, int line, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    const int n = snprintf(reason, sizeof reason, "%s:%d: ", file, line);
    if (n >= 0 && (size_t)n < sizeof reason)
        (void)vsnprintf(reason + n, sizeof reason - (size_t)n, fmt, ap);
    va_end(ap);
    result = FAILED;
    longjmp(out_of_test, 1);
}

void plain_skip(void) {
    result = SKIPPED;
    longjmp(out_of_test, 1);
}

void plain_integers(const char *file, int line, const char *what, uintmax_t a, uintmax_t b,
                    int equal) {
    if ((a == b) != equal)
        plain_fail(file, line, "expected %s, found %jd and %jd", what, (intmax_t)a, (intmax_t)b);
}

void plain_range(const char *file, int line, const char *what, uintmax_t v, uintmax_t least,
                 uintmax_t most) {
    if (v < least || v > most)
        plain_fail(file, line, "expected %s in %ju .. %ju, found %ju", what, least, most, v);
}

void plain_strings(const char *file, int line, const char *a, const char *b, int equal) {
    if ((strcmp(a, b) == 0) != equal)
        plain_fail(file, line, "expected %s strings, found \"%.300s\" and \"%.300s\"",
                   equal ? "equal" : "different", a, b);
}

void plain_memory(const char *file, int line, const void *a, const void *b, size_t n, int equal) {
    const unsigned char *p = a, *q = b;
    size_t i = 0;
    while (i < n && p[i] == q[i])
        i++;
    if ((i == n) == equal)
        return;
    if (equal)
        plain_fail(file, line, "byte %zu of %zu: 0x%02x and 0x%02x", i, n, p[i], q[i]);
    plain_fail(file, line, "expected a difference in %zu bytes", n);
}

/* Runs one function of a test; what it leaves behind when it fails stays. */
static void run(const CMUnitTest *t, void **state, plain_fixture fixture) {
    if (setjmp(out_of_test) != 0)
        return;
    if (fixture == NULL)
        t->test_func(state);
    else if (fixture(state) != 0)
        plain_fail(t != NULL ? t->name : "group", 0, "its fixture failed");
}

static void one(const CMUnitTest *t, void *group_state) {
    void *state = t->initial_state != NULL ? t->initial_state : group_state;
    result = PASSED;
    if (t->setup_func != NULL)
        run(t, &state, t->setup_func);
    if (result == PASSED)
        run(t, &state, NULL);
    if (t->teardown_func != NULL)
        run(t, &state, t->teardown_func);
}

int plain_run(const CMUnitTest *tests, size_t n, plain_fixture setup, plain_fixture teardown) {
    static const char *const words[] = {"ok      ", "FAILED  ", "skipped "};
    int count[3] = {0, 0, 0};
    void *state = NULL;
    result = PASSED;
    if (setup != NULL)
        run(NULL, &state, setup);
    if (result != PASSED) {
        printf("FAILED   group setup: %s\n0 passed, 1 failed\n", reason);
        return 1;
    }
    for (size_t i = 0; i < n; i++) {
        one(&tests[i], state);
        count[result]++;
        printf("%s %s%s%s\n", words[result], tests[i].name, result == FAILED ? ": " : "",
               result == FAILED ? reason : "");
        (void)fflush(stdout);
    }
    result = PASSED;
    if (teardown != NULL)
        run(NULL, &state, teardown);
    if (result == FAILED) {
        count[FAILED]++;
        printf("FAILED   group teardown: %s\n", reason);
    }
    printf("%d passed, %d failed, %d skipped\n", count[PASSED], count[FAILED], count[SKIPPED]);
    return count[FAILED];
}
