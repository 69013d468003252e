/* device_row_floats: rows that the CPU decoded, on their way to whichever device gets the batch:
 * gathered into pinned memory when it is submitted, one copy, an event that the lookup waits for.
 * For groups of devices, where the stage does not know which one that will be; one device gets its
 * rows by model/device_rows. */
#ifndef EMB_MODEL_DEVICE_ROW_FLOATS_H
#define EMB_MODEL_DEVICE_ROW_FLOATS_H

#include "device/device.h"
#include "model/batch_slot.h"
#include "model/device_rows.h"

/* Those of one batch under way. Zeroed: none yet. */
typedef struct emb_device_row_floats {
    unsigned char *host; /* pinned */
    emb_dptr at;
    size_t bytes, used;
    int32_t on, add; /* of the batch packed last; on 0: it has no table */
    int32_t timed, reserved;
} emb_device_row_floats;

void emb_device_row_floats_clear(emb_device_row_floats *rows, emb_device *device);
uint64_t
emb_device_row_floats_bytes(const emb_device_row_floats *rows); /* on the device and pinned */
/* Rows of the slot's batch into pinned memory, made when the first one comes, and *places filled.
 * Nothing of this set is under way. hidden: floats of a row; tokens: of the largest batch.
 * Errors  _NOMEM, _DEVICE */
embed_status emb_device_row_floats_pack(emb_device_row_floats *rows, emb_device *device,
                                        const emb_slot *slot, int64_t hidden, int64_t tokens,
                                        const emb_device_row_places *places);
/* Device and pinned memory that `tokens` come to need. */
uint64_t emb_device_row_floats_plan_bytes(int64_t hidden, int64_t tokens);
/* Enqueue the copy; what is enqueued on `main` from now on finds the rows. */
embed_status emb_device_row_floats_send(emb_device_row_floats *rows,
                                        const emb_device_row_events *events, emb_stream *copy,
                                        emb_stream *main);
/* The batch sent last has come to its end: *waited_ns, how long the device waited for its rows. */
embed_status emb_device_row_floats_done(const emb_device_row_floats *rows,
                                        const emb_device_row_events *events, uint64_t *waited_ns);

#endif
