#include "device/transport.h"

#include "device/device_impl.h"

struct emb_transport {
    emb_env env;
    const emb_backend *backend;
    int32_t ranks;
    emb_be_comm *comm; /* NULL with one rank */
    emb_device *devices[EMB_MAX_RANKS];
    emb_event *reached[EMB_MAX_RANKS];
    emb_be_stream *streams[EMB_MAX_RANKS];
    size_t *sizes; /* [3, ranks, ranks] bytes, offsets to send from, offsets to receive at */
};

int32_t emb_transport_ranks(const emb_transport *t) {
    return t->ranks;
}

embed_status emb_transport_create(emb_transport **out, const emb_env *env,
                                  emb_device *const *devices, int32_t ranks) {
    embed_status st;
    emb_transport *t = NULL;
    emb_be_device *inner[EMB_MAX_RANKS];
    emb_device_error err = {""};
    *out = NULL;
    if (ranks < 1 || ranks > EMB_MAX_RANKS)
        return emb_fail(EMBED_ERR_ARG, "devices: expected 1 to %d, found %d", EMB_MAX_RANKS, ranks);
    for (int32_t r = 0; r < ranks; r++) {
        EMB_TRY(emb_device_check(devices[r]));
        inner[r] = emb_device_inner(devices[r]);
        if (emb_device_backend(devices[r]) != emb_device_backend(devices[0]))
            return emb_fail(EMBED_ERR_ARG, "devices: %s and %s are of different kinds",
                            emb_device_name(devices[0]), emb_device_name(devices[r]));
    }
    EMB_TRY(emb_new(env, sizeof *t, (void **)&t));
    t->env = *env;
    t->backend = emb_device_backend(devices[0]);
    t->ranks = ranks;
    EMB_TRY(emb_new_array(env, 3 * (size_t)ranks * (size_t)ranks, sizeof *t->sizes,
                          (void **)&t->sizes));
    for (int32_t r = 0; r < ranks; r++) {
        t->devices[r] = devices[r];
        EMB_TRY(emb_event_create(&t->reached[r], devices[r], 0));
    }
    if (ranks > 1)
        EMB_TRY(emb_device_outcome(devices[0],
                                   t->backend->comm_create(inner, ranks, &t->comm, &err), &err,
                                   "connecting devices"));
    *out = t;
    return EMBED_OK;
fail:
    emb_transport_free(t);
    return st;
}

void emb_transport_free(emb_transport *t) {
    if (t == NULL)
        return;
    if (t->comm != NULL && emb_device_is_ours(t->devices[0]))
        t->backend->comm_free(t->comm);
    for (int32_t r = 0; r < t->ranks; r++)
        emb_event_free(t->reached[r]);
    const emb_env env = t->env;
    emb_free(&env, t->sizes);
    emb_free(&env, t);
}

/* Before any rank enqueues: a collective that some ranks enter and others do not would hang. */
static embed_status take_streams(emb_transport *t, emb_stream *const *streams) {
    for (int32_t r = 0; r < t->ranks; r++) {
        const embed_status st = emb_device_check(t->devices[r]);
        if (st != EMBED_OK)
            return st;
        if (emb_stream_device(streams[r]) != t->devices[r])
            return emb_fail(EMBED_ERR_INTERNAL, "transport: stream %d is one of %s", r,
                            emb_device_name(emb_stream_device(streams[r])));
        t->streams[r] = emb_stream_inner(streams[r]);
    }
    return EMBED_OK;
}

/* A collective that failed has left its ranks at different places: all of them are out of use. */
static embed_status outcome(emb_transport *t, int code, const emb_device_error *err,
                            const char *what) {
    for (int32_t r = 1; r < t->ranks && code == EMB_DEVICE_LOST; r++)
        (void)emb_device_outcome(t->devices[r], code, err, what);
    return emb_device_outcome(t->devices[0], code, err, what);
}

embed_status emb_transport_broadcast(emb_transport *t, emb_stream *const *streams,
                                     const emb_dptr *buffers, size_t bytes, int32_t root) {
    embed_status st;
    emb_device_error err = {""};
    EMB_TRY(take_streams(t, streams));
    if (root < 0 || root >= t->ranks)
        return emb_fail(EMBED_ERR_INTERNAL, "broadcast: expected a rank below %d, found %d",
                        t->ranks, root);
    if (bytes > 0 && t->ranks > 1)
        st = outcome(t, t->backend->broadcast(t->comm, t->streams, buffers, bytes, root, &err),
                     &err, "broadcast");
fail:
    return st;
}

embed_status emb_transport_all_gather(emb_transport *t, emb_stream *const *streams,
                                      const emb_dptr *send, const emb_dptr *recv, size_t bytes) {
    embed_status st;
    emb_device_error err = {""};
    EMB_TRY(take_streams(t, streams));
    if (t->ranks == 1)
        return emb_copy_device(streams[0], recv[0], send[0], bytes);
    if (bytes > 0)
        st = outcome(t, t->backend->all_gather(t->comm, t->streams, send, recv, bytes, &err), &err,
                     "all-gather");
fail:
    return st;
}

/* Sizes and places in bytes from the counts. */
static embed_status lay_out(emb_transport *t, const size_t *counts, size_t elt_bytes) {
    embed_status st = EMBED_OK;
    const size_t n = (size_t)t->ranks;
    size_t *bytes = t->sizes, *from = bytes + n * n, *at = from + n * n;
    for (size_t i = 0; i < n; i++) {
        size_t sent = 0, received = 0;
        for (size_t j = 0; j < n; j++) {
            size_t part;
            EMB_TRY(emb_mul(counts[i * n + j], elt_bytes, "all-to-all", &bytes[i * n + j]));
            from[i * n + j] = sent;
            EMB_TRY(emb_add(sent, bytes[i * n + j], "all-to-all", &sent));
            EMB_TRY(emb_mul(counts[j * n + i], elt_bytes, "all-to-all", &part));
            at[i * n + j] = received;
            EMB_TRY(emb_add(received, part, "all-to-all", &received));
        }
    }
fail:
    return st;
}

embed_status emb_transport_all_to_all(emb_transport *t, emb_stream *const *streams,
                                      const emb_dptr *send, const emb_dptr *recv,
                                      const size_t *counts, size_t elt_bytes) {
    embed_status st;
    emb_device_error err = {""};
    const size_t n = (size_t)t->ranks;
    EMB_TRY(take_streams(t, streams));
    EMB_TRY(lay_out(t, counts, elt_bytes));
    if (t->ranks == 1)
        return emb_copy_device(streams[0], recv[0], send[0], t->sizes[0]);
    const emb_all_to_all args = {send, recv, t->sizes, t->sizes + n * n, t->sizes + 2 * n * n};
    st = outcome(t, t->backend->all_to_all(t->comm, t->streams, &args, &err), &err, "all-to-all");
fail:
    return st;
}

embed_status emb_transport_barrier(emb_transport *t, emb_stream *const *streams) {
    embed_status st;
    EMB_TRY(take_streams(t, streams));
    for (int32_t r = 0; r < t->ranks; r++)
        EMB_TRY(emb_event_record(t->reached[r], streams[r]));
    for (int32_t r = 0; r < t->ranks; r++)
        for (int32_t other = 0; other < t->ranks; other++)
            if (other != r)
                EMB_TRY(emb_stream_wait(streams[r], t->reached[other]));
fail:
    return st;
}
