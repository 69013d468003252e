/* module: a backend in a shared object of its own, opened when it is first needed, so that the
 * library depends on nothing of CUDA. The object stays loaded until the process ends, since drivers
 * do not survive being unloaded; opening it again is cheap. */
#ifndef EMB_DEVICE_MODULE_H
#define EMB_DEVICE_MODULE_H

#include "base/status.h"
#include "device/backend.h"

#define EMB_CUDA_MODULE "libembed_cuda.so"
#define EMB_EMULATED_MODULE "libembed_emulated.so" /* of the preset `emulation` */

typedef struct emb_module {
    void *handle;
    const emb_backend *backend; /* lives until emb_module_close */
} emb_module;

/* path: the file; NULL: EMB_CUDA_MODULE beside the object this code is in, in the library directory
 * next to that (both also where links to that object lead), then wherever the dynamic linker looks.
 * EMBED_ERR_UNSUPPORTED if there is none, with the places; EMBED_ERR_DEVICE if it does not load or
 * is of another version than this library.
 */
embed_status emb_module_open(emb_module *m, const char *path);
/* The same for a file of this name in those places. */
embed_status emb_module_find(emb_module *m, const char *name);
void emb_module_close(emb_module *m); /* zeroed: no-op */

#endif
