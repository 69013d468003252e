/* Capture and replay. A graph keeps the operations and, for each, the earlier ones that it must
 * come after; a replay takes them in a random order that keeps to those. */
#include <stdio.h>
#include <string.h>

#include "device/fake_impl.h"

void emb_fake_graph_unref(emb_be_graph *g) {
    if (--g->refs > 0)
        return;
    const emb_env env = g->device->env;
    for (size_t i = 0; i < g->n; i++)
        emb_fake_op_free(g->device, g->nodes[i]);
    g->fake->live--;
    emb_free(&env, g->nodes);
    emb_free(&env, g);
}

void emb_fake_capture_break(emb_be_device *d, const char *what) {
    if (d->capture != NULL && d->capture->broken[0] == '\0')
        (void)snprintf(d->capture->broken, sizeof d->capture->broken, "%s", what);
}

/* Add node `dep` to a list; 0 if it is full. */
static int add_dep(uint32_t *deps, uint32_t *n, uint32_t dep) {
    for (uint32_t i = 0; i < *n; i++)
        if (deps[i] == dep)
            return 1;
    if (*n == FAKE_DEPS)
        return 0;
    deps[(*n)++] = dep;
    return 1;
}

int emb_fake_capture_add(emb_be_stream *s, fake_op *op, emb_device_error *err) {
    emb_be_graph *g = s->capture;
    if (emb_grow(&s->device->env, (void **)&g->nodes, &g->capacity, g->n + 1, sizeof *g->nodes) !=
        EMBED_OK) {
        emb_fake_op_free(s->device, op);
        emb_fake_capture_break(s->device, "out of host memory");
        return emb_fake_error(err, EMB_DEVICE_NO_HOST, "no host memory for a graph");
    }
    memcpy(op->deps, s->deps, sizeof op->deps);
    op->n_deps = s->n_deps;
    g->info.kernels += op->kind == FAKE_KERNEL || op->kind == FAKE_JOB || op->kind == FAKE_GEMM;
    g->info.sets += op->kind == FAKE_SET;
    g->info.copies += op->kind == FAKE_COPY;
    s->deps[0] = (uint32_t)g->n;
    s->n_deps = 1;
    g->nodes[g->n++] = op;
    return EMB_DEVICE_OK;
}

void emb_fake_capture_record(emb_be_event *e, emb_be_stream *s) {
    s->capture->refs++;
    if (e->capture != NULL)
        emb_fake_graph_unref(e->capture);
    e->capture = s->capture;
    memcpy(e->deps, s->deps, sizeof e->deps);
    e->n_deps = s->n_deps;
}

/* A stream that waits for an event of a capture becomes part of it. */
int emb_fake_capture_wait(emb_be_stream *s, emb_be_event *e, emb_device_error *err) {
    emb_be_graph *g = s->device->capture;
    if (e->capture == NULL && e->asked == 0)
        return EMB_DEVICE_OK; /* never recorded */
    if (g == NULL || e->capture != g) {
        emb_fake_capture_break(s->device, "a stream waited for an event from outside");
        return emb_fake_error(err, EMB_DEVICE_FAILED,
                              "work inside and outside of a capture may not wait for each other");
    }
    s->capture = g;
    for (uint32_t i = 0; i < e->n_deps; i++)
        if (!add_dep(s->deps, &s->n_deps, e->deps[i])) {
            emb_fake_capture_break(s->device, "too many branches");
            return emb_fake_error(err, EMB_DEVICE_FAILED, "more than %d branches meet", FAKE_DEPS);
        }
    return EMB_DEVICE_OK;
}

static int capture_begin(emb_be_stream *s, emb_device_error *err) {
    emb_be_device *d = s->device;
    emb_be_graph *g;
    int code = emb_fake_enter(s->fake, d, EMB_FAKE_CAPTURE, err);
    if (code == 0 && d->capture != NULL)
        code = emb_fake_error(err, EMB_DEVICE_FAILED, "a capture is in progress");
    if (code == 0 && emb_new(&d->env, sizeof *g, (void **)&g) != EMBED_OK)
        code = emb_fake_error(err, EMB_DEVICE_NO_HOST, "no host memory for a graph");
    if (code == 0) {
        g->fake = s->fake;
        g->device = d;
        g->origin = s;
        g->refs = 1;
        s->fake->live++;
        s->capture = d->capture = g;
        s->n_deps = 0;
    }
    return emb_fake_leave(s->fake, code);
}

/* Every branch must have come back to the stream it started from: the last nodes of the other
 * streams are among those that the origin's last ones follow. */
static int rejoined(const emb_be_graph *g, const emb_be_stream *s, unsigned char *seen) {
    memset(seen, 0, g->n);
    for (uint32_t i = 0; i < g->origin->n_deps; i++)
        seen[g->origin->deps[i]] = 1;
    for (size_t i = g->n; i-- > 0;)
        for (uint32_t j = 0; seen[i] && j < g->nodes[i]->n_deps; j++)
            seen[g->nodes[i]->deps[j]] = 1;
    for (uint32_t i = 0; i < s->n_deps; i++)
        if (!seen[s->deps[i]])
            return 0;
    return 1;
}

/* The streams leave the capture, whatever became of it. */
static int finish(emb_be_graph *g, emb_device_error *err) {
    emb_be_device *d = g->device;
    unsigned char *seen;
    int joined = 1;
    const int memory = emb_alloc(&d->env, g->n, (void **)&seen) == EMBED_OK;
    for (emb_be_stream *s = g->fake->streams; s != NULL; s = s->next) {
        if (s->capture != g)
            continue;
        if (memory && s != g->origin)
            joined = joined && rejoined(g, s, seen);
        s->capture = NULL;
        if (s != g->origin)
            s->n_deps = 0;
    }
    g->origin->n_deps = 0;
    d->capture = NULL;
    if (!memory)
        return emb_fake_error(err, EMB_DEVICE_NO_HOST, "no host memory to check a graph");
    emb_free(&d->env, seen);
    if (g->broken[0] != '\0')
        return emb_fake_error(err, EMB_DEVICE_FAILED, "the capture was broken: %s", g->broken);
    if (!joined)
        return emb_fake_error(err, EMB_DEVICE_FAILED,
                              "a branch of the capture was not joined again");
    return EMB_DEVICE_OK;
}

void emb_fake_capture_abandon(emb_be_stream *s) {
    emb_device_error ignored;
    emb_be_graph *g = s->capture;
    emb_fake_capture_break(s->device, "a stream was freed during the capture");
    if (g->origin == s) {
        (void)finish(g, &ignored);
        emb_fake_graph_unref(g);
    }
}

static int capture_end(emb_be_stream *s, emb_be_graph **out, emb_graph_info *info,
                       emb_device_error *err) {
    *out = NULL;
    int code = emb_fake_enter(s->fake, s->device, EMB_FAKE_CAPTURE, err);
    emb_be_graph *g = s->capture;
    if (g == NULL || g->origin != s) {
        if (code == 0)
            code = emb_fake_error(err, EMB_DEVICE_FAILED, "no capture was begun on this stream");
        return emb_fake_leave(s->fake, code);
    }
    emb_device_error first = *err;
    const int finished = finish(g, err);
    if (code != 0)
        *err = first;
    else
        code = finished;
    if (code == 0) {
        *out = g;
        *info = g->info;
    } else {
        emb_fake_graph_unref(g);
    }
    return emb_fake_leave(s->fake, code);
}

static int graph_launch(emb_be_graph *g, emb_be_stream *s, emb_device_error *err) {
    int code = emb_fake_enter(s->fake, s->device, EMB_FAKE_LAUNCH, err);
    if (code == 0 && s->capture != NULL)
        code = emb_fake_error(err, EMB_DEVICE_FAILED, "a graph was launched during a capture");
    if (code == 0) {
        fake_op *op = emb_fake_op_new(s->device, FAKE_GRAPH, g->n, err);
        if (op != NULL) {
            op->graph = g;
            g->refs++;
        }
        code = emb_fake_enqueue(s, op, err);
    }
    return emb_fake_leave(s->fake, code);
}

static int node_ready(const emb_be_graph *g, const unsigned char *done, size_t i) {
    if (done[i])
        return 0;
    for (uint32_t j = 0; j < g->nodes[i]->n_deps; j++)
        if (!done[g->nodes[i]->deps[j]])
            return 0;
    return 1;
}

int emb_fake_graph_step(emb_be_device *d, fake_op *op) {
    emb_be_graph *g = op->graph;
    size_t chosen = g->n, left = 0;
    uint32_t candidates = 0;
    for (size_t i = 0; i < g->n; i++) {
        left += !op->extra[i];
        if (node_ready(g, op->extra, i) && emb_fake_random(d->fake, ++candidates) == 0)
            chosen = i;
    }
    if (left == 0)
        return 1;
    op->extra[chosen] = 1; /* nodes follow earlier ones only, so one is always ready */
    emb_fake_execute(d, g->nodes[chosen]);
    return left == 1;
}

static void graph_free(emb_be_graph *g) {
    if (g == NULL)
        return;
    emb_fake *f = g->fake;
    (void)pthread_mutex_lock(&f->lock);
    emb_fake_graph_unref(g);
    (void)emb_fake_leave(f, 0);
}

void emb_fake_fill_graph(emb_backend *t) {
    t->capture_begin = capture_begin;
    t->capture_end = capture_end;
    t->graph_launch = graph_launch;
    t->graph_free = graph_free;
}
