#include "ngram/ngram_read.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "io/file.h"
#include "ngram/ngram_parts.h"

#define DIRECT_ALIGN 4096 /* what O_DIRECT wants of offsets, lengths and buffers everywhere */

typedef struct slot {
    size_t span;
    emb_ngram_request request; /* what is still to be read */
} slot;

struct emb_ngram_reader {
    emb_env env;
    const embed_table *table;
    emb_ngram_queue *queue;
    void *memory;
    unsigned char *buffers; /* [depth, block_bytes] */
    slot *slots;
    uint32_t *free_slots;
    uint32_t n_free;
};

embed_status emb_ngram_reader_create(emb_ngram_reader **out, const emb_env *env,
                                     const embed_table *t) {
    embed_status st = EMBED_OK;
    emb_ngram_reader *r = NULL;
    *out = NULL;
    EMB_TRY(emb_new(env, sizeof *r, (void **)&r));
    r->env = *env;
    r->table = t;
    st = t->io == EMBED_TABLE_IO_URING ? emb_ngram_queue_uring(&r->queue, env)
                                       : emb_ngram_queue_pool(&r->queue, env);
    if (st == EMBED_ERR_UNSUPPORTED && t->io_asked == EMBED_TABLE_IO_AUTO)
        st = emb_ngram_queue_pool(&r->queue, env);
    EMB_TRY(st);
    const size_t depth = r->queue->depth;
    size_t bytes;
    EMB_TRY(emb_mul(depth, t->manifest.layout.block_bytes, "read buffers", &bytes));
    EMB_TRY(emb_add(bytes, DIRECT_ALIGN, "read buffers", &bytes));
    EMB_TRY(emb_alloc(env, bytes, &r->memory));
    r->buffers = (unsigned char *)emb_round_up((uintptr_t)r->memory, DIRECT_ALIGN);
    EMB_TRY(emb_new_array(env, depth, sizeof *r->slots, (void **)&r->slots));
    EMB_TRY(emb_new_array(env, depth, sizeof *r->free_slots, (void **)&r->free_slots));
    for (; r->n_free < depth; r->n_free++)
        r->free_slots[r->n_free] = r->n_free;
    *out = r;
    return EMBED_OK;
fail:
    emb_ngram_reader_free(r);
    return st;
}

void emb_ngram_reader_free(emb_ngram_reader *r) {
    if (r == NULL)
        return;
    const emb_env env = r->env;
    if (r->queue != NULL)
        r->queue->free(r->queue);
    emb_free(&env, r->memory);
    emb_free(&env, r->slots);
    emb_free(&env, r->free_slots);
    emb_free(&env, r);
}

static unsigned char *buffer_of(const emb_ngram_reader *r, uint32_t s) {
    return r->buffers + (size_t)s * r->table->manifest.layout.block_bytes;
}

static void start(emb_ngram_reader *r, const emb_ngram_span *spans, size_t i) {
    const emb_ngram_span *span = &spans[i];
    const emb_ngram_part *part = &r->table->parts[span->part];
    const int direct = r->table->io == EMBED_TABLE_IO_URING && part->direct >= 0;
    const uint32_t s = r->free_slots[--r->n_free];
    r->slots[s] = (slot){i,
                         {direct ? part->direct : part->fd, span->bytes,
                          EMB_NGRAM_FILE_HEADER_BYTES +
                              span->block * r->table->manifest.layout.block_bytes + span->skip,
                          buffer_of(r, s)}};
    r->queue->submit(r->queue, s, &r->slots[s].request);
}

static embed_status fail_read(const emb_ngram_reader *r, int32_t part, int32_t result,
                              uint64_t offset) {
    char name[32];
    emb_ngram_part_name((uint32_t)part, name);
    if (result == 0)
        return emb_fail(EMBED_ERR_TRUNCATED, "%s/%s: the file ends before byte %" PRIu64,
                        r->table->path, name, offset);
    errno = -result;
    (void)emb_file_fail(name, "cannot read");
    emb_fail_prefix("%s", r->table->path);
    return EMBED_ERR_IO;
}

/* A request has ended. *again: it was put back into the queue, for the rest or once more. */
static embed_status settle(emb_ngram_reader *r, const emb_ngram_span *spans, uint32_t s,
                           int32_t result, int *again) {
    emb_ngram_request *q = &r->slots[s].request;
    const int32_t number = spans[r->slots[s].span].part;
    const emb_ngram_part *part = &r->table->parts[number];
    if (r->table->fault != NULL)
        result = r->table->fault(r->table->fault_arg, result);
    *again = 0;
    if (result == (int32_t)q->bytes)
        return EMBED_OK;
    if (result > 0) /* the rest need not be aligned: through the page cache */
        *q = (emb_ngram_request){part->fd, q->bytes - (uint32_t)result,
                                 q->offset + (uint32_t)result, (char *)q->into + result};
    else if (result == -EINVAL && q->fd != part->fd) /* opened with O_DIRECT, but will not read */
        q->fd = part->fd;
    else if (result != -EINTR && result != -EAGAIN)
        return fail_read(r, number, result, q->offset + q->bytes);
    *again = 1;
    r->queue->submit(r->queue, s, q);
    return EMBED_OK;
}

embed_status emb_ngram_reader_run(emb_ngram_reader *r, const emb_ngram_span *spans, size_t n,
                                  emb_ngram_span_fn fn, void *arg) {
    embed_status st = EMBED_OK;
    const uint32_t depth = r->queue->depth;
    size_t next = 0;
    if (r->n_free < depth) /* the queue failed: what comes out of it would be taken for these */
        return emb_fail(EMBED_ERR_IO, "%s: reads of an earlier batch have not ended",
                        r->table->path);
    /* After a failure what is in flight still has to land: the buffers are its target. */
    while ((st == EMBED_OK && next < n) || r->n_free < depth) {
        while (st == EMBED_OK && next < n && r->n_free > 0)
            start(r, spans, next++);
        uint32_t s = 0;
        int32_t result = 0;
        int again = 0;
        const embed_status waited = r->queue->wait(r->queue, &s, &result);
        if (waited != EMBED_OK)
            return waited;
        if (st == EMBED_OK)
            st = settle(r, spans, s, result, &again);
        if (again)
            continue;
        if (st == EMBED_OK)
            st = fn(arg, r->slots[s].span, buffer_of(r, s));
        r->free_slots[r->n_free++] = s;
    }
    return st;
}
