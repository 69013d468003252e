/* Collectives by copying: one operation in a stream of every rank, which runs when all have come.
 */
#include <string.h>

#include "device/fake_impl.h"

enum { BROADCAST, ALL_GATHER, ALL_TO_ALL };

void emb_fake_meeting_unref(fake_meeting *m) {
    if (--m->refs > 0)
        return;
    const emb_env env = m->env;
    emb_free(&env, m->sizes);
    emb_free(&env, m);
}

static int at_head(const emb_be_stream *s, const fake_meeting *m) {
    return s->head != NULL && s->head->kind == FAKE_MEETING && s->head->meeting == m;
}

int emb_fake_meeting_ready(const emb_be_device *d, const fake_meeting *m) {
    (void)d;
    if (m->aborted || m->moved)
        return 1;
    for (int32_t r = 0; r < m->ranks; r++)
        if (!at_head(m->streams[r], m))
            return 0;
    return 1;
}

static void move(fake_meeting *m, int32_t from, size_t from_at, int32_t to, size_t to_at,
                 size_t bytes, const char *what) {
    const emb_dptr *recv = m->kind == BROADCAST ? m->send : m->recv;
    if (bytes == 0)
        return;
    const unsigned char *source =
        emb_fake_memory_range(m->streams[from]->device, m->send[from].at + from_at, bytes, 0, what);
    unsigned char *target =
        emb_fake_memory_range(m->streams[to]->device, recv[to].at + to_at, bytes, 1, what);
    if (source != NULL && target != NULL)
        memmove(target, source, bytes);
}

static void move_all(fake_meeting *m) {
    static const char *const names[] = {"broadcast", "all-gather", "all-to-all"};
    const char *what = names[m->kind];
    const size_t n = (size_t)m->ranks;
    for (int32_t to = 0; to < m->ranks; to++)
        for (int32_t from = 0; from < m->ranks; from++) {
            const size_t there = (size_t)from * n + (size_t)to;
            if (m->kind == BROADCAST && from == m->root && to != from)
                move(m, from, 0, to, 0, m->bytes, what);
            else if (m->kind == ALL_GATHER)
                move(m, from, 0, to, (size_t)from * m->bytes, m->bytes, what);
            else if (m->kind == ALL_TO_ALL)
                move(m, from, m->sizes[n * n + there], to,
                     m->sizes[2 * n * n + (size_t)to * n + (size_t)from], m->sizes[there], what);
        }
    for (int32_t r = 0; r < m->ranks; r++)
        emb_fake_memory_check(m->streams[r]->device, what);
}

/* The first rank to run moves everything: all the others are at this point too. */
void emb_fake_meeting_run(emb_be_device *d, fake_meeting *m) {
    if (m->moved)
        return;
    if (m->aborted) {
        emb_fake_lose(d, EMB_DEVICE_LOST, "another device of a collective was lost");
        return;
    }
    m->moved = 1;
    move_all(m);
}

static int comm_create(emb_be_device *const *devices, int32_t n, emb_be_comm **out,
                       emb_device_error *err) {
    emb_be_comm *c;
    emb_be_device *d = devices[0];
    *out = NULL;
    int code = emb_fake_enter(d->fake, d, EMB_FAKE_COMM, err);
    if (code == 0 && d->fake->params.no_comm != NULL)
        code = emb_fake_error(err, EMB_DEVICE_UNAVAILABLE, "%s", d->fake->params.no_comm);
    for (int32_t r = 0; r < n && code == 0; r++)
        for (int32_t other = 0; other < r && code == 0; other++)
            if (devices[r]->index == devices[other]->index)
                code = emb_fake_error(err, EMB_DEVICE_FAILED, "ranks %d and %d are one device",
                                      other, r);
    if (code == 0 && emb_new(&d->env, sizeof *c, (void **)&c) != EMBED_OK)
        code = emb_fake_error(err, EMB_DEVICE_NO_HOST, "no host memory for a communicator");
    if (code == 0) {
        c->fake = d->fake;
        c->env = d->env;
        c->ranks = n;
        for (int32_t r = 0; r < n; r++)
            c->devices[r] = devices[r];
        d->fake->live++;
        *out = c;
    }
    return emb_fake_leave(d->fake, code);
}

static void comm_free(emb_be_comm *c) {
    emb_fake *f = c->fake;
    const emb_env env = c->env;
    (void)pthread_mutex_lock(&f->lock);
    f->live--;
    emb_free(&env, c);
    (void)emb_fake_leave(f, 0);
}

/* All operations are made before any is enqueued, so that a failure leaves no rank waiting. */
static int enqueue_all(emb_be_comm *c, fake_meeting *m, emb_device_error *err) {
    fake_op *ops[EMB_MAX_RANKS] = {NULL};
    int code = EMB_DEVICE_OK;
    m->refs++; /* ours */
    for (int32_t r = 0; r < c->ranks && code == 0; r++) {
        if (m->streams[r]->capture != NULL)
            code = emb_fake_error(err, EMB_DEVICE_FAILED, "a collective cannot be captured here");
        else if ((ops[r] = emb_fake_op_new(c->devices[r], FAKE_MEETING, 0, err)) == NULL)
            code = EMB_DEVICE_NO_HOST;
        if (code == 0) {
            ops[r]->meeting = m;
            m->refs++;
        }
    }
    for (int32_t r = 0; r < c->ranks; r++) {
        if (code != 0) {
            emb_fake_op_free(c->devices[r], ops[r]);
        } else { /* without running any: the last one would wait for itself */
            *m->streams[r]->tail = ops[r];
            m->streams[r]->tail = &ops[r]->next;
        }
    }
    if (code == 0)
        emb_fake_run_some(c->fake);
    emb_fake_meeting_unref(m);
    return code;
}

static int lost_rank(const emb_be_comm *c, emb_device_error *err) {
    for (int32_t r = 0; r < c->ranks; r++) {
        const int code = emb_fake_lost(c->devices[r], err);
        if (code != 0)
            return code;
    }
    return 0;
}

/* A meeting about send and recv; `sizes` is copied. */
static int meet(emb_be_comm *c, emb_be_stream *const *streams, const fake_meeting *as,
                const emb_dptr *send, const emb_dptr *recv, const size_t *const sizes[3],
                emb_device_error *err) {
    fake_meeting *m = NULL;
    const emb_env *env = &c->env;
    const size_t n = (size_t)c->ranks, table = n * n * sizeof(size_t);
    int code = emb_fake_enter(c->fake, c->devices[0], EMB_FAKE_COMM, err);
    if (code == 0)
        code = lost_rank(c, err);
    if (code == 0 &&
        (emb_new(env, sizeof *m, (void **)&m) != EMBED_OK ||
         (sizes != NULL && emb_alloc(env, 3 * table, (void **)&m->sizes) != EMBED_OK))) {
        emb_free(env, m);
        code = emb_fake_error(err, EMB_DEVICE_NO_HOST, "no host memory for a collective");
    }
    if (code != 0)
        return emb_fake_leave(c->fake, code);
    m->env = *env;
    m->ranks = c->ranks;
    m->kind = as->kind;
    m->root = as->root;
    m->bytes = as->bytes;
    for (size_t i = 0; sizes != NULL && i < 3; i++)
        memcpy(m->sizes + i * n * n, sizes[i], table);
    memcpy(m->send, send, n * sizeof *send);
    memcpy(m->recv, recv, n * sizeof *recv);
    memcpy(m->streams, streams, n * sizeof(emb_be_stream *));
    code = enqueue_all(c, m, err);
    return emb_fake_leave(c->fake, code);
}

static int broadcast(emb_be_comm *c, emb_be_stream *const *streams, const emb_dptr *buffers,
                     size_t bytes, int32_t root, emb_device_error *err) {
    const fake_meeting as = {.kind = BROADCAST, .bytes = bytes, .root = root};
    return meet(c, streams, &as, buffers, buffers, NULL, err);
}

static int all_gather(emb_be_comm *c, emb_be_stream *const *streams, const emb_dptr *send,
                      const emb_dptr *recv, size_t bytes, emb_device_error *err) {
    const fake_meeting as = {.kind = ALL_GATHER, .bytes = bytes};
    return meet(c, streams, &as, send, recv, NULL, err);
}

static int all_to_all(emb_be_comm *c, emb_be_stream *const *streams, const emb_all_to_all *args,
                      emb_device_error *err) {
    const fake_meeting as = {.kind = ALL_TO_ALL};
    const size_t *const sizes[3] = {args->send_bytes, args->send_offset, args->recv_offset};
    return meet(c, streams, &as, args->send, args->recv, sizes, err);
}

void emb_fake_fill_collective(emb_backend *t) {
    t->comm_create = comm_create;
    t->comm_free = comm_free;
    t->broadcast = broadcast;
    t->all_gather = all_gather;
    t->all_to_all = all_to_all;
}
