/* context: everything that encoding needs besides the model, allocated when it is made: threads,
 * kernel scratch, the arena of a batch, the window of texts in work, tokenizer scratch. */
#ifndef EMB_MODEL_CONTEXT_H
#define EMB_MODEL_CONTEXT_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "device/backend.h"
#include "model/forward.h"
#include "model/ngram_stage.h"

#define EMB_LEAST_BATCH_TOKENS 64

struct emb_device_forward;
struct emb_device_group;
struct emb_runner;

/* A batch that came out. */
typedef struct emb_result {
    const emb_slot_text *texts; /* [n_texts] */
    int64_t n_texts, tokens;
    const unsigned char *rows; /* [n_texts] in the type of the output, or NULL: to be made from */
    const float *vectors;      /* [n_texts] rows of which the first dim floats count */
    int64_t stride;            /* floats from row to row */
} emb_result;

/* Where a context encodes; backend NULL: on the CPU. */
typedef struct emb_place {
    const emb_backend *backend; /* outlives the model */
    int32_t index;              /* of the device */
    int32_t dtype;              /* of matrices and hidden states there */
    uint32_t flags;             /* EMBED_NO_GRAPHS, EMBED_TF32 */
    int32_t products;           /* embed_device_products */
} emb_place;

/* The same for several devices of one backend. */
typedef struct emb_places {
    emb_place place;
    int32_t n;           /* 0: place.index alone; else these */
    int32_t placement;   /* embed_placement */
    int32_t table_place; /* embed_table_place */
    int32_t reserved;
    uint64_t cache_bytes; /* device memory for rows of tables; 0: chosen */
    int32_t devices[EMB_MAX_RANKS];
} emb_places;

/* The first failure of a worker thread, brought to the thread that called. */
typedef struct emb_text_fault {
    embed_status status; /* EMBED_OK: none */
    size_t index;        /* of the text */
    char message[512];
} emb_text_fault;

/* Calls in the background: model/async. */
typedef struct emb_background {
    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t wake;
    pthread_t thread;
    int32_t started, stop, active; /* active: it has the context */
    embed_pending *first, *last;   /* that wait for their turn */
    embed_pending *running;
} emb_background;

struct embed_context {
    emb_env env;
    embed_model *model;
    emb_forward forward;               /* on a device: its plan and counts only */
    struct emb_device_forward *device; /* NULL: the CPU, or */
    struct emb_device_group *group;    /* several devices */
    const struct emb_runner *runner;
    emb_result result;            /* of the CPU's last batch */
    atomic_flag busy;             /* a call is running */
    int32_t *ids;                 /* [plan.window_tokens] */
    emb_item *items;              /* [plan.window_texts] */
    uint64_t *order;              /* [plan.window_texts] */
    emb_tok_scratch **tokenizers; /* [threads] */
    emb_text_fault *faults;       /* [threads] */
    pthread_mutex_t mutex;        /* guards the next three against emb_context_set_table */
    emb_stage *stage;             /* what calls work with; fixed while one runs */
    emb_stage *next;              /* takes its place when the running call ends; or NULL */
    int32_t running;
    int32_t batch_tokens; /* as in forward.plan, which changes while a call runs; this does not */
    emb_ngram_stats table_stats; /* of the last call */
    emb_background background;
    emb_device_rows_spec rows; /* where rows of tables go; backend NULL: they stay on the host */
    int32_t counts_due;        /* 1: the last call's statistics have not been brought here yet */
    pid_t pid;                 /* the process that made it and has its threads */
};

/* table: retained; NULL for none. It has been checked against the model. place NULL: the CPU. A
 * device with too little memory gets half the batch, and half of that, down to
 * EMB_LEAST_BATCH_TOKENS. */
embed_status emb_context_create(embed_context **out, embed_model *model, embed_table *table,
                                int32_t threads, int32_t batch_tokens, const emb_place *place);
embed_status emb_context_create_on(embed_context **out, embed_model *model, embed_table *table,
                                   int32_t threads, int32_t batch_tokens, const emb_places *places);
void emb_context_free(embed_context *ctx);

/* Refuses a child of fork(), which would wait for threads that it does not have. */
embed_status emb_context_check_process(const embed_context *ctx);

/* Around each call that encodes: the table it finds stays its table. */
void emb_context_begin(embed_context *ctx);
void emb_context_end(embed_context *ctx);
/* Any thread, at any time but during creation and free. On failure the old table stays. */
embed_status emb_context_set_table(embed_context *ctx, embed_table *table);

/* Room for a batch of `tokens`; on failure the context is as before. */
embed_status emb_context_reserve(embed_context *ctx, int64_t tokens);

/* The plan of a context: on a device without the arena and the kernels' scratch. */
embed_status emb_context_plan(emb_plan *plan, const embed_model *model, int32_t threads,
                              int32_t batch_tokens, const emb_place *place);
/* Bytes of a context with this plan and table (or NULL), tokenizer scratch apart; and of one that
 * exists, all told. */
embed_status emb_context_plan_bytes(const emb_plan *plan, const embed_model *model,
                                    embed_table *table, const emb_device_rows_spec *rows,
                                    uint64_t *bytes);
/* What of it says where rows of tables go; backend NULL: nowhere. */
emb_device_rows_spec emb_places_rows(const emb_places *places);
uint64_t emb_context_bytes(embed_context *ctx);

#endif
