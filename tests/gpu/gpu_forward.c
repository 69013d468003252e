/* gpu_forward: whole models on a device against the CPU: architectures, types, tables, batches; as
 * `gpu_forward graphs`, batches from graphs against batches launched eagerly; as `gpu_forward
 * narrow`, what a checker of memory can follow in a few minutes. */
#include "gpu/gpu_world.h"

#include <pthread.h>

#include "model/context.h"
#include "model/device_forward.h"

#define F32_BOUND 2e-5 /* include/embed.h, of a vector of unit length */

enum { TEXTS = 12, BATCH = 64 };

/* Half an ulp at 1, of which a few are lost in each layer. */
static double type_bound(int32_t dtype, int32_t layers) {
    return dtype == EMBED_F32 ? F32_BOUND : 3 * layers * (dtype == EMBED_F16 ? 0x1p-11 : 0x1p-8);
}

static void compare_experts(const gpu_world *w, const embed_context *device,
                            const embed_context *cpu) {
    for (int32_t i = 0; i < w->model->moe_layers; i++) {
        embed_expert_stats a = {.struct_size = sizeof a}, b = {.struct_size = sizeof b};
        TEST_OK(embed_get_expert_stats(device, i, &a));
        TEST_OK(embed_get_expert_stats(cpu, i, &b));
        assert_true(b.tokens > 0);
        assert_memory_equal(a.expert_tokens, b.expert_tokens,
                            (size_t)b.experts * sizeof *b.expert_tokens);
        assert_true(fabs((double)a.mean_gate - (double)b.mean_gate) < 1e-5);
    }
}

static void compare_states(const gpu_world *w, embed_context *device, embed_context *cpu) {
    enum { MOST = 128 };
    const size_t room = MOST * (size_t)w->checkpoint.spec.hidden;
    float *a = malloc(room * sizeof *a), *b = malloc(room * sizeof *b);
    size_t n, m;
    assert_true(a != NULL && b != NULL);
    TEST_OK(embed_encode_tokens(device, w->texts[1], NULL, a, room, NULL, &n));
    TEST_OK(embed_encode_tokens(cpu, w->texts[1], NULL, b, room, NULL, &m));
    assert_int_equal(n, m);
    for (size_t i = 0; i < n * (size_t)w->checkpoint.spec.hidden; i++)
        assert_true(fabs((double)a[i] - (double)b[i]) <= 1e-4);
    free(a);
    free(b);
}

static void model_in_f32(tiny_spec spec) {
    gpu_world w;
    gpu_world_open(&w, spec, TEXTS, 30);
    embed_context *device = gpu_context(&w, 0, NULL, BATCH), *cpu = test_context(w.model, 0, BATCH);
    float *want = gpu_encode(&w, cpu, TEXTS), *got = gpu_encode(&w, device, TEXTS);
    gpu_near("f32", &w, got, want, TEXTS, F32_BOUND);
    compare_experts(&w, device, cpu);
    compare_states(&w, device, cpu);
    free(got);
    free(want);
    embed_context_free(cpu);
    embed_context_free(device);
    gpu_world_close(&w);
}

static void bert(void **state) {
    (void)state;
    model_in_f32(tiny_spec_bert());
}

static void xlm_roberta(void **state) {
    (void)state;
    model_in_f32(tiny_spec_xlmr());
}

static void nomic_dense(void **state) {
    (void)state;
    model_in_f32(tiny_spec_dense());
}

static void nomic_gated(void **state) {
    (void)state;
    model_in_f32(tiny_spec_gated());
}

static void nomic_moe(void **state) {
    (void)state;
    model_in_f32(tiny_spec_moe());
}

/* Two pooling modes, a dense module, weights in bf16. */
static void modules(void **state) {
    tiny_spec spec = tiny_spec_bert();
    (void)state;
    spec.dtype = EMBED_BF16;
    spec.pooling2 = "max";
    spec.dense = 40;
    model_in_f32(spec);
}

static void in_types(tiny_spec spec, int32_t first) {
    gpu_world w;
    gpu_world_open(&w, spec, TEXTS, 30);
    for (int32_t dtype = first; dtype <= EMBED_BF16; dtype++) {
        embed_context *ctx = gpu_context(&w, dtype, NULL, 0);
        float *got = gpu_encode(&w, ctx, TEXTS);
        gpu_near(dtype == EMBED_F32   ? "f32"
                 : dtype == EMBED_F16 ? "f16"
                                      : "bf16",
                 &w, got, w.want, TEXTS, type_bound(dtype, spec.layers));
        free(got);
        embed_context_free(ctx);
    }
    gpu_world_close(&w);
}

static void half_types(void **state) {
    (void)state;
    in_types(tiny_spec_dense(), EMBED_F16);
    in_types(tiny_spec_bert(), EMBED_F16);
}

/* Where rounding changes which expert a token takes, its text is another one: a few may. */
static void experts_in_half_types(tiny_spec spec) {
    gpu_world w;
    gpu_world_open(&w, spec, TEXTS, 30);
    for (int32_t dtype = EMBED_F16; dtype <= EMBED_BF16; dtype++) {
        embed_context *ctx = gpu_context(&w, dtype, NULL, 0);
        float *got = gpu_encode(&w, ctx, TEXTS);
        int near = 0;
        for (size_t i = 0; i < TEXTS; i++) {
            const double e = gpu_error(&w, got + i * w.dim, w.want + i * w.dim, 1);
            assert_true(e < 1);
            near += e <= type_bound(dtype, spec.layers);
        }
        if (near < TEXTS * 2 / 3)
            fail_msg("type %d: %d of %d texts within the bound", (int)dtype, near, TEXTS);
        free(got);
        embed_context_free(ctx);
    }
    gpu_world_close(&w);
}

static void half_types_with_experts(void **state) {
    (void)state;
    experts_in_half_types(tiny_spec_moe());
}

/* Two layers as wide as real ones, where the kernels take their large tiles. */
static tiny_spec wide(tiny_spec spec) {
    spec.hidden = 768;
    spec.heads = 12;
    spec.inner = 3072;
    spec.layers = 2;
    return spec;
}

static void true_widths(void **state) {
    (void)state;
    if (gpu_kind == EMBED_DEVICE_EMULATED) /* it would take hours */
        skip();
    tiny_spec moe = wide(tiny_spec_moe());
    moe.experts = 8;
    model_in_f32(moe);
    experts_in_half_types(moe);
    in_types(wide(tiny_spec_dense()), EMBED_F32);
}

/* A text alone, beside others, and longer than a batch. */
static void batches(void **state) {
    gpu_world w;
    (void)state;
    gpu_world_open(&w, tiny_spec_dense(), TEXTS, 90);
    embed_context *ctx = gpu_context(&w, 0, NULL, BATCH);
    float *alone = gpu_encode(&w, ctx, 1), *all = gpu_encode(&w, ctx, TEXTS),
          *again = gpu_encode(&w, ctx, TEXTS);
    gpu_near("alone", &w, alone, w.want, 1, F32_BOUND);
    gpu_near("all", &w, all, w.want, TEXTS, F32_BOUND);
    assert_memory_equal(all, again, TEXTS * w.dim * sizeof *all);
    free(alone);
    free(all);
    free(again);
    embed_context_free(ctx);
    gpu_world_close(&w);
}

/* Every way of rows to the device, and back to none. */
static void in_every_place(const gpu_world *w, embed_table *table, const float *want) {
    for (int32_t place = EMBED_TABLE_PLACE_AUTO; place <= EMBED_TABLE_PLACE_RESIDENT; place++) {
        embed_context_params p = gpu_params(0, table, BATCH);
        embed_context *ctx;
        char what[64];
        p.table_place = place;
        const embed_status st = embed_context_create(&ctx, w->model, &p);
        if (place == EMBED_TABLE_PLACE_MAP && st == EMBED_ERR_UNSUPPORTED) {
            print_message("no place %d here: %s\n", (int)place, embed_last_error());
            continue; /* not every device reads the host's mappings */
        }
        TEST_OK(st);
        (void)snprintf(what, sizeof what, "with a table, place %d", (int)place);
        for (int call = 0; call < 2; call++) { /* the second finds rows in a cache */
            float *got = gpu_encode(w, ctx, TEXTS);
            gpu_near(what, w, got, want, TEXTS, F32_BOUND);
            free(got);
        }
        TEST_OK(embed_context_set_table(ctx, NULL));
        float *without = gpu_encode(w, ctx, TEXTS);
        gpu_near("table taken away", w, without, w->want, TEXTS, F32_BOUND);
        free(without);
        embed_context_free(ctx);
    }
}

static void with_table(int32_t mode, int32_t dtype) {
    gpu_world w;
    test_grams grams;
    char dir[256], path[300];
    uint64_t rng = 5;
    tiny_spec spec = tiny_spec_dense();
    spec.layers = 2;
    gpu_world_open(&w, spec, TEXTS, 20);
    test_grams_init(&grams, w.checkpoint.spec.hidden);
    test_grams_of_texts(&grams, w.model, w.texts, TEXTS, 3, 0.5, 0, &rng);
    test_dir_make(dir);
    (void)snprintf(path, sizeof path, "%s/table", dir);
    const test_table_spec table_spec = {
        .mode = mode, .dtype = dtype, .vocab = (int32_t)w.model->weights.word.rows};
    embed_table *table = test_table_make(w.model, path, &table_spec, &grams);
    embed_context *cpu = test_context_with(w.model, table, 1, BATCH);
    float *want = gpu_encode(&w, cpu, TEXTS);
    assert_true(gpu_error(&w, want, w.want, TEXTS) > 1e-2);
    in_every_place(&w, table, want);
    free(want);
    embed_context_free(cpu);
    embed_table_free(table);
    test_dir_remove(dir);
    test_grams_free(&grams);
    gpu_world_close(&w);
}

static void tables(void **state) {
    (void)state;
    with_table(EMB_NGRAM_REPLACE, EMBED_F16);
    with_table(EMB_NGRAM_ADD, EMBED_I8);
    if (gpu_kind == EMBED_DEVICE_CUDA) {
        with_table(EMB_NGRAM_REPLACE, EMBED_F32);
        with_table(EMB_NGRAM_ADD, EMBED_BF16);
    }
}

/* Our kernels, the library, and whichever is faster. */
static void products(void **state) {
    static const int32_t dtypes[] = {EMBED_F32, EMBED_F32, EMBED_BF16};
    gpu_world w;
    (void)state;
    gpu_world_open(&w, tiny_spec_dense(), TEXTS, 12);
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++)
        for (int32_t by = EMBED_PRODUCTS_AUTO; by <= EMBED_PRODUCTS_LIBRARY; by++) {
            embed_context_params p = gpu_params(dtypes[i], NULL, BATCH);
            embed_context *ctx;
            char what[64];
            p.device_products = by;
            p.device_flags = i == 1 ? EMBED_TF32 : 0; /* rounds factors as f16 does */
            TEST_OK(embed_context_create(&ctx, w.model, &p));
            float *got = gpu_encode(&w, ctx, TEXTS);
            (void)snprintf(what, sizeof what, "products %d, type %d", (int)by, (int)dtypes[i]);
            gpu_near(what, &w, got, w.want, TEXTS,
                     type_bound(i == 1 ? EMBED_F16 : dtypes[i], w.checkpoint.spec.layers));
            free(got);
            embed_context_free(ctx);
        }
    gpu_world_close(&w);
}

/* All devices there are, each with the whole model, and with its part of the experts. */
static void several_devices(void **state) {
    gpu_world w;
    (void)state;
    gpu_world_open(&w, tiny_spec_moe(), TEXTS, 20);
    for (int32_t placement = EMBED_PLACE_REPLICATED; placement <= EMBED_PLACE_EXPERTS;
         placement++) {
        embed_context_params p = gpu_params(0, NULL, BATCH);
        embed_context *ctx;
        p.n_devices = EMBED_ALL_DEVICES;
        p.placement = placement;
        TEST_OK(embed_context_create(&ctx, w.model, &p));
        float *got = gpu_encode(&w, ctx, TEXTS);
        gpu_near("on all devices", &w, got, w.want, TEXTS, F32_BOUND);
        free(got);
        embed_context_free(ctx);
    }
    gpu_world_close(&w);
}

struct worker {
    const gpu_world *w;
    embed_context *ctx;
    float *got;
    embed_status st;
};

static void *work(void *arg) {
    struct worker *a = arg;
    for (int i = 0; i < 3 && a->st == EMBED_OK; i++)
        a->st = embed_encode(a->ctx, a->w->texts, TEXTS, NULL, a->got, TEXTS * a->w->dim);
    return NULL;
}

/* Contexts of one model on one device, each with a thread of its own. */
static void contexts_side_by_side(void **state) {
    enum { THREADS = 3 };
    struct worker workers[THREADS];
    pthread_t threads[THREADS];
    gpu_world w;
    (void)state;
    gpu_world_open(&w, tiny_spec_moe(), TEXTS, 30);
    for (size_t i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){&w, gpu_context(&w, 0, NULL, BATCH), NULL, EMBED_OK};
        workers[i].got = calloc(TEXTS * w.dim, sizeof(float));
        assert_non_null(workers[i].got);
    }
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    for (size_t i = 0; i < THREADS; i++) {
        TEST_OK(workers[i].st);
        gpu_near("side by side", &w, workers[i].got, w.want, TEXTS, F32_BOUND);
        free(workers[i].got);
        embed_context_free(workers[i].ctx);
    }
    gpu_world_close(&w);
}

/* ------------------------------------------------------------------------------------- graphs */

/* A bucket's first batch is launched operation by operation, the second is captured, the third on
 * replayed: always with the same bits. Without buckets a library may choose another product. */
static void replayed(tiny_spec spec, int32_t dtype) {
    gpu_world w;
    if (gpu_kind == EMBED_DEVICE_EMULATED)
        spec.layers = 2;
    gpu_world_open(&w, spec, TEXTS, 12);
    embed_context *ctx = gpu_context(&w, dtype, NULL, BATCH);
    const emb_graphs *graphs = &ctx->device->graphs;
    ctx->device->graphs_mode = EMB_GRAPHS_OFF;
    float *apart = gpu_encode(&w, ctx, TEXTS);
    assert_true(graphs->captured + graphs->replayed == 0);
    ctx->device->graphs_mode = EMB_GRAPHS_ON;
    float *eager = gpu_encode(&w, ctx, TEXTS);
    gpu_near("without buckets", &w, apart, eager, TEXTS, type_bound(dtype, spec.layers));
    for (int i = 0; i < 3; i++) {
        float *graph = gpu_encode(&w, ctx, TEXTS);
        assert_memory_equal(graph, eager, TEXTS * w.dim * sizeof *eager);
        free(graph);
    }
    assert_true(graphs->captured > 0);
    assert_true(graphs->replayed > 0);
    assert_int_equal(graphs->failures, 0);
    assert_true(graphs->info.kernels > 6 * spec.layers);
    assert_int_equal(graphs->info.copies, 0);
    free(apart);
    free(eager);
    embed_context_free(ctx);
    gpu_world_close(&w);
}

static void dense_from_graphs(void **state) {
    (void)state;
    for (int32_t dtype = EMBED_F32; dtype <= EMBED_BF16; dtype++)
        replayed(tiny_spec_dense(), dtype);
}

static void moe_from_graphs(void **state) {
    (void)state;
    for (int32_t dtype = EMBED_F32; dtype <= EMBED_BF16; dtype++)
        replayed(tiny_spec_moe(), dtype);
}

static void bert_from_graphs(void **state) {
    (void)state;
    replayed(tiny_spec_bert(), EMBED_F32);
    replayed(tiny_spec_xlmr(), EMBED_F16);
}

int main(int argc, char **argv) {
    const struct CMUnitTest graphs[] = {cmocka_unit_test(dense_from_graphs),
                                        cmocka_unit_test(moe_from_graphs),
                                        cmocka_unit_test(bert_from_graphs)};
    const struct CMUnitTest models[] = {cmocka_unit_test(bert),
                                        cmocka_unit_test(xlm_roberta),
                                        cmocka_unit_test(nomic_dense),
                                        cmocka_unit_test(nomic_gated),
                                        cmocka_unit_test(nomic_moe),
                                        cmocka_unit_test(modules),
                                        cmocka_unit_test(half_types),
                                        cmocka_unit_test(half_types_with_experts),
                                        cmocka_unit_test(true_widths),
                                        cmocka_unit_test(batches),
                                        cmocka_unit_test(tables),
                                        cmocka_unit_test(products),
                                        cmocka_unit_test(several_devices),
                                        cmocka_unit_test(contexts_side_by_side)};
    const struct CMUnitTest narrow[] = {cmocka_unit_test(bert), cmocka_unit_test(nomic_gated),
                                        cmocka_unit_test(nomic_moe), cmocka_unit_test(half_types),
                                        cmocka_unit_test(tables)};
    const char *what;
    if (!gpu_arguments(argc, argv, &what))
        return 2;
    if (what != NULL && strcmp(what, "graphs") == 0)
        return cmocka_run_group_tests(graphs, NULL, NULL);
    if (what != NULL && strcmp(what, "narrow") == 0)
        return cmocka_run_group_tests(narrow, NULL, NULL);
    return cmocka_run_group_tests(models, NULL, NULL);
}
