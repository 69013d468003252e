#include "support/everywhere.h"

enum { GUARD = 32, MAX_THREADS = 5 };
#define GUARD_VALUE 1.2345e30f

void test_exec_open(test_exec *e, const emb_isa *isa, int threads, size_t scratch_bytes) {
    void *scratch;
    e->env = test_env();
    e->exec = (emb_exec){.isa = isa, .scratch_bytes = emb_round_up(scratch_bytes, EMB_ALIGN)};
    assert_int_equal(emb_pool_create(&e->exec.pool, &e->env, threads), EMBED_OK);
    scratch = aligned_alloc(EMB_ALIGN, e->exec.scratch_bytes * (size_t)threads);
    assert_non_null(scratch);
    memset(scratch, 0xff, e->exec.scratch_bytes * (size_t)threads); /* NaN */
    e->exec.scratch = scratch;
}

void test_exec_close(test_exec *e) {
    emb_pool_free(e->exec.pool);
    free(e->exec.scratch);
}

float *test_guarded(size_t n) {
    float *p = malloc((n + 2 * GUARD) * sizeof *p);
    assert_non_null(p);
    for (size_t i = 0; i < n + 2 * GUARD; i++)
        p[i] = i >= GUARD && i < n + GUARD ? NAN : GUARD_VALUE;
    return p + GUARD;
}

void test_guards_check(const char *what, const float *p, size_t n) {
    for (size_t i = 0; i < GUARD; i++)
        if (p[n + i] != GUARD_VALUE || *(p - 1 - i) != GUARD_VALUE)
            fail_msg("%s: wrote %zu floats %s its output", what, i + 1,
                     p[n + i] != GUARD_VALUE ? "behind" : "before");
}

void test_guarded_free(float *p) {
    free(p - GUARD);
}

void test_same_bits(const char *what, const float *a, const float *b, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (memcmp(&a[i], &b[i], sizeof *a) != 0 && !(isnan(a[i]) && isnan(b[i])))
            fail_msg("%s: element %zu is %.9g, and %.9g elsewhere", what, i, (double)a[i],
                     (double)b[i]);
}

float *test_normals(uint64_t *seed, size_t n, double scale) {
    float *p = malloc(n * sizeof *p + (n == 0));
    assert_non_null(p);
    for (size_t i = 0; i < n; i++)
        p[i] = (float)(test_normal(seed) * scale);
    return p;
}

void test_everywhere(const test_op *op, float *out) {
    const emb_isa *isas[EMB_ISA_MAX];
    const size_t n_isas = emb_isa_list(isas);
    for (size_t i = 0; i < n_isas; i++)
        for (int threads = 1; threads <= MAX_THREADS; threads++) {
            char what[128];
            test_exec e;
            float *y = test_guarded(op->n);
            (void)snprintf(what, sizeof what, "%s on %s, %d threads", op->name, isas[i]->name,
                           threads);
            test_exec_open(&e, isas[i], threads,
                           op->scratch_bytes ? op->scratch_bytes(isas[i], op->arg) : 0);
            op->run(&e.exec, op->arg, y);
            test_guards_check(what, y, op->n);
            if (i == 0 && threads == 1)
                memcpy(out, y, op->n * sizeof *out);
            test_same_bits(what, y, out, op->n);
            test_exec_close(&e);
            test_guarded_free(y);
        }
}
