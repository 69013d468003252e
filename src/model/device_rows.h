/* device_rows: n-gram rows of batches on their way to a device's lookup, which takes an address for
 * each token: whatever the place of the rows, the same kernels run, with the same bits.
 *
 *   COPY      Each distinct row of a batch once, as it is stored. The helper thread of the stage
 *             finds, checks and gathers them into pinned memory of the batch's slot, two batches
 *             ahead; the thread that submits enqueues one copy on the copy stream and an event that
 *             the main stream waits for in front of the lookup. It copies no row itself.
 *   MAP       Kernels read the table's mapping: registered with the device, or as it is where the
 *             device follows the host's page tables. Nothing is moved; the helper looks at the ids
 *             of each row, and at all of it before its first use.
 *   CACHE     Rows that were used before are in device memory: sets of 16 places by row number, the
 *             one whose last use is longest ago goes. The directory lies on the host, and the
 *             helper asks it, so that only what is missing is gathered and copied as above; a
 *             kernel on the main stream moves it from there to its places before the lookup. The
 *             order of that stream is what keeps a row that a batch reads from being overwritten:
 *             places are taken only from rows whose last use is in an earlier batch.
 *   RESIDENT  All rows are in device memory, put there when the first context of the device gets
 *             the table, every row checked, shared by its contexts, freed by the last of them.
 *
 * Rows of tables with a projection are projected on the CPU and travel as floats. Everything that
 * blocks happens when a table is attached; while batches run, the submitting thread enqueues and
 * the helper waits for disks only. */
#ifndef EMB_MODEL_DEVICE_ROWS_H
#define EMB_MODEL_DEVICE_ROWS_H

#include "device/device.h"
#include "ngram/ngram_carry.h"

#define EMB_DEVICE_SETS 2 /* batches under way */

/* On which device, and what the caller wishes. */
typedef struct emb_device_rows_spec {
    const emb_backend *backend;
    int32_t index;
    int32_t place;        /* embed_table_place */
    uint64_t cache_bytes; /* device memory for rows; 0: chosen */
    uint64_t taken;       /* device memory that will be gone by the time rows come to it */
} emb_device_rows_spec;

typedef struct emb_device_rows emb_device_rows;

/* The rows of one batch in a slot of the stage. Starts zeroed. */
typedef struct emb_device_carried {
    emb_device_rows *rows;
    emb_ngram_fetcher *carrier; /* of the slot */
    unsigned char *host;        /* pinned: rows, then where they go in the cache */
    size_t room, used;          /* rows */
    size_t fills;               /* of the rows used, those that go on to the cache */
    uint32_t *slots;            /* [tokens] into the carrier's cargo */
    size_t tokens;
    uint64_t batch; /* number of the batch in the order of submission; ascends from 1 */
} emb_device_carried;

/* Where the lookup finds a token's row: in the pinned block that is copied in with the ids. */
typedef struct emb_device_row_places {
    uint64_t *at; /* [tokens] address on the device, 0: none */
    float *scale; /* [tokens] of int8 rows */
} emb_device_row_places;

/* Choose the place and make all there is to make, for batches of up to `tokens`. The table is
 * borrowed and must outlive it.
 * Errors  _NOMEM, _DEVICE; _ARG: a place that cannot be, with the reason; of RESIDENT those of
 *         reading all rows */
embed_status emb_device_rows_create(emb_device_rows **out, const emb_env *env, embed_table *table,
                                    const emb_device_rows_spec *spec, int64_t tokens);
void emb_device_rows_free(emb_device_rows *rows); /* nothing under way; NULL is a no-op */

int32_t emb_device_rows_place(const emb_device_rows *rows); /* embed_table_place in use */
int32_t emb_device_rows_dtype(const emb_device_rows *rows); /* of the rows that the lookup reads */
int32_t emb_device_rows_add(const emb_device_rows *rows);   /* 1: added, 0: replaced */
/* Device and pinned memory, slots included; and before it is made. */
uint64_t emb_device_rows_bytes(emb_device_rows *rows);
embed_status emb_device_rows_plan_bytes(embed_table *table, const emb_device_rows_spec *spec,
                                        int64_t tokens, uint64_t *bytes);

/* A slot of the stage: room for a batch of `tokens`; it is not under way. */
embed_status emb_device_carried_reserve(emb_device_carried *c, emb_device_rows *rows,
                                        int64_t tokens);
void emb_device_carried_free(emb_device_carried *c);
/* Find, check and gather: any thread, batches side by side. */
embed_status emb_device_rows_carry(emb_device_carried *c, const int32_t *ids,
                                   const int32_t *offsets, size_t texts, emb_ngram_stats *stats);

/* From here on by the thread that runs the batches, in their order. */

/* Fill *places for the first `tokens` tokens of the batch that will use set `set`, free now; the
 * carried memory goes over to it, and the slot gets what the set had. */
embed_status emb_device_rows_pack(emb_device_carried *c, int set, int64_t tokens,
                                  const emb_device_row_places *places);
/* Events of a set, of the device of the streams; the last two with timing. */
typedef struct emb_device_row_events {
    emb_event *arrived;        /* on the copy stream */
    emb_event *before, *after; /* on the main stream, around the wait for it */
} emb_device_row_events;
embed_status emb_device_row_events_create(emb_device_row_events *events, emb_device *device);
void emb_device_row_events_free(emb_device_row_events *events);

/* Enqueue what must be copied; what is enqueued on `main` from now on finds the rows. */
embed_status emb_device_rows_send(emb_device_rows *rows, int set,
                                  const emb_device_row_events *events, emb_stream *copy,
                                  emb_stream *main);
/* The set's batch has come to its end. Counts how long the device waited for rows, also in *stats.
 */
embed_status emb_device_rows_done(emb_device_rows *rows, int set,
                                  const emb_device_row_events *events, emb_ngram_stats *stats);
/* What was carried and not sent is forgotten; no batch waits in a slot. */
void emb_device_rows_reset(emb_device_rows *rows);

#endif
