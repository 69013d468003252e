/* Rows of an f-gram model on the fake device, which is fed the main model's word embeddings: near
 * the CPU's, the same bits in any batch; little memory, failures, a killed and resumed job. */
#include "support/counting.h"
#include "support/handles.h"

#include <unistd.h>

#include "cuda_module/cuda_ops.h"
#include "device/fake_device.h"
#include "kernels/cuda/cuda_emulation.h"
#include "model/device_forward.h"
#include "model/device_home.h"
#include "model/fgram_job.h"

#define N 16
#define HIDDEN 48
#define BOUND 1e-4 /* model/fgram_rows.h */

static emb_ngram_fgram set[N];
static emb_env env;
static test_allocator memory;
static emb_fake *fake;
static tiny_model tiny[2];
static embed_model *model, *fgram;

static void open_models(tiny_spec main_spec, tiny_spec fgram_spec) {
    uint64_t seed = 11;
    embed_model_params params = EMBED_MODEL_PARAMS_INIT;
    test_allocator_init(&memory, 0);
    params.allocator = &memory.allocator;
    fgram_spec.seed = main_spec.seed + 5;
    tiny_model_make(&tiny[0], &main_spec);
    tiny_model_make(&tiny[1], &fgram_spec);
    TEST_OK(embed_model_open(&model, tiny[0].dir, &params));
    TEST_OK(embed_model_open(&fgram, tiny[1].dir, &params));
    for (int i = 0; i < N; i++) {
        set[i].length = (uint8_t)(2 + test_rand(&seed) % 7);
        for (int t = 0; t < set[i].length; t++)
            set[i].ids[t] = (uint32_t)(TINY_FIRST_WORD + test_rand(&seed) % 190);
    }
}

static void close_models(void) {
    embed_model_free(model);
    embed_model_free(fgram);
    assert_int_equal(memory.live, 0);
    tiny_model_remove(&tiny[0]);
    tiny_model_remove(&tiny[1]);
}

static emb_place make_fake(uint64_t seed, uint64_t bytes) {
    emb_fake_params params = {.seed = seed,
                              .memory_bytes = bytes,
                              .run_job = emb_emulation_run,
                              .job_error = emb_emulation_error};
    params.ops = emb_cuda_ops(&params.n_ops);
    env = test_env();
    emb_emulation_redirect(emb_fake_submit, NULL);
    emb_emulation_seed(seed);
    assert_int_equal(emb_fake_create(&fake, &env, &params), EMBED_OK);
    return (emb_place){.backend = emb_fake_backend(fake), .dtype = EMBED_F32};
}

static void drop_fake(void) {
    emb_device_homes_free(fgram);
    assert_int_equal(emb_fake_live(fake), 0);
    assert_string_equal(emb_fake_fault(fake), "");
    emb_fake_free(fake);
    emb_emulation_redirect(NULL, NULL);
}

static embed_status rows(float *out, int batch, size_t step, const emb_place *place) {
    emb_fgram_encoder *e;
    embed_status st = emb_fgram_create(&e, model, fgram, EMB_FGRAM_MODEL, 1, batch, place);
    for (size_t i = 0; i < N && st == EMBED_OK; i += step)
        st = emb_fgram_run(e, set + i, step < N - i ? step : N - i, i, out + i * HIDDEN);
    if (st == EMBED_OK)
        assert_true(emb_fgram_window(e) > 0);
    emb_fgram_free(e);
    return st;
}

static void check(const float *got, const float *want, double bound) {
    for (size_t i = 0; i < N * HIDDEN; i++)
        if (!(fabs((double)got[i] - (double)want[i]) <= bound))
            fail_msg("number %zu of row %zu: expected %g, found %g", i % HIDDEN, i / HIDDEN,
                     (double)want[i], (double)got[i]);
}

static void near_the_cpu(void **state) {
    static const struct {
        int batch;
        size_t step;
    } ways[] = {{4096, N}, {37, 11}, {8, 7}};
    static float want[N * HIDDEN], first[N * HIDDEN], got[N * HIDDEN];
    const tiny_spec mains[] = {tiny_spec_dense(), tiny_spec_moe(), tiny_spec_dense()};
    const tiny_spec fgrams[] = {tiny_spec_moe(), tiny_spec_bert(), tiny_spec_xlmr()};
    (void)state;
    for (size_t m = 0; m < sizeof mains / sizeof mains[0]; m++) {
        tiny_spec main_spec = mains[m];
        main_spec.dtype = m == 1 ? EMBED_F16 : main_spec.dtype;
        open_models(main_spec, fgrams[m]);
        TEST_OK(rows(want, 4096, N, NULL));
        for (uint64_t way = 0; way < sizeof ways / sizeof ways[0]; way++) {
            emb_place place = make_fake(way, 0);
            TEST_OK(rows(got, ways[way].batch, ways[way].step, &place));
            check(got, want, BOUND);
            if (way == 0)
                memcpy(first, got, sizeof got);
            assert_memory_equal(got, first, sizeof got);
            drop_fake();
        }
        emb_place place = make_fake(5, 0);
        place.dtype = EMBED_BF16;
        TEST_OK(rows(got, 4096, N, &place));
        check(got, want, 0.2);
        drop_fake();
        close_models();
    }
}

/* Room for the weights, the main model's words and half of the batch. */
static void little_memory(void **state) {
    static float want[N * HIDDEN], got[N * HIDDEN];
    size_t weights;
    emb_device_plan whole, half;
    (void)state;
    open_models(tiny_spec_dense(), tiny_spec_bert());
    TEST_OK(rows(want, 4096, N, NULL));
    TEST_OK(emb_device_weights_bytes(fgram, EMBED_F32, &weights));
    TEST_OK(emb_device_plan_make(&whole, fgram, EMBED_F32, 512));
    TEST_OK(emb_device_plan_make(&half, fgram, EMBED_F32, 256));
    const size_t words = (size_t)model->weights.word.rows * HIDDEN * sizeof(float);
    emb_place place = make_fake(1, weights + words + (whole.device_bytes + half.device_bytes) / 2);
    TEST_OK(rows(got, 512, N, &place));
    check(got, want, BOUND);
    drop_fake();
    place = make_fake(1, weights);
    assert_int_equal(rows(got, 512, N, &place), EMBED_ERR_NOMEM);
    drop_fake();
    close_models();
}

static void every_call_fails(void **state) {
    static const struct {
        emb_fake_call call;
        emb_device_code code;
    } cases[] = {{EMB_FAKE_ANY, EMB_DEVICE_FAILED},
                 {EMB_FAKE_ANY, EMB_DEVICE_LOST},
                 {EMB_FAKE_ALLOC, EMB_DEVICE_NO_MEMORY},
                 {EMB_FAKE_EXECUTION, EMB_DEVICE_LOST}};
    static float want[N * HIDDEN], got[N * HIDDEN];
    tiny_spec small = tiny_spec_bert();
    (void)state;
    small.layers = 1;
    open_models(tiny_spec_dense(), small);
    TEST_OK(rows(want, 4096, N, NULL));
    const long before = memory.live;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (long n = 1, reached = 1; reached; n += 1 + n / 3) {
            const emb_place place = make_fake((uint64_t)n, 0);
            emb_fake_fail(fake, cases[i].call, n, cases[i].code);
            const embed_status st = rows(got, 4096, N, &place);
            reached = emb_fake_calls(fake, cases[i].call) >= n;
            if (st == EMBED_OK)
                check(got, want, BOUND);
            else
                assert_true(st == EMBED_ERR_DEVICE || st == EMBED_ERR_NOMEM);
            drop_fake();
            assert_int_equal(memory.live, before);
        }
    close_models();
}

static int32_t stop_after(void *user, const embed_job_report *report) {
    return report->done > 0 && --*(int *)user < 0;
}

/* A job resumed on the same device ends with the same bytes; rows of another are not mixed in. */
static void jobs(void **state) {
    char dir[256], list[300], whole[300], resumed[300], line[128];
    int left = 100;
    size_t size;
    (void)state;
    open_models(tiny_spec_dense(), tiny_spec_bert());
    test_dir_make(dir);
    (void)snprintf(list, sizeof list, "%s/list", dir);
    (void)snprintf(whole, sizeof whole, "%s/whole.npy", dir);
    (void)snprintf(resumed, sizeof resumed, "%s/resumed.npy", dir);
    FILE *f = fopen(list, "w");
    assert_non_null(f);
    for (int i = 0; i < 200; i++) {
        const int n = snprintf(line, sizeof line, "{\"ids\":[%d,%d],\"count\":%d}\n",
                               TINY_FIRST_WORD + i % 20, TINY_FIRST_WORD + i / 20, 300 - i);
        assert_int_equal(fwrite(line, 1, (size_t)n, f), n);
    }
    assert_int_equal(fclose(f), 0);
    const emb_place place = make_fake(1, 0);
    emb_fgram_job job = {.model = model,
                         .fgram = fgram,
                         .list = list,
                         .output = whole,
                         .source = EMB_FGRAM_MODEL,
                         .threads = 1,
                         .batch_tokens = 64,
                         .place = place,
                         .memory = 16 << 20,
                         .report = stop_after,
                         .user = &left};
    TEST_OK(emb_fgram_job_run(&env, &job));
    char *bytes = counting_read(whole, &size);
    assert_non_null(bytes);
    job.output = resumed;
    job.resume = 1;
    left = 1;
    assert_int_equal(emb_fgram_job_run(&env, &job), EMBED_ERR_CANCELLED);
    left = 100;
    job.place = (emb_place){.dtype = EMBED_F32};
    assert_int_equal(emb_fgram_job_run(&env, &job), EMBED_ERR_MISMATCH);
    job.place = place;
    TEST_OK(emb_fgram_job_run(&env, &job));
    assert_true(counting_same(resumed, bytes, size));
    free(bytes);
    drop_fake();
    test_dir_remove(dir);
    close_models();
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(near_the_cpu),
                                       cmocka_unit_test(little_memory),
                                       cmocka_unit_test(every_call_fails), cmocka_unit_test(jobs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
