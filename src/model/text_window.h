/* text_window: the texts a call works on at a time, so that millions of texts need no more memory
 * than a few batches. Texts that find no room stay pending and come first in the next window. */
#ifndef EMB_MODEL_TEXT_WINDOW_H
#define EMB_MODEL_TEXT_WINDOW_H

#include "model/encode.h"

typedef struct emb_window {
    size_t items; /* in ctx->items */
    size_t next;  /* first text of the call that is in no window yet */
} emb_window;

/* Drop the finished items, take up new texts, and tokenise, in parallel, as many as there is room
 * for (at least one). A failure names the text. */
embed_status emb_window_fill(emb_window *w, embed_context *ctx, const emb_job *job);

#endif
