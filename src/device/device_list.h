/* device_list: what this machine can encode on, for embed_device_count and embed_device_info. Entry
 * 0 is the CPU; then each device of the CUDA module or, if it has none, one entry with the reason.
 */
#ifndef EMB_DEVICE_DEVICE_LIST_H
#define EMB_DEVICE_DEVICE_LIST_H

#include "base/status.h"

/* module: a file, NULL: where emb_module_open looks. Never fails for lack of a device. */
embed_status emb_device_list_count(const char *module, int32_t *count);
embed_status emb_device_list_get(const char *module, int32_t i, embed_device *out);

#endif
