#include "api/params.h"

#include <string.h>

/* No struct of this header will ever be larger: more is a size that was never set. */
#define MAX_STRUCT_BYTES 4096

static embed_status read_size(size_t *bytes, const void *theirs, const char *name) {
    memcpy(bytes, theirs, sizeof *bytes);
    if (*bytes < sizeof *bytes || *bytes > MAX_STRUCT_BYTES)
        return emb_fail(EMBED_ERR_ABI, "%s.struct_size: expected sizeof(%s), found %zu", name, name,
                        *bytes);
    return EMBED_OK;
}

embed_status emb_params_read(void *ours, size_t ours_bytes, const void *theirs, const char *name) {
    size_t bytes;
    memset(ours, 0, ours_bytes);
    memcpy(ours, &ours_bytes, sizeof ours_bytes);
    if (theirs == NULL)
        return EMBED_OK;
    const embed_status st = read_size(&bytes, theirs, name);
    if (st != EMBED_OK)
        return st;
    const unsigned char *from = theirs;
    for (size_t i = ours_bytes; i < bytes; i++)
        if (from[i] != 0)
            return emb_fail(EMBED_ERR_ABI,
                            "%s: byte %zu is set, but this library knows %zu bytes; "
                            "it is older than the header",
                            name, i, ours_bytes);
    memcpy(ours, theirs, bytes < ours_bytes ? bytes : ours_bytes);
    memcpy(ours, &ours_bytes, sizeof ours_bytes);
    return EMBED_OK;
}

embed_status emb_params_write(void *theirs, const void *ours, size_t ours_bytes, const char *name) {
    size_t bytes;
    const embed_status st = read_size(&bytes, theirs, name);
    if (st != EMBED_OK)
        return st;
    memset(theirs, 0, bytes);
    memcpy(theirs, ours, bytes < ours_bytes ? bytes : ours_bytes);
    memcpy(theirs, &bytes, sizeof bytes);
    return EMBED_OK;
}
