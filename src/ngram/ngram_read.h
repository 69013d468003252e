/* ngram_read: many scattered reads at once. A queue keeps up to `depth` of them in flight, by
 * io_uring or by a pool of threads that call pread; the reader above it does the rest for both:
 * retries, short reads, buffers, messages. */
#ifndef EMB_NGRAM_NGRAM_READ_H
#define EMB_NGRAM_NGRAM_READ_H

#include "ngram/ngram_table.h"

/* ------------------------------------------------------------------------------------- queues */

typedef struct emb_ngram_request {
    int fd;
    uint32_t bytes;
    uint64_t offset;
    void *into;
} emb_ngram_request;

typedef struct emb_ngram_queue emb_ngram_queue;
struct emb_ngram_queue {
    uint32_t depth; /* slots 0 .. depth - 1, each with at most one request */
    /* *request is copied; it may wait for the next call of `wait` before it starts. */
    void (*submit)(emb_ngram_queue *queue, uint32_t slot, const emb_ngram_request *request);
    /* Block until a request has ended: bytes read (0: end of file) or a negative errno. */
    embed_status (*wait)(emb_ngram_queue *queue, uint32_t *slot, int32_t *result);
    void (*free)(emb_ngram_queue *queue); /* nothing may be in flight */
};

/* Errors: _UNSUPPORTED where the build, the kernel or the container has no io_uring; _NOMEM. */
embed_status emb_ngram_queue_uring(emb_ngram_queue **out, const emb_env *env);
/* Errors: _THREAD, _NOMEM. */
embed_status emb_ngram_queue_pool(emb_ngram_queue **out, const emb_env *env);

/* ------------------------------------------------------------------------------------- reader */

/* A piece of a row file that lies inside one block. */
typedef struct emb_ngram_span {
    uint64_t block; /* of the part */
    int32_t part;
    uint32_t skip, bytes; /* multiples of 4096 */
} emb_ngram_span;

/* Called for each span in whatever order they come in; bytes may be changed, and are gone after. */
typedef embed_status (*emb_ngram_span_fn)(void *arg, size_t span, unsigned char *bytes);

/* One thread's: queue and buffers. */
typedef struct emb_ngram_reader emb_ngram_reader;
/* By the table's io: EMBED_TABLE_IO_URING (where the caller left the choice to us, the pool if the
 * ring is refused after all) or EMBED_TABLE_IO_PREAD. */
embed_status emb_ngram_reader_create(emb_ngram_reader **out, const emb_env *env,
                                     const embed_table *table);
void emb_ngram_reader_free(emb_ngram_reader *reader); /* NULL is a no-op */
/* Errors: _TRUNCATED and _IO naming the file, and what fn returns; the first ends the call. */
embed_status emb_ngram_reader_run(emb_ngram_reader *reader, const emb_ngram_span *spans, size_t n,
                                  emb_ngram_span_fn fn, void *arg);

#endif
