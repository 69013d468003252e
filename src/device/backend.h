/* backend: what drives devices, as one table of functions. Three things implement it: the CUDA
 * module (src/cuda_module, opened at run time), the fake device of the tests (fake_device.h), and
 * whoever replaces them. It is the boundary between two shared objects, so it holds fixed-width
 * integers, pointers and functions only, calls nothing of the library, and has a number that both
 * sides must agree on. The rest of the library does not call it directly but through device.h.
 *
 * Every function that can fail returns an emb_device_code and writes a sentence into *err. Nothing
 * here blocks except stream_sync and event_sync; nothing changes what belongs to the caller's
 * threads (current device or context, a capture in progress). Objects of one device are used by one
 * thread at a time unless said otherwise; different devices and streams are independent. */
#ifndef EMB_DEVICE_BACKEND_H
#define EMB_DEVICE_BACKEND_H

#include "embed.h"

/* To be raised with any change to this file. */
#define EMB_BACKEND_ABI 4u
/* Name of the function a module exports, of type emb_backend_entry. */
#define EMB_BACKEND_ENTRY "embed_backend_open"

#define EMB_DEVICE_ALIGN 256 /* of every allocation and region, in bytes */
#define EMB_MAX_RANKS 64     /* devices of one communicator */
#define EMB_MAX_KERNEL_ARGS 1024

/* An address in device memory. A struct, so that neither a host pointer passes for one nor the host
 * can follow it; it lies in the arguments of a kernel exactly as a pointer does. */
typedef struct emb_dptr {
    uint64_t at; /* 0: none */
} emb_dptr;

static inline emb_dptr emb_dptr_add(emb_dptr p, size_t bytes) {
    return (emb_dptr){p.at + bytes};
}
/* As kernels take it; not to be followed here. NULL: none. */
static inline void *emb_dptr_raw(emb_dptr p) {
    return (void *)(uintptr_t)p.at;
}

typedef enum emb_device_code {
    EMB_DEVICE_OK = 0,
    EMB_DEVICE_NOT_READY = 1,   /* event_query: not yet */
    EMB_DEVICE_NO_MEMORY = 2,   /* of the device or pinned; the device stays usable */
    EMB_DEVICE_NO_HOST = 3,     /* the caller's allocator refused */
    EMB_DEVICE_FAILED = 4,      /* this call did nothing; the device stays usable */
    EMB_DEVICE_UNAVAILABLE = 5, /* no driver, device or library that this needs */
    EMB_DEVICE_LOST = 6,        /* for good: everything else will fail too */
    EMB_DEVICE_FORKED = 7,      /* used in a child of the process that began to use it */
    EMB_DEVICE_MISUSE = 8,      /* a bug in this library */
    EMB_DEVICE_REFUSED = 9 /* a pointer or stream of the caller's that is not what it should be */
} emb_device_code;

typedef struct emb_device_error {
    char text[512];
} emb_device_error;

/* what a device is; filled without making a context on it where that is possible */
typedef struct emb_device_facts {
    char name[128];
    int32_t major, minor; /* compute capability */
    int32_t multiprocessors;
    int32_t driver;        /* version the driver supports, such as 13000; 0: none */
    uint64_t memory_total; /* bytes */
    uint64_t memory_free;  /* UINT64_MAX: not known */
    int32_t usable;
    int32_t host_read_only; /* read-only host mappings can be registered */
    int32_t host_pageable;  /* kernels read any host memory through the host's page tables */
    int32_t reserved;
    char reason[256]; /* why it is not usable */
} emb_device_facts;

typedef enum emb_feature_id {
    EMB_FEATURE_CUBLASLT = 0, /* gemm_* */
    EMB_FEATURE_CUDNN = 1,    /* attention_* */
    EMB_FEATURE_NCCL = 2,     /* comm_* */
    EMB_FEATURES = 3
} emb_feature_id;

typedef struct emb_feature {
    int32_t present;
    int32_t version;  /* as the library numbers it */
    char reason[240]; /* why not */
} emb_feature;

/* Implementation's own. */
typedef struct emb_be_device emb_be_device;
typedef struct emb_be_stream emb_be_stream;
typedef struct emb_be_event emb_be_event;
typedef struct emb_be_graph emb_be_graph;
typedef struct emb_be_kernel emb_be_kernel;
typedef struct emb_be_op emb_be_op;
typedef struct emb_be_gemm emb_be_gemm;
typedef struct emb_be_attention emb_be_attention;
typedef struct emb_be_comm emb_be_comm;

/* One kernel: every kernel takes one struct by value, which both sides copy without knowing it. */
typedef struct emb_launch {
    uint32_t grid[3], block[3];
    uint32_t shared_bytes; /* dynamic */
    uint32_t arg_bytes;    /* at most EMB_MAX_KERNEL_ARGS */
    const void *args;
} emb_launch;

/* A kernel by name, as the module and the fake device list them. */
typedef struct emb_kernel_entry {
    const char *name;
    void (*function)(void); /* CUDA: the __global__ function; fake: an emb_emulated_fn */
    uint32_t arg_bytes;
    uint32_t shared_bytes;    /* most dynamic shared memory it will ask for */
    const uint16_t *pointers; /* [n_pointers] where in the struct emb_dptrs lie */
    uint32_t n_pointers, reserved;
} emb_kernel_entry;

/* Runs a whole grid on the CPU, before it returns. */
typedef void (*emb_emulated_fn)(const emb_launch *launch);

/* Where an operation of kernels/<op>/<op>_cuda.h runs, as emb_cuda_exec says: the stream of the
 * implementation, properties of the device; out: what failed. */
typedef struct emb_op_target {
    void *stream;
    int32_t processors, shared_bytes;
    int32_t error; /* cudaError_t of a launch that failed */
    int32_t arch;
    const char *failed; /* the kernel, or the limit that was broken; static */
    void (*tensor_maps)(void);
} emb_op_target;

/* An operation by name: enqueues any number of kernels on the stream and returns. */
typedef struct emb_op_entry {
    const char *name;
    embed_status (*run)(emb_op_target *on, const void *args);
    uint32_t arg_bytes;
    uint32_t reserved;
} emb_op_entry;

/* what a graph consists of; other nodes are refused */
typedef struct emb_graph_info {
    int32_t kernels, sets, copies;
    int32_t reserved;
} emb_graph_info;

/* y[m,n] = x[m,k] w[n,k]^T (+ bias[n]) (+ residual[m,n]), row-major, sums in f32. */
typedef struct emb_gemm_spec {
    int64_t m, n, k;
    int32_t dtype;    /* of x, w, y, bias and residual: EMBED_F32, EMBED_F16 or EMBED_BF16 */
    int32_t y_dtype;  /* of y, bias and residual: dtype, or EMBED_F32 */
    int32_t bias;     /* 1: there is one */
    int32_t residual; /* 1: there is one; it may be y */
    int32_t tf32;     /* 1: f32 products may be rounded to tf32 */
    int32_t reserved;
    uint64_t workspace_bytes; /* at most; what is used is in emb_gemm_facts */
} emb_gemm_spec;

typedef struct emb_gemm_facts {
    uint64_t workspace_bytes;
    char algorithm[128]; /* in words, for records of measurements */
} emb_gemm_facts;

typedef struct emb_gemm_args {
    emb_dptr x, w, bias, residual, y, workspace;
} emb_gemm_args;

/* softmax(q k^T scale) v of each text and head, texts end to end, without rotary positions. qkv
 * [tokens, 3, heads, head_dim], out [tokens, heads, head_dim] of dtype. */
typedef struct emb_attention_spec {
    int64_t texts, longest; /* of the bucket; texts that are not there have length 0 */
    int32_t heads, head_dim;
    int32_t dtype; /* EMBED_F16 or EMBED_BF16 */
    float scale;
    uint64_t workspace_bytes; /* at most */
} emb_attention_spec;

typedef emb_gemm_facts emb_attention_facts;

typedef struct emb_attention_args {
    emb_dptr qkv, out;
    emb_dptr lengths;                  /* int32 [texts] */
    emb_dptr qkv_offsets, out_offsets; /* int32 [texts + 1]: first element of each text */
    emb_dptr workspace;
} emb_attention_args;

/* One call for all ranks of the communicator: rank r works on its device's streams[r]. */
typedef struct emb_all_to_all {
    const emb_dptr *send, *recv; /* [ranks] */
    const size_t *send_bytes;    /* [ranks, ranks]: from row to column */
    const size_t *send_offset;   /* [ranks, ranks] into send[row] */
    const size_t *recv_offset;   /* [ranks, ranks] row: receiver, column: sender; into recv[row] */
} emb_all_to_all;

typedef struct emb_backend {
    /* these two stay where they are for ever */
    uint32_t abi;             /* EMB_BACKEND_ABI */
    uint32_t library_version; /* EMBED_VERSION it was built from */
    const char *name;         /* "cuda", "emulated" */
    void *self;               /* first argument of the calls that have no object yet */
    size_t guard_bytes;       /* to be left free around each region of an arena */

    /* Devices, usable or not. EMB_DEVICE_UNAVAILABLE with the reason where there is no driver. */
    int (*count)(void *self, int32_t *devices, emb_device_error *err);
    int (*describe)(void *self, int32_t device, emb_device_facts *facts, emb_device_error *err);
    /* Opens the library of the feature if that was not tried before. */
    int (*feature)(void *self, int32_t feature, emb_feature *out, emb_device_error *err);

    /* The allocator is copied; it must outlive the device and be thread-safe. */
    int (*open)(void *self, int32_t device, const embed_allocator *allocator, emb_be_device **out,
                emb_device_error *err);
    void (*close)(emb_be_device *device); /* after all its objects */

    int (*alloc)(emb_be_device *d, size_t bytes, emb_dptr *out, emb_device_error *err);
    void (*free)(emb_be_device *d, emb_dptr p);
    /* pinned: the only host memory that copies take */
    int (*host_alloc)(emb_be_device *d, size_t bytes, void **out, emb_device_error *err);
    void (*host_free)(emb_be_device *d, void *p);
    /* Let kernels read a read-only host mapping; page-aligned. */
    int (*host_map)(emb_be_device *d, const void *host, size_t bytes, emb_dptr *out,
                    emb_device_error *err);
    void (*host_unmap)(emb_be_device *d, const void *host);
    /* EMB_DEVICE_REFUSED, with what it is instead, unless kernels of this device may write the
     * caller's memory there and it lies on this device, as far as that can be known. */
    int (*memory_check)(emb_be_device *d, emb_dptr at, size_t bytes, emb_device_error *err);

    int (*stream_create)(emb_be_device *d, emb_be_stream **out, emb_device_error *err);
    /* Around a stream of the caller's, which is not freed. EMB_DEVICE_REFUSED if it is being
     * captured, or is of another device or context than those of this one. */
    int (*stream_adopt)(emb_be_device *d, void *native, emb_be_stream **out, emb_device_error *err);
    void (*stream_free)(emb_be_stream *s);
    int (*stream_sync)(emb_be_stream *s, emb_device_error *err);
    int (*event_create)(emb_be_device *d, int32_t timing, emb_be_event **out,
                        emb_device_error *err);
    void (*event_free)(emb_be_event *e);
    int (*event_record)(emb_be_event *e, emb_be_stream *s, emb_device_error *err);
    int (*event_query)(emb_be_event *e, emb_device_error *err);
    int (*event_sync)(emb_be_event *e, emb_device_error *err);
    int (*event_elapsed)(emb_be_event *from, emb_be_event *to, float *ms, emb_device_error *err);
    /* Work enqueued from now on waits for the latest record of the event; of any device. */
    int (*stream_wait)(emb_be_stream *s, emb_be_event *e, emb_device_error *err);

    int (*copy_in)(emb_be_stream *s, emb_dptr to, const void *pinned, size_t bytes,
                   emb_device_error *err);
    int (*copy_out)(emb_be_stream *s, void *pinned, emb_dptr from, size_t bytes,
                    emb_device_error *err);
    int (*copy)(emb_be_stream *s, emb_dptr to, emb_dptr from, size_t bytes, emb_device_error *err);
    int (*set)(emb_be_stream *s, emb_dptr to, int32_t byte, size_t bytes, emb_device_error *err);

    int (*kernel_find)(emb_be_device *d, const char *name, const emb_be_kernel **out,
                       emb_device_error *err);
    int (*launch)(emb_be_stream *s, const emb_be_kernel *k, const emb_launch *launch,
                  emb_device_error *err);

    /* An operation with its own choice of kernels, grids and tiles. */
    int (*op_find)(emb_be_device *d, const char *name, const emb_be_op **out,
                   emb_device_error *err);
    int (*op_run)(emb_be_stream *s, const emb_be_op *op, const void *args, size_t arg_bytes,
                  emb_device_error *err);

    /* Between the two calls, work enqueued on the stream, and on streams that wait for events of
     * it, is recorded instead of run. A graph keeps the addresses and arguments it was made with.
     */
    int (*capture_begin)(emb_be_stream *s, emb_device_error *err);
    int (*capture_end)(emb_be_stream *s, emb_be_graph **out, emb_graph_info *info,
                       emb_device_error *err);
    int (*graph_launch)(emb_be_graph *g, emb_be_stream *s, emb_device_error *err);
    void (*graph_free)(emb_be_graph *g); /* may be NULL */

    int (*gemm_create)(emb_be_device *d, const emb_gemm_spec *spec, emb_be_gemm **out,
                       emb_gemm_facts *facts, emb_device_error *err);
    void (*gemm_free)(emb_be_gemm *g);
    int (*gemm_run)(emb_be_gemm *g, emb_be_stream *s, const emb_gemm_args *args,
                    emb_device_error *err);

    /* As gemm_*, by cuDNN. Not while the stream is captured. */
    int (*attention_create)(emb_be_device *d, const emb_attention_spec *spec,
                            emb_be_attention **out, emb_attention_facts *facts,
                            emb_device_error *err);
    void (*attention_free)(emb_be_attention *a);
    int (*attention_run)(emb_be_attention *a, emb_be_stream *s, const emb_attention_args *args,
                         emb_device_error *err);

    int (*comm_create)(emb_be_device *const *devices, int32_t n, emb_be_comm **out,
                       emb_device_error *err);
    void (*comm_free)(emb_be_comm *c);
    int (*broadcast)(emb_be_comm *c, emb_be_stream *const *streams, const emb_dptr *buffers,
                     size_t bytes, int32_t root, emb_device_error *err);
    /* recv[r] gets the `bytes` of every rank, in the order of ranks. */
    int (*all_gather)(emb_be_comm *c, emb_be_stream *const *streams, const emb_dptr *send,
                      const emb_dptr *recv, size_t bytes, emb_device_error *err);
    int (*all_to_all)(emb_be_comm *c, emb_be_stream *const *streams, const emb_all_to_all *args,
                      emb_device_error *err);

    /* NULL unless the implementation watches memory: from here on, in the order of the stream, the
     * range holds nothing yet and nobody touches guard_bytes on either side of it. */
    int (*region_begin)(emb_be_stream *s, emb_dptr at, size_t bytes, const char *name,
                        emb_device_error *err);
} emb_backend;

/* abi: of the caller, EMB_BACKEND_ABI. Never NULL: a module that knows another number returns its
 * table all the same, so that the caller can name both. The table lives as long as the module. */
typedef const emb_backend *(*emb_backend_entry)(uint32_t abi);

#endif
