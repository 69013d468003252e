/* ngram_stage: the last stop of batches before the encoder. Without a table one batch at a time
 * passes through. With one, a ring of slots holds batches whose rows are found and fetched by a
 * helper thread while an earlier batch is in the encoder. Three steps that stay apart, so that a
 * GPU copy stream can take over the last: find rows, bring bytes (both ngram/ngram_fetch.h), hand
 * them to the encoder (emb_stage_take).
 *
 * Owned by the thread whose call runs; only the helpers work beside it. The order of batches, and
 * so every result, is the same with and without helper. */
#ifndef EMB_MODEL_NGRAM_STAGE_H
#define EMB_MODEL_NGRAM_STAGE_H

#include "model/batch_slot.h"
#include "model/device_rows.h"
#include "ngram/ngram_fetch.h"

/* One in the encoder, one whose rows are there or on their way, one behind it: the disk has the
 * requests of the next batch while the rows of this one are decoded. */
#define EMB_STAGE_SLOTS 3
/* Threads that fetch; one where the CPU encodes, which has better use for the others. A device
 * takes millions of tokens a second, more than one thread finds and gathers rows for. */
#define EMB_STAGE_HELPERS 2

typedef struct emb_stage emb_stage;

/* table: retained; NULL for none. tokens: of a batch, slots grow for longer texts. device: where
 * rows go as they are stored (slot->carried); NULL: floats in memory (slot->batch.rows).
 * Errors  _NOMEM, _THREAD; those of emb_device_rows_create */
embed_status emb_stage_create(emb_stage **out, const emb_env *env, embed_table *table,
                              int64_t tokens, const emb_device_rows_spec *device);
void emb_stage_free(emb_stage *stage); /* none of its slots in flight; NULL is a no-op */

/* Bytes of a stage that is made so, found out by making one of its fetchers; and of one that
 * exists. The table's own are not counted. */
embed_status emb_stage_plan_bytes(const emb_env *env, embed_table *table, int64_t tokens,
                                  const emb_device_rows_spec *device, uint64_t *bytes);
uint64_t emb_stage_bytes(const emb_stage *stage);
/* Add to the totals of the stage's table, which there must be, and to *stats. */
void emb_stage_count(emb_stage *stage, const emb_ngram_stats *more, emb_ngram_stats *stats);
const embed_table *emb_stage_table(const emb_stage *stage); /* NULL: none */
int32_t emb_stage_place(const emb_stage *stage); /* embed_table_place; 0: not on a device */

int emb_stage_has_room(const emb_stage *stage); /* 0: all slots are in flight */
/* *slot: the next free one, with room for a batch of `tokens`, to be packed. */
embed_status emb_stage_vacant(emb_stage *stage, int64_t tokens, emb_slot **slot);
/* Its empty batch alone, with room for the tokens the stage was made for, for whoever packs and
 * runs a batch without submitting it. */
emb_batch emb_stage_batch(const emb_stage *stage);
/* That slot is packed: its turn comes after those before it. */
void emb_stage_submit(emb_stage *stage);
/* *slot: the oldest in flight (there must be one) with its rows in place. Waits for the helper,
 * or fetches itself what the helper has not begun. Adds to *stats.
 * Errors  those of the fetch */
embed_status emb_stage_take(emb_stage *stage, emb_slot **slot, emb_ngram_stats *stats);
/* The slot taken last has been through the encoder. */
void emb_stage_release(emb_stage *stage);
/* Drops what is in flight, waiting for a fetch that runs. */
void emb_stage_reset(emb_stage *stage);

#endif
