#include "ngram/counts_file.h"

#include <string.h>

#include "io/file.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

int emb_counts_compare(const emb_counts_record *a, const emb_counts_record *b) {
    if (a->length != b->length)
        return a->length < b->length ? -1 : 1;
    for (int32_t i = 0; i < a->length; i++)
        if (a->ids[i] != b->ids[i])
            return a->ids[i] < b->ids[i] ? -1 : 1;
    return 0;
}

/* ---------------------------------------------------------------------------------------- header
 */

static uint64_t header_checksum(const emb_counts_header *h) {
    emb_counts_header copy = *h;
    copy.checksum = 0;
    return XXH3_64bits(&copy, sizeof copy);
}

void emb_counts_header_seal(emb_counts_header *h) {
    h->magic = EMB_COUNTS_MAGIC;
    h->version = EMB_COUNTS_VERSION;
    h->header_bytes = sizeof *h;
    h->checksum = header_checksum(h);
}

static embed_status check_sections(const emb_counts_header *h, uint64_t file_bytes,
                                   const char *path) {
    uint64_t at = sizeof *h;
    for (int32_t n = 2; n <= h->k; n++) {
        const emb_counts_section *s = &h->sections[n];
        uint64_t bytes;
        if (s->offset != at ||
            __builtin_mul_overflow(s->entries, emb_counts_record_bytes(n, h->with_documents),
                                   &bytes) ||
            __builtin_add_overflow(at, bytes, &at))
            return emb_fail(EMBED_ERR_FORMAT,
                            "%s: %d-grams: expected a section at byte %llu, found %llu entries at "
                            "%llu",
                            path, n, (unsigned long long)at, (unsigned long long)s->entries,
                            (unsigned long long)s->offset);
    }
    if (file_bytes < at)
        return emb_fail(EMBED_ERR_TRUNCATED, "%s: expected %llu bytes, found %llu", path,
                        (unsigned long long)at, (unsigned long long)file_bytes);
    if (file_bytes > at)
        return emb_fail(EMBED_ERR_FORMAT, "%s: expected %llu bytes, found %llu", path,
                        (unsigned long long)at, (unsigned long long)file_bytes);
    return EMBED_OK;
}

embed_status emb_counts_header_check(const emb_counts_header *h, uint64_t file_bytes,
                                     const char *path) {
    if (h->magic != EMB_COUNTS_MAGIC)
        return emb_fail(EMBED_ERR_FORMAT,
                        "%s: expected a file of `embed ngram count`, which starts with EMBCOUNT",
                        path);
    if (h->version != EMB_COUNTS_VERSION)
        return emb_fail(EMBED_ERR_UNSUPPORTED, "%s: expected version %d, found %u", path,
                        EMB_COUNTS_VERSION, h->version);
    if (h->header_bytes != sizeof *h || h->checksum != header_checksum(h))
        return emb_fail(EMBED_ERR_FORMAT, "%s: header: its checksum is wrong; the file is corrupt",
                        path);
    if (h->k < 2 || h->k > EMB_NGRAM_MAX_K || h->vocab < 1 || h->with_documents < 0 ||
        h->with_documents > 1 || h->min_count < 1 || h->min_documents < 1)
        return emb_fail(EMBED_ERR_FORMAT,
                        "%s: header: expected k 2 to %d and a vocabulary, found %d and %d", path,
                        EMB_NGRAM_MAX_K, h->k, h->vocab);
    return check_sections(h, file_bytes, path);
}

/* ---------------------------------------------------------------------------------------- cursor
 */

embed_status emb_counts_cursor_open(emb_counts_cursor *c, const emb_env *env, int fd,
                                    const char *path, size_t buffer_bytes) {
    embed_status st = EMBED_OK;
    *c = (emb_counts_cursor){.env = env, .path = path, .fd = fd};
    c->capacity = buffer_bytes < EMB_COUNTS_RECORD_MAX ? EMB_COUNTS_RECORD_MAX : buffer_bytes;
    EMB_TRY(emb_alloc(env, c->capacity, (void **)&c->buffer));
    EMB_TRY(emb_alloc(env, sizeof(XXH3_state_t), &c->hash));
    return EMBED_OK;
fail:
    emb_counts_cursor_close(c);
    return st;
}

void emb_counts_cursor_close(emb_counts_cursor *c) {
    if (c->env == NULL)
        return;
    emb_free(c->env, c->buffer);
    emb_free(c->env, c->hash);
    *c = (emb_counts_cursor){0};
}

void emb_counts_cursor_start(emb_counts_cursor *c, const emb_counts_header *h, int32_t length) {
    c->length = length;
    c->vocab = h->vocab;
    c->with_documents = h->with_documents;
    c->section = h->sections[length];
    c->left = c->section.entries;
    c->at = c->section.offset;
    c->have = c->used = 0;
    c->last = (emb_counts_record){0};
    (void)XXH3_64bits_reset(c->hash);
}

static embed_status fill(emb_counts_cursor *c, size_t record) {
    const size_t rest = c->have - c->used;
    const uint64_t wanted = c->left * record - rest; /* fits: the header was checked */
    const size_t room = c->capacity - rest;
    const size_t n = wanted < room ? (size_t)wanted : room;
    memmove(c->buffer, c->buffer + c->used, rest);
    c->used = 0;
    c->have = rest;
    const embed_status st = emb_file_read_at(c->fd, c->path, c->at, c->buffer + rest, n);
    if (st != EMBED_OK)
        return st;
    (void)XXH3_64bits_update(c->hash, c->buffer + rest, n);
    c->have += n;
    c->at += n;
    return EMBED_OK;
}

static embed_status check_record(emb_counts_cursor *c, const emb_counts_record *r) {
    const char *wrong = NULL;
    if (r->count == 0)
        wrong = "a count of 0";
    for (int32_t i = 0; i < r->length; i++)
        if (r->ids[i] >= (uint32_t)c->vocab)
            wrong = "an id outside the vocabulary";
    if (c->last.length != 0 && emb_counts_compare(&c->last, r) >= 0)
        wrong = "ids that are not in ascending order";
    if (wrong == NULL)
        return EMBED_OK;
    return emb_fail(EMBED_ERR_FORMAT, "%s: %d-gram %llu: found %s; the file is corrupt", c->path,
                    c->length, (unsigned long long)(c->section.entries - c->left), wrong);
}

embed_status emb_counts_cursor_next(emb_counts_cursor *c, emb_counts_record *out) {
    const size_t record = emb_counts_record_bytes(c->length, c->with_documents);
    embed_status st = EMBED_OK;
    *out = (emb_counts_record){0};
    if (c->left == 0) {
        if (XXH3_64bits_digest(c->hash) != c->section.checksum)
            return emb_fail(EMBED_ERR_FORMAT,
                            "%s: %d-grams: their checksum is wrong; the file is corrupt", c->path,
                            c->length);
        return EMBED_OK;
    }
    if (c->have - c->used < record)
        EMB_TRY(fill(c, record));
    const unsigned char *p = c->buffer + c->used;
    out->length = c->length;
    memcpy(&out->count, p, 8);
    if (c->with_documents)
        memcpy(&out->documents, p + 8, 4);
    memcpy(out->ids, p + (c->with_documents ? 12 : 8), 4 * (size_t)c->length);
    EMB_TRY(check_record(c, out));
    c->used += record;
    c->left--;
    c->last = *out;
fail:
    return st;
}

/* ---------------------------------------------------------------------------------------- reader
 */

embed_status emb_counts_open(emb_counts_reader *r, const emb_env *env, const char *path,
                             size_t buffer_bytes) {
    embed_status st = EMBED_OK;
    uint64_t size;
    *r = (emb_counts_reader){.env = env, .fd = -1};
    EMB_TRY(emb_file_open(path, &r->fd, &size));
    EMB_TRY(emb_counts_cursor_open(&r->cursor, env, r->fd, NULL, buffer_bytes));
    EMB_TRY(emb_strdup(env, path, strlen(path), &r->path));
    r->cursor.path = r->path;
    if (size < sizeof r->header) {
        char start[8] = {0};
        const uint64_t magic = EMB_COUNTS_MAGIC;
        EMB_TRY(emb_file_read_at(r->fd, path, 0, start, size < 8 ? (size_t)size : 8));
        st = memcmp(start, &magic, sizeof start) != 0
                 ? emb_fail(EMBED_ERR_FORMAT,
                            "%s: expected a file of `embed ngram count`, found %llu other bytes",
                            path, (unsigned long long)size)
                 : emb_fail(EMBED_ERR_TRUNCATED, "%s: expected a header of %zu bytes, found %llu",
                            path, sizeof r->header, (unsigned long long)size);
        goto fail;
    }
    EMB_TRY(emb_file_read_at(r->fd, path, 0, &r->header, sizeof r->header));
    EMB_TRY(emb_counts_header_check(&r->header, size, path));
    emb_counts_rewind(r);
    return EMBED_OK;
fail:
    emb_counts_close(r);
    return st;
}

void emb_counts_close(emb_counts_reader *r) {
    if (r->env == NULL)
        return;
    emb_file_close(r->fd);
    emb_free(r->env, r->path);
    emb_counts_cursor_close(&r->cursor);
    *r = (emb_counts_reader){.fd = -1};
}

void emb_counts_rewind(emb_counts_reader *r) {
    emb_counts_cursor_start(&r->cursor, &r->header, 2);
}

embed_status emb_counts_next(emb_counts_reader *r, emb_counts_record *out) {
    for (;;) {
        const embed_status st = emb_counts_cursor_next(&r->cursor, out);
        if (st != EMBED_OK || out->length != 0 || r->cursor.length == r->header.k)
            return st;
        emb_counts_cursor_start(&r->cursor, &r->header, r->cursor.length + 1);
    }
}
