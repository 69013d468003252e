#include "api/params.h"
#include "device/device_list.h"

embed_status embed_device_count(int32_t *count) {
    if (count == NULL)
        return emb_fail(EMBED_ERR_ARG, "count: NULL");
    return emb_device_list_count(NULL, count);
}

embed_status embed_device_info(int32_t i, embed_device *device) {
    embed_device ours;
    if (device == NULL)
        return emb_fail(EMBED_ERR_ARG, "device: NULL");
    const embed_status st = emb_device_list_get(NULL, i, &ours);
    return st != EMBED_OK ? st : emb_params_write(device, &ours, sizeof ours, "embed_device");
}
