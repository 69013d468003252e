#include "support/everywhere.h"

#include "kernels/layernorm/layernorm.h"

struct problem {
    emb_layernorm_args args; /* y left out */
    int in_place;            /* 0 no, 1 y is x, 2 y is r */
};

static void run(emb_exec *exec, void *arg, float *out) {
    const struct problem *p = arg;
    emb_layernorm_args a = p->args;
    a.y = out;
    if (p->in_place) {
        const float *from = p->in_place == 1 ? a.x : a.r;
        memcpy(out, from, (size_t)(a.tokens * a.dim) * sizeof *out);
        *(p->in_place == 1 ? &a.x : &a.r) = out;
    }
    assert_int_equal(emb_layernorm(exec, &a), EMBED_OK);
}

/* Fails unless within what the header promises. */
static void check(const emb_layernorm_args *a, const float *got) {
    double *want = malloc((size_t)a->dim * sizeof *want), gamma = 0;
    assert_non_null(want);
    for (int64_t i = 0; i < a->dim; i++)
        gamma = fmax(gamma, fabs((double)a->gamma[i]));
    for (int64_t t = 0; t < a->tokens; t++) {
        double mean = 0, variance = 0, scale = 0;
        for (int64_t i = 0; i < a->dim; i++) {
            want[i] = (double)a->x[t * a->dim + i] + (a->r ? (double)a->r[t * a->dim + i] : 0);
            mean += want[i] / (double)a->dim;
        }
        for (int64_t i = 0; i < a->dim; i++)
            variance += (want[i] - mean) * (want[i] - mean) / (double)a->dim;
        for (int64_t i = 0; i < a->dim; i++)
            scale = fmax(scale, fabs(want[i]));
        scale *= gamma / sqrt(variance + (double)a->eps);
        for (int64_t i = 0; i < a->dim; i++)
            want[i] = (want[i] - mean) / sqrt(variance + (double)a->eps) * (double)a->gamma[i] +
                      (a->beta ? (double)a->beta[i] : 0);
        test_close("layernorm", got + t * a->dim, want, (size_t)a->dim, 1e-6 * scale, 4 * 0x1p-23);
    }
    free(want);
}

static void rows_agree_with_double_everywhere(void **state) {
    (void)state;
    static const int64_t tokens[] = {0, 1, 7, 130};
    static const int64_t dims[] = {1, 2, 15, 16, 17, 31, 97, 384, 768, 1024};
    uint64_t seed = 1;
    for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++)
        for (size_t j = 0; j < sizeof dims / sizeof *dims; j++)
            for (int variant = 0; variant < 6; variant++) {
                const size_t d = (size_t)dims[j], n = (size_t)tokens[i] * d;
                float *x = test_normals(&seed, n, 3.0), *r = test_normals(&seed, n, 1.0);
                float *gamma = test_normals(&seed, d, 1.0), *beta = test_normals(&seed, d, 1.0);
                float *out = malloc(n * sizeof *out + 1);
                assert_non_null(out);
                const int with_r = variant % 3 != 0;
                struct problem p = {{x, with_r ? r : NULL, gamma, variant % 2 ? beta : NULL, NULL,
                                     tokens[i], dims[j], 1e-5f, 0},
                                    with_r ? variant % 3 : variant / 3};
                test_everywhere(&(test_op){"layernorm", run, NULL, &p, n}, out);
                check(&p.args, out);
                free(x);
                free(r);
                free(gamma);
                free(beta);
                free(out);
            }
}

static void a_row_does_not_see_its_neighbours(void **state) {
    (void)state;
    enum { T = 300, D = 97 };
    uint64_t seed = 2;
    float *x = test_normals(&seed, T * D, 1.0), *ones = test_normals(&seed, D, 1.0);
    float *all = malloc(T * D * sizeof *all), row[D];
    struct problem p = {{x, NULL, ones, NULL, NULL, T, D, 1e-12f, 0}, 0};
    assert_non_null(all);
    test_everywhere(&(test_op){"layernorm", run, NULL, &p, T * D}, all);
    for (int t = 0; t < T; t += 37) {
        p.args.x = x + t * D;
        p.args.tokens = 1;
        test_everywhere(&(test_op){"layernorm, one row", run, NULL, &p, D}, row);
        test_same_bits("row alone and in the batch", row, all + t * D, D);
    }
    free(x);
    free(ones);
    free(all);
}

static void a_large_mean_does_not_cancel_the_variance(void **state) {
    (void)state;
    enum { D = 257 };
    uint64_t seed = 3;
    float *x = test_normals(&seed, D, 1.0), *gamma = test_normals(&seed, D, 1.0), out[D];
    for (int i = 0; i < D; i++)
        x[i] += 4096.0f; /* E[x^2] - E[x]^2 in f32 would be rounding noise here */
    struct problem p = {{x, NULL, gamma, NULL, NULL, 1, D, 1e-5f, 0}, 0};
    test_everywhere(&(test_op){"layernorm", run, NULL, &p, D}, out);
    check(&p.args, out);
    free(x);
    free(gamma);
}

static void constant_and_broken_rows_are_defined(void **state) {
    (void)state;
    enum { D = 20 };
    float x[2 * D], gamma[D], beta[D], out[2 * D];
    for (int i = 0; i < D; i++) {
        x[i] = 3.0f;
        x[D + i] = i == 7 ? NAN : 1.0f;
        gamma[i] = 2.0f;
        beta[i] = (float)i;
    }
    struct problem p = {{x, NULL, gamma, beta, NULL, 2, D, 1e-5f, 0}, 0};
    test_everywhere(&(test_op){"layernorm", run, NULL, &p, sizeof out / sizeof *out}, out);
    test_same_bits("a constant row", out, beta, D);
    for (int i = 0; i < D; i++)
        assert_true(isnan(out[D + i]));
}

static void impossible_sizes_are_refused(void **state) {
    (void)state;
    test_exec e;
    const emb_isa *isas[EMB_ISA_MAX];
    (void)emb_isa_list(isas);
    test_exec_open(&e, isas[0], 1, 0);
    assert_int_equal(emb_layernorm(&e.exec, &(emb_layernorm_args){.tokens = 1, .dim = 0}),
                     EMBED_ERR_INTERNAL);
    test_exec_close(&e);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_agree_with_double_everywhere),
        cmocka_unit_test(a_row_does_not_see_its_neighbours),
        cmocka_unit_test(a_large_mean_does_not_cancel_the_variance),
        cmocka_unit_test(constant_and_broken_rows_are_defined),
        cmocka_unit_test(impossible_sizes_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
