#include "cuda/cuda_case.h"

#include "kernels/attention/attention_cuda.h"

struct shape {
    int32_t heads, head_dim, rotary_dim;
    int shifted;
    int texts;
    const int32_t *lengths;
};

/* Row (text position p) of a head of q (0), k (1) or v (2) in double, q and k rotated. */
static void head_row(const struct shape *s, const double *qkv, const double *cos, const double *sin,
                     int64_t token, int position, int part, int head, double *row) {
    const int64_t dim = s->head_dim, half = s->rotary_dim / 2;
    const double *x = qkv + (token * 3 + part) * s->heads * dim + head * dim;
    for (int64_t d = 0; d < dim; d++)
        row[d] = x[d];
    for (int64_t d = 0; d < half && part < 2; d++) {
        const double c = cos[position * half + d], n = sin[position * half + d];
        row[d] = x[d] * c - x[d + half] * n;
        row[d + half] = x[d + half] * c + x[d] * n;
    }
}

/* One text and head: out [length, hd]; returns the greatest |v|, and through `score` the greatest
 * |q||k| scale. */
static double reference(const struct shape *s, const double *qkv, const double *cos,
                        const double *sin, double scale, int64_t start, int length, int head,
                        double *out, double *score) {
    const int64_t dim = s->head_dim;
    double *q = cuda_doubles((size_t)dim), *k = cuda_doubles((size_t)(length * dim));
    double *v = cuda_doubles((size_t)(length * dim)), *w = cuda_doubles((size_t)length);
    double greatest = 0, longest_q = 0, longest_k = 0;
    for (int j = 0; j < length; j++) {
        double square = 0;
        head_row(s, qkv, cos, sin, start + j, j, 1, head, k + j * dim);
        head_row(s, qkv, cos, sin, start + j, j, 2, head, v + j * dim);
        for (int64_t d = 0; d < dim; d++) {
            greatest = fmax(greatest, fabs(v[j * dim + d]));
            square += k[j * dim + d] * k[j * dim + d];
        }
        longest_k = fmax(longest_k, sqrt(square));
    }
    for (int i = 0; i < length; i++) {
        double max = -INFINITY, sum = 0, square = 0;
        head_row(s, qkv, cos, sin, start + i, i, 0, head, q);
        for (int j = 0; j < length; j++) {
            w[j] = 0;
            for (int64_t d = 0; d < dim; d++)
                w[j] += q[d] * k[j * dim + d] * scale;
            max = fmax(max, w[j]);
        }
        for (int j = 0; j < length; j++)
            sum += w[j] = exp(w[j] - max);
        for (int64_t d = 0; d < dim; d++) {
            double o = 0;
            for (int j = 0; j < length; j++)
                o += w[j] / sum * v[j * dim + d];
            out[i * dim + d] = o;
            square += q[d] * q[d];
        }
        longest_q = fmax(longest_q, sqrt(square));
    }
    *score = longest_q * longest_k * scale;
    return greatest;
}

static void check(const struct shape *s, const emb_cuda_attention_args *a, const double *qkv,
                  const double *cos, const double *sin) {
    const int64_t dim = s->head_dim;
    for (int text = 0; text < s->texts; text++)
        for (int head = 0; head < s->heads; head++) {
            const int64_t start = a->offsets[text];
            const int length = s->lengths[text];
            double *want = cuda_doubles((size_t)(length * dim)), score;
            const double v =
                reference(s, qkv, cos, sin, (double)a->scale, start, length, head, want, &score);
            const double u = cuda_rounding(a->dtype);
            const double bound = a->dtype == EMBED_F32 || (dim != 32 && dim != 64 && dim != 128)
                                     ? u * v + (16 + 2 * score * sqrt((double)dim)) * 0x1p-24 * v
                                     : 4 * u * (1 + score) * v;
            double wrong = 0, size = 0; /* and on the whole far better than at worst */
            for (int i = 0; i < length; i++) {
                const char *got = (const char *)a->out + (size_t)((start + i) * s->heads + head) *
                                                             (size_t)dim * cuda_size(a->dtype);
                cuda_close("attention", got, a->dtype, want + i * dim, (size_t)dim, bound, 0);
                for (int64_t d = 0; d < dim; d++) {
                    const double w = want[i * dim + d], g = cuda_at(got, a->dtype, (size_t)d);
                    wrong += (g - w) * (g - w);
                    size += w * w;
                }
            }
            if (!(sqrt(wrong) <= (a->dtype == EMBED_F32 ? 16 : 3) * u * sqrt(size)))
                fail_msg("type %d, head_dim %d, %d tokens: relative error %.3g", (int)a->dtype,
                         (int)dim, length, sqrt(wrong / size));
        }
}

static void run_shape(const struct shape *s, int32_t dtype) {
    uint64_t seed = (uint64_t)(s->head_dim * 7 + s->texts);
    int32_t *offsets = cuda_output((size_t)(s->texts + 1) * sizeof *offsets);
    int longest = 1;
    offsets[0] = 0;
    for (int i = 0; i < s->texts; i++) {
        offsets[i + 1] = offsets[i] + s->lengths[i];
        longest = s->lengths[i] > longest ? s->lengths[i] : longest;
    }
    const size_t tokens = (size_t)offsets[s->texts], width = (size_t)(s->heads * s->head_dim);
    const size_t half = (size_t)s->rotary_dim / 2, angles = (size_t)longest * half;
    const size_t bytes = tokens * width * cuda_size(dtype);
    double *qkv = cuda_doubles(tokens * 3 * width);
    double *cos_f64 = cuda_doubles(angles), *sin_f64 = cuda_doubles(angles);
    float *cos_f32 = cuda_normals(&seed, angles, 1.0, EMBED_F32, NULL);
    float *sin_f32 = cuda_normals(&seed, angles, 1.0, EMBED_F32, NULL);
    for (size_t i = 0; i < angles; i++) {
        const double angle = (double)(i / half) * pow(10000, -(double)(i % half) / (double)half);
        cos_f64[i] = (double)(cos_f32[i] = (float)cos(angle));
        sin_f64[i] = (double)(sin_f32[i] = (float)sin(angle));
    }
    emb_cuda_attention_args a = {
        .qkv = cuda_normals(&seed, tokens * 3 * width, 1.0, dtype, qkv),
        .offsets = offsets,
        .cos = half > 0 ? cos_f32 : NULL,
        .sin = half > 0 ? sin_f32 : NULL,
        .tokens = (int64_t)tokens,
        .texts = s->texts,
        .heads = s->heads,
        .head_dim = s->head_dim,
        .rotary_dim = s->rotary_dim,
        .dtype = dtype,
        .scale = (float)(1 / sqrt((double)s->head_dim)),
    };
    void *first = NULL;
    if (s->shifted)
        a.qkv = cuda_shifted(a.qkv, tokens * 3 * width, dtype);
    for (uint64_t order = 0; order < CUDA_SEEDS; order++) {
        a.out = cuda_output(bytes);
        emb_emulation_seed(order);
        cuda_worked("attention", emb_cuda_attention(cuda_exec(), &a));
        if (first == NULL)
            check(s, &a, qkv, cos_f64, sin_f64);
        else
            cuda_same("attention in another order of threads", first, a.out, bytes);
        first = a.out;
    }
    cuda_case_end();
}

static void heads_agree_with_double(void **state) {
    static const int32_t edges[] = {1, 63, 64, 65, 2}, gaps[] = {0, 5, 0, 0, 17, 0},
                         longer[] = {131, 3}, prime[] = {31, 1, 67};
    static const struct shape shapes[] = {
        {2, 32, 32, 0, 5, edges},    {1, 64, 64, 0, 5, edges}, {1, 64, 0, 1, 3, prime},
        {2, 128, 128, 0, 2, longer}, {1, 64, 32, 0, 6, gaps},  {2, 32, 12, 1, 6, gaps},
        {3, 24, 24, 0, 3, prime},    {1, 1, 0, 0, 3, prime},   {1, 80, 20, 1, 6, gaps},
        {1, 256, 256, 0, 6, gaps},   {1, 33, 2, 0, 3, prime},
    };
    (void)state;
    for (int d = 0; d < CUDA_DTYPES; d++)
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
            run_shape(&shapes[i], cuda_dtypes[d]);
}

/* The same text alone, and between two others. */
static void a_text_does_not_see_its_batch(void **state) {
    enum { HEADS = 2, LENGTH = 70, BEFORE = 37, AFTER = 9 };
    (void)state;
    for (int d = 0; d < CUDA_DTYPES; d++) {
        const int32_t dtype = cuda_dtypes[d], dim = d == 1 ? 32 : 64;
        const int32_t alone[] = {0, LENGTH};
        const int32_t between[] = {0, BEFORE, BEFORE + LENGTH, BEFORE + LENGTH + AFTER};
        const size_t row = (size_t)(HEADS * dim) * cuda_size(dtype);
        uint64_t seed = 3;
        const size_t all = BEFORE + LENGTH + AFTER;
        char *qkv = cuda_normals(&seed, all * 3 * HEADS * (size_t)dim, 1.0, dtype, NULL);
        memset(qkv, 0xff, BEFORE * 3 * row); /* NaN next door */
        emb_cuda_attention_args a = {.qkv = qkv,
                                     .offsets = cuda_copy(between, sizeof between),
                                     .tokens = (int64_t)all,
                                     .texts = 3,
                                     .heads = HEADS,
                                     .head_dim = dim,
                                     .dtype = dtype,
                                     .scale = 0.125f};
        emb_cuda_attention_args b = a;
        a.out = cuda_output(all * row);
        cuda_worked("between", emb_cuda_attention(cuda_exec(), &a));
        b.qkv = cuda_copy(qkv + BEFORE * 3 * row, LENGTH * 3 * row);
        b.offsets = cuda_copy(alone, sizeof alone);
        b.texts = 1;
        b.tokens = LENGTH;
        b.out = cuda_output(LENGTH * row);
        cuda_worked("alone", emb_cuda_attention(cuda_exec(), &b));
        cuda_same("a text alone and between others", (char *)a.out + BEFORE * row, b.out,
                  LENGTH * row);
        cuda_case_end();
    }
}

/* Scores of thousands: the greatest decides, nothing overflows. */
static void great_scores(void **state) {
    (void)state;
    for (int d = 0; d < CUDA_DTYPES; d++) {
        const int32_t dtype = cuda_dtypes[d], offsets[] = {0, 66};
        uint64_t seed = 8;
        double *qkv = cuda_doubles(66 * 96);
        emb_cuda_attention_args a = {.offsets = cuda_copy(offsets, sizeof offsets),
                                     .tokens = 66,
                                     .texts = 1,
                                     .heads = 1,
                                     .head_dim = 32,
                                     .dtype = dtype,
                                     .scale = 50.0f};
        a.qkv = cuda_normals(&seed, 66 * 96, 2.0, dtype, qkv);
        a.out = cuda_output(66 * 32 * cuda_size(dtype));
        cuda_worked("attention", emb_cuda_attention(cuda_exec(), &a));
        for (size_t i = 0; i < 66 * 32; i++)
            assert_true(fabs(cuda_at(a.out, dtype, i)) < 12);
        cuda_case_end();
    }
}

static void limits_are_refused(void **state) {
    const struct {
        int32_t head_dim, rotary_dim;
        float scale;
    } wrong[] = {{0, 0, 1}, {257, 0, 1}, {64, 66, 1}, {64, 3, 1}, {64, 0, 0}, {64, 0, NAN}};
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(emb_cuda_attention(cuda_exec(),
                                            &(emb_cuda_attention_args){
                                                .tokens = 1,
                                                .texts = 1,
                                                .heads = 1,
                                                .dtype = EMBED_F16,
                                                .head_dim = wrong[i].head_dim,
                                                .rotary_dim = wrong[i].rotary_dim,
                                                .scale = wrong[i].scale,
                                            }),
                         EMBED_ERR_INTERNAL);
    cuda_worked("no texts",
                emb_cuda_attention(cuda_exec(), &(emb_cuda_attention_args){
                                                    .heads = 1, .head_dim = 64, .scale = 1}));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heads_agree_with_double),
        cmocka_unit_test(a_text_does_not_see_its_batch),
        cmocka_unit_test(great_scores),
        cmocka_unit_test(limits_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
