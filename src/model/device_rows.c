#include "model/device_rows.h"

#include <stdatomic.h>
#include <string.h>

#include "kernels/row_copy/row_copy_cuda.h"
#include "model/device_image.h"
#include "model/row_directory.h"
#include "model/row_place.h"
#include "model/row_probe.h"

/* In a cargo's `at`: an offset into the rows that are copied with the batch, not an address. */
#define STAGED (UINT64_C(1) << 63)
#define PLACE_BYTES (2 * sizeof(uint64_t)) /* from, to: kernels/row_copy */
#define STAGE_SLOTS 3                      /* model/ngram_stage */

/* Memory of a batch under way. */
typedef struct flight {
    unsigned char *host; /* pinned, from the slot it came in */
    size_t room, used, fills;
    emb_dptr at; /* [at_room] rows, then places */
    size_t at_room;
    int32_t timed, reserved;
} flight;

struct emb_device_rows {
    emb_env env;
    embed_table *table;
    emb_device *device; /* a handle of its own */
    emb_row_place place;
    size_t row_bytes, stride, slot_bytes; /* slot_bytes: a row with its place */
    emb_device_image *image;
    emb_row_directory *directory;
    emb_dptr cache;
    const emb_be_op *copy;
    flight flights[EMB_DEVICE_SETS];
    uint64_t sent;               /* batches, since the last reset */
    pthread_mutex_t lock;        /* of the next one, and of the directory */
    uint64_t carried;            /* batches that asked the directory, since the last reset */
    _Atomic uint64_t host_bytes; /* of all slots and flights, pinned but for a little */
};

/* -------------------------------------------------------------------------------------- making */

static embed_status find_facts(const emb_device_rows_spec *spec, const embed_table *t,
                               emb_row_place_facts *facts) {
    emb_device_error err = {""};
    emb_device_facts device;
    uint64_t headers;
    memset(&device, 0, sizeof device);
    *facts = (emb_row_place_facts){.row_bytes = emb_device_image_stride(t),
                                   .unmapped = emb_device_image_refusal(t)};
    const embed_status st = emb_device_image_plan_bytes(t, &facts->table_bytes, &headers);
    if (st != EMBED_OK)
        return st;
    if (spec->backend->describe(spec->backend->self, spec->index, &device, &err) != EMB_DEVICE_OK)
        return emb_fail(EMBED_ERR_DEVICE, "%s:%d: %s", spec->backend->name, spec->index, err.text);
    facts->free_bytes = device.memory_free > spec->taken ? device.memory_free - spec->taken : 0;
    facts->registers = device.host_read_only;
    facts->native = device.host_pageable;
    return EMBED_OK;
}

/* Where it decides, how fast the mapping is. */
static embed_status probe(emb_device_rows *r, const emb_device_rows_spec *spec,
                          emb_row_place_facts *facts) {
    embed_status st = EMBED_OK;
    emb_device_image *image = NULL;
    EMB_TRY(emb_row_place_choose(&r->place, facts, spec->place, spec->cache_bytes));
    if (spec->place != EMBED_TABLE_PLACE_AUTO || r->place.place != EMBED_TABLE_PLACE_MAP)
        return EMBED_OK;
    EMB_TRY(emb_device_image_get(&image, r->table, spec->backend, spec->index, EMB_IMAGE_NATIVE));
    EMB_TRY(emb_row_probe(r->device, image, r->table, &facts->map_seconds, &facts->copy_seconds));
    EMB_TRY(emb_row_place_choose(&r->place, facts, spec->place, spec->cache_bytes));
fail:
    emb_device_image_put(image);
    return st;
}

static embed_status make_flight(emb_device_rows *r, flight *f, size_t room) {
    embed_status st = EMBED_OK;
    EMB_TRY(emb_device_host_alloc(r->device, room * r->slot_bytes, (void **)&f->host));
    memset(f->host, 0, room * r->slot_bytes); /* also what lies between the rows is copied */
    f->room = room;
    r->host_bytes += room * r->slot_bytes;
    EMB_TRY(emb_device_alloc(r->device, room * r->slot_bytes, &f->at));
    f->at_room = room;
fail:
    return st;
}

static void clear_flights(emb_device_rows *r) {
    for (int i = 0; i < EMB_DEVICE_SETS; i++) {
        flight *f = &r->flights[i];
        r->host_bytes -= f->room * r->slot_bytes;
        emb_device_host_free(r->device, f->host);
        emb_device_free(r->device, f->at);
        *f = (flight){.host = NULL};
    }
}

/* Only these two send rows with a batch. */
static int sends(int32_t place) {
    return place == EMBED_TABLE_PLACE_COPY || place == EMBED_TABLE_PLACE_CACHE;
}

static size_t rows_of(const embed_table *t, int64_t tokens) {
    return t->manifest.rows < (uint64_t)tokens ? (size_t)t->manifest.rows + 1 : (size_t)tokens;
}

static embed_status make_cache(emb_device_rows *r) {
    embed_status st = EMBED_OK;
    EMB_TRY(emb_row_directory_create(&r->directory, &r->env, r->place.cache_bytes / r->stride));
    EMB_TRY(emb_device_alloc(r->device, (size_t)emb_row_directory_places(r->directory) * r->stride,
                             &r->cache));
    EMB_TRY(emb_op_find(r->device, "row_copy", &r->copy));
fail:
    return st;
}

static void clear_place(emb_device_rows *r) {
    clear_flights(r);
    emb_device_image_put(r->image);
    emb_row_directory_free(r->directory);
    emb_device_free(r->device, r->cache);
    r->image = NULL;
    r->directory = NULL;
    r->cache = (emb_dptr){0};
}

static embed_status make_place(emb_device_rows *r, const emb_device_rows_spec *spec,
                               int64_t tokens) {
    embed_status st = EMBED_OK;
    const int32_t place = r->place.place;
    if (place == EMBED_TABLE_PLACE_CACHE)
        EMB_TRY(make_cache(r));
    if (!sends(place))
        EMB_TRY(emb_device_image_get(&r->image, r->table, spec->backend, spec->index,
                                     place == EMBED_TABLE_PLACE_RESIDENT ? EMB_IMAGE_COPY
                                     : r->place.native                   ? EMB_IMAGE_NATIVE
                                                                         : EMB_IMAGE_REGISTERED));
    r->slot_bytes = r->stride + (place == EMBED_TABLE_PLACE_CACHE ? PLACE_BYTES : 0);
    for (int i = 0; i < EMB_DEVICE_SETS && sends(place); i++)
        EMB_TRY(make_flight(r, &r->flights[i], rows_of(r->table, tokens)));
fail:
    return st;
}

embed_status emb_device_rows_create(emb_device_rows **out, const emb_env *env, embed_table *table,
                                    const emb_device_rows_spec *spec, int64_t tokens) {
    embed_status st = EMBED_OK;
    emb_device_rows *r = NULL;
    emb_row_place_facts facts;
    *out = NULL;
    EMB_TRY(emb_new(env, sizeof *r, (void **)&r));
    r->env = *env;
    r->table = table;
    r->row_bytes = emb_ngram_carried_bytes(table);
    r->stride = emb_device_image_stride(table);
    (void)pthread_mutex_init(&r->lock, NULL);
    EMB_TRY(emb_device_open(&r->device, env, spec->backend, spec->index));
    EMB_TRY(find_facts(spec, table, &facts));
    EMB_TRY(probe(r, spec, &facts));
    st = make_place(r, spec, tokens);
    if (st == EMBED_ERR_NOMEM && spec->place == EMBED_TABLE_PLACE_AUTO &&
        r->place.place != EMBED_TABLE_PLACE_COPY) {
        emb_log(env, EMBED_LOG_WARN, "%s; rows are copied batch by batch", emb_fail_message());
        clear_place(r);
        r->place.place = EMBED_TABLE_PLACE_COPY;
        st = make_place(r, spec, tokens);
    }
    EMB_TRY(st);
    *out = r;
    return EMBED_OK;
fail:
    emb_device_rows_free(r);
    return st;
}

void emb_device_rows_free(emb_device_rows *r) {
    if (r == NULL)
        return;
    const emb_env env = r->env;
    if (r->device != NULL)
        clear_place(r);
    emb_device_close(r->device);
    (void)pthread_mutex_destroy(&r->lock);
    emb_free(&env, r);
}

int32_t emb_device_rows_place(const emb_device_rows *r) {
    return r->place.place;
}

int32_t emb_device_rows_dtype(const emb_device_rows *r) {
    return emb_ngram_carried_dtype(r->table);
}

int32_t emb_device_rows_add(const emb_device_rows *r) {
    return r->table->manifest.mode == EMB_NGRAM_ADD;
}

uint64_t emb_device_rows_bytes(emb_device_rows *r) {
    uint64_t bytes = sizeof *r + r->host_bytes;
    for (int i = 0; i < EMB_DEVICE_SETS; i++)
        bytes += r->flights[i].at_room * (uint64_t)r->slot_bytes;
    if (r->image != NULL)
        bytes += emb_device_image_bytes(r->image);
    if (r->directory != NULL) {
        const uint64_t places = emb_row_directory_places(r->directory);
        bytes += places * r->stride + emb_row_directory_bytes(places);
    }
    return bytes;
}

embed_status emb_device_rows_plan_bytes(embed_table *t, const emb_device_rows_spec *spec,
                                        int64_t tokens, uint64_t *bytes) {
    embed_status st = EMBED_OK;
    emb_row_place_facts facts;
    emb_row_place place;
    uint64_t headers;
    EMB_TRY(find_facts(spec, t, &facts));
    EMB_TRY(emb_row_place_choose(&place, &facts, spec->place, spec->cache_bytes));
    *bytes = sizeof(emb_device_rows) + STAGE_SLOTS * (uint64_t)tokens * sizeof(uint32_t);
    if (sends(place.place)) {
        const int cached = place.place == EMBED_TABLE_PLACE_CACHE;
        *bytes += (uint64_t)(STAGE_SLOTS + 2 * EMB_DEVICE_SETS) * rows_of(t, tokens) *
                  (facts.row_bytes + (cached ? PLACE_BYTES : 0));
    }
    if (place.place == EMBED_TABLE_PLACE_CACHE) {
        const uint64_t places = emb_row_directory_round(place.cache_bytes / facts.row_bytes);
        *bytes += places * facts.row_bytes + emb_row_directory_bytes(places);
    }
    if (place.place == EMBED_TABLE_PLACE_RESIDENT) {
        EMB_TRY(emb_device_image_plan_bytes(t, &facts.table_bytes, &headers));
        *bytes += facts.table_bytes + headers;
    }
fail:
    return st;
}

/* -------------------------------------------------------------------------------------- slots */

/* Room for `rows`; what is there stays. */
static embed_status grow(emb_device_carried *c, size_t rows) {
    embed_status st = EMBED_OK;
    emb_device_rows *r = c->rows;
    unsigned char *host;
    size_t bytes;
    if (rows <= c->room)
        return EMBED_OK;
    EMB_TRY(emb_mul(rows, r->slot_bytes, "rows of a batch", &bytes));
    EMB_TRY(emb_device_host_alloc(r->device, bytes, (void **)&host));
    memset(host, 0, bytes);
    if (c->used > 0)
        memcpy(host, c->host, c->used * r->stride);
    if (c->fills > 0)
        memcpy(host + rows * r->stride, c->host + c->room * r->stride, c->fills * PLACE_BYTES);
    emb_device_host_free(r->device, c->host);
    r->host_bytes += bytes - c->room * r->slot_bytes;
    c->host = host;
    c->room = rows;
fail:
    return st;
}

embed_status emb_device_carried_reserve(emb_device_carried *c, emb_device_rows *r, int64_t tokens) {
    embed_status st = EMBED_OK;
    c->rows = r;
    c->used = c->fills = 0;
    if ((size_t)tokens > c->tokens) {
        uint32_t *slots;
        EMB_TRY(emb_new_array(&r->env, (size_t)tokens, sizeof *slots, (void **)&slots));
        emb_free(&r->env, c->slots);
        r->host_bytes += ((size_t)tokens - c->tokens) * sizeof *slots;
        c->slots = slots;
        c->tokens = (size_t)tokens;
    }
    if (sends(r->place.place))
        EMB_TRY(grow(c, rows_of(r->table, tokens)));
fail:
    return st;
}

void emb_device_carried_free(emb_device_carried *c) {
    if (c->rows == NULL)
        return;
    emb_device_rows *r = c->rows;
    emb_device_host_free(r->device, c->host);
    r->host_bytes -= c->room * r->slot_bytes + c->tokens * sizeof *c->slots;
    emb_free(&r->env, c->slots);
    *c = (emb_device_carried){.rows = NULL};
}

/* ------------------------------------------------------------------------------------ carrying */

static uint64_t *fills_of(const emb_device_rows *r, unsigned char *host, size_t room) {
    return (void *)(host + room * r->stride);
}

static void stage(emb_device_carried *c, emb_ngram_cargo *cargo) {
    const uint64_t offset = (uint64_t)c->used++ * c->rows->stride;
    cargo->into = c->host + offset;
    cargo->at = STAGED | offset;
}

static embed_status choose_copy(void *self, const uint32_t *rows, size_t n,
                                emb_ngram_cargo *cargo) {
    emb_device_carried *c = self;
    (void)rows;
    const size_t need = c->used + n;
    const embed_status st = need <= c->room ? EMBED_OK : grow(c, need + c->room);
    for (size_t i = 0; i < n && st == EMBED_OK; i++)
        stage(c, &cargo[i]);
    return st;
}

static embed_status choose_image(void *self, const uint32_t *rows, size_t n,
                                 emb_ngram_cargo *cargo) {
    const emb_device_carried *c = self;
    embed_status st = EMBED_OK;
    for (size_t i = 0; i < n && st == EMBED_OK; i++) {
        cargo[i].into = NULL;
        st = emb_device_image_find(c->rows->image, rows[i], &cargo[i].at, &cargo[i].header);
    }
    return st;
}

static embed_status choose_cache(void *self, const uint32_t *rows, size_t n,
                                 emb_ngram_cargo *cargo) {
    emb_device_carried *c = self;
    emb_device_rows *r = c->rows;
    const size_t need = c->used + n;
    const embed_status st = need <= c->room ? EMBED_OK : grow(c, need + c->room);
    if (st != EMBED_OK)
        return st;
    uint64_t *fills = fills_of(r, c->host, c->room);
    (void)pthread_mutex_lock(&r->lock);
    for (size_t i = 0; i < n; i++) {
        uint64_t place = emb_row_directory_find(r->directory, rows[i], c->batch, &cargo[i].header);
        if (place != EMB_NO_PLACE) {
            cargo[i].into = NULL;
            cargo[i].at = r->cache.at + place * r->stride;
            continue;
        }
        stage(c, &cargo[i]);
        place = emb_row_directory_take(r->directory, rows[i], c->batch);
        if (place == EMB_NO_PLACE)
            continue;
        fills[2 * c->fills] = cargo[i].at & ~STAGED;
        cargo[i].at = fills[2 * c->fills + 1] = r->cache.at + place * r->stride;
        c->fills++;
    }
    (void)pthread_mutex_unlock(&r->lock);
    return EMBED_OK;
}

static void brought_cache(void *self, const uint32_t *rows, size_t n,
                          const emb_ngram_cargo *cargo) {
    const emb_device_carried *c = self;
    emb_device_rows *r = c->rows;
    (void)rows;
    (void)pthread_mutex_lock(&r->lock);
    for (size_t i = 0; i < n; i++)
        if (cargo[i].into != NULL && (cargo[i].at & STAGED) == 0)
            emb_row_directory_ready(r->directory, (cargo[i].at - r->cache.at) / r->stride,
                                    &cargo[i].header);
    (void)pthread_mutex_unlock(&r->lock);
}

embed_status emb_device_rows_carry(emb_device_carried *c, const int32_t *ids,
                                   const int32_t *offsets, size_t texts, emb_ngram_stats *stats) {
    emb_device_rows *r = c->rows;
    emb_ngram_depot depot = {c, choose_image, NULL};
    emb_ngram_stats here = {.place = r->place.place};
    size_t n;
    c->used = c->fills = 0;
    if (r->place.place == EMBED_TABLE_PLACE_COPY)
        depot.choose = choose_copy;
    if (r->place.place == EMBED_TABLE_PLACE_CACHE) {
        depot.choose = choose_cache;
        depot.brought = brought_cache;
        (void)pthread_mutex_lock(&r->lock);
        r->carried++;
        (void)pthread_mutex_unlock(&r->lock);
    }
    const embed_status st =
        emb_ngram_carry(c->carrier, ids, offsets, texts, &depot, c->slots, stats);
    if (st != EMBED_OK)
        return st;
    (void)emb_ngram_cargo_of(c->carrier, &n);
    if (r->place.place == EMBED_TABLE_PLACE_MAP) {
        here.device_bytes = (uint64_t)n * r->row_bytes;
    } else {
        here.device_bytes = (uint64_t)c->used * r->stride + (uint64_t)c->fills * PLACE_BYTES;
        here.device_hits = n - c->used;
    }
    emb_ngram_table_count(r->table, &here);
    emb_ngram_stats_add(stats, &here);
    return EMBED_OK;
}

/* ------------------------------------------------------------------------------------- sending */

/* More rows than any batch before: the set is free, so that its memory is. */
static embed_status grow_flight(emb_device_rows *r, flight *f, size_t room) {
    embed_status st = EMBED_OK;
    emb_dptr at;
    if (room <= f->at_room)
        return EMBED_OK;
    EMB_TRY(emb_device_alloc(r->device, room * r->slot_bytes, &at));
    emb_device_free(r->device, f->at);
    f->at = at;
    f->at_room = room;
fail:
    return st;
}

embed_status emb_device_rows_pack(emb_device_carried *c, int set, int64_t tokens,
                                  const emb_device_row_places *places) {
    embed_status st = EMBED_OK;
    emb_device_rows *r = c->rows;
    flight *f = &r->flights[set];
    size_t n;
    const emb_ngram_cargo *cargo = emb_ngram_cargo_of(c->carrier, &n);
    EMB_TRY(grow_flight(r, f, c->room));
    for (int64_t t = 0; t < tokens; t++) {
        const uint32_t slot = c->slots[t];
        places->at[t] = 0;
        places->scale[t] = 1;
        if (slot >= n)
            continue;
        const uint64_t at = cargo[slot].at;
        places->at[t] = (at & STAGED) != 0 ? f->at.at + (at & ~STAGED) : at;
        places->scale[t] = cargo[slot].header.scale;
    }
    unsigned char *host = f->host;
    const size_t room = f->room;
    f->host = c->host;
    f->room = c->room;
    f->used = c->used;
    f->fills = c->fills;
    c->host = host;
    c->room = room;
    c->used = c->fills = 0;
fail:
    return st;
}

static embed_status fill_cache(emb_device_rows *r, const flight *f, emb_dptr places,
                               emb_stream *main) {
    const emb_cuda_row_copy_args args = {.from = emb_dptr_raw(f->at),
                                         .places = emb_dptr_raw(places),
                                         .rows = (int64_t)f->fills,
                                         .bytes = (int64_t)r->stride};
    return emb_op_run(main, r->copy, &args, sizeof args);
}

embed_status emb_device_row_events_create(emb_device_row_events *e, emb_device *device) {
    embed_status st = EMBED_OK;
    EMB_TRY(emb_event_create(&e->arrived, device, 0));
    EMB_TRY(emb_event_create(&e->before, device, 1));
    EMB_TRY(emb_event_create(&e->after, device, 1));
fail:
    return st;
}

void emb_device_row_events_free(emb_device_row_events *e) {
    emb_event_free(e->arrived);
    emb_event_free(e->before);
    emb_event_free(e->after);
    *e = (emb_device_row_events){NULL, NULL, NULL};
}

embed_status emb_device_rows_send(emb_device_rows *r, int set, const emb_device_row_events *e,
                                  emb_stream *copy, emb_stream *main) {
    embed_status st = EMBED_OK;
    flight *f = &r->flights[set];
    const size_t places_at = f->room * r->stride;
    f->timed = 0;
    if (f->used > 0) {
        EMB_TRY(emb_copy_in(copy, f->at, f->host, f->used * r->stride));
        EMB_TRY(emb_copy_in(copy, emb_dptr_add(f->at, places_at), f->host + places_at,
                            f->fills * PLACE_BYTES));
        EMB_TRY(emb_event_record(e->arrived, copy));
        EMB_TRY(emb_event_record(e->before, main));
        EMB_TRY(emb_stream_wait(main, e->arrived));
        EMB_TRY(emb_event_record(e->after, main));
        f->timed = 1;
    }
    if (f->fills > 0)
        EMB_TRY(fill_cache(r, f, emb_dptr_add(f->at, places_at), main));
    r->sent++;
fail:
    return st;
}

embed_status emb_device_rows_done(emb_device_rows *r, int set, const emb_device_row_events *e,
                                  emb_ngram_stats *stats) {
    flight *f = &r->flights[set];
    emb_ngram_stats here = {0};
    float ms = 0;
    if (!f->timed)
        return EMBED_OK;
    f->timed = 0;
    const embed_status st = emb_event_elapsed(e->before, e->after, &ms);
    here.device_wait_ns = ms > 0 ? (uint64_t)((double)ms * 1e6) : 0;
    emb_ngram_table_count(r->table, &here);
    emb_ngram_stats_add(stats, &here);
    return st;
}

void emb_device_rows_reset(emb_device_rows *r) {
    if (r->directory != NULL && r->carried != r->sent)
        emb_row_directory_clear(r->directory);
    r->carried = r->sent = 0;
}
