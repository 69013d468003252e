#include "api/params.h"
#include "api/request.h"
#include "model/async.h"
#include "model/device_forward.h"
#include "model/output_type.h"
#include "model/runner.h"

static embed_status read_params(embed_async_params *p, const embed_async_params *params,
                                const embed_text *texts) {
    const embed_status st = emb_params_read(p, sizeof *p, params, "embed_async_params");
    if (st != EMBED_OK)
        return st;
    if (p->reserved != 0)
        return emb_fail(EMBED_ERR_ABI, "embed_async_params.reserved: expected 0, found %d",
                        p->reserved);
    if (p->on_device != 0 && p->on_device != 1)
        return emb_fail(EMBED_ERR_ARG, "embed_async_params.on_device: expected 0 or 1, found %d",
                        p->on_device);
    if (p->stream != NULL && !p->on_device)
        return emb_fail(EMBED_ERR_ARG, "embed_async_params.stream: only an output on the device is "
                                       "written in the order of a stream");
    if (texts != NULL && p->ids != NULL)
        return emb_fail(EMBED_ERR_ARG, "embed_async_params.ids: expected texts or ids, found both");
    return EMBED_OK;
}

/* `out` as memory of the device, as far as that can be known. */
static embed_status check_memory(const embed_context *ctx, const emb_job *job) {
    const size_t element = emb_output_element_bytes(job->output);
    size_t bytes;
    const emb_dptr at = {(uint64_t)(uintptr_t)job->out};
    if (ctx->runner != &emb_runner_device)
        return emb_fail(EMBED_ERR_ARG, "embed_async_params.on_device: the context does not encode "
                                       "on one device");
    if (at.at % element != 0)
        return emb_fail(EMBED_ERR_ARG,
                        "out: expected an address that is a multiple of %zu, found "
                        "%#llx",
                        element, (unsigned long long)at.at);
    const embed_status st =
        emb_mul(job->n, emb_output_row_bytes(job->output, job->pooling.dim), "out", &bytes);
    if (st != EMBED_OK || bytes == 0)
        return st;
    return emb_device_memory_check(ctx->device->device, at, bytes);
}

static embed_status check_job(emb_async_call *call, const embed_context *ctx,
                              const embed_encode_params *params, size_t cap) {
    embed_status st = EMBED_OK;
    embed_encode_params p;
    emb_job *job = &call->job;
    const embed_model *m = ctx->model;
    EMB_TRY(emb_request_params(&p, params));
    EMB_TRY(emb_request_output(job, m, &p));
    EMB_TRY(emb_request_out(job, job->out, cap));
    if (job->rows != NULL)
        EMB_TRY(emb_request_rows(m, job->rows, job->n));
    else
        EMB_TRY(emb_request_texts(job->texts, job->n));
    if (job->rows == NULL)
        EMB_TRY(emb_request_tokenize(&job->tokenize, m, &p, m->config.pipeline.max_tokens));
    if (job->on_device)
        EMB_TRY(check_memory(ctx, job));
    call->flags = p.flags;
fail:
    return st;
}

embed_status embed_encode_async(embed_context *ctx, const embed_text *texts, size_t n,
                                const embed_async_params *params, void *out, size_t cap,
                                embed_pending **pending) {
    embed_status st = EMBED_OK;
    embed_async_params p;
    if (pending == NULL)
        return emb_fail(EMBED_ERR_ARG, "pending: NULL");
    *pending = NULL;
    if (ctx == NULL)
        return emb_fail(EMBED_ERR_ARG, "ctx: NULL");
    EMB_TRY(read_params(&p, params, texts));
    emb_async_call call = {
        .job = {.texts = texts, .rows = p.ids, .n = n, .out = out, .on_device = p.on_device},
        .stream = p.stream,
        .done = p.done,
        .user = p.done_user};
    EMB_TRY(check_job(&call, ctx, p.encode, cap));
    EMB_TRY(emb_async_submit(pending, ctx, &call));
fail:
    return st;
}

embed_status embed_pending_poll(embed_pending *pending, int32_t *done) {
    if (pending == NULL || done == NULL)
        return emb_fail(EMBED_ERR_ARG, "%s: NULL", pending == NULL ? "pending" : "done");
    return emb_pending_wait(pending, 0, done);
}

embed_status embed_pending_wait(embed_pending *pending, int64_t timeout_ms, int32_t *done) {
    if (pending == NULL)
        return emb_fail(EMBED_ERR_ARG, "pending: NULL");
    return emb_pending_wait(pending, timeout_ms, done);
}

embed_status embed_pending_order(embed_pending *pending, void *stream) {
    if (pending == NULL || stream == NULL)
        return emb_fail(EMBED_ERR_ARG, "%s: NULL", pending == NULL ? "pending" : "stream");
    return emb_pending_order(pending, stream);
}

embed_status embed_pending_cancel(embed_pending *pending) {
    return pending == NULL ? emb_fail(EMBED_ERR_ARG, "pending: NULL") : emb_pending_cancel(pending);
}

void embed_pending_free(embed_pending *pending) {
    emb_pending_free(pending);
}
