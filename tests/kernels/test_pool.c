#include "support/everywhere.h"

#include "kernels/pool/pool.h"

enum { ALL_MODES = 63, MODES = 6 };

static void run(emb_exec *exec, void *arg, float *out) {
    emb_pool_args a = *(const emb_pool_args *)arg;
    a.out = out;
    for (int64_t i = 0; i < a.texts; i++) /* what lies between the rows stays as it is */
        for (int64_t d = 0; d < a.ldo; d++)
            out[i * a.ldo + d] = -7.0f;
    assert_int_equal(emb_pool_texts(exec, &a), EMBED_OK);
}

/* One mode over the tokens first .. n - 1 of x [n, dim]; column d. */
static double reference(int mode, const float *x, int64_t n, int64_t first, int64_t dim,
                        int64_t d) {
    double sum = 0, weights = 0, max = -INFINITY;
    for (int64_t t = first; t < n; t++) {
        const double weight = mode == EMBED_POOL_WEIGHTED_MEAN ? (double)t + 1 : 1;
        sum += weight * (double)x[t * dim + d];
        weights += weight;
        max = fmax(max, (double)x[t * dim + d]);
    }
    switch (mode) {
    case EMBED_POOL_CLS:
        return (double)x[first * dim + d];
    case EMBED_POOL_LAST:
        return (double)x[(n - 1) * dim + d];
    case EMBED_POOL_MAX:
        return max;
    case EMBED_POOL_MEAN_SQRT:
        return sum / sqrt(weights);
    default:
        return sum / weights;
    }
}

static void check(const emb_pool_args *a, const float *out) {
    for (int64_t i = 0; i < a->texts; i++) {
        const float *row = out + i * a->ldo, *x = a->x + a->offsets[i] * a->dim;
        const int64_t n = a->offsets[i + 1] - a->offsets[i];
        for (int mode = 1; mode <= EMBED_POOL_LAST; mode *= 2) {
            if (!(a->modes & mode))
                continue;
            for (int64_t d = 0; d < a->dim; d++) {
                const double want = reference(mode, x, n, a->skip ? a->skip[i] : 0, a->dim, d);
                if (!(fabs((double)row[d] - want) <= 0x1p-23 * fabs(want) + 1e-12))
                    fail_msg("text %d mode %d column %d: %.9g, want %.9g", (int)i, mode, (int)d,
                             (double)row[d], want);
            }
            row += a->dim;
        }
        for (; row < out + (i + 1) * a->ldo; row++)
            assert_true(*row == -7.0f);
    }
}

static void modes_agree_with_double_everywhere(void **state) {
    (void)state;
    static const int32_t offsets[] = {0, 1, 3, 20, 21, 148, 163};
    static const int32_t skip[] = {0, 1, 16, 0, 100, 3};
    static const int64_t dims[] = {1, 15, 16, 17, 127, 128, 129, 384};
    enum { TEXTS = 6 };
    uint64_t seed = 13;
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++)
        for (int variant = 0; variant < 2 + 2 * MODES; variant++) {
            const int64_t D = dims[i];
            const int32_t modes = variant < 2 ? ALL_MODES : 1 << (variant / 2 - 1);
            const int64_t ldo = D * (variant < 2 ? MODES : 1) + 3;
            float *x = test_normals(&seed, (size_t)(offsets[TEXTS] * D), 1.0);
            float *out = malloc((size_t)(TEXTS * ldo) * sizeof *out);
            assert_non_null(out);
            emb_pool_args a = {x,     offsets, variant % 2 ? skip : NULL, NULL, TEXTS, D, ldo,
                               modes, 0};
            test_everywhere(&(test_op){"pool", run, NULL, &a, (size_t)(TEXTS * ldo)}, out);
            check(&a, out);
            free(x);
            free(out);
        }
}

static void no_texts_is_no_work(void **state) {
    (void)state;
    const int32_t offsets[] = {0};
    float none;
    emb_pool_args a = {&none, offsets, NULL, NULL, 0, 8, 8, EMBED_POOL_MEAN, 0};
    test_everywhere(&(test_op){"pool", run, NULL, &a, 0}, &none);
}

static void rows_get_unit_length(void **state) {
    (void)state;
    uint64_t seed = 14;
    static const int64_t dims[] = {1, 2, 17, 384};
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++) {
        const int64_t D = dims[i], ld = D + 1;
        enum { ROWS = 5 };
        float *x = test_normals(&seed, (size_t)(ROWS * ld - 1), 10.0);
        float *y = malloc((size_t)(ROWS * ld - 1) * sizeof *y);
        assert_non_null(y);
        memcpy(y, x, (size_t)(ROWS * ld - 1) * sizeof *y);
        emb_l2_normalize(y, ROWS, D, ld);
        for (int64_t t = 0; t < ROWS; t++) {
            double norm = 0;
            for (int64_t d = 0; d < D; d++)
                norm += (double)x[t * ld + d] * (double)x[t * ld + d];
            for (int64_t d = 0; d < D; d++) {
                const double want = (double)x[t * ld + d] / sqrt(norm);
                assert_true(fabs((double)y[t * ld + d] - want) <= 0x1p-24 * fabs(want) + 1e-40);
            }
            if (t + 1 < ROWS)
                assert_true(y[t * ld + D] == x[t * ld + D]); /* between the rows */
        }
        free(x);
        free(y);
    }
}

/* torch.nn.functional.normalize divides by max(norm, 1e-12). */
static void zero_and_tiny_rows_stay_finite(void **state) {
    (void)state;
    float x[] = {0.0f, 0.0f, 3e-13f, 4e-13f, 3e-12f, 4e-12f, 3e30f, 4e30f};
    emb_l2_normalize(x, 4, 2, 2);
    assert_true(x[0] == 0.0f && x[1] == 0.0f);
    assert_true(fabs((double)x[2] - 0.3) <= 1e-6 && fabs((double)x[3] - 0.4) <= 1e-6);
    assert_true(fabs((double)x[4] - 0.6) <= 1e-6 && fabs((double)x[5] - 0.8) <= 1e-6);
    assert_true(fabs((double)x[6] - 0.6) <= 1e-6 && fabs((double)x[7] - 0.8) <= 1e-6);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(modes_agree_with_double_everywhere),
        cmocka_unit_test(no_texts_is_no_work),
        cmocka_unit_test(rows_get_unit_length),
        cmocka_unit_test(zero_and_tiny_rows_stay_finite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
