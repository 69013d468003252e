#include "api/place.h"

#include <stdio.h>
#include <string.h>

#include "device/module.h"

/* The first device that can be used, -1: none. */
static int32_t first_usable(const emb_backend *b) {
    emb_device_error err = {""};
    emb_device_facts facts;
    int32_t n = 0;
    if (b->count(b->self, &n, &err) != EMB_DEVICE_OK)
        return -1;
    for (int32_t i = 0; i < n; i++) {
        memset(&facts, 0, sizeof facts);
        if (b->describe(b->self, i, &facts, &err) == EMB_DEVICE_OK && facts.usable)
            return i;
    }
    return -1;
}

/* Modules stay loaded until the process ends, so the table outlives the handle. */
static embed_status open_backend(const emb_backend **backend, const char *name) {
    emb_module module;
    *backend = NULL;
    embed_status st = emb_module_find(&module, name);
    if (st == EMBED_ERR_UNSUPPORTED) {
        char reason[400];
        (void)snprintf(reason, sizeof reason, "%s", emb_fail_sentence());
        st = emb_fail(EMBED_ERR_DEVICE, "%s", reason);
    }
    if (st == EMBED_OK)
        *backend = module.backend;
    emb_module_close(&module);
    return st;
}

static embed_status check_dtype(int32_t dtype) {
    if (dtype != 0 && dtype != EMBED_F32 && dtype != EMBED_F16 && dtype != EMBED_BF16)
        return emb_fail(EMBED_ERR_ARG,
                        "embed_context_params.device_dtype: expected 0, EMBED_F32, EMBED_F16 or "
                        "EMBED_BF16, found %d",
                        dtype);
    return EMBED_OK;
}

static embed_status check_flags(const emb_place *place) {
    const uint32_t unknown = place->flags & ~(EMBED_NO_GRAPHS | EMBED_TF32);
    if (unknown != 0)
        return emb_fail(EMBED_ERR_ARG,
                        "embed_context_params.device_flags: expected EMBED_NO_GRAPHS and "
                        "EMBED_TF32 only, found 0x%x beside them",
                        unknown);
    if ((place->flags & EMBED_TF32) != 0 && place->dtype != EMBED_F32)
        return emb_fail(EMBED_ERR_ARG,
                        "embed_context_params.device_flags: EMBED_TF32: expected device_dtype "
                        "EMBED_F32, found %s",
                        place->dtype == EMBED_F16 ? "EMBED_F16" : "EMBED_BF16");
    return EMBED_OK;
}

embed_status emb_place_find(emb_place *place, const embed_context_params *p) {
    embed_status st = EMBED_OK;
    *place = (emb_place){.index = p->device_index,
                         .dtype = p->device_dtype != 0 ? p->device_dtype : EMBED_F32,
                         .flags = p->device_flags,
                         .products = p->device_products};
    EMB_TRY(check_dtype(p->device_dtype));
    EMB_TRY(check_flags(place));
    if (p->device_products < EMBED_PRODUCTS_AUTO || p->device_products > EMBED_PRODUCTS_LIBRARY)
        return emb_fail(EMBED_ERR_ARG,
                        "embed_context_params.device_products: expected an embed_device_products, "
                        "found %d",
                        p->device_products);
    if (p->device_index < 0)
        return emb_fail(EMBED_ERR_ARG,
                        "embed_context_params.device_index: expected 0 or more, found %d",
                        p->device_index);
    switch (p->device) {
    case 0:
    case EMBED_DEVICE_CPU:
        break;
    case EMBED_DEVICE_CUDA:
        EMB_TRY(open_backend(&place->backend, EMB_CUDA_MODULE));
        break;
    case EMBED_DEVICE_EMULATED:
        EMB_TRY(open_backend(&place->backend, EMB_EMULATED_MODULE));
        break;
    case EMBED_DEVICE_AUTO:
        if (open_backend(&place->backend, EMB_CUDA_MODULE) != EMBED_OK)
            break;
        place->index = first_usable(place->backend);
        if (place->index < 0)
            place->backend = NULL;
        break;
    default:
        return emb_fail(EMBED_ERR_ARG,
                        "embed_context_params.device: expected an embed_device_kind, found %d",
                        p->device);
    }
fail:
    return st;
}

/* ------------------------------------------------------------------------------------ several */

static embed_status describe(const emb_backend *b, int32_t device, emb_device_facts *facts) {
    emb_device_error err = {""};
    memset(facts, 0, sizeof *facts);
    if (b->describe(b->self, device, facts, &err) != EMB_DEVICE_OK)
        return emb_fail(EMBED_ERR_DEVICE, "%s:%d: %s", b->name, device, err.text);
    return EMBED_OK;
}

static embed_status count(const emb_backend *b, int32_t *n) {
    emb_device_error err = {""};
    if (b->count(b->self, n, &err) != EMB_DEVICE_OK)
        return emb_fail(EMBED_ERR_DEVICE, "%s: %s", b->name, err.text);
    return EMBED_OK;
}

static embed_status take_all(emb_places *places) {
    embed_status st = EMBED_OK;
    emb_device_facts facts;
    int32_t n = 0;
    EMB_TRY(count(places->place.backend, &n));
    places->n = 0;
    for (int32_t i = 0; i < n && places->n < EMB_MAX_RANKS; i++) {
        EMB_TRY(describe(places->place.backend, i, &facts));
        if (facts.usable)
            places->devices[places->n++] = i;
    }
    if (places->n == 0)
        return emb_fail(EMBED_ERR_DEVICE, "%s: none of %d devices is usable",
                        places->place.backend->name, n);
fail:
    return st;
}

static embed_status take_listed(emb_places *places, const int32_t *devices, int32_t n) {
    embed_status st = EMBED_OK;
    emb_device_facts facts;
    int32_t there = 0;
    EMB_TRY(count(places->place.backend, &there));
    for (int32_t i = 0; i < n; i++) {
        const int32_t at = devices[i];
        if (at < 0 || at >= there)
            return emb_fail(EMBED_ERR_DEVICE,
                            "embed_context_params.devices[%d]: expected a device below %d, found "
                            "%d",
                            i, there, at);
        for (int32_t j = 0; j < i; j++)
            if (devices[j] == at)
                return emb_fail(EMBED_ERR_ARG,
                                "embed_context_params.devices[%d]: %d is there twice, also at %d",
                                i, at, j);
        EMB_TRY(describe(places->place.backend, at, &facts));
        if (!facts.usable)
            return emb_fail(EMBED_ERR_DEVICE, "%s:%d: not usable: %s", places->place.backend->name,
                            at, facts.reason);
        places->devices[i] = at;
    }
    places->n = n;
fail:
    return st;
}

/* The wish for rows of tables must fit where the context encodes. */
static embed_status take_rows(emb_places *places, const embed_context_params *p) {
    const int on_cpu = p->device == 0 || p->device == EMBED_DEVICE_CPU;
    if (p->table_place < EMBED_TABLE_PLACE_AUTO || p->table_place > EMBED_TABLE_PLACE_RESIDENT)
        return emb_fail(EMBED_ERR_ARG,
                        "embed_context_params.table_place: expected an embed_table_place, found %d",
                        p->table_place);
    if (on_cpu && p->table_place != EMBED_TABLE_PLACE_AUTO)
        return emb_fail(EMBED_ERR_ARG,
                        "embed_context_params.table_place: expected 0 on the CPU, found %d",
                        p->table_place);
    if (p->device_cache_bytes != 0 && (on_cpu || (p->table_place != EMBED_TABLE_PLACE_AUTO &&
                                                  p->table_place != EMBED_TABLE_PLACE_CACHE)))
        return emb_fail(
            EMBED_ERR_ARG, "embed_context_params.device_cache_bytes: expected 0 %s, found %llu",
            on_cpu ? "on the CPU" : "but with EMBED_TABLE_PLACE_AUTO and EMBED_TABLE_PLACE_CACHE",
            (unsigned long long)p->device_cache_bytes);
    if (p->table_place > EMBED_TABLE_PLACE_COPY && places->n > 1)
        return emb_fail(EMBED_ERR_UNSUPPORTED,
                        "embed_context_params.table_place: expected EMBED_TABLE_PLACE_AUTO or "
                        "EMBED_TABLE_PLACE_COPY with %d devices, found %d",
                        places->n, p->table_place);
    places->table_place = p->table_place;
    places->cache_bytes = p->device_cache_bytes;
    return EMBED_OK;
}

static embed_status take_devices(emb_places *places, const embed_context_params *p) {
    if (p->placement != EMBED_PLACE_REPLICATED && p->placement != EMBED_PLACE_EXPERTS)
        return emb_fail(EMBED_ERR_ARG,
                        "embed_context_params.placement: expected an embed_placement, found %d",
                        p->placement);
    places->placement = p->placement;
    if (p->n_devices == 0 && p->devices == NULL)
        return EMBED_OK;
    if (p->n_devices < EMBED_ALL_DEVICES || p->n_devices > EMB_MAX_RANKS ||
        (p->n_devices > 0) != (p->devices != NULL))
        return emb_fail(EMBED_ERR_ARG,
                        "embed_context_params.n_devices: expected 1 to %d with devices, 0 or "
                        "EMBED_ALL_DEVICES without, found %d %s",
                        EMB_MAX_RANKS, p->n_devices, p->devices != NULL ? "with" : "without");
    if (p->device_index != 0)
        return emb_fail(EMBED_ERR_ARG,
                        "embed_context_params.device_index: expected 0 beside n_devices, found %d",
                        p->device_index);
    if (places->place.backend == NULL || p->device == EMBED_DEVICE_AUTO)
        return emb_fail(EMBED_ERR_ARG, "embed_context_params.n_devices: expected device to be "
                                       "EMBED_DEVICE_CUDA or EMBED_DEVICE_EMULATED");
    return p->devices == NULL ? take_all(places) : take_listed(places, p->devices, p->n_devices);
}

embed_status emb_places_take(emb_places *places, const embed_context_params *p) {
    const embed_status st = take_devices(places, p);
    return st != EMBED_OK ? st : take_rows(places, p);
}

embed_status emb_places_find(emb_places *places, const embed_context_params *p) {
    *places = (emb_places){.n = 0};
    const embed_status st = emb_place_find(&places->place, p);
    return st != EMBED_OK ? st : emb_places_take(places, p);
}
