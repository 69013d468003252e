#include "api/request.h"

#include <string.h>

#include "model/prompt.h"

static embed_status check_handle(embed_context *ctx) {
    if (ctx == NULL)
        return emb_fail(EMBED_ERR_ARG, "ctx: NULL");
    const embed_status st = emb_context_check_process(ctx);
    if (st != EMBED_OK)
        return st;
    if (atomic_flag_test_and_set(&ctx->busy))
        return emb_fail(EMBED_ERR_ARG, "ctx: in use by another call; use one context per thread");
    emb_context_begin(ctx);
    return EMBED_OK;
}

/* Calls between check_handle and this own the context. */
static embed_status release(embed_context *ctx, embed_status st) {
    emb_context_end(ctx);
    atomic_flag_clear(&ctx->busy);
    return st;
}

embed_status embed_output_len(const embed_model *model, const embed_encode_params *params, size_t n,
                              size_t *elements) {
    embed_status st = EMBED_OK;
    embed_encode_params p;
    emb_job job = {0};
    if (model == NULL || elements == NULL)
        return emb_fail(EMBED_ERR_ARG, "%s: NULL", model == NULL ? "model" : "elements");
    EMB_TRY(emb_request_params(&p, params));
    EMB_TRY(emb_request_output(&job, model, &p));
    EMB_TRY(emb_request_capacity(&job, n, elements));
fail:
    return st;
}

/* The prompt of the call, resolved once; what it adds to each text is left out of the pooling where
 * the checkpoint says so. */
static embed_status read_prompt(emb_job *job, const embed_context *ctx,
                                const embed_encode_params *p) {
    embed_status st = EMBED_OK;
    const embed_model *m = ctx->model;
    EMB_TRY(emb_request_tokenize(&job->tokenize, m, p, m->config.pipeline.max_tokens));
    EMB_TRY(
        emb_prompt_skip(&job->pooling.skip, m, ctx->tokenizers[0], job->tokenize.prefix, p->flags));
fail:
    return st;
}

static embed_status encode_texts(embed_context *ctx, const embed_text *texts, size_t n,
                                 const embed_encode_params *params, void *out, size_t cap) {
    embed_status st = EMBED_OK;
    embed_encode_params p;
    emb_job job = {.texts = texts, .n = n, .out = out};
    EMB_TRY(emb_request_params(&p, params));
    EMB_TRY(emb_request_output(&job, ctx->model, &p));
    EMB_TRY(emb_request_texts(texts, n));
    EMB_TRY(emb_request_out(&job, out, cap));
    EMB_TRY(read_prompt(&job, ctx, &p));
    EMB_TRY(emb_encode_run(ctx, &job));
fail:
    return st;
}

embed_status embed_encode(embed_context *ctx, const embed_text *texts, size_t n,
                          const embed_encode_params *params, void *out, size_t cap) {
    const embed_status st = check_handle(ctx);
    return st != EMBED_OK ? st : release(ctx, encode_texts(ctx, texts, n, params, out, cap));
}

static embed_status encode_ids(embed_context *ctx, const embed_ids *rows, size_t n,
                               const embed_encode_params *params, void *out, size_t cap) {
    embed_status st = EMBED_OK;
    embed_encode_params p;
    emb_job job = {.rows = rows, .n = n, .out = out};
    EMB_TRY(emb_request_params(&p, params));
    EMB_TRY(emb_request_output(&job, ctx->model, &p));
    EMB_TRY(emb_request_rows(ctx->model, rows, n));
    EMB_TRY(emb_request_out(&job, out, cap));
    EMB_TRY(emb_encode_run(ctx, &job));
fail:
    return st;
}

embed_status embed_encode_ids(embed_context *ctx, const embed_ids *rows, size_t n,
                              const embed_encode_params *params, void *out, size_t cap) {
    const embed_status st = check_handle(ctx);
    return st != EMBED_OK ? st : release(ctx, encode_ids(ctx, rows, n, params, out, cap));
}

static embed_status encode_tokens(embed_context *ctx, const embed_text *text,
                                  const embed_encode_params *params, float *out, size_t cap,
                                  int32_t *ids, size_t *n_tokens) {
    embed_status st = EMBED_OK;
    embed_encode_params p;
    const emb_batch *batch;
    const float *states;
    emb_job job = {.texts = text, .n = 1};
    if (n_tokens == NULL || (out == NULL && cap > 0))
        return emb_fail(EMBED_ERR_ARG, "%s: NULL", n_tokens == NULL ? "n_tokens" : "out");
    EMB_TRY(emb_request_texts(text, 1));
    EMB_TRY(emb_request_params(&p, params));
    EMB_TRY(emb_request_output(&job, ctx->model, &p));
    if (p.output != EMBED_F32 || p.dim != 0)
        return emb_fail(EMBED_ERR_ARG, "embed_encode_params.%s: per-token states are whole floats",
                        p.dim != 0 ? "dim" : "output");
    EMB_TRY(emb_request_tokenize(&job.tokenize, ctx->model, &p,
                                 ctx->model->config.pipeline.max_tokens));
    EMB_TRY(emb_encode_read(ctx, &job, &batch));
    *n_tokens = (size_t)batch->tokens;
    const size_t need = *n_tokens * (size_t)ctx->model->config.encoder.hidden;
    if (ids != NULL && (out != NULL || cap > 0) && cap >= need)
        memcpy(ids, batch->ids, *n_tokens * sizeof *ids);
    if (out == NULL)
        return EMBED_OK;
    if (cap < need)
        return emb_fail(EMBED_ERR_CAPACITY, "out: expected room for %zu floats, found %zu", need,
                        cap);
    EMB_TRY(emb_encode_states(ctx, &states));
    memcpy(out, states, need * sizeof *out);
fail:
    return st;
}

embed_status embed_encode_tokens(embed_context *ctx, embed_text text,
                                 const embed_encode_params *params, float *out, size_t cap,
                                 int32_t *ids, size_t *n_tokens) {
    const embed_status st = check_handle(ctx);
    return st != EMBED_OK
               ? st
               : release(ctx, encode_tokens(ctx, &text, params, out, cap, ids, n_tokens));
}
