#include "device/fake_impl.h"

#include <string.h>

fake_op *emb_fake_op_new(emb_be_device *d, fake_kind kind, size_t extra, emb_device_error *err) {
    fake_op *op;
    if (emb_new(&d->env, sizeof *op + extra, (void **)&op) != EMBED_OK) {
        (void)emb_fake_error(err, EMB_DEVICE_NO_HOST, "no host memory for an operation");
        return NULL;
    }
    op->kind = kind;
    op->n_extra = extra;
    op->launch.args = op->extra;
    return op;
}

void emb_fake_event_unref(emb_be_event *e) {
    if (e == NULL || --e->refs > 0)
        return;
    if (e->capture != NULL)
        emb_fake_graph_unref(e->capture);
    const emb_env env = e->env; /* its device may be closed by now */
    e->fake->live--;
    emb_free(&env, e);
}

static void gemm_unref(emb_be_gemm *g) {
    if (g == NULL || --g->refs > 0)
        return;
    const emb_env env = g->device->env;
    g->device->fake->live--;
    emb_free(&env, g->x);
    emb_free(&env, g->w);
    emb_free(&env, g);
}

void emb_fake_op_free(emb_be_device *d, fake_op *op) {
    if (op == NULL)
        return;
    emb_fake_event_unref(op->event);
    if (op->graph != NULL)
        emb_fake_graph_unref(op->graph);
    gemm_unref(op->gemm);
    if (op->meeting != NULL)
        emb_fake_meeting_unref(op->meeting);
    emb_free(&d->env, op);
}

/* What will never run must not be waited for either: not by other devices, nor by other ranks. */
static void drop_op(const fake_op *op) {
    if (op->kind == FAKE_RECORD)
        op->event->done = op->generation;
    if (op->kind == FAKE_MEETING)
        op->meeting->aborted = 1;
}

void emb_fake_drop_queue(emb_be_stream *s) {
    while (s->head != NULL) {
        fake_op *op = s->head;
        s->head = op->next;
        drop_op(op);
        emb_fake_op_free(s->device, op);
    }
    s->tail = &s->head;
}

/* ---- running */

static int ready(const emb_be_stream *s) {
    const fake_op *op = s->head;
    if (op == NULL)
        return 0;
    if (op->kind == FAKE_WAIT)
        return op->event->done >= op->generation;
    if (op->kind == FAKE_MEETING)
        return emb_fake_meeting_ready(s->device, op->meeting);
    return 1;
}

static emb_be_stream *choose(emb_fake *f) {
    uint32_t n = 0;
    emb_be_stream *chosen = NULL;
    /* Mostly the stream that ran last, so that streams get far ahead of each other. */
    for (emb_be_stream *s = f->streams; s != NULL; s = s->next)
        if (ready(s)) {
            if (s == f->favourite && emb_fake_random(f, 8) != 0)
                return s;
            if (emb_fake_random(f, ++n) == 0)
                chosen = s;
        }
    f->favourite = chosen;
    return chosen;
}

static int fails_now(emb_fake *f, emb_be_device *d) {
    if (++f->calls[EMB_FAKE_EXECUTION] != f->fail_at[EMB_FAKE_EXECUTION])
        return 0;
    emb_fake_lose(d, EMB_DEVICE_LOST, "injected failure of work that ran");
    return 1;
}

/* Takes the operation from the queue first: running it may lose the device, which empties that. */
static void run_head(emb_be_stream *s) {
    emb_be_device *d = s->device;
    fake_op *op = s->head;
    s->head = op->next;
    if (s->head == NULL)
        s->tail = &s->head;
    int done = 1;
    if (op->kind == FAKE_RECORD) {
        op->event->done = op->generation;
        op->event->ms = d->ms;
    } else if (op->kind != FAKE_WAIT && fails_now(s->fake, d))
        drop_op(op);
    else if (op->kind == FAKE_MEETING)
        emb_fake_meeting_run(d, op->meeting);
    else if (op->kind == FAKE_GRAPH)
        done = emb_fake_graph_step(d, op);
    else if (op->kind != FAKE_WAIT)
        emb_fake_execute(d, op);
    if (done || d->lost != 0) {
        emb_fake_op_free(d, op);
    } else {
        op->next = s->head;
        if (s->head == NULL)
            s->tail = &op->next;
        s->head = op;
    }
}

int emb_fake_step(emb_fake *f) {
    emb_be_stream *s = choose(f);
    if (s == NULL)
        return 0;
    emb_fake_memory_expose(f, 1);
    run_head(s);
    return 1;
}

/* The seed sets the mood: late, at once, or something between. */
void emb_fake_run_some(emb_fake *f) {
    const uint64_t mood = f->params.seed % 4;
    if (mood == 1)
        while (emb_fake_step(f)) {
        }
    else if (mood >= 2 && emb_fake_random(f, 2) == 0)
        for (uint32_t n = emb_fake_random(f, 4); n > 0 && emb_fake_step(f); n--) {
        }
    emb_fake_memory_expose(f, 0);
}

/* Until the stream is empty. A queue that nothing can run would hang a real device. */
int emb_fake_drain(emb_be_stream *s, emb_device_error *err) {
    while (s->device->lost == 0 && s->head != NULL) {
        if (s->fake->params.seed % 2 == 0 && ready(s)) {
            emb_fake_memory_expose(s->fake, 1);
            run_head(s);
        } else if (!emb_fake_step(s->fake)) {
            emb_fake_raise(s->device, "deadlock: a stream waits for work that was never enqueued");
        }
    }
    emb_fake_memory_expose(s->fake, 0);
    return emb_fake_lost(s->device, err);
}

int emb_fake_enqueue(emb_be_stream *s, fake_op *op, emb_device_error *err) {
    if (op == NULL)
        return EMB_DEVICE_NO_HOST;
    if (s->capture != NULL)
        return emb_fake_capture_add(s, op, err);
    *s->tail = op;
    s->tail = &op->next;
    emb_fake_run_some(s->fake);
    return EMB_DEVICE_OK; /* failures of work show when the host waits */
}

/* ---- streams and events of the table */

static int stream_create(emb_be_device *d, emb_be_stream **out, emb_device_error *err) {
    emb_be_stream *s;
    emb_fake *f = d->fake;
    *out = NULL;
    int code = emb_fake_enter(f, d, EMB_FAKE_STREAM, err);
    if (code == 0 && emb_new(&d->env, sizeof *s, (void **)&s) != EMBED_OK)
        code = emb_fake_error(err, EMB_DEVICE_NO_HOST, "no host memory for a stream");
    if (code == 0) {
        s->fake = f;
        s->device = d;
        s->tail = &s->head;
        s->next = f->streams;
        f->streams = s;
        f->live++;
        *out = s;
    }
    return emb_fake_leave(f, code);
}

/* A stream of the tests', which is the same queue by another handle. */
static int stream_adopt(emb_be_device *d, void *native, emb_be_stream **out,
                        emb_device_error *err) {
    *out = NULL;
    int code = emb_fake_enter(d->fake, d, EMB_FAKE_STREAM, err);
    emb_be_stream *s = d->fake->streams;
    while (s != NULL && (s != native || s->device->index != d->index))
        s = s->next;
    if (code == 0 && s == NULL)
        code = emb_fake_error(err, EMB_DEVICE_REFUSED, "%p is no stream of this device", native);
    if (code == 0 && s->capture != NULL)
        code = emb_fake_error(err, EMB_DEVICE_REFUSED, "the stream is being captured");
    if (code == 0) {
        s->adopted++;
        d->fake->live++;
        *out = s;
    }
    return emb_fake_leave(d->fake, code);
}

static void stream_free(emb_be_stream *s) {
    emb_fake *f = s->fake;
    emb_device_error ignored;
    (void)pthread_mutex_lock(&f->lock);
    if (s->adopted > 0) {
        s->adopted--;
        f->live--;
        (void)emb_fake_leave(f, 0);
        return;
    }
    if (s->capture != NULL)
        emb_fake_capture_abandon(s);
    (void)emb_fake_drain(s, &ignored);
    emb_fake_drop_queue(s);
    emb_be_stream **link = &f->streams;
    while (*link != s)
        link = &(*link)->next;
    *link = s->next;
    if (f->favourite == s)
        f->favourite = NULL;
    f->live--;
    emb_free(&s->device->env, s);
    (void)emb_fake_leave(f, 0);
}

/* The host may not wait for what is only being recorded. */
static int refuse_captured(emb_be_device *d, int captured, emb_device_error *err) {
    if (!captured)
        return 0;
    emb_fake_capture_break(d, "the host waited during the capture");
    return emb_fake_error(err, EMB_DEVICE_FAILED, "the host may not wait during a capture");
}

static int stream_sync(emb_be_stream *s, emb_device_error *err) {
    int code = emb_fake_enter(s->fake, s->device, EMB_FAKE_SYNC, err);
    if (code == 0)
        code = refuse_captured(s->device, s->capture != NULL, err);
    if (code == 0)
        code = emb_fake_drain(s, err);
    return emb_fake_leave(s->fake, code);
}

static int event_create(emb_be_device *d, int32_t timing, emb_be_event **out,
                        emb_device_error *err) {
    emb_be_event *e;
    (void)timing;
    *out = NULL;
    int code = emb_fake_enter(d->fake, d, EMB_FAKE_EVENT, err);
    if (code == 0 && emb_new(&d->env, sizeof *e, (void **)&e) != EMBED_OK)
        code = emb_fake_error(err, EMB_DEVICE_NO_HOST, "no host memory for an event");
    if (code == 0) {
        e->fake = d->fake;
        e->env = d->env;
        e->device = d;
        e->refs = 1;
        d->fake->live++;
        *out = e;
    }
    return emb_fake_leave(d->fake, code);
}

static void event_free(emb_be_event *e) {
    emb_fake *f = e->fake;
    (void)pthread_mutex_lock(&f->lock);
    emb_fake_event_unref(e);
    (void)emb_fake_leave(f, 0);
}

static int event_record(emb_be_event *e, emb_be_stream *s, emb_device_error *err) {
    int code = emb_fake_enter(s->fake, s->device, EMB_FAKE_EVENT, err);
    if (code == 0 && e->device->index != s->device->index)
        code = emb_fake_error(err, EMB_DEVICE_FAILED, "the event is of another device");
    if (code == 0 && s->capture != NULL) {
        emb_fake_capture_record(e, s);
    } else if (code == 0) {
        fake_op *op = emb_fake_op_new(s->device, FAKE_RECORD, 0, err);
        if (op != NULL) {
            if (e->capture != NULL)
                emb_fake_graph_unref(e->capture);
            e->capture = NULL;
            op->event = e;
            op->generation = ++e->asked;
            e->refs++;
        }
        code = emb_fake_enqueue(s, op, err);
    }
    return emb_fake_leave(s->fake, code);
}

static int stream_wait(emb_be_stream *s, emb_be_event *e, emb_device_error *err) {
    int code = emb_fake_enter(s->fake, s->device, EMB_FAKE_EVENT, err);
    if (code == 0 && (e->capture != NULL || s->capture != NULL)) {
        code = emb_fake_capture_wait(s, e, err);
    } else if (code == 0 && e->asked > 0) {
        fake_op *op = emb_fake_op_new(s->device, FAKE_WAIT, 0, err);
        if (op != NULL) {
            op->event = e;
            op->generation = e->asked;
            e->refs++;
        }
        code = emb_fake_enqueue(s, op, err);
    }
    return emb_fake_leave(s->fake, code);
}

static int event_query(emb_be_event *e, emb_device_error *err) {
    int code = emb_fake_enter(e->fake, e->device, EMB_FAKE_SYNC, err);
    if (code == 0)
        code = refuse_captured(e->device, e->capture != NULL, err);
    if (code == 0 && e->done < e->asked) {
        (void)emb_fake_step(e->fake); /* time passes while one asks */
        emb_fake_memory_expose(e->fake, 0);
        code = emb_fake_lost(e->device, err);
        if (code == 0 && e->done < e->asked)
            code = EMB_DEVICE_NOT_READY;
    }
    return emb_fake_leave(e->fake, code);
}

static int event_sync(emb_be_event *e, emb_device_error *err) {
    int code = emb_fake_enter(e->fake, e->device, EMB_FAKE_SYNC, err);
    if (code == 0)
        code = refuse_captured(e->device, e->capture != NULL, err);
    const uint64_t target = e->asked;
    while (code == 0 && e->done < target) {
        if (!emb_fake_step(e->fake))
            emb_fake_raise(e->device, "deadlock: an event waits for work that was never enqueued");
        code = emb_fake_lost(e->device, err);
    }
    emb_fake_memory_expose(e->fake, 0);
    return emb_fake_leave(e->fake, code);
}

static int event_elapsed(emb_be_event *from, emb_be_event *to, float *ms, emb_device_error *err) {
    const int code = emb_fake_enter(from->fake, from->device, EMB_FAKE_SYNC, err);
    *ms = (float)(to->ms - from->ms);
    if (code == 0 &&
        (from->done < from->asked || to->done < to->asked || from->asked == 0 || to->asked == 0))
        return emb_fake_leave(from->fake, emb_fake_error(err, EMB_DEVICE_FAILED,
                                                         "the events have not both happened"));
    return emb_fake_leave(from->fake, code);
}

void emb_fake_fill_queue(emb_backend *t) {
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
}
