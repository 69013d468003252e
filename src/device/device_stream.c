#include <stdio.h>

#include "device/device_impl.h"

struct emb_stream {
    emb_device *device;
    emb_be_stream *inner;
    int capturing;
};

struct emb_event {
    emb_device *device;
    emb_be_event *inner;
};

struct emb_graph {
    emb_device *device;
    emb_be_graph *inner;
};

emb_device *emb_stream_device(const emb_stream *s) {
    return s->device;
}

emb_be_stream *emb_stream_inner(const emb_stream *s) {
    return s->inner;
}

static const emb_backend *backend(const emb_stream *s) {
    return emb_device_backend(s->device);
}

/* A new stream; `native` as in stream_adopt, or NULL. */
static embed_status make_stream(emb_stream **out, emb_device *d, void *native) {
    embed_status st;
    emb_stream *s = NULL;
    emb_device_error err = {""};
    *out = NULL;
    EMB_TRY(emb_device_check(d));
    EMB_TRY(emb_new(emb_device_env(d), sizeof *s, (void **)&s));
    s->device = d;
    const emb_backend *b = emb_device_backend(d);
    const int code = native != NULL ? b->stream_adopt(emb_device_inner(d), native, &s->inner, &err)
                                    : b->stream_create(emb_device_inner(d), &s->inner, &err);
    EMB_TRY(emb_device_outcome(d, code, &err,
                               native != NULL ? "a stream of the caller" : "making a stream"));
    *out = s;
    return EMBED_OK;
fail:
    emb_stream_free(s);
    return st;
}

embed_status emb_stream_create(emb_stream **out, emb_device *d) {
    return make_stream(out, d, NULL);
}

embed_status emb_stream_adopt(emb_stream **out, emb_device *d, void *native) {
    *out = NULL;
    if (native == NULL)
        return emb_fail(EMBED_ERR_ARG, "stream: NULL");
    return make_stream(out, d, native);
}

void emb_stream_free(emb_stream *s) {
    if (s == NULL)
        return;
    if (s->inner != NULL && emb_device_is_ours(s->device))
        backend(s)->stream_free(s->inner);
    emb_free(emb_device_env(s->device), s);
}

embed_status emb_stream_sync(emb_stream *s) {
    embed_status st;
    emb_device_error err = {""};
    EMB_TRY(emb_device_check(s->device));
    st = emb_device_outcome(s->device, backend(s)->stream_sync(s->inner, &err), &err,
                            "waiting for a stream");
fail:
    return st;
}

/* ---- events */

embed_status emb_event_create(emb_event **out, emb_device *d, int timing) {
    embed_status st;
    emb_event *e = NULL;
    emb_device_error err = {""};
    *out = NULL;
    EMB_TRY(emb_device_check(d));
    EMB_TRY(emb_new(emb_device_env(d), sizeof *e, (void **)&e));
    e->device = d;
    EMB_TRY(emb_device_outcome(
        d, emb_device_backend(d)->event_create(emb_device_inner(d), timing != 0, &e->inner, &err),
        &err, "making an event"));
    *out = e;
    return EMBED_OK;
fail:
    emb_event_free(e);
    return st;
}

void emb_event_free(emb_event *e) {
    if (e == NULL)
        return;
    if (e->inner != NULL && emb_device_is_ours(e->device))
        emb_device_backend(e->device)->event_free(e->inner);
    emb_free(emb_device_env(e->device), e);
}

embed_status emb_event_record(emb_event *e, emb_stream *s) {
    embed_status st;
    emb_device_error err = {""};
    EMB_TRY(emb_device_check(s->device));
    st = emb_device_outcome(s->device, backend(s)->event_record(e->inner, s->inner, &err), &err,
                            "recording an event");
fail:
    return st;
}

embed_status emb_event_query(emb_event *e, int *done) {
    embed_status st;
    emb_device_error err = {""};
    *done = 0;
    EMB_TRY(emb_device_check(e->device));
    const int code = emb_device_backend(e->device)->event_query(e->inner, &err);
    if (code == EMB_DEVICE_NOT_READY)
        return EMBED_OK;
    EMB_TRY(emb_device_outcome(e->device, code, &err, "asking for an event"));
    *done = 1;
fail:
    return st;
}

embed_status emb_event_sync(emb_event *e) {
    embed_status st;
    emb_device_error err = {""};
    EMB_TRY(emb_device_check(e->device));
    st = emb_device_outcome(e->device, emb_device_backend(e->device)->event_sync(e->inner, &err),
                            &err, "waiting for an event");
fail:
    return st;
}

embed_status emb_event_elapsed(emb_event *from, emb_event *to, float *ms) {
    embed_status st;
    emb_device_error err = {""};
    *ms = 0;
    EMB_TRY(emb_device_check(from->device));
    st = emb_device_outcome(
        from->device,
        emb_device_backend(from->device)->event_elapsed(from->inner, to->inner, ms, &err), &err,
        "time between events");
fail:
    return st;
}

embed_status emb_stream_wait(emb_stream *s, emb_event *e) {
    embed_status st;
    emb_device_error err = {""};
    EMB_TRY(emb_device_check(s->device));
    st = emb_device_outcome(s->device, backend(s)->stream_wait(s->inner, e->inner, &err), &err,
                            "waiting for an event in a stream");
fail:
    return st;
}

/* ---- copies and kernels */

embed_status emb_copy_in(emb_stream *s, emb_dptr to, const void *pinned, size_t bytes) {
    embed_status st;
    emb_device_error err = {""};
    EMB_TRY(emb_device_check(s->device));
    if (bytes > 0)
        st = emb_device_outcome(s->device, backend(s)->copy_in(s->inner, to, pinned, bytes, &err),
                                &err, "copy to the device");
fail:
    return st;
}

embed_status emb_copy_out(emb_stream *s, void *pinned, emb_dptr from, size_t bytes) {
    embed_status st;
    emb_device_error err = {""};
    EMB_TRY(emb_device_check(s->device));
    if (bytes > 0)
        st =
            emb_device_outcome(s->device, backend(s)->copy_out(s->inner, pinned, from, bytes, &err),
                               &err, "copy from the device");
fail:
    return st;
}

embed_status emb_copy_device(emb_stream *s, emb_dptr to, emb_dptr from, size_t bytes) {
    embed_status st;
    emb_device_error err = {""};
    EMB_TRY(emb_device_check(s->device));
    if (bytes > 0)
        st = emb_device_outcome(s->device, backend(s)->copy(s->inner, to, from, bytes, &err), &err,
                                "copy on the device");
fail:
    return st;
}

embed_status emb_set_device(emb_stream *s, emb_dptr to, int byte, size_t bytes) {
    embed_status st;
    emb_device_error err = {""};
    EMB_TRY(emb_device_check(s->device));
    if (bytes > 0)
        st = emb_device_outcome(s->device, backend(s)->set(s->inner, to, byte, bytes, &err), &err,
                                "setting memory");
fail:
    return st;
}

embed_status emb_kernel_launch(emb_stream *s, const emb_be_kernel *k, const emb_launch *launch) {
    embed_status st;
    emb_device_error err = {""};
    EMB_TRY(emb_device_check(s->device));
    if (launch->arg_bytes > EMB_MAX_KERNEL_ARGS)
        return emb_fail(EMBED_ERR_INTERNAL,
                        "%s: kernel: expected at most %d bytes of arguments, "
                        "found %u",
                        emb_device_name(s->device), EMB_MAX_KERNEL_ARGS, launch->arg_bytes);
    for (int i = 0; i < 3; i++) /* an empty grid is no work, an empty block is an error */
        if (launch->grid[i] == 0)
            return EMBED_OK;
    st = emb_device_outcome(s->device, backend(s)->launch(s->inner, k, launch, &err), &err,
                            "launching a kernel");
fail:
    return st;
}

embed_status emb_op_run(emb_stream *s, const emb_be_op *op, const void *args, size_t arg_bytes) {
    embed_status st;
    emb_device_error err = {""};
    EMB_TRY(emb_device_check(s->device));
    st = emb_device_outcome(s->device, backend(s)->op_run(s->inner, op, args, arg_bytes, &err),
                            &err, "running an operation");
fail:
    return st;
}

embed_status emb_region_begin(emb_stream *s, emb_dptr at, size_t bytes, const char *name) {
    embed_status st;
    emb_device_error err = {""};
    if (backend(s)->region_begin == NULL)
        return EMBED_OK;
    EMB_TRY(emb_device_check(s->device));
    st = emb_device_outcome(s->device, backend(s)->region_begin(s->inner, at, bytes, name, &err),
                            &err, name);
fail:
    return st;
}

/* ---- graphs */

embed_status emb_capture_begin(emb_stream *s) {
    embed_status st;
    emb_device_error err = {""};
    EMB_TRY(emb_device_check(s->device));
    EMB_TRY(emb_device_outcome(s->device, backend(s)->capture_begin(s->inner, &err), &err,
                               "beginning a graph"));
    s->capturing = 1;
fail:
    return st;
}

embed_status emb_capture_end(emb_stream *s, emb_graph **out, emb_graph_info *info) {
    embed_status st;
    emb_graph *g = NULL;
    emb_device_error err = {""};
    emb_graph_info counted = {0, 0, 0, 0};
    *out = NULL;
    if (!s->capturing)
        return emb_fail(EMBED_ERR_INTERNAL, "%s: a graph was ended that was never begun",
                        emb_device_name(s->device));
    if (!emb_device_is_ours(s->device))
        return emb_device_check(s->device);
    s->capturing = 0;
    /* The capture must end even if the device is dead or there is no memory for the handle. */
    emb_be_graph *inner = NULL;
    const embed_status dead = emb_device_check(s->device);
    const int code = backend(s)->capture_end(s->inner, &inner, &counted, &err);
    if (dead != EMBED_OK) {
        backend(s)->graph_free(inner);
        return emb_device_check(s->device);
    }
    EMB_TRY(emb_device_outcome(s->device, code, &err, "ending a graph"));
    st = emb_new(emb_device_env(s->device), sizeof *g, (void **)&g);
    if (st != EMBED_OK) {
        backend(s)->graph_free(inner);
        goto fail;
    }
    g->device = s->device;
    g->inner = inner;
    if (info != NULL)
        *info = counted;
    *out = g;
fail:
    return st;
}

embed_status emb_capture_give_up(emb_stream *s, embed_status st) {
    emb_graph *graph;
    char message[1024];
    (void)snprintf(message, sizeof message, "%s", emb_fail_sentence());
    if (emb_capture_end(s, &graph, NULL) == EMBED_OK)
        emb_graph_free(graph);
    return emb_fail(st, "%s", message);
}

embed_status emb_graph_launch(emb_graph *g, emb_stream *s) {
    embed_status st;
    emb_device_error err = {""};
    EMB_TRY(emb_device_check(s->device));
    if (g->device != s->device)
        return emb_fail(EMBED_ERR_INTERNAL, "%s: a graph of %s was launched here",
                        emb_device_name(s->device), emb_device_name(g->device));
    st = emb_device_outcome(s->device, backend(s)->graph_launch(g->inner, s->inner, &err), &err,
                            "launching a graph");
fail:
    return st;
}

void emb_graph_free(emb_graph *g) {
    if (g == NULL)
        return;
    if (g->inner != NULL && emb_device_is_ours(g->device))
        emb_device_backend(g->device)->graph_free(g->inner);
    emb_free(emb_device_env(g->device), g);
}
