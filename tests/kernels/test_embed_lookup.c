#include "support/everywhere.h"

#include "base/dtype.h"
#include "kernels/embed_lookup/embed_lookup.h"

enum { V = 37, P = 11, D_MAX = 129, T = 50 };

static void run(emb_exec *exec, void *arg, float *out) {
    emb_embed_lookup_args a = *(const emb_embed_lookup_args *)arg;
    a.x = out;
    assert_int_equal(emb_embed_lookup(exec, &a), EMBED_OK);
}

/* A matrix of random weights at an odd address; *values are what they mean. */
static emb_matrix make_matrix(uint64_t *seed, int64_t rows, int64_t cols, int32_t dtype,
                              unsigned char **block, double **values) {
    const size_t n = (size_t)(rows * cols), size = dtype == EMBED_F32 ? 4 : 2;
    *block = malloc(n * size + 1);
    *values = malloc(n * sizeof **values);
    assert_true(*block != NULL && *values != NULL);
    for (size_t i = 0; i < n; i++) {
        const float f = (float)test_normal(seed);
        uint32_t u;
        memcpy(&u, &f, 4);
        const uint16_t half = dtype == EMBED_F16 ? emb_f32_to_f16(f) : (uint16_t)(u >> 16);
        const float value = dtype == EMBED_F32   ? f
                            : dtype == EMBED_F16 ? emb_f16_to_f32(half)
                                                 : emb_bf16_to_f32(half);
        memcpy(*block + 1 + i * size, dtype == EMBED_F32 ? (const void *)&f : &half, size);
        (*values)[i] = (double)value;
    }
    return (emb_matrix){*block + 1, rows, cols, dtype, 0};
}

struct tables {
    emb_matrix word, position, type;
    unsigned char *blocks[3];
    double *values[3];
    int32_t ids[T], positions[T];
    const float *rows[T];
    float *row_values, *gamma, *beta;
};

static void make_tables(struct tables *t, uint64_t *seed, int64_t dim, int32_t dtype) {
    t->word = make_matrix(seed, V, dim, dtype, &t->blocks[0], &t->values[0]);
    t->position = make_matrix(seed, P, dim, dtype, &t->blocks[1], &t->values[1]);
    t->type = make_matrix(seed, 2, dim, dtype, &t->blocks[2], &t->values[2]);
    t->row_values = test_normals(seed, (size_t)(T * dim), 1.0);
    t->gamma = test_normals(seed, (size_t)dim, 1.0);
    t->beta = test_normals(seed, (size_t)dim, 1.0);
    for (int i = 0; i < T; i++) {
        t->ids[i] = i == 0 ? V - 1 : (int32_t)(test_rand(seed) % V);
        t->positions[i] = i % P;
        t->rows[i] = i % 3 == 1 ? t->row_values + i * dim : NULL;
    }
}

static void free_tables(struct tables *t) {
    for (int i = 0; i < 3; i++) {
        free(t->blocks[i]);
        free(t->values[i]);
    }
    free(t->row_values);
    free(t->gamma);
    free(t->beta);
}

static void check(const struct tables *t, const emb_embed_lookup_args *a, const float *got) {
    double want[D_MAX];
    for (int i = 0; i < T; i++) {
        const float *row = a->rows ? a->rows[i] : NULL;
        double mean = 0, variance = 0;
        for (int64_t d = 0; d < a->dim; d++) {
            want[d] = row && !a->add_rows ? 0 : t->values[0][t->ids[i] * a->dim + d];
            want[d] += row ? (double)row[d] : 0;
            want[d] += a->position.data ? t->values[1][t->positions[i] * a->dim + d] : 0;
            want[d] += a->type.data ? t->values[2][d] : 0;
            mean += want[d] / (double)a->dim;
        }
        for (int64_t d = 0; d < a->dim; d++)
            variance += (want[d] - mean) * (want[d] - mean) / (double)a->dim;
        for (int64_t d = 0; a->gamma && d < a->dim; d++)
            want[d] = (want[d] - mean) / sqrt(variance + (double)a->eps) * (double)a->gamma[d] +
                      (a->beta ? (double)a->beta[d] : 0);
        test_close("embed_lookup", got + i * a->dim, want, (size_t)a->dim, 2e-5, 1e-6);
    }
}

static void every_combination_agrees_with_double_everywhere(void **state) {
    (void)state;
    static const int64_t dims[] = {1, 15, 16, 17, 64, D_MAX};
    static const int32_t dtypes[] = {EMBED_F32, EMBED_F16, EMBED_BF16};
    uint64_t seed = 5;
    float *out = malloc(T * D_MAX * sizeof *out);
    assert_non_null(out);
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++)
        for (size_t j = 0; j < 3; j++) {
            struct tables t;
            make_tables(&t, &seed, dims[i], dtypes[j]);
            for (int variant = 0; variant < 32; variant++) {
                const int rows = variant & 4;
                emb_embed_lookup_args a = {
                    .ids = t.ids, .word = t.word, .eps = 1e-5f, .tokens = T, .dim = dims[i]};
                if (variant & 1) {
                    a.position = t.position;
                    a.positions = t.positions;
                }
                if (variant & 2)
                    a.type = t.type;
                a.rows = rows ? t.rows : NULL;
                a.add_rows = rows && (variant & 1);
                a.gamma = variant & 8 ? t.gamma : NULL;
                a.beta = variant & 16 ? t.beta : NULL;
                if (dims[i] == 1)
                    a.eps = 1.0f; /* one element has no variance: rounding would be amplified */
                const size_t n = (size_t)(T * dims[i]);
                test_everywhere(&(test_op){"embed_lookup", run, NULL, &a, n}, out);
                check(&t, &a, out);
            }
            free_tables(&t);
        }
    free(out);
}

static void plain_rows_are_copies(void **state) {
    (void)state;
    uint64_t seed = 6;
    struct tables t;
    float *out = malloc(T * 17 * sizeof *out);
    assert_non_null(out);
    make_tables(&t, &seed, 17, EMBED_F32);
    emb_embed_lookup_args a = {.ids = t.ids, .word = t.word, .tokens = T, .dim = 17};
    test_everywhere(&(test_op){"embed_lookup", run, NULL, &a, T * 17}, out);
    for (int i = 0; i < T * 17; i++)
        assert_true((double)out[i] == t.values[0][t.ids[i / 17] * 17 + i % 17]);
    free_tables(&t);
    free(out);
}

static void no_tokens_is_no_work(void **state) {
    (void)state;
    emb_embed_lookup_args a = {.tokens = 0, .dim = 4};
    float none;
    test_everywhere(&(test_op){"embed_lookup", run, NULL, &a, 0}, &none);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_combination_agrees_with_double_everywhere),
        cmocka_unit_test(plain_rows_are_copies),
        cmocka_unit_test(no_tokens_is_no_work),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
