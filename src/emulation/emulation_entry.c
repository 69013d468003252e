/* The module libembed_emulated.so: the fake device with the CUDA kernels compiled for the CPU, in
 * the place of the CUDA module. Made by the preset `emulation` only. */
#include <pthread.h>
#include <stdatomic.h>

#include "cuda_module/cuda_ops.h"
#include "device/fake_device.h"
#include "kernels/cuda/cuda_emulation.h"

/* EMBED_API exports nothing where the library is linked statically, as it is into this. */
__attribute__((visibility("default"))) const emb_backend *embed_backend_open(uint32_t abi);

/* One fake for the process, as there is one driver. Out of memory, a table without functions that
 * no version accepts. */
const emb_backend *embed_backend_open(uint32_t abi) {
    static const emb_backend nothing = {.abi = 0, .library_version = EMBED_VERSION};
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static _Atomic(emb_fake *) made;
    emb_fake *fake = atomic_load(&made);
    emb_fake_params params = {.devices = 8, /* to check several against one */
                              .seed = 1,
                              .open_memory = 1,
                              .run_job = emb_emulation_run,
                              .job_error = emb_emulation_error};
    emb_env env;
    (void)abi; /* one number is known here; the caller compares */
    if (fake != NULL)
        return emb_fake_backend(fake); /* in a child of fork() too, where the lock may be held */
    (void)pthread_mutex_lock(&lock);
    fake = atomic_load(&made);
    if (fake == NULL && emb_env_init(&env, NULL, NULL, NULL) == EMBED_OK) {
        params.ops = emb_cuda_ops(&params.n_ops);
        emb_emulation_redirect(emb_fake_submit, NULL);
        (void)emb_fake_create(&fake, &env, &params);
        atomic_store(&made, fake);
    }
    (void)pthread_mutex_unlock(&lock);
    return fake != NULL ? emb_fake_backend(fake) : &nothing;
}
