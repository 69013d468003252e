/* row_probe: how fast a device reads rows from the mapping of a table, and from pinned memory. */
#ifndef EMB_MODEL_ROW_PROBE_H
#define EMB_MODEL_ROW_PROBE_H

#include "model/device_image.h"

/* Up to 512 rows spread over the table, 2 runs each of which the second is timed: milliseconds at
 * most. image: EMB_IMAGE_NATIVE. Rows are read, not used.
 * Errors  _NOMEM, _DEVICE */
embed_status emb_row_probe(emb_device *device, const emb_device_image *image,
                           const embed_table *table, double *map_seconds, double *copy_seconds);

#endif
