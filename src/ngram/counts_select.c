#define _POSIX_C_SOURCE 200809L
#include "ngram/counts_select.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/durable.h"
#include "io/file.h"
#include "ngram/count_bins.h"
#include "ngram/ngram_writer.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#define LINE_MAX_BYTES 160 /* 8 ids of 10 digits, a count of 20, and what is around them */
#define REPORT_RECORDS ((uint64_t)1 << 16)

typedef struct order {
    uint64_t count;
    size_t at; /* of the record */
} order;

typedef struct selecting {
    const emb_env *env;
    const emb_counts_limits *limits;
    const emb_counts_job *job;
    emb_counts_selection *result;
    emb_counts_reader reader;
    uint64_t *excluded; /* bit set over the vocabulary, or NULL */
    uint64_t *bins;     /* n-grams that may be taken, by count */
    uint64_t most;      /* rows to write at most */
    /* A range of counts in memory. */
    emb_counts_record *records;
    order *orders;
    size_t capacity, n;
    /* The n-grams taken so far, by hash: for closure under quotas. */
    uint64_t *taken;
    uint64_t taken_size;
    /* Output. */
    char *partial, *buffer;
    size_t used, room;
    uint64_t written;
    int fd;
    int32_t full; /* 1: `most` rows are written */
    embed_job_report report;
} selecting;

static embed_status tell(selecting *s) {
    if (s->job->report == NULL || s->job->report(s->job->user, &s->report) == 0)
        return EMBED_OK;
    return emb_fail(EMBED_ERR_CANCELLED, "selecting was stopped");
}

/* --------------------------------------------------------------------------------- reading */

static int wanted(const selecting *s, const emb_counts_record *r) {
    if (r->count < s->limits->min_count || r->documents < s->limits->min_documents)
        return 0;
    for (int32_t i = 0; s->excluded != NULL && i < r->length; i++)
        if (s->excluded[r->ids[i] / 64] >> (r->ids[i] % 64) & 1)
            return 0;
    return 1;
}

typedef embed_status (*record_fn)(selecting *s, const emb_counts_record *r);

/* One pass over the n-grams that may be taken with a count of least .. greatest. */
static embed_status pass(selecting *s, uint64_t least, uint64_t greatest, record_fn fn) {
    emb_counts_record r;
    embed_status st = EMBED_OK;
    s->result->passes++;
    s->report.done = 0;
    emb_counts_rewind(&s->reader);
    for (;;) {
        EMB_TRY(emb_counts_next(&s->reader, &r));
        if (r.length == 0 || s->full)
            return EMBED_OK;
        if (s->report.done++ % REPORT_RECORDS == 0)
            EMB_TRY(tell(s));
        if (r.count >= least && r.count <= greatest && wanted(s, &r))
            EMB_TRY(fn(s, &r));
    }
fail:
    return st;
}

static embed_status add_to_bin(selecting *s, const emb_counts_record *r) {
    s->bins[emb_count_bin(r->count)]++;
    return EMBED_OK;
}

static embed_status add_to_number(selecting *s, const emb_counts_record *r) {
    (void)r;
    s->n++;
    return EMBED_OK;
}

static embed_status keep_record(selecting *s, const emb_counts_record *r) {
    s->records[s->n] = *r;
    s->orders[s->n] = (order){r->count, s->n};
    s->n++;
    return EMBED_OK;
}

/* --------------------------------------------------------------------------------- writing */

static embed_status flush(selecting *s) {
    const embed_status st = emb_durable_write_at(s->fd, s->buffer, s->used, s->written, s->partial);
    s->written += s->used;
    s->used = 0;
    return st;
}

static char *put_number(char *p, uint64_t v) {
    char digits[20];
    int n = 0;
    do
        digits[n++] = (char)('0' + v % 10);
    while ((v /= 10) > 0);
    while (n > 0)
        *p++ = digits[--n];
    return p;
}

static embed_status put_line(selecting *s, const emb_counts_record *r) {
    if (s->room - s->used < LINE_MAX_BYTES) {
        const embed_status st = flush(s);
        if (st != EMBED_OK)
            return st;
    }
    char *p = s->buffer + s->used;
    memcpy(p, "{\"ids\":[", 8);
    p += 8;
    for (int32_t i = 0; i < r->length; i++) {
        if (i > 0)
            *p++ = ',';
        p = put_number(p, r->ids[i]);
    }
    memcpy(p, "],\"count\":", 10);
    p = put_number(p + 10, r->count);
    memcpy(p, "}\n", 2);
    s->used = (size_t)(p + 2 - s->buffer);
    return EMBED_OK;
}

/* Whether the n-gram of these ids was taken; `add`: it is now. A chance equality of two hashes only
 * lets one n-gram through whose suffix was not taken: the index then adds a path entry for it. */
static int taken(selecting *s, const uint32_t *ids, int32_t length, int add) {
    uint64_t h = XXH3_64bits(ids, (size_t)length * sizeof *ids);
    h += h == 0; /* 0 is a free slot */
    uint64_t at = (uint64_t)((unsigned __int128)h * s->taken_size >> 64);
    while (s->taken[at] != 0 && s->taken[at] != h)
        at = at + 1 < s->taken_size ? at + 1 : 0;
    const int found = s->taken[at] == h;
    if (add)
        s->taken[at] = h;
    return found;
}

static embed_status take(selecting *s, const emb_counts_record *r) {
    emb_counts_selection *to = s->result;
    const uint64_t limit = s->limits->per_length[r->length];
    const uint64_t quota = limit == UINT64_MAX ? 0 : limit;
    if (s->full)
        return EMBED_OK;
    if (s->limits->quotas) {
        if (limit > 0 && to->length_rows[r->length] >= quota)
            return EMBED_OK;
        if (r->length > 2 && !taken(s, r->ids + 1, r->length - 1, 0)) {
            to->dropped++;
            return EMBED_OK;
        }
        if (r->length < s->reader.header.k)
            (void)taken(s, r->ids, r->length, 1);
    }
    to->rows++;
    to->cut_off = r->count;
    to->length_rows[r->length]++;
    to->positions[r->length] += r->count;
    s->full = to->rows == s->most;
    return put_line(s, r);
}

/* --------------------------------------------------------------------------------- ordering */

static int by_rank(const void *a, const void *b) { /* equal counts stay in the file's order */
    const order *x = a, *y = b;
    if (x->count != y->count)
        return x->count < y->count ? 1 : -1;
    return (x->at > y->at) - (x->at < y->at);
}

/* All n-grams with counts least .. greatest, n of them, in order. */
static embed_status take_range(selecting *s, uint64_t least, uint64_t greatest, uint64_t n) {
    embed_status st = EMBED_OK;
    if (n == 0 || s->full)
        return EMBED_OK;
    if (least == greatest)
        return pass(s, least, greatest, take);
    if (n > s->capacity) {
        const uint64_t middle = least + (greatest - least) / 2;
        s->n = 0;
        EMB_TRY(pass(s, middle + 1, greatest, add_to_number));
        const uint64_t upper = s->n;
        EMB_TRY(take_range(s, middle + 1, greatest, upper));
        return take_range(s, least, middle, n - upper);
    }
    s->n = 0;
    EMB_TRY(pass(s, least, greatest, keep_record));
    qsort(s->orders, s->n, sizeof *s->orders, by_rank);
    for (size_t i = 0; i < s->n && !s->full; i++)
        EMB_TRY(take(s, &s->records[s->orders[i].at]));
fail:
    return st;
}

/* From the highest counts down, as many bins at a time as fit in memory. */
static embed_status take_all(selecting *s) {
    embed_status st = EMBED_OK;
    for (size_t high = EMB_COUNT_BINS; high > 0 && !s->full;) {
        uint64_t n = s->bins[--high];
        size_t low = high;
        while (low > 0 && n + s->bins[low - 1] <= s->capacity)
            n += s->bins[--low];
        EMB_TRY(take_range(s, emb_count_bin_least(low), emb_count_bin_greatest(high), n));
        high = low;
    }
fail:
    return st;
}

/* --------------------------------------------------------------------------------- limits */

/* Bytes of a table of so many rows; UINT64_MAX beyond what a table can hold. */
static uint64_t table_bytes(const emb_counts_limits *l, uint64_t rows) {
    emb_ngram_manifest manifest;
    memset(&manifest, 0, sizeof manifest);
    manifest.layout.width = l->width;
    manifest.layout.dtype = l->dtype;
    const emb_ngram_write_params params = {.manifest = &manifest, .memory = UINT64_MAX};
    uint64_t memory, disk;
    if (emb_ngram_write_estimate(&params, rows, &memory, &disk) != EMBED_OK)
        return UINT64_MAX;
    return disk + 8192; /* manifest.json */
}

static uint64_t rows_in_bytes(const emb_counts_limits *l, uint64_t most) {
    uint64_t low = 0, high = most; /* low fits, high + 1 does not */
    while (low < high) {
        const uint64_t middle = low + (high - low + 1) / 2;
        if (table_bytes(l, middle) <= l->bytes)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

static embed_status check_limits(const emb_counts_limits *l, const emb_counts_header *h,
                                 const char *path) {
    if (l->min_documents > 1 && !h->with_documents)
        return emb_fail(EMBED_ERR_ARG,
                        "%s: it does not say in how many texts each n-gram is; count with "
                        "min_documents (--min-docs)",
                        path);
    for (int32_t i = 0; i < l->n_excluded; i++)
        if (l->excluded[i] < 0 || l->excluded[i] >= h->vocab)
            return emb_fail(EMBED_ERR_ARG,
                            "excluded ids: expected ids below %d, the vocabulary of %s, found %d",
                            h->vocab, path, l->excluded[i]);
    if (l->bytes > 0 && table_bytes(l, 0) > l->bytes)
        return emb_fail(EMBED_ERR_ARG, "bytes: even an empty table takes %llu, found %llu",
                        (unsigned long long)table_bytes(l, 0), (unsigned long long)l->bytes);
    return EMBED_OK;
}

static embed_status exclude(selecting *s) {
    const size_t words = ((size_t)s->reader.header.vocab + 63) / 64;
    if (s->limits->n_excluded == 0)
        return EMBED_OK;
    const embed_status st =
        emb_new_array(s->env, words, sizeof *s->excluded, (void **)&s->excluded);
    for (int32_t i = 0; st == EMBED_OK && i < s->limits->n_excluded; i++) {
        const uint32_t id = (uint32_t)s->limits->excluded[i];
        s->excluded[id / 64] |= (uint64_t)1 << (id % 64);
    }
    return st;
}

/* How many rows at most, and memory for the set of those taken and for sorting. */
static embed_status plan(selecting *s, uint64_t memory) {
    const emb_counts_limits *l = s->limits;
    uint64_t eligible = 0;
    embed_status st = EMBED_OK;
    for (size_t i = 0; i < EMB_COUNT_BINS; i++)
        eligible += s->bins[i];
    s->most = l->rows > 0 && l->rows < eligible ? l->rows : eligible;
    if (l->bytes > 0)
        s->most = rows_in_bytes(l, s->most);
    s->full = s->most == 0;
    if (s->most >= EMB_NGRAM_NO_ROW)
        return emb_fail(EMBED_ERR_UNSUPPORTED,
                        "%llu n-grams, but a table holds fewer than %u; take fewer of them",
                        (unsigned long long)s->most, EMB_NGRAM_NO_ROW);
    if (l->quotas) {
        s->taken_size = s->most * 2 + 16;
        if (s->taken_size > memory / 2 / sizeof *s->taken)
            return emb_fail(EMBED_ERR_ARG,
                            "memory: %llu rows with limits by length need at least %llu bytes, "
                            "found %llu",
                            (unsigned long long)s->most,
                            (unsigned long long)(s->taken_size * 16 + 65536),
                            (unsigned long long)s->job->memory);
        EMB_TRY(emb_new_array(s->env, (size_t)s->taken_size, sizeof *s->taken, (void **)&s->taken));
        memory -= s->taken_size * sizeof *s->taken;
    }
    const uint64_t fitting = memory / (sizeof *s->records + sizeof *s->orders);
    s->capacity = (size_t)(fitting < eligible ? fitting : eligible) + 1;
    EMB_TRY(emb_new_array(s->env, s->capacity, sizeof *s->records, (void **)&s->records));
    EMB_TRY(emb_new_array(s->env, s->capacity, sizeof *s->orders, (void **)&s->orders));
fail:
    return st;
}

/* --------------------------------------------------------------------------------- the whole */

static embed_status publish(selecting *s, const char *output) {
    embed_status st = flush(s);
    if (st == EMBED_OK && fsync(s->fd) != 0)
        st = emb_file_fail(s->partial, "cannot sync");
    return st != EMBED_OK ? st : emb_durable_rename(s->env, s->partial, output);
}

static embed_status open_files(selecting *s, const char *counts, const char *output) {
    const uint64_t share = s->job->memory / 16;
    const size_t buffer = share > (1u << 20) ? 1u << 20 : (size_t)share;
    embed_status st = EMBED_OK;
    s->room = buffer;
    EMB_TRY(emb_durable_check_target(output));
    EMB_TRY(emb_counts_open(&s->reader, s->env, counts, buffer));
    EMB_TRY(emb_alloc(s->env, buffer, (void **)&s->buffer));
    EMB_TRY(emb_new_array(s->env, EMB_COUNT_BINS, sizeof *s->bins, (void **)&s->bins));
    EMB_TRY(emb_counts_partial_path(s->env, output, &s->partial));
    for (int32_t n = 2; n <= s->reader.header.k; n++)
        s->report.total += s->reader.header.sections[n].entries;
fail:
    return st;
}

static void close_all(selecting *s, int failed) {
    if (s->fd >= 0) {
        emb_file_close(s->fd);
        if (failed)
            (void)unlink(s->partial);
    }
    emb_counts_close(&s->reader);
    void *const blocks[] = {s->excluded, s->bins,    s->records, s->orders,
                            s->taken,    s->partial, s->buffer};
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++)
        emb_free(s->env, blocks[i]);
}

embed_status emb_counts_select(const emb_env *env, const char *counts, const char *output,
                               const emb_counts_limits *limits, const emb_counts_job *job,
                               emb_counts_selection *result) {
    embed_status st = EMBED_OK;
    emb_counts_limits l = *limits;
    selecting s = {.env = env, .limits = &l, .job = job, .result = result, .fd = -1};
    memset(result, 0, sizeof *result);
    if (job->memory < EMB_COUNTS_SELECT_LEAST_MEMORY)
        return emb_fail(EMBED_ERR_ARG, "memory: expected at least %llu bytes, found %llu",
                        (unsigned long long)EMB_COUNTS_SELECT_LEAST_MEMORY,
                        (unsigned long long)job->memory);
    EMB_TRY(open_files(&s, counts, output));
    if (l.width == 0)
        l.width = s.reader.header.hidden;
    if (l.bytes > 0 && l.width == 0) {
        st = emb_fail(EMBED_ERR_ARG, "%s: merged from models of different widths; say the rows'",
                      counts);
        goto fail;
    }
    EMB_TRY(check_limits(&l, &s.reader.header, counts));
    EMB_TRY(exclude(&s));
    s.report.phase = "rank";
    s.report.unit = "n-grams";
    const uint64_t all = s.report.total * (sizeof *s.records + sizeof *s.orders) + (2u << 20);
    s.report.memory_bytes = all < job->memory ? all : job->memory;
    s.report.disk_bytes = (l.rows > 0 && l.rows < s.report.total ? l.rows : s.report.total) * 40;
    EMB_TRY(tell(&s));
    EMB_TRY(pass(&s, 0, UINT64_MAX, add_to_bin));
    const uint64_t fixed = 2 * s.room + EMB_COUNT_BINS * sizeof *s.bins + 65536;
    EMB_TRY(plan(&s, job->memory - fixed));
    s.fd = open(s.partial, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (s.fd < 0) {
        st = emb_file_fail(s.partial, "cannot create");
        goto fail;
    }
    s.report.phase = "select";
    EMB_TRY(take_all(&s));
    EMB_TRY(publish(&s, output));
    result->tokens = s.reader.header.tokens;
    result->width = l.width;
    result->table_bytes = l.width > 0 ? table_bytes(&l, result->rows) : 0;
fail:
    close_all(&s, st != EMBED_OK);
    return st;
}
