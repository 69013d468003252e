#include "model/row_place.h"

#define KEY "embed_context_params.table_place"
#define SLOWER 1.25 /* that a mapping may be than copies, which also cost the CPU */

static uint64_t least(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

static uint64_t cache_bytes(const emb_row_place_facts *f, uint64_t limit) {
    return least(limit != 0 ? limit : f->free_bytes / 4, f->table_bytes);
}

static int32_t choose(const emb_row_place_facts *f, uint64_t limit) {
    if (f->table_bytes <= least(f->free_bytes, limit != 0 ? limit : f->free_bytes / 2))
        return EMBED_TABLE_PLACE_RESIDENT;
    if (limit != 0)
        return limit >= f->row_bytes ? EMBED_TABLE_PLACE_CACHE : EMBED_TABLE_PLACE_COPY;
    if (f->native && f->unmapped == NULL && f->map_seconds <= SLOWER * f->copy_seconds)
        return EMBED_TABLE_PLACE_MAP;
    const uint64_t cache = cache_bytes(f, 0);
    return cache >= f->row_bytes && cache >= f->table_bytes / 100 ? EMBED_TABLE_PLACE_CACHE
                                                                  : EMBED_TABLE_PLACE_COPY;
}

static embed_status check_map(const emb_row_place_facts *f) {
    if (f->unmapped != NULL)
        return emb_fail(EMBED_ERR_UNSUPPORTED,
                        KEY ": EMBED_TABLE_PLACE_MAP: expected plain rows in a mapping, found %s",
                        f->unmapped);
    if (!f->native && !f->registers)
        return emb_fail(EMBED_ERR_UNSUPPORTED,
                        KEY ": EMBED_TABLE_PLACE_MAP: expected a device that reads mappings of the "
                            "host, found one that can neither register them nor read them as they "
                            "are");
    return EMBED_OK;
}

static embed_status check_room(const char *place, uint64_t need, uint64_t found) {
    if (need > found)
        return emb_fail(EMBED_ERR_NOMEM,
                        KEY ": %s: expected %llu bytes free on the device, found %llu", place,
                        (unsigned long long)need, (unsigned long long)found);
    return EMBED_OK;
}

embed_status emb_row_place_choose(emb_row_place *out, const emb_row_place_facts *f, int32_t wish,
                                  uint64_t limit) {
    embed_status st = EMBED_OK;
    emb_row_place p = {wish, f->native, 0};
    switch (wish) {
    case EMBED_TABLE_PLACE_AUTO:
        p.place = f->table_bytes == 0 ? EMBED_TABLE_PLACE_COPY : choose(f, limit);
        break;
    case EMBED_TABLE_PLACE_COPY:
        break;
    case EMBED_TABLE_PLACE_MAP:
        EMB_TRY(check_map(f));
        break;
    case EMBED_TABLE_PLACE_CACHE:
        if (limit != 0 && limit < f->row_bytes)
            return emb_fail(EMBED_ERR_ARG,
                            "embed_context_params.device_cache_bytes: expected at least %llu, a "
                            "row, found %llu",
                            (unsigned long long)f->row_bytes, (unsigned long long)limit);
        EMB_TRY(check_room("EMBED_TABLE_PLACE_CACHE", cache_bytes(f, limit), f->free_bytes));
        break;
    case EMBED_TABLE_PLACE_RESIDENT:
        EMB_TRY(check_room("EMBED_TABLE_PLACE_RESIDENT", f->table_bytes, f->free_bytes));
        break;
    default:
        return emb_fail(EMBED_ERR_ARG, KEY ": expected an embed_table_place, found %d", wish);
    }
    if (f->table_bytes == 0 && p.place >= EMBED_TABLE_PLACE_CACHE)
        p.place = EMBED_TABLE_PLACE_COPY; /* nothing to keep */
    if (p.place == EMBED_TABLE_PLACE_CACHE)
        p.cache_bytes = cache_bytes(f, limit);
    *out = p;
fail:
    return st;
}
