/* fake_kernels: a few kernels for the fake device, and a device with what most tests of the device
 * layer need. Each kernel is one loop over its whole grid. */
#ifndef EMB_TESTS_SUPPORT_FAKE_KERNELS_H
#define EMB_TESTS_SUPPORT_FAKE_KERNELS_H

#include "device/arena.h"
#include "device/fake_device.h"

/* out[i] = scale * in[i] + add, i < n; the arguments of all kernels here */
typedef struct fake_kernel_args {
    emb_dptr in, out;
    int64_t n;
    float scale, add;
    int64_t reach; /* "reach": also writes out[reach], which may lie outside */
} fake_kernel_args;

/* "scale", "reach", and "touch": runs but reads and writes nothing */
extern const emb_kernel_entry fake_kernels[];
extern const size_t n_fake_kernels;

typedef struct fake_setup {
    emb_env env;
    emb_fake *fake;
    emb_device *device;
    emb_stream *stream;
} fake_setup;

/* One device and a stream; the test fails if that fails. */
void fake_setup_make(fake_setup *s, uint64_t seed);
/* Frees, and checks that nothing else is left. */
void fake_setup_free(fake_setup *s);

/* Launch one of the kernels by name, 128 threads a block. */
embed_status fake_kernel_run(emb_stream *s, const char *name, const fake_kernel_args *args);

#endif
