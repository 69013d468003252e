/* device_group: one model on several devices of this process, driven by the thread whose call runs.
 * Each device has a forward pass of its own (model/device_forward.h) with EMB_DEVICE_SETS batches
 * under way.
 *
 * Replicated: a batch goes to the device that has the fewest tokens under way, of several the
 * first. Results come back in the order of submission and are written by index, so that neither
 * order nor bits of the vectors tell how many devices there are. Statistics are summed over
 * devices in their order.
 *
 * Spread experts (model/device_experts.h): batches are enqueued in rounds of one for each device,
 * and a round that is not full when a result of it is wanted is enqueued as it is.
 *
 * One thread is enough as long as enqueueing a batch on all devices takes less time than one
 * device needs for it: about 100 launches of 3 to 5 us a batch and device where batches are
 * launched plainly, one where they are replayed from a graph. */
#ifndef EMB_MODEL_DEVICE_GROUP_H
#define EMB_MODEL_DEVICE_GROUP_H

#include "model/device_experts.h"
#include "model/device_forward.h"
#include "model/runner.h"

typedef struct emb_device_group {
    emb_env env;
    emb_runner runner; /* for contexts whose `group` this is */
    int32_t n;         /* devices */
    emb_device_forward *forwards[EMB_MAX_RANKS];
    int64_t queued[EMB_MAX_RANKS]; /* tokens under way */
    emb_device_experts *experts;   /* NULL: replicated */
    /* Devices and rounds of the batches under way, the oldest at `first`. */
    struct {
        int32_t device, round;
    } order[EMB_MAX_RANKS * EMB_DEVICE_SETS];
    int32_t first, under_way;
    uint64_t *tokens; /* statistics of one device [moe_layers, experts] */
    double *gate_sum;
} emb_device_group;

/* places->devices, each with batches of `tokens`. The backend must outlive the model.
 * Errors  those of emb_device_forward_create; _NOMEM: on any of them */
embed_status emb_device_group_create(emb_device_group **out, embed_model *model,
                                     const emb_places *places, int64_t tokens);
void emb_device_group_free(emb_device_group *group); /* NULL is a no-op */

/* Device and pinned memory of all, weights apart; and before it is there. */
uint64_t emb_device_group_bytes(const emb_device_group *group);
embed_status emb_device_group_plan_bytes(const embed_model *model, const emb_places *places,
                                         int64_t tokens, uint64_t *bytes);
/* The largest batch that the operations take. */
int64_t emb_device_group_most_tokens(const embed_model *model, const emb_places *places);

#endif
