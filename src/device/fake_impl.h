/* fake_impl: what the files of the fake device share. Functions that run with the lock held start
 * with emb_fake_; those of the backend's table take it through fake_enter. */
#ifndef EMB_DEVICE_FAKE_IMPL_H
#define EMB_DEVICE_FAKE_IMPL_H

#include <pthread.h>

#include "device/fake_device.h"

#define FAKE_REGIONS 256
#define FAKE_DEPS 16

typedef struct fake_region {
    uint64_t at;
    size_t bytes;
    const char *name;
} fake_region;

/* One allocation: [page without access][front][body][back][page without access]; front and back
 * hold the guard pattern. */
typedef struct fake_block {
    struct fake_block *next;
    unsigned char *map;
    size_t map_bytes;
    unsigned char *body;
    size_t bytes;
    size_t n_regions;
    fake_region regions[FAKE_REGIONS];
} fake_block;

/* Host memory known to the device: pinned by us, or a mapping of the caller's. */
typedef struct fake_host {
    struct fake_host *next;
    unsigned char *data;
    size_t bytes;
    int pinned;
} fake_host;

typedef enum fake_kind {
    FAKE_COPY_IN,
    FAKE_COPY_OUT,
    FAKE_COPY,
    FAKE_SET,
    FAKE_KERNEL,
    FAKE_JOB,
    FAKE_GEMM,
    FAKE_ATTENTION,
    FAKE_REGION,
    FAKE_RECORD,
    FAKE_WAIT,
    FAKE_GRAPH,
    FAKE_MEETING
} fake_kind;

/* A collective: runs when all ranks have come to it. */
typedef struct fake_meeting {
    emb_env env;               /* of its maker */
    int refs, aborted, moved;  /* moved: by the first that ran, while all were there */
    int32_t ranks, root, kind; /* 0 broadcast, 1 all-gather, 2 all-to-all */
    size_t bytes;
    emb_be_stream *streams[EMB_MAX_RANKS];
    emb_dptr send[EMB_MAX_RANKS], recv[EMB_MAX_RANKS];
    size_t *sizes; /* [3, ranks, ranks] of an all-to-all */
} fake_meeting;

typedef struct fake_op {
    struct fake_op *next;
    fake_kind kind;
    uint64_t to, from;
    void *host;
    size_t bytes;
    int32_t byte;
    const char *name;
    const emb_kernel_entry *kernel;
    emb_launch launch;
    emb_be_gemm *gemm;
    emb_gemm_args gemm_args;
    emb_attention_spec attention;
    emb_attention_args attention_args;
    emb_be_event *event;
    uint64_t generation;
    emb_be_graph *graph;
    fake_meeting *meeting;
    uint32_t deps[FAKE_DEPS]; /* of a node in a graph: earlier nodes */
    uint32_t n_deps;
    size_t n_extra; /* bytes behind the struct: arguments of a kernel, or nodes done */
    _Alignas(64) unsigned char extra[]; /* aligned for any argument struct */
} fake_op;

struct emb_be_event {
    emb_fake *fake;
    emb_env env;
    emb_be_device *device;
    uint64_t asked, done;             /* records enqueued and run */
    double ms;                        /* of the last one that ran */
    int refs;                         /* the handle and waiting operations */
    emb_be_graph *capture;            /* recorded in this capture, */
    uint32_t deps[FAKE_DEPS], n_deps; /* after these nodes */
};

struct emb_be_stream {
    emb_be_stream *next; /* all streams */
    emb_fake *fake;
    emb_be_device *device;
    fake_op *head, **tail;
    emb_be_graph *capture;
    uint32_t deps[FAKE_DEPS], n_deps; /* last nodes in it */
    int adopted;                      /* times, beside its maker's handle */
};

struct emb_be_graph {
    emb_fake *fake;
    emb_be_device *device;
    emb_be_stream *origin;
    fake_op **nodes;
    size_t n, capacity;
    int refs;         /* the handle, queued launches, events recorded in the capture */
    char broken[256]; /* what ended the capture */
    emb_graph_info info;
};

struct emb_be_gemm {
    emb_be_device *device;
    emb_gemm_spec spec;
    int refs;
    float *x, *w; /* [m, k], [k] */
};

struct emb_be_attention {
    emb_be_device *device;
    emb_attention_spec spec;
};

struct emb_be_comm {
    emb_fake *fake;
    emb_env env;
    int32_t ranks;
    emb_be_device *devices[EMB_MAX_RANKS];
};

struct emb_be_device {
    emb_be_device *next; /* all that are open */
    emb_fake *fake;
    emb_env env;
    int32_t index;
    int lost; /* an emb_device_code */
    char lost_text[512];
    fake_block *blocks;
    fake_host *hosts;
    emb_be_graph *capture; /* in progress */
    double ms;             /* taken by what ran */
};

struct emb_fake {
    emb_env env;
    emb_backend table;
    emb_fake_params params;
    _Atomic int64_t pid; /* that first asked for a device; 0: none yet */
    pthread_mutex_t lock;
    uint64_t random;
    emb_be_device *devices;
    emb_be_stream *streams, *favourite;
    int exposed; /* device memory can be touched */
    uint64_t in_use, peak;
    long live, calls[EMB_FAKE_CALLS], fail_at[EMB_FAKE_CALLS];
    int fail_code[EMB_FAKE_CALLS];
    char fault[512];
};

int emb_fake_error(emb_device_error *err, int code, const char *fmt, ...) EMB_PRINTF(3, 4);
uint32_t emb_fake_random(emb_fake *f, uint32_t below);
/* Take the lock, count the call; the code of an injected failure, of a lost device, or 0.
 * emb_fake_leave gives the lock back and returns `code`, or the fault if there is one by now. */
int emb_fake_enter(emb_fake *f, emb_be_device *d, emb_fake_call call, emb_device_error *err);
int emb_fake_leave(emb_fake *f, int code);
/* The same with the lock held. */
int emb_fake_call_counted(emb_fake *f, emb_be_device *d, emb_fake_call call, emb_device_error *err);
/* The device cannot be used any more: its queues are dropped. */
void emb_fake_lose(emb_be_device *d, int code, const char *fmt, ...) EMB_PRINTF(3, 4);
/* A bug of the caller: remembered, and the device is lost. */
void emb_fake_raise(emb_be_device *d, const char *fmt, ...) EMB_PRINTF(2, 3);
int emb_fake_lost(const emb_be_device *d, emb_device_error *err);

/* fake_memory.c */
int emb_fake_memory_alloc(emb_be_device *d, size_t bytes, emb_dptr *out, emb_device_error *err);
int emb_fake_host_alloc(emb_be_device *d, size_t bytes, void **out, emb_device_error *err);
int emb_fake_host_map(emb_be_device *d, const void *host, size_t bytes, emb_dptr *out,
                      emb_device_error *err);
int emb_fake_memory_check_caller(emb_be_device *d, emb_dptr at, size_t bytes,
                                 emb_device_error *err);
void emb_fake_memory_free(emb_be_device *d, emb_dptr p);
void emb_fake_host_drop(emb_be_device *d, const void *p, int pinned);
void emb_fake_memory_close(emb_be_device *d);
void emb_fake_memory_expose(emb_fake *f, int on);
/* Device memory of bytes at `at`, inside one allocation and, if that has regions, inside one of
 * them; else a fault, and NULL. */
unsigned char *emb_fake_memory_range(emb_be_device *d, uint64_t at, size_t bytes, int write,
                                     const char *what);
int emb_fake_host_is_pinned(const emb_be_device *d, const void *p, size_t bytes);
void emb_fake_memory_begin_region(emb_be_device *d, uint64_t at, size_t bytes, const char *name);
/* The zones around allocations and regions; `what` has just run. */
void emb_fake_memory_check(emb_be_device *d, const char *what);
void emb_fake_memory_poison(unsigned char *p, size_t bytes);
int emb_fake_memory_find_poison(const unsigned char *p, size_t bytes, size_t *at);

/* fake_queue.c */
fake_op *emb_fake_op_new(emb_be_device *d, fake_kind kind, size_t extra, emb_device_error *err);
void emb_fake_op_free(emb_be_device *d, fake_op *op);
/* Enqueue, or record if the stream is captured; takes the op in any case. */
int emb_fake_enqueue(emb_be_stream *s, fake_op *op, emb_device_error *err);
void emb_fake_drop_queue(emb_be_stream *s);
void emb_fake_event_unref(emb_be_event *e);
/* One operation of some stream. 0: nothing can run. */
int emb_fake_step(emb_fake *f);
void emb_fake_run_some(emb_fake *f);
int emb_fake_drain(emb_be_stream *s, emb_device_error *err);

/* fake_attention.c */
void emb_fake_attention_run(emb_be_device *d, const fake_op *op);

/* fake_exec.c: run it; faults lose the device. */
void emb_fake_execute(emb_be_device *d, fake_op *op);

/* fake_graph.c */
int emb_fake_capture_add(emb_be_stream *s, fake_op *op, emb_device_error *err);
void emb_fake_capture_break(emb_be_device *d, const char *what);
void emb_fake_capture_record(emb_be_event *e, emb_be_stream *s);
int emb_fake_capture_wait(emb_be_stream *s, emb_be_event *e, emb_device_error *err);
/* A stream in a capture is freed; if the capture began there, it is over. */
void emb_fake_capture_abandon(emb_be_stream *s);
/* Runs one node of a launched graph; 1 if that was the last. */
int emb_fake_graph_step(emb_be_device *d, fake_op *op);
void emb_fake_graph_unref(emb_be_graph *g);

/* fake_collective.c */
void emb_fake_meeting_unref(fake_meeting *m);
/* The head of this device's stream may be run: the last rank to do so moves the data, and until
 * then nobody goes on. */
int emb_fake_meeting_ready(const emb_be_device *d, const fake_meeting *m);
void emb_fake_meeting_run(emb_be_device *d, fake_meeting *m);

/* The entries of the table, by file. */
void emb_fake_fill_queue(emb_backend *t);
void emb_fake_fill_work(emb_backend *t);
void emb_fake_fill_graph(emb_backend *t);
void emb_fake_fill_attention(emb_backend *t);
void emb_fake_fill_collective(emb_backend *t);

#endif
