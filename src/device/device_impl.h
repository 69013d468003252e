/* device_impl: what the files of this room share about a device. */
#ifndef EMB_DEVICE_DEVICE_IMPL_H
#define EMB_DEVICE_DEVICE_IMPL_H

#include "device/device.h"

/* 0 in a child process, where nothing of the driver may be touched. */
int emb_device_is_ours(const emb_device *d);

const emb_backend *emb_device_backend(const emb_device *d);
emb_be_device *emb_device_inner(const emb_device *d);
emb_be_stream *emb_stream_inner(const emb_stream *s);

/* The status of `code`, with the device's name and `what` was done in front of the text; marks the
 * device dead if it is lost. */
embed_status emb_device_outcome(emb_device *d, int code, const emb_device_error *err,
                                const char *what);

#endif
