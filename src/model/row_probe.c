#include "model/row_probe.h"

#include "kernels/row_copy/row_copy_cuda.h"

#define ROWS ((size_t)512)
#define RUNS 2

struct probe {
    emb_device *device;
    emb_stream *stream;
    emb_event *before, *after;
    unsigned char *host; /* pinned: rows, then places */
    emb_dptr to, places;
    const emb_be_op *copy;
    size_t n, stride;
};

static void clear(struct probe *p) {
    if (p->stream != NULL && emb_device_check(p->device) == EMBED_OK)
        (void)emb_stream_sync(p->stream);
    emb_event_free(p->before);
    emb_event_free(p->after);
    emb_stream_free(p->stream);
    emb_device_host_free(p->device, p->host);
    emb_device_free(p->device, p->to);
}

static embed_status prepare(struct probe *p, const emb_device_image *image, const embed_table *t) {
    embed_status st = EMBED_OK;
    const size_t bytes = p->n * (p->stride + 2 * sizeof(uint64_t));
    emb_ngram_row_header header;
    EMB_TRY(emb_op_find(p->device, "row_copy", &p->copy));
    EMB_TRY(emb_stream_create(&p->stream, p->device));
    EMB_TRY(emb_event_create(&p->before, p->device, 1));
    EMB_TRY(emb_event_create(&p->after, p->device, 1));
    EMB_TRY(emb_device_host_alloc(p->device, bytes, (void **)&p->host));
    EMB_TRY(emb_device_alloc(p->device, bytes, &p->to));
    p->places = emb_dptr_add(p->to, p->n * p->stride);
    uint64_t *places = (void *)(p->host + p->n * p->stride);
    for (size_t i = 0; i < p->n; i++) {
        const uint32_t row = (uint32_t)(t->manifest.rows / p->n * i);
        EMB_TRY(emb_device_image_find(image, row, &places[2 * i], &header));
        places[2 * i + 1] = p->to.at + i * p->stride;
    }
    EMB_TRY(emb_copy_in(p->stream, p->places, places, p->n * 2 * sizeof *places));
fail:
    return st;
}

static embed_status time_one(struct probe *p, int map, size_t row_bytes, double *seconds) {
    embed_status st = EMBED_OK;
    const emb_cuda_row_copy_args args = {
        .places = emb_dptr_raw(p->places), .rows = (int64_t)p->n, .bytes = (int64_t)row_bytes};
    float ms;
    EMB_TRY(emb_event_record(p->before, p->stream));
    if (map)
        EMB_TRY(emb_op_run(p->stream, p->copy, &args, sizeof args));
    else
        EMB_TRY(emb_copy_in(p->stream, p->to, p->host, p->n * p->stride));
    EMB_TRY(emb_event_record(p->after, p->stream));
    EMB_TRY(emb_event_sync(p->after));
    EMB_TRY(emb_event_elapsed(p->before, p->after, &ms));
    *seconds = 1e-3 * (double)ms;
fail:
    return st;
}

embed_status emb_row_probe(emb_device *device, const emb_device_image *image, const embed_table *t,
                           double *map_seconds, double *copy_seconds) {
    embed_status st = EMBED_OK;
    struct probe p = {.device = device, .stride = emb_device_image_stride(t)};
    *map_seconds = *copy_seconds = 0;
    p.n = t->manifest.rows < ROWS ? (size_t)t->manifest.rows : ROWS;
    if (p.n == 0)
        return EMBED_OK;
    EMB_TRY(prepare(&p, image, t));
    for (int run = 0; run < RUNS; run++) {
        EMB_TRY(time_one(&p, 1, emb_ngram_carried_bytes(t), map_seconds));
        EMB_TRY(time_one(&p, 0, 0, copy_seconds));
    }
fail:
    clear(&p);
    return st;
}
