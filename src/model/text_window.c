#include "model/text_window.h"

#include <stdio.h>
#include <string.h>

struct tokenize_run {
    embed_context *ctx;
    const emb_job *job;
    atomic_size_t used; /* of ctx->ids; beyond the end once a text found no room */
    atomic_int faults;
};

/* A worker's message lives in its own thread; keep it where the caller finds it. */
static void keep_fault(struct tokenize_run *run, int thread, size_t index, embed_status st) {
    emb_text_fault *fault = &run->ctx->faults[thread];
    if (fault->status != EMBED_OK && fault->index < index)
        return;
    fault->status = st;
    fault->index = index;
    (void)snprintf(fault->message, sizeof fault->message, "%s", emb_fail_sentence());
    atomic_store(&run->faults, 1);
}

/* Errors that depend on the tokens of the text. */
static embed_status check_tokens(const struct tokenize_run *run, emb_tok_scratch *scratch,
                                 embed_text text, size_t n, int32_t truncated) {
    const emb_job *job = run->job;
    if (n == 0)
        return emb_fail(EMBED_ERR_ARG, "no tokens: the tokenizer adds none of its own");
    if (truncated && job->refuse_long) {
        emb_tok_options whole = job->tokenize;
        const int32_t *ids;
        whole.max_tokens = 0;
        const embed_status st = emb_tokenizer_encode(run->ctx->model->tokenizer, scratch, text,
                                                     &whole, &ids, &n, &truncated);
        return st != EMBED_OK ? st
                              : emb_fail(EMBED_ERR_TOO_LONG,
                                         "expected at most %lld tokens, found "
                                         "%zu",
                                         (long long)job->tokenize.max_tokens, n);
    }
    if ((int64_t)n <= job->pooling.skip)
        return emb_fail(EMBED_ERR_ARG,
                        "the prompt takes %d tokens, which leaves none of %zu for "
                        "pooling",
                        job->pooling.skip, n);
    return EMBED_OK;
}

static void tokenize_item(void *arg, size_t task, int thread) {
    struct tokenize_run *run = arg;
    embed_context *ctx = run->ctx;
    emb_item *item = &ctx->items[task];
    emb_tok_scratch *scratch = ctx->tokenizers[thread];
    const embed_text text = run->job->texts[item->index];
    const size_t room = ctx->forward.plan.window_tokens;
    const int32_t *ids;
    size_t n;
    if (atomic_load(&run->used) >= room || atomic_load(&run->faults))
        return;
    embed_status st = emb_tokenizer_encode(ctx->model->tokenizer, scratch, text,
                                           &run->job->tokenize, &ids, &n, &item->truncated);
    if (st == EMBED_OK)
        st = check_tokens(run, scratch, text, n, item->truncated);
    if (st != EMBED_OK) {
        keep_fault(run, thread, item->index, st);
        return;
    }
    const size_t at = atomic_fetch_add(&run->used, n);
    if (at > room || n > room - at)
        return;
    memcpy(ctx->ids + at, ids, n * sizeof *ids);
    item->ids = ctx->ids + at;
    item->tokens = (int32_t)n;
}

static embed_status first_fault(embed_context *ctx) {
    emb_text_fault *first = NULL;
    for (int32_t i = 0; i < ctx->forward.plan.threads; i++) {
        emb_text_fault *fault = &ctx->faults[i];
        if (fault->status != EMBED_OK && (first == NULL || fault->index < first->index))
            first = fault;
    }
    return first == NULL ? EMBED_OK
                         : emb_fail(first->status, "text %zu: %s", first->index, first->message);
}

static embed_status tokenize_items(embed_context *ctx, const emb_job *job, size_t items) {
    struct tokenize_run run = {.ctx = ctx, .job = job};
    atomic_init(&run.used, 0);
    atomic_init(&run.faults, 0);
    for (int32_t i = 0; i < ctx->forward.plan.threads; i++)
        ctx->faults[i].status = EMBED_OK;
    emb_pool_run(ctx->forward.exec.pool, items, tokenize_item, &run);
    return first_fault(ctx);
}

static size_t keep_pending(emb_item *items, size_t n) {
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        if (items[i].tokens == EMB_ITEM_PENDING)
            items[kept++] = items[i];
    return kept;
}

embed_status emb_window_fill(emb_window *w, embed_context *ctx, const emb_job *job) {
    w->items = keep_pending(ctx->items, w->items);
    while (w->items < ctx->forward.plan.window_texts && w->next < job->n) {
        emb_item *item = &ctx->items[w->items++];
        *item = (emb_item){.index = w->next, .tokens = EMB_ITEM_PENDING};
        if (job->rows != NULL) {
            item->ids = job->rows[w->next].ptr;
            item->tokens = (int32_t)job->rows[w->next].len;
        }
        w->next++;
    }
    return job->rows != NULL ? EMBED_OK : tokenize_items(ctx, job, w->items);
}
