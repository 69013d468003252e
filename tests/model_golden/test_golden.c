/* The public API against the float64 reference on every architecture (tests/golden/README.md):
 * token ids, vectors of all roles and options, per-token states after 1, 2 ... layers, expert
 * counts.
 *
 *     test_golden [--golden FILE -m DIR] [--device cuda|emulated]
 *
 * compares with published vectors of a real model as well (tests/golden/published), and encodes on
 * a device, within what embed.h says of its error. */
#define _XOPEN_SOURCE 700 /* mkdtemp, realpath */
#include "support/test.h"

#include "embed.h"
#include "third_party/yyjson/yyjson.h"

#include <dirent.h>
#include <unistd.h>

#define MINILM_DIR TEST_MODELS_DIR "/all-MiniLM-L6-v2"
#define GATE_REL 1e-5

static const char *published_file, *published_model;
static int32_t device_kind = EMBED_DEVICE_CPU;
static double max_rel_l2 = 3e-6;    /* any text, against float64 */
static double median_rel_l2 = 1e-6; /* over the texts of a checkpoint */

static const char *const checkpoints[] = {
    "nomic-moe",   "nomic-moe-odd", "nomic-moe-ties", "nomic-swiglu",   "nomic-native",
    "nomic-geglu", "nomic-glu",     "nomic-dense",    "bert",           "bert-modes",
    "bert-dense",  "bert-prompt",   "xlm-roberta",    "xlm-roberta-cls"};

/* ------------------------------------------------------------------------------------- files */

static yyjson_doc *read_json(const char *path) {
    yyjson_read_err err;
    yyjson_doc *doc = yyjson_read_file(path, 0, NULL, &err);
    if (doc == NULL)
        fail_msg("%s: %s at byte %zu", path, err.msg, err.pos);
    return doc;
}

static double *read_numbers(yyjson_val *array, size_t *n) {
    size_t i, max;
    yyjson_val *v;
    *n = yyjson_arr_size(array);
    double *out = malloc((*n + 1) * sizeof *out);
    assert_non_null(out);
    yyjson_arr_foreach(array, i, max, v) out[i] = yyjson_get_num(v);
    return out;
}

static embed_text text_of(yyjson_val *v) {
    return (embed_text){yyjson_get_str(v), yyjson_get_len(v)};
}

static int number(yyjson_val *object, const char *key, int missing) {
    yyjson_val *v = yyjson_obj_get(object, key);
    return v == NULL ? missing : (int)yyjson_get_num(v);
}

/* ------------------------------------------------------------------------------------ errors */

typedef struct errors {
    double e[1024];
    size_t n;
} errors;

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void compare(errors *all, const char *what, size_t text, const float *got,
                    const double *want, size_t n) {
    const double err = test_rel_l2(got, want, n);
    if (!(err <= max_rel_l2))
        fail_msg("%s, text %zu: relative L2 error %.3g, at most %.3g", what, text, err, max_rel_l2);
    assert_true(all->n < sizeof all->e / sizeof all->e[0]);
    all->e[all->n++] = err;
}

static void report(errors *all, const char *name) {
    assert_true(all->n > 0);
    qsort(all->e, all->n, sizeof all->e[0], ascending);
    const double median = all->e[all->n / 2], worst = all->e[all->n - 1];
    print_message("           %-18s %3zu vectors, relative L2 median %.1e, worst %.1e\n", name,
                  all->n, median, worst);
    if (!(median <= median_rel_l2))
        fail_msg("%s: median relative L2 error %.3g, at most %.3g", name, median, median_rel_l2);
}

static embed_status make_context(embed_context **ctx, embed_model *model) {
    embed_context_params p = EMBED_CONTEXT_PARAMS_INIT;
    p.device = device_kind;
    return embed_context_create(ctx, model, &p);
}

/* ------------------------------------------------------------------------------------- cases */

static int32_t role_of(const char *name) {
    static const char *const names[] = {"none", "default", "query", "document"};
    for (int32_t i = 0; i < 4; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    fail_msg("unknown role %s", name);
    return 0;
}

static void check_experts(embed_context *ctx, const embed_model_info *info, yyjson_val *experts) {
    size_t i, max;
    yyjson_val *want;
    assert_int_equal(info->moe_layers, yyjson_arr_size(experts));
    yyjson_arr_foreach(experts, i, max, want) {
        embed_expert_stats stats = {.struct_size = sizeof stats};
        assert_int_equal(embed_get_expert_stats(ctx, (int32_t)i, &stats), EMBED_OK);
        size_t n, n_gates;
        double *tokens = read_numbers(yyjson_obj_get(want, "tokens"), &n);
        double *gates = read_numbers(yyjson_obj_get(want, "mean_gate"), &n_gates);
        uint64_t sum = 0, most = 0;
        assert_int_equal(stats.layer, number(want, "layer", -1));
        assert_int_equal(stats.experts, n);
        for (size_t e = 0; e < n; e++) {
            if (stats.expert_tokens[e] != (uint64_t)tokens[e])
                fail_msg("layer %d, expert %zu: got %llu tokens, want %.0f", stats.layer, e,
                         (unsigned long long)stats.expert_tokens[e], tokens[e]);
            if (!(fabs(stats.expert_gate[e] - gates[e]) <= GATE_REL * gates[e]))
                fail_msg("layer %d, expert %zu: mean gate %.9g, want %.9g", stats.layer, e,
                         stats.expert_gate[e], gates[e]);
            sum += stats.expert_tokens[e];
            most = stats.expert_tokens[e] > most ? stats.expert_tokens[e] : most;
        }
        assert_int_equal(sum, stats.tokens * (uint64_t)info->experts_per_token);
        if (!(fabs(stats.busiest_share - (double)most / (double)sum) <= 1e-6))
            fail_msg("layer %d: busiest share %.9g", stats.layer, (double)stats.busiest_share);
        free(tokens);
        free(gates);
    }
}

/* One embed_encode call with everything the case asks for. */
static void run_case(embed_context *ctx, const embed_model_info *info, yyjson_val *texts,
                     yyjson_val *want, errors *all) {
    yyjson_val *picked = yyjson_obj_get(want, "texts");
    yyjson_val *vectors = yyjson_obj_get(want, "vectors");
    yyjson_val *prefix = yyjson_obj_get(want, "prefix");
    yyjson_val *normalize = yyjson_obj_get(want, "normalize");
    const size_t n = yyjson_arr_size(picked);
    embed_encode_params p = EMBED_ENCODE_PARAMS_INIT;
    p.role = role_of(yyjson_get_str(yyjson_obj_get(want, "role")));
    p.dim = number(want, "dim", 0);
    p.max_tokens = number(want, "max_tokens", 0);
    if (normalize != NULL)
        p.flags = yyjson_get_bool(normalize) ? EMBED_NORMALIZE : EMBED_NO_NORMALIZE;
    if (prefix != NULL) {
        p.prefix = yyjson_get_str(prefix);
        p.prefix_len = yyjson_get_len(prefix);
    }
    embed_text *in = calloc(n, sizeof *in);
    embed_text_report *reports = calloc(n, sizeof *reports);
    const size_t dim = p.dim > 0 ? (size_t)p.dim : (size_t)info->dim, elements = n * dim;
    p.reports = reports;
    float *out = malloc(elements * sizeof *out);
    for (size_t i = 0; i < elements; i++)
        out[i] = NAN;
    for (size_t i = 0; i < n; i++)
        in[i] = text_of(yyjson_arr_get(texts, (size_t)yyjson_get_num(yyjson_arr_get(picked, i))));
    if (embed_encode(ctx, in, n, &p, out, elements) != EMBED_OK)
        fail_msg("%s", embed_last_error());
    for (size_t i = 0; i < n; i++) {
        const size_t text = (size_t)yyjson_get_num(yyjson_arr_get(picked, i));
        size_t width;
        double *v = read_numbers(yyjson_arr_get(vectors, i), &width);
        assert_int_equal(width, dim);
        assert_int_equal(reports[i].tokens,
                         (int)yyjson_get_num(yyjson_arr_get(yyjson_obj_get(want, "tokens"), i)));
        assert_int_equal(reports[i].truncated,
                         (int)yyjson_get_num(yyjson_arr_get(yyjson_obj_get(want, "truncated"), i)));
        compare(all, "encode", text, out + i * dim, v, dim);
        free(v);
    }
    check_experts(ctx, info, yyjson_obj_get(want, "experts"));
    free(out);
    free(reports);
    free(in);
}

static void check_ids(const embed_model *model, embed_text text, yyjson_val *want) {
    size_t n, got_n;
    double *ids = read_numbers(want, &n);
    int32_t *got = malloc((n + 1) * sizeof *got);
    assert_non_null(got);
    if (embed_tokenize(model, text, NULL, got, n + 1, &got_n) != EMBED_OK)
        fail_msg("%s", embed_last_error());
    assert_int_equal(got_n, n);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(got[i], (int32_t)ids[i]);
    free(got);
    free(ids);
}

/* ------------------------------------------------------------------------------------ states */

/* Links every file of `dir` but config.json into the new directory `target`; undo: removes them. */
static void link_files(const char *dir, const char *target, int undo) {
    char from[1024], to[1024];
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (const struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        if (e->d_name[0] == '.')
            continue;
        snprintf(from, sizeof from, "%s/%s", dir, e->d_name);
        snprintf(to, sizeof to, "%s/%s", target, e->d_name);
        if (undo) {
            unlink(to);
        } else if (strcmp(e->d_name, "config.json") != 0) {
            char *full = realpath(from, NULL);
            assert_non_null(full);
            assert_int_equal(symlink(full, to), 0);
            free(full);
        }
    }
    closedir(d);
    if (undo)
        rmdir(target);
}

/* config.json with another number of layers: the last hidden state of such a checkpoint is the
 * state after that many. */
static void write_config(const char *dir, const char *target, int layers) {
    char path[1024];
    const char *const keys[] = {"n_layer", "num_hidden_layers"};
    snprintf(path, sizeof path, "%s/config.json", dir);
    yyjson_doc *doc = read_json(path);
    yyjson_mut_doc *copy = yyjson_doc_mut_copy(doc, NULL);
    for (size_t i = 0; i < 2; i++) {
        yyjson_mut_val *v = yyjson_mut_obj_get(yyjson_mut_doc_get_root(copy), keys[i]);
        if (v != NULL)
            yyjson_mut_set_int(v, layers);
    }
    snprintf(path, sizeof path, "%s/config.json", target);
    assert_true(yyjson_mut_write_file(path, copy, 0, NULL, NULL));
    yyjson_mut_doc_free(copy);
    yyjson_doc_free(doc);
}

static void check_states(const char *dir, yyjson_val *texts, yyjson_val *want, errors *all) {
    char target[] = "/tmp/embed-golden-XXXXXX";
    assert_non_null(mkdtemp(target));
    link_files(dir, target, 0);
    write_config(dir, target, number(want, "layers", 0));
    embed_model *model = NULL;
    embed_context *ctx = NULL;
    const embed_status st = embed_model_open(&model, target, NULL);
    link_files(dir, target, 1);
    if (st != EMBED_OK || make_context(&ctx, model) != EMBED_OK)
        fail_msg("%s", embed_last_error());
    size_t n, tokens;
    double *values = read_numbers(yyjson_obj_get(want, "values"), &n);
    float *out = malloc(n * sizeof *out);
    const size_t text = (size_t)number(want, "text", 0);
    if (embed_encode_tokens(ctx, text_of(yyjson_arr_get(texts, text)), NULL, out, n, NULL,
                            &tokens) != EMBED_OK)
        fail_msg("%s", embed_last_error());
    assert_int_equal(tokens, number(want, "tokens", 0));
    compare(all, "states", text, out, values, n);
    free(out);
    free(values);
    embed_context_free(ctx);
    embed_model_free(model);
}

/* ------------------------------------------------------------------------------------- tests */

static void check_checkpoint(const char *dir, const char *name) {
    char path[512];
    snprintf(path, sizeof path, "golden/expected/%s.json", name);
    yyjson_doc *doc = read_json(path);
    yyjson_val *root = yyjson_doc_get_root(doc), *texts = yyjson_obj_get(root, "texts"), *v;
    embed_model *model = NULL;
    embed_context *ctx = NULL;
    embed_model_info info = {.struct_size = sizeof info};
    errors *all = calloc(1, sizeof *all);
    size_t i, max;
    assert_non_null(all);
    if (embed_model_open(&model, dir, NULL) != EMBED_OK || make_context(&ctx, model) != EMBED_OK ||
        embed_model_get_info(model, &info) != EMBED_OK)
        fail_msg("%s", embed_last_error());
    assert_int_equal(info.dim, number(root, "dim", 0));
    assert_int_equal(info.hidden, number(root, "hidden", 0));
    assert_int_equal(info.max_tokens, number(root, "max_tokens", 0));
    assert_int_equal(info.normalized, number(root, "normalized", 0));
    yyjson_arr_foreach(yyjson_obj_get(root, "ids"), i, max, v)
        check_ids(model, text_of(yyjson_arr_get(texts, i)), v);
    yyjson_arr_foreach(yyjson_obj_get(root, "cases"), i, max, v)
        run_case(ctx, &info, texts, v, all);
    yyjson_arr_foreach(yyjson_obj_get(root, "states"), i, max, v) check_states(dir, texts, v, all);
    report(all, name);
    free(all);
    embed_context_free(ctx);
    embed_model_free(model);
    yyjson_doc_free(doc);
}

static void test_checkpoint(void **state) {
    char dir[512];
    const char *name = *state;
    snprintf(dir, sizeof dir, "golden/checkpoints/%s", name);
    check_checkpoint(dir, name);
}

static void test_minilm(void **state) {
    (void)state;
    if (access(MINILM_DIR "/model.safetensors", R_OK) != 0) {
        print_message("           skipped: no " MINILM_DIR "; sh examples/fetch_minilm.sh\n");
        skip();
    }
    check_checkpoint(MINILM_DIR, "all-MiniLM-L6-v2");
}

/* float32 vectors printed with 8 digits by another engine: 2e-5 allows for its own rounding. */
static void test_published(void **state) {
    (void)state;
    if (published_file == NULL || published_model == NULL)
        skip();
    yyjson_doc *doc = read_json(published_file);
    yyjson_val *root = yyjson_doc_get_root(doc), *texts = yyjson_obj_get(root, "texts"), *v;
    embed_model *model = NULL;
    embed_context *ctx = NULL;
    embed_encode_params p = EMBED_ENCODE_PARAMS_INIT;
    size_t i, max;
    p.flags = EMBED_NO_NORMALIZE;
    if (embed_model_open(&model, published_model, NULL) != EMBED_OK ||
        make_context(&ctx, model) != EMBED_OK)
        fail_msg("%s", embed_last_error());
    yyjson_arr_foreach(yyjson_obj_get(root, "embeddings"), i, max, v) {
        size_t n;
        double *want = read_numbers(v, &n);
        float *got = malloc(n * sizeof *got);
        const embed_text text = text_of(yyjson_arr_get(texts, i));
        if (embed_encode(ctx, &text, 1, &p, got, n) != EMBED_OK)
            fail_msg("%s", embed_last_error());
        const double err = test_rel_l2(got, want, n);
        print_message("           %s: relative L2 error %.2e\n", text.ptr, err);
        if (!(err <= 2e-5))
            fail_msg("%s: relative L2 error %.3g, at most 2e-5", text.ptr, err);
        free(got);
        free(want);
    }
    embed_context_free(ctx);
    embed_model_free(model);
    yyjson_doc_free(doc);
}

int main(int argc, char **argv) {
    enum { N = sizeof checkpoints / sizeof checkpoints[0] };
    struct CMUnitTest tests[N + 2];
    memset(tests, 0, sizeof tests);
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--golden") == 0)
            published_file = argv[i + 1];
        else if (strcmp(argv[i], "-m") == 0)
            published_model = argv[i + 1];
        else if (strcmp(argv[i], "--device") == 0 && strcmp(argv[i + 1], "cuda") == 0)
            device_kind = EMBED_DEVICE_CUDA;
        else if (strcmp(argv[i], "--device") == 0 && strcmp(argv[i + 1], "emulated") == 0)
            device_kind = EMBED_DEVICE_EMULATED;
        else
            return fprintf(stderr, "usage: %s [--golden FILE -m DIR] [--device cuda|emulated]\n",
                           argv[0]),
                   2;
    }
    if (device_kind != EMBED_DEVICE_CPU) {
        max_rel_l2 = 2e-5;
        median_rel_l2 = 5e-6;
    }
    for (size_t i = 0; i < N; i++)
        tests[i] = (struct CMUnitTest){.name = checkpoints[i],
                                       .test_func = test_checkpoint,
                                       .initial_state = (void *)(uintptr_t)checkpoints[i]};
    tests[N] = (struct CMUnitTest){.name = "all-MiniLM-L6-v2", .test_func = test_minilm};
    tests[N + 1] = (struct CMUnitTest){.name = "published", .test_func = test_published};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
