#include "ngram/ngram_scan.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "io/durable.h"
#include "io/file.h"

#define MEMORY_CHUNK ((size_t)1 << 20) /* positions between two reports */
#define BATCH EMB_NGRAM_TALLY_BATCH

typedef struct fault {
    embed_status status;
    char message[256];
} fault;

typedef struct pass {
    const emb_ngram_scan *scan;
    emb_ngram_tally *tallies; /* [threads] */
    uint64_t *kept;           /* [threads] entries of a finished tally */
    fault *faults;            /* [threads] */
    int threads, id_bits;     /* of the thread in provisional numbers */
    int32_t numbered;         /* numbers are wanted */
    int32_t only_now;         /* tokens and `before` are not looked at */
    uint64_t from;            /* keys from .. end - 1 are counted in this pass */
    _Atomic uint64_t end;
    /* The chunk at work. */
    const uint32_t *tokens, *before;
    uint32_t *now;
    size_t n;
    uint32_t carry;    /* `before` at the position in front of the chunk */
    uint32_t document; /* texts that ended in front of it */
} pass;

/* ------------------------------------------------------------------------------------- streams */

static embed_status load(const emb_ngram_stream *s, uint64_t at, size_t n, uint32_t *buffer,
                         const uint32_t **out) {
    *out = s->data != NULL ? s->data + at : buffer;
    if (s->data != NULL)
        return EMBED_OK;
    return emb_file_read_at(s->fd, s->path, at * sizeof(uint32_t), buffer, n * sizeof(uint32_t));
}

static embed_status load_chunk(pass *p, uint64_t at, size_t n, int keep_now) {
    const emb_ngram_scan *s = p->scan;
    uint32_t *buffers[3] = {s->buffers, s->buffers, s->buffers};
    const uint32_t *now = NULL;
    embed_status st = EMBED_OK;
    if (s->buffers != NULL) {
        buffers[1] += s->chunk;
        buffers[2] += 2 * s->chunk;
    }
    p->n = n;
    p->tokens = p->before = NULL;
    if (!p->only_now) {
        EMB_TRY(load(&s->tokens, at, n, buffers[0], &p->tokens));
        p->before = p->tokens;
        if (s->before.data != s->tokens.data || s->before.fd != s->tokens.fd)
            EMB_TRY(load(&s->before, at, n, buffers[1], &p->before));
    }
    p->now = NULL;
    if (!p->numbered)
        return EMBED_OK;
    if (keep_now)
        EMB_TRY(load(&s->now, at, n, buffers[2], &now));
    p->now = s->now.data != NULL ? s->now.data + at : buffers[2];
    if (!keep_now)
        memset(p->now, 0xff, n * sizeof *p->now);
fail:
    return st;
}

static embed_status store_chunk(const pass *p, uint64_t at) {
    const emb_ngram_stream *now = &p->scan->now;
    if (!p->numbered || now->data != NULL)
        return EMBED_OK;
    return emb_durable_write_at(now->fd, p->now, p->n * sizeof *p->now, at * sizeof *p->now,
                                now->path);
}

/* ------------------------------------------------------------------------------------- counting */

static void keep_fault(pass *p, int thread, embed_status st) {
    fault *f = &p->faults[thread];
    f->status = st;
    (void)snprintf(f->message, sizeof f->message, "%s", emb_fail_sentence());
}

static embed_status first_fault(const pass *p) {
    for (int i = 0; i < p->threads; i++)
        if (p->faults[i].status != EMBED_OK)
            return emb_fail(p->faults[i].status, "%s", p->faults[i].message);
    return EMBED_OK;
}

typedef struct batch {
    uint64_t keys[BATCH + 1], hashes[BATCH + 1]; /* one more: written before it is known to count */
    uint32_t documents[BATCH], ids[BATCH];
    uint32_t at[BATCH + 1];
} batch;

static uint64_t key_of(uint32_t prefix, uint32_t token) {
    return (uint64_t)prefix << 32 | token;
}

/* The next candidates of this thread from positions *i .. to - 1. */
static size_t gather(const pass *p, int thread, size_t *i, size_t to, batch *b) {
    const uint64_t from = p->from,
                   range = atomic_load_explicit(&p->end, memory_order_relaxed) - from;
    const uint32_t threads = (uint32_t)p->threads;
    const uint32_t *const before = p->before, *const tokens = p->tokens;
    uint32_t prefix = *i > 0 ? before[*i - 1] : p->carry;
    size_t n = 0, at = *i;
    for (; at < to && n < BATCH; at++) {
        const uint32_t suffix = before[at];
        const uint64_t key = key_of(prefix, tokens[at]);
        const uint64_t hash = emb_ngram_tally_hash(key);
        const int mine = threads == 1 || (int)((hash & 0xffff) * threads >> 16) == thread;
        b->keys[n] = key;
        b->hashes[n] = hash;
        b->at[n] = (uint32_t)at;
        n += (size_t)((prefix < EMB_NGRAM_BREAK) & (suffix < EMB_NGRAM_BREAK) & mine &
                      (key - from < range));
        prefix = suffix;
    }
    *i = at;
    return n;
}

/* Number of the text that each candidate stands in; *seen positions were looked at before. */
static void number_documents(const pass *p, batch *b, size_t n, size_t *seen, uint32_t *document) {
    for (size_t j = 0; j < n; j++) {
        for (; *seen < b->at[j]; ++*seen)
            *document += p->tokens[*seen] == EMB_NGRAM_END;
        b->documents[j] = *document;
    }
}

static embed_status lower_end(pass *p, emb_ngram_tally *t) {
    uint64_t end = atomic_load(&p->end);
    uint64_t wanted = end;
    const embed_status st = emb_ngram_tally_reserve(t, &wanted);
    while (wanted < end && !atomic_compare_exchange_weak(&p->end, &end, wanted))
        continue;
    return st;
}

static embed_status count_range(pass *p, int thread, size_t i, size_t to) {
    emb_ngram_tally *t = &p->tallies[thread];
    embed_status st = EMBED_OK;
    batch b;
    size_t seen = i;
    uint32_t document = p->document;
    while (i < to) {
        EMB_TRY(lower_end(p, t));
        const size_t n = gather(p, thread, &i, to, &b);
        if (t->docs != NULL)
            number_documents(p, &b, n, &seen, &document);
        EMB_TRY(emb_ngram_tally_add(t, b.keys, b.hashes, b.documents, n, b.ids));
        for (size_t j = 0; p->now != NULL && j < n; j++)
            p->now[b.at[j]] = b.ids[j] << p->id_bits | (uint32_t)thread;
    }
fail:
    return st;
}

/* Each thread goes over the whole chunk for its share of the keys. They start at different places,
 * so that no two write to one cache line at a time; documents need the order of the texts. */
static void count_chunk(void *arg, size_t task, int thread) {
    pass *p = arg;
    const int share = (int)task;
    const size_t start = p->scan->with_documents ? 0 : p->n / (size_t)p->threads * task;
    (void)thread;
    embed_status st = count_range(p, share, start, p->n);
    if (st == EMBED_OK && start > 0)
        st = count_range(p, share, 0, start);
    if (st != EMBED_OK)
        keep_fault(p, share, st);
}

/* ---------------------------------------------------------------------- from ids to final numbers
 */

#define RESOLVE_TASK ((size_t)1 << 16)

static void resolve_task(void *arg, size_t task, int thread) {
    const pass *p = arg;
    const size_t from = task * RESOLVE_TASK;
    const size_t to = from + RESOLVE_TASK < p->n ? from + RESOLVE_TASK : p->n;
    const uint32_t mask = ((uint32_t)1 << p->id_bits) - 1;
    const uint64_t end = atomic_load_explicit(&p->end, memory_order_relaxed);
    (void)thread;
    if (p->only_now) {
        for (size_t i = from; i < to; i++)
            if (p->now[i] != EMB_NGRAM_NONE)
                p->now[i] = p->tallies[p->now[i] & mask].ids[p->now[i] >> p->id_bits];
        return;
    }
    uint32_t prefix = from > 0 ? p->before[from - 1] : p->carry;
    for (size_t i = from; i < to; i++) {
        const uint32_t id = p->now[i];
        const uint64_t key = key_of(prefix, p->tokens[i]);
        prefix = p->before[i];
        if (id != EMB_NGRAM_NONE && key >= p->from && key < end)
            p->now[i] = p->tallies[id & mask].ids[id >> p->id_bits];
    }
}

/* ---------------------------------------------------------------------------------- one pass */

typedef void (*chunk_fn)(pass *p);

static void run_count(pass *p) {
    emb_pool_run(p->scan->pool, (size_t)p->threads, count_chunk, p);
}

static void run_resolve(pass *p) {
    emb_pool_run(p->scan->pool, (p->n + RESOLVE_TASK - 1) / RESOLVE_TASK, resolve_task, p);
}

static embed_status over_chunks(pass *p, chunk_fn fn, int keep_now, int32_t length,
                                uint32_t number) {
    const emb_ngram_scan *s = p->scan;
    const size_t chunk = s->buffers != NULL ? s->chunk : MEMORY_CHUNK;
    embed_status st = EMBED_OK;
    p->carry = EMB_NGRAM_END;
    p->document = 0;
    for (uint64_t at = 0; at < s->positions; at += chunk) {
        const size_t n = s->positions - at < chunk ? (size_t)(s->positions - at) : chunk;
        if (s->report != NULL && s->report(s->user, length, number, at, s->positions) != 0)
            return emb_fail(EMBED_ERR_CANCELLED, "counting was stopped");
        EMB_TRY(load_chunk(p, at, n, keep_now));
        fn(p);
        EMB_TRY(first_fault(p));
        EMB_TRY(store_chunk(p, at));
        if (p->only_now)
            continue;
        p->carry = p->before[n - 1];
        for (size_t i = 0; s->with_documents && i < n; i++)
            p->document += p->tokens[i] == EMB_NGRAM_END;
    }
fail:
    return st;
}

static void finish_task(void *arg, size_t task, int thread) {
    pass *p = arg;
    const emb_ngram_scan *s = p->scan;
    (void)thread;
    emb_ngram_tally_finish(&p->tallies[task], atomic_load(&p->end), s->min_count, s->min_documents,
                           &p->kept[task]);
}

/* Hand out the survivors of all threads in ascending order and number them from *n on. */
static embed_status number_survivors(pass *p, uint64_t *n) {
    const emb_ngram_scan *s = p->scan;
    uint64_t at[EMB_NGRAM_MAX_THREADS] = {0};
    for (;; ++*n) {
        emb_ngram_tally_entry least = {.key = UINT64_MAX};
        int from = -1;
        for (int i = 0; i < p->threads; i++) {
            if (at[i] == p->kept[i])
                continue;
            const emb_ngram_tally_entry e = emb_ngram_tally_get(&p->tallies[i], at[i]);
            if (e.key < least.key) {
                least = e;
                from = i;
            }
        }
        if (from < 0)
            return EMBED_OK;
        if (*n >= EMB_NGRAM_BREAK)
            return emb_fail(EMBED_ERR_UNSUPPORTED,
                            "more than %u frequent n-grams of one length; raise the least count",
                            EMB_NGRAM_BREAK);
        at[from]++;
        p->tallies[from].ids[least.id] = (uint32_t)*n;
        const embed_status st = s->emit(s->user, least.key, least.count, least.documents);
        if (st != EMBED_OK)
            return st;
    }
}

static embed_status run_pass(pass *p, int32_t length, uint32_t number, uint64_t *n) {
    embed_status st = EMBED_OK;
    for (int i = 0; i < p->threads; i++)
        emb_ngram_tally_reset(&p->tallies[i]);
    EMB_TRY(over_chunks(p, run_count, number > 0, length, number));
    emb_pool_run(p->scan->pool, (size_t)p->threads, finish_task, p);
    EMB_TRY(number_survivors(p, n));
    /* Where one pass has counted all positions, what they are does not matter any more. */
    p->only_now = p->from == 0 && atomic_load(&p->end) == UINT64_MAX;
    if (p->numbered)
        EMB_TRY(over_chunks(p, run_resolve, 1, length, EMB_NGRAM_NUMBERING));
    p->only_now = 0;
fail:
    return st;
}

embed_status emb_ngram_scan_run(const emb_ngram_scan *scan, int32_t length, int want_numbers,
                                uint64_t *n, uint32_t *passes) {
    embed_status st = EMBED_OK;
    pass p = {.scan = scan, .numbered = want_numbers, .threads = emb_pool_threads(scan->pool)};
    *n = 0;
    *passes = 0;
    while (1 << p.id_bits < p.threads)
        p.id_bits++;
    const size_t threads = (size_t)p.threads;
    EMB_TRY(emb_new_array(scan->env, threads, sizeof *p.tallies, (void **)&p.tallies));
    EMB_TRY(emb_new_array(scan->env, threads, sizeof *p.kept, (void **)&p.kept));
    EMB_TRY(emb_new_array(scan->env, threads, sizeof *p.faults, (void **)&p.faults));
    for (size_t i = 0; i < threads; i++)
        EMB_TRY(emb_ngram_tally_init(&p.tallies[i], scan->env, scan->table_bytes / threads,
                                     EMB_NGRAM_BREAK >> p.id_bits, scan->with_documents));
    atomic_init(&p.end, 0);
    do {
        p.from = atomic_load(&p.end);
        atomic_store(&p.end, UINT64_MAX);
        EMB_TRY(run_pass(&p, length, (*passes)++, n));
    } while (atomic_load(&p.end) != UINT64_MAX);
fail:
    for (size_t i = 0; p.tallies != NULL && i < threads; i++)
        emb_ngram_tally_clear(&p.tallies[i]);
    emb_free(scan->env, p.tallies);
    emb_free(scan->env, p.kept);
    emb_free(scan->env, p.faults);
    return st;
}
