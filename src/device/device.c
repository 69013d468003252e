#define _POSIX_C_SOURCE 200809L
#include "device/device_impl.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct emb_device {
    emb_env env;
    const emb_backend *backend;
    emb_be_device *inner;
    emb_device_facts facts; /* when it was opened */
    char name[32];
    pid_t pid;
    atomic_int dead; /* 1: being written, 2: `death` is complete */
    char death[512];
};

const emb_env *emb_device_env(const emb_device *d) {
    return &d->env;
}

const emb_backend *emb_device_backend(const emb_device *d) {
    return d->backend;
}

emb_be_device *emb_device_inner(const emb_device *d) {
    return d->inner;
}

const char *emb_device_name(const emb_device *d) {
    return d->name;
}

const emb_backend *emb_device_table(const emb_device *d) {
    return d->backend;
}

const emb_device_facts *emb_device_facts_of(const emb_device *d) {
    return &d->facts;
}

size_t emb_device_guard_bytes(const emb_device *d) {
    return d->backend->guard_bytes;
}

int emb_device_alive(const emb_device *d) {
    return atomic_load(&d->dead) == 0;
}

int emb_device_is_ours(const emb_device *d) {
    return d->pid == getpid();
}

embed_status emb_device_check(const emb_device *d) {
    if (!emb_device_is_ours(d))
        return emb_fail(EMBED_ERR_DEVICE,
                        "%s: opened by process %ld and used in its child %ld; open models and "
                        "contexts after fork()",
                        d->name, (long)d->pid, (long)getpid());
    const int dead = atomic_load(&d->dead);
    if (dead != 0)
        return emb_fail(EMBED_ERR_DEVICE, "%s: out of use since it failed: %s", d->name,
                        dead == 2 ? d->death : "(just now)");
    return EMBED_OK;
}

/* The first failure wins: what follows is a consequence of it. */
static void mark_dead(emb_device *d, const char *what, const char *text) {
    int alive = 0;
    if (!atomic_compare_exchange_strong(&d->dead, &alive, 1))
        return;
    (void)snprintf(d->death, sizeof d->death, "%.80s: %.400s", what, text);
    atomic_store(&d->dead, 2);
}

static embed_status status_of(int code) {
    switch ((emb_device_code)code) {
    case EMB_DEVICE_OK:
        return EMBED_OK;
    case EMB_DEVICE_NO_MEMORY:
    case EMB_DEVICE_NO_HOST:
        return EMBED_ERR_NOMEM;
    case EMB_DEVICE_MISUSE:
    case EMB_DEVICE_NOT_READY:
        return EMBED_ERR_INTERNAL;
    case EMB_DEVICE_UNAVAILABLE:
        return EMBED_ERR_UNSUPPORTED;
    case EMB_DEVICE_REFUSED:
        return EMBED_ERR_ARG;
    case EMB_DEVICE_FAILED:
    case EMB_DEVICE_LOST:
    case EMB_DEVICE_FORKED:
        break;
    }
    return EMBED_ERR_DEVICE;
}

embed_status emb_device_outcome(emb_device *d, int code, const emb_device_error *err,
                                const char *what) {
    if (code == EMB_DEVICE_OK)
        return EMBED_OK;
    if (code == EMB_DEVICE_LOST || code == EMB_DEVICE_MISUSE)
        mark_dead(d, what, err->text);
    return emb_fail(status_of(code), "%s: %s: %s", d->name, what, err->text);
}

embed_status emb_device_open(emb_device **out, const emb_env *env, const emb_backend *backend,
                             int32_t index) {
    embed_status st;
    emb_device *d = NULL;
    emb_device_error err = {""};
    int32_t devices = 0;
    *out = NULL;
    EMB_TRY(emb_new(env, sizeof *d, (void **)&d));
    d->env = *env;
    d->backend = backend;
    d->pid = getpid();
    (void)snprintf(d->name, sizeof d->name, "%s:%d", backend->name, index);
    /* No device of this name has failed yet: what fails here is the request. */
    int code = backend->count(backend->self, &devices, &err);
    if (code == EMB_DEVICE_OK && (index < 0 || index >= devices)) {
        st = emb_fail(EMBED_ERR_DEVICE, "%s: expected a device below %d, found %d", d->name,
                      devices, index);
        goto fail;
    }
    if (code == EMB_DEVICE_OK)
        code = backend->describe(backend->self, index, &d->facts, &err);
    if (code == EMB_DEVICE_OK && !d->facts.usable) {
        st = emb_fail(EMBED_ERR_DEVICE, "%s: not usable: %s", d->name, d->facts.reason);
        goto fail;
    }
    if (code == EMB_DEVICE_OK)
        code = backend->open(backend->self, index, &d->env.allocator, &d->inner, &err);
    if (code != EMB_DEVICE_OK) {
        st = emb_fail(code == EMB_DEVICE_NO_HOST || code == EMB_DEVICE_NO_MEMORY ? EMBED_ERR_NOMEM
                                                                                 : EMBED_ERR_DEVICE,
                      "%s: cannot be opened: %s", d->name, err.text);
        goto fail;
    }
    *out = d;
    return EMBED_OK;
fail:
    emb_device_close(d);
    return st;
}

/* In a child the objects of the driver belong to the parent: only our own memory is given back. */
void emb_device_close(emb_device *d) {
    if (d == NULL)
        return;
    if (d->inner != NULL && emb_device_is_ours(d))
        d->backend->close(d->inner);
    const emb_env env = d->env;
    emb_free(&env, d);
}

embed_status emb_device_feature(emb_device *d, emb_feature_id id, emb_feature *out) {
    embed_status st;
    emb_device_error err = {""};
    *out = (emb_feature){.present = 0};
    EMB_TRY(emb_device_check(d));
    st = emb_device_outcome(d, d->backend->feature(d->backend->self, (int32_t)id, out, &err), &err,
                            "asking for a library");
fail:
    return st;
}

/* ---- memory */

embed_status emb_device_alloc(emb_device *d, size_t bytes, emb_dptr *out) {
    embed_status st;
    emb_device_error err = {""};
    *out = (emb_dptr){0};
    EMB_TRY(emb_device_check(d));
    st = emb_device_outcome(d, d->backend->alloc(d->inner, bytes, out, &err), &err, "allocation");
fail:
    return st;
}

void emb_device_free(emb_device *d, emb_dptr p) {
    if (p.at != 0 && emb_device_is_ours(d))
        d->backend->free(d->inner, p);
}

embed_status emb_device_host_alloc(emb_device *d, size_t bytes, void **out) {
    embed_status st;
    emb_device_error err = {""};
    *out = NULL;
    EMB_TRY(emb_device_check(d));
    st = emb_device_outcome(d, d->backend->host_alloc(d->inner, bytes, out, &err), &err,
                            "pinned allocation");
fail:
    return st;
}

void emb_device_host_free(emb_device *d, void *p) {
    if (p != NULL && emb_device_is_ours(d))
        d->backend->host_free(d->inner, p);
}

embed_status emb_device_host_map(emb_device *d, const void *host, size_t bytes, emb_dptr *out) {
    embed_status st;
    emb_device_error err = {""};
    *out = (emb_dptr){0};
    EMB_TRY(emb_device_check(d));
    st = emb_device_outcome(d, d->backend->host_map(d->inner, host, bytes, out, &err), &err,
                            "registering host memory");
fail:
    return st;
}

void emb_device_host_unmap(emb_device *d, const void *host) {
    if (host != NULL && emb_device_is_ours(d))
        d->backend->host_unmap(d->inner, host);
}

embed_status emb_device_memory_check(emb_device *d, emb_dptr at, size_t bytes) {
    embed_status st;
    emb_device_error err = {""};
    EMB_TRY(emb_device_check(d));
    st = emb_device_outcome(d, d->backend->memory_check(d->inner, at, bytes, &err), &err,
                            "memory of the caller");
fail:
    return st;
}

/* ---- kernels and products */

embed_status emb_kernel_find(emb_device *d, const char *name, const emb_be_kernel **out) {
    embed_status st;
    emb_device_error err = {""};
    *out = NULL;
    EMB_TRY(emb_device_check(d));
    st = emb_device_outcome(d, d->backend->kernel_find(d->inner, name, out, &err), &err, name);
fail:
    return st;
}

embed_status emb_op_find(emb_device *d, const char *name, const emb_be_op **out) {
    embed_status st;
    emb_device_error err = {""};
    *out = NULL;
    EMB_TRY(emb_device_check(d));
    st = emb_device_outcome(d, d->backend->op_find(d->inner, name, out, &err), &err, name);
fail:
    return st;
}

struct emb_gemm_plan {
    emb_device *device;
    emb_be_gemm *inner;
    emb_gemm_spec spec;
    emb_gemm_facts facts;
};

static embed_status check_spec(const emb_gemm_spec *s) {
    if (s->m < 1 || s->n < 1 || s->k < 1)
        return emb_fail(EMBED_ERR_INTERNAL,
                        "product: expected sizes of 1 and more, found %lld x "
                        "%lld x %lld",
                        (long long)s->m, (long long)s->n, (long long)s->k);
    if ((s->dtype != EMBED_F32 && s->dtype != EMBED_F16 && s->dtype != EMBED_BF16) ||
        (s->y_dtype != s->dtype && s->y_dtype != EMBED_F32))
        return emb_fail(EMBED_ERR_INTERNAL, "product: element types %d to %d are not known",
                        s->dtype, s->y_dtype);
    return EMBED_OK;
}

embed_status emb_gemm_plan_create(emb_gemm_plan **out, emb_device *d, const emb_gemm_spec *spec) {
    embed_status st;
    emb_gemm_plan *g = NULL;
    emb_device_error err = {""};
    *out = NULL;
    EMB_TRY(emb_device_check(d));
    EMB_TRY(check_spec(spec));
    EMB_TRY(emb_new(&d->env, sizeof *g, (void **)&g));
    g->device = d;
    g->spec = *spec;
    EMB_TRY(emb_device_outcome(d,
                               d->backend->gemm_create(d->inner, spec, &g->inner, &g->facts, &err),
                               &err, "planning a matrix product"));
    *out = g;
    return EMBED_OK;
fail:
    emb_gemm_plan_free(g);
    return st;
}

void emb_gemm_plan_free(emb_gemm_plan *g) {
    if (g == NULL)
        return;
    if (g->inner != NULL && emb_device_is_ours(g->device))
        g->device->backend->gemm_free(g->inner);
    emb_free(&g->device->env, g);
}

const emb_gemm_facts *emb_gemm_plan_facts(const emb_gemm_plan *g) {
    return &g->facts;
}

embed_status emb_gemm_plan_run(emb_gemm_plan *g, emb_stream *s, const emb_gemm_args *args) {
    embed_status st;
    emb_device_error err = {""};
    EMB_TRY(emb_device_check(g->device));
    if (emb_stream_device(s) != g->device || args->x.at == 0 || args->w.at == 0 ||
        args->y.at == 0 || (g->spec.bias && args->bias.at == 0) ||
        (g->spec.residual && args->residual.at == 0) ||
        (g->facts.workspace_bytes > 0 && args->workspace.at == 0))
        return emb_fail(EMBED_ERR_INTERNAL,
                        "%s: matrix product: an operand is missing, or the "
                        "stream is another device's",
                        g->device->name);
    st = emb_device_outcome(g->device,
                            g->device->backend->gemm_run(g->inner, emb_stream_inner(s), args, &err),
                            &err, "matrix product");
fail:
    return st;
}
