/* device_attention: attention of a batch on a device, by our own kernel or by cuDNN.
 *
 * cuDNN is tried for long full batches only, since each of its plans is compiled for one number of
 * texts and one length, in about half a second, and it computes for the bucket of both: batches of
 * more than EMB_BUCKET_LAST tokens (which never run from a graph) whose longest text has 256 tokens
 * or more and that fill three quarters of texts x longest, each rounded up to a power of two; on
 * Hopper and newer, in f16 and bf16, heads of up to 128 dimensions in steps of 8, and where
 * products may be a library's (device_products.h). Both are timed on the first batch of a bucket,
 * with the pass over q and k that cuDNN takes for rotary positions (kernels/rotary), and cuDNN is
 * taken if it is at least a tenth faster; the choice is kept with those of products.
 * EMBED_PRODUCTS_LIBRARY takes it untimed. At most EMB_ATTENTION_CHOICES buckets are tried.
 *
 * error  as attention_cuda: q and k are rounded after rotation by both, weights before the product
 *        with v; within 4 u (1 + S) V of exact arithmetic. */
#ifndef EMB_MODEL_DEVICE_ATTENTION_H
#define EMB_MODEL_DEVICE_ATTENTION_H

#include "device/device.h"

#define EMB_ATTENTION_CHOICES 8

struct emb_device_forward;
struct emb_device_set;

typedef struct emb_attention_bucket {
    int64_t texts, longest;
    emb_attention_plan *plan; /* NULL: our own kernel */
} emb_attention_bucket;

/* Of one context. */
typedef struct emb_device_attention {
    const emb_be_op *rotary;
    emb_attention_bucket buckets[EMB_ATTENTION_CHOICES];
    int32_t n, reserved;
    emb_dptr columns; /* int32 [3, room + 1]: lengths, where texts begin in qkv and in heads */
    int64_t room;     /* texts */
    int64_t above_tokens, least_longest; /* of batches that may go to the library */
} emb_device_attention;

void emb_device_attention_init(emb_device_attention *a);
/* The batch is on its way to the device: decide how it is to be run, into set->attention. The host
 * may wait. */
embed_status emb_device_attention_prepare(struct emb_device_forward *f, struct emb_device_set *set);
/* From EMB_AT_QKV, which a library changes, to EMB_AT_HEADS. */
embed_status emb_device_attention_run(struct emb_device_forward *f,
                                      const struct emb_device_set *set);
void emb_device_attention_free(struct emb_device_forward *f);

#endif
