/* device_suite: what every implementation of the device layer must do, on whatever implements it:
 * the fake device in CI (tests/device/test_device_suite.c), a GPU through gpu_device. It needs
 * neither cmocka nor anything but a backend with the kernel "device_probe". */
#ifndef EMB_TESTS_GPU_DEVICE_SUITE_H
#define EMB_TESTS_GPU_DEVICE_SUITE_H

#include "device/device.h"

typedef struct device_suite {
    const emb_env *env;
    const emb_backend *backend;
    int32_t device;
    int32_t ranks; /* devices 0 .. ranks - 1 take part in collectives; below 2: none */
    int quiet;     /* print failures only */
    int32_t passed, failed, skipped;
} device_suite;

/* Runs all checks, one line each on stdout. `lose`: the last one loses the device, which must then
 * answer every call at once; nothing else can be done with it in this process. */
void device_suite_run(device_suite *s, int lose);

#endif
