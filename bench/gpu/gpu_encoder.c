/* Whole models: throughput at 64 k tokens, and the time of one short query. */
#include "gpu/gpu_encoder.h"

#include <stdlib.h>

#include "base/dtype.h"
#include "support/nomic_moe.h"

embed_status gpu_model_open(gpu_bench *b, embed_model **model) {
    static char path[1024];
    embed_model_params p = EMBED_MODEL_PARAMS_INIT;
    if (b->model_dir == NULL) {
        (void)snprintf(path, sizeof path, "%s/nomic-moe-random", b->work_dir);
        if (test_write_nomic_moe(path, GPU_BENCH_TOKENIZER) != 0)
            return emb_fail(EMBED_ERR_IO, "%s: could not be written", path);
        b->model_dir = path;
    }
    return embed_model_open(model, b->model_dir, &p);
}

embed_context_params gpu_context_params(const gpu_bench *b, int32_t dtype, int32_t batch_tokens) {
    embed_context_params p = EMBED_CONTEXT_PARAMS_INIT;
    p.device = b->kind;
    p.device_dtype = dtype;
    p.batch_tokens = batch_tokens;
    return p;
}

embed_status gpu_context_create(const gpu_bench *b, embed_model *model, int32_t dtype,
                                int32_t batch_tokens, embed_context **ctx) {
    const embed_context_params p = gpu_context_params(b, dtype, batch_tokens);
    return embed_context_create(ctx, model, &p);
}

embed_status gpu_texts_make(gpu_texts *t, const embed_model *model, const int32_t *lengths,
                            size_t n, uint64_t seed) {
    uint64_t state = seed;
    *t = (gpu_texts){.n = n, .dim = (size_t)model->dim};
    for (size_t i = 0; i < n; i++)
        t->tokens += (size_t)lengths[i];
    t->rows = calloc(n, sizeof *t->rows);
    t->ids = calloc(t->tokens, sizeof *t->ids);
    t->out = calloc(n * t->dim, sizeof *t->out);
    if (t->rows == NULL || t->ids == NULL || t->out == NULL)
        return emb_fail(EMBED_ERR_NOMEM, "%zu tokens", t->tokens);
    for (size_t i = 0, at = 0; i < n; at += (size_t)lengths[i++])
        t->rows[i] = (embed_ids){t->ids + at, (size_t)lengths[i]};
    for (size_t i = 0; i < t->tokens; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        t->ids[i] = (int32_t)((state >> 33) % (uint64_t)model->config.encoder.vocab);
    }
    return EMBED_OK;
}

void gpu_texts_free(gpu_texts *t) {
    free(t->rows);
    free(t->ids);
    free(t->out);
    *t = (gpu_texts){0};
}

embed_status gpu_run_call(gpu_bench *b, void *arg) {
    const gpu_call *c = arg;
    (void)b;
    return embed_encode_ids(c->ctx, c->texts->rows, c->texts->n, NULL, c->texts->out,
                            c->texts->n * c->texts->dim);
}

/* Weights of a layer's products that one token meets, or that exist for `experts` experts. */
static double layer_weights(const emb_encoder_config *c, int32_t layer, double experts) {
    const double h = c->hidden, mlp = (c->gated ? 3 : 2) * h * c->inner;
    return 4 * h * h +
           (emb_config_is_moe(c, layer) ? experts * 2 * h * c->inner + h * c->experts : mlp);
}

double gpu_encoder_flops(const embed_model *model, const gpu_texts *t) {
    const emb_encoder_config *c = &model->config.encoder;
    double weights = 0, pairs = 0;
    for (int32_t i = 0; i < c->layers; i++)
        weights += layer_weights(c, i, c->top_k);
    for (size_t i = 0; i < t->n; i++)
        pairs += (double)t->rows[i].len * (double)t->rows[i].len;
    return 2 * weights * (double)t->tokens + 4 * pairs * c->hidden * c->layers;
}

/* Bytes of the weights that the last call on the context read: of experts, those with tokens. */
static embed_status touched(const embed_model *model, const embed_context *ctx, int32_t dtype,
                            double *bytes) {
    const emb_encoder_config *c = &model->config.encoder;
    int32_t moe = 0;
    *bytes = 0;
    for (int32_t i = 0; i < c->layers; i++) {
        double experts = 0;
        if (emb_config_is_moe(c, i)) {
            embed_expert_stats s = {.struct_size = sizeof s};
            const embed_status st = embed_get_expert_stats(ctx, moe++, &s);
            if (st != EMBED_OK)
                return st;
            for (int32_t e = 0; e < s.experts; e++)
                experts += s.expert_tokens[e] > 0;
        }
        *bytes += layer_weights(c, i, experts) * (double)emb_dtype_bytes(dtype);
    }
    return EMBED_OK;
}

/* texts of `length` tokens; the better of two batch sizes counts. */
static embed_status throughput(gpu_bench *b, embed_model *model, size_t texts, int32_t length) {
    const int32_t sizes[] = {(int32_t)texts * length, (int32_t)texts * length / 4};
    int32_t *lengths = calloc(texts, sizeof *lengths);
    gpu_texts t = {0};
    embed_context *ctx[2] = {NULL, NULL};
    gpu_call calls[2];
    gpu_work works[2];
    gpu_times times[2];
    embed_status st = EMBED_OK;
    if (lengths == NULL)
        return emb_fail(EMBED_ERR_NOMEM, "lengths");
    for (size_t i = 0; i < texts; i++)
        lengths[i] = length;
    EMB_TRY(gpu_texts_make(&t, model, lengths, texts, 1));
    for (size_t i = 0; i < 2; i++) {
        EMB_TRY(gpu_context_create(b, model, EMBED_BF16, sizes[i], &ctx[i]));
        calls[i] = (gpu_call){ctx[i], &t};
        works[i] = (gpu_work){gpu_run_call, &calls[i], 1};
    }
    EMB_TRY(gpu_time(b, works, 2, times));
    const size_t best = gpu_median(&times[0]) < gpu_median(&times[1]) ? 0 : 1;
    const double flops = gpu_encoder_flops(model, &t);
    for (size_t i = 0; i < 2; i++) {
        char shape[64], note[64];
        (void)snprintf(shape, sizeof shape, "%zu texts of %d", texts, (int)length);
        (void)snprintf(note, sizeof note, "%.4g tokens/s, batches of %d",
                       (double)t.tokens / gpu_median(&times[i]), (int)sizes[i]);
        gpu_row row = {.what = "whole model",
                       .shape = shape,
                       .dtype = "bf16",
                       .seconds = gpu_median(&times[i]),
                       .flops = flops,
                       .note = note};
        if (i == best && b->peak > 0) {
            row.measure = "of the peak";
            row.value = flops / row.seconds / b->peak;
            row.goal = 0.6;
        }
        gpu_tell(b, &row);
    }
    if (!(b->peak > 0))
        gpu_untold(b, "60 % of the peak", "the peak is not known");
fail:
    embed_context_free(ctx[0]);
    embed_context_free(ctx[1]);
    gpu_texts_free(&t);
    free(lengths);
    return st;
}

static embed_status query(gpu_bench *b, embed_model *model, int32_t length) {
    gpu_texts t = {0};
    embed_context *ctx = NULL;
    gpu_times times;
    double bytes;
    char shape[64];
    embed_status st = EMBED_OK;
    EMB_TRY(gpu_texts_make(&t, model, &length, 1, 2));
    EMB_TRY(gpu_context_create(b, model, EMBED_BF16, 0, &ctx));
    gpu_call call = {ctx, &t};
    const gpu_work work = {gpu_run_call, &call, 1};
    EMB_TRY(gpu_time(b, &work, 1, &times));
    EMB_TRY(touched(model, ctx, EMBED_BF16, &bytes));
    (void)snprintf(shape, sizeof shape, "1 text of %d", (int)length);
    const gpu_row row = {.what = "query",
                         .shape = shape,
                         .dtype = "bf16",
                         .seconds = gpu_median(&times),
                         .bytes = bytes,
                         .measure = "x reading the touched weights",
                         .value = gpu_median(&times) / (bytes / b->copy),
                         .goal = 3,
                         .at_most = 1};
    gpu_tell(b, &row);
fail:
    embed_context_free(ctx);
    gpu_texts_free(&t);
    return st;
}

embed_status gpu_section_model(gpu_bench *b) {
    embed_model *model = NULL;
    embed_status st = EMBED_OK;
    EMB_TRY(gpu_model_open(b, &model));
    EMB_TRY(b->quick ? throughput(b, model, 16, 5) : throughput(b, model, 512, 128));
    EMB_TRY(query(b, model, b->quick ? 4 : 12));
fail:
    embed_model_free(model);
    return st;
}
