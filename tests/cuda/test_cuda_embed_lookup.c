#include "cuda/cuda_case.h"

#include "base/dtype.h"
#include "kernels/embed_lookup/embed_lookup_cuda.h"

enum { VOCABULARY = 11, POSITIONS = 7, TOKENS = 6 };

struct shape {
    int64_t dim;
    int position, type, norm, shifted;
    int32_t rows_dtype; /* 0: no rows */
    int add_rows;
};

struct inputs {
    double *word, *position, *type, *gamma, *beta;
    double *extra[TOKENS]; /* NULL: none */
};

/* Rows for some tokens, one of them off any alignment. */
static void make_rows(const struct shape *s, emb_cuda_embed_lookup_args *a, struct inputs *in,
                      uint64_t *seed) {
    const size_t dim = (size_t)s->dim;
    const void **rows = cuda_output(TOKENS * sizeof *rows);
    float *scales = cuda_output(TOKENS * sizeof *scales);
    for (int t = 0; t < TOKENS; t++) {
        rows[t] = NULL;
        if (t % 3 == 2)
            continue;
        in->extra[t] = cuda_doubles(dim);
        scales[t] = 0.013f * (float)(t + 1);
        if (s->rows_dtype == EMBED_I8) {
            signed char *q = cuda_output(dim);
            for (size_t i = 0; i < dim; i++) {
                q[i] = (signed char)((int)(test_rand(seed) % 255) - 127);
                in->extra[t][i] = (double)((float)q[i] * scales[t]);
            }
            rows[t] = q;
        } else {
            rows[t] = cuda_normals(seed, dim, 1.0, s->rows_dtype, in->extra[t]);
        }
        if (t == 1)
            rows[t] = cuda_shifted(rows[t], dim, s->rows_dtype);
    }
    a->rows = (const void *const *)rows;
    a->row_scales = scales;
    a->rows_dtype = s->rows_dtype;
    a->add_rows = s->add_rows;
}

static void reference(const struct shape *s, const struct inputs *in,
                      const emb_cuda_embed_lookup_args *a, double *y, double *bound) {
    for (int t = 0; t < TOKENS; t++) {
        double mean = 0, variance = 0, greatest = 0, gain = 0;
        for (int64_t i = 0; i < s->dim; i++) {
            double v = in->word[a->ids[t] * s->dim + i];
            if (in->extra[t] != NULL)
                v = in->extra[t][i] + (s->add_rows ? v : 0);
            if (s->position)
                v += in->position[a->positions[t] * s->dim + i];
            if (s->type)
                v += in->type[i];
            y[t * s->dim + i] = v;
            mean += v / (double)s->dim;
            greatest = fmax(greatest, fabs(v));
            gain = fmax(gain, fabs(in->gamma[i]));
        }
        for (int64_t i = 0; i < s->dim; i++)
            variance += pow(y[t * s->dim + i] - mean, 2) / (double)s->dim;
        bound[t] = s->norm ? 1e-6 * gain * greatest / sqrt(variance + 1e-5) : 3e-7 * greatest;
        for (int64_t i = 0; i < s->dim && s->norm; i++)
            y[t * s->dim + i] =
                (y[t * s->dim + i] - mean) / sqrt(variance + 1e-5) * in->gamma[i] + in->beta[i];
    }
}

static void run_shape(const struct shape *s, int32_t dtype) {
    static const int32_t ids[TOKENS] = {10, 0, 3, 3, 7, 1}, positions[TOKENS] = {0, 6, 2, 0, 1, 1};
    uint64_t seed = (uint64_t)s->dim;
    struct inputs in = {0};
    const size_t dim = (size_t)s->dim, bytes = TOKENS * dim * cuda_size(dtype);
    double *y = cuda_doubles(TOKENS * dim), bound[TOKENS];
    void *first = NULL;
    in.word = cuda_doubles(VOCABULARY * dim);
    in.position = cuda_doubles(POSITIONS * dim);
    in.type = cuda_doubles(dim);
    in.gamma = cuda_doubles(dim);
    in.beta = cuda_doubles(dim);
    emb_cuda_embed_lookup_args a = {
        .ids = cuda_copy(ids, sizeof ids),
        .positions = cuda_copy(positions, sizeof positions),
        .word = cuda_normals(&seed, VOCABULARY * dim, 1.0, dtype, in.word),
        .position = cuda_normals(&seed, POSITIONS * dim, 0.5, dtype, in.position),
        .type = cuda_normals(&seed, dim, 0.5, dtype, in.type),
        .gamma = cuda_normals(&seed, dim, 1.0, EMBED_F32, in.gamma),
        .beta = cuda_normals(&seed, dim, 1.0, EMBED_F32, in.beta),
        .tokens = TOKENS,
        .dim = s->dim,
        .dtype = dtype,
        .eps = 1e-5f,
    };
    if (s->rows_dtype != 0)
        make_rows(s, &a, &in, &seed);
    reference(s, &in, &a, y, bound);
    if (s->shifted)
        a.word = cuda_shifted(a.word, VOCABULARY * dim, dtype);
    if (!s->position) {
        a.position = NULL;
        a.positions = NULL;
    }
    if (!s->type)
        a.type = NULL;
    if (!s->norm)
        a.gamma = NULL;
    for (uint64_t order = 0; order < CUDA_SEEDS; order++) {
        a.y = cuda_output(bytes);
        emb_emulation_seed(order);
        cuda_worked("embed_lookup", emb_cuda_embed_lookup(cuda_exec(), &a));
        for (size_t t = 0; t < TOKENS; t++)
            cuda_close("embed_lookup", (char *)a.y + t * dim * cuda_size(dtype), dtype, y + t * dim,
                       dim, bound[t] + cuda_least(dtype), cuda_rounding(dtype) * 1.01);
        if (first != NULL)
            cuda_same("embed_lookup in another order of threads", first, a.y, bytes);
        first = a.y;
    }
    cuda_case_end();
}

static void rows_agree_with_double(void **state) {
    static const struct shape shapes[] = {
        {1, 0, 0, 0, 0, 0, 0},           {24, 1, 1, 1, 0, 0, 0},
        {768, 0, 1, 1, 0, EMBED_F16, 0}, {768, 1, 0, 1, 0, EMBED_BF16, 1},
        {257, 1, 1, 1, 1, EMBED_F32, 1}, {1000, 0, 0, 0, 1, EMBED_I8, 0},
        {40, 1, 1, 1, 0, EMBED_I8, 1},   {1032, 0, 1, 1, 0, EMBED_F32, 0},
        {96, 0, 0, 0, 0, EMBED_F16, 1},
    };
    (void)state;
    for (int d = 0; d < CUDA_DTYPES; d++)
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
            run_shape(&shapes[i], cuda_dtypes[d]);
}

/* Without norm and sums a row is copied bit for bit. */
static void plain_rows_are_copied(void **state) {
    (void)state;
    for (int d = 0; d < CUDA_DTYPES; d++) {
        const int32_t dtype = cuda_dtypes[d], ids[] = {4, 2};
        const size_t row = 33 * cuda_size(dtype);
        uint64_t seed = 2;
        char *word = cuda_normals(&seed, 5 * 33, 1.0, dtype, NULL);
        emb_cuda_embed_lookup_args a = {.ids = cuda_copy(ids, sizeof ids),
                                        .word = word,
                                        .tokens = 2,
                                        .dim = 33,
                                        .dtype = dtype};
        a.y = cuda_output(2 * row);
        cuda_worked("embed_lookup", emb_cuda_embed_lookup(cuda_exec(), &a));
        cuda_same("row 4", a.y, word + 4 * row, row);
        cuda_same("row 2", (char *)a.y + row, word + 2 * row, row);
        cuda_case_end();
    }
}

static void limits_are_refused(void **state) {
    const void *rows[] = {NULL};
    emb_cuda_embed_lookup_args a = {
        .rows = cuda_copy(rows, sizeof rows), .tokens = 1, .dim = 8, .dtype = EMBED_F32};
    (void)state;
    a.rows_dtype = EMBED_U8;
    assert_int_equal(emb_cuda_embed_lookup(cuda_exec(), &a), EMBED_ERR_INTERNAL);
    a.rows_dtype = EMBED_F32;
    a.dim = 0;
    assert_int_equal(emb_cuda_embed_lookup(cuda_exec(), &a), EMBED_ERR_INTERNAL);
    a.dim = 8;
    a.tokens = 0;
    cuda_worked("no tokens", emb_cuda_embed_lookup(cuda_exec(), &a));
    cuda_case_end();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_agree_with_double),
        cmocka_unit_test(plain_rows_are_copied),
        cmocka_unit_test(limits_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
