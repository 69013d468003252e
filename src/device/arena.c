#include "device/arena.h"

#include <string.h>

/* Order of placing: larger first, then by index, so that the plan is the same everywhere. */
static void order_by_size(const emb_arena_region *r, size_t n, uint8_t *order) {
    for (size_t i = 0; i < n; i++) {
        size_t at = i;
        for (; at > 0 && r[order[at - 1]].bytes < r[i].bytes; at--)
            order[at] = order[at - 1];
        order[at] = (uint8_t)i;
    }
}

static int alive_together(const emb_arena_region *a, const emb_arena_region *b) {
    return a->first <= b->last && b->first <= a->last;
}

/* Bytes of a region with the guard that follows it. */
static embed_status extent(const emb_arena_region *r, size_t guard, size_t *out) {
    embed_status st;
    EMB_TRY(emb_add(r->bytes, EMB_DEVICE_ALIGN - 1, r->name, out));
    EMB_TRY(emb_add(*out / EMB_DEVICE_ALIGN * EMB_DEVICE_ALIGN, guard, r->name, out));
fail:
    return st;
}

/* The lowest offset at which `r` meets none of the placed regions that live with it: the region
 * it meets is passed, until there is none. */
static embed_status place(emb_arena_region *regions, const uint8_t *order, size_t placed,
                          size_t guard, emb_arena_region *r, size_t *end) {
    embed_status st;
    size_t need, offset = guard;
    EMB_TRY(extent(r, guard, &need));
    for (size_t i = 0; i < placed;) {
        const emb_arena_region *other = &regions[order[i++]];
        size_t theirs, our_end;
        if (other->bytes == 0 || !alive_together(r, other))
            continue;
        EMB_TRY(extent(other, guard, &theirs));
        EMB_TRY(emb_add(offset, need, r->name, &our_end));
        if (offset < other->offset + theirs && other->offset < our_end) {
            offset = other->offset + theirs;
            i = 0;
        }
    }
    r->offset = offset;
    EMB_TRY(emb_add(offset, need, r->name, end));
fail:
    return st;
}

embed_status emb_arena_plan(emb_arena_region *regions, size_t n, size_t guard, size_t *bytes) {
    embed_status st = EMBED_OK;
    uint8_t order[EMB_ARENA_REGIONS];
    *bytes = 0;
    if (n > EMB_ARENA_REGIONS)
        return emb_fail(EMBED_ERR_INTERNAL, "arena: expected at most %d regions, found %zu",
                        EMB_ARENA_REGIONS, n);
    guard = emb_round_up(guard, EMB_DEVICE_ALIGN);
    order_by_size(regions, n, order);
    for (size_t i = 0; i < n; i++) {
        emb_arena_region *r = &regions[order[i]];
        size_t end;
        r->offset = guard;
        if (r->bytes == 0)
            continue;
        if (r->first > r->last)
            return emb_fail(EMBED_ERR_INTERNAL, "arena: %s lives from step %d to %d", r->name,
                            r->first, r->last);
        EMB_TRY(place(regions, order, i, guard, r, &end));
        if (end > *bytes)
            *bytes = end;
    }
fail:
    return st;
}

embed_status emb_arena_create(emb_arena *a, emb_device *d, const emb_arena_region *regions,
                              size_t n) {
    embed_status st;
    memset(a, 0, sizeof *a);
    a->device = d;
    a->n = n;
    for (size_t i = 0; i < n && i < EMB_ARENA_REGIONS; i++)
        a->regions[i] = regions[i];
    EMB_TRY(emb_arena_plan(a->regions, n, emb_device_guard_bytes(d), &a->bytes));
    if (a->bytes > 0)
        EMB_TRY(emb_device_alloc(d, a->bytes, &a->base));
    return EMBED_OK;
fail:
    memset(a, 0, sizeof *a);
    return st;
}

void emb_arena_free(emb_arena *a) {
    if (a->device != NULL)
        emb_device_free(a->device, a->base);
    memset(a, 0, sizeof *a);
}

embed_status emb_arena_begin(const emb_arena *a, emb_stream *s, size_t region) {
    const emb_arena_region *r = &a->regions[region];
    if (r->bytes == 0)
        return EMBED_OK;
    return emb_region_begin(s, emb_arena_at(a, region), r->bytes, r->name);
}
