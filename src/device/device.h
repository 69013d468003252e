/* device: one accelerator and what lives on it, whatever implements it (backend.h). This is the
 * interface that the rest of the library uses; it turns the codes of the implementation into a
 * status and a message, and holds the rules that are the same for all:
 *   - A device that failed for good is dead: every further call on it or on anything of it returns
 *     EMBED_ERR_DEVICE at once with the first failure's message. Freeing still works.
 *   - A child of fork() gets EMBED_ERR_DEVICE; nothing is freed there.
 *   - Out of device memory is EMBED_ERR_NOMEM and leaves the device usable.
 * A device may be used by several threads, each with streams, events and graphs of its own, but
 * only one of them may capture at a time: contexts open a handle each. Handles of one device share
 * its memory, so that weights can belong to the model's. Objects
 * must be freed before their device. All free functions take NULL. */
#ifndef EMB_DEVICE_DEVICE_H
#define EMB_DEVICE_DEVICE_H

#include "base/alloc.h"
#include "device/backend.h"

typedef struct emb_device emb_device;
typedef struct emb_stream emb_stream;
typedef struct emb_event emb_event;
typedef struct emb_graph emb_graph;
typedef struct emb_gemm_plan emb_gemm_plan;
typedef struct emb_attention_plan emb_attention_plan;

/* The backend must outlive the device. */
embed_status emb_device_open(emb_device **out, const emb_env *env, const emb_backend *backend,
                             int32_t index);
void emb_device_close(emb_device *d);
int emb_device_alive(const emb_device *d);
const char *emb_device_name(const emb_device *d); /* such as "cuda:0" */
/* The table that drives it: to tell devices apart, not to be called. */
const emb_backend *emb_device_table(const emb_device *d);
/* As it was when the handle was opened. */
const emb_device_facts *emb_device_facts_of(const emb_device *d);
/* Is the library there; opens it when first asked. Absent ones have a reason and are no failure. */
embed_status emb_device_feature(emb_device *d, emb_feature_id id, emb_feature *out);
size_t emb_device_guard_bytes(const emb_device *d);
const emb_env *emb_device_env(const emb_device *d);
/* EMBED_OK, or why nothing can be done: dead, or in a child process. */
embed_status emb_device_check(const emb_device *d);

/* Device memory, aligned to EMB_DEVICE_ALIGN; contents undefined. Synchronises where the driver
 * does: only when models and contexts are made and freed. */
embed_status emb_device_alloc(emb_device *d, size_t bytes, emb_dptr *out);
void emb_device_free(emb_device *d, emb_dptr p);
/* Pinned host memory: the only host memory that copies take. */
embed_status emb_device_host_alloc(emb_device *d, size_t bytes, void **out);
void emb_device_host_free(emb_device *d, void *p);
/* Let kernels read a host mapping that stays until emb_device_host_unmap. */
embed_status emb_device_host_map(emb_device *d, const void *host, size_t bytes, emb_dptr *out);
void emb_device_host_unmap(emb_device *d, const void *host);
/* EMBED_ERR_ARG unless that is memory of the caller's on this device. */
embed_status emb_device_memory_check(emb_device *d, emb_dptr at, size_t bytes);

embed_status emb_stream_create(emb_stream **out, emb_device *d);
/* Around a stream of the caller's. EMBED_ERR_ARG if it cannot be used, or is being captured. */
embed_status emb_stream_adopt(emb_stream **out, emb_device *d, void *native);
void emb_stream_free(emb_stream *s);
emb_device *emb_stream_device(const emb_stream *s);
embed_status
emb_stream_sync(emb_stream *s); /* blocks; failures of work enqueued before show here */

/* An event that was never recorded has happened. */
embed_status emb_event_create(emb_event **out, emb_device *d, int timing);
void emb_event_free(emb_event *e);
embed_status emb_event_record(emb_event *e, emb_stream *s);
embed_status emb_event_query(emb_event *e, int *done);
embed_status emb_event_sync(emb_event *e); /* blocks */
embed_status emb_event_elapsed(emb_event *from, emb_event *to, float *ms);
embed_status emb_stream_wait(emb_stream *s, emb_event *e);

/* Asynchronous; zero bytes are no work. The host memory belongs to the copy until an event or
 * synchronisation after it. */
embed_status emb_copy_in(emb_stream *s, emb_dptr to, const void *pinned, size_t bytes);
embed_status emb_copy_out(emb_stream *s, void *pinned, emb_dptr from, size_t bytes);
embed_status emb_copy_device(emb_stream *s, emb_dptr to, emb_dptr from, size_t bytes);
embed_status emb_set_device(emb_stream *s, emb_dptr to, int byte, size_t bytes);

/* EMBED_ERR_UNSUPPORTED if the implementation lacks it. Kernels live as long as the device. */
embed_status emb_kernel_find(emb_device *d, const char *name, const emb_be_kernel **out);
embed_status emb_kernel_launch(emb_stream *s, const emb_be_kernel *k, const emb_launch *launch);

/* An operation of kernels/<op>/<op>_cuda.h, named <op>, with its argument struct; it enqueues as
 * many kernels as it takes. Found and refused like a kernel. */
embed_status emb_op_find(emb_device *d, const char *name, const emb_be_op **out);
embed_status emb_op_run(emb_stream *s, const emb_be_op *op, const void *args, size_t arg_bytes);

embed_status emb_capture_begin(emb_stream *s);
/* Ends the capture in any case. A capture that held anything but kernels, sets and copies on the
 * device, or that the host waited in, fails with the call that broke it. info may be NULL. */
embed_status emb_capture_end(emb_stream *s, emb_graph **out, emb_graph_info *info);
/* Ends a capture in which a call failed with `st`, and gives that back, with its message. */
embed_status emb_capture_give_up(emb_stream *s, embed_status st);
embed_status emb_graph_launch(emb_graph *g, emb_stream *s);
void emb_graph_free(emb_graph *g);

/* A product planned once for its shape. EMBED_ERR_UNSUPPORTED without a library for it. */
embed_status emb_gemm_plan_create(emb_gemm_plan **out, emb_device *d, const emb_gemm_spec *spec);
void emb_gemm_plan_free(emb_gemm_plan *g);
const emb_gemm_facts *emb_gemm_plan_facts(const emb_gemm_plan *g);
embed_status emb_gemm_plan_run(emb_gemm_plan *g, emb_stream *s, const emb_gemm_args *args);

/* Attention planned once for a bucket of texts and lengths. The same errors. Not in a capture. */
embed_status emb_attention_plan_create(emb_attention_plan **out, emb_device *d,
                                       const emb_attention_spec *spec);
void emb_attention_plan_free(emb_attention_plan *a);
const emb_attention_facts *emb_attention_plan_facts(const emb_attention_plan *a);
embed_status emb_attention_plan_run(emb_attention_plan *a, emb_stream *s,
                                    const emb_attention_args *args);

/* For arena.h: see emb_backend.region_begin; no work where memory is not watched. */
embed_status emb_region_begin(emb_stream *s, emb_dptr at, size_t bytes, const char *name);

#endif
