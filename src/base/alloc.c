#include "base/alloc.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *malloc_alloc(void *user, size_t size, size_t align) {
    (void)user;
    return aligned_alloc(align, emb_round_up(size, align));
}

static void malloc_free(void *user, void *ptr, size_t size) {
    (void)user;
    (void)size;
    free(ptr);
}

embed_status emb_env_init(emb_env *env, const embed_allocator *allocator, embed_log_fn log,
                          void *log_user) {
    *env = (emb_env){{NULL, malloc_alloc, malloc_free}, log, log_user};
    if (allocator == NULL)
        return EMBED_OK;
    if (allocator->alloc == NULL || allocator->free == NULL)
        return emb_fail(EMBED_ERR_ARG, "allocator: alloc and free must both be set");
    env->allocator = *allocator;
    return EMBED_OK;
}

void emb_log(const emb_env *env, embed_log_level level, const char *fmt, ...) {
    char text[512];
    va_list args;
    if (env->log == NULL)
        return;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    env->log(env->log_user, (int32_t)level, text);
}

/* A block is preceded by one cache line that holds its size. */
static size_t *header_of(void *block) {
    return (size_t *)(void *)((unsigned char *)block - EMB_ALIGN);
}

embed_status emb_alloc(const emb_env *env, size_t bytes, void **out) {
    *out = NULL;
    unsigned char *raw = NULL;
    if (bytes <= SIZE_MAX - 2 * EMB_ALIGN)
        raw = env->allocator.alloc(env->allocator.user, bytes + EMB_ALIGN, EMB_ALIGN);
    if (raw == NULL)
        return emb_fail(EMBED_ERR_NOMEM, "allocation of %zu bytes failed", bytes);
    *(size_t *)(void *)raw = bytes;
    *out = raw + EMB_ALIGN;
    return EMBED_OK;
}

embed_status emb_new(const emb_env *env, size_t bytes, void **out) {
    const embed_status st = emb_alloc(env, bytes, out);
    if (st == EMBED_OK)
        memset(*out, 0, bytes);
    return st;
}

embed_status emb_new_array(const emb_env *env, size_t count, size_t size, void **out) {
    size_t bytes;
    *out = NULL;
    const embed_status st = emb_mul(count, size, "array", &bytes);
    return st != EMBED_OK ? st : emb_new(env, bytes, out);
}

embed_status emb_realloc(const emb_env *env, size_t bytes, void **block) {
    void *bigger;
    const embed_status st = emb_alloc(env, bytes, &bigger);
    if (st != EMBED_OK)
        return st;
    if (*block != NULL) {
        const size_t old = *header_of(*block);
        memcpy(bigger, *block, old < bytes ? old : bytes);
        emb_free(env, *block);
    }
    *block = bigger;
    return EMBED_OK;
}

void emb_free(const emb_env *env, void *block) {
    if (block == NULL)
        return;
    size_t *header = header_of(block);
    env->allocator.free(env->allocator.user, header, *header + EMB_ALIGN);
}

embed_status emb_strdup(const emb_env *env, const char *s, size_t n, char **out) {
    void *copy;
    size_t bytes;
    *out = NULL;
    embed_status st = emb_add(n, 1, "string", &bytes);
    if (st == EMBED_OK)
        st = emb_alloc(env, bytes, &copy);
    if (st != EMBED_OK)
        return st;
    memcpy(copy, s, n);
    ((char *)copy)[n] = '\0';
    *out = copy;
    return EMBED_OK;
}

embed_status emb_grow(const emb_env *env, void **array, size_t *capacity, size_t need,
                      size_t size) {
    size_t bytes;
    if (need <= *capacity)
        return EMBED_OK;
    size_t wanted = *capacity < SIZE_MAX / 2 ? *capacity * 2 : need;
    if (wanted < need)
        wanted = need;
    if (wanted < 16)
        wanted = 16;
    embed_status st = emb_mul(wanted, size, "array", &bytes);
    if (st == EMBED_OK)
        st = emb_realloc(env, bytes, array);
    if (st == EMBED_OK)
        *capacity = wanted;
    return st;
}

embed_status emb_mul(size_t a, size_t b, const char *what, size_t *out) {
    if (__builtin_mul_overflow(a, b, out))
        return emb_fail(EMBED_ERR_NOMEM, "%s: size %zu * %zu overflows", what, a, b);
    return EMBED_OK;
}

embed_status emb_add(size_t a, size_t b, const char *what, size_t *out) {
    if (__builtin_add_overflow(a, b, out))
        return emb_fail(EMBED_ERR_NOMEM, "%s: size %zu + %zu overflows", what, a, b);
    return EMBED_OK;
}
