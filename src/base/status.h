/* status: failures and the sentence that goes with them. The sentence lives in a fixed thread-local
 * buffer, so that reporting never allocates; it is the only mutable state outside handles. */
#ifndef EMB_BASE_STATUS_H
#define EMB_BASE_STATUS_H

#include "embed.h"

#define EMB_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

/* Record "<NAME>: <message>" for this thread and return `status`, so that a failure reads
 * `return emb_fail(EMBED_ERR_IO, "%s: %s", path, strerror(errno));`. Long messages are cut. */
embed_status emb_fail(embed_status status, const char *fmt, ...) EMB_PRINTF(2, 3);
/* Put "<prefix>: " before the recorded message (such as the file a nested parser worked on). */
void emb_fail_prefix(const char *fmt, ...) EMB_PRINTF(1, 2);
/* The start of foreign text for a message, as much as `size` has room for: what is no printable
 * ASCII becomes '?'. */
void emb_fail_excerpt(char *out, size_t size, const char *text, size_t len);
void emb_fail_clear(void);
const char *emb_fail_message(void); /* with the constant's name in front; "" if none */
/* Without it: to be kept for later or for another thread, whose emb_fail puts it in front again.
 * Changes with the next failure, so it is copied before. */
const char *emb_fail_sentence(void);

#define EMB_TRY(x)                                                                                 \
    do {                                                                                           \
        if ((st = (x)) != EMBED_OK)                                                                \
            goto fail;                                                                             \
    } while (0)

#endif
