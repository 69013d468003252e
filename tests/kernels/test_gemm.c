#include "support/test.h"

#include <sys/mman.h>
#include <unistd.h>

#include "base/dtype.h"
#include "kernels/gemm/gemm_tile.h"
#include "kernels/isa.h"

/* Bytes that end (or start) at an unmapped page, so that one byte too far is a crash. */
typedef struct guarded {
    unsigned char *map, *data;
    size_t map_bytes;
} guarded;

static guarded guarded_new(size_t bytes, int at_start) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t inner = (bytes + page) / page * page;
    guarded g;
    g.map_bytes = inner + 2 * page;
    g.map = mmap(NULL, g.map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(g.map, MAP_FAILED);
    assert_int_equal(mprotect(g.map, page, PROT_NONE), 0);
    assert_int_equal(mprotect(g.map + page + inner, page, PROT_NONE), 0);
    g.data = at_start ? g.map + page : g.map + page + inner - bytes;
    return g;
}

static void guarded_free(guarded *g) {
    munmap(g->map, g->map_bytes);
}

/* One product with everything it reads and writes. */
typedef struct problem {
    int64_t m, n, k;
    int32_t dtype, layout;
    int gather, with_bias, with_mul, at_start;
    emb_activation act;
    int64_t ldx, ldy, ldmul, x_rows_total;
    guarded x, w, y, bias, mul, rows;
    emb_weight weight;
} problem;

static float weight_at(const emb_weight *w, int64_t n, int64_t k) {
    const int64_t i = w->layout == EMB_GEMM_NT ? n * w->m.cols + k : k * w->m.cols + n;
    const char *data = w->m.data;
    uint16_t h;
    float f;
    if (w->m.dtype == EMBED_F32) {
        memcpy(&f, data + i * 4, 4);
        return f;
    }
    memcpy(&h, data + i * 2, 2);
    return w->m.dtype == EMBED_F16 ? emb_f16_to_f32(h) : emb_bf16_to_f32(h);
}

static void set_weight(unsigned char *data, int64_t i, int32_t dtype, float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    const uint16_t h = dtype == EMBED_F16 ? emb_f32_to_f16(f) : (uint16_t)(u >> 16);
    if (dtype == EMBED_F32)
        memcpy(data + i * 4, &f, 4);
    else
        memcpy(data + i * 2, &h, 2);
}

static guarded floats_new(size_t n, int at_start, uint64_t *seed) {
    guarded g = guarded_new(n * sizeof(float), at_start);
    for (size_t i = 0; i < n; i++)
        ((float *)(void *)g.data)[i] = (float)test_normal(seed);
    return g;
}

static const float *floats_of(const guarded *g) {
    return (const float *)(const void *)g->data;
}

/* Random data for the sizes and switches already set in *p. */
static void problem_fill(problem *p, uint64_t seed) {
    const size_t m = (size_t)p->m, n = (size_t)p->n, k = (size_t)p->k;
    p->ldx = p->k + (int64_t)(seed % 3) * 5;
    p->ldy = p->n + (int64_t)(seed % 2) * 3;
    p->ldmul = p->n + (int64_t)(seed % 5 == 0) * 7;
    p->x_rows_total = p->gather ? p->m + 9 : p->m;
    const size_t x_rows = (size_t)p->x_rows_total;
    p->x = floats_new(x_rows > 0 ? (x_rows - 1) * (size_t)p->ldx + k : 0, p->at_start, &seed);
    p->w = guarded_new(n * k * emb_dtype_bytes(p->dtype), p->at_start);
    for (int64_t i = 0; i < p->n * p->k; i++)
        set_weight(p->w.data, i, p->dtype, (float)test_normal(&seed) * 0.25f);
    p->y = guarded_new(m > 0 ? ((m - 1) * (size_t)p->ldy + n) * 4 : 0, p->at_start);
    p->bias = floats_new(n, p->at_start, &seed);
    p->mul = floats_new(m > 0 ? (m - 1) * (size_t)p->ldmul + n : 0, p->at_start, &seed);
    p->rows = guarded_new(m * sizeof(int32_t), p->at_start);
    for (size_t i = 0; i < m; i++)
        ((int32_t *)(void *)p->rows.data)[i] = (int32_t)(test_rand(&seed) % x_rows);
    const int nt = p->layout == EMB_GEMM_NT;
    p->weight = (emb_weight){
        {p->w.data, nt ? p->n : p->k, nt ? p->k : p->n, p->dtype, 0}, p->layout, 0, NULL};
}

static void problem_free(problem *p) {
    guarded *const all[] = {&p->x, &p->w, &p->y, &p->bias, &p->mul, &p->rows};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        guarded_free(all[i]);
}

static const float *row_of(const problem *p, int64_t m) {
    const int64_t row = p->gather ? ((const int32_t *)(const void *)p->rows.data)[m] : m;
    return floats_of(&p->x) + row * p->ldx;
}

static emb_gemm_group group_of(problem *p) {
    return (emb_gemm_group){&p->weight,
                            p->with_bias ? floats_of(&p->bias) : NULL,
                            floats_of(&p->x),
                            p->gather ? (const int32_t *)(const void *)p->rows.data : NULL,
                            (float *)(void *)p->y.data,
                            p->with_mul ? floats_of(&p->mul) : NULL,
                            p->m,
                            p->ldx,
                            p->ldy,
                            p->ldmul};
}

/* ------------------------------------------------------------------------------- running */

typedef struct runner {
    emb_env env;
    emb_exec exec;
} runner;

static void runner_init(runner *r, const emb_isa *isa, int threads) {
    r->env = test_env();
    r->exec.isa = isa;
    r->exec.scratch_bytes = emb_round_up(emb_gemm_scratch_bytes(isa), EMB_ALIGN);
    assert_int_equal(emb_pool_create(&r->exec.pool, &r->env, threads), EMBED_OK);
    assert_int_equal(
        emb_alloc(&r->env, r->exec.scratch_bytes * (size_t)threads, (void **)&r->exec.scratch),
        EMBED_OK);
    memset(r->exec.scratch, 0xff, r->exec.scratch_bytes * (size_t)threads); /* NaN */
}

static void runner_free(runner *r) {
    emb_pool_free(r->exec.pool);
    emb_free(&r->env, r->exec.scratch);
}

static void clear_output(problem *p) {
    if (p->m > 0)
        memset(p->y.data, 0xff, (size_t)((p->m - 1) * p->ldy + p->n) * 4);
}

static void check_gaps(const problem *p) {
    for (int64_t i = 0; i + 1 < p->m; i++)
        for (int64_t j = p->n; j < p->ldy; j++) {
            uint32_t u;
            memcpy(&u, p->y.data + (i * p->ldy + j) * 4, 4);
            assert_int_equal(u, 0xffffffffu);
        }
}

static float *packed_copy(const emb_isa *isa, const emb_weight *w) {
    const emb_env env = test_env();
    size_t bytes;
    void *packed;
    assert_int_equal(emb_gemm_packed_bytes(isa, w, &bytes), EMBED_OK);
    assert_int_equal(emb_alloc(&env, bytes, &packed), EMBED_OK);
    emb_gemm_pack(isa, w, packed);
    return packed;
}

static void packed_free(float *packed) {
    const emb_env env = test_env();
    emb_free(&env, packed);
}

static void run(runner *r, problem *p) {
    const emb_gemm_group g = group_of(p);
    clear_output(p);
    assert_int_equal(emb_gemm(&r->exec, &g, 1, p->act), EMBED_OK);
    check_gaps(p);
}

/* ---------------------------------------------------------------------------- references */

/* The canonical order of gemm.h, word for word. */
static float canonical(const problem *p, int64_t m, int64_t n) {
    const float *x = row_of(p, m);
    float y = 0;
    for (int64_t k0 = 0; k0 < p->k; k0 += EMB_GEMM_KC) {
        float s = 0;
        for (int64_t k = k0; k < p->k && k < k0 + EMB_GEMM_KC; k++)
            s = fmaf(x[k], weight_at(&p->weight, n, k), s);
        y = k0 == 0 ? s : y + s;
    }
    if (p->with_bias)
        y = y + floats_of(&p->bias)[n];
    if (p->act == EMB_ACT_RELU)
        y = y > 0 ? y : 0;
    if (p->with_mul)
        y = y * floats_of(&p->mul)[m * p->ldmul + n];
    return y;
}

static void check_canonical(const problem *p, const char *isa) {
    const float *y = floats_of(&p->y);
    for (int64_t i = 0; i < p->m; i++)
        for (int64_t j = 0; j < p->n; j++) {
            const float want = canonical(p, i, j), got = y[i * p->ldy + j];
            if (memcmp(&got, &want, 4) != 0)
                fail_msg("%s: m %ld n %ld k %ld dtype %d layout %d: y[%ld,%ld] got %.9g, want %.9g",
                         isa, (long)p->m, (long)p->n, (long)p->k, (int)p->dtype, (int)p->layout,
                         (long)i, (long)j, (double)got, (double)want);
        }
}

static double act_reference(emb_activation act, double x) {
    switch (act) {
    case EMB_ACT_GELU:
        return 0.5 * x * erfc(-x * 0.70710678118654752);
    case EMB_ACT_GELU_TANH: /* 1 + tanh(u) = 2 / (1 + e^-2u) */
        return x / (1 + exp(-2 * 0.79788456080286536 * (x + 0.044715 * x * x * x)));
    case EMB_ACT_RELU:
        return x > 0 ? x : 0;
    case EMB_ACT_SILU:
        return x / (1 + exp(-x));
    case EMB_ACT_SIGMOID:
        return 1 / (1 + exp(-x));
    case EMB_ACT_TANH:
        return tanh(x);
    default:
        return x;
    }
}

/* --------------------------------------------------------------------------------- tests */

static void equals_the_canonical_order_on_every_isa(void **state) {
    (void)state;
    static const int64_t ms[] = {0, 1, 2, 3, 4, 5, 6, 7, 12, 13, 14, 15, 16, 28, 29, 57, 113, 449};
    static const int64_t ns[] = {1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 64, 97, 384};
    static const int64_t ks[] = {1, 2, 3, 15, 16, 17, 31, 33, 100, 255, 256, 257, 300, 512, 768};
    const emb_isa *list[EMB_ISA_MAX];
    const size_t isas = emb_isa_list(list);
    uint64_t seed = 1;
    int done = 0;
    for (size_t a = 0; a < sizeof ms / sizeof ms[0]; a++)
        for (int round = 0; round < 24; round++) {
            problem p = {.m = ms[a]};
            do {
                p.n = ns[test_rand(&seed) % (sizeof ns / sizeof ns[0])];
                p.k = ks[test_rand(&seed) % (sizeof ks / sizeof ks[0])];
            } while (p.m * p.n * p.k > 1000000);
            const uint64_t bits = test_rand(&seed);
            p.dtype = (int32_t)(EMBED_F32 + round % 3);
            p.layout = round / 3 % 2 ? EMB_GEMM_NN : EMB_GEMM_NT;
            p.gather = bits & 1;
            p.with_bias = bits >> 1 & 1;
            p.with_mul = bits >> 2 & 1;
            p.at_start = bits >> 3 & 1;
            p.act = bits >> 4 & 1 ? EMB_ACT_RELU : EMB_ACT_NONE;
            problem_fill(&p, bits >> 8);
            for (size_t i = 0; i < isas; i++) {
                runner r;
                runner_init(&r, list[i], 1 + round % 3);
                run(&r, &p);
                check_canonical(&p, list[i]->name);
                float *packed = packed_copy(list[i], &p.weight);
                p.weight.packed = packed;
                run(&r, &p);
                check_canonical(&p, list[i]->name);
                p.weight.packed = NULL;
                packed_free(packed);
                runner_free(&r);
                done++;
            }
            problem_free(&p);
        }
    print_message("%d products, %zu instruction sets\n", done, isas);
}

/* The bound that gemm.h states, at model shapes, on the fastest set (all give the same bits). */
static void error_is_within_the_stated_bound(void **state) {
    (void)state;
    static const int64_t shapes[][3] = {{12, 384, 384}, {9, 1536, 384}, {7, 384, 1536},
                                        {13, 768, 768}, {3, 768, 3072}, {1, 64, 100000}};
    const emb_isa *isa;
    assert_int_equal(emb_isa_select(&isa, EMBED_ISA_AUTO), EMBED_OK);
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++)
        for (int32_t dtype = EMBED_F32; dtype <= EMBED_BF16; dtype++) {
            problem p = {.m = shapes[s][0], .n = shapes[s][1], .k = shapes[s][2], .dtype = dtype};
            runner r;
            problem_fill(&p, 7 + s);
            runner_init(&r, isa, 2);
            run(&r, &p);
            double err2 = 0, norm2 = 0;
            const double blocks = ceil((double)p.k / EMB_GEMM_KC);
            for (int64_t i = 0; i < p.m; i++)
                for (int64_t j = 0; j < p.n; j++) {
                    const double got = (double)floats_of(&p.y)[i * p.ldy + j];
                    double sum = 0, size = 0;
                    for (int64_t k = 0; k < p.k; k++) {
                        const double xw =
                            (double)row_of(&p, i)[k] * (double)weight_at(&p.weight, j, k);
                        sum += xw;
                        size += fabs(xw);
                    }
                    if (!(fabs(got - sum) <= (EMB_GEMM_KC / 2.0 + blocks) * 0x1p-24 * size))
                        fail_msg("[%ld,%ld] got %.9g, want %.9g", (long)i, (long)j, got, sum);
                    err2 += (got - sum) * (got - sum);
                    norm2 += sum * sum;
                }
            /* a random walk of roundings: sqrt((KC + blocks) / 2) * 2^-24 / sqrt(3) of rms */
            assert_true(sqrt(err2 / norm2) <= 1.5 * sqrt((EMB_GEMM_KC + blocks) / 6) * 0x1p-24);
            runner_free(&r);
            problem_free(&p);
        }
}

/* Same bits for any number of threads, any split of the rows, packed or not, NT or NN. */
static void bits_do_not_depend_on_partition_or_layout(void **state) {
    (void)state;
    static const int64_t shapes[][3] = {{150, 200, 300}, {1000, 33, 257}, {5, 1000, 520}};
    const emb_isa *list[EMB_ISA_MAX];
    const size_t isas = emb_isa_list(list);
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        problem p = {.m = shapes[s][0], .n = shapes[s][1], .k = shapes[s][2], .dtype = EMBED_F32};
        p.act = EMB_ACT_GELU;
        p.with_bias = 1;
        problem_fill(&p, 4 + s); /* ldy = n, ldx > k */
        const size_t bytes = (size_t)((p.m - 1) * p.ldy + p.n) * 4;
        unsigned char *want = malloc(bytes);
        guarded other = guarded_new((size_t)(p.n * p.k) * 4, 0);
        for (int64_t n = 0; n < p.n; n++)
            for (int64_t k = 0; k < p.k; k++)
                set_weight(other.data, k * p.n + n, EMBED_F32, weight_at(&p.weight, n, k));
        const emb_weight nt = p.weight;
        const emb_weight nn = {{other.data, p.k, p.n, EMBED_F32, 0}, EMB_GEMM_NN, 0, NULL};
        for (size_t i = 0; i < isas; i++)
            for (int threads = 1; threads <= 5; threads++) {
                runner r;
                runner_init(&r, list[i], threads);
                p.weight = nt;
                run(&r, &p);
                if (i == 0 && threads == 1)
                    memcpy(want, p.y.data, bytes);
                assert_memory_equal(p.y.data, want, bytes);
                p.weight = nn;
                run(&r, &p);
                assert_memory_equal(p.y.data, want, bytes);
                p.weight.packed = packed_copy(list[i], &p.weight);
                run(&r, &p);
                assert_memory_equal(p.y.data, want, bytes);
                packed_free((float *)(uintptr_t)p.weight.packed);
                for (int64_t row = 0, step = 1; row < p.m; row += step, step = step * 2 + 1) {
                    problem part = p; /* rows row .. row + step - 1 as a call of their own */
                    part.weight = nt;
                    part.m = row + step < p.m ? step : p.m - row;
                    part.x.data += row * p.ldx * 4;
                    part.y.data += row * p.ldy * 4;
                    const emb_gemm_group g = group_of(&part);
                    clear_output(&part);
                    assert_int_equal(emb_gemm(&r.exec, &g, 1, p.act), EMBED_OK);
                }
                assert_memory_equal(p.y.data, want, bytes);
                runner_free(&r);
            }
        guarded_free(&other);
        free(want);
        problem_free(&p);
    }
}

/* More groups than one plan holds, some empty, all different. */
static void groups_equal_single_calls(void **state) {
    (void)state;
    enum { GROUPS = 150 };
    static problem p[GROUPS];
    static emb_gemm_group g[GROUPS];
    const emb_isa *list[EMB_ISA_MAX];
    const size_t isas = emb_isa_list(list);
    uint64_t seed = 11;
    for (int i = 0; i < GROUPS; i++) {
        const uint64_t bits = test_rand(&seed);
        p[i] = (problem){.m = i % 4 == 1 ? 0 : (int64_t)(bits % 20),
                         .n = (int64_t)(bits >> 8) % 70 + 1};
        p[i].k = (int64_t)(bits >> 16 & 1023) % 300 + 1;
        p[i].dtype = (int32_t)(EMBED_F32 + i % 3);
        p[i].layout = i % 2;
        p[i].gather = bits >> 30 & 1;
        p[i].with_bias = bits >> 31 & 1;
        p[i].act = EMB_ACT_RELU;
        problem_fill(&p[i], bits >> 32);
        g[i] = group_of(&p[i]);
    }
    for (size_t i = 0; i < isas; i++)
        for (int threads = 1; threads <= 4; threads += 3) {
            runner r;
            runner_init(&r, list[i], threads);
            for (int j = 0; j < GROUPS; j++)
                clear_output(&p[j]);
            assert_int_equal(emb_gemm(&r.exec, g, GROUPS, EMB_ACT_RELU), EMBED_OK);
            for (int j = 0; j < GROUPS; j++) {
                check_gaps(&p[j]);
                check_canonical(&p[j], list[i]->name);
            }
            assert_int_equal(emb_gemm(&r.exec, NULL, 0, EMB_ACT_NONE), EMBED_OK);
            runner_free(&r);
        }
    for (int i = 0; i < GROUPS; i++)
        problem_free(&p[i]);
}

/* x * 1 through each activation: against double, equal bits on each set, mul may be y itself. */
static void activations_match_double(void **state) {
    (void)state;
    enum { COLUMNS = 37, ROWS = 400, COUNT = ROWS * COLUMNS };
    static float x[COUNT], y[COUNT], want_bits[COUNT];
    static const float special[] = {0.0f,   -0.0f,  1e-45f,  -1e-40f,  1e-30f,    3e38f,
                                    -3e38f, 1e4f,   -1e4f,   INFINITY, -INFINITY, NAN,
                                    88.8f,  -88.8f, -104.5f, 5.5f,     -13.9f};
    const emb_isa *list[EMB_ISA_MAX];
    const size_t isas = emb_isa_list(list);
    for (int i = 0; i < COUNT; i++) /* dense in [-18.5, 18.5] */
        x[i] = (float)(i - COUNT / 2) * 0.0025f;
    memcpy(x + 5 * COLUMNS, special, sizeof special);
    float identity = 1.0f;
    const emb_weight w = {{&identity, 1, 1, EMBED_F32, 0}, EMB_GEMM_NT, 0, NULL};
    for (int act = EMB_ACT_NONE; act <= EMB_ACT_TANH; act++)
        for (size_t i = 0; i < isas; i++) {
            runner r;
            runner_init(&r, list[i], 2);
            emb_gemm_group g = {&w, NULL, x, NULL, y, NULL, COUNT, 1, 1, 0};
            memset(y, 0xff, sizeof y);
            assert_int_equal(emb_gemm(&r.exec, &g, 1, (emb_activation)act), EMBED_OK);
            if (i == 0)
                memcpy(want_bits, y, sizeof y);
            for (int j = 0; j < COUNT; j++) {
                const double want = act_reference((emb_activation)act, (double)x[j]);
                const double tol = 3e-7 * fabs(want) + 6e-8 * fmin(1, fabs((double)x[j])) + 3e-45;
                if (isnan(x[j])) {
                    assert_true(isnan(y[j]));
                    continue;
                }
                assert_memory_equal(&y[j], &want_bits[j], 4);
                if (isinf(x[j]) && x[j] < 0 && act != EMB_ACT_NONE && act != EMB_ACT_TANH)
                    assert_true(y[j] == 0.0f); /* the limit, where the formula says -inf * 0 */
                else if (isinf(want))
                    assert_true((double)y[j] == want);
                else if (!(fabs((double)y[j] - want) <= tol))
                    fail_msg("%s: act %d of %.9g: got %.9g, want %.9g", list[i]->name, act,
                             (double)x[j], (double)y[j], want);
            }
            runner_free(&r);
        }
}

/* Gated MLP: y *= act(x w), y being the other half's result. */
static void product_may_alias_the_output(void **state) {
    (void)state;
    const emb_isa *list[EMB_ISA_MAX];
    const size_t isas = emb_isa_list(list);
    problem p = {
        .m = 61, .n = 83, .k = 300, .dtype = EMBED_F32, .act = EMB_ACT_SILU, .with_mul = 1};
    problem_fill(&p, 6); /* ldmul = n */
    p.ldy = p.ldmul;
    for (size_t i = 0; i < isas; i++) {
        const size_t bytes = (size_t)(p.m * p.n) * 4;
        runner r;
        runner_init(&r, list[i], 2);
        run(&r, &p);
        float *alias = malloc(bytes);
        memcpy(alias, p.mul.data, bytes);
        emb_gemm_group g = group_of(&p);
        g.y = alias;
        g.mul = alias;
        assert_int_equal(emb_gemm(&r.exec, &g, 1, p.act), EMBED_OK);
        assert_memory_equal(alias, p.y.data, bytes);
        free(alias);
        runner_free(&r);
    }
    problem_free(&p);
}

static void empty_sum_is_zero(void **state) {
    (void)state;
    const emb_isa *list[EMB_ISA_MAX];
    const size_t isas = emb_isa_list(list);
    for (size_t i = 0; i < isas; i++) {
        problem p = {.m = 3, .n = 5, .k = 0, .dtype = EMBED_F32, .with_bias = 1};
        runner r;
        problem_fill(&p, 6);
        runner_init(&r, list[i], 1);
        run(&r, &p);
        for (int64_t j = 0; j < p.m * p.n; j++)
            assert_true(floats_of(&p.y)[j / 5 * p.ldy + j % 5] == floats_of(&p.bias)[j % 5]);
        runner_free(&r);
        problem_free(&p);
    }
}

static void packed_size_is_checked(void **state) {
    (void)state;
    const emb_isa *isa;
    size_t bytes;
    const emb_weight w = {{NULL, INT64_MAX / 2, INT64_MAX / 2, EMBED_F32, 0}, EMB_GEMM_NT, 0, NULL};
    assert_int_equal(emb_isa_select(&isa, EMBED_ISA_PORTABLE), EMBED_OK);
    assert_int_equal(emb_gemm_packed_bytes(isa, &w, &bytes), EMBED_ERR_NOMEM);
    assert_int_equal(bytes, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_the_canonical_order_on_every_isa),
        cmocka_unit_test(error_is_within_the_stated_bound),
        cmocka_unit_test(bits_do_not_depend_on_partition_or_layout),
        cmocka_unit_test(groups_equal_single_calls),
        cmocka_unit_test(activations_match_double),
        cmocka_unit_test(product_may_alias_the_output),
        cmocka_unit_test(empty_sum_is_zero),
        cmocka_unit_test(packed_size_is_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
