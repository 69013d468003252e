#define _POSIX_C_SOURCE 200809L
#include "ngram/counts_merge.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "io/durable.h"

#define LEAST_BUFFER ((size_t)16 << 10) /* of each file */
#define MOST_BUFFER ((size_t)4 << 20)
#define REPORT_RECORDS ((uint64_t)1 << 16)

typedef struct merge {
    const emb_env *env;
    const emb_counts_job *job;
    emb_counts_reader *readers; /* [n] */
    emb_counts_record *next;    /* [n] of each file in the section at work; length 0: no more */
    uint32_t *heap;             /* files that have more, the least record first */
    size_t n, heaped;
    emb_counts_writer writer;
    embed_job_report report;
} merge;

uint64_t emb_counts_merge_least_memory(size_t n) {
    return (n + 1) * (LEAST_BUFFER + 2048); /* and what a reader needs besides */
}

embed_status emb_counts_partial_path(const emb_env *env, const char *path, char **out) {
    size_t bytes;
    embed_status st = emb_add(strlen(path), sizeof ".partial", "path", &bytes);
    *out = NULL;
    if (st == EMBED_OK)
        st = emb_alloc(env, bytes, (void **)out);
    if (st == EMBED_OK)
        (void)snprintf(*out, bytes, "%s.partial", path);
    return st;
}

static embed_status tell(merge *m) {
    if (m->job->report == NULL || m->job->report(m->job->user, &m->report) == 0)
        return EMBED_OK;
    return emb_fail(EMBED_ERR_CANCELLED, "merging was stopped");
}

/* ------------------------------------------------------------------------------------- opening */

static embed_status differ(const emb_counts_reader *a, const emb_counts_reader *b, const char *what,
                           const char *x, const char *y) {
    return emb_fail(EMBED_ERR_MISMATCH, "%s: %s %s, but %s has %s; they cannot be summed", a->path,
                    what, x, b->path, y);
}

static embed_status fit(const emb_counts_reader *a, const emb_counts_reader *b) {
    const emb_counts_header *x = &a->header, *y = &b->header;
    char left[36], right[36];
    if (memcmp(x->tokenizer, y->tokenizer, sizeof x->tokenizer) != 0) {
        (void)snprintf(left, sizeof left, "%.32s", x->tokenizer);
        (void)snprintf(right, sizeof right, "%.32s", y->tokenizer);
        return differ(a, b, "tokenizer", left, right);
    }
    const struct {
        const char *what;
        int32_t left, right;
    } fields[] = {{"K", x->k, y->k},
                  {"vocabulary", x->vocab, y->vocab},
                  {"document counts (1 yes, 0 no)", x->with_documents, y->with_documents}};
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        (void)snprintf(left, sizeof left, "%d", fields[i].left);
        (void)snprintf(right, sizeof right, "%d", fields[i].right);
        if (fields[i].left != fields[i].right)
            return differ(a, b, fields[i].what, left, right);
    }
    return EMBED_OK;
}

static uint64_t larger(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

static embed_status open_inputs(merge *m, const char *const *inputs, size_t buffer,
                                emb_counts_header *sum) {
    embed_status st = EMBED_OK;
    for (size_t i = 0; i < m->n; i++) {
        emb_counts_reader *r = &m->readers[i];
        EMB_TRY(emb_counts_open(r, m->env, inputs[i], buffer));
        EMB_TRY(fit(&m->readers[0], r));
        const emb_counts_header *h = &r->header;
        if (i == 0) {
            *sum = *h;
            memset(sum->sections, 0, sizeof sum->sections);
        } else {
            sum->hidden = sum->hidden == h->hidden ? h->hidden : 0;
            sum->min_count = larger(sum->min_count, h->min_count);
            sum->min_documents = larger(sum->min_documents, h->min_documents);
            if (__builtin_add_overflow(sum->tokens, h->tokens, &sum->tokens) ||
                __builtin_add_overflow(sum->texts, h->texts, &sum->texts))
                return emb_fail(EMBED_ERR_FORMAT, "%s: the sum of all tokens exceeds 64 bits",
                                inputs[i]);
        }
        for (int32_t n = 2; n <= h->k; n++) {
            m->report.total += h->sections[n].entries;
            m->report.disk_bytes +=
                h->sections[n].entries * emb_counts_record_bytes(n, h->with_documents);
        }
    }
fail:
    return st;
}

/* ------------------------------------------------------------------------------------- merging */

static int less(const merge *m, uint32_t a, uint32_t b) {
    return emb_counts_compare(&m->next[a], &m->next[b]) < 0;
}

static void sift_down(merge *m, size_t i) {
    const uint32_t moved = m->heap[i];
    for (size_t child; (child = 2 * i + 1) < m->heaped; i = child) {
        child += child + 1 < m->heaped && less(m, m->heap[child + 1], m->heap[child]);
        if (!less(m, m->heap[child], moved))
            break;
        m->heap[i] = m->heap[child];
    }
    m->heap[i] = moved;
}

static embed_status start_section(merge *m, int32_t length) {
    embed_status st = EMBED_OK;
    m->heaped = 0;
    for (size_t i = 0; i < m->n; i++) {
        emb_counts_cursor_start(&m->readers[i].cursor, &m->readers[i].header, length);
        EMB_TRY(emb_counts_cursor_next(&m->readers[i].cursor, &m->next[i]));
        if (m->next[i].length != 0)
            m->heap[m->heaped++] = (uint32_t)i;
    }
    for (size_t i = m->heaped; i-- > 0;)
        sift_down(m, i);
fail:
    return st;
}

static embed_status advance(merge *m) {
    const uint32_t file = m->heap[0];
    const embed_status st = emb_counts_cursor_next(&m->readers[file].cursor, &m->next[file]);
    if (m->next[file].length == 0)
        m->heap[0] = m->heap[--m->heaped];
    if (m->heaped > 0)
        sift_down(m, 0);
    m->report.done++;
    return st;
}

static embed_status merge_section(merge *m, int32_t length) {
    embed_status st = EMBED_OK;
    EMB_TRY(start_section(m, length));
    emb_counts_writer_start(&m->writer, length);
    while (m->heaped > 0) {
        emb_counts_record sum = m->next[m->heap[0]];
        EMB_TRY(advance(m));
        while (m->heaped > 0 && emb_counts_compare(&sum, &m->next[m->heap[0]]) == 0) {
            const emb_counts_record *r = &m->next[m->heap[0]];
            if (__builtin_add_overflow(sum.count, r->count, &sum.count) ||
                __builtin_add_overflow(sum.documents, r->documents, &sum.documents))
                return emb_fail(EMBED_ERR_UNSUPPORTED,
                                "%s: counts of a %d-gram sum up to more than the file can hold",
                                m->readers[m->heap[0]].path, length);
            EMB_TRY(advance(m));
        }
        EMB_TRY(emb_counts_writer_put(&m->writer, &sum));
        if (m->report.done % REPORT_RECORDS == 0)
            EMB_TRY(tell(m));
    }
    EMB_TRY(emb_counts_writer_end(&m->writer));
fail:
    return st;
}

embed_status emb_counts_merge(const emb_env *env, const char *const *inputs, size_t n,
                              const char *output, const emb_counts_job *job) {
    embed_status st = EMBED_OK;
    merge m = {.env = env, .job = job, .n = n};
    emb_counts_header sum;
    char *partial = NULL;
    const uint64_t least = emb_counts_merge_least_memory(n), share = job->memory / (n + 1);
    const size_t buffer = share > MOST_BUFFER ? MOST_BUFFER : (size_t)(share - share / 8);
    if (n < 1 || n > EMB_COUNTS_MERGE_MAX)
        return emb_fail(EMBED_ERR_ARG, "expected 1 to %d files to merge, found %zu",
                        EMB_COUNTS_MERGE_MAX, n);
    if (job->memory < least)
        return emb_fail(EMBED_ERR_ARG,
                        "memory: expected at least %llu bytes for %zu files, found "
                        "%llu",
                        (unsigned long long)least, n, (unsigned long long)job->memory);
    m.report = (embed_job_report){.phase = "merge", .unit = "n-grams"};
    m.report.memory_bytes = (n + 1) * (uint64_t)buffer;
    EMB_TRY(emb_durable_check_target(output));
    EMB_TRY(emb_new_array(env, n, sizeof *m.readers, (void **)&m.readers));
    EMB_TRY(emb_new_array(env, n, sizeof *m.next, (void **)&m.next));
    EMB_TRY(emb_new_array(env, n, sizeof *m.heap, (void **)&m.heap));
    EMB_TRY(open_inputs(&m, inputs, buffer, &sum));
    EMB_TRY(tell(&m));
    EMB_TRY(emb_counts_partial_path(env, output, &partial));
    EMB_TRY(emb_counts_writer_open(&m.writer, env, partial, &sum, 0, buffer));
    for (int32_t length = 2; length <= sum.k; length++)
        EMB_TRY(merge_section(&m, length));
    EMB_TRY(emb_counts_writer_publish(&m.writer, output));
fail:
    if (st != EMBED_OK && m.writer.env != NULL)
        (void)unlink(partial);
    emb_counts_writer_close(&m.writer);
    for (size_t i = 0; m.readers != NULL && i < n; i++)
        emb_counts_close(&m.readers[i]);
    emb_free(env, m.readers);
    emb_free(env, m.next);
    emb_free(env, m.heap);
    emb_free(env, partial);
    return st;
}
