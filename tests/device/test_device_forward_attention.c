/* Attention by a library on the fake device, whose attention is the definition: chosen by its clock
 * for long full batches, the same numbers within a bound, and whatever fails has a reason. */
#include "support/device_world.h"

#include <math.h>

#define ROWS 4
#define LENGTH 15 /* of the bucket of 16 */

static int32_t ids[ROWS][LENGTH];
static embed_ids rows[ROWS];

static void make_timed(world *w, uint64_t seed, double kernel_ms, double library_ms, int32_t major,
                       const char *missing) {
    make_fake_of(w, &(emb_fake_params){.seed = seed,
                                       .major = major,
                                       .open_memory = 1,
                                       .kernel_ms = kernel_ms,
                                       .gemm_ms = library_ms,
                                       .no_attention = missing});
}

static embed_context *context(world *w, int32_t dtype, int32_t products) {
    embed_context *ctx;
    const emb_place place = {.backend = emb_fake_backend(w->fake),
                             .dtype = dtype,
                             .flags = EMBED_NO_GRAPHS,
                             .products = products};
    TEST_OK(emb_context_create(&ctx, w->model, NULL, 1, BATCH, &place));
    ctx->device->attention.above_tokens = 0;
    ctx->device->attention.least_longest = 8;
    return ctx;
}

static void drop(world *w, embed_context *ctx) {
    embed_context_free(ctx);
    assert_string_equal(emb_fake_fault(w->fake), "");
    drop_fake(w);
}

static void open_rows(world *w, tiny_spec spec) {
    spec.layers = 2;
    spec.hidden = 32;
    spec.heads = 2;
    open_world(w, spec, 4);
    for (int i = 0; i < ROWS; i++) {
        for (int t = 0; t < LENGTH; t++)
            ids[i][t] = t == 0 ? TINY_CLS : TINY_FIRST_WORD + (7 * i + t) % 20;
        rows[i] = (embed_ids){ids[i], (size_t)(i == 0 ? LENGTH : LENGTH - i % 3)};
    }
}

static void encode_rows(embed_context *ctx, size_t n, float *out) {
    TEST_OK(embed_encode_ids(ctx, rows, n, NULL, out, ROWS * MAX_DIM));
}

/* What was decided about attention; 0: nothing. */
static int decision(const embed_context *ctx, embed_device_choice *found) {
    embed_device_choice c = {.struct_size = sizeof c};
    int n = 0;
    for (int32_t i = 0; i == 0 || i < c.count; i++) {
        TEST_OK(embed_context_get_choice(ctx, i, &c));
        if (i < c.count && strcmp(c.name, "attention") == 0) {
            *found = c;
            n++;
        }
    }
    return n;
}

static void numbers_of_the_library(void **state) {
    static float want[ROWS * MAX_DIM], got[ROWS * MAX_DIM];
    const tiny_spec specs[] = {tiny_spec_dense(), tiny_spec_bert()};
    (void)state;
    for (size_t s = 0; s < 2; s++)
        for (int32_t dtype = EMBED_F16; dtype <= EMBED_BF16; dtype++) {
            world w;
            embed_device_choice c;
            open_rows(&w, specs[s]);
            embed_context *cpu = test_context_with(w.model, NULL, 1, BATCH);
            encode_rows(cpu, ROWS, want);
            embed_context_free(cpu);
            make_timed(&w, s, 1, 1, 9, NULL);
            embed_context *ctx = context(&w, dtype, EMBED_PRODUCTS_LIBRARY);
            encode_rows(ctx, ROWS, got);
            assert_int_equal(decision(ctx, &c), 1);
            assert_int_equal(c.strategy, EMBED_PRODUCTS_LIBRARY);
            assert_int_equal(c.columns, 4);
            assert_int_equal(c.depth, 16);
            assert_string_equal(c.algorithm, "query by query");
            const double bound = 10 * (dtype == EMBED_F16 ? 0x1p-11 : 0x1p-8);
            for (size_t i = 0; i < ROWS * (size_t)w.model->dim; i++)
                assert_true(fabs((double)got[i] - (double)want[i]) <= bound);
            encode_rows(ctx, ROWS, want);
            assert_memory_equal(got, want, ROWS * (size_t)w.model->dim * sizeof *got);
            drop(&w, ctx);
            close_world(&w);
        }
}

/* Faster by the margin, on a device that is new enough, in batches that are full. */
static void chosen_by_time(void **state) {
    static const struct {
        double kernel_ms, library_ms;
        int32_t major;
        size_t n;
        int32_t decided, library;
    } cases[] = {{1.0, 0.2, 9, ROWS, 1, 0},  /* beside it a kernel rotates q and k */
                 {1.0, -1.6, 9, ROWS, 1, 1}, /* as if that took less */
                 {1.0, 4.0, 9, ROWS, 1, 0},
                 {1.0, 0.2, 8, ROWS, 0, 0},
                 {1.0, 0.2, 9, 3, 0, 0}};
    static float got[ROWS * MAX_DIM];
    (void)state;
    world w;
    open_rows(&w, tiny_spec_dense());
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        embed_device_choice c;
        make_timed(&w, i, cases[i].kernel_ms, cases[i].library_ms, cases[i].major, NULL);
        embed_context *ctx = context(&w, EMBED_BF16, EMBED_PRODUCTS_AUTO);
        encode_rows(ctx, cases[i].n, got);
        assert_int_equal(decision(ctx, &c), cases[i].decided);
        if (cases[i].decided) {
            assert_int_equal(c.strategy == EMBED_PRODUCTS_LIBRARY, cases[i].library);
            assert_true(c.own_us > 0 && c.library_us > 0);
        }
        drop(&w, ctx);
    }
    close_world(&w);
}

static void missing_or_refused(void **state) {
    static float want[ROWS * MAX_DIM], got[ROWS * MAX_DIM];
    embed_device_choice c;
    (void)state;
    world w;
    open_rows(&w, tiny_spec_dense());
    make_timed(&w, 1, 1, 1, 9,
               "cuDNN: expected a version from 91801 and below 100000, found 90100");
    embed_context *ctx = context(&w, EMBED_F16, EMBED_PRODUCTS_LIBRARY);
    encode_rows(ctx, ROWS, got);
    assert_int_equal(decision(ctx, &c), 1);
    assert_int_equal(c.strategy, EMBED_PRODUCTS_OWN);
    assert_non_null(strstr(c.reason, "found 90100"));
    ctx->device->attention.above_tokens = 1000; /* as if there were no other way */
    encode_rows(ctx, ROWS, want);
    assert_memory_equal(got, want, ROWS * (size_t)w.model->dim * sizeof *got);
    drop(&w, ctx);
    close_world(&w);
}

/* Each call of the library, and each allocation of memory there, failing in turn. */
static void every_failure(void **state) {
    static const struct {
        emb_fake_call call;
        emb_device_code code;
    } cases[] = {{EMB_FAKE_GEMM, EMB_DEVICE_FAILED},
                 {EMB_FAKE_GEMM, EMB_DEVICE_LOST},
                 {EMB_FAKE_ALLOC, EMB_DEVICE_NO_MEMORY}};
    static float got[ROWS * MAX_DIM];
    (void)state;
    world w;
    open_rows(&w, tiny_spec_dense());
    const long before = w.memory.live;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (long n = 1, reached = 1; reached; n++) {
            make_timed(&w, (uint64_t)n, 0.5, 0.1, 9, NULL);
            embed_context *ctx = context(&w, EMBED_F16, EMBED_PRODUCTS_AUTO);
            const long made = emb_fake_calls(w.fake, cases[i].call);
            emb_fake_fail(w.fake, cases[i].call, made + n, cases[i].code);
            embed_status st = embed_encode_ids(ctx, rows, ROWS, NULL, got, ROWS * MAX_DIM);
            reached = emb_fake_calls(w.fake, cases[i].call) >= made + n;
            if (st != EMBED_OK) {
                assert_true(st == EMBED_ERR_DEVICE || st == EMBED_ERR_NOMEM);
                assert_true(strlen(embed_last_error()) > 20);
                if (emb_device_alive(ctx->device->device))
                    encode_rows(ctx, ROWS, got);
            }
            drop(&w, ctx);
            assert_int_equal(w.memory.live, before);
        }
    close_world(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_of_the_library),
        cmocka_unit_test(chosen_by_time),
        cmocka_unit_test(missing_or_refused),
        cmocka_unit_test(every_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
