/* Whole models on a fake device that says it is of sm_90, where all 16-bit products are made by the
 * kernel of gemm_sm90.cu and by no other: in batches and graphs the bits of the other one, since
 * under emulation both add in one order. */
#include "support/device_world.h"

/* The operations, "gemm" being the one that refuses what the kernel does not take. */
static const emb_op_entry *forced(size_t *n) {
    static emb_op_entry ops[32];
    const emb_op_entry *const all = emb_cuda_ops(n);
    const emb_op_entry *sm90 = NULL;
    assert_true(*n <= sizeof ops / sizeof *ops);
    for (size_t i = 0; i < *n; i++)
        if (strcmp(all[i].name, "gemm_sm90") == 0)
            sm90 = &all[i];
    assert_non_null(sm90);
    for (size_t i = 0; i < *n; i++) {
        ops[i] = all[i];
        if (strcmp(all[i].name, "gemm") == 0)
            ops[i].run = sm90->run;
    }
    return ops;
}

static void make_device(world *w, uint64_t seed, int sm90) {
    emb_fake_params params = {
        .seed = seed, .run_job = emb_emulation_run, .job_error = emb_emulation_error};
    params.ops = sm90 ? forced(&params.n_ops) : emb_cuda_ops(&params.n_ops);
    if (sm90) {
        params.arch = 90;
        params.shared_bytes = 227 << 10;
        params.tensor_maps = emb_emulation_tensor_maps;
    }
    w->env = test_env();
    emb_emulation_redirect(emb_fake_submit, NULL);
    emb_emulation_seed(seed);
    assert_int_equal(emb_fake_create(&w->fake, &w->env, &params), EMBED_OK);
}

static void vectors(world *w, int32_t dtype, uint64_t seed, int sm90, float *out) {
    embed_context *ctx;
    static float again[TEXTS * MAX_DIM];
    make_device(w, seed, sm90);
    TEST_OK(on_device(w, NULL, dtype, &ctx));
    TEST_OK(encode(ctx, w, TEXTS, out));
    TEST_OK(encode(ctx, w, TEXTS, again));
    assert_memory_equal(out, again, TEXTS * (size_t)w->model->dim * sizeof *out);
    TEST_OK(encode(ctx, w, 1, again)); /* alone: the same bits */
    assert_memory_equal(out, again, (size_t)w->model->dim * sizeof *out);
    embed_context_free(ctx);
    assert_string_equal(emb_fake_fault(w->fake), "");
    drop_fake(w);
}

static void same(tiny_spec spec) {
    world w;
    static float by_mma[TEXTS * MAX_DIM], by_wgmma[TEXTS * MAX_DIM];
    open_world(&w, spec, 20);
    for (int32_t dtype = EMBED_F16; dtype <= EMBED_BF16; dtype++) {
        vectors(&w, dtype, 0, 0, by_mma);
        vectors(&w, dtype, 1 + (uint64_t)dtype, 1, by_wgmma);
        assert_memory_equal(by_mma, by_wgmma, TEXTS * (size_t)w.model->dim * sizeof *by_mma);
    }
    close_world(&w);
}

static void experts(void **state) {
    (void)state;
    same(tiny_spec_moe());
}

static void gated(void **state) {
    (void)state;
    same(tiny_spec_gated());
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(experts), cmocka_unit_test(gated)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
