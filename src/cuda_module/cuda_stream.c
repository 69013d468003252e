/* Streams, events, copies and kernels. */
#include "cuda_module/cuda_impl.h"
#include "cuda_module/cuda_ops.h"

#include <string.h>

static void *pointer(emb_dptr p) {
    return (void *)(uintptr_t)p.at;
}

/* ---- streams */

static int make_stream(emb_be_device *d, void *native, emb_be_stream **out, emb_device_error *err) {
    emb_cuda_scope scope;
    *out = NULL;
    emb_be_stream *s = emb_cuda_new(&d->allocator, sizeof *s, err);
    if (s == NULL)
        return EMB_DEVICE_NO_HOST;
    s->device = d;
    s->adopted = native != NULL;
    s->stream = native;
    int code = emb_cuda_enter(&scope, d, err);
    if (code == EMB_DEVICE_OK && native == NULL)
        code = EMB_CUDA(cudaStreamCreateWithFlags(&s->stream, cudaStreamNonBlocking), err);
    emb_cuda_leave(&scope);
    if (code != EMB_DEVICE_OK)
        emb_cuda_delete(&d->allocator, s, sizeof *s);
    else
        *out = s;
    return code;
}

static int stream_create(emb_be_device *d, emb_be_stream **out, emb_device_error *err) {
    return make_stream(d, NULL, out, err);
}

/* Events of ours can be recorded on streams of our context only, and what they would record on a
 * stream under capture would become part of the caller's graph. */
static int check_native(emb_be_device *d, void *native, emb_device_error *err) {
    enum cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    emb_cuda_scope scope;
    CUcontext context = NULL;
    int code = emb_cuda_enter(&scope, d, err);
    if (code == EMB_DEVICE_OK)
        code = emb_cuda_code((cudaError_t)(int)d->driver.stream_context(native, &context),
                             "cuStreamGetCtx", err);
    if (code == EMB_DEVICE_OK && context != d->context)
        code = emb_cuda_error(err, EMB_DEVICE_REFUSED,
                              "expected a stream of the primary context of device %d, found one of "
                              "another context or device",
                              d->index);
    if (code == EMB_DEVICE_OK)
        code = EMB_CUDA(cudaStreamIsCapturing(native, &status), err);
    if (code == EMB_DEVICE_OK && status != cudaStreamCaptureStatusNone)
        code = emb_cuda_error(err, EMB_DEVICE_REFUSED,
                              "the stream is being captured: end the capture first");
    emb_cuda_leave(&scope);
    return code;
}

static int stream_adopt(emb_be_device *d, void *native, emb_be_stream **out,
                        emb_device_error *err) {
    const int code = check_native(d, native, err);
    *out = NULL;
    return code != EMB_DEVICE_OK ? code : make_stream(d, native, out, err);
}

static void stream_free(emb_be_stream *s) {
    emb_cuda_scope scope;
    emb_device_error ignored;
    if (!s->adopted && emb_cuda_enter(&scope, s->device, &ignored) == EMB_DEVICE_OK) {
        (void)EMB_CUDA(cudaStreamSynchronize(s->stream), &ignored);
        (void)EMB_CUDA(cudaStreamDestroy(s->stream), &ignored);
        emb_cuda_leave(&scope);
    }
    emb_cuda_delete(&s->device->allocator, s, sizeof *s);
}

static int stream_sync(emb_be_stream *s, emb_device_error *err) {
    emb_cuda_scope scope;
    int code = emb_cuda_enter(&scope, s->device, err);
    if (code == EMB_DEVICE_OK)
        code = EMB_CUDA(cudaStreamSynchronize(s->stream), err);
    emb_cuda_leave(&scope);
    return code;
}

/* ---- events */

static int event_create(emb_be_device *d, int32_t timing, emb_be_event **out,
                        emb_device_error *err) {
    emb_cuda_scope scope;
    /* Not cudaEventBlockingSync: sleeping costs tens of microseconds, a short query not many more.
     */
    const unsigned flags = timing ? cudaEventDefault : cudaEventDisableTiming;
    *out = NULL;
    emb_be_event *e = emb_cuda_new(&d->allocator, sizeof *e, err);
    if (e == NULL)
        return EMB_DEVICE_NO_HOST;
    e->device = d;
    int code = emb_cuda_enter(&scope, d, err);
    if (code == EMB_DEVICE_OK)
        code = EMB_CUDA(cudaEventCreateWithFlags(&e->event, flags), err);
    emb_cuda_leave(&scope);
    if (code != EMB_DEVICE_OK)
        emb_cuda_delete(&d->allocator, e, sizeof *e);
    else
        *out = e;
    return code;
}

static void event_free(emb_be_event *e) {
    emb_cuda_scope scope;
    emb_device_error ignored;
    if (emb_cuda_enter(&scope, e->device, &ignored) == EMB_DEVICE_OK)
        (void)EMB_CUDA(cudaEventDestroy(e->event), &ignored);
    emb_cuda_leave(&scope);
    emb_cuda_delete(&e->device->allocator, e, sizeof *e);
}

static int event_record(emb_be_event *e, emb_be_stream *s, emb_device_error *err) {
    emb_cuda_scope scope;
    int code = emb_cuda_enter(&scope, s->device, err);
    if (code == EMB_DEVICE_OK)
        code = EMB_CUDA(cudaEventRecord(e->event, s->stream), err);
    emb_cuda_leave(&scope);
    return code;
}

static int event_query(emb_be_event *e, emb_device_error *err) {
    emb_cuda_scope scope;
    int code = emb_cuda_enter(&scope, e->device, err);
    if (code == EMB_DEVICE_OK)
        code = EMB_CUDA(cudaEventQuery(e->event), err);
    emb_cuda_leave(&scope);
    return code;
}

static int event_sync(emb_be_event *e, emb_device_error *err) {
    emb_cuda_scope scope;
    int code = emb_cuda_enter(&scope, e->device, err);
    if (code == EMB_DEVICE_OK)
        code = EMB_CUDA(cudaEventSynchronize(e->event), err);
    emb_cuda_leave(&scope);
    return code;
}

static int event_elapsed(emb_be_event *from, emb_be_event *to, float *ms, emb_device_error *err) {
    emb_cuda_scope scope;
    *ms = 0;
    int code = emb_cuda_enter(&scope, from->device, err);
    if (code == EMB_DEVICE_OK)
        code = EMB_CUDA(cudaEventElapsedTime(ms, from->event, to->event), err);
    emb_cuda_leave(&scope);
    return code == EMB_DEVICE_NOT_READY
               ? emb_cuda_error(err, EMB_DEVICE_FAILED, "the events have not both happened")
               : code;
}

static int stream_wait(emb_be_stream *s, emb_be_event *e, emb_device_error *err) {
    emb_cuda_scope scope;
    int code = emb_cuda_enter(&scope, s->device, err);
    if (code == EMB_DEVICE_OK)
        code = EMB_CUDA(cudaStreamWaitEvent(s->stream, e->event, cudaEventWaitDefault), err);
    emb_cuda_leave(&scope);
    return code;
}

/* ---- copies */

/* In a graph, only copies on the device: the host's memory is not part of a replay. */
static int refuse_captured(emb_be_stream *s, emb_device_error *err) {
    enum cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    if (s->device->capturing == 0)
        return EMB_DEVICE_OK;
    const int code = EMB_CUDA(cudaStreamIsCapturing(s->stream, &status), err);
    if (code != EMB_DEVICE_OK || status == cudaStreamCaptureStatusNone)
        return code;
    return emb_cuda_error(err, EMB_DEVICE_FAILED, "a graph may not copy between host and device");
}

static int transfer(emb_be_stream *s, void *to, const void *from, size_t bytes,
                    enum cudaMemcpyKind kind, emb_device_error *err) {
    emb_cuda_scope scope;
    int code = emb_cuda_enter(&scope, s->device, err);
    if (code == EMB_DEVICE_OK && kind != cudaMemcpyDeviceToDevice)
        code = refuse_captured(s, err);
    if (code == EMB_DEVICE_OK)
        code = EMB_CUDA(cudaMemcpyAsync(to, from, bytes, kind, s->stream), err);
    emb_cuda_leave(&scope);
    return code;
}

static int copy_in(emb_be_stream *s, emb_dptr to, const void *pinned, size_t bytes,
                   emb_device_error *err) {
    return transfer(s, pointer(to), pinned, bytes, cudaMemcpyHostToDevice, err);
}

static int copy_out(emb_be_stream *s, void *pinned, emb_dptr from, size_t bytes,
                    emb_device_error *err) {
    return transfer(s, pinned, pointer(from), bytes, cudaMemcpyDeviceToHost, err);
}

static int copy(emb_be_stream *s, emb_dptr to, emb_dptr from, size_t bytes, emb_device_error *err) {
    return transfer(s, pointer(to), pointer(from), bytes, cudaMemcpyDeviceToDevice, err);
}

static int set(emb_be_stream *s, emb_dptr to, int32_t byte, size_t bytes, emb_device_error *err) {
    emb_cuda_scope scope;
    int code = emb_cuda_enter(&scope, s->device, err);
    if (code == EMB_DEVICE_OK)
        code = EMB_CUDA(cudaMemsetAsync(pointer(to), byte, bytes, s->stream), err);
    emb_cuda_leave(&scope);
    return code;
}

/* ---- kernels */

/* What the runtime knows a kernel by: the address of its function on the host. */
static const void *symbol_of(const emb_kernel_entry *k) {
    const void *symbol;
    memcpy(&symbol, &k->function, sizeof symbol);
    return symbol;
}

/* More dynamic shared memory than 48 KB has to be asked for once per kernel and context. */
static int kernel_find(emb_be_device *d, const char *name, const emb_be_kernel **out,
                       emb_device_error *err) {
    emb_cuda_scope scope;
    size_t n;
    const emb_kernel_entry *all = emb_cuda_kernels(&n);
    int code = EMB_DEVICE_OK;
    *out = NULL;
    for (size_t i = 0; i < n; i++) {
        if (strcmp(all[i].name, name) != 0)
            continue;
        if (all[i].shared_bytes > 48 << 10) {
            code = emb_cuda_enter(&scope, d, err);
            if (code == EMB_DEVICE_OK)
                code = EMB_CUDA(cudaFuncSetAttribute(symbol_of(&all[i]),
                                                     cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                     (int)all[i].shared_bytes),
                                err);
            emb_cuda_leave(&scope);
        }
        if (code == EMB_DEVICE_OK)
            *out = (const emb_be_kernel *)(const void *)&all[i];
        return code;
    }
    return emb_cuda_error(err, EMB_DEVICE_UNAVAILABLE, "no kernel of this name");
}

static int launch(emb_be_stream *s, const emb_be_kernel *kernel, const emb_launch *l,
                  emb_device_error *err) {
    const emb_kernel_entry *k = (const emb_kernel_entry *)(const void *)kernel;
    void *args[1] = {(void *)(uintptr_t)l->args};
    emb_cuda_scope scope;
    if (l->arg_bytes != k->arg_bytes)
        return emb_cuda_error(err, EMB_DEVICE_FAILED,
                              "%s: expected %u bytes of arguments, found %u", k->name, k->arg_bytes,
                              l->arg_bytes);
    int code = emb_cuda_enter(&scope, s->device, err);
    if (code == EMB_DEVICE_OK) {
        const cudaError_t result = cudaLaunchKernel(
            symbol_of(k), (struct dim3){l->grid[0], l->grid[1], l->grid[2]},
            (struct dim3){l->block[0], l->block[1], l->block[2]}, args, l->shared_bytes, s->stream);
        code = emb_cuda_code(result, k->name, err);
    }
    emb_cuda_leave(&scope);
    return code;
}

/* ---- operations */

static int op_find(emb_be_device *d, const char *name, const emb_be_op **out,
                   emb_device_error *err) {
    size_t n;
    const emb_op_entry *all = emb_cuda_ops(&n);
    (void)d;
    *out = NULL;
    for (size_t i = 0; i < n; i++)
        if (strcmp(all[i].name, name) == 0) {
            *out = (const emb_be_op *)(const void *)&all[i];
            return EMB_DEVICE_OK;
        }
    return emb_cuda_error(err, EMB_DEVICE_UNAVAILABLE, "no operation of this name");
}

static int op_run(emb_be_stream *s, const emb_be_op *operation, const void *args, size_t arg_bytes,
                  emb_device_error *err) {
    const emb_op_entry *op = (const emb_op_entry *)(const void *)operation;
    emb_op_target on = {.stream = s->stream,
                        .processors = s->device->processors,
                        .shared_bytes = s->device->shared_bytes,
                        .arch = s->device->arch,
                        .tensor_maps = s->device->tensor_maps};
    emb_cuda_scope scope;
    if (arg_bytes != op->arg_bytes)
        return emb_cuda_error(err, EMB_DEVICE_FAILED,
                              "%s: expected %u bytes of arguments, found %zu", op->name,
                              op->arg_bytes, arg_bytes);
    int code = emb_cuda_enter(&scope, s->device, err);
    if (code == EMB_DEVICE_OK && op->run(&on, args) != EMBED_OK) {
        const char *failed = on.failed != NULL ? on.failed : op->name;
        code = on.error != 0 ? emb_cuda_code((cudaError_t)on.error, failed, err)
                             : emb_cuda_error(err, EMB_DEVICE_MISUSE, "%s: %s", op->name, failed);
    }
    emb_cuda_leave(&scope);
    return code;
}

void emb_cuda_fill_stream(emb_backend *t) {
    t->stream_create = stream_create;
    t->stream_adopt = stream_adopt;
    t->stream_free = stream_free;
    t->stream_sync = stream_sync;
    t->event_create = event_create;
    t->event_free = event_free;
    t->event_record = event_record;
    t->event_query = event_query;
    t->event_sync = event_sync;
    t->event_elapsed = event_elapsed;
    t->stream_wait = stream_wait;
    t->copy_in = copy_in;
    t->copy_out = copy_out;
    t->copy = copy;
    t->set = set;
    t->kernel_find = kernel_find;
    t->launch = launch;
    t->op_find = op_find;
    t->op_run = op_run;
}
