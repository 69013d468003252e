#define _GNU_SOURCE
#include "ngram/ngram_read.h"

#include <errno.h>
#include <string.h>

#if defined(EMB_HAVE_URING)

#include <liburing.h>

#define DEPTH 128 /* a little above 64 on the disks measured, and no drop between batches */
#define BATCH 8   /* requests that are handed to the kernel together */

typedef struct uring_queue {
    emb_ngram_queue queue;
    emb_env env;
    struct io_uring ring;
    uint32_t pending; /* prepared, not handed over yet */
} uring_queue;

static void uring_submit(emb_ngram_queue *queue, uint32_t slot, const emb_ngram_request *q) {
    uring_queue *u = (uring_queue *)(void *)queue;
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring); /* the ring has a place for each slot */
    io_uring_prep_read(sqe, q->fd, q->into, q->bytes, q->offset);
    sqe->user_data = slot;
    if (++u->pending >= BATCH && io_uring_submit(&u->ring) > 0)
        u->pending = 0;
}

static embed_status uring_wait(emb_ngram_queue *queue, uint32_t *slot, int32_t *result) {
    uring_queue *u = (uring_queue *)(void *)queue;
    struct io_uring_cqe *cqe = NULL;
    while (io_uring_peek_cqe(&u->ring, &cqe) != 0 || cqe == NULL) {
        const int error = io_uring_submit_and_wait(&u->ring, 1);
        if (error >= 0)
            u->pending = 0;
        else if (error != -EINTR && error != -EAGAIN && error != -EBUSY)
            return emb_fail(EMBED_ERR_IO, "io_uring: cannot wait (error %d)", -error);
    }
    *slot = (uint32_t)cqe->user_data;
    *result = cqe->res;
    io_uring_cqe_seen(&u->ring, cqe);
    return EMBED_OK;
}

static void uring_free(emb_ngram_queue *queue) {
    uring_queue *u = (uring_queue *)(void *)queue;
    const emb_env env = u->env;
    io_uring_queue_exit(&u->ring);
    emb_free(&env, u);
}

embed_status emb_ngram_queue_uring(emb_ngram_queue **out, const emb_env *env) {
    uring_queue *u;
    *out = NULL;
    const embed_status st = emb_new(env, sizeof *u, (void **)&u);
    if (st != EMBED_OK)
        return st;
    u->env = *env;
    u->queue = (emb_ngram_queue){DEPTH, uring_submit, uring_wait, uring_free};
    const int error = io_uring_queue_init(DEPTH, &u->ring, 0);
    if (error != 0) {
        emb_free(env, u);
        return emb_fail(EMBED_ERR_UNSUPPORTED,
                        "io_uring: the kernel or container refuses it (error %d); expected "
                        "EMBED_TABLE_IO_AUTO, _WILLNEED or _PREAD here",
                        -error);
    }
    *out = &u->queue;
    return EMBED_OK;
}

#else

embed_status emb_ngram_queue_uring(emb_ngram_queue **out, const emb_env *env) {
    (void)env;
    *out = NULL;
    return emb_fail(EMBED_ERR_UNSUPPORTED, "this build of embed has no liburing: expected "
                                           "EMBED_TABLE_IO_AUTO, _WILLNEED or _PREAD");
}

#endif
