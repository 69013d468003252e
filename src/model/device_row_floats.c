#include "model/device_row_floats.h"

#include <string.h>

void emb_device_row_floats_clear(emb_device_row_floats *r, emb_device *device) {
    emb_device_host_free(device, r->host);
    emb_device_free(device, r->at);
    *r = (emb_device_row_floats){.host = NULL};
}

uint64_t emb_device_row_floats_bytes(const emb_device_row_floats *r) {
    return r->host != NULL ? 2 * (uint64_t)r->bytes : 0;
}

uint64_t emb_device_row_floats_plan_bytes(int64_t hidden, int64_t tokens) {
    return 2 * (uint64_t)hidden * (uint64_t)tokens * sizeof(float);
}

static embed_status reserve(emb_device_row_floats *r, emb_device *device, size_t bytes) {
    embed_status st = EMBED_OK;
    if (r->host == NULL)
        EMB_TRY(emb_device_host_alloc(device, bytes, (void **)&r->host));
    if (r->at.at == 0)
        EMB_TRY(emb_device_alloc(device, bytes, &r->at));
    r->bytes = bytes;
fail:
    return st;
}

embed_status emb_device_row_floats_pack(emb_device_row_floats *r, emb_device *device,
                                        const emb_slot *slot, int64_t hidden, int64_t tokens,
                                        const emb_device_row_places *places) {
    embed_status st = EMBED_OK;
    const emb_batch *b = &slot->batch;
    const size_t row = (size_t)hidden * sizeof(float);
    size_t bytes;
    r->on = b->rows != NULL;
    r->add = b->add_rows;
    r->used = 0;
    if (!r->on)
        return EMBED_OK;
    EMB_TRY(emb_mul((size_t)tokens, row, "rows of a batch", &bytes));
    EMB_TRY(reserve(r, device, bytes));
    for (int64_t t = 0; t < b->tokens; t++) {
        places->at[t] = 0;
        if (b->rows[t] == NULL)
            continue;
        memcpy(r->host + r->used, b->rows[t], row);
        places->at[t] = r->at.at + r->used;
        r->used += row;
    }
fail:
    return st;
}

embed_status emb_device_row_floats_send(emb_device_row_floats *r, const emb_device_row_events *e,
                                        emb_stream *copy, emb_stream *main) {
    embed_status st = EMBED_OK;
    r->timed = 0;
    if (r->used == 0)
        return EMBED_OK;
    EMB_TRY(emb_copy_in(copy, r->at, r->host, r->used));
    EMB_TRY(emb_event_record(e->arrived, copy));
    EMB_TRY(emb_event_record(e->before, main));
    EMB_TRY(emb_stream_wait(main, e->arrived));
    EMB_TRY(emb_event_record(e->after, main));
    r->timed = 1;
fail:
    return st;
}

embed_status emb_device_row_floats_done(const emb_device_row_floats *r,
                                        const emb_device_row_events *e, uint64_t *waited_ns) {
    float ms = 0;
    *waited_ns = 0;
    if (!r->timed)
        return EMBED_OK;
    const embed_status st = emb_event_elapsed(e->before, e->after, &ms);
    *waited_ns = ms > 0 ? (uint64_t)((double)ms * 1e6) : 0;
    return st;
}
