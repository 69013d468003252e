/* alloc: the caller's allocator, and sizes that cannot overflow unnoticed. */
#ifndef EMB_BASE_ALLOC_H
#define EMB_BASE_ALLOC_H

#include "base/status.h"

#define EMB_ALIGN 64 /* every block starts on a cache line; also the widest vector register */

/* What a handle needs from its maker: carried by value inside each handle. */
typedef struct emb_env {
    embed_allocator allocator; /* never NULL functions: emb_env_init fills in malloc */
    embed_log_fn log;          /* may be NULL */
    void *log_user;
} emb_env;

embed_status emb_env_init(emb_env *env, const embed_allocator *allocator, embed_log_fn log,
                          void *log_user);
void emb_log(const emb_env *env, embed_log_level level, const char *fmt, ...) EMB_PRINTF(3, 4);

/* Blocks aligned to EMB_ALIGN that know their size. emb_new zero-fills; `*out` is NULL on failure.
 * Zero bytes give a valid block. */
embed_status emb_alloc(const emb_env *env, size_t bytes, void **out);
embed_status emb_new(const emb_env *env, size_t bytes, void **out);
embed_status emb_new_array(const emb_env *env, size_t count, size_t size, void **out);
/* Keeps the contents (up to the smaller size); on failure *block is unchanged. */
embed_status emb_realloc(const emb_env *env, size_t bytes, void **block);
void emb_free(const emb_env *env, void *block); /* NULL is a no-op */
/* NUL-terminated copy of n bytes. */
embed_status emb_strdup(const emb_env *env, const char *s, size_t n, char **out);

/* Room for `need` elements in a growing array: doubles *capacity; contents are kept. */
embed_status emb_grow(const emb_env *env, void **array, size_t *capacity, size_t need, size_t size);

/* *out = a * b (a + b); EMBED_ERR_NOMEM naming `what` if that exceeds size_t. */
embed_status emb_mul(size_t a, size_t b, const char *what, size_t *out);
embed_status emb_add(size_t a, size_t b, const char *what, size_t *out);

static inline size_t emb_round_up(size_t n, size_t to) {
    return (n + to - 1) / to * to;
}

#endif
