/* device_experts: the experts of a model spread over several devices. Everything else is on each of
 * them, and each has batches of its own; all go through the layers in step, and in a layer of
 * experts the rows of tokens go to the devices that have their experts, and come back
 * (kernels/moe_exchange). A device's row is multiplied by the same weights in the same way wherever
 * that happens, and combined where it came from in the order of its choices: the bits are those of
 * one device.
 *
 * No count is known to the host, so that an exchange moves room for the worst case: from a device
 * with T tokens to one with L experts min(top_k, L) T rows, and as many back; with 8 experts of
 * which 2 are taken, on 2, 4 or 8 devices 4, 8 or 8 rows a token each way, where 2 would do. On
 * NVLink that is less time than the products take, over PCIe it is most of it. The same holds for
 * memory: a device has room for min(top_k, L) times the tokens of all devices in its experts'
 * products.
 *
 * Work is launched plainly: collectives are in no graph. A device without a batch takes part with
 * no tokens. A device that fails in the middle of an exchange leaves the others waiting in it: the
 * host therefore waits by asking all of them, and ends the transport before anything else. */
#ifndef EMB_MODEL_DEVICE_EXPERTS_H
#define EMB_MODEL_DEVICE_EXPERTS_H

#include "device/transport.h"
#include "model/device_forward.h"

typedef enum emb_exchange_region {
    EMB_EXCHANGE_COUNTS_OUT, /* pairs for each expert, by owner */
    EMB_EXCHANGE_COUNTS_IN,  /* [n, experts here] */
    EMB_EXCHANGE_PLACE,      /* where the rows of a token's pairs are in SEND and RESULT */
    EMB_EXCHANGE_SEND,
    EMB_EXCHANGE_INBOX,
    EMB_EXCHANGE_OFFSET, /* rows of each expert here, which they are, and where their outputs are */
    EMB_EXCHANGE_ROWS,
    EMB_EXCHANGE_ORDER,
    EMB_EXCHANGE_INNER,
    EMB_EXCHANGE_OUT,
    EMB_EXCHANGE_RETURN,
    EMB_EXCHANGE_RESULT,
    EMB_EXCHANGE_REGIONS
} emb_exchange_region;

/* One device of them. */
typedef struct emb_expert_rank {
    emb_device_forward *forward;
    const emb_be_op *dispatch, *collect, *back;
    emb_arena arena;
    emb_device_set *staged;           /* batch of the round that is being filled, or NULL */
    emb_event *done[EMB_DEVICE_SETS]; /* a round, by its number */
    int32_t experts, width;           /* here, and rows a token can have for them */
} emb_expert_rank;

typedef struct emb_device_experts {
    emb_env env;
    int32_t n, top_k;
    emb_expert_rank *ranks; /* [n] */
    emb_transport *transport;
    size_t *parts;  /* [n, n] of an exchange: from row to column */
    int64_t tokens; /* room of each device */
    int32_t round;  /* number of the one being filled */
    int32_t staged; /* batches in it */
} emb_device_experts;

/* Exchange memory of rank `rank` of n for batches of `tokens`, in bytes.
 * Errors  _UNSUPPORTED: beyond the limits of an operation; _NOMEM */
embed_status emb_device_experts_plan(const embed_model *model, int32_t dtype, int32_t n,
                                     int32_t rank, int64_t tokens, size_t *bytes);
int64_t emb_device_experts_most_tokens(const embed_model *model, int32_t n);

/* forwards[r] has the experts of rank r of n, and outlives this.
 * Errors  _UNSUPPORTED: these devices cannot talk to each other, or the model is too large; _NOMEM,
 *         _DEVICE */
embed_status emb_device_experts_create(emb_device_experts **out,
                                       emb_device_forward *const *forwards, int32_t n,
                                       int64_t tokens);
void emb_device_experts_free(emb_device_experts *x); /* NULL is a no-op; nothing under way */
uint64_t emb_device_experts_bytes(const emb_device_experts *x);
/* Room for batches of `tokens` on each; nothing is under way. */
embed_status emb_device_experts_reserve(emb_device_experts *x, int64_t tokens);

/* Begin a batch on rank r, which has none in this round. */
embed_status emb_device_experts_stage(emb_device_experts *x, int32_t r, const emb_slot *slot,
                                      const emb_pooling_options *options);
/* Enqueue the batches of this round, if there are any; the next begins. */
embed_status emb_device_experts_run(emb_device_experts *x);
/* Until rank r is through with a round that was enqueued. */
embed_status emb_device_experts_wait(emb_device_experts *x, int32_t r, int32_t round);
/* Hidden states, as emb_device_forward_states. Nothing under way. */
embed_status emb_device_experts_states(emb_device_experts *x, const emb_slot *slot,
                                       const float **states);
/* Forget the round; if a device is lost, end what the others wait for. Before their forward passes
 * are dropped. */
void emb_device_experts_drop(emb_device_experts *x);

#endif
