/* everywhere: run one operation on every instruction set of this machine and with 1 to 5 threads,
 * and require the same bits each time. */
#ifndef EMB_TESTS_SUPPORT_EVERYWHERE_H
#define EMB_TESTS_SUPPORT_EVERYWHERE_H

#include "support/test.h"

#include "kernels/isa.h"

typedef struct test_exec {
    emb_env env;
    emb_exec exec;
} test_exec;

/* scratch_bytes per thread; the blocks end where the allocation ends. */
void test_exec_open(test_exec *e, const emb_isa *isa, int threads, size_t scratch_bytes);
void test_exec_close(test_exec *e);

/* n floats, all NaN, between guard zones; an input can be given its exact size with malloc, so that
 * the address sanitizer sees reads past the end. */
float *test_guarded(size_t n);
void test_guards_check(const char *what, const float *p, size_t n);
void test_guarded_free(float *p);

/* Fails unless a and b agree bit for bit (any NaN equals any NaN). */
void test_same_bits(const char *what, const float *a, const float *b, size_t n);

/* An exact malloc of n normally distributed floats. */
float *test_normals(uint64_t *seed, size_t n, double scale);

typedef struct test_op {
    const char *name;
    /* Writes n floats, all of them. */
    void (*run)(emb_exec *exec, void *arg, float *out);
    size_t (*scratch_bytes)(const emb_isa *isa, void *arg); /* NULL: none */
    void *arg;
    size_t n;
} test_op;

/* Runs op everywhere; out [n] gets the result. */
void test_everywhere(const test_op *op, float *out);

#endif
