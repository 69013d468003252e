#include "support/test.h"

emb_env test_env(void) {
    emb_env env;
    assert_int_equal(emb_env_init(&env, NULL, NULL, NULL), EMBED_OK);
    return env;
}

static void *counted_alloc(void *user, size_t size, size_t align) {
    test_allocator *a = user;
    const long call = __atomic_add_fetch(&a->calls, 1, __ATOMIC_SEQ_CST);
    if (call == a->fail_at) {
        __atomic_store_n(&a->failed, 1, __ATOMIC_SEQ_CST);
        return NULL;
    }
    void *p = aligned_alloc(align, (size + align - 1) / align * align);
    if (p != NULL)
        __atomic_add_fetch(&a->live, 1, __ATOMIC_SEQ_CST);
    return p;
}

static void counted_free(void *user, void *ptr, size_t size) {
    test_allocator *a = user;
    memset(ptr, 0xdd, size); /* a wrong size shows under AddressSanitizer */
    __atomic_sub_fetch(&a->live, 1, __ATOMIC_SEQ_CST);
    free(ptr);
}

void test_allocator_init(test_allocator *a, long fail_at) {
    *a = (test_allocator){{a, counted_alloc, counted_free}, fail_at, 0, 0, 0};
}

void test_close(const char *what, const float *got, const double *want, size_t n, double atol,
                double rtol) {
    size_t worst = n;
    double worst_excess = 0;
    for (size_t i = 0; i < n; i++) {
        const double err = fabs((double)got[i] - want[i]), tol = atol + rtol * fabs(want[i]);
        if (!(err <= tol) && (worst == n || !(err - tol <= worst_excess))) {
            worst = i;
            worst_excess = err - tol;
        }
    }
    if (worst < n)
        fail_msg("%s: [%zu] got %.9g, want %.9g, tolerance %.3g", what, worst, (double)got[worst],
                 want[worst], atol + rtol * fabs(want[worst]));
}

double test_rel_l2(const float *got, const double *want, size_t n) {
    double err = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        err += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        norm += want[i] * want[i];
    }
    return sqrt(err / norm);
}

uint64_t test_rand(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

double test_uniform(uint64_t *state) {
    return (double)(test_rand(state) >> 11) * 0x1p-53;
}

double test_normal(uint64_t *state) {
    const double u = 1 - test_uniform(state), v = test_uniform(state);
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}
