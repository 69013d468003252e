#define _DEFAULT_SOURCE
#include "model/ngram_stage.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

enum slot_state {
    SLOT_FREE = 0,
    SLOT_QUEUED = 1, /* packed; whoever comes first fetches its rows */
    SLOT_BUSY = 2,   /* the helper or the owner is at it */
    SLOT_READY = 3   /* rows there, or a failure */
};

struct staged {
    emb_slot slot;
    enum slot_state state; /* guarded by the mutex while in flight */
    embed_status status;
    emb_ngram_fetcher *fetcher; /* NULL without table */
    emb_device_carried carried; /* for a device */
    emb_ngram_stats stats;
    char message[512];
};

/* What the fetchers hold, known only by watching them allocate. */
struct counted {
    emb_env base, env; /* env counts into `bytes`, then asks base */
    _Atomic uint64_t bytes;
};

struct emb_stage {
    emb_env env;
    struct counted fetchers;
    embed_table *table;
    emb_device_rows *rows; /* NULL: not for a device */
    uint64_t submitted;    /* batches */
    int n;                 /* slots */
    int head, count;       /* in flight: slots[head], slots[head + 1] ...; guarded for the helper */
    struct staged slots[EMB_STAGE_SLOTS];
    pthread_mutex_t mutex;
    pthread_cond_t work, done;
    pthread_t helpers[EMB_STAGE_HELPERS];
    int started; /* helpers */
    int stop;
    pid_t pid; /* the process the helper runs in */
};

static void *counted_alloc(void *user, size_t size, size_t align) {
    struct counted *c = user;
    void *p = c->base.allocator.alloc(c->base.allocator.user, size, align);
    if (p != NULL)
        atomic_fetch_add_explicit(&c->bytes, size, memory_order_relaxed);
    return p;
}

static void counted_free(void *user, void *ptr, size_t size) {
    struct counted *c = user;
    atomic_fetch_sub_explicit(&c->bytes, size, memory_order_relaxed);
    c->base.allocator.free(c->base.allocator.user, ptr, size);
}

static void count_into(struct counted *c, const emb_env *base) {
    c->base = c->env = *base;
    c->env.allocator = (embed_allocator){c, counted_alloc, counted_free};
    atomic_init(&c->bytes, 0);
}

static struct staged *in_flight(emb_stage *s, int i) {
    return &s->slots[(s->head + i) % s->n];
}

/* Find rows and bring bytes. The message of a failure is kept for the thread that takes the slot.
 */
static void fetch(struct staged *w) {
    const emb_batch *b = &w->slot.batch;
    w->stats = (emb_ngram_stats){0};
    w->status =
        w->carried.rows != NULL
            ? emb_device_rows_carry(&w->carried, b->ids, b->offsets, (size_t)b->texts, &w->stats)
            : emb_ngram_fetch(w->fetcher, b->ids, b->offsets, (size_t)b->texts, w->slot.rows,
                              &w->stats);
    if (w->status != EMBED_OK)
        (void)snprintf(w->message, sizeof w->message, "%s", emb_fail_sentence());
}

/* With the mutex held: fetch without it. */
static void fetch_unlocked(emb_stage *s, struct staged *w) {
    w->state = SLOT_BUSY;
    pthread_mutex_unlock(&s->mutex);
    fetch(w);
    pthread_mutex_lock(&s->mutex);
    w->state = SLOT_READY;
}

static struct staged *oldest_queued(emb_stage *s) {
    for (int i = 0; i < s->count; i++)
        if (in_flight(s, i)->state == SLOT_QUEUED)
            return in_flight(s, i);
    return NULL;
}

static void *helper_main(void *arg) {
    emb_stage *s = arg;
    pthread_mutex_lock(&s->mutex);
    while (!s->stop) {
        struct staged *w = oldest_queued(s);
        if (w == NULL) {
            pthread_cond_wait(&s->work, &s->mutex);
            continue;
        }
        fetch_unlocked(s, w);
        pthread_cond_signal(&s->done);
    }
    pthread_mutex_unlock(&s->mutex);
    return NULL;
}

/* The helper blocks all signals: the application's handlers belong to its own threads. */
static embed_status start_helper(emb_stage *s) {
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    const int err = pthread_create(&s->helpers[s->started], NULL, helper_main, s);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (err != 0)
        return emb_fail(EMBED_ERR_THREAD, "thread that fetches table rows: %s", strerror(err));
    s->started++;
    return EMBED_OK;
}

static embed_status make_fetcher(emb_ngram_fetcher **out, const emb_env *env, embed_table *table,
                                 int64_t tokens, int raw) {
    return raw ? emb_ngram_carrier_create(out, env, table, (size_t)tokens)
               : emb_ngram_fetcher_create(out, env, table, (size_t)tokens);
}

static embed_status reserve(emb_stage *s, struct staged *w, int64_t tokens) {
    embed_status st = EMBED_OK;
    emb_ngram_fetcher *fetcher = NULL;
    if (w->slot.memory != NULL && tokens <= w->slot.capacity)
        return EMBED_OK;
    if (s->table != NULL)
        EMB_TRY(make_fetcher(&fetcher, &s->fetchers.env, s->table, tokens, s->rows != NULL));
    if (s->rows != NULL)
        EMB_TRY(emb_device_carried_reserve(&w->carried, s->rows, tokens));
    EMB_TRY(emb_slot_reserve(&w->slot, &s->env, tokens, s->table != NULL && s->rows == NULL));
    emb_ngram_fetcher_free(w->fetcher);
    w->fetcher = w->carried.carrier = fetcher;
    return EMBED_OK;
fail:
    emb_ngram_fetcher_free(fetcher);
    return st;
}

embed_status emb_stage_create(emb_stage **out, const emb_env *env, embed_table *table,
                              int64_t tokens, const emb_device_rows_spec *device) {
    embed_status st = EMBED_OK;
    emb_stage *s = NULL;
    *out = NULL;
    EMB_TRY(emb_new(env, sizeof *s, (void **)&s));
    s->env = *env;
    s->pid = getpid();
    count_into(&s->fetchers, env);
    s->n = table != NULL ? EMB_STAGE_SLOTS : 1;
    pthread_mutex_init(&s->mutex, NULL);
    pthread_cond_init(&s->work, NULL);
    pthread_cond_init(&s->done, NULL);
    if (table != NULL)
        emb_ngram_table_retain(table);
    s->table = table;
    if (table != NULL && device != NULL)
        EMB_TRY(emb_device_rows_create(&s->rows, env, table, device, tokens));
    for (int i = 0; i < s->n; i++)
        EMB_TRY(reserve(s, &s->slots[i], tokens));
    for (int i = 0; table != NULL && i < (s->rows != NULL ? EMB_STAGE_HELPERS : 1); i++)
        EMB_TRY(start_helper(s));
    *out = s;
    return EMBED_OK;
fail:
    emb_stage_free(s);
    return st;
}

void emb_stage_free(emb_stage *s) {
    if (s == NULL)
        return;
    const emb_env env = s->env;
    const int ours = s->pid == getpid(); /* a child of fork() has no helper to wait for */
    if (s->started && ours) {
        pthread_mutex_lock(&s->mutex);
        s->stop = 1;
        pthread_cond_broadcast(&s->work);
        pthread_mutex_unlock(&s->mutex);
        for (int i = 0; i < s->started; i++)
            pthread_join(s->helpers[i], NULL);
    }
    for (int i = 0; i < s->n; i++) {
        emb_ngram_fetcher_free(s->slots[i].fetcher);
        emb_device_carried_free(&s->slots[i].carried);
        emb_slot_clear(&s->slots[i].slot, &env);
    }
    emb_device_rows_free(s->rows);
    if (ours) {
        pthread_cond_destroy(&s->done);
        pthread_cond_destroy(&s->work);
        pthread_mutex_destroy(&s->mutex);
    }
    emb_ngram_table_release(s->table);
    emb_free(&env, s);
}

void emb_stage_count(emb_stage *s, const emb_ngram_stats *more, emb_ngram_stats *stats) {
    emb_ngram_table_count(s->table, more);
    emb_ngram_stats_add(stats, more);
}

const embed_table *emb_stage_table(const emb_stage *s) {
    return s->table;
}

int32_t emb_stage_place(const emb_stage *s) {
    return s->rows != NULL ? emb_device_rows_place(s->rows) : 0;
}

embed_status emb_stage_plan_bytes(const emb_env *env, embed_table *table, int64_t tokens,
                                  const emb_device_rows_spec *device, uint64_t *bytes) {
    embed_status st = EMBED_OK;
    const int raw = table != NULL && device != NULL;
    uint64_t rows = 0;
    const size_t n = table != NULL ? EMB_STAGE_SLOTS : 1;
    emb_ngram_fetcher *fetcher = NULL;
    struct counted counted;
    size_t slot;
    count_into(&counted, env);
    if (table != NULL)
        EMB_TRY(make_fetcher(&fetcher, &counted.env, table, tokens, raw));
    if (raw)
        EMB_TRY(emb_device_rows_plan_bytes(table, device, tokens, &rows));
    EMB_TRY(emb_slot_plan_bytes(tokens, table != NULL && !raw, &slot));
    *bytes = sizeof(emb_stage) + n * (slot + atomic_load(&counted.bytes)) + rows;
fail:
    emb_ngram_fetcher_free(fetcher);
    return st;
}

uint64_t emb_stage_bytes(const emb_stage *s) {
    uint64_t bytes = sizeof *s + atomic_load(&s->fetchers.bytes);
    for (int i = 0; i < s->n; i++)
        bytes += s->slots[i].slot.bytes;
    return bytes + (s->rows != NULL ? emb_device_rows_bytes(s->rows) : 0);
}

/* ------------------------------------------------------------------------------------ the ring */

int emb_stage_has_room(const emb_stage *s) {
    return s->count < s->n;
}

embed_status emb_stage_vacant(emb_stage *s, int64_t tokens, emb_slot **slot) {
    struct staged *w = in_flight(s, s->count);
    *slot = &w->slot;
    return reserve(s, w, tokens);
}

emb_batch emb_stage_batch(const emb_stage *s) {
    emb_batch b = s->slots[(s->head + s->count) % s->n].slot.batch;
    b.tokens = b.texts = 0;
    b.rows = NULL;
    return b;
}

void emb_stage_submit(emb_stage *s) {
    if (s->table == NULL) {
        in_flight(s, s->count++)->state = SLOT_READY;
        return;
    }
    pthread_mutex_lock(&s->mutex);
    in_flight(s, s->count)->carried.batch = ++s->submitted;
    in_flight(s, s->count++)->state = SLOT_QUEUED;
    if (s->count > 1) /* alone, its owner will fetch it at once */
        pthread_cond_signal(&s->work);
    pthread_mutex_unlock(&s->mutex);
}

/* Until the rows of w are there. */
static void wait_for(emb_stage *s, struct staged *w) {
    pthread_mutex_lock(&s->mutex);
    if (w->state == SLOT_QUEUED)
        fetch_unlocked(s, w);
    while (w->state != SLOT_READY)
        pthread_cond_wait(&s->done, &s->mutex);
    pthread_mutex_unlock(&s->mutex);
}

embed_status emb_stage_take(emb_stage *s, emb_slot **slot, emb_ngram_stats *stats) {
    struct staged *w = in_flight(s, 0);
    if (s->table != NULL) {
        const uint64_t start = emb_clock_ns();
        wait_for(s, w);
        if (w->status != EMBED_OK)
            return emb_fail(w->status, "%s", w->message);
        const emb_ngram_stats waited = {.wait_ns = emb_clock_ns() - start};
        emb_stage_count(s, &waited, stats);
        emb_ngram_stats_add(stats, &w->stats);
        w->slot.batch.rows = w->slot.rows; /* the hand-over to the encoder */
        w->slot.carried = s->rows != NULL ? &w->carried : NULL;
        w->slot.batch.add_rows = s->table->manifest.mode == EMB_NGRAM_ADD;
    }
    *slot = &w->slot;
    return EMBED_OK;
}

void emb_stage_release(emb_stage *s) {
    pthread_mutex_lock(&s->mutex);
    in_flight(s, 0)->state = SLOT_FREE;
    s->head = (s->head + 1) % s->n;
    s->count--;
    pthread_mutex_unlock(&s->mutex);
}

void emb_stage_reset(emb_stage *s) {
    pthread_mutex_lock(&s->mutex);
    for (int i = 0; i < s->count; i++)
        if (in_flight(s, i)->state == SLOT_QUEUED)
            in_flight(s, i)->state = SLOT_FREE; /* so that the helper begins none of them */
    for (int i = 0; i < s->count; i++) {
        while (in_flight(s, i)->state == SLOT_BUSY)
            pthread_cond_wait(&s->done, &s->mutex);
        in_flight(s, i)->state = SLOT_FREE;
    }
    s->count = 0;
    pthread_mutex_unlock(&s->mutex);
    if (s->rows != NULL)
        emb_device_rows_reset(s->rows);
}
