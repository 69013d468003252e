/* device_image: all rows of a table where a device's kernels can read them: copied into its memory
 * once, every row checked, or the mapping of the table registered with it. Shared by whoever uses
 * the table on that device, made for the first and freed by the last. */
#ifndef EMB_MODEL_DEVICE_IMAGE_H
#define EMB_MODEL_DEVICE_IMAGE_H

#include "device/device.h"
#include "ngram/ngram_carry.h"

typedef enum emb_image_kind {
    EMB_IMAGE_COPY = 1,       /* in device memory */
    EMB_IMAGE_REGISTERED = 2, /* the mapping, registered */
    EMB_IMAGE_NATIVE = 3      /* the mapping as it is: the device reads pageable memory */
} emb_image_kind;

typedef struct emb_device_image emb_device_image;

/* From one row of an image in device memory to the next. */
size_t emb_device_image_stride(const embed_table *table);
/* Of device memory, and of the host's for the headers; of EMB_IMAGE_COPY. */
embed_status emb_device_image_plan_bytes(const embed_table *table, uint64_t *device,
                                         uint64_t *host);
/* NULL, or why the table's mapping cannot stand for its rows. */
const char *emb_device_image_refusal(const embed_table *table);

/* The table must outlive it; its allocator serves. Any thread; one that asks for an image in the
 * making waits.
 * Errors  _NOMEM, _DEVICE; those of reading and checking rows */
embed_status emb_device_image_get(emb_device_image **out, embed_table *table,
                                  const emb_backend *backend, int32_t index, emb_image_kind kind);
void emb_device_image_put(emb_device_image *image);             /* NULL is a no-op */
uint64_t emb_device_image_bytes(const emb_device_image *image); /* device and host, 0 if mapped */

/* Where a row lies, and its header, checked.
 * Errors  _FORMAT: a damaged row of a mapping */
embed_status emb_device_image_find(const emb_device_image *image, uint32_t row, uint64_t *at,
                                   emb_ngram_row_header *header);

#endif
