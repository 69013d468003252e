/* test: what every test program includes, in the order cmocka wants it. */
#ifndef EMB_TESTS_SUPPORT_TEST_H
#define EMB_TESTS_SUPPORT_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <math.h>

#include <cmocka.h>

#include "base/alloc.h"

/* An environment on malloc, for tests that do not watch allocations. */
emb_env test_env(void);

/* Counts live blocks and fails the n-th allocation (1-based; 0: none). Thread-safe. */
typedef struct test_allocator {
    embed_allocator allocator;
    long fail_at, calls, live;
    int failed; /* 1 once an allocation was refused */
} test_allocator;
void test_allocator_init(test_allocator *a, long fail_at);

/* Fails the test, naming the worst index, unless every |got - want| <= atol + rtol * |want|
 * (written so that NaN fails). */
void test_close(const char *what, const float *got, const double *want, size_t n, double atol,
                double rtol);
/* Relative L2 error of got against want. */
double test_rel_l2(const float *got, const double *want, size_t n);

/* Deterministic numbers: SplitMix64; uniform in [0,1) and standard normal. */
uint64_t test_rand(uint64_t *state);
double test_uniform(uint64_t *state);
double test_normal(uint64_t *state);

#endif
