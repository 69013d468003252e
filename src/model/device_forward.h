/* device_forward: the whole way of a batch through the encoder on a device: src/device/README.md,
 * "The forward pass on a device". The host packs a batch into pinned memory, enqueues one copy in
 * (and one of n-gram rows), all kernels and one copy out, and returns; it waits only when it wants
 * the vectors. Two batches may be under way.
 *
 * Error against the CPU back end in f32, of a vector of unit length: 2e-5 (sums run in another
 * order; measured 1e-6 on small checkpoints). The bits of a text do not depend on what else is in
 * the batch, on the bucket the batch falls into, on whether it runs from a graph, nor on the order
 * in which streams run: our kernels split no sum, and a tile's size does not show in its elements.
 * What runs by a library (device_products) has the same bits within one bucket only.
 *
 * Not used: programmatic dependent launch (sm_90 on), by which a kernel starts while the one before
 * drains. It takes a wait in every kernel ahead of its first read and an attribute at every launch;
 * what it would gain behind graphs is still to be measured. One thread at a time. */
#ifndef EMB_MODEL_DEVICE_FORWARD_H
#define EMB_MODEL_DEVICE_FORWARD_H

#include "device/arena.h"
#include "model/batch_slot.h"
#include "model/device_graphs.h"
#include "model/device_home.h"
#include "model/device_output.h"
#include "model/device_attention.h"
#include "model/device_products.h"
#include "model/device_row_floats.h"
#include "model/device_rows.h"
#include "model/pooling.h"

/* Regions of the arena; src/device/README.md says what they hold. */
typedef enum emb_device_region {
    EMB_AT_X,
    EMB_AT_LAST, /* x of the pooled tokens only */
    EMB_AT_QKV,
    EMB_AT_HEADS,
    EMB_AT_UPDATE, /* of attention */
    EMB_AT_INNER,
    EMB_AT_DOWN, /* of a dense layer */
    EMB_AT_EXPERT_OUT,
    EMB_AT_LOGITS,
    EMB_AT_GATE,
    EMB_AT_EXPERT,
    EMB_AT_SLOT,
    EMB_AT_ROWS,
    EMB_AT_OFFSET,
    EMB_AT_SCRATCH,
    EMB_AT_VECTORS,
    EMB_AT_VECTORS2,
    EMB_AT_REGIONS
} emb_device_region;

typedef enum emb_device_op {
    EMB_OP_LOOKUP,
    EMB_OP_ATTENTION,
    EMB_OP_LAYERNORM,
    EMB_OP_ROUTER,
    EMB_OP_COMBINE,
    EMB_OP_POOL,
    EMB_OP_QUANTIZE,
    EMB_OPS
} emb_device_op;

/* What the header of a batch says, int32 each; kernels take the address of one as `count`. */
enum { EMB_HEADER_TOKENS, EMB_HEADER_TEXTS, EMB_HEADER_LONGEST, EMB_HEADER_WORDS = 8 };

/* Byte offsets of what one copy brings in, for batches of up to `tokens` and `texts`: int32 header,
 * offsets [texts + 1], skip [texts], the pooled token of each text [texts] (where CLS or the last
 * is), uint64 place of each text in the call [texts], ids [tokens], positions [tokens]; and, copied
 * with a table only, uint64 row addresses [tokens] and their factors f32 [tokens]. */
typedef struct emb_device_layout {
    int64_t tokens, texts;
    size_t header, offsets, skip, last, index, ids, positions, pointers, scales, bytes;
} emb_device_layout;

emb_device_layout emb_device_layout_make(int64_t tokens, int64_t texts);

/* Bytes of everything for batches of `tokens`, known before anything runs. */
typedef struct emb_device_plan {
    int64_t tokens, texts, width; /* capacity; widest vector */
    emb_arena_region regions[EMB_AT_REGIONS];
    size_t arena_bytes; /* without guards */
    size_t in_bytes;    /* of the layout */
    size_t out_bytes;
    size_t count_bytes;                  /* expert statistics */
    uint64_t device_bytes, pinned_bytes; /* in all, without rows */
    uint64_t host_bytes;                 /* not pinned */
} emb_device_plan;

/* 1: pooling reads one token of each text, so that behind the last attention the others need not be
 * computed. */
int emb_device_plan_one_token(const embed_model *model);
/* The largest batch that the operations take. */
int64_t emb_device_plan_most_tokens(const embed_model *model);
/* Errors  _UNSUPPORTED: beyond the limits of an operation; _NOMEM */
embed_status emb_device_plan_make(emb_device_plan *plan, const embed_model *model, int32_t dtype,
                                  int64_t tokens);

/* One batch under way: pinned memory and its copy on the device, at fixed addresses. */
typedef struct emb_device_set {
    unsigned char *in, *out; /* pinned */
    emb_dptr in_at, out_at;
    emb_device_rows *rows; /* of the batch's table; NULL: none, or as floats: */
    emb_device_row_floats floats;
    emb_device_row_events row_events;
    emb_event *arrived, *finished, *back;
    emb_slot_text *texts; /* [plan.texts] */
    int64_t n_texts, tokens;
    /* What launches are made for: the batch itself or, with `counted`, its bucket, and kernels read
     * from the header how much of it is there. */
    emb_device_layout at;
    int32_t counted;
    const emb_attention_bucket *attention; /* of a library; NULL: our own kernel */
    int64_t longest;
    int32_t dim, with_skip;
    /* Of the table: the same for all batches with it, so that they can be part of a graph's key. */
    int32_t has_rows, add_rows, rows_dtype;
    emb_pooling_options pooling;
} emb_device_set;

/* emb_device_forward.graphs_mode */
enum {
    EMB_GRAPHS_OFF,    /* every batch is launched operation by operation, as it is */
    EMB_GRAPHS_ON,     /* buckets; from a bucket's second batch on a graph */
    EMB_GRAPHS_AT_ONCE /* from the first (where nothing is loaded at a first launch) */
};

typedef struct emb_device_forward {
    emb_env env;
    const embed_model *model;
    const emb_device_weights *weights;
    emb_device *device; /* a handle of its own */
    const emb_be_op *ops[EMB_OPS];
    emb_device_products products;
    emb_device_attention attention;
    emb_stream *copy_in, *main, *copy_out;
    emb_device_plan plan; /* tokens 0: no room, see emb_device_forward_reserve */
    int64_t room_tokens;  /* that there was room for */
    emb_arena arena;
    emb_device_set sets[EMB_DEVICE_SETS];
    int32_t first, pending; /* under way: sets[first] and the next */
    int32_t unsettled;      /* 1: a failed call may have left work that runs */
    int32_t graphs_mode;
    emb_graphs graphs;
    emb_dptr counts;          /* [moe_layers, experts] u64, then f64 */
    void *counts_host;        /* pinned */
    emb_device_output output; /* of the call */
    float *ranges;            /* [2, dim] pinned, and on the device */
    emb_dptr ranges_at;
    float *states;         /* [plan.tokens, hidden] pinned; made when first asked for */
    int64_t states_tokens; /* room in it */
    /* In place of emb_device_layers_run for hidden states, where not NULL. */
    embed_status (*run)(void *user, emb_device_set *set);
    void *run_user;
} emb_device_forward;

/* dtype: of matrices and hidden states, EMBED_F32, EMBED_F16 or EMBED_BF16. The backend must
 * outlive the model.
 * Errors  _NOMEM, _DEVICE, _UNSUPPORTED */
embed_status emb_device_forward_create(emb_device_forward **out, embed_model *model,
                                       const emb_backend *backend, int32_t index, int32_t dtype,
                                       int64_t tokens);
/* On the device of these weights, which are the model's. */
embed_status emb_device_forward_create_at(emb_device_forward **out, embed_model *model,
                                          const emb_device_home *home, int64_t tokens);
/* Before the first batch: EMBED_NO_GRAPHS, EMBED_TF32. */
void emb_device_forward_allow(emb_device_forward *f, uint32_t flags);
void emb_device_forward_free(emb_device_forward *f); /* waits for what runs; NULL is a no-op */

/* Room for a batch of `tokens`; nothing may be under way. On failure all is as before, or, where
 * the device was too small for the old room beside the new, the old one is made again by the next
 * call.
 * Errors  _NOMEM, with both numbers; _DEVICE */
embed_status emb_device_forward_reserve(emb_device_forward *f, int64_t tokens);
/* A call starts, and statistics at zero. output NULL: a call for states. */
embed_status emb_device_forward_begin(emb_device_forward *f, const emb_device_output *output);
/* Enqueue a batch; fewer than EMB_DEVICE_SETS may be under way. The slot is free on return. */
embed_status emb_device_forward_submit(emb_device_forward *f, const emb_slot *slot,
                                       const emb_pooling_options *options);
/* The same in two halves, between which the caller enqueues the layers: *set is on its way to the
 * device, with launches made for it as it is; its vectors are on their way back. */
embed_status emb_device_forward_stage(emb_device_forward *f, const emb_slot *slot,
                                      const emb_pooling_options *options, emb_device_set **set);
embed_status emb_device_forward_return(emb_device_forward *f, emb_device_set *set);
/* Wait for the oldest batch. *set: its texts, n_texts, tokens, dim and `out`, rows of the output's
 * type [n_texts, dim] unless they stayed on the device, until the next but one is submitted. */
embed_status emb_device_forward_collect(emb_device_forward *f, const emb_device_set **set);
/* Hidden states of a batch, [tokens, hidden] f32, until the next call. Nothing under way. */
embed_status emb_device_forward_states(emb_device_forward *f, const emb_slot *slot,
                                       const float **states);
/* Read the statistics since _begin: one copy. */
embed_status emb_device_forward_counts(emb_device_forward *f, uint64_t *tokens, double *gate_sum);
/* Device and pinned memory, weights apart. */
uint64_t emb_device_forward_bytes(const emb_device_forward *f);
/* Waits for what is under way and forgets it. */
void emb_device_forward_drop(emb_device_forward *f);

/* device_layers.c: before a batch of so many tokens, and before any capture of it, decide how its
 * products run if that is not known yet; then the host waits. */
embed_status emb_device_layers_prepare(emb_device_forward *f, int64_t tokens);
/* Fill the arena with numbers: for trials, and since a library reads all rows of a bucket, also
 * those that no batch has written yet. */
embed_status emb_device_layers_fill(const emb_device_forward *f);
/* Enqueue the kernels of a batch on the main stream. Nothing but kernels and sets, so that it can
 * be captured. All of it, up to the vectors in the arena: */
embed_status emb_device_layers_embed(emb_device_forward *f, const emb_device_set *set);
/* Up to the hidden states of all tokens in EMB_AT_X, and from there to the vectors. */
embed_status emb_device_layers_run(emb_device_forward *f, const emb_device_set *set);
embed_status emb_device_layers_pool(emb_device_forward *f, const emb_device_set *set);
/* The parts of _run: the lookup; then of each layer attention with its norm, which in a layer of
 * experts makes the router's logits, and what follows; moe: number of the layer of experts. */
embed_status emb_device_layers_lookup(emb_device_forward *f, const emb_device_set *set);
embed_status emb_device_layers_mix(emb_device_forward *f, const emb_device_set *set, int32_t layer);
embed_status emb_device_layers_feed(emb_device_forward *f, const emb_device_set *set, int32_t layer,
                                    int32_t moe);
/* Where one token of each text is pooled (emb_device_plan_one_token): the last layer, of which only
 * that is computed, and the vectors; `moe`: layers of experts before it. */
embed_status emb_device_layers_end(emb_device_forward *f, const emb_device_set *set, int32_t moe);
/* The ends of _feed in a layer of experts: the choices of all tokens; and from the experts' outputs
 * at o [], of which those of a token are at its slots [top_k], to the hidden states. */
embed_status emb_device_layers_route(emb_device_forward *f, const emb_device_set *set, int32_t moe);
embed_status emb_device_layers_combine(emb_device_forward *f, const emb_device_set *set,
                                       int32_t layer, const void *o, const int32_t *slot);

#endif
