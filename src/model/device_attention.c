#include "model/device_attention.h"

#include <math.h>
#include <stdio.h>

#include "kernels/attention/attention_cuda.h"
#include "kernels/rotary/rotary_cuda.h"
#include "model/device_forward.h"
#include "model/device_trials.h"

#define LEAST_LONGEST 256
#define MOST_HEAD_DIM 128

static emb_dptr region(const emb_device_forward *f, emb_device_region i) {
    return emb_arena_at(&f->arena, i);
}

static void *input(const emb_device_set *set, size_t at) {
    return emb_dptr_raw(emb_dptr_add(set->in_at, at));
}

static emb_dptr column(const emb_device_attention *a, int64_t i) {
    return emb_dptr_add(a->columns, (size_t)(i * (a->room + 1)) * sizeof(int32_t));
}

static embed_status run_own(emb_device_forward *f, const emb_device_set *set) {
    const emb_encoder_config *c = &f->model->config.encoder;
    const emb_cuda_attention_args args = {
        .qkv = emb_dptr_raw(region(f, EMB_AT_QKV)),
        .out = emb_dptr_raw(region(f, EMB_AT_HEADS)),
        .offsets = input(set, set->at.offsets),
        .cos = emb_dptr_raw(f->weights->cos),
        .sin = emb_dptr_raw(f->weights->sin),
        .count =
            set->counted ? (const int32_t *)input(set, set->at.header) + EMB_HEADER_TEXTS : NULL,
        .tokens = set->at.tokens,
        .texts = set->at.texts,
        .heads = c->heads,
        .head_dim = c->head_dim,
        .rotary_dim = c->rotary_dim,
        .dtype = f->weights->dtype,
        .scale = (float)(1 / sqrt((double)c->head_dim)),
    };
    return emb_op_run(f->main, f->ops[EMB_OP_ATTENTION], &args, sizeof args);
}

static embed_status run_library(emb_device_forward *f, const emb_device_set *set,
                                const emb_attention_bucket *b) {
    embed_status st = EMBED_OK;
    const emb_device_attention *a = &f->attention;
    const emb_encoder_config *c = &f->model->config.encoder;
    const emb_cuda_rotary_args rotary = {
        .qkv = emb_dptr_raw(region(f, EMB_AT_QKV)),
        .positions = input(set, set->at.positions),
        .cos = emb_dptr_raw(f->weights->cos),
        .sin = emb_dptr_raw(f->weights->sin),
        .offsets = input(set, set->at.offsets),
        .lengths = emb_dptr_raw(column(a, 0)),
        .qkv_offsets = emb_dptr_raw(column(a, 1)),
        .out_offsets = emb_dptr_raw(column(a, 2)),
        .tokens = set->tokens,
        .texts = set->n_texts,
        .room = b->texts,
        .heads = c->heads,
        .head_dim = c->head_dim,
        .rotary_dim = c->rotary_dim,
        .dtype = f->weights->dtype,
    };
    const emb_attention_args args = {
        .qkv = region(f, EMB_AT_QKV),
        .out = region(f, EMB_AT_HEADS),
        .lengths = column(a, 0),
        .qkv_offsets = column(a, 1),
        .out_offsets = column(a, 2),
        .workspace = f->products.workspace,
    };
    EMB_TRY(emb_op_run(f->main, a->rotary, &rotary, sizeof rotary));
    EMB_TRY(emb_attention_plan_run(b->plan, f->main, &args));
fail:
    return st;
}

embed_status emb_device_attention_run(emb_device_forward *f, const emb_device_set *set) {
    return set->attention != NULL ? run_library(f, set, set->attention) : run_own(f, set);
}

void emb_device_attention_init(emb_device_attention *a) {
    *a = (emb_device_attention){.above_tokens = EMB_BUCKET_LAST, .least_longest = LEAST_LONGEST};
}

void emb_device_attention_free(emb_device_forward *f) {
    emb_device_attention *a = &f->attention;
    for (int32_t i = 0; i < a->n; i++)
        emb_attention_plan_free(a->buckets[i].plan);
    emb_device_free(f->device, a->columns);
    a->n = 0;
    a->room = 0;
    a->columns = (emb_dptr){0};
}

/* ----------------------------------------------------------------------------------- deciding */

static int64_t power_of_two(int64_t n) {
    int64_t p = 1;
    while (p < n)
        p *= 2;
    return p;
}

/* Of the batches that are long and full enough; 0: the batch is not one of them. */
static int bucket_of(const emb_device_forward *f, const emb_device_set *set,
                     emb_attention_bucket *b) {
    const emb_encoder_config *c = &f->model->config.encoder;
    const int64_t longest = set->longest;
    *b = (emb_attention_bucket){power_of_two(set->n_texts), power_of_two(longest), NULL};
    return f->products.choices != NULL && f->weights->dtype != EMBED_F32 &&
           emb_device_facts_of(f->device)->major >= 9 && c->head_dim % 8 == 0 &&
           c->head_dim <= MOST_HEAD_DIM && set->tokens > f->attention.above_tokens &&
           longest >= f->attention.least_longest && 4 * set->tokens >= 3 * b->texts * b->longest &&
           set->tokens * 3 * c->heads * c->head_dim <= INT32_MAX;
}

struct contest {
    emb_device_forward *f;
    const emb_device_set *set;
    const emb_attention_bucket *bucket;
};

static embed_status try_own(void *arg, emb_stream *s) {
    const struct contest *c = arg;
    (void)s; /* the same */
    return run_own(c->f, c->set);
}

static embed_status try_library(void *arg, emb_stream *s) {
    const struct contest *c = arg;
    (void)s;
    return run_library(c->f, c->set, c->bucket);
}

static emb_attention_spec spec_of(const emb_device_forward *f, const emb_attention_bucket *b) {
    const emb_encoder_config *c = &f->model->config.encoder;
    return (emb_attention_spec){.texts = b->texts,
                                .longest = b->longest,
                                .heads = c->heads,
                                .head_dim = c->head_dim,
                                .dtype = f->weights->dtype,
                                .scale = (float)(1 / sqrt((double)c->head_dim)),
                                .workspace_bytes = f->products.workspace_bytes};
}

/* Room for the columns of so many texts. What runs reads the old ones. */
static embed_status reserve(emb_device_forward *f, int64_t texts) {
    embed_status st = EMBED_OK;
    emb_device_attention *a = &f->attention;
    emb_dptr columns;
    if (a->room >= texts)
        return EMBED_OK;
    EMB_TRY(emb_stream_sync(f->main));
    EMB_TRY(emb_device_alloc(f->device, 3 * (size_t)(texts + 1) * sizeof(int32_t), &columns));
    emb_device_free(f->device, a->columns);
    a->columns = columns;
    a->room = texts;
fail:
    return st;
}

/* What cuDNN does not do is a reason; a device that is lost, or no memory, is the caller's. */
static embed_status contend(emb_device_forward *f, const emb_device_set *set,
                            emb_attention_bucket *b, emb_choice *to) {
    static const emb_trial_fn ways[2] = {try_own, try_library};
    const emb_attention_spec spec = spec_of(f, b);
    struct contest c = {f, set, b};
    float us[2] = {0, 0};
    embed_status st = emb_attention_plan_create(&b->plan, f->device, &spec);
    if (st == EMBED_OK) {
        (void)snprintf(to->algorithm, sizeof to->algorithm, "%s",
                       emb_attention_plan_facts(b->plan)->algorithm);
        st = emb_device_trial_plain(f->main, ways, &c, us);
    }
    if ((st == EMBED_ERR_UNSUPPORTED || st == EMBED_ERR_DEVICE) && emb_device_alive(f->device)) {
        emb_choice_refused(to);
        return EMBED_OK;
    }
    if (st == EMBED_OK)
        emb_choice_settle(to, f->products.policy, us);
    return st;
}

/* With the mutex of the choices held. */
static embed_status decide(emb_device_forward *f, const emb_device_set *set,
                           emb_attention_bucket *b) {
    embed_status st = EMBED_OK;
    emb_device_choices *all = f->products.choices;
    const int64_t rows = b->texts * b->longest;
    const emb_attention_spec spec = spec_of(f, b);
    const emb_choice *made =
        emb_device_choices_find(all, EMB_CHOICE_ATTENTION, rows, b->texts, b->longest);
    emb_choice choice = {
        .what = EMB_CHOICE_ATTENTION, .rows = rows, .n = b->texts, .k = b->longest};
    size_t others = 0;
    for (size_t i = 0; i < all->n; i++)
        others += all->items[i].what == EMB_CHOICE_ATTENTION;
    if (made != NULL)
        return made->strategy == EMBED_PRODUCTS_LIBRARY
                   ? emb_attention_plan_create(&b->plan, f->device, &spec)
                   : EMBED_OK;
    if (others == EMB_ATTENTION_CHOICES)
        return EMBED_OK;
    EMB_TRY(emb_device_layers_fill(f));
    EMB_TRY(contend(f, set, b, &choice));
    EMB_TRY(emb_device_choices_add(all, &choice));
    if (choice.strategy == EMBED_PRODUCTS_OWN) {
        emb_attention_plan_free(b->plan);
        b->plan = NULL;
    }
fail:
    return st;
}

embed_status emb_device_attention_prepare(emb_device_forward *f, emb_device_set *set) {
    embed_status st = EMBED_OK;
    emb_device_attention *a = &f->attention;
    emb_attention_bucket bucket;
    set->attention = NULL;
    if (!bucket_of(f, set, &bucket))
        return EMBED_OK;
    for (int32_t i = 0; i < a->n; i++)
        if (a->buckets[i].texts == bucket.texts && a->buckets[i].longest == bucket.longest) {
            set->attention = a->buckets[i].plan != NULL ? &a->buckets[i] : NULL;
            return EMBED_OK;
        }
    if (a->n == EMB_ATTENTION_CHOICES)
        return EMBED_OK; /* as many as the model has decided about */
    if (a->rotary == NULL)
        EMB_TRY(emb_op_find(f->device, "rotary", &a->rotary));
    EMB_TRY(reserve(f, bucket.texts));
    (void)pthread_mutex_lock(&f->products.choices->mutex);
    st = decide(f, set, &bucket);
    (void)pthread_mutex_unlock(&f->products.choices->mutex);
    EMB_TRY(st);
    a->buckets[a->n++] = bucket;
    set->attention = bucket.plan != NULL ? &a->buckets[a->n - 1] : NULL;
    return EMBED_OK;
fail:
    emb_attention_plan_free(bucket.plan);
    return st;
}
