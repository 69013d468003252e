/* upload: large host data to the device through two pinned blocks, filling one while the other is
 * copied. For weights: the source may be a mapping of a file. */
#ifndef EMB_DEVICE_UPLOAD_H
#define EMB_DEVICE_UPLOAD_H

#include "device/device.h"

#define EMB_UPLOAD_SLOTS 2

typedef struct emb_upload {
    emb_device *device;
    emb_stream *stream;
    void *slot[EMB_UPLOAD_SLOTS]; /* pinned */
    emb_event *copied[EMB_UPLOAD_SLOTS];
    size_t slot_bytes;
    uint64_t pieces;
} emb_upload;

/* slot_bytes: of each of the two blocks. On failure there is nothing to free. */
embed_status emb_upload_create(emb_upload *u, emb_device *d, size_t slot_bytes);
/* Waits for its copies. Freeing a zeroed one is a no-op. */
void emb_upload_free(emb_upload *u);

/* `from` may be reused on return; the copy itself is complete after emb_upload_finish. */
embed_status emb_upload_put(emb_upload *u, emb_dptr to, const void *from, size_t bytes);
embed_status emb_upload_finish(emb_upload *u);

#endif
