#include "model/device_products.h"

#include <stdio.h>

#include "kernels/activation/activation_cuda.h"
#include "model/device_graphs.h"
#include "model/device_trials.h"

#define WORKSPACE_BYTES ((size_t)32 << 20) /* what NVIDIA suggests for Hopper; less before it */
#define OLD_WORKSPACE_BYTES ((size_t)4 << 20)

static void describe(emb_device_products *p, const embed_model *m) {
    const emb_encoder_config *c = &m->config.encoder;
    const int64_t hidden = c->hidden, inner = c->inner;
    const int32_t plain = EMB_CUDA_ACT_NONE;
    p->shapes[EMB_DENSE_QKV] = (emb_dense_shape){3 * hidden, hidden, plain, 0};
    p->shapes[EMB_DENSE_OUT] = (emb_dense_shape){hidden, hidden, plain, 0};
    if (m->moe_layers == c->layers)
        return;
    p->shapes[EMB_DENSE_UP] =
        (emb_dense_shape){inner, hidden, c->gated ? plain : (int32_t)c->activation, 0};
    if (c->gated)
        p->shapes[EMB_DENSE_GATE] = (emb_dense_shape){inner, hidden, (int32_t)c->activation, 1};
    p->shapes[EMB_DENSE_DOWN] = (emb_dense_shape){hidden, inner, plain, 0};
}

embed_status emb_device_products_create(emb_device_products *p, emb_device *device,
                                        const embed_model *model, int32_t dtype) {
    *p = (emb_device_products){.device = device, .dtype = dtype, .policy = EMBED_PRODUCTS_OWN};
    describe(p, model);
    return emb_op_find(device, "gemm", &p->gemm);
}

static int wants_library(int32_t dtype, int32_t tf32, int32_t policy) {
    return policy == EMBED_PRODUCTS_LIBRARY ||
           (policy == EMBED_PRODUCTS_AUTO && (dtype != EMBED_F32 || tf32));
}

size_t emb_device_products_bytes(int32_t dtype, int32_t tf32, int32_t policy) {
    return wants_library(dtype, tf32, policy) ? WORKSPACE_BYTES : 0;
}

embed_status emb_device_products_allow(emb_device_products *p, embed_model *model, int32_t policy) {
    embed_status st = EMBED_OK;
    emb_feature library;
    p->policy = policy;
    if (!wants_library(p->dtype, p->tf32, policy))
        return EMBED_OK;
    EMB_TRY(emb_device_feature(p->device, EMB_FEATURE_CUBLASLT, &library));
    if (!library.present) {
        (void)snprintf(p->reason, sizeof p->reason, "%s", library.reason);
        emb_log(emb_device_env(p->device), EMBED_LOG_INFO,
                "%s: our own kernels run all products: %s", emb_device_name(p->device), p->reason);
        return EMBED_OK;
    }
    p->workspace_bytes =
        emb_device_facts_of(p->device)->major >= 9 ? WORKSPACE_BYTES : OLD_WORKSPACE_BYTES;
    EMB_TRY(emb_op_find(p->device, "activation", &p->activation));
    EMB_TRY(emb_device_alloc(p->device, p->workspace_bytes, &p->workspace));
    EMB_TRY(emb_device_choices_get(&p->choices, model, p->device,
                                   &(emb_choices_key){p->dtype, p->tf32, policy}));
fail:
    return st;
}

static void bucket_free(emb_product_bucket *b) {
    for (int i = 0; i < EMB_DENSES; i++)
        emb_gemm_plan_free(b->plans[i]);
}

static void drop_buckets(emb_device_products *p) {
    for (size_t i = 0; i < p->n_buckets; i++)
        bucket_free(&p->buckets[i]);
    p->n_buckets = 0;
}

void emb_device_products_free(emb_device_products *p) {
    if (p->device == NULL)
        return;
    drop_buckets(p);
    emb_free(emb_device_env(p->device), p->buckets);
    emb_device_free(p->device, p->workspace);
    *p = (emb_device_products){.device = NULL};
}

/* ------------------------------------------------------------------------------- the two ways */

embed_status emb_device_products_own(const emb_device_products *p, emb_stream *s,
                                     emb_cuda_gemm_args a) {
    a.ldx = a.k;
    a.ldy = a.ldmul = a.n;
    a.groups = a.groups > 0 ? a.groups : 1;
    a.tf32 = p->tf32 && a.dtype == 0 && p->dtype == EMBED_F32;
    a.dtype = a.dtype != 0 ? a.dtype : p->dtype;
    return emb_op_run(s, p->gemm, &a, sizeof a);
}

static embed_status run_own(const emb_device_products *p, emb_stream *s,
                            const emb_dense_shape *shape, const emb_dense_args *a) {
    return emb_device_products_own(p, s,
                                   (emb_cuda_gemm_args){.x = a->x,
                                                        .w = emb_dptr_raw(a->w),
                                                        .bias = emb_dptr_raw(a->bias),
                                                        .mul = a->mul,
                                                        .y = a->y,
                                                        .count = a->count,
                                                        .m = a->m,
                                                        .n = shape->n,
                                                        .k = shape->k,
                                                        .act = shape->act});
}

static emb_gemm_spec spec_of(const emb_device_products *p, const emb_dense_shape *shape,
                             const emb_dense_args *a, int64_t rows) {
    return (emb_gemm_spec){.m = rows,
                           .n = shape->n,
                           .k = shape->k,
                           .dtype = p->dtype,
                           .y_dtype = p->dtype,
                           .bias = a->bias.at != 0 && shape->act == EMB_CUDA_ACT_NONE,
                           .tf32 = p->tf32,
                           .workspace_bytes = p->workspace_bytes};
}

static embed_status run_library(const emb_device_products *p, emb_stream *s,
                                const emb_dense_shape *shape, emb_gemm_plan *plan,
                                const emb_dense_args *a) {
    embed_status st = EMBED_OK;
    const int act = shape->act != EMB_CUDA_ACT_NONE;
    const emb_gemm_args product = {
        .x = {(uintptr_t)a->x},
        .w = a->w,
        .bias = act ? (emb_dptr){0} : emb_device_bias(a->bias, shape->n, p->dtype),
        .y = {(uintptr_t)a->y},
        .workspace = p->workspace,
    };
    const emb_cuda_activation_args rest = {
        .x = a->y,
        .bias = emb_dptr_raw(a->bias),
        .y = a->y,
        .count = a->count,
        .tokens = a->m,
        .dim = shape->n,
        .dtype = p->dtype,
        .act = shape->act,
    };
    EMB_TRY(emb_gemm_plan_run(plan, s, &product));
    if (act)
        EMB_TRY(emb_op_run(s, p->activation, &rest, sizeof rest));
fail:
    return st;
}

/* ----------------------------------------------------------------------------------- deciding */

int64_t emb_device_products_rows(int64_t m, int64_t most) {
    int64_t rows = emb_bucket_tokens(m), step = EMB_BUCKET_LAST / 16;
    if (rows == 0) {
        while (32 * step <= m)
            step *= 2;
        rows = (m + step - 1) / step * step;
    }
    return rows < most ? rows : most;
}

static emb_product_bucket *find(const emb_device_products *p, int64_t m) {
    const int64_t rows = emb_device_products_rows(m, p->most);
    for (size_t i = 0; i < p->n_buckets; i++)
        if (p->buckets[i].rows == rows)
            return &p->buckets[i];
    return NULL;
}

int emb_device_products_ready(emb_device_products *p, int64_t m, int64_t most) {
    if (p->most != most) { /* other buffers: nothing of them was written yet */
        drop_buckets(p);
        p->most = most;
    }
    return p->choices == NULL || find(p, m) != NULL;
}

struct contest {
    emb_device_products *p;
    const emb_dense_shape *shape;
    emb_gemm_plan *plan;
    emb_dense_args args;
};

static embed_status try_own(void *arg, emb_stream *s) {
    const struct contest *c = arg;
    return run_own(c->p, s, c->shape, &c->args);
}

static embed_status try_library(void *arg, emb_stream *s) {
    const struct contest *c = arg;
    return run_library(c->p, s, c->shape, c->plan, &c->args);
}

/* The library does not do this one; other failures are the caller's. */
static int refused(const emb_device_products *p, embed_status st) {
    return (st == EMBED_ERR_UNSUPPORTED || st == EMBED_ERR_DEVICE) && emb_device_alive(p->device);
}

/* Plan it, try both, and note the outcome. *plan is made if the library is chosen. */
static embed_status contend(emb_device_products *p, emb_stream *s, const emb_dense_args *args,
                            emb_choice *to, emb_gemm_plan **plan) {
    embed_status st = EMBED_OK;
    static const emb_trial_fn ways[2] = {try_own, try_library};
    const emb_dense_shape *shape = &p->shapes[to->what];
    const emb_gemm_spec spec = spec_of(p, shape, args, to->rows);
    float us[2] = {0, 0};
    to->strategy = EMBED_PRODUCTS_OWN;
    if (shape->mul) {
        (void)snprintf(to->reason, sizeof to->reason,
                       "the factor of a gated layer is multiplied in our kernel's epilogue");
        return EMBED_OK;
    }
    st = emb_gemm_plan_create(plan, p->device, &spec);
    if (st == EMBED_OK) {
        struct contest c = {p, shape, *plan, *args};
        c.args.m = to->rows;
        c.args.count = NULL;
        (void)snprintf(to->algorithm, sizeof to->algorithm, "%s",
                       emb_gemm_plan_facts(*plan)->algorithm);
        st = emb_device_trial_run(s, ways, &c, us);
    }
    if (st != EMBED_OK && !refused(p, st))
        return st;
    if (st != EMBED_OK)
        emb_choice_refused(to);
    else
        emb_choice_settle(to, p->policy, us);
    return EMBED_OK;
}

/* With the mutex of the choices held. */
static embed_status decide(emb_device_products *p, emb_stream *s, emb_dense which,
                           const emb_dense_args *args, int64_t rows, emb_gemm_plan **plan) {
    embed_status st = EMBED_OK;
    const emb_dense_shape *shape = &p->shapes[which];
    const emb_gemm_spec spec = spec_of(p, shape, args, rows);
    const emb_choice *made =
        emb_device_choices_find(p->choices, (int32_t)which, rows, shape->n, shape->k);
    emb_choice choice = {.what = (int32_t)which, .rows = rows, .n = shape->n, .k = shape->k};
    if (made != NULL) /* a library that fails now may not change numbers */
        return made->strategy == EMBED_PRODUCTS_LIBRARY
                   ? emb_gemm_plan_create(plan, p->device, &spec)
                   : EMBED_OK;
    EMB_TRY(contend(p, s, args, &choice, plan));
    EMB_TRY(emb_device_choices_add(p->choices, &choice));
    if (choice.strategy == EMBED_PRODUCTS_OWN) {
        emb_gemm_plan_free(*plan);
        *plan = NULL;
    }
fail:
    return st;
}

embed_status emb_device_products_prepare(emb_device_products *p, emb_stream *s,
                                         const emb_dense_args args[EMB_DENSES], int64_t m) {
    embed_status st = EMBED_OK;
    emb_product_bucket bucket = {.rows = emb_device_products_rows(m, p->most)};
    EMB_TRY(emb_grow(emb_device_env(p->device), (void **)&p->buckets, &p->capacity,
                     p->n_buckets + 1, sizeof *p->buckets));
    (void)pthread_mutex_lock(&p->choices->mutex);
    for (int i = 0; i < EMB_DENSES && st == EMBED_OK; i++)
        if (p->shapes[i].n > 0)
            st = decide(p, s, (emb_dense)i, &args[i], bucket.rows, &bucket.plans[i]);
    (void)pthread_mutex_unlock(&p->choices->mutex);
    EMB_TRY(st);
    p->buckets[p->n_buckets++] = bucket;
    return EMBED_OK;
fail:
    bucket_free(&bucket);
    return st;
}

embed_status emb_device_products_run(emb_device_products *p, emb_stream *s, emb_dense which,
                                     const emb_dense_args *a) {
    const emb_product_bucket *bucket = p->choices != NULL && !a->own ? find(p, a->m) : NULL;
    emb_gemm_plan *plan = bucket != NULL ? bucket->plans[which] : NULL;
    return plan != NULL ? run_library(p, s, &p->shapes[which], plan, a)
                        : run_own(p, s, &p->shapes[which], a);
}

int emb_device_products_choice(const emb_device_products *p, size_t i, emb_choice *choice,
                               size_t *n) {
    *n = 0;
    if (p->choices != NULL)
        return emb_device_choices_read(p->choices, i, choice, n);
    *choice = (emb_choice){.strategy = EMBED_PRODUCTS_OWN};
    (void)snprintf(choice->reason, sizeof choice->reason, "%s", p->reason);
    return 0;
}
