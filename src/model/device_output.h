/* device_output: the end of a batch on a device: the first `dim` numbers of each vector,
 * normalised, in the type of the call's output, and from there to pinned memory or to the caller's
 * own memory on the device. Everything before it is the same for all calls, so that it can be a
 * graph; what differs from call to call (type, ranges, where rows go) is here, behind it.
 *
 * The rows are the bits of emb_quantize_row (kernels/quantize) for the vectors that the same batch
 * gives as floats. */
#ifndef EMB_MODEL_DEVICE_OUTPUT_H
#define EMB_MODEL_DEVICE_OUTPUT_H

#include "device/device.h"
#include "model/batch_slot.h"
#include "model/model.h"

struct emb_device_forward;
struct emb_device_set;

/* What a call makes of its vectors. */
typedef struct emb_device_output {
    int32_t type; /* embed_dtype: EMBED_F32, EMBED_F16, EMBED_I8, EMBED_U8 or the binary ones */
    int32_t dim;
    const float *ranges; /* [2, dim] for EMBED_I8 and EMBED_U8; copied */
    emb_dptr to;         /* row i of the call goes to to + i * its bytes; none: rows come back */
    emb_event *after;    /* before `to` is written; or NULL */
} emb_device_output;

size_t emb_device_output_range_bytes(const embed_model *model);
/* For all calls: memory for the ranges. On failure the caller frees what is there. */
embed_status emb_device_output_create(struct emb_device_forward *f);
void emb_device_output_free(struct emb_device_forward *f);
/* A call starts: nothing is under way. NULL: one that ends before the vectors. */
embed_status emb_device_output_begin(struct emb_device_forward *f, const emb_device_output *o);
/* The part of a packed set that says where its rows go. */
void emb_device_output_pack(struct emb_device_set *s, const emb_slot *slot);
/* Behind the vectors of a batch on the main stream; `back` of the set happens when the rows are
 * where they go. */
embed_status emb_device_output_run(struct emb_device_forward *f, struct emb_device_set *s);

/* Record an event behind the rows of all batches so far. */
embed_status emb_device_output_mark(struct emb_device_forward *f, emb_event *event);

#endif
