/* fake_device: devices on the CPU that are stricter than real ones, for tests and emulation. It is
 * not part of the library. What it shows:
 *   - Device memory is unreadable for the host between calls: host code that follows a device
 *     pointer dies there; a host pointer where a device address is due is a fault.
 *   - Fresh memory and regions hold EMB_FAKE_POISON, a NaN in every float type and a wild index in
 *     every integer type; copying it to the host is a fault. Zones around allocations and regions
 *     are checked after every operation, so that the kernel that wrote there is named.
 *   - Streams are queues that run when the host waits, in an order drawn from the seed among the
 *     legal ones: some seeds run everything late, some at once, some let one stream run far ahead.
 *     What is missing a wait gives wrong results or a fault within a few seeds.
 *   - Any call can be made to fail, at once or when the work runs, for good or not.
 *   - Captures take kernels, sets and copies on the device only, and refuse any wait by the host.
 * Nothing depends on time: operations take as long as the params say, on a clock that counts only
 * what ran. Faults are bugs of the caller: the device is lost with EMB_DEVICE_MISUSE
 * (EMBED_ERR_INTERNAL), and emb_fake_fault tells the first. Calls may come from several threads. */
#ifndef EMB_DEVICE_FAKE_DEVICE_H
#define EMB_DEVICE_FAKE_DEVICE_H

#include "base/alloc.h"
#include "device/backend.h"

#define EMB_FAKE_GUARD 256
#define EMB_FAKE_POISON 0xfff7fff7u /* every aligned 32 bits; NaN as f32, f16 and bf16 */

typedef struct emb_fake emb_fake;

/* calls that can be made to fail */
typedef enum emb_fake_call {
    EMB_FAKE_ANY = 0, /* all of the following, in the order they come */
    EMB_FAKE_OPEN,
    EMB_FAKE_ALLOC,
    EMB_FAKE_HOST_ALLOC,
    EMB_FAKE_STREAM,
    EMB_FAKE_EVENT,  /* made, recorded, waited for */
    EMB_FAKE_SYNC,   /* the host waits or asks */
    EMB_FAKE_COPY,   /* and sets */
    EMB_FAKE_LAUNCH, /* kernels and graphs */
    EMB_FAKE_CAPTURE,
    EMB_FAKE_GEMM, /* and attention */
    EMB_FAKE_COMM,
    EMB_FAKE_EXECUTION, /* no call: the n-th operation that runs */
    EMB_FAKE_CALLS
} emb_fake_call;

typedef struct emb_fake_params {
    int32_t devices;                 /* 0: 1 */
    uint64_t seed;                   /* of the order in which work runs */
    uint64_t memory_bytes;           /* of each device; 0: no limit */
    const emb_kernel_entry *kernels; /* functions of type emb_emulated_fn; live as long */
    size_t n_kernels;
    const emb_op_entry *ops; /* operations, whose kernels arrive by emb_fake_submit; live as long */
    size_t n_ops;
    int (*run_job)(const void *job); /* runs what was submitted; 0, or a failure, told by */
    const char *(*job_error)(void);
    int32_t open_memory;      /* 1: the host may read it (large models: saves changing pages) */
    int32_t allow_poison_out; /* 1: copying poison to the host is no fault */
    int32_t no_host_map;      /* 1: mappings of the host cannot be registered */
    int32_t host_pageable;    /* 1: kernels read any memory of the host, as they do here anyway */
    const char *no_attention; /* as the next two */
    const char *no_gemm, *no_comm; /* reasons why the feature is missing; NULL: it is there */
    const char *no_device;         /* reason why no device is usable; NULL: they are */
    int32_t arch, shared_bytes;    /* of emb_op_target, as tensor_maps; 0: operations do not know */
    void (*tensor_maps)(void);
    int32_t major;             /* compute capability; 0: 9 */
    double kernel_ms, gemm_ms; /* what a kernel and a product take on the clock of the device */
} emb_fake_params;

embed_status emb_fake_create(emb_fake **out, const emb_env *env, const emb_fake_params *params);
void emb_fake_free(emb_fake *f); /* after all devices were closed */
const emb_backend *emb_fake_backend(const emb_fake *f);

/* For emb_emulation_redirect: the launch of a kernel by an operation, inside op_run. `stream` is
 * that of the emb_op_target; the job is copied. Returns 0 or a cudaError_t. */
int emb_fake_submit(void *user, void *stream, const void *job, size_t bytes);

/* The n-th such call from now on (1: the next) returns `code`; EMB_DEVICE_LOST loses its device. */
void emb_fake_fail(emb_fake *f, emb_fake_call call, long nth, emb_device_code code);
/* Such calls so far, to walk through all of them. */
long emb_fake_calls(const emb_fake *f, emb_fake_call call);
/* Objects and allocations that exist. */
long emb_fake_live(const emb_fake *f);
/* The first fault, "" if there was none. */
const char *emb_fake_fault(const emb_fake *f);
/* Bytes of device memory in use and the most that ever were, all devices together. */
uint64_t emb_fake_peak_bytes(const emb_fake *f);
/* Look at device memory from a test: run what is queued on the device, then copy. */
int emb_fake_peek(emb_fake *f, emb_dptr at, void *out, size_t bytes);

#endif
