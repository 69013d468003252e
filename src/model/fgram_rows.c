#include "model/fgram_rows.h"

#include <string.h>

#include "kernels/embed_lookup/embed_lookup.h"
#include "model/device_forward.h"
#include "model/runner.h"

#define WINDOW_BATCHES 4 /* n-grams are grouped by length within so many batches */
#define TASK_ROWS 64     /* n-grams of one task when word embeddings are averaged */

struct emb_fgram_encoder {
    embed_model *model; /* whose word embeddings are used */
    embed_context *ctx; /* of the f-gram model, or of `model` */
    int32_t source;
    size_t order_capacity;
    uint32_t *order; /* n-grams of a call, longest first */
    /* On a device: the f-gram model's weights there, but for the word embeddings. */
    emb_device_weights weights;
    emb_dptr words;
};

static embed_status check_pair(const embed_model *model, const embed_model *fgram) {
    const emb_encoder_config *a = &model->config.encoder, *b = &fgram->config.encoder;
    if (a->hidden != b->hidden)
        return emb_fail(EMBED_ERR_MISMATCH,
                        "f-gram model %s: hidden width %d, but %s has %d; its rows would not fit "
                        "that model",
                        fgram->name, b->hidden, model->name, a->hidden);
    if (model->weights.word.rows != fgram->weights.word.rows)
        return emb_fail(EMBED_ERR_MISMATCH,
                        "f-gram model %s: vocabulary of %lld, but %s has %lld; it was trained for "
                        "another tokenizer",
                        fgram->name, (long long)fgram->weights.word.rows, model->name,
                        (long long)model->weights.word.rows);
    return EMBED_OK;
}

/* The context's forward pass looks words up in the main model's embeddings from now on. */
static embed_status feed_device(emb_fgram_encoder *e) {
    emb_device_forward *f = e->ctx->device;
    const embed_status st =
        emb_device_words_upload(&e->words, f->device, e->model, f->weights->dtype);
    if (st != EMBED_OK)
        return st;
    e->weights = *f->weights;
    e->weights.word = e->words;
    f->weights = &e->weights;
    return EMBED_OK;
}

embed_status emb_fgram_create(emb_fgram_encoder **out, embed_model *model, embed_model *fgram,
                              int32_t source, int32_t threads, int32_t batch_tokens,
                              const emb_place *place) {
    embed_status st = EMBED_OK;
    emb_fgram_encoder *e = NULL;
    *out = NULL;
    if (batch_tokens < EMB_NGRAM_MAX_K)
        batch_tokens = EMB_NGRAM_MAX_K;
    if (source == EMB_FGRAM_MODEL)
        EMB_TRY(check_pair(model, fgram));
    EMB_TRY(emb_new(&model->base, sizeof *e, (void **)&e));
    emb_model_retain(model);
    e->model = model;
    e->source = source;
    EMB_TRY(emb_context_create(&e->ctx, source == EMB_FGRAM_MODEL ? fgram : model, NULL, threads,
                               batch_tokens, source == EMB_FGRAM_MODEL ? place : NULL));
    if (e->ctx->device != NULL)
        EMB_TRY(feed_device(e));
    *out = e;
    return EMBED_OK;
fail:
    emb_fgram_free(e);
    return st;
}

void emb_fgram_free(emb_fgram_encoder *e) {
    if (e == NULL)
        return;
    embed_model *model = e->model;
    if (e->words.at != 0) {
        emb_device_forward_drop(e->ctx->device); /* what may still read them */
        emb_device_free(e->ctx->device->device, e->words);
    }
    emb_context_free(e->ctx);
    emb_free(&model->base, e->order);
    emb_free(&model->base, e);
    emb_model_release(model);
}

/* Tokens of a batch: a device with little memory takes fewer than asked for. */
static int64_t capacity(const emb_fgram_encoder *e) {
    const emb_plan *plan = &e->ctx->forward.plan;
    return e->ctx->device != NULL ? plan->batch_tokens : plan->tokens;
}

size_t emb_fgram_window(const emb_fgram_encoder *e) {
    const size_t most = (size_t)capacity(e) / 2; /* pairs are the shortest */
    const size_t texts = (size_t)e->ctx->forward.plan.texts;
    return WINDOW_BATCHES * (most < texts ? most : texts);
}

uint64_t emb_fgram_bytes(const emb_fgram_encoder *e) {
    const emb_device_forward *f = e->ctx->device;
    const uint64_t there = f != NULL ? f->plan.device_bytes + f->products.workspace_bytes : 0;
    return sizeof *e + e->order_capacity * sizeof *e->order + emb_context_bytes(e->ctx) - there;
}

static embed_status check_ngrams(const emb_fgram_encoder *e, const emb_ngram_fgram *grams, size_t n,
                                 uint64_t first) {
    const int64_t vocab = e->model->weights.word.rows;
    const int32_t longest = e->ctx->model->config.pipeline.max_tokens;
    for (size_t i = 0; i < n; i++) {
        const emb_ngram_fgram *g = &grams[i];
        const unsigned long long place = first + i;
        if (g->length < 2 || g->length > EMB_NGRAM_MAX_K)
            return emb_fail(EMBED_ERR_FORMAT, "f-gram %llu: expected 2 to %d ids, found %d", place,
                            EMB_NGRAM_MAX_K, g->length);
        if (e->source == EMB_FGRAM_MODEL && g->length > longest)
            return emb_fail(EMBED_ERR_FORMAT,
                            "f-gram %llu: %d ids, but the f-gram model %s takes at most %d", place,
                            g->length, e->ctx->model->name, longest);
        for (int t = 0; t < g->length; t++)
            if (g->ids[t] >= (uint64_t)vocab)
                return emb_fail(EMBED_ERR_FORMAT,
                                "f-gram %llu: expected ids below %lld, the vocabulary of %s, "
                                "found %u",
                                place, (long long)vocab, e->model->name, g->ids[t]);
    }
    return EMBED_OK;
}

/* Longest first, equal lengths as they come: a batch then holds rows of nearly one length. */
static void sort_by_length(uint32_t *order, const emb_ngram_fgram *grams, size_t n) {
    size_t at = 0;
    for (int length = EMB_NGRAM_MAX_K; length >= 2; length--)
        for (size_t i = 0; i < n; i++)
            if (grams[i].length == length)
                order[at++] = (uint32_t)i;
}

/* As many of order[0..n) as fit, side by side. Positions as emb_slot_pack gives them to a text. */
static emb_batch pack(emb_fgram_encoder *e, const emb_ngram_fgram *grams, const uint32_t *order,
                      size_t n, int64_t target) {
    const int64_t texts = e->ctx->forward.plan.texts, tokens = capacity(e);
    const emb_encoder_config *c = &e->ctx->model->config.encoder;
    const int32_t pad = c->position_offset - 1;
    emb_batch b = emb_stage_batch(e->ctx->stage);
    for (size_t i = 0; i < n && b.texts < texts && b.tokens < target; i++) {
        const emb_ngram_fgram *g = &grams[order[i]];
        int32_t position = c->position_offset;
        if (b.tokens + g->length > tokens)
            break;
        b.offsets[b.texts++] = (int32_t)b.tokens;
        for (int t = 0; t < g->length; t++, b.tokens++) {
            b.ids[b.tokens] = (int32_t)g->ids[t];
            b.positions[b.tokens] = b.ids[b.tokens] == pad ? pad : position++;
        }
    }
    b.offsets[b.texts] = (int32_t)b.tokens;
    return b;
}

/* The f-gram model's lookup with the main model's word embeddings, then its layers. */
static embed_status encode(emb_fgram_encoder *e, const emb_batch *b) {
    embed_status st = EMBED_OK;
    emb_forward *f = &e->ctx->forward;
    const emb_weights *w = &f->model->weights;
    const emb_encoder_config *c = &f->model->config.encoder;
    const emb_embed_lookup_args lookup = {
        .ids = b->ids,
        .positions = w->position.data != NULL ? b->positions : NULL,
        .word = e->model->weights.word,
        .position = w->position,
        .type = w->type,
        .eps = c->eps,
        .gamma = w->norm_gamma,
        .beta = w->norm_beta,
        .x = emb_forward_states(f),
        .tokens = b->tokens,
        .dim = c->hidden,
    };
    EMB_TRY(emb_embed_lookup(&f->exec, &lookup));
    for (int32_t i = 0; i + 1 < c->layers; i++)
        EMB_TRY(emb_forward_layer(f, b, i));
    EMB_TRY(emb_forward_layer_last(f, b, c->layers - 1));
fail:
    return st;
}

/* The same on a device, with all states of the last layer. */
static embed_status encode_on_device(emb_fgram_encoder *e, const emb_batch *b,
                                     const float **states) {
    embed_status st = EMBED_OK;
    embed_context *ctx = e->ctx;
    emb_slot *slot;
    EMB_TRY(emb_stage_vacant(ctx->stage, b->tokens, &slot));
    slot->batch = *b;
    memset(slot->texts, 0, (size_t)b->texts * sizeof *slot->texts);
    EMB_TRY(ctx->runner->begin(ctx, NULL));
    EMB_TRY(ctx->runner->reserve(ctx, b->tokens));
    EMB_TRY(ctx->runner->states(ctx, slot, states));
fail:
    if (st != EMBED_OK)
        ctx->runner->drop(ctx);
    return st;
}

struct reduction {
    const float *x;
    const emb_batch *batch;
    const uint32_t *order;
    float *out;
    int64_t dim;
    int32_t source;
    int32_t only_last; /* 1: x has the last token of each alone */
};

/* Rows of a batch to their places: the only state there is of each, the last token's, or the mean
 * in text order. */
static void reduce_rows(void *arg, size_t task, int thread) {
    const struct reduction *r = arg;
    const int32_t *offsets = r->batch->offsets;
    const int64_t from = (int64_t)task * TASK_ROWS;
    const int64_t to = from + TASK_ROWS < r->batch->texts ? from + TASK_ROWS : r->batch->texts;
    (void)thread;
    for (int64_t i = from; i < to; i++) {
        float *out = r->out + (int64_t)r->order[i] * r->dim;
        const int32_t last = offsets[i + 1] - 1;
        if (r->source != EMB_FGRAM_MEAN) {
            const int64_t row = r->only_last ? i : last;
            memcpy(out, r->x + row * r->dim, (size_t)r->dim * sizeof *out);
            continue;
        }
        memcpy(out, r->x + offsets[i] * r->dim, (size_t)r->dim * sizeof *out);
        for (int32_t t = offsets[i] + 1; t <= last; t++)
            for (int64_t d = 0; d < r->dim; d++)
                out[d] += r->x[t * r->dim + d];
        for (int64_t d = 0; d < r->dim; d++)
            out[d] /= (float)(offsets[i + 1] - offsets[i]);
    }
}

static embed_status run_batch(emb_fgram_encoder *e, const emb_batch *b, const uint32_t *order,
                              float *out) {
    embed_status st = EMBED_OK;
    emb_forward *f = &e->ctx->forward;
    const emb_matrix none = {0};
    const int on_cpu = e->ctx->device == NULL;
    struct reduction r = {
        .x = on_cpu ? emb_forward_states(f) : NULL,
        .batch = b,
        .order = order,
        .out = out,
        .dim = f->model->config.encoder.hidden,
        .source = e->source,
        .only_last = e->source == EMB_FGRAM_MODEL && on_cpu,
    };
    if (!on_cpu)
        EMB_TRY(encode_on_device(e, b, &r.x));
    else if (e->source == EMB_FGRAM_MODEL)
        EMB_TRY(encode(e, b));
    else
        EMB_TRY(emb_embed_lookup(&f->exec, &(emb_embed_lookup_args){
                                               .ids = b->ids,
                                               .word = e->model->weights.word,
                                               .position = none,
                                               .type = none,
                                               .x = emb_forward_states(f),
                                               .tokens = b->tokens,
                                               .dim = r.dim,
                                           }));
    emb_pool_run(f->exec.pool, (size_t)(b->texts + TASK_ROWS - 1) / TASK_ROWS, reduce_rows, &r);
fail:
    return st;
}

embed_status emb_fgram_run(emb_fgram_encoder *e, const emb_ngram_fgram *grams, size_t n,
                           uint64_t first, float *out) {
    embed_status st = EMBED_OK;
    int64_t tokens = 0;
    EMB_TRY(check_ngrams(e, grams, n, first));
    EMB_TRY(emb_grow(&e->model->base, (void **)&e->order, &e->order_capacity, n, sizeof *e->order));
    sort_by_length(e->order, grams, n);
    for (size_t i = 0; i < n; i++)
        tokens += grams[i].length;
    const int64_t target = emb_batch_target(tokens, capacity(e));
    for (size_t at = 0; at < n;) {
        const emb_batch batch = pack(e, grams, e->order + at, n - at, target);
        EMB_TRY(run_batch(e, &batch, e->order + at, out));
        at += (size_t)batch.texts;
    }
fail:
    return st;
}
