#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define MESSAGE_BYTES 1024

static _Thread_local char message[MESSAGE_BYTES];
static _Thread_local size_t name_bytes; /* length of "<NAME>: " at the front of `message` */

static void append(size_t at, const char *fmt, va_list args) {
    if (at < sizeof message)
        (void)vsnprintf(message + at, sizeof message - at, fmt, args);
}

embed_status emb_fail(embed_status status, const char *fmt, ...) {
    va_list args;
    const int n = snprintf(message, sizeof message, "%s: ", embed_status_name(status));
    name_bytes = n > 0 ? (size_t)n : 0;
    va_start(args, fmt);
    append(name_bytes, fmt, args);
    va_end(args);
    return status;
}

void emb_fail_prefix(const char *fmt, ...) {
    char rest[MESSAGE_BYTES];
    va_list args;
    if (message[0] == '\0')
        return;
    memcpy(rest, message + name_bytes, sizeof rest - name_bytes);
    va_start(args, fmt);
    append(name_bytes, fmt, args);
    va_end(args);
    const size_t used = strlen(message);
    if (snprintf(message + used, sizeof message - used, ": %s", rest) < 0)
        message[used] = '\0';
}

void emb_fail_excerpt(char *out, size_t size, const char *text, size_t len) {
    const size_t n = len < size - 1 ? len : size - 1;
    for (size_t i = 0; i < n; i++)
        out[i] = text[i] >= ' ' && text[i] <= '~' ? text[i] : '?';
    out[n] = '\0';
}

void emb_fail_clear(void) {
    message[0] = '\0';
    name_bytes = 0;
}

const char *emb_fail_message(void) {
    return message;
}

const char *emb_fail_sentence(void) {
    return message + name_bytes;
}

const char *embed_status_name(embed_status status) {
    switch (status) {
#define NAME(x)                                                                                    \
    case x:                                                                                        \
        return #x
        NAME(EMBED_OK);
        NAME(EMBED_ERR_ARG);
        NAME(EMBED_ERR_ABI);
        NAME(EMBED_ERR_CAPACITY);
        NAME(EMBED_ERR_UTF8);
        NAME(EMBED_ERR_TOO_LONG);
        NAME(EMBED_ERR_CANCELLED);
        NAME(EMBED_ERR_NOMEM);
        NAME(EMBED_ERR_THREAD);
        NAME(EMBED_ERR_IO);
        NAME(EMBED_ERR_FORMAT);
        NAME(EMBED_ERR_TRUNCATED);
        NAME(EMBED_ERR_UNSUPPORTED);
        NAME(EMBED_ERR_MISMATCH);
        NAME(EMBED_ERR_DEVICE);
        NAME(EMBED_ERR_INTERNAL);
#undef NAME
    }
    return "EMBED_ERR_?";
}
