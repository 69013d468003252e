#include "cuda/cuda_case.h"

#include "kernels/router_topk/router_topk_cuda.h"

struct shape {
    int64_t tokens;
    int32_t experts, top_k, renormalize;
    int64_t count; /* of the tokens, -1: all */
};

typedef emb_cuda_router_topk_args routing;

static void open_routing(routing *a, const struct shape *s, const float *logits) {
    const size_t pairs = (size_t)(s->tokens * s->top_k), experts = (size_t)s->experts;
    *a = (routing){
        .logits = logits,
        .gate = cuda_output(pairs * sizeof(float)),
        .expert = cuda_output(pairs * sizeof(int32_t)),
        .slot = cuda_output(pairs * sizeof(int32_t)),
        .rows = cuda_output(pairs * sizeof(int32_t)),
        .offset = cuda_output((experts + 1) * sizeof(int32_t)),
        .expert_tokens = cuda_output(experts * sizeof(uint64_t)),
        .gate_sum = cuda_output(experts * sizeof(double)),
        .scratch = cuda_output(emb_cuda_router_topk_scratch_bytes(s->tokens, s->experts)),
        .tokens = s->tokens,
        .experts = s->experts,
        .top_k = s->top_k,
        .renormalize = s->renormalize,
    };
    memset(a->expert_tokens, 0, experts * sizeof(uint64_t));
    for (size_t e = 0; e < experts; e++)
        a->gate_sum[e] = 0;
}

/* Grouped by expert, tokens ascending, every pair once; sums as counted here. */
static void check_grouping(const routing *a, int64_t tokens) {
    int64_t slot = 0;
    for (int32_t e = 0; e < a->experts; e++) {
        double sum = 0;
        assert_int_equal(a->offset[e], slot);
        for (int64_t i = 0; i < tokens * a->top_k; i++) {
            if (a->expert[i] != e)
                continue;
            assert_int_equal(a->slot[i], slot);
            assert_int_equal(a->rows[slot], i / a->top_k);
            sum += (double)a->gate[i];
            slot++;
        }
        assert_int_equal(a->expert_tokens[e], slot - a->offset[e]);
        assert_true(fabs(a->gate_sum[e] - sum) <= 1e-12 * sum);
    }
    assert_int_equal(a->offset[a->experts], slot);
    assert_int_equal(slot, tokens * a->top_k);
}

/* Choices as the plain definition makes them from the same logits. */
static void check_choice(const routing *a, int64_t tokens) {
    for (int64_t t = 0; t < tokens; t++) {
        const float *logit = a->logits + t * a->experts;
        double max = -INFINITY, sum = 0, chosen = 0;
        unsigned char taken[256] = {0};
        for (int32_t e = 0; e < a->experts; e++)
            max = fmax(max, (double)logit[e]);
        for (int32_t e = 0; e < a->experts; e++)
            sum += exp((double)logit[e] - max);
        for (int32_t j = 0; j < a->top_k; j++)
            chosen += exp((double)logit[a->expert[t * a->top_k + j]] - max);
        for (int32_t j = 0; j < a->top_k; j++) {
            int32_t best = -1;
            for (int32_t e = 0; e < a->experts; e++)
                if (!taken[e] && (best < 0 || logit[e] > logit[best]))
                    best = e;
            const int32_t got = a->expert[t * a->top_k + j];
            assert_in_range(got, 0, a->experts - 1);
            assert_false(taken[got]);
            /* logits so near that their probabilities are equal in f32 may change places */
            if (got != best && !((double)logit[best] - (double)logit[got] < 1e-6))
                fail_msg("token %d, choice %d: expert %d of %d", (int)t, (int)j, got, best);
            taken[got] = 1;
            const double want = exp((double)logit[got] - max) / (a->renormalize ? chosen : sum);
            const double bound =
                (8 + max - (double)logit[got]) * (a->renormalize ? 2 : 1) * 0x1p-24;
            const double gate = (double)a->gate[t * a->top_k + j];
            if (!(fabs(gate - want) <= bound * want + 1e-37))
                fail_msg("token %d, choice %d: gate %.9g, want %.9g", (int)t, (int)j, gate, want);
        }
    }
}

static void run_shape(const struct shape *s, const float *logits) {
    routing first, a;
    const int32_t count = (int32_t)s->count;
    const int64_t tokens = s->count >= 0 ? s->count : s->tokens;
    const size_t pairs = (size_t)(tokens * s->top_k), experts = (size_t)s->experts;
    for (uint64_t order = 0; order < CUDA_SEEDS; order++) {
        open_routing(&a, s, logits);
        a.count = s->count >= 0 ? cuda_copy(&count, sizeof count) : NULL;
        emb_emulation_seed(order);
        cuda_worked("router_topk", emb_cuda_router_topk(cuda_exec(), &a));
        check_grouping(&a, tokens);
        check_choice(&a, tokens);
        if (order > 0) {
            cuda_same("gate", first.gate, a.gate, pairs * sizeof *a.gate);
            cuda_same("gate_sum", first.gate_sum, a.gate_sum, experts * sizeof *a.gate_sum);
        } else {
            first = a;
        }
    }
    cuda_case_end();
}

static void choices_agree_with_the_definition(void **state) {
    static const struct shape shapes[] = {
        {1, 1, 1, 0, -1},    {1, 8, 2, 0, -1},    {63, 8, 2, 1, -1},   {64, 8, 1, 0, -1},
        {65, 8, 2, 0, -1},   {127, 2, 2, 1, -1},  {129, 64, 4, 0, -1}, {200, 33, 3, 1, -1},
        {67, 256, 8, 0, -1}, {61, 31, 16, 1, -1}, {130, 32, 4, 0, -1}, {2305, 4, 3, 0, -1},
        {40, 70, 3, 0, -1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        uint64_t seed = i;
        const size_t n = (size_t)(shapes[i].tokens * shapes[i].experts);
        run_shape(&shapes[i], cuda_normals(&seed, n, 2.0, EMBED_F32, NULL));
    }
}

static void only_counted_tokens_are_routed(void **state) {
    static const struct shape shapes[] = {
        {40, 8, 2, 0, 7}, {64, 8, 2, 0, 0}, {300, 8, 2, 0, 131}, {300, 8, 4, 0, 128}};
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        uint64_t seed = i; /* logits of just the tokens that are there */
        const size_t n = (size_t)(shapes[i].count * shapes[i].experts);
        run_shape(&shapes[i], cuda_normals(&seed, n, 1.0, EMBED_F32, NULL));
    }
}

static void all_to_one_expert_and_one_empty(void **state) {
    uint64_t seed = 3;
    float *logits = cuda_normals(&seed, 150 * 8, 1.0, EMBED_F32, NULL);
    (void)state;
    for (int t = 0; t < 150; t++) {
        logits[t * 8 + 5] = 50;
        logits[t * 8 + 2] = -100;
    }
    run_shape(&(struct shape){150, 8, 1, 0, -1}, logits);
    logits = cuda_normals(&seed, 70 * 8, 1.0, EMBED_F32, NULL);
    for (int t = 0; t < 70; t++)
        logits[t * 8 + 2] = -100;
    run_shape(&(struct shape){70, 8, 4, 1, -1}, logits);
}

static void ties_go_to_the_lower_expert(void **state) {
    uint64_t seed = 4;
    float *logits = cuda_normals(&seed, 66 * 40, 1.0, EMBED_F32, NULL);
    routing a;
    (void)state;
    for (int i = 0; i < 66 * 40; i++)
        logits[i] = (float)(i % 40 == 3 || i % 40 == 35 || i % 40 == 36);
    open_routing(&a, &(struct shape){66, 40, 4, 0, -1}, logits);
    cuda_worked("router_topk", emb_cuda_router_topk(cuda_exec(), &a));
    for (int t = 0; t < 66; t++) {
        static const int32_t want[] = {3, 35, 36, 0};
        cuda_same("choices", a.expert + t * 4, want, sizeof want);
    }
    cuda_case_end();
}

static void not_a_number_still_gives_distinct_experts(void **state) {
    uint64_t seed = 4;
    float *logits = cuda_normals(&seed, 3 * 8, 1.0, EMBED_F32, NULL);
    routing a;
    (void)state;
    logits[1] = NAN;
    logits[8] = INFINITY;
    for (int e = 0; e < 8; e++)
        logits[16 + e] = NAN;
    open_routing(&a, &(struct shape){3, 8, 3, 1, -1}, logits);
    cuda_worked("router_topk", emb_cuda_router_topk(cuda_exec(), &a));
    for (int t = 0; t < 3; t++)
        for (int j = 0; j < 3; j++) {
            assert_in_range(a.expert[t * 3 + j], 0, 7);
            for (int i = 0; i < j; i++)
                assert_int_not_equal(a.expert[t * 3 + j], a.expert[t * 3 + i]);
        }
    assert_int_equal(a.offset[8], 9);
    cuda_case_end();
}

static void statistics_add_up_over_calls(void **state) {
    uint64_t seed = 9;
    routing a;
    (void)state;
    open_routing(&a, &(struct shape){90, 4, 2, 0, -1},
                 cuda_normals(&seed, 360, 1.0, EMBED_F32, NULL));
    cuda_worked("first", emb_cuda_router_topk(cuda_exec(), &a));
    const double once = a.gate_sum[3];
    cuda_worked("second", emb_cuda_router_topk(cuda_exec(), &a));
    assert_true(a.gate_sum[3] == 2 * once);
    assert_int_equal(a.expert_tokens[3], 2 * (a.offset[4] - a.offset[3]));
    cuda_case_end();
}

static void limits_are_refused(void **state) {
    const struct shape wrong[] = {{1, 0, 1, 0, 0},   {1, 257, 1, 0, 0}, {1, 4, 5, 0, 0},
                                  {1, 64, 17, 0, 0}, {1, 4, 0, 0, 0},   {-1, 4, 1, 0, 0}};
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(emb_cuda_router_topk(cuda_exec(), &(routing){.tokens = wrong[i].tokens,
                                                                      .experts = wrong[i].experts,
                                                                      .top_k = wrong[i].top_k}),
                         EMBED_ERR_INTERNAL);
    cuda_worked("no tokens",
                emb_cuda_router_topk(cuda_exec(), &(routing){.experts = 4, .top_k = 2}));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(choices_agree_with_the_definition),
        cmocka_unit_test(only_counted_tokens_are_routed),
        cmocka_unit_test(all_to_one_expert_and_one_empty),
        cmocka_unit_test(ties_go_to_the_lower_expert),
        cmocka_unit_test(not_a_number_still_gives_distinct_experts),
        cmocka_unit_test(statistics_add_up_over_calls),
        cmocka_unit_test(limits_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
