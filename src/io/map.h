/* map: read-only memory maps of regular files, and bounds-checked views into them. */
#ifndef EMB_IO_MAP_H
#define EMB_IO_MAP_H

#include "base/alloc.h"

typedef struct emb_map {
    const unsigned char *data; /* not NULL once open, also for an empty file */
    size_t size;
    char *path; /* as opened */
} emb_map;

/* What the pages will be read like; advice to the kernel only. */
typedef enum emb_map_advice {
    EMB_MAP_NORMAL = 0,
    EMB_MAP_RANDOM = 1,     /* no read-ahead: rows of a lookup table */
    EMB_MAP_SEQUENTIAL = 2, /* read once from front to back */
    EMB_MAP_WILLNEED = 3    /* start reading now */
} emb_map_advice;

/* Map the whole file; touches no page. On failure *map is empty and needs no close.
 * Errors: _IO with the path and the system's reason; _NOMEM. */
embed_status emb_map_open(emb_map *map, const emb_env *env, const char *path,
                          emb_map_advice advice);
void emb_map_close(emb_map *map, const emb_env *env); /* an empty map is a no-op */

/* *out = `size` bytes at `offset`; EMBED_ERR_TRUNCATED naming file and `what` if the file ends
 * before. */
embed_status emb_map_view(const emb_map *map, uint64_t offset, uint64_t size, const char *what,
                          const unsigned char **out);
/* Advice for a part of the file (widened to pages, cut at the end of the file). */
void emb_map_advise(const emb_map *map, size_t offset, size_t size, emb_map_advice advice);

#endif
