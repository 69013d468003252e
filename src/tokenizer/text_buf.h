/* text_buf: a growing run of bytes. */
#ifndef EMB_TOKENIZER_TEXT_BUF_H
#define EMB_TOKENIZER_TEXT_BUF_H

#include <string.h>

#include "base/alloc.h"

typedef struct emb_text_buf {
    char *data;
    size_t len, cap;
} emb_text_buf;

/* Room for `more` bytes after data[len - 1]. */
static inline embed_status emb_text_reserve(emb_text_buf *buf, const emb_env *env, size_t more) {
    size_t need;
    void *data = buf->data;
    if (more <= buf->cap - buf->len && data != NULL)
        return EMBED_OK;
    embed_status st = emb_add(buf->len, more, "text", &need);
    if (st == EMBED_OK)
        st = emb_grow(env, &data, &buf->cap, need, 1);
    buf->data = data;
    return st;
}

/* Append bytes that emb_text_reserve has made room for; none may come from NULL to NULL. */
static inline void emb_text_put(emb_text_buf *buf, const char *bytes, size_t n) {
    if (n == 0)
        return;
    memcpy(buf->data + buf->len, bytes, n);
    buf->len += n;
}

#endif
