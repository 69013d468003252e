/* The true shape of nomic-embed-text-v2-moe: 475 M random parameters, written on the first run
 * (1.9 GB under build/models), against the float64 reference (make_expected.py), and what such a
 * model costs in memory and in time to open. */
#define _XOPEN_SOURCE 700 /* clock_gettime */
#include "support/test.h"

#include "embed.h"
#include "support/nomic_moe.h"
#include "third_party/yyjson/yyjson.h"

#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MODEL_DIR TEST_MODELS_DIR "/nomic-moe-random"
#define MAX_REL_L2 3e-6
#define EXTRA_BYTES (256u << 20) /* memory beside the mapped weights */
#define OPEN_SECONDS 1.0

enum { TEXTS = 5, DIM = 768 };

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1 /* memory and time are not the library's then */
#else
#define SANITIZED 0
#endif

static double seconds(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* A line of /proc/self/status in bytes, such as "VmHWM:" (peak resident memory). */
static uint64_t status_bytes(const char *key) {
    char line[256];
    unsigned long long kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, key, strlen(key)) == 0)
            kib = strtoull(line + strlen(key), NULL, 10);
    fclose(f);
    assert_true(kib > 0);
    return (uint64_t)kib << 10;
}

static embed_model *open_model(void) {
    embed_model *model = NULL;
    if (embed_model_open(&model, MODEL_DIR, NULL) != EMBED_OK)
        fail_msg("%s", embed_last_error());
    return model;
}

static embed_context *create_context(embed_model *model) {
    embed_context *ctx = NULL;
    if (embed_context_create(&ctx, model, NULL) != EMBED_OK)
        fail_msg("%s", embed_last_error());
    return ctx;
}

static int write_model(void **state) {
    (void)state;
    if (mkdir(TEST_MODELS_DIR, 0777) != 0 && access(TEST_MODELS_DIR, W_OK) != 0)
        return -1;
    return test_write_nomic_moe(MODEL_DIR, TEST_DATA_DIR "/tokenizers/xlm-roberta/tokenizer.json");
}

static void test_facts(void **state) {
    (void)state;
    embed_model *model = open_model();
    embed_model_info info = {.struct_size = sizeof info};
    assert_int_equal(embed_model_get_info(model, &info), EMBED_OK);
    assert_string_equal(info.architecture, "nomic_bert");
    assert_int_equal(info.dim, DIM);
    assert_int_equal(info.layers, 12);
    assert_int_equal(info.moe_layers, 6);
    assert_int_equal(info.experts, 8);
    assert_int_equal(info.experts_per_token, 2);
    assert_int_equal(info.max_tokens, 512);
    assert_int_equal(info.params_total, 475292928);
    assert_int_equal(info.weight_bytes, 475292928ull * 4);
    embed_model_free(model);
}

static void read_expected(yyjson_doc **doc, embed_ids rows[TEXTS], int32_t *ids[TEXTS]) {
    *doc = yyjson_read_file("long/expected.json", 0, NULL, NULL);
    assert_non_null(*doc);
    yyjson_val *all = yyjson_obj_get(yyjson_doc_get_root(*doc), "ids");
    assert_int_equal(yyjson_arr_size(all), TEXTS);
    for (size_t i = 0; i < TEXTS; i++) {
        yyjson_val *row = yyjson_arr_get(all, i), *v;
        size_t at, n;
        ids[i] = malloc(yyjson_arr_size(row) * sizeof **ids);
        assert_non_null(ids[i]);
        yyjson_arr_foreach(row, at, n, v) ids[i][at] = (int32_t)yyjson_get_int(v);
        rows[i] = (embed_ids){ids[i], yyjson_arr_size(row)};
    }
}

static void check_experts(embed_context *ctx, yyjson_val *experts) {
    for (size_t i = 0; i < yyjson_arr_size(experts); i++) {
        embed_expert_stats stats = {.struct_size = sizeof stats};
        yyjson_val *want = yyjson_arr_get(experts, i), *tokens = yyjson_obj_get(want, "tokens");
        assert_int_equal(embed_get_expert_stats(ctx, (int32_t)i, &stats), EMBED_OK);
        assert_int_equal(stats.layer, yyjson_get_int(yyjson_obj_get(want, "layer")));
        for (size_t e = 0; e < 8; e++)
            assert_int_equal(stats.expert_tokens[e], yyjson_get_int(yyjson_arr_get(tokens, e)));
    }
}

static void test_vectors(void **state) {
    (void)state;
    static float batched[TEXTS * DIM], alone[DIM];
    static double want[DIM];
    yyjson_doc *doc;
    embed_ids rows[TEXTS];
    int32_t *ids[TEXTS];
    read_expected(&doc, rows, ids);
    yyjson_val *root = yyjson_doc_get_root(doc), *vectors = yyjson_obj_get(root, "vectors");
    embed_model *model = open_model();
    embed_context *ctx = create_context(model);
    if (embed_encode_ids(ctx, rows, TEXTS, NULL, batched, TEXTS * DIM) != EMBED_OK)
        fail_msg("%s", embed_last_error());
    check_experts(ctx, yyjson_obj_get(root, "experts"));
    for (size_t i = 0; i < TEXTS; i++) {
        for (size_t k = 0; k < DIM; k++)
            want[k] = yyjson_get_num(yyjson_arr_get(yyjson_arr_get(vectors, i), k));
        const double err = test_rel_l2(batched + i * DIM, want, DIM);
        print_message("           %3zu tokens: relative L2 error %.2e\n", rows[i].len, err);
        if (!(err <= MAX_REL_L2))
            fail_msg("%zu tokens: relative L2 error %.3g, at most %.3g", rows[i].len, err,
                     MAX_REL_L2);
        if (embed_encode_ids(ctx, rows + i, 1, NULL, alone, DIM) != EMBED_OK)
            fail_msg("%s", embed_last_error());
        assert_memory_equal(alone, batched + i * DIM, sizeof alone);
    }
    embed_context_free(ctx);
    embed_model_free(model);
    for (size_t i = 0; i < TEXTS; i++)
        free(ids[i]);
    yyjson_doc_free(doc);
}

/* 64 texts of 128 tokens and one of 512 within the default token budget. */
static void test_memory(void **state) {
    enum { N = 65, LEN = 128, LONGEST = 512 };
    (void)state;
    if (SANITIZED)
        skip();
    embed_model *model = open_model();
    embed_context *ctx = create_context(model);
    embed_model_info info = {.struct_size = sizeof info};
    embed_ids rows[N];
    int32_t *ids = malloc(((N - 1) * LEN + LONGEST) * sizeof *ids);
    float *out = malloc(N * DIM * sizeof *out);
    uint64_t seed = 2502;
    assert_non_null(ids);
    assert_non_null(out);
    assert_int_equal(embed_model_get_info(model, &info), EMBED_OK);
    for (size_t i = 0; i < (N - 1) * LEN + LONGEST; i++)
        ids[i] = (int32_t)(4 + test_rand(&seed) % 250000);
    for (size_t i = 0; i < N; i++)
        rows[i] = (embed_ids){ids + i * LEN, i + 1 < N ? LEN : LONGEST};
    if (embed_encode_ids(ctx, rows, N, NULL, out, N * DIM) != EMBED_OK)
        fail_msg("%s", embed_last_error());
    /* Nothing is given back before the free, so what is allocated now is the most there was. */
    const uint64_t peak = status_bytes("VmHWM:"), own = status_bytes("RssAnon:");
    print_message(
        "           resident: peak %.0f MiB, of it allocated %.0f MiB; weights %.0f MiB\n",
        (double)peak / 0x1p20, (double)own / 0x1p20, (double)info.weight_bytes / 0x1p20);
    if (!(own <= EXTRA_BYTES))
        fail_msg("%llu bytes allocated, at most %u", (unsigned long long)own, EXTRA_BYTES);
    if (!(peak <= info.weight_bytes + EXTRA_BYTES))
        fail_msg("peak resident memory %llu bytes, at most the weights' %llu and %u",
                 (unsigned long long)peak, (unsigned long long)info.weight_bytes, EXTRA_BYTES);
    free(out);
    free(ids);
    embed_context_free(ctx);
    embed_model_free(model);
}

/* Well under a second with warm pages: nothing is copied or checked byte by byte. */
static void test_open(void **state) {
    (void)state;
    if (SANITIZED)
        skip();
    const double start = seconds(CLOCK_MONOTONIC), cpu_start = seconds(CLOCK_PROCESS_CPUTIME_ID);
    embed_model *model = open_model();
    const double took = seconds(CLOCK_MONOTONIC) - start;
    const double cpu = seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu_start;
    print_message("           opened in %.3f s, %.3f s of them computing\n", took, cpu);
    if (!(cpu <= OPEN_SECONDS))
        fail_msg("opening took %.3f s of CPU time, at most %.1f", cpu, OPEN_SECONDS);
    embed_model_free(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_facts), cmocka_unit_test(test_vectors),
                                       cmocka_unit_test(test_memory), cmocka_unit_test(test_open)};
    return cmocka_run_group_tests(tests, write_model, NULL);
}
