/* device_rows: n-gram rows of a batch on their way to the device: gathered into pinned memory, one
 * copy, an event that the lookup waits for. */
#ifndef EMB_MODEL_DEVICE_ROWS_H
#define EMB_MODEL_DEVICE_ROWS_H

#include "device/device.h"
#include "model/batch_slot.h"

/* Where the lookup finds a token's row: in the pinned block that is copied in with the ids. */
typedef struct emb_device_row_places {
    uint64_t *at; /* [tokens] address on the device, 0: none */
    float *scale; /* [tokens] of int8 rows */
} emb_device_row_places;

/* Those of one batch under way. Zeroed: none yet. */
typedef struct emb_device_rows {
    unsigned char *host; /* pinned */
    emb_dptr at;
    size_t bytes, used;
    emb_event *arrived;
    int32_t on, add, dtype; /* of the batch packed last; on 0: it has no table */
} emb_device_rows;

void emb_device_rows_clear(emb_device_rows *rows, emb_device *device);
uint64_t emb_device_rows_bytes(const emb_device_rows *rows); /* on the device and pinned */
/* Rows of the slot's batch into pinned memory, made when the first one comes, and *places filled.
 * Nothing of this set is under way. hidden: floats of a row; tokens: of the largest batch.
 * Errors  _NOMEM, _DEVICE */
embed_status emb_device_rows_pack(emb_device_rows *rows, emb_device *device, const emb_slot *slot,
                                  int64_t hidden, int64_t tokens,
                                  const emb_device_row_places *places);
/* Enqueue the copy; what is enqueued on `main` from now on finds the rows. */
embed_status emb_device_rows_send(emb_device_rows *rows, emb_stream *copy, emb_stream *main);

#endif
