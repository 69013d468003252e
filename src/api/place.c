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
        (void)snprintf(reason, sizeof reason, "%s", /* the constant's name is not part of it */
                       emb_fail_message() + strlen(embed_status_name(st)) + 2);
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

embed_status emb_place_find(emb_place *place, const embed_context_params *p) {
    embed_status st = EMBED_OK;
    *place = (emb_place){NULL, p->device_index, p->device_dtype != 0 ? p->device_dtype : EMBED_F32};
    EMB_TRY(check_dtype(p->device_dtype));
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
