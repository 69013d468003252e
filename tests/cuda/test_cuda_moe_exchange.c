/* The three steps of an exchange of tokens, with the all-to-alls between them done by hand: against
 * their references, and whole: every row comes to its expert and back to its pair. */
#include "cuda/cuda_case.h"

#include "kernels/moe_exchange/moe_exchange.h"

enum { MOST_RANKS = EMB_MOE_RANKS, MOST_EXPERTS = 256, MOST_TOKENS = 70, MOST_K = 8 };

struct shape {
    int32_t ranks, experts, top_k;
    int64_t row_bytes;
    int64_t tokens[4]; /* of rank r: tokens[r % 4] */
    int32_t only;      /* tokens choose experts from this one on, as few as can be; -1: any */
};

/* One rank, before and after. */
struct rank {
    int64_t tokens;
    int32_t *expert, *slot, *offset, *place, *counts;
    unsigned char *x, *send, *result;
};

static const struct shape *shape;
static struct rank ranks[MOST_RANKS];

static int32_t width(int32_t d) {
    return emb_moe_width(shape->experts, shape->ranks, shape->top_k, d);
}

static int32_t before(int32_t d) {
    return emb_moe_before(shape->experts, shape->ranks, shape->top_k, d);
}

/* Choices and what the router makes of them. */
static void route(struct rank *r, uint64_t *seed) {
    const int32_t k = shape->top_k, n = shape->experts;
    int32_t at = 0;
    r->expert = cuda_output((size_t)(r->tokens * k) * sizeof(int32_t));
    r->slot = cuda_output((size_t)(r->tokens * k) * sizeof(int32_t));
    r->offset = cuda_output((size_t)(n + 1) * sizeof(int32_t));
    for (int64_t t = 0; t < r->tokens; t++) {
        const int32_t start =
            shape->only >= 0 ? shape->only : (int32_t)(test_rand(seed) % (uint64_t)n);
        const int32_t step = n % 2 == 1 && n > 2 * k && shape->only < 0 ? 2 : 1;
        for (int32_t j = 0; j < k; j++)
            r->expert[t * k + j] = (start + j * step) % n;
    }
    for (int32_t e = 0; e < n; e++) {
        r->offset[e] = at;
        for (int64_t pair = 0; pair < r->tokens * k; pair++)
            if (r->expert[pair] == e)
                r->slot[pair] = at++;
    }
    r->offset[n] = at;
}

static size_t send_bytes(const struct rank *r) {
    return (size_t)(r->tokens * before(shape->ranks) * shape->row_bytes);
}

static void dispatch(struct rank *r, uint64_t *seed) {
    const size_t pairs = (size_t)(r->tokens * shape->top_k), e = (size_t)shape->experts;
    r->x = cuda_normals(seed, (size_t)(r->tokens * shape->row_bytes) / 4 + 4, 1.0, EMBED_F32, NULL);
    r->send = cuda_output(send_bytes(r));
    r->place = cuda_output(pairs * sizeof(int32_t));
    r->counts = cuda_output(e * sizeof(int32_t));
    emb_cuda_moe_dispatch_args a = {.x = r->x,
                                    .expert = r->expert,
                                    .slot = r->slot,
                                    .offset = r->offset,
                                    .send = r->send,
                                    .place = r->place,
                                    .counts = r->counts,
                                    .tokens = r->tokens,
                                    .row_bytes = shape->row_bytes,
                                    .experts = shape->experts,
                                    .top_k = shape->top_k,
                                    .ranks = shape->ranks};
    cuda_worked("moe_dispatch", emb_cuda_moe_dispatch(cuda_exec(), &a));
    if (r->tokens == 0) /* what the caller does without tokens */
        memset(r->counts, 0, e * sizeof(int32_t));
    a.send = cuda_output(send_bytes(r));
    a.place = cuda_output(pairs * sizeof(int32_t));
    a.counts = cuda_output(e * sizeof(int32_t));
    emb_moe_dispatch(&a);
    cuda_same("moe_dispatch: rows", a.send, r->send, send_bytes(r));
    cuda_same("moe_dispatch: places", a.place, r->place, pairs * sizeof(int32_t));
    cuda_same("moe_dispatch: counts", a.counts, r->counts, e * sizeof(int32_t));
}

/* The expert inverts the bytes of its rows and writes its number over the first. */
static void work(int32_t expert, unsigned char *row) {
    for (int64_t i = 0; i < shape->row_bytes; i++)
        row[i] = (unsigned char)~row[i];
    row[0] = (unsigned char)expert;
}

/* What is sent to rank d, its work, and the way back. */
static void own(int32_t d) {
    const int32_t n = emb_moe_experts_of(shape->experts, shape->ranks, d);
    const int32_t at = emb_moe_experts_before(shape->experts, shape->ranks, d);
    const size_t row = (size_t)shape->row_bytes;
    emb_cuda_moe_collect_args a = {.experts = n, .ranks = shape->ranks};
    int32_t counts[MOST_EXPERTS + MOST_RANKS];
    if (n == 0)
        return;
    for (int32_t s = 0; s < shape->ranks; s++) {
        a.first[s + 1] = a.first[s] + (int32_t)ranks[s].tokens * width(d);
        memcpy(counts + s * n, ranks[s].counts + at, (size_t)n * sizeof(int32_t));
    }
    const size_t rows = (size_t)a.first[shape->ranks], words = rows * sizeof(int32_t);
    unsigned char *inbox = cuda_output(rows * row), *y = cuda_output(rows * row),
                  *out = cuda_output(rows * row), *want = cuda_output(rows * row);
    for (int32_t s = 0; s < shape->ranks; s++)
        memcpy(inbox + (size_t)a.first[s] * row,
               ranks[s].send + (size_t)(ranks[s].tokens * before(d)) * row,
               (size_t)(a.first[s + 1] - a.first[s]) * row);
    a.counts = cuda_copy(counts, (size_t)(shape->ranks * n) * sizeof(int32_t));
    a.offset = cuda_output((size_t)(n + 1) * sizeof(int32_t));
    a.rows = cuda_output(words);
    a.place = cuda_output(words);
    cuda_worked("moe_collect", emb_cuda_moe_collect(cuda_exec(), &a));
    emb_cuda_moe_collect_args b = a;
    b.offset = cuda_output((size_t)(n + 1) * sizeof(int32_t));
    b.rows = cuda_output(words);
    b.place = cuda_output(words);
    if (rows > 0) {
        emb_moe_collect(&b);
        cuda_same("moe_collect: offsets", a.offset, b.offset, (size_t)(n + 1) * sizeof(int32_t));
        cuda_same("moe_collect: rows", a.rows, b.rows, words);
        cuda_same("moe_collect: places", a.place, b.place, words);
    }
    for (int32_t l = 0; rows > 0 && l < n; l++)
        for (int32_t m = a.offset[l]; m < a.offset[l + 1]; m++) {
            memcpy(y + (size_t)m * row, inbox + (size_t)a.rows[m] * row, row);
            work(l * shape->ranks + d, y + (size_t)m * row);
        }
    const emb_cuda_moe_return_args back = {y, a.place, out, (int64_t)rows, shape->row_bytes};
    cuda_worked("moe_return", emb_cuda_moe_return(cuda_exec(), &back));
    emb_moe_return(&(emb_cuda_moe_return_args){y, a.place, want, back.rows, back.row_bytes});
    cuda_same("moe_return", out, want, rows * row);
    for (int32_t s = 0; s < shape->ranks; s++)
        memcpy(ranks[s].result + (size_t)(ranks[s].tokens * before(d)) * row,
               out + (size_t)a.first[s] * row, (size_t)(a.first[s + 1] - a.first[s]) * row);
}

/* Every pair has what its expert made of its token. */
static void check(const struct rank *r) {
    const size_t row = (size_t)shape->row_bytes;
    unsigned char want[256];
    for (int64_t pair = 0; pair < r->tokens * shape->top_k; pair++) {
        memcpy(want, r->x + (size_t)(pair / shape->top_k) * row, row);
        work(r->expert[pair], want);
        assert_memory_equal(r->result + (size_t)r->place[pair] * row, want, row);
    }
}

static void run(const struct shape *s) {
    uint64_t seed = (uint64_t)(s->ranks * 1000 + s->experts);
    shape = s;
    emb_emulation_seed(seed);
    for (int32_t r = 0; r < s->ranks; r++) {
        ranks[r] = (struct rank){.tokens = s->tokens[r % 4]};
        route(&ranks[r], &seed);
        dispatch(&ranks[r], &seed);
        ranks[r].result = cuda_output(send_bytes(&ranks[r]));
    }
    for (int32_t d = 0; d < s->ranks; d++)
        own(d);
    for (int32_t r = 0; r < s->ranks; r++)
        check(&ranks[r]);
    cuda_case_end();
}

static void exchanges(void **state) {
    (void)state;
    static const struct shape shapes[] = {
        {1, 1, 1, 4, {1}, -1},
        {1, 8, 2, 32, {13}, -1},
        {2, 8, 2, 64, {31, 17}, -1},
        {2, 8, 2, 64, {31, 17}, 3}, /* all to two experts */
        {3, 8, 2, 36, {5, 0, 64}, -1},
        {3, 3, 2, 6, {9, 10, 11}, -1},
        {8, 3, 2, 16, {7, 1, 0, 2}, -1}, /* more ranks than experts */
        {8, 8, 4, 16, {3, 65, 2, 1}, -1},
        {5, 64, 8, 48, {8, 9, 0, 3}, -1},
        {64, 256, 1, 4, {2, 0, 1, 3}, -1},
        {64, 129, 3, 1, {2, 5, 1, 3}, -1},
        {4, 8, 1, 16, {0, 0, 0, 1}, 7},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        run(&shapes[i]);
}

/* Widths add up to what is before the next, and no more than a token has. */
static void parts(void **state) {
    (void)state;
    for (int32_t r = 1; r <= EMB_MOE_RANKS; r += r < 9 ? 1 : 11)
        for (int32_t e = 1; e <= 256; e += e < 20 ? 1 : 59)
            for (int32_t k = 1; k <= 4 && k <= e; k++) {
                int32_t rows = 0, experts = 0;
                for (int32_t d = 0; d < r; d++) {
                    assert_int_equal(emb_moe_before(e, r, k, d), rows);
                    assert_int_equal(emb_moe_experts_before(e, r, d), experts);
                    rows += emb_moe_width(e, r, k, d);
                    experts += emb_moe_experts_of(e, r, d);
                }
                assert_int_equal(emb_moe_before(e, r, k, r), rows);
                assert_int_equal(experts, e);
                assert_true(rows >= k);
            }
}

static void refused(void **state) {
    (void)state;
    const emb_cuda_moe_dispatch_args wrong[] = {
        {.experts = 8, .top_k = 2, .ranks = 65, .row_bytes = 4},
        {.experts = 257, .top_k = 2, .ranks = 2, .row_bytes = 4},
        {.experts = 8, .top_k = 9, .ranks = 2, .row_bytes = 4},
        {.experts = 8, .top_k = 2, .ranks = 2, .row_bytes = 0},
        {.experts = 8, .top_k = 2, .ranks = 2, .row_bytes = 4, .tokens = INT32_MAX}};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        emb_cuda_exec *exec = cuda_exec();
        assert_int_equal(emb_cuda_moe_dispatch(exec, &wrong[i]), EMBED_ERR_INTERNAL);
        assert_non_null(exec->failed);
    }
    const emb_cuda_moe_collect_args many = {.experts = 256, .ranks = 3};
    assert_int_equal(emb_cuda_moe_collect(cuda_exec(), &many), EMBED_ERR_INTERNAL);
    const emb_cuda_moe_return_args none = {.rows = 1, .row_bytes = 0};
    assert_int_equal(emb_cuda_moe_return(cuda_exec(), &none), EMBED_ERR_INTERNAL);
    cuda_case_end();
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(exchanges), cmocka_unit_test(parts),
                                       cmocka_unit_test(refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
