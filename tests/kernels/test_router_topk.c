#include "support/everywhere.h"

#include "kernels/router_topk/router_topk.h"

/* All outputs of one call, and the same in one row of floats for the comparison. */
struct routing {
    emb_router_topk_args args;
    float *flat;
    size_t n;
};

static size_t scratch(const emb_isa *isa, void *arg) {
    return emb_router_topk_scratch_bytes(isa, ((struct routing *)arg)->args.w.rows);
}

static size_t flat_floats(const emb_router_topk_args *a) {
    return (size_t)(4 * a->tokens * a->top_k + a->w.rows + 1 + 2 * a->w.rows);
}

static void run(emb_exec *exec, void *arg, float *out) {
    emb_router_topk_args *a = &((struct routing *)arg)->args;
    const int64_t pairs = a->tokens * a->top_k, experts = a->w.rows;
    memset(a->gate, 0xff, (size_t)pairs * sizeof *a->gate);
    assert_int_equal(emb_router_topk(exec, a), EMBED_OK);
    memcpy(out, a->gate, (size_t)pairs * sizeof *out);
    for (int64_t i = 0; i < pairs; i++) {
        out[pairs + i] = (float)a->expert[i];
        out[2 * pairs + i] = (float)a->slot[i];
        out[3 * pairs + i] = (float)a->rows[i];
    }
    for (int64_t e = 0; e <= experts; e++)
        out[4 * pairs + e] = (float)a->offset[e];
    memcpy(out + 4 * pairs + experts + 1, a->gate_sum, (size_t)experts * sizeof *a->gate_sum);
}

static void *exact(size_t count, size_t size) {
    void *p = malloc(count * size + (count == 0));
    assert_non_null(p);
    return p;
}

static void open_routing(struct routing *r, const float *x, emb_matrix w, const float *bias,
                         int64_t tokens, int32_t top_k, int32_t renormalize) {
    const size_t pairs = (size_t)(tokens * top_k), experts = (size_t)w.rows;
    r->args = (emb_router_topk_args){
        .x = x,
        .w = w,
        .bias = bias,
        .tokens = tokens,
        .top_k = top_k,
        .renormalize = renormalize,
        .gate = exact(pairs, sizeof(float)),
        .expert = exact(pairs, sizeof(int32_t)),
        .slot = exact(pairs, sizeof(int32_t)),
        .rows = exact(pairs, sizeof(int32_t)),
        .offset = exact(experts + 1, sizeof(int32_t)),
        .gate_sum = exact(experts, sizeof(double)),
    };
    r->n = flat_floats(&r->args);
    r->flat = exact(r->n, sizeof(float));
    test_everywhere(&(test_op){"router_topk", run, scratch, r, r->n}, r->flat);
}

static void close_routing(struct routing *r) {
    free(r->args.gate);
    free(r->args.expert);
    free(r->args.slot);
    free(r->args.rows);
    free(r->args.offset);
    free(r->args.gate_sum);
    free(r->flat);
}

/* Grouped by expert, tokens ascending, every pair once; sums in token order. */
static void check_grouping(const emb_router_topk_args *a) {
    int64_t slot = 0;
    for (int64_t e = 0; e < a->w.rows; e++) {
        double sum = 0;
        assert_int_equal(a->offset[e], slot);
        for (int64_t i = 0; i < a->tokens * a->top_k; i++) {
            if (a->expert[i] != e)
                continue;
            assert_int_equal(a->slot[i], slot);
            assert_int_equal(a->rows[slot], i / a->top_k);
            sum += (double)a->gate[i];
            slot++;
        }
        assert_true(a->gate_sum[e] == sum);
    }
    assert_int_equal(a->offset[a->w.rows], slot);
    assert_int_equal(slot, a->tokens * a->top_k);
}

/* p [experts] of token t in double. */
static void probabilities(const emb_router_topk_args *a, int64_t t, double *p) {
    double max = -INFINITY, sum = 0;
    for (int64_t e = 0; e < a->w.rows; e++) {
        p[e] = a->bias ? (double)a->bias[e] : 0;
        for (int64_t d = 0; d < a->w.cols; d++)
            p[e] += (double)a->x[t * a->w.cols + d] *
                    (double)((const float *)a->w.data)[e * a->w.cols + d];
        max = fmax(max, p[e]);
    }
    for (int64_t e = 0; e < a->w.rows; e++)
        sum += p[e] = exp(p[e] - max);
    for (int64_t e = 0; e < a->w.rows; e++)
        p[e] /= sum;
}

static void check_choice(const emb_router_topk_args *a) {
    double p[EMB_MAX_EXPERTS];
    for (int64_t t = 0; t < a->tokens; t++) {
        const int32_t *expert = a->expert + t * a->top_k;
        const float *gate = a->gate + t * a->top_k;
        double chosen = 0, total = 0;
        probabilities(a, t, p);
        for (int32_t j = 0; j < a->top_k; j++)
            chosen += p[expert[j]];
        for (int32_t j = 0; j < a->top_k; j++) {
            const double want = p[expert[j]] / (a->renormalize ? chosen : 1.0);
            if (!(fabs((double)gate[j] - want) <= 1e-5 * want + 1e-30))
                fail_msg("token %d choice %d: gate %.9g, want %.9g", (int)t, (int)j,
                         (double)gate[j], want);
            total += (double)gate[j];
            assert_true(j == 0 || gate[j] <= gate[j - 1]);
        }
        if (a->renormalize)
            assert_true(fabs(total - 1.0) <= 1e-6);
        for (int64_t e = 0; e < a->w.rows; e++) { /* nobody better was left out */
            int taken = 0;
            for (int32_t j = 0; j < a->top_k; j++)
                taken |= expert[j] == e;
            if (!taken && !(p[e] <= p[expert[a->top_k - 1]] * (1 + 1e-5)))
                fail_msg("token %d: expert %d of probability %.9g was left out for %.9g", (int)t,
                         (int)e, p[e], p[expert[a->top_k - 1]]);
        }
    }
}

static void choices_agree_with_double_everywhere(void **state) {
    (void)state;
    static const struct {
        int64_t tokens, dim, experts;
        int32_t top_k;
    } cases[] = {
        {0, 16, 4, 2},    {1, 1, 1, 1},     {1, 768, 8, 2},     {33, 17, 3, 3},   {64, 300, 16, 2},
        {101, 15, 17, 4}, {31, 513, 33, 5}, {40, 64, 256, 256}, {257, 768, 8, 2},
    };
    uint64_t seed = 9;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int variant = 0; variant < 4; variant++) {
            const int64_t D = cases[i].dim, E = cases[i].experts;
            float *x = test_normals(&seed, (size_t)(cases[i].tokens * D), 1.0);
            float *w = test_normals(&seed, (size_t)(E * D), 1.0 / sqrt((double)D));
            float *bias = test_normals(&seed, (size_t)E, 0.3);
            struct routing r;
            open_routing(&r, x, (emb_matrix){w, E, D, EMBED_F32, 0}, variant & 1 ? bias : NULL,
                         cases[i].tokens, cases[i].top_k, variant >> 1);
            check_choice(&r.args);
            check_grouping(&r.args);
            close_routing(&r);
            free(x);
            free(w);
            free(bias);
        }
}

static void ties_go_to_the_lower_expert(void **state) {
    (void)state;
    enum { T = 3, D = 5, E = 6 };
    float x[T * D], w[E * D];
    struct routing r;
    for (int i = 0; i < T * D; i++)
        x[i] = (float)(i % 7) - 3.0f;
    for (int i = 0; i < E * D; i++) /* experts 0 2 4 alike, experts 1 3 5 alike */
        w[i] = i / D % 2 ? 0.25f : -0.5f;
    open_routing(&r, x, (emb_matrix){w, E, D, EMBED_F32, 0}, NULL, T, E, 0);
    for (int t = 0; t < T; t++) {
        float sum = 0;
        for (int d = 0; d < D; d++)
            sum += x[t * D + d];
        const int first = sum > 0; /* which kind of expert is best */
        for (int j = 0; j < E; j++)
            assert_int_equal(r.args.expert[t * E + j],
                             sum == 0 ? j : j % 3 * 2 + (j < 3 ? first : !first));
    }
    check_grouping(&r.args);
    close_routing(&r);
}

static void a_token_does_not_see_its_neighbours(void **state) {
    (void)state;
    enum { T = 90, D = 70, E = 8, K = 2 };
    uint64_t seed = 10;
    float *x = test_normals(&seed, T * D, 1.0), *w = test_normals(&seed, E * D, 0.2);
    struct routing all, one;
    open_routing(&all, x, (emb_matrix){w, E, D, EMBED_F32, 0}, NULL, T, K, 0);
    for (int t = 0; t < T; t += 7) {
        open_routing(&one, x + t * D, (emb_matrix){w, E, D, EMBED_F32, 0}, NULL, 1, K, 0);
        test_same_bits("gates", one.args.gate, all.args.gate + t * K, K);
        assert_memory_equal(one.args.expert, all.args.expert + t * K, K * sizeof(int32_t));
        close_routing(&one);
    }
    close_routing(&all);
    free(x);
    free(w);
}

static void broken_numbers_still_give_valid_experts(void **state) {
    (void)state;
    enum { T = 2, D = 4, E = 5, K = 3 };
    float x[T * D] = {NAN, 0, 0, 0, INFINITY, 1, 1, 1}, w[E * D];
    struct routing r;
    for (int i = 0; i < E * D; i++)
        w[i] = (float)i - 7.0f;
    open_routing(&r, x, (emb_matrix){w, E, D, EMBED_F32, 0}, NULL, T, K, 0);
    for (int t = 0; t < T; t++)
        for (int j = 0; j < K; j++) {
            assert_in_range(r.args.expert[t * K + j], 0, E - 1);
            for (int i = 0; i < j; i++)
                assert_int_not_equal(r.args.expert[t * K + i], r.args.expert[t * K + j]);
        }
    assert_int_equal(r.args.offset[E], T * K);
    close_routing(&r);
}

static void half_weights_are_widened(void **state) {
    (void)state;
    enum { T = 20, D = 33, E = 4 };
    uint64_t seed = 12;
    float *x = test_normals(&seed, T * D, 1.0), *w = test_normals(&seed, E * D, 1.0);
    uint16_t half[E * D];
    struct routing a, b;
    for (int i = 0; i < E * D; i++) {
        uint32_t u;
        memcpy(&u, &w[i], 4);
        u &= 0xffff0000u;
        memcpy(&w[i], &u, 4);
        half[i] = (uint16_t)(u >> 16);
    }
    open_routing(&a, x, (emb_matrix){w, E, D, EMBED_F32, 0}, NULL, T, 2, 0);
    open_routing(&b, x, (emb_matrix){half, E, D, EMBED_BF16, 0}, NULL, T, 2, 0);
    test_same_bits("bfloat16 weights", a.flat, b.flat, a.n);
    close_routing(&a);
    close_routing(&b);
    free(x);
    free(w);
}

static void impossible_sizes_are_refused(void **state) {
    (void)state;
    const emb_isa *isas[EMB_ISA_MAX];
    emb_router_topk_args a = {.w = {NULL, 4, 8, EMBED_F32, 0}, .top_k = 5};
    test_exec e;
    (void)emb_isa_list(isas);
    test_exec_open(&e, isas[0], 1, 64);
    assert_int_equal(emb_router_topk(&e.exec, &a), EMBED_ERR_INTERNAL);
    a.top_k = 0;
    assert_int_equal(emb_router_topk(&e.exec, &a), EMBED_ERR_INTERNAL);
    a.top_k = 2;
    assert_int_equal(emb_router_topk(&e.exec, &a), EMBED_ERR_INTERNAL); /* too little scratch */
    assert_non_null(strstr(emb_fail_message(), "scratch"));
    test_exec_close(&e);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(choices_agree_with_double_everywhere),
        cmocka_unit_test(ties_go_to_the_lower_expert),
        cmocka_unit_test(a_token_does_not_see_its_neighbours),
        cmocka_unit_test(broken_numbers_still_give_valid_experts),
        cmocka_unit_test(half_weights_are_widened),
        cmocka_unit_test(impossible_sizes_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
