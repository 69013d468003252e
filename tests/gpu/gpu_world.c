#include "gpu/gpu_world.h"

#include "model/model.h"

int32_t gpu_kind = EMBED_DEVICE_CUDA;
double gpu_minutes = 3;

int gpu_arguments(int argc, char **argv, const char **what) {
    int wrong = 0;
    *what = NULL;
    for (int i = 1; i < argc && !wrong; i++) {
        char *end = argv[i];
        if (strcmp(argv[i], "--device") == 0 && i + 1 < argc) {
            i++;
            gpu_kind = strcmp(argv[i], "emulated") == 0 ? EMBED_DEVICE_EMULATED : EMBED_DEVICE_CUDA;
            wrong = gpu_kind == EMBED_DEVICE_CUDA && strcmp(argv[i], "cuda") != 0;
        } else if (strcmp(argv[i], "--minutes") == 0 && i + 1 < argc) {
            gpu_minutes = strtod(argv[++i], &end);
            wrong = *end != '\0' || !(gpu_minutes >= 0);
        } else {
            wrong = *what != NULL || argv[i][0] == '-';
            *what = argv[i];
        }
    }
    if (wrong)
        (void)fprintf(stderr, "usage: %s [--device cuda|emulated] [--minutes N] [WHAT]\n", argv[0]);
    return !wrong;
}

void gpu_world_open(gpu_world *w, tiny_spec spec, size_t n, size_t max_words) {
    memset(w, 0, sizeof *w);
    test_allocator_init(&w->memory, 0);
    tiny_model_make(&w->checkpoint, &spec);
    embed_model_params params = EMBED_MODEL_PARAMS_INIT;
    params.allocator = &w->memory.allocator;
    TEST_OK(embed_model_open(&w->model, w->checkpoint.dir, &params));
    w->texts = test_texts(&w->checkpoint, 7, n, max_words);
    w->n = n;
    w->dim = (size_t)w->model->dim;
    embed_context *cpu = test_context(w->model, 0, 0);
    w->want = gpu_encode(w, cpu, n);
    embed_context_free(cpu);
}

void gpu_world_close(gpu_world *w) {
    embed_model_free(w->model);
    assert_int_equal(w->memory.live, 0);
    test_texts_free(w->texts, w->n);
    tiny_model_remove(&w->checkpoint);
    free(w->want);
}

embed_context_params gpu_params(int32_t dtype, embed_table *table, int32_t batch_tokens) {
    embed_context_params p = EMBED_CONTEXT_PARAMS_INIT;
    p.threads = 2;
    p.batch_tokens = batch_tokens;
    p.table = table;
    p.device = gpu_kind;
    p.device_dtype = dtype;
    return p;
}

embed_context *gpu_context(const gpu_world *w, int32_t dtype, embed_table *table,
                           int32_t batch_tokens) {
    const embed_context_params p = gpu_params(dtype, table, batch_tokens);
    embed_context *ctx;
    TEST_OK(embed_context_create(&ctx, w->model, &p));
    return ctx;
}

float *gpu_encode(const gpu_world *w, embed_context *ctx, size_t n) {
    float *out = malloc(n * w->dim * sizeof *out);
    assert_non_null(out);
    for (size_t i = 0; i < n * w->dim; i++)
        out[i] = NAN;
    TEST_OK(embed_encode(ctx, w->texts, n, NULL, out, n * w->dim));
    return out;
}

double gpu_error(const gpu_world *w, const float *got, const float *want, size_t n) {
    double worst = 0;
    for (size_t i = 0; i < n; i++) {
        double error = 0, norm = 0;
        for (size_t d = i * w->dim; d < (i + 1) * w->dim; d++) {
            error += ((double)got[d] - (double)want[d]) * ((double)got[d] - (double)want[d]);
            norm += (double)want[d] * (double)want[d];
        }
        error = sqrt(error / norm);
        worst = isnan(error) ? INFINITY : fmax(worst, error);
    }
    return worst;
}

void gpu_near(const char *what, const gpu_world *w, const float *got, const float *want, size_t n,
              double bound) {
    const double error = gpu_error(w, got, want, n);
    if (!(error <= bound))
        fail_msg("%s: relative error %.3g, at most %.3g", what, error, bound);
}
