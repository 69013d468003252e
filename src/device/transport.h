/* transport: collective operations among the devices of this process, rank r being the r-th one.
 * Every call is for all ranks at once, so that none can be forgotten: it enqueues on streams[r] of
 * each device and returns. Behind it: NCCL in the CUDA module, copies in the fake device. One rank
 * needs no library. Buffers of one rank must not overlap unless said so. */
#ifndef EMB_DEVICE_TRANSPORT_H
#define EMB_DEVICE_TRANSPORT_H

#include "device/device.h"

typedef struct emb_transport emb_transport;

/* All devices must be of one backend and live longer. EMBED_ERR_UNSUPPORTED, with the reason, if
 * several devices cannot talk to each other here. */
embed_status emb_transport_create(emb_transport **out, const emb_env *env,
                                  emb_device *const *devices, int32_t ranks);
void emb_transport_free(emb_transport *t);
int32_t emb_transport_ranks(const emb_transport *t);

/* The bytes of rank `root` to all ranks, in place. */
embed_status emb_transport_broadcast(emb_transport *t, emb_stream *const *streams,
                                     const emb_dptr *buffers, size_t bytes, int32_t root);
/* recv[r] gets the `bytes` of every rank, in the order of ranks. */
embed_status emb_transport_all_gather(emb_transport *t, emb_stream *const *streams,
                                      const emb_dptr *send, const emb_dptr *recv, size_t bytes);
/* counts[from * ranks + to] elements of elt_bytes; each rank's parts lie end to end, in send by
 * receiver and in recv by sender. */
embed_status emb_transport_all_to_all(emb_transport *t, emb_stream *const *streams,
                                      const emb_dptr *send, const emb_dptr *recv,
                                      const size_t *counts, size_t elt_bytes);
/* Work enqueued afterwards on any of the streams waits for all work before it on all of them. */
embed_status emb_transport_barrier(emb_transport *t, emb_stream *const *streams);

#endif
