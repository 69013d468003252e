/* arena: all scratch memory of a forward pass as one allocation, planned before anything runs.
 * Regions live for a range of steps; those that are never alive together share bytes. Addresses
 * stay fixed for the life of the arena, as graphs need. */
#ifndef EMB_DEVICE_ARENA_H
#define EMB_DEVICE_ARENA_H

#include "device/device.h"

#define EMB_ARENA_REGIONS 64

typedef struct emb_arena_region {
    const char *name;    /* for messages; lives as long as the arena */
    size_t bytes;        /* 0: not needed */
    int32_t first, last; /* steps in which it is alive, both included */
    size_t offset;       /* out: a multiple of EMB_DEVICE_ALIGN */
} emb_arena_region;

/* Sets the offsets, leaving `guard` bytes (rounded up to the alignment) around each region, and the
 * size of the whole. The largest regions get their place first, each the lowest one that is free
 * during its life. Depends on nothing but its arguments. */
embed_status emb_arena_plan(emb_arena_region *regions, size_t n, size_t guard, size_t *bytes);

typedef struct emb_arena {
    emb_device *device;
    emb_dptr base;
    size_t bytes;
    size_t n;
    emb_arena_region regions[EMB_ARENA_REGIONS];
} emb_arena;

/* Plans and allocates; on failure there is nothing to free. Freeing a zeroed arena is a no-op. */
embed_status emb_arena_create(emb_arena *a, emb_device *d, const emb_arena_region *regions,
                              size_t n);
void emb_arena_free(emb_arena *a);

static inline emb_dptr emb_arena_at(const emb_arena *a, size_t region) {
    return emb_dptr_add(a->base, a->regions[region].offset);
}
/* To be called when the life of a region begins: what lay there before is gone. Costs nothing on a
 * real device; on the fake one reads of what was not written and writes past its ends show. */
embed_status emb_arena_begin(const emb_arena *a, emb_stream *s, size_t region);

#endif
