#define _GNU_SOURCE /* what liburing.h takes for granted */
#include "raw_uring.h"

#if defined(EMBED_HAVE_URING)
#include <liburing.h>
#include <stdlib.h>
#include <string.h>

static uint64_t sum_of(const unsigned char *p, size_t bytes) {
    uint64_t sum = 0;
    for (size_t i = 0; i + 8 <= bytes; i += 64) {
        uint64_t v;
        memcpy(&v, p + i, sizeof v);
        sum += v;
    }
    return sum;
}

struct flight {
    struct io_uring *ring;
    const raw_read *reads;
    size_t n, next;
    unsigned char *buffers; /* [depth, room] */
    size_t room;
    size_t *at; /* [depth] the read in each buffer */
};

/* The next read into buffer b. */
static void submit(struct flight *f, size_t b) {
    const raw_read *r = &f->reads[f->next];
    struct io_uring_sqe *sqe = io_uring_get_sqe(f->ring);
    io_uring_prep_read(sqe, r->fd, f->buffers + b * f->room, r->bytes, r->offset);
    io_uring_sqe_set_data(sqe, &f->at[b]);
    f->at[b] = f->next++;
}

/* The end of a file may cut a read behind what is wanted. */
static int finish(struct flight *f, struct io_uring_cqe *cqe, size_t *buffer, uint64_t *sum) {
    const size_t b = (size_t)((size_t *)io_uring_cqe_get_data(cqe) - f->at);
    const raw_read *r = &f->reads[f->at[b]];
    const int good = cqe->res >= 0 && (uint32_t)cqe->res >= r->skip + r->wanted;
    if (good)
        *sum += sum_of(f->buffers + b * f->room + r->skip, r->wanted);
    *buffer = b;
    io_uring_cqe_seen(f->ring, cqe);
    return good;
}

static int fly(struct flight *f, unsigned depth, uint64_t *sum) {
    size_t in_flight = 0;
    int good = 1;
    for (; in_flight < depth && f->next < f->n; in_flight++)
        submit(f, in_flight);
    while (in_flight) {
        struct io_uring_cqe *cqe;
        if (io_uring_submit_and_wait(f->ring, 1) < 0)
            return -1;
        while (io_uring_peek_cqe(f->ring, &cqe) == 0) {
            size_t b;
            good &= finish(f, cqe, &b, sum);
            in_flight--;
            if (f->next < f->n && good) {
                submit(f, b);
                in_flight++;
            }
        }
    }
    return good ? 1 : -1;
}

int raw_uring_run(const raw_read *reads, size_t n, unsigned depth, uint64_t *sum) {
    struct io_uring ring;
    struct flight f = {.ring = &ring, .reads = reads, .n = n};
    int result = -1;
    for (size_t i = 0; i < n; i++)
        if (reads[i].bytes > f.room)
            f.room = reads[i].bytes;
    if (n == 0)
        return 1;
    if (io_uring_queue_init(depth, &ring, 0) != 0)
        return 0;
    f.buffers = aligned_alloc(RAW_ALIGN, f.room * depth);
    f.at = malloc(depth * sizeof *f.at);
    if (f.buffers && f.at)
        result = fly(&f, depth, sum);
    io_uring_queue_exit(&ring);
    free(f.buffers);
    free(f.at);
    return result;
}

#else
int raw_uring_run(const raw_read *reads, size_t n, unsigned depth, uint64_t *sum) {
    (void)reads;
    (void)n;
    (void)depth;
    (void)sum;
    return 0;
}
#endif
