/* A module for test_module.c: built several times, each with another thing that is wrong, by
 * definitions on the command line. Its devices exist as far as `embed devices` looks at them. */
#include <stdio.h>

#include "device/backend.h"

#ifndef MODULE_ABI
#define MODULE_ABI EMB_BACKEND_ABI
#endif
#ifndef MODULE_VERSION
#define MODULE_VERSION EMBED_VERSION
#endif
#ifndef MODULE_ENTRY
#define MODULE_ENTRY embed_backend_open
#endif

static int count(void *self, int32_t *devices, emb_device_error *err) {
    (void)self;
#ifdef MODULE_NO_DRIVER
    *devices = 0;
    (void)snprintf(err->text, sizeof err->text, "no driver: nothing drives anything here");
    return EMB_DEVICE_UNAVAILABLE;
#else
    (void)err;
    *devices = 3;
    return EMB_DEVICE_OK;
#endif
}

static int describe(void *self, int32_t device, emb_device_facts *facts, emb_device_error *err) {
    (void)self;
    if (device == 2) {
        (void)snprintf(err->text, sizeof err->text, "it does not answer");
        return EMB_DEVICE_FAILED;
    }
    *facts = (emb_device_facts){.name = "a device of the test",
                                .major = 9,
                                .multiprocessors = 100,
                                .driver = 13000,
                                .memory_total = 1000,
                                .memory_free = 900,
                                .usable = device == 0};
    if (device == 1)
        (void)snprintf(facts->reason, sizeof facts->reason, "no code for it");
    return EMB_DEVICE_OK;
}

__attribute__((visibility("default"))) const emb_backend *MODULE_ENTRY(uint32_t abi);
const emb_backend *MODULE_ENTRY(uint32_t abi) {
    static const emb_backend table = {.abi = MODULE_ABI,
                                      .library_version = MODULE_VERSION,
                                      .name = "test",
                                      .count = count,
                                      .describe = describe};
    (void)abi;
#ifdef MODULE_REFUSES
    return table.abi == 0 ? &table : NULL;
#else
    return &table;
#endif
}
