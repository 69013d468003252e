/* async: calls that run in the background: in the order they came, on one thread of the context,
 * started by the first of them. Each has a handle that knows how far it is and outlives the
 * context. While there are calls, the context is in use, as it is during a call that blocks. */
#ifndef EMB_MODEL_ASYNC_H
#define EMB_MODEL_ASYNC_H

#include "model/encode.h"

typedef struct emb_async_call {
    emb_job job;    /* checked; what it points to lives until the call has ended */
    uint32_t flags; /* of embed_encode_params */
    int32_t reserved;
    void *stream; /* on_device: of the caller's, native, or NULL */
    embed_done_fn done;
    void *user;
} emb_async_call;

/* *out is set before the call can end.
 * Errors  _ARG: in use by a call that blocks, or a stream that cannot be used; _THREAD, _NOMEM,
 *         _DEVICE */
embed_status emb_async_submit(embed_pending **out, embed_context *ctx, const emb_async_call *call);

/* Parts of a context. Stopping cancels what has not ended and waits for it; 0 if it cannot be,
 * since a callback asks, which runs on the thread to be waited for. */
void emb_async_init(embed_context *ctx);
int emb_async_stop(embed_context *ctx);

/* The handle's side; what embed.h says of the calls of these names. */
embed_status emb_pending_wait(embed_pending *p, int64_t timeout_ms, int32_t *done);
embed_status emb_pending_order(embed_pending *p, void *stream);
embed_status emb_pending_cancel(embed_pending *p);
void emb_pending_free(embed_pending *p);

#endif
