#include "model/device_home.h"

#include <string.h>
#include <unistd.h>

#include "device/transport.h"
#include "model/device_choices.h"

static void home_free(embed_model *m, emb_device_home *home) {
    if (home == NULL)
        return;
    if (home->device != NULL)
        emb_device_weights_free(&home->weights, home->device);
    emb_device_close(home->device);
    emb_free(&m->base, home);
}

/* With memory for the weights, which are not there yet. */
static embed_status home_make(emb_device_home **out, embed_model *m, const emb_backend *backend,
                              int32_t index, int32_t dtype, int32_t rank, int32_t ranks) {
    embed_status st = EMBED_OK;
    emb_device_home *home = NULL;
    EMB_TRY(emb_new(&m->base, sizeof *home, (void **)&home));
    home->backend = backend;
    home->index = index;
    EMB_TRY(emb_device_open(&home->device, &m->base, backend, index));
    EMB_TRY(emb_device_weights_create(&home->weights, home->device, m, dtype, rank, ranks));
    *out = home;
    return EMBED_OK;
fail:
    home_free(m, home);
    return st;
}

static emb_device_home *find(const embed_model *m, const emb_backend *backend, int32_t index,
                             int32_t dtype, int32_t rank, int32_t ranks) {
    emb_device_home *home = m->homes;
    while (home != NULL &&
           (home->backend != backend || home->index != index || home->weights.dtype != dtype ||
            home->weights.rank != rank || home->weights.ranks != ranks))
        home = home->next;
    return home;
}

int emb_device_home_there(const embed_model *m, const emb_backend *backend, int32_t index,
                          int32_t dtype) {
    pthread_mutex_t *mutex = &((embed_model *)(uintptr_t)m)->homes_mutex;
    (void)pthread_mutex_lock(mutex);
    const int there = find(m, backend, index, dtype, 0, 1) != NULL;
    (void)pthread_mutex_unlock(mutex);
    return there;
}

/* homes[0] has everything: the part that it has in common with the others goes to them. */
static embed_status broadcast(const embed_model *m, emb_device_home *const *homes, int32_t n) {
    embed_status st = EMBED_OK;
    emb_transport *transport = NULL;
    emb_device *devices[EMB_MAX_RANKS] = {NULL};
    emb_stream *streams[EMB_MAX_RANKS] = {NULL};
    emb_dptr buffers[EMB_MAX_RANKS] = {{0}};
    const emb_device_weights *w = &homes[0]->weights;
    for (int32_t r = 0; r < n; r++) {
        devices[r] = homes[r]->device;
        buffers[r] = homes[r]->weights.base;
    }
    EMB_TRY(emb_transport_create(&transport, &m->base, devices, n));
    for (int32_t r = 0; r < n; r++)
        EMB_TRY(emb_stream_create(&streams[r], devices[r]));
    EMB_TRY(emb_transport_broadcast(transport, streams, buffers,
                                    w->ranks > 1 ? w->common_bytes : w->bytes, 0));
    for (int32_t r = 0; r < n; r++)
        EMB_TRY(emb_stream_sync(streams[r]));
fail:
    for (int32_t r = 0; r < n; r++)
        emb_stream_free(streams[r]);
    emb_transport_free(transport);
    return st;
}

/* To all but the first, which has everything; from the host if there is no other way. */
static embed_status spread(const embed_model *m, emb_device_home *const *homes, int32_t n) {
    embed_status st = EMBED_OK;
    const int sharded = homes[0]->weights.ranks > 1;
    uint32_t parts = sharded ? EMB_WEIGHTS_EXPERTS : 0;
    if (n < 2)
        return EMBED_OK;
    st = broadcast(m, homes, n);
    if (st == EMBED_ERR_UNSUPPORTED || st == EMBED_ERR_DEVICE) {
        for (int32_t r = 0; r < n; r++)
            if (emb_device_check(homes[r]->device) != EMBED_OK)
                return emb_device_check(homes[r]->device);
        emb_log(&m->base, EMBED_LOG_INFO, "%s; weights are copied to each of %d devices",
                emb_fail_message(), n);
        parts = EMB_WEIGHTS_COMMON | EMB_WEIGHTS_EXPERTS;
        st = EMBED_OK;
    }
    EMB_TRY(st);
    for (int32_t r = 1; r < n && parts != 0; r++)
        EMB_TRY(emb_device_weights_upload(&homes[r]->weights, homes[r]->device, m, parts));
fail:
    return st;
}

/* Fill the new ones among `homes`, from one that was there before if there is one. */
static embed_status fill(const embed_model *m, emb_device_home *const *homes, const int *is_new,
                         int32_t n) {
    embed_status st = EMBED_OK;
    emb_device_home *order[EMB_MAX_RANKS];
    int32_t filled = 0;
    for (int32_t r = 0; r < n && filled == 0; r++)
        if (!is_new[r])
            order[filled++] = homes[r];
    const int32_t from_here = filled;
    for (int32_t r = 0; r < n; r++)
        if (is_new[r])
            order[filled++] = homes[r];
    if (from_here == 0)
        EMB_TRY(emb_device_weights_upload(&order[0]->weights, order[0]->device, m,
                                          EMB_WEIGHTS_COMMON | EMB_WEIGHTS_EXPERTS));
    EMB_TRY(spread(m, order, filled));
fail:
    return st;
}

static embed_status get(emb_device_home **homes, embed_model *m, const emb_backend *backend,
                        const int32_t *indices, int32_t n, int32_t dtype, int sharded) {
    embed_status st = EMBED_OK;
    int is_new[EMB_MAX_RANKS] = {0};
    for (int32_t r = 0; r < n; r++) {
        const int32_t rank = sharded ? r : 0, ranks = sharded ? n : 1;
        homes[r] = find(m, backend, indices[r], dtype, rank, ranks);
        is_new[r] = homes[r] == NULL;
        EMB_TRY(is_new[r] ? home_make(&homes[r], m, backend, indices[r], dtype, rank, ranks)
                          : emb_device_check(homes[r]->device));
    }
    EMB_TRY(fill(m, homes, is_new, n));
    for (int32_t r = n; r-- > 0;)
        if (is_new[r]) {
            homes[r]->next = m->homes;
            m->homes = homes[r];
        }
    return EMBED_OK;
fail:
    for (int32_t r = 0; r < n; r++)
        if (is_new[r])
            home_free(m, homes[r]);
    return st;
}

/* A child of fork() finds devices that are not its own, and perhaps a mutex that nobody will ever
 * unlock. */
static embed_status check_process(embed_model *m) {
    int64_t first = 0;
    const int64_t self = getpid();
    if (atomic_compare_exchange_strong(&m->homes_pid, &first, self) || first == self)
        return EMBED_OK;
    return emb_fail(EMBED_ERR_DEVICE,
                    "%s: brought to a device by process %lld, of which %lld is a child; open "
                    "models and contexts after fork()",
                    m->name, (long long)first, (long long)self);
}

embed_status emb_device_homes_get(const emb_device_home **out, embed_model *m,
                                  const emb_backend *backend, const int32_t *indices, int32_t n,
                                  int32_t dtype, int sharded) {
    embed_status st = EMBED_OK;
    emb_device_home *homes[EMB_MAX_RANKS] = {NULL};
    if (n < 1 || n > EMB_MAX_RANKS)
        return emb_fail(EMBED_ERR_ARG, "devices: expected 1 to %d, found %d", EMB_MAX_RANKS, n);
    EMB_TRY(check_process(m));
    pthread_mutex_lock(&m->homes_mutex);
    st = get(homes, m, backend, indices, n, dtype, sharded);
    pthread_mutex_unlock(&m->homes_mutex);
fail:
    for (int32_t r = 0; r < n; r++)
        out[r] = st == EMBED_OK ? homes[r] : NULL;
    return st;
}

embed_status emb_device_home_get(const emb_device_home **out, embed_model *m,
                                 const emb_backend *backend, int32_t index, int32_t dtype) {
    return emb_device_homes_get(out, m, backend, &index, 1, dtype, 0);
}

void emb_device_homes_free(embed_model *m) {
    emb_device_choices_free(m);
    while (m->homes != NULL) {
        emb_device_home *home = m->homes;
        m->homes = home->next;
        home_free(m, home);
    }
}
