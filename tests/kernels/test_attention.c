#include "support/everywhere.h"

#include "kernels/attention/attention.h"

struct problem {
    emb_attention_args args;
    int64_t max_len;
    float *qkv, *cos, *sin;
};

static size_t scratch(const emb_isa *isa, void *arg) {
    const struct problem *p = arg;
    size_t bytes;
    assert_int_equal(emb_attention_scratch_bytes(isa, p->max_len, p->args.head_dim, &bytes),
                     EMBED_OK);
    return bytes;
}

static void run(emb_exec *exec, void *arg, float *out) {
    emb_attention_args a = ((struct problem *)arg)->args;
    a.out = out;
    assert_int_equal(emb_attention(exec, &a), EMBED_OK);
}

static void open_problem(struct problem *p, uint64_t *seed, const int32_t *offsets, int64_t texts,
                         int32_t heads, int32_t dim, int32_t rotary) {
    const size_t tokens = (size_t)offsets[texts], half = (size_t)rotary / 2;
    p->max_len = 0;
    for (int64_t i = 0; i < texts; i++)
        if (offsets[i + 1] - offsets[i] > p->max_len)
            p->max_len = offsets[i + 1] - offsets[i];
    p->qkv = test_normals(seed, tokens * 3 * (size_t)(heads * dim), 1.0);
    p->cos = malloc((size_t)p->max_len * half * sizeof(float) + 1);
    p->sin = malloc((size_t)p->max_len * half * sizeof(float) + 1);
    assert_true(p->cos != NULL && p->sin != NULL);
    for (size_t t = 0; t < (size_t)p->max_len; t++)
        for (size_t i = 0; i < half; i++) {
            const double angle = (double)t * pow(10000.0, -2.0 * (double)i / rotary);
            p->cos[t * half + i] = (float)cos(angle);
            p->sin[t * half + i] = (float)sin(angle);
        }
    p->args = (emb_attention_args){.qkv = p->qkv,
                                   .offsets = offsets,
                                   .texts = texts,
                                   .heads = heads,
                                   .head_dim = dim,
                                   .rotary_dim = rotary,
                                   .scale = (float)(1.0 / sqrt((double)dim)),
                                   .cos = rotary ? p->cos : NULL,
                                   .sin = rotary ? p->sin : NULL};
}

static void close_problem(struct problem *p) {
    free(p->qkv);
    free(p->cos);
    free(p->sin);
}

/* Element d of the query (part 0), key (1) or value (2) of one token, rotated. */
static double element(const emb_attention_args *a, int64_t token, int64_t pos, int part, int head,
                      int64_t d) {
    const int64_t width = (int64_t)a->heads * a->head_dim, half = a->rotary_dim / 2;
    const float *x = a->qkv + token * 3 * width + part * width + (int64_t)head * a->head_dim;
    if (part == 2 || d >= a->rotary_dim || a->cos == NULL)
        return (double)x[d];
    const int64_t i = d % half;
    const double c = (double)a->cos[pos * half + i], s = (double)a->sin[pos * half + i];
    return d < half ? (double)x[d] * c - (double)x[d + half] * s
                    : (double)x[d] * c + (double)x[d - half] * s;
}

/* out[row, head, :] of one text in double. */
static void reference(const emb_attention_args *a, int64_t text, int64_t row, int head,
                      double *out) {
    const int64_t start = a->offsets[text], len = a->offsets[text + 1] - start;
    double *p = malloc((size_t)(len + a->head_dim) * sizeof *p), *q = p + len;
    double max = -INFINITY, sum = 0;
    assert_non_null(p);
    for (int64_t d = 0; d < a->head_dim; d++)
        q[d] = element(a, start + row, row, 0, head, d);
    for (int64_t j = 0; j < len; j++) {
        p[j] = 0;
        for (int64_t d = 0; d < a->head_dim; d++)
            p[j] += q[d] * element(a, start + j, j, 1, head, d);
        p[j] *= (double)a->scale;
        max = fmax(max, p[j]);
    }
    for (int64_t j = 0; j < len; j++)
        sum += p[j] = exp(p[j] - max);
    for (int64_t d = 0; d < a->head_dim; d++)
        out[d] = 0;
    for (int64_t j = 0; j < len; j++)
        for (int64_t d = 0; d < a->head_dim; d++)
            out[d] += p[j] / sum * element(a, start + j, j, 2, head, d);
    free(p);
}

/* Every `step`-th token against double. */
static void check(const emb_attention_args *a, const float *out, int64_t step) {
    const int64_t width = (int64_t)a->heads * a->head_dim;
    double want[256];
    for (int64_t text = 0; text < a->texts; text++)
        for (int64_t t = a->offsets[text]; t < a->offsets[text + 1]; t++)
            for (int head = 0; head < a->heads && t % step == 0; head++) {
                reference(a, text, t - a->offsets[text], head, want);
                test_close("attention", out + t * width + (int64_t)head * a->head_dim, want,
                           (size_t)a->head_dim, 3e-6, 0);
            }
}

static void one_case(uint64_t *seed, const int32_t *offsets, int64_t texts, int32_t heads,
                     int32_t dim, int32_t rotary, int64_t step) {
    struct problem p;
    open_problem(&p, seed, offsets, texts, heads, dim, rotary);
    const size_t n = (size_t)offsets[texts] * (size_t)(heads * dim);
    float *out = malloc(n * sizeof *out + 1);
    assert_non_null(out);
    test_everywhere(&(test_op){"attention", run, scratch, &p, n}, out);
    check(&p.args, out, step);
    free(out);
    close_problem(&p);
}

static void texts_agree_with_double_everywhere(void **state) {
    (void)state;
    static const int32_t offsets[] = {0, 1, 3, 18, 34, 51, 82, 145, 274, 275};
    static const struct {
        int32_t heads, dim, rotary;
    } shapes[] = {{1, 1, 0},  {2, 2, 2},   {3, 15, 0},  {1, 16, 16}, {2, 17, 6},
                  {5, 32, 0}, {2, 64, 64}, {1, 80, 34}, {1, 97, 96}, {1, 256, 256}};
    uint64_t seed = 15;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        one_case(&seed, offsets, 9, shapes[i].heads, shapes[i].dim, shapes[i].rotary,
                 shapes[i].heads * shapes[i].dim > 100 ? 5 : 1);
}

static void long_texts_cross_every_block(void **state) {
    (void)state;
    uint64_t seed = 16;
    static const int32_t lengths[] = {256, 257, 700};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        const int32_t offsets[] = {0, 5, 5 + lengths[i], 5 + lengths[i] + 33};
        one_case(&seed, offsets, 3, 1, 8, 8, 37);
    }
}

static void thousands_of_tiny_texts(void **state) {
    (void)state;
    enum { TEXTS = 2000 };
    uint64_t seed = 17;
    int32_t *offsets = malloc((TEXTS + 1) * sizeof *offsets);
    assert_non_null(offsets);
    offsets[0] = 0;
    for (int i = 0; i < TEXTS; i++)
        offsets[i + 1] = offsets[i] + 1 + (int32_t)(test_rand(&seed) % 4);
    one_case(&seed, offsets, TEXTS, 2, 8, 8, 53);
    free(offsets);
}

static void a_text_does_not_see_its_neighbours(void **state) {
    (void)state;
    static const int32_t offsets[] = {0, 100, 104, 404, 500, 501};
    enum { TEXTS = 5, HEADS = 2, DIM = 10, WIDTH = HEADS * DIM };
    uint64_t seed = 18;
    struct problem p;
    open_problem(&p, &seed, offsets, TEXTS, HEADS, DIM, DIM);
    float *all = malloc((size_t)offsets[TEXTS] * WIDTH * sizeof *all);
    assert_non_null(all);
    test_everywhere(&(test_op){"attention", run, scratch, &p, (size_t)offsets[TEXTS] * WIDTH}, all);
    for (int i = 0; i < TEXTS; i++) {
        const int32_t len = offsets[i + 1] - offsets[i], alone[] = {0, len};
        struct problem q = p;
        float *one = malloc((size_t)len * WIDTH * sizeof *one);
        assert_non_null(one);
        q.args.qkv = p.qkv + (int64_t)offsets[i] * 3 * WIDTH;
        q.args.offsets = alone;
        q.args.texts = 1;
        q.max_len = len;
        test_everywhere(&(test_op){"one text", run, scratch, &q, (size_t)len * WIDTH}, one);
        test_same_bits("a text alone", one, all + (int64_t)offsets[i] * WIDTH, (size_t)len * WIDTH);
        free(one);
    }
    close_problem(&p);
    free(all);
}

/* Scores of +-thousands: the softmax neither overflows nor divides by zero. */
static void large_scores_pick_one_value(void **state) {
    (void)state;
    enum { LEN = 40, DIM = 4 };
    static const int32_t offsets[] = {0, LEN};
    uint64_t seed = 19;
    struct problem p;
    float out[LEN * DIM];
    open_problem(&p, &seed, offsets, 1, 1, DIM, 0);
    for (int i = 0; i < LEN; i++)
        for (int d = 0; d < DIM; d++) {
            p.qkv[i * 3 * DIM + d] = d == 0 ? 1000.0f : 0.0f;
            p.qkv[i * 3 * DIM + DIM + d] = (float)i;
        }
    test_everywhere(&(test_op){"large scores", run, scratch, &p, LEN * DIM}, out);
    for (int i = 0; i < LEN; i++)
        test_same_bits("the last value", out + i * DIM, p.qkv + (LEN - 1) * 3 * DIM + 2 * DIM, DIM);
    close_problem(&p);
}

static void nothing_and_impossible_sizes(void **state) {
    (void)state;
    const int32_t offsets[] = {0, 70};
    const emb_isa *isas[EMB_ISA_MAX];
    emb_attention_args a = {.offsets = offsets, .heads = 1, .head_dim = 8, .scale = 1.0f};
    test_exec e;
    (void)emb_isa_list(isas);
    test_exec_open(&e, isas[0], 1, 64);
    assert_int_equal(emb_attention(&e.exec, &a), EMBED_OK); /* no texts */
    a.texts = 1;
    assert_int_equal(emb_attention(&e.exec, &a), EMBED_ERR_INTERNAL);
    assert_non_null(strstr(emb_fail_message(), "scratch"));
    a.head_dim = 257;
    assert_int_equal(emb_attention(&e.exec, &a), EMBED_ERR_INTERNAL);
    test_exec_close(&e);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_agree_with_double_everywhere),
        cmocka_unit_test(long_texts_cross_every_block),
        cmocka_unit_test(thousands_of_tiny_texts),
        cmocka_unit_test(a_text_does_not_see_its_neighbours),
        cmocka_unit_test(large_scores_pick_one_value),
        cmocka_unit_test(nothing_and_impossible_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
