/* Products through a library on the fake device, whose products are the definition: chosen by its
 * clock, the same numbers within a bound, and whatever fails has its status or its reason. */
#include "support/device_world.h"

#include <math.h>

#define HALF_ULP(dtype) ((dtype) == EMBED_F32 ? 0x1p-24 : (dtype) == EMBED_F16 ? 0x1p-11 : 0x1p-8)

static void make_timed(world *w, uint64_t seed, double kernel_ms, double gemm_ms,
                       const char *missing) {
    make_fake_of(w, &(emb_fake_params){.seed = seed,
                                       .major = 8, /* less workspace */
                                       .open_memory = 1,
                                       .kernel_ms = kernel_ms,
                                       .gemm_ms = gemm_ms,
                                       .no_gemm = missing});
}

static embed_context *context(world *w, int32_t dtype, int32_t products) {
    embed_context *ctx;
    const emb_place place = {
        .backend = emb_fake_backend(w->fake), .dtype = dtype, .products = products};
    TEST_OK(emb_context_create(&ctx, w->model, NULL, 1, BATCH, &place));
    return ctx;
}

static void drop(world *w, embed_context *ctx) {
    embed_context_free(ctx);
    assert_string_equal(emb_fake_fault(w->fake), "");
    drop_fake(w);
}

static double worst(const world *w, const float *a, const float *b) {
    double greatest = 0;
    for (size_t i = 0; i < (size_t)TEXTS * (size_t)w->model->dim; i++)
        greatest = fmax(greatest, isnan(a[i]) ? INFINITY : fabs((double)a[i] - (double)b[i]));
    return greatest;
}

/* The records of a context: how many, and how many of them went to the library. */
static int32_t count(const embed_context *ctx, int32_t *library) {
    embed_device_choice c = {.struct_size = sizeof c};
    int32_t n = 0;
    *library = 0;
    do {
        TEST_OK(embed_context_get_choice(ctx, n, &c));
        if (n < c.count) {
            assert_true(c.rows >= 16 && c.columns > 0 && c.depth > 0 && c.name[0] != '\0');
            *library += c.strategy == EMBED_PRODUCTS_LIBRARY;
        }
    } while (++n < c.count);
    return c.count;
}

/* ------------------------------------------------------------------------------------ choosing */

/* Faster by more than the margin: the library; else, or in f32, ours. */
static void the_faster_one_is_taken(void **state) {
    static const struct {
        double kernel_ms, gemm_ms;
        int32_t dtype, products, library; /* library: 1 if it shall run */
    } cases[] = {{1.00, 0.50, EMBED_BF16, EMBED_PRODUCTS_AUTO, 1},
                 {0.01, 0.005, EMBED_F16, EMBED_PRODUCTS_AUTO, 1},
                 {1.00, 0.95, EMBED_BF16, EMBED_PRODUCTS_AUTO, 0},
                 {1.00, 2.00, EMBED_BF16, EMBED_PRODUCTS_AUTO, 0},
                 {0.00, 0.00, EMBED_BF16, EMBED_PRODUCTS_AUTO, 0},
                 {1.00, 0.50, EMBED_F32, EMBED_PRODUCTS_AUTO, 0},
                 {1.00, 0.50, EMBED_BF16, EMBED_PRODUCTS_OWN, 0},
                 {1.00, 2.00, EMBED_BF16, EMBED_PRODUCTS_LIBRARY, 1}};
    static float got[TEXTS * MAX_DIM];
    (void)state;
    world w;
    open_world(&w, tiny_spec_bert(), 8);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int32_t library;
        make_timed(&w, i, cases[i].kernel_ms, cases[i].gemm_ms, NULL);
        embed_context *ctx = context(&w, cases[i].dtype, cases[i].products);
        TEST_OK(encode(ctx, &w, 3, got));
        const int32_t n = count(ctx, &library);
        /* The up product has an activation behind it, which costs a kernel. */
        if (cases[i].library)
            assert_true(library >= n / 2);
        else
            assert_int_equal(library, 0);
        assert_int_equal(n > 0, cases[i].dtype != EMBED_F32 && i != 6);
        embed_device_choice c = {.struct_size = sizeof c};
        TEST_OK(embed_context_get_choice(ctx, 0, &c));
        if (n > 0) {
            assert_string_equal(c.name, "qkv");
            assert_string_equal(c.algorithm, "element by element");
            assert_true(fabs((double)c.own_us - 1000 * cases[i].kernel_ms) < 0.01);
            assert_true(fabs((double)c.library_us - 1000 * cases[i].gemm_ms) < 0.01);
        }
        drop(&w, ctx);
    }
    close_world(&w);
}

/* Decided once: other contexts of the model measure nothing, and have the same bits. */
static void contexts_agree(void **state) {
    static float first[TEXTS * MAX_DIM], second[TEXTS * MAX_DIM];
    int32_t library, n;
    (void)state;
    world w;
    open_world(&w, tiny_spec_dense(), 8);
    make_timed(&w, 3, 1.0, 0.4, NULL);
    embed_context *a = context(&w, EMBED_BF16, EMBED_PRODUCTS_AUTO);
    TEST_OK(encode(a, &w, TEXTS, first));
    n = count(a, &library);
    assert_true(library > 0);
    TEST_OK(encode(a, &w, TEXTS, second));
    assert_memory_equal(first, second, (size_t)TEXTS * (size_t)w.model->dim * sizeof *first);
    embed_context *b = context(&w, EMBED_BF16, EMBED_PRODUCTS_AUTO);
    TEST_OK(encode(b, &w, TEXTS, second));
    assert_memory_equal(first, second, (size_t)TEXTS * (size_t)w.model->dim * sizeof *first);
    assert_int_equal(count(b, &library), n);
    embed_context_free(a);
    drop(&w, b);
    close_world(&w);
}

/* ------------------------------------------------------------------------------------- numbers */

static void numbers_of_the_library(void **state) {
    static const int32_t dtypes[] = {EMBED_F32, EMBED_F16, EMBED_BF16};
    static float want[TEXTS * MAX_DIM], got[TEXTS * MAX_DIM];
    const tiny_spec specs[] = {tiny_spec_bert(), tiny_spec_gated(), tiny_spec_moe()};
    (void)state;
    for (size_t s = 0; s < sizeof specs / sizeof specs[0]; s++) {
        world w;
        open_world(&w, specs[s], 8);
        embed_context *cpu = test_context_with(w.model, NULL, 1, BATCH);
        TEST_OK(encode(cpu, &w, TEXTS, want));
        embed_context_free(cpu);
        for (size_t d = s == 0 ? 0 : 2; d < sizeof dtypes / sizeof dtypes[0]; d++) {
            int32_t library;
            make_timed(&w, s + d, 1, 1, NULL);
            embed_context *ctx = context(&w, dtypes[d], EMBED_PRODUCTS_LIBRARY);
            TEST_OK(encode(ctx, &w, TEXTS, got));
            assert_true(count(ctx, &library) > library || s != 1); /* gates are ours */
            assert_true(library > 0);
            const double bound = dtypes[d] == EMBED_F32 ? 2e-5 : 10 * HALF_ULP(dtypes[d]);
            const double found = worst(&w, got, want);
            if (!(found <= bound))
                fail_msg("model %d, type %d: expected at most %g, found %g", (int)s, dtypes[d],
                         bound, found);
            /* The same from a graph. */
            static float again[TEXTS * MAX_DIM];
            for (int i = 0; i < 2; i++) {
                TEST_OK(encode(ctx, &w, TEXTS, again));
                assert_memory_equal(again, got, (size_t)TEXTS * (size_t)w.model->dim * sizeof *got);
            }
            drop(&w, ctx);
        }
        close_world(&w);
    }
}

/* Within a bucket the bits of a text do not depend on its neighbours. */
static void neighbours_do_not_matter(void **state) {
    static float alone[MAX_DIM], beside[TEXTS * MAX_DIM];
    (void)state;
    world w;
    open_world(&w, tiny_spec_bert(), 6);
    make_timed(&w, 2, 1, 1, NULL);
    embed_context *ctx = context(&w, EMBED_BF16, EMBED_PRODUCTS_LIBRARY);
    TEST_OK(encode(ctx, &w, 1, alone));
    const embed_text swapped[2] = {w.texts[1], w.texts[0]};
    TEST_OK(embed_encode(ctx, swapped, 2, NULL, beside, TEXTS * MAX_DIM));
    if (ctx->device->sets[0].tokens <= 16)
        assert_memory_equal(alone, beside + w.model->dim, (size_t)w.model->dim * sizeof *alone);
    drop(&w, ctx);
    close_world(&w);
}

static void rows_of_buckets(void **state) {
    (void)state;
    int64_t before = 0;
    for (int64_t m = 1; m < 200000; m++) {
        const int64_t rows = emb_device_products_rows(m, INT64_MAX);
        assert_true(rows >= m && rows >= before);
        assert_true(m <= 16 || rows < m + m / 3);
        assert_true(m <= 4096 || rows <= m + m / 16);
        assert_int_equal(emb_device_products_rows(rows, INT64_MAX), rows);
        before = rows;
    }
    assert_int_equal(emb_device_products_rows(5000, 5001), 5001);
    assert_int_equal(emb_device_products_rows(10, 12), 12);
}

/* -------------------------------------------------------------------------------------- faults */

static void without_the_library(void **state) {
    static float want[TEXTS * MAX_DIM], got[TEXTS * MAX_DIM];
    int32_t library;
    embed_device_choice c = {.struct_size = sizeof c};
    (void)state;
    world w;
    open_world(&w, tiny_spec_dense(), 8);
    make_timed(&w, 1, 1, 0.1, "libcublasLt.so.13: no such file");
    embed_context *own = context(&w, EMBED_BF16, EMBED_PRODUCTS_OWN);
    TEST_OK(encode(own, &w, TEXTS, want));
    embed_context_free(own);
    for (int32_t p = EMBED_PRODUCTS_AUTO; p <= EMBED_PRODUCTS_LIBRARY; p++) {
        embed_context *ctx = context(&w, EMBED_BF16, p);
        TEST_OK(encode(ctx, &w, TEXTS, got));
        assert_memory_equal(want, got, (size_t)TEXTS * (size_t)w.model->dim * sizeof *got);
        assert_int_equal(count(ctx, &library), 0);
        TEST_OK(embed_context_get_choice(ctx, 0, &c));
        assert_int_equal(c.strategy, EMBED_PRODUCTS_OWN);
        if (p == EMBED_PRODUCTS_OWN)
            assert_string_equal(c.reason, "");
        else
            assert_non_null(strstr(c.reason, "libcublasLt.so.13"));
        embed_context_free(ctx);
    }
    drop(&w, NULL);
    close_world(&w);
}

static void arguments(void **state) {
    embed_device_choice c = {.struct_size = sizeof c};
    embed_context_params p = EMBED_CONTEXT_PARAMS_INIT;
    embed_context *ctx;
    (void)state;
    world w;
    open_world(&w, tiny_spec_bert(), 6);
    ctx = test_context_with(w.model, NULL, 1, BATCH);
    TEST_OK(embed_context_get_choice(ctx, 0, &c)); /* the CPU has nothing to choose */
    assert_int_equal(c.count, 0);
    test_fails(embed_context_get_choice(ctx, -1, &c), EMBED_ERR_ARG, "expected 0");
    test_fails(embed_context_get_choice(ctx, 1, &c), EMBED_ERR_ARG, "expected 0");
    test_fails(embed_context_get_choice(NULL, 0, &c), EMBED_ERR_ARG, "ctx");
    test_fails(embed_context_get_choice(ctx, 0, NULL), EMBED_ERR_ARG, "choice");
    embed_context_free(ctx);
    p.device_products = 3;
    test_fails(embed_context_create(&ctx, w.model, &p), EMBED_ERR_ARG, "device_products");
    close_world(&w);
}

/* A library that refuses a shape is not asked again, and the record says what it said. */
static void a_shape_is_refused(void **state) {
    static float got[TEXTS * MAX_DIM];
    int32_t library;
    embed_device_choice c = {.struct_size = sizeof c};
    (void)state;
    world w;
    open_world(&w, tiny_spec_bert(), 6);
    make_timed(&w, 1, 1, 0.1, NULL);
    emb_fake_fail(w.fake, EMB_FAKE_GEMM, 1, EMB_DEVICE_UNAVAILABLE);
    embed_context *ctx = context(&w, EMBED_BF16, EMBED_PRODUCTS_AUTO);
    TEST_OK(encode(ctx, &w, 1, got));
    assert_int_equal(count(ctx, &library), 4);
    assert_int_equal(library, 2); /* neither the one behind which an activation takes a kernel */
    TEST_OK(embed_context_get_choice(ctx, 0, &c));
    assert_int_equal(c.strategy, EMBED_PRODUCTS_OWN);
    assert_non_null(strstr(c.reason, "injected"));
    assert_null(strstr(c.reason, "EMBED_ERR"));
    drop(&w, ctx);
    close_world(&w);
}

static tiny_spec small(void) {
    tiny_spec spec = tiny_spec_bert();
    spec.layers = 1;
    spec.hidden = 16;
    spec.heads = 2;
    spec.inner = 24;
    return spec;
}

/* One call failing: a status and the next call right, or right at once with our own kernels. */
static int fails_at(world *w, emb_fake_call call, emb_device_code code, long n, const float *want) {
    static float got[TEXTS * MAX_DIM];
    embed_context *ctx = NULL;
    make_timed(w, (uint64_t)n, 0.5, 0.25, NULL);
    emb_fake_fail(w->fake, call, n, code);
    const emb_place place = {.backend = emb_fake_backend(w->fake), .dtype = EMBED_BF16};
    embed_status st = emb_context_create(&ctx, w->model, NULL, 1, BATCH, &place);
    if (st == EMBED_OK)
        st = encode(ctx, w, 1, got);
    const int reached = emb_fake_calls(w->fake, call) >= n;
    if (st != EMBED_OK) {
        assert_true(st == EMBED_ERR_DEVICE || st == EMBED_ERR_NOMEM);
        assert_true(strlen(embed_last_error()) > 20);
        if (ctx != NULL && emb_device_alive(ctx->device->device)) {
            TEST_OK(encode(ctx, w, 1, got));
            st = EMBED_OK;
        } else if (ctx != NULL)
            assert_int_equal(encode(ctx, w, 1, got), EMBED_ERR_DEVICE);
    }
    for (size_t i = 0; st == EMBED_OK && i < (size_t)w->model->dim; i++)
        assert_true(fabs((double)got[i] - (double)want[i]) <= 10 * HALF_ULP(EMBED_BF16));
    embed_context_free(ctx);
    assert_string_equal(emb_fake_fault(w->fake), "");
    drop_fake(w);
    return reached;
}

static void calls_in_turn(void **state) {
    static const struct {
        emb_fake_call call;
        emb_device_code code;
    } cases[] = {{EMB_FAKE_GEMM, EMB_DEVICE_FAILED},
                 {EMB_FAKE_GEMM, EMB_DEVICE_LOST},
                 {EMB_FAKE_CAPTURE, EMB_DEVICE_FAILED},
                 {EMB_FAKE_ALLOC, EMB_DEVICE_NO_MEMORY}};
    static float want[TEXTS * MAX_DIM];
    (void)state;
    world w;
    open_world(&w, small(), 4);
    embed_context *cpu = test_context_with(w.model, NULL, 1, BATCH);
    TEST_OK(encode(cpu, &w, TEXTS, want));
    embed_context_free(cpu);
    const long before = w.memory.live;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        long n = 1;
        while (fails_at(&w, cases[i].call, cases[i].code, n, want))
            n += i == 1 ? 3 : 1; /* a device that is lost: some of them do */
        assert_true(n > 3);
        assert_int_equal(w.memory.live, before);
    }
    close_world(&w);
}

static void allocations_in_turn(void **state) {
    static float got[TEXTS * MAX_DIM];
    (void)state;
    world w;
    open_world(&w, small(), 4);
    for (long n = 1, failed = 1; failed; n += 2) { /* test_device_forward takes each of them */
        embed_context *ctx = NULL;
        const long before = w.memory.live;
        make_timed(&w, (uint64_t)n, 0.5, 0.25, NULL);
        w.memory.failed = 0;
        w.memory.fail_at = w.memory.calls + n;
        const emb_place place = {.backend = emb_fake_backend(w.fake), .dtype = EMBED_BF16};
        embed_status st = emb_context_create(&ctx, w.model, NULL, 1, BATCH, &place);
        if (st == EMBED_OK)
            st = encode(ctx, &w, 1, got);
        w.memory.fail_at = 0;
        failed = w.memory.failed;
        if (st != EMBED_OK)
            assert_int_equal(st, EMBED_ERR_NOMEM);
        embed_context_free(ctx);
        drop_fake(&w);
        assert_int_equal(w.memory.live, before);
    }
    close_world(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_faster_one_is_taken),
        cmocka_unit_test(contexts_agree),
        cmocka_unit_test(numbers_of_the_library),
        cmocka_unit_test(neighbours_do_not_matter),
        cmocka_unit_test(rows_of_buckets),
        cmocka_unit_test(without_the_library),
        cmocka_unit_test(arguments),
        cmocka_unit_test(a_shape_is_refused),
        cmocka_unit_test(calls_in_turn),
        cmocka_unit_test(allocations_in_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
