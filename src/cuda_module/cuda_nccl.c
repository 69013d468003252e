/* Collectives through NCCL: one communicator per device, all driven by the calling thread, one
 * group of calls per collective so that no rank waits for another on the host. */
#ifdef EMB_HAVE_NCCL
#include <nccl.h>
#endif

#include "cuda_module/cuda_libraries.h"

#include <string.h>

#ifdef EMB_HAVE_NCCL

struct emb_be_comm {
    embed_allocator allocator;
    const struct emb_cuda_nccl *nccl;
    int32_t ranks;
    emb_be_device *devices[EMB_MAX_RANKS];
    ncclComm_t comms[EMB_MAX_RANKS];
};

static int nccl_code(const struct emb_cuda_nccl *nccl, ncclResult_t result, const char *what,
                     emb_device_error *err) {
    if (result == ncclSuccess || result == ncclInProgress)
        return EMB_DEVICE_OK;
    /* An argument that is refused leaves the communicator as it was; all else does not. */
    const int code = result == ncclInvalidArgument || result == ncclInvalidUsage ? EMB_DEVICE_FAILED
                                                                                 : EMB_DEVICE_LOST;
    return emb_cuda_error(err, code, "%s: %s", what, nccl->ncclGetErrorString(result));
}

static int comm_create(emb_be_device *const *devices, int32_t n, emb_be_comm **out,
                       emb_device_error *err) {
    emb_feature feature;
    emb_cuda_scope scope;
    int indices[EMB_MAX_RANKS];
    *out = NULL;
    memset(&feature, 0, sizeof feature);
    const struct emb_cuda_nccl *nccl = emb_cuda_nccl(&feature);
    if (nccl == NULL)
        return emb_cuda_error(err, EMB_DEVICE_UNAVAILABLE, "%s", feature.reason);
    emb_be_comm *c = emb_cuda_new(&devices[0]->allocator, sizeof *c, err);
    if (c == NULL)
        return EMB_DEVICE_NO_HOST;
    c->allocator = devices[0]->allocator;
    c->nccl = nccl;
    c->ranks = n;
    for (int32_t r = 0; r < n; r++) {
        c->devices[r] = devices[r];
        indices[r] = devices[r]->index;
    }
    /* It moves between devices while it starts: inside a scope, so that the caller's stays. */
    int code = emb_cuda_enter(&scope, devices[0], err);
    if (code == EMB_DEVICE_OK) {
        code = nccl_code(nccl, nccl->ncclCommInitAll(c->comms, n, indices), "ncclCommInitAll", err);
        if (code == EMB_DEVICE_LOST) /* nothing was begun yet, so the devices are well */
            code = EMB_DEVICE_FAILED;
    }
    emb_cuda_leave(&scope);
    if (code != EMB_DEVICE_OK)
        emb_cuda_delete(&c->allocator, c, sizeof *c);
    else
        *out = c;
    return code;
}

/* Aborted rather than destroyed, which would wait for what runs: either nothing does, or a device
 * was lost and the others wait for it in a collective that nobody else ends. */
static void comm_free(emb_be_comm *c) {
    emb_device_error ignored;
    for (int32_t r = 0; r < c->ranks; r++) {
        emb_cuda_scope scope;
        if (emb_cuda_enter(&scope, c->devices[r], &ignored) == EMB_DEVICE_OK)
            (void)c->nccl->ncclCommAbort(c->comms[r]);
        emb_cuda_leave(&scope);
    }
    const embed_allocator allocator = c->allocator;
    emb_cuda_delete(&allocator, c, sizeof *c);
}

typedef struct collective {
    enum { BROADCAST, ALL_GATHER, ALL_TO_ALL } kind;
    const emb_dptr *send, *recv;
    size_t bytes;
    int32_t root;
    const emb_all_to_all *exchange;
} collective;

static void *at(emb_dptr p, size_t offset) {
    return (void *)(uintptr_t)(p.at + offset);
}

/* A rank's part of an exchange; what goes to itself goes the same way. */
static ncclResult_t exchange_rank(emb_be_comm *c, const emb_all_to_all *x, int32_t r,
                                  cudaStream_t stream) {
    const size_t n = (size_t)c->ranks;
    ncclResult_t result = ncclSuccess;
    for (size_t other = 0; other < n && result == ncclSuccess; other++) {
        const size_t out = (size_t)r * n + other, in = other * n + (size_t)r;
        if (x->send_bytes[out] > 0)
            result = c->nccl->ncclSend(at(x->send[r], x->send_offset[out]), x->send_bytes[out],
                                       ncclInt8, (int)other, c->comms[r], stream);
        if (result == ncclSuccess && x->send_bytes[in] > 0)
            result = c->nccl->ncclRecv(at(x->recv[r], x->recv_offset[out]), x->send_bytes[in],
                                       ncclInt8, (int)other, c->comms[r], stream);
    }
    return result;
}

static ncclResult_t enqueue_rank(emb_be_comm *c, const collective *what, int32_t r,
                                 cudaStream_t stream) {
    if (what->kind == BROADCAST)
        return c->nccl->ncclBroadcast(at(what->send[r], 0), at(what->send[r], 0), what->bytes,
                                      ncclInt8, what->root, c->comms[r], stream);
    if (what->kind == ALL_GATHER)
        return c->nccl->ncclAllGather(at(what->send[r], 0), at(what->recv[r], 0), what->bytes,
                                      ncclInt8, c->comms[r], stream);
    return exchange_rank(c, what->exchange, r, stream);
}

static int run(emb_be_comm *c, emb_be_stream *const *streams, const collective *what,
               emb_device_error *err) {
    emb_cuda_scope scope;
    ncclResult_t result = ncclSuccess;
    int code = nccl_code(c->nccl, c->nccl->ncclGroupStart(), "ncclGroupStart", err);
    if (code != EMB_DEVICE_OK)
        return code;
    for (int32_t r = 0; r < c->ranks && result == ncclSuccess && code == EMB_DEVICE_OK; r++) {
        code = emb_cuda_enter(&scope, c->devices[r], err);
        if (code == EMB_DEVICE_OK)
            result = enqueue_rank(c, what, r, streams[r]->stream);
        emb_cuda_leave(&scope);
    }
    /* The group is ended in any case; it works on all devices, so inside a scope of the first. */
    emb_device_error late = {""};
    if (emb_cuda_enter(&scope, c->devices[0], &late) == EMB_DEVICE_OK) {
        const ncclResult_t ended = c->nccl->ncclGroupEnd();
        if (result == ncclSuccess)
            result = ended;
    }
    emb_cuda_leave(&scope);
    return code != EMB_DEVICE_OK ? code : nccl_code(c->nccl, result, "NCCL", err);
}

static int broadcast(emb_be_comm *c, emb_be_stream *const *streams, const emb_dptr *buffers,
                     size_t bytes, int32_t root, emb_device_error *err) {
    const collective what = {BROADCAST, buffers, NULL, bytes, root, NULL};
    return run(c, streams, &what, err);
}

static int all_gather(emb_be_comm *c, emb_be_stream *const *streams, const emb_dptr *send,
                      const emb_dptr *recv, size_t bytes, emb_device_error *err) {
    const collective what = {ALL_GATHER, send, recv, bytes, 0, NULL};
    return run(c, streams, &what, err);
}

static int all_to_all(emb_be_comm *c, emb_be_stream *const *streams, const emb_all_to_all *args,
                      emb_device_error *err) {
    const collective what = {ALL_TO_ALL, NULL, NULL, 0, 0, args};
    return run(c, streams, &what, err);
}

#else

static int comm_create(emb_be_device *const *devices, int32_t n, emb_be_comm **out,
                       emb_device_error *err) {
    (void)devices;
    (void)n;
    *out = NULL;
    return emb_cuda_error(err, EMB_DEVICE_UNAVAILABLE, "this module was built without nccl.h");
}

#endif

void emb_cuda_fill_nccl(emb_backend *t) {
    t->comm_create = comm_create;
#ifdef EMB_HAVE_NCCL
    t->comm_free = comm_free;
    t->broadcast = broadcast;
    t->all_gather = all_gather;
    t->all_to_all = all_to_all;
#endif
}
