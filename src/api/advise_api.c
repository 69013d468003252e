#include <stdatomic.h>
#include <string.h>

#include "api/params.h"
#include "base/threads.h"
#include "model/model.h"
#include "ngram/ngram_advice.h"

#define DEFAULT_MEMORY (UINT64_C(1) << 30)
#define DEFAULT_HELD_OUT 0.1
#define DEFAULT_MIN_COUNT 2

static const int32_t default_k[] = {2, 3, 4, 5, 6, 8};
static const uint64_t default_rows[] = {10000, 100000, 1000000, 10000000};

/* The caller's allocator up to a limit: a sample that has more different n-grams than text usually
 * has is found out by it. */
typedef struct budget {
    embed_allocator base;
    _Atomic uint64_t used;
    uint64_t limit;
    _Atomic int32_t exceeded;
} budget;

struct embed_ngram_advisor {
    emb_env base; /* of this struct itself */
    emb_env env;  /* within the budget */
    budget budget;
    embed_model *model;
    embed_job job;
    uint64_t memory;
    int32_t *k;
    uint64_t *rows, *special;
    emb_ngram_advise_params params;
    emb_ngram_sample sample;
};

static void *budget_alloc(void *user, size_t size, size_t align) {
    budget *b = user;
    if (atomic_fetch_add(&b->used, size) + size > b->limit) {
        atomic_fetch_sub(&b->used, size);
        atomic_store(&b->exceeded, 1);
        return NULL;
    }
    void *block = b->base.alloc(b->base.user, size, align);
    if (block == NULL)
        atomic_fetch_sub(&b->used, size);
    return block;
}

static void budget_free(void *user, void *ptr, size_t size) {
    budget *b = user;
    atomic_fetch_sub(&b->used, size);
    b->base.free(b->base.user, ptr, size);
}

static embed_status tell(void *user, const embed_job_report *report) {
    const embed_ngram_advisor *a = user;
    embed_job_report r = *report;
    r.memory_bytes = a->memory;
    if (a->job.report != NULL && a->job.report(a->job.user, &r) != 0)
        return emb_fail(EMBED_ERR_CANCELLED, "%s: the report callback asked to stop", r.phase);
    return EMBED_OK;
}

static embed_status tell_added(embed_ngram_advisor *a) {
    const embed_job_report report = {
        .phase = "read sample", .unit = "tokens", .done = a->sample.seen_tokens};
    return tell(a, &report);
}

static embed_status copy(const emb_env *env, const void *from, size_t n, size_t size, void **out) {
    const embed_status st = emb_new_array(env, n, size, out);
    if (st == EMBED_OK)
        memcpy(*out, from, n * size);
    return st;
}

static embed_status check(const embed_advise_params *p) {
    if ((p->k == NULL) != (p->n_k == 0) || (p->rows == NULL) != (p->n_rows == 0))
        return emb_fail(EMBED_ERR_ARG, "%s: an array without its length or the reverse",
                        (p->k == NULL) != (p->n_k == 0) ? "k" : "rows");
    for (size_t i = 0; i < p->n_k; i++)
        if (p->k[i] < 2 || p->k[i] > EMB_NGRAM_MAX_K)
            return emb_fail(EMBED_ERR_ARG, "k[%zu]: expected 2 to %d, found %d", i, EMB_NGRAM_MAX_K,
                            p->k[i]);
    for (size_t i = 0; i < p->n_rows; i++)
        if (p->rows[i] < 1 || p->rows[i] >= UINT32_MAX)
            return emb_fail(EMBED_ERR_ARG, "rows[%zu]: expected 1 to %u, found %llu", i,
                            UINT32_MAX - 1, (unsigned long long)p->rows[i]);
    if (!(p->held_out >= 0 && p->held_out < 1))
        return emb_fail(EMBED_ERR_ARG, "held_out: expected a share from 0 to below 1, found %g",
                        p->held_out);
    if (p->min_count == 1)
        return emb_fail(EMBED_ERR_ARG, "min_count: expected at least 2, found 1; what a sample has "
                                       "once says nothing about other texts");
    if (p->job.threads < 0 || p->job.threads > 1024)
        return emb_fail(EMBED_ERR_ARG, "job.threads: expected 0 to 1024, found %d", p->job.threads);
    if (p->width < 0)
        return emb_fail(EMBED_ERR_ARG, "width: expected 0 or more, found %d", p->width);
    return EMBED_OK;
}

static embed_status set_params(embed_ngram_advisor *a, const embed_advise_params *p) {
    embed_status st = EMBED_OK;
    const int32_t vocab = (int32_t)a->model->weights.word.rows;
    const size_t n_k = p->n_k ? p->n_k : sizeof default_k / sizeof *default_k;
    const size_t n_rows = p->n_rows ? p->n_rows : sizeof default_rows / sizeof *default_rows;
    EMB_TRY(copy(&a->env, p->k ? p->k : default_k, n_k, sizeof *a->k, (void **)&a->k));
    EMB_TRY(copy(&a->env, p->rows ? p->rows : default_rows, n_rows, sizeof *a->rows,
                 (void **)&a->rows));
    EMB_TRY(
        emb_new_array(&a->env, (size_t)vocab / 64 + 1, sizeof *a->special, (void **)&a->special));
    for (int32_t i = 0; i < a->model->n_special; i++) {
        const int32_t id = a->model->special[i];
        if (id >= 0 && id < vocab)
            a->special[id / 64] |= UINT64_C(1) << (id % 64);
    }
    a->params = (emb_ngram_advise_params){
        .k = a->k,
        .n_k = n_k,
        .rows = a->rows,
        .n_rows = n_rows,
        .held_out = p->held_out > 0 ? p->held_out : DEFAULT_HELD_OUT,
        .min_count = p->min_count ? p->min_count : DEFAULT_MIN_COUNT,
        .width = p->width ? p->width : a->model->config.encoder.hidden,
        .dtype = p->dtype ? p->dtype : EMBED_I8,
        .special = a->special,
        .vocab = vocab,
        .tell = tell,
        .user = a,
    };
fail:
    return st;
}

embed_status embed_ngram_advisor_create(embed_ngram_advisor **out, embed_model *model,
                                        const embed_advise_params *params) {
    embed_status st = EMBED_OK;
    embed_ngram_advisor *a = NULL;
    embed_advise_params p;
    emb_ngram_layout layout;
    emb_env env;
    uint64_t positions;
    if (out == NULL)
        return emb_fail(EMBED_ERR_ARG, "out: NULL");
    *out = NULL;
    if (model == NULL)
        return emb_fail(EMBED_ERR_ARG, "model: NULL");
    EMB_TRY(emb_params_read(&p, sizeof p, params, "embed_advise_params"));
    EMB_TRY(check(&p));
    EMB_TRY(emb_env_init(&env, p.job.allocator, NULL, NULL));
    EMB_TRY(emb_new(&env, sizeof *a, (void **)&a));
    a->job = p.job;
    a->memory = p.job.memory ? p.job.memory : DEFAULT_MEMORY;
    a->base = a->env = env;
    a->budget.base = env.allocator;
    a->budget.limit = UINT64_MAX; /* until it is known to suffice */
    a->env.allocator = (embed_allocator){&a->budget, budget_alloc, budget_free};
    emb_model_retain(model);
    a->model = model;
    EMB_TRY(set_params(a, &p));
    EMB_TRY(emb_ngram_layout_init(&layout, a->params.width, a->params.dtype));
    EMB_TRY(emb_ngram_advise_positions(&a->params, a->memory, &positions));
    a->budget.limit = a->memory;
    emb_ngram_sample_init(&a->sample, &a->env, positions);
    EMB_TRY(tell_added(a));
    *out = a;
    return EMBED_OK;
fail:
    embed_ngram_advisor_free(a);
    return st;
}

void embed_ngram_advisor_free(embed_ngram_advisor *a) {
    if (a == NULL)
        return;
    const emb_env base = a->base;
    emb_ngram_sample_clear(&a->sample);
    emb_free(&a->env, a->k);
    emb_free(&a->env, a->rows);
    emb_free(&a->env, a->special);
    emb_model_release(a->model);
    emb_free(&base, a);
}

embed_status embed_ngram_advisor_add(embed_ngram_advisor *a, const embed_ids *texts, size_t n) {
    embed_status st = EMBED_OK;
    if (a == NULL || (texts == NULL && n > 0))
        return emb_fail(EMBED_ERR_ARG, "%s: NULL", a == NULL ? "advisor" : "texts");
    for (size_t i = 0; i < n; i++) {
        if (texts[i].ptr == NULL && texts[i].len > 0)
            return emb_fail(EMBED_ERR_ARG, "texts[%zu].ptr: NULL", i);
        for (size_t t = 0; t < texts[i].len; t++)
            if (texts[i].ptr[t] < 0 || texts[i].ptr[t] >= a->params.vocab)
                return emb_fail(EMBED_ERR_ARG, "texts[%zu]: id %zu: expected 0 to %d, found %d", i,
                                t, a->params.vocab - 1, texts[i].ptr[t]);
    }
    for (size_t i = 0; i < n; i++)
        EMB_TRY(emb_ngram_sample_add(&a->sample, texts[i].ptr, texts[i].len));
    EMB_TRY(tell_added(a));
fail:
    return st;
}

static embed_status describe(const emb_ngram_sample *s, embed_advise_sample *out) {
    embed_advise_sample ours = {
        .struct_size = sizeof ours, .texts_seen = s->seen_texts, .tokens_seen = s->seen_tokens};
    uint64_t start = 0;
    for (size_t i = 0; i < s->texts; start = s->ends[i++]) {
        *(s->held[i] ? &ours.texts_held : &ours.texts_counted) += 1;
        *(s->held[i] ? &ours.tokens_held : &ours.tokens_counted) += s->ends[i] - start;
    }
    return emb_params_write(out, &ours, sizeof ours, "embed_advise_sample");
}

/* A sample that does not fit is halved until it does. */
static embed_status advise(embed_ngram_advisor *a, emb_pool *pool, embed_advise_cell *cells) {
    for (;;) {
        atomic_store(&a->budget.exceeded, 0);
        const embed_status st = emb_ngram_advise(&a->sample, pool, &a->params, cells);
        if (st != EMBED_ERR_NOMEM || !atomic_load(&a->budget.exceeded))
            return st;
        emb_ngram_sample_thin(&a->sample);
        if (a->sample.texts < 2)
            return emb_fail(EMBED_ERR_ARG, "memory: expected more than %llu bytes for such texts",
                            (unsigned long long)a->memory);
    }
}

embed_status embed_ngram_advisor_run(embed_ngram_advisor *a, embed_advise_cell *cells, size_t cap,
                                     size_t *n, embed_advise_sample *sample) {
    if (a == NULL || n == NULL || (cells == NULL && cap > 0))
        return emb_fail(EMBED_ERR_ARG, "%s: NULL",
                        a == NULL   ? "advisor"
                        : n == NULL ? "n"
                                    : "cells");
    embed_status st = emb_mul(a->params.n_k, a->params.n_rows, "cells", n);
    if (st != EMBED_OK || (cells == NULL && cap == 0))
        return st;
    if (cap < *n)
        return emb_fail(EMBED_ERR_CAPACITY, "cells: expected room for %zu, found %zu", *n, cap);
    emb_pool *pool = NULL;
    EMB_TRY(emb_pool_create(&pool, &a->env, a->job.threads ? a->job.threads : emb_usable_cpus()));
    EMB_TRY(advise(a, pool, cells));
    if (sample != NULL)
        EMB_TRY(describe(&a->sample, sample));
fail:
    emb_pool_free(pool);
    return st;
}
