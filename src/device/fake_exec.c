/* What operations do when they run, and the calls that enqueue them. */
#include <string.h>

#include "base/dtype.h"
#include "device/fake_impl.h"

static const char *const names[] = {[FAKE_COPY_IN] = "copy to the device",
                                    [FAKE_COPY_OUT] = "copy from the device",
                                    [FAKE_COPY] = "copy on the device",
                                    [FAKE_SET] = "set",
                                    [FAKE_KERNEL] = "kernel",
                                    [FAKE_JOB] = "operation",
                                    [FAKE_GEMM] = "matrix product",
                                    [FAKE_ATTENTION] = "attention"};

static void run_copy(emb_be_device *d, const fake_op *op) {
    const char *what = names[op->kind];
    unsigned char *to = op->host;
    const unsigned char *from = op->host;
    size_t at = 0;
    if (op->kind != FAKE_COPY_OUT)
        to = emb_fake_memory_range(d, op->to, op->bytes, 1, what);
    if (op->kind != FAKE_COPY_IN)
        from = emb_fake_memory_range(d, op->from, op->bytes, 0, what);
    if (to == NULL || from == NULL)
        return;
    if (op->kind != FAKE_COPY && !emb_fake_host_is_pinned(d, op->host, op->bytes)) {
        emb_fake_raise(d, "%s: the pinned memory was freed before the copy ran", what);
        return;
    }
    if (op->kind == FAKE_COPY_OUT && !d->fake->params.allow_poison_out &&
        emb_fake_memory_find_poison(from, op->bytes, &at)) {
        emb_fake_raise(d, "%s: byte %zu of %zu was never written", what, at, op->bytes);
        return;
    }
    memmove(to, from, op->bytes);
}

static void run_set(emb_be_device *d, const fake_op *op) {
    unsigned char *to = emb_fake_memory_range(d, op->to, op->bytes, 1, names[op->kind]);
    if (to != NULL)
        memset(to, op->byte, op->bytes);
}

static void run_kernel(emb_be_device *d, const fake_op *op) {
    for (uint32_t i = 0; i < op->kernel->n_pointers; i++) {
        uint64_t at;
        memcpy(&at, op->extra + op->kernel->pointers[i], sizeof at);
        if (at != 0 && emb_fake_memory_range(d, at, 1, 0, op->kernel->name) == NULL)
            return;
    }
    ((emb_emulated_fn)op->kernel->function)(&op->launch);
}

static void run_job(emb_be_device *d, const fake_op *op) {
    const emb_fake_params *p = &d->fake->params;
    if (p->run_job(op->extra) != 0)
        emb_fake_raise(d, "%s: %s", op->name, p->job_error());
}

static float load(const unsigned char *p, int64_t i, int32_t dtype) {
    float f;
    uint16_t h;
    if (dtype == EMBED_F32) {
        memcpy(&f, p + 4 * i, sizeof f);
        return f;
    }
    memcpy(&h, p + 2 * i, sizeof h);
    return dtype == EMBED_F16 ? emb_f16_to_f32(h) : emb_bf16_to_f32(h);
}

static void store(unsigned char *p, int64_t i, int32_t dtype, float f) {
    if (dtype == EMBED_F32) {
        memcpy(p + 4 * i, &f, sizeof f);
        return;
    }
    const uint16_t h = dtype == EMBED_F16 ? emb_f32_to_f16(f) : emb_f32_to_bf16(f);
    memcpy(p + 2 * i, &h, sizeof h);
}

/* The definition in backend.h, element by element. */
static void run_gemm(emb_be_device *d, const fake_op *op) {
    const emb_be_gemm *g = op->gemm;
    const emb_gemm_spec *s = &g->spec;
    const emb_gemm_args *a = &op->gemm_args;
    const char *what = names[op->kind];
    const size_t in = emb_dtype_bytes(s->dtype), out = emb_dtype_bytes(s->y_dtype);
    const size_t m = (size_t)s->m, n = (size_t)s->n, k = (size_t)s->k;
    const unsigned char *x = emb_fake_memory_range(d, a->x.at, m * k * in, 0, what);
    const unsigned char *w = emb_fake_memory_range(d, a->w.at, n * k * in, 0, what);
    const unsigned char *bias = NULL, *residual = NULL;
    unsigned char *y = emb_fake_memory_range(d, a->y.at, m * n * out, 1, what);
    unsigned char *work = emb_fake_memory_range(d, a->workspace.at, s->workspace_bytes, 1, what);
    if (s->bias)
        bias = emb_fake_memory_range(d, a->bias.at, n * out, 0, what);
    if (s->residual)
        residual = emb_fake_memory_range(d, a->residual.at, m * n * out, 0, what);
    if (d->lost != 0)
        return;
    emb_fake_memory_poison(work, s->workspace_bytes); /* nobody else may keep anything there */
    for (int64_t i = 0; i < s->m * s->k; i++)
        g->x[i] = load(x, i, s->dtype);
    for (int64_t j = 0; j < s->n; j++) {
        for (int64_t l = 0; l < s->k; l++)
            g->w[l] = load(w, j * s->k + l, s->dtype);
        for (int64_t i = 0; i < s->m; i++) {
            float sum = 0;
            for (int64_t l = 0; l < s->k; l++)
                sum += g->x[i * s->k + l] * g->w[l];
            if (bias != NULL)
                sum += load(bias, j, s->y_dtype);
            if (residual != NULL)
                sum += load(residual, i * s->n + j, s->y_dtype);
            store(y, i * s->n + j, s->y_dtype, sum);
        }
    }
}

void emb_fake_execute(emb_be_device *d, fake_op *op) {
    const emb_fake_params *p = &d->fake->params;
    d->ms += op->kind == FAKE_GEMM || op->kind == FAKE_ATTENTION ? p->gemm_ms
             : op->kind == FAKE_KERNEL || op->kind == FAKE_JOB   ? p->kernel_ms
                                                                 : 0;
    switch (op->kind) {
    case FAKE_COPY_IN:
    case FAKE_COPY_OUT:
    case FAKE_COPY:
        run_copy(d, op);
        break;
    case FAKE_SET:
        run_set(d, op);
        break;
    case FAKE_KERNEL:
        run_kernel(d, op);
        break;
    case FAKE_JOB:
        run_job(d, op);
        break;
    case FAKE_GEMM:
        run_gemm(d, op);
        break;
    case FAKE_ATTENTION:
        emb_fake_attention_run(d, op);
        break;
    case FAKE_REGION:
        emb_fake_memory_begin_region(d, op->to, op->bytes, op->name);
        return;
    case FAKE_RECORD:
    case FAKE_WAIT:
    case FAKE_GRAPH:
    case FAKE_MEETING:
        return;
    }
    emb_fake_memory_check(d, op->kind == FAKE_KERNEL ? op->kernel->name
                             : op->kind == FAKE_JOB  ? op->name
                                                     : names[op->kind]);
}
