/* The calls of the table that enqueue work. */
#include <string.h>

#include "device/fake_impl.h"

static int enqueue_copy(emb_be_stream *s, fake_kind kind, emb_dptr to, emb_dptr from, void *host,
                        size_t bytes, emb_device_error *err) {
    emb_be_device *d = s->device;
    int code = emb_fake_enter(s->fake, d, EMB_FAKE_COPY, err);
    if (code == 0 && kind != FAKE_COPY && s->capture != NULL) {
        emb_fake_capture_break(d, "a copy between host and device was enqueued");
        code =
            emb_fake_error(err, EMB_DEVICE_FAILED, "a graph may not copy between host and device");
    }
    if (code == 0 && kind != FAKE_COPY && !emb_fake_host_is_pinned(d, host, bytes)) {
        emb_fake_raise(d, "copy between host and device: %p is not pinned host memory", host);
        code = emb_fake_lost(d, err);
    }
    if (code == 0) {
        fake_op *op = emb_fake_op_new(d, kind, 0, err);
        if (op != NULL) {
            op->to = to.at;
            op->from = from.at;
            op->host = host;
            op->bytes = bytes;
        }
        code = emb_fake_enqueue(s, op, err);
    }
    return emb_fake_leave(s->fake, code);
}

static int copy_in(emb_be_stream *s, emb_dptr to, const void *pinned, size_t bytes,
                   emb_device_error *err) {
    return enqueue_copy(s, FAKE_COPY_IN, to, (emb_dptr){0}, (void *)(uintptr_t)pinned, bytes, err);
}

static int copy_out(emb_be_stream *s, void *pinned, emb_dptr from, size_t bytes,
                    emb_device_error *err) {
    return enqueue_copy(s, FAKE_COPY_OUT, (emb_dptr){0}, from, pinned, bytes, err);
}

static int copy(emb_be_stream *s, emb_dptr to, emb_dptr from, size_t bytes, emb_device_error *err) {
    return enqueue_copy(s, FAKE_COPY, to, from, NULL, bytes, err);
}

static int set(emb_be_stream *s, emb_dptr to, int32_t byte, size_t bytes, emb_device_error *err) {
    int code = emb_fake_enter(s->fake, s->device, EMB_FAKE_COPY, err);
    if (code == 0) {
        fake_op *op = emb_fake_op_new(s->device, FAKE_SET, 0, err);
        if (op != NULL) {
            op->to = to.at;
            op->byte = byte;
            op->bytes = bytes;
        }
        code = emb_fake_enqueue(s, op, err);
    }
    return emb_fake_leave(s->fake, code);
}

/* ---- kernels */

static int kernel_find(emb_be_device *d, const char *name, const emb_be_kernel **out,
                       emb_device_error *err) {
    const emb_fake_params *p = &d->fake->params;
    *out = NULL;
    for (size_t i = 0; i < p->n_kernels; i++)
        if (strcmp(p->kernels[i].name, name) == 0) {
            *out = (const emb_be_kernel *)(const void *)&p->kernels[i];
            return EMB_DEVICE_OK;
        }
    return emb_fake_error(err, EMB_DEVICE_UNAVAILABLE, "no kernel of this name");
}

/* What every device refuses: 1024 threads a block, 65535 blocks in y and z. */
static int check_launch(const emb_kernel_entry *k, const emb_launch *l, emb_device_error *err) {
    const uint64_t threads = (uint64_t)l->block[0] * l->block[1] * l->block[2];
    if (threads == 0 || threads > 1024 || l->block[2] > 64)
        return emb_fake_error(err, EMB_DEVICE_FAILED, "%s: blocks of %u x %u x %u threads", k->name,
                              l->block[0], l->block[1], l->block[2]);
    if (l->grid[0] == 0 || l->grid[1] == 0 || l->grid[2] == 0 || l->grid[0] > INT32_MAX ||
        l->grid[1] > 65535 || l->grid[2] > 65535)
        return emb_fake_error(err, EMB_DEVICE_FAILED, "%s: a grid of %u x %u x %u blocks", k->name,
                              l->grid[0], l->grid[1], l->grid[2]);
    if (l->shared_bytes > k->shared_bytes)
        return emb_fake_error(err, EMB_DEVICE_FAILED,
                              "%s: expected at most %u bytes of shared memory, found %u", k->name,
                              k->shared_bytes, l->shared_bytes);
    if (l->arg_bytes != k->arg_bytes)
        return emb_fake_error(err, EMB_DEVICE_FAILED,
                              "%s: expected %u bytes of arguments, found %u", k->name, k->arg_bytes,
                              l->arg_bytes);
    return 0;
}

static int launch(emb_be_stream *s, const emb_be_kernel *kernel, const emb_launch *l,
                  emb_device_error *err) {
    const emb_kernel_entry *k = (const emb_kernel_entry *)(const void *)kernel;
    int code = emb_fake_enter(s->fake, s->device, EMB_FAKE_LAUNCH, err);
    if (code == 0)
        code = check_launch(k, l, err);
    if (code == 0) {
        fake_op *op = emb_fake_op_new(s->device, FAKE_KERNEL, l->arg_bytes, err);
        if (op != NULL) {
            op->kernel = k;
            op->launch = *l;
            op->launch.args = op->extra;
            memcpy(op->extra, l->args, l->arg_bytes);
        }
        code = emb_fake_enqueue(s, op, err);
    }
    return emb_fake_leave(s->fake, code);
}

/* ---- operations */

static int op_find(emb_be_device *d, const char *name, const emb_be_op **out,
                   emb_device_error *err) {
    const emb_fake_params *p = &d->fake->params;
    *out = NULL;
    for (size_t i = 0; i < p->n_ops; i++)
        if (strcmp(p->ops[i].name, name) == 0) {
            *out = (const emb_be_op *)(const void *)&p->ops[i];
            return EMB_DEVICE_OK;
        }
    return emb_fake_error(err, EMB_DEVICE_UNAVAILABLE, "no operation of this name");
}

/* What an operation's launches need beside the job; lives during op_run. */
typedef struct running_op {
    emb_be_stream *stream;
    const char *name;
    int code; /* of the launch that failed */
    emb_device_error *err;
} running_op;

enum { LAUNCH_FAILED = 719, OUT_OF_RESOURCES = 701 }; /* cudaError_t */

int emb_fake_submit(void *user, void *stream, const void *job, size_t bytes) {
    running_op *run = stream;
    emb_be_device *d = run->stream->device;
    (void)user;
    run->code = emb_fake_call_counted(d->fake, d, EMB_FAKE_LAUNCH, run->err);
    if (run->code == 0) {
        fake_op *op = emb_fake_op_new(d, FAKE_JOB, bytes, run->err);
        if (op != NULL) {
            op->name = run->name;
            memcpy(op->extra, job, bytes);
        }
        run->code = emb_fake_enqueue(run->stream, op, run->err);
    }
    return run->code == 0 ? 0 : run->code == EMB_DEVICE_LOST ? LAUNCH_FAILED : OUT_OF_RESOURCES;
}

static int op_run(emb_be_stream *s, const emb_be_op *operation, const void *args, size_t arg_bytes,
                  emb_device_error *err) {
    const emb_op_entry *entry = (const emb_op_entry *)(const void *)operation;
    running_op run = {s, entry->name, 0, err};
    const emb_fake_params *p = &s->fake->params;
    emb_op_target on = {.stream = &run,
                        .processors = 1,
                        .shared_bytes = p->shared_bytes,
                        .arch = p->arch,
                        .tensor_maps = p->tensor_maps};
    (void)pthread_mutex_lock(&s->fake->lock);
    int code = emb_fake_lost(s->device, err);
    if (code == 0 && arg_bytes != entry->arg_bytes)
        code = emb_fake_error(err, EMB_DEVICE_FAILED,
                              "%s: expected %u bytes of arguments, found "
                              "%zu",
                              entry->name, entry->arg_bytes, arg_bytes);
    if (code == 0 && entry->run(&on, args) != EMBED_OK)
        code = run.code != 0 ? run.code
                             : emb_fake_error(err, EMB_DEVICE_MISUSE, "%s: %s", entry->name,
                                              on.failed != NULL ? on.failed : "refused");
    return emb_fake_leave(s->fake, code);
}

static int region_begin(emb_be_stream *s, emb_dptr at, size_t bytes, const char *name,
                        emb_device_error *err) {
    (void)pthread_mutex_lock(&s->fake->lock);
    int code = emb_fake_lost(s->device, err);
    if (code == 0) {
        fake_op *op = emb_fake_op_new(s->device, FAKE_REGION, 0, err);
        if (op != NULL) {
            op->to = at.at;
            op->bytes = bytes;
            op->name = name;
        }
        code = emb_fake_enqueue(s, op, err);
    }
    return emb_fake_leave(s->fake, code);
}

/* ---- matrix products */

static void drop_gemm(emb_be_gemm *g) {
    const emb_env env = g->device->env;
    emb_free(&env, g->x);
    emb_free(&env, g->w);
    emb_free(&env, g);
}

static int make_gemm(emb_be_device *d, const emb_gemm_spec *spec, emb_be_gemm **out) {
    emb_be_gemm *g;
    size_t elements;
    if (emb_new(&d->env, sizeof *g, (void **)&g) != EMBED_OK)
        return EMB_DEVICE_NO_HOST;
    g->device = d;
    g->spec = *spec;
    g->spec.workspace_bytes = spec->workspace_bytes < 4096 ? spec->workspace_bytes : 4096;
    g->refs = 1;
    if (emb_mul((size_t)spec->m, (size_t)spec->k, "matrix product", &elements) != EMBED_OK ||
        emb_new_array(&d->env, elements, sizeof *g->x, (void **)&g->x) != EMBED_OK ||
        emb_new_array(&d->env, (size_t)spec->k, sizeof *g->w, (void **)&g->w) != EMBED_OK) {
        drop_gemm(g);
        return EMB_DEVICE_NO_HOST;
    }
    d->fake->live++;
    *out = g;
    return EMB_DEVICE_OK;
}

static int gemm_create(emb_be_device *d, const emb_gemm_spec *spec, emb_be_gemm **out,
                       emb_gemm_facts *facts, emb_device_error *err) {
    *out = NULL;
    int code = emb_fake_enter(d->fake, d, EMB_FAKE_GEMM, err);
    if (code == 0 && d->fake->params.no_gemm != NULL)
        code = emb_fake_error(err, EMB_DEVICE_UNAVAILABLE, "%s", d->fake->params.no_gemm);
    if (code == 0) {
        code = make_gemm(d, spec, out);
        if (code != 0)
            (void)emb_fake_error(err, code, "no host memory for a matrix product");
    }
    if (code == 0)
        *facts = (emb_gemm_facts){(*out)->spec.workspace_bytes, "element by element"};
    return emb_fake_leave(d->fake, code);
}

static void gemm_free(emb_be_gemm *g) {
    emb_fake *f = g->device->fake;
    (void)pthread_mutex_lock(&f->lock);
    if (--g->refs == 0) {
        f->live--;
        drop_gemm(g);
    }
    (void)emb_fake_leave(f, 0);
}

static int gemm_run(emb_be_gemm *g, emb_be_stream *s, const emb_gemm_args *args,
                    emb_device_error *err) {
    int code = emb_fake_enter(s->fake, s->device, EMB_FAKE_GEMM, err);
    if (code == 0) {
        fake_op *op = emb_fake_op_new(s->device, FAKE_GEMM, 0, err);
        if (op != NULL) {
            op->gemm = g;
            g->refs++;
            op->gemm_args = *args;
        }
        code = emb_fake_enqueue(s, op, err);
    }
    return emb_fake_leave(s->fake, code);
}

void emb_fake_fill_work(emb_backend *t) {
    t->copy_in = copy_in;
    t->copy_out = copy_out;
    t->copy = copy;
    t->set = set;
    t->kernel_find = kernel_find;
    t->launch = launch;
    t->op_find = op_find;
    t->op_run = op_run;
    t->region_begin = region_begin;
    t->gemm_create = gemm_create;
    t->gemm_free = gemm_free;
    t->gemm_run = gemm_run;
}
