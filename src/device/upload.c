#include "device/upload.h"

#include <string.h>

embed_status emb_upload_create(emb_upload *u, emb_device *d, size_t slot_bytes) {
    embed_status st;
    *u = (emb_upload){.device = d, .slot_bytes = slot_bytes};
    if (slot_bytes == 0)
        return emb_fail(EMBED_ERR_INTERNAL, "upload: blocks of 0 bytes");
    EMB_TRY(emb_stream_create(&u->stream, d));
    for (int i = 0; i < EMB_UPLOAD_SLOTS; i++) {
        EMB_TRY(emb_device_host_alloc(d, slot_bytes, &u->slot[i]));
        EMB_TRY(emb_event_create(&u->copied[i], d, 0));
    }
    return EMBED_OK;
fail:
    emb_upload_free(u);
    return st;
}

void emb_upload_free(emb_upload *u) {
    /* Pinned blocks may go only once no copy reads them; a dead device reads nothing. */
    if (u->stream != NULL && emb_device_check(u->device) == EMBED_OK)
        (void)emb_stream_sync(u->stream);
    for (int i = 0; i < EMB_UPLOAD_SLOTS; i++) {
        emb_event_free(u->copied[i]);
        if (u->device != NULL)
            emb_device_host_free(u->device, u->slot[i]);
    }
    emb_stream_free(u->stream);
    *u = (emb_upload){0};
}

embed_status emb_upload_put(emb_upload *u, emb_dptr to, const void *from, size_t bytes) {
    embed_status st = EMBED_OK;
    const unsigned char *source = from;
    while (bytes > 0) {
        const size_t part = bytes < u->slot_bytes ? bytes : u->slot_bytes;
        const size_t i = (size_t)(u->pieces % EMB_UPLOAD_SLOTS);
        EMB_TRY(emb_event_sync(u->copied[i])); /* of the piece before the last */
        memcpy(u->slot[i], source, part);
        EMB_TRY(emb_copy_in(u->stream, to, u->slot[i], part));
        EMB_TRY(emb_event_record(u->copied[i], u->stream));
        u->pieces++;
        source += part;
        to = emb_dptr_add(to, part);
        bytes -= part;
    }
fail:
    return st;
}

embed_status emb_upload_finish(emb_upload *u) {
    return emb_stream_sync(u->stream);
}
