/* context: everything that encoding needs besides the model, allocated when it is made: threads,
 * kernel scratch, the arena of a batch, the window of texts in work, tokenizer scratch. */
#ifndef EMB_MODEL_CONTEXT_H
#define EMB_MODEL_CONTEXT_H

#include <pthread.h>
#include <stdatomic.h>

#include "model/forward.h"
#include "model/ngram_stage.h"

/* The first failure of a worker thread, brought to the thread that called. */
typedef struct emb_text_fault {
    embed_status status; /* EMBED_OK: none */
    size_t index;        /* of the text */
    char message[512];
} emb_text_fault;

struct embed_context {
    emb_env env;
    embed_model *model;
    emb_forward forward;
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
};

/* table: retained; NULL for none. It has been checked against the model. */
embed_status emb_context_create(embed_context **out, embed_model *model, embed_table *table,
                                int32_t threads, int32_t batch_tokens);
void emb_context_free(embed_context *ctx);

/* Around each call that encodes: the table it finds stays its table. */
void emb_context_begin(embed_context *ctx);
void emb_context_end(embed_context *ctx);
/* Any thread, at any time but during creation and free. On failure the old table stays. */
embed_status emb_context_set_table(embed_context *ctx, embed_table *table);

/* Room for a batch of `tokens`; on failure the context is as before. */
embed_status emb_context_reserve(embed_context *ctx, int64_t tokens);

/* Bytes of a context with this plan and table (or NULL), tokenizer scratch apart; and of one that
 * exists, all told. */
embed_status emb_context_plan_bytes(const emb_plan *plan, const embed_model *model,
                                    embed_table *table, uint64_t *bytes);
uint64_t emb_context_bytes(embed_context *ctx);

#endif
