#define _POSIX_C_SOURCE 200809L
#include "ngram/ngram_list.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"
#include "io/json.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#define BUFFER_BYTES ((size_t)256 << 10)
#define MAX_LINE_BYTES ((size_t)1 << 20)
#define MARK_ROWS 1024 /* the place of every so many rows is kept */
#define MAX_ROWS ((uint64_t)EMB_NGRAM_NO_ROW)
#define HASHED 32      /* n-grams that go into the digest at once */
#define SHOWN_BYTES 60 /* of a wrong line in a message */

struct mark {
    uint64_t offset, line; /* of row number MARK_ROWS * its place, and lines before it */
};

struct emb_ngram_list {
    emb_env env;
    char *path;
    int fd;
    char *buffer; /* [capacity]: bytes at .. end of it are not read yet */
    size_t capacity, at, end;
    uint64_t end_offset; /* of the byte after the buffer's last one */
    uint64_t line;       /* lines taken */
    uint64_t next_row;   /* of the next n-gram */
    struct mark *marks;
    size_t n_marks, marks_capacity;
    uint64_t rows, lengths[EMB_NGRAM_MAX_K + 1];
    uint8_t digest[16];
};

/* ------------------------------------------------------------------------------ lines of a file */

static void seek(emb_ngram_list *l, uint64_t offset, uint64_t line, uint64_t row) {
    l->at = l->end = 0;
    l->end_offset = offset;
    l->line = line;
    l->next_row = row;
}

/* More bytes behind those that are not read yet; *got 0 at the end of the file. */
static embed_status refill(emb_ngram_list *l, size_t *got) {
    embed_status st = EMBED_OK;
    *got = 0;
    if (l->end > l->at) /* there is no buffer yet at the start */
        memmove(l->buffer, l->buffer + l->at, l->end - l->at);
    l->end -= l->at;
    l->at = 0;
    if (l->end == MAX_LINE_BYTES)
        return emb_fail(EMBED_ERR_FORMAT, "%s: line %llu is longer than %zu bytes", l->path,
                        (unsigned long long)l->line + 1, MAX_LINE_BYTES);
    EMB_TRY(emb_grow(&l->env, (void **)&l->buffer, &l->capacity, l->end + BUFFER_BYTES, 1));
    for (;;) {
        const size_t room =
            BUFFER_BYTES < MAX_LINE_BYTES - l->end ? BUFFER_BYTES : MAX_LINE_BYTES - l->end;
        const ssize_t n = pread(l->fd, l->buffer + l->end, room, (off_t)l->end_offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return emb_file_fail(l->path, "cannot read");
        l->end += (size_t)n;
        l->end_offset += (uint64_t)n;
        *got = (size_t)n;
        return EMBED_OK;
    }
fail:
    return st;
}

static int is_blank(const char *p, const char *end) {
    while (p < end && (*p == ' ' || *p == '\t' || *p == '\r'))
        p++;
    return p == end;
}

/* The next line that is not blank, without its end; *text NULL after the last one. */
static embed_status next_line(emb_ngram_list *l, const char **text, size_t *len) {
    embed_status st = EMBED_OK;
    size_t searched = 0, got = 1;
    *text = NULL;
    for (;;) {
        const char *start = l->buffer + l->at;
        const size_t rest = l->end - l->at;
        const char *stop = rest > searched ? memchr(start + searched, '\n', rest - searched) : NULL;
        if (stop == NULL && got > 0) {
            searched = rest;
            EMB_TRY(refill(l, &got));
            continue;
        }
        if (stop == NULL && rest == 0)
            return EMBED_OK;
        const size_t bytes = stop != NULL ? (size_t)(stop - start) : rest;
        l->at += bytes + (stop != NULL);
        l->line++;
        searched = 0;
        if (is_blank(start, start + bytes))
            continue;
        *text = start;
        *len = bytes;
        return EMBED_OK;
    }
fail:
    return st;
}

/* -------------------------------------------------------------------------------------- parsing */

struct cursor {
    const char *p, *end;
};

static void skip_space(struct cursor *c) {
    while (c->p < c->end && (*c->p == ' ' || *c->p == '\t' || *c->p == '\r'))
        c->p++;
}

/* This character, after white space. */
static int take(struct cursor *c, char wanted) {
    skip_space(c);
    if (c->p == c->end || *c->p != wanted)
        return 0;
    c->p++;
    return 1;
}

/* A whole number of at most 10 digits without leading zeros. */
static int take_number(struct cursor *c, uint64_t *out) {
    uint64_t v = 0;
    int digits = 0;
    skip_space(c);
    for (; c->p < c->end && *c->p >= '0' && *c->p <= '9' && digits <= 10; c->p++, digits++)
        v = v * 10 + (uint64_t)(*c->p - '0');
    *out = v;
    return digits > 0 && digits <= 10 && (digits == 1 || c->p[-digits] != '0');
}

static int take_ids(struct cursor *c, emb_ngram_fgram *g) {
    uint64_t id;
    int n = 0;
    if (!take(c, '['))
        return 0;
    do {
        if (n == EMB_NGRAM_MAX_K || !take_number(c, &id) || id > INT32_MAX)
            return 0;
        g->ids[n++] = (uint32_t)id;
    } while (take(c, ','));
    g->length = (uint8_t)n;
    return n >= 2 && take(c, ']');
}

static int take_key(struct cursor *c, const char *key, size_t len) {
    if ((size_t)(c->end - c->p) < len || memcmp(c->p, key, len) != 0)
        return 0;
    c->p += len;
    return take(c, ':');
}

/* The usual form of a line. 0: something else, or wrong; then the JSON reader has its say. */
static int parse_plain(const char *text, size_t len, emb_ngram_fgram *g) {
    struct cursor c = {text, text + len};
    int ids = 0, counts = 0;
    uint64_t count = 0;
    if (!take(&c, '{'))
        return 0;
    do {
        skip_space(&c);
        if (!ids && take_key(&c, "\"ids\"", 5))
            ids = take_ids(&c, g);
        else if (!counts && take_key(&c, "\"count\"", 7))
            counts = take_number(&c, &count);
        else
            return 0;
    } while (take(&c, ','));
    g->count = count < UINT32_MAX ? (uint32_t)count : UINT32_MAX;
    return ids && take(&c, '}') && is_blank(c.p, c.end);
}

static embed_status read_ids(const emb_json_doc *doc, const emb_json *ids, emb_ngram_fgram *g) {
    const size_t n = emb_json_count(ids);
    emb_json_iter it = emb_json_iterate(ids);
    const emb_json *x;
    if (n < 2 || n > EMB_NGRAM_MAX_K)
        return emb_fail(EMBED_ERR_FORMAT, "ids: expected 2 to %d ids, found %zu", EMB_NGRAM_MAX_K,
                        n);
    while ((x = emb_json_next(&it, NULL)) != NULL) {
        char shown[EMB_JSON_SHOWN];
        if (!emb_json_is_integer(x) || emb_json_integer(x) < 0 || emb_json_integer(x) > INT32_MAX)
            return emb_fail(EMBED_ERR_FORMAT, "ids: expected token ids, found %s",
                            emb_json_show(x, shown));
        g->ids[g->length++] = (uint32_t)emb_json_integer(x);
    }
    (void)doc;
    return EMBED_OK;
}

static embed_status read_json(const emb_json_doc *doc, emb_ngram_fgram *g) {
    embed_status st = EMBED_OK;
    const emb_json *root = emb_json_root(doc), *ids, *count = NULL;
    EMB_TRY(emb_json_need(doc, root, "ids", EMB_JSON_ARRAY, &ids));
    EMB_TRY(read_ids(doc, ids, g));
    EMB_TRY(emb_json_get(doc, root, "count", EMB_JSON_NUMBER, &count));
    /* 5.0 and 1e3 are whole numbers too, as some programs write them */
    const double n = count != NULL ? emb_json_number(count) : 0;
    if (!(n >= 0 && n <= 0x1p64) || (n < 0x1p53 && n != (double)(uint64_t)n)) {
        char shown[EMB_JSON_SHOWN];
        return emb_fail(EMBED_ERR_FORMAT, "count: expected a whole number, found %s",
                        emb_json_show(count, shown));
    }
    g->count = n < (double)UINT32_MAX ? (uint32_t)n : UINT32_MAX;
fail:
    return st;
}

static embed_status parse(const emb_ngram_list *l, const char *text, size_t len,
                          emb_ngram_fgram *g) {
    embed_status st = EMBED_OK;
    emb_json_doc *doc = NULL;
    memset(g, 0, sizeof *g);
    if (parse_plain(text, len, g))
        return EMBED_OK;
    memset(g, 0, sizeof *g);
    EMB_TRY(emb_json_parse(&doc, &l->env, "JSON", text, len));
    EMB_TRY(read_json(doc, g));
    emb_json_free(doc);
    return EMBED_OK;
fail:
    emb_json_free(doc);
    if (st == EMBED_ERR_FORMAT) {
        char shown[SHOWN_BYTES + 1];
        emb_fail_excerpt(shown, sizeof shown, text, len);
        emb_fail_prefix("%s: line %llu (%s%s)", l->path, (unsigned long long)l->line, shown,
                        len > SHOWN_BYTES ? "..." : "");
    }
    return st;
}

/* ------------------------------------------------------------------------------------ the list */

/* First pass: every line is checked and counted, and where each MARK_ROWS-th row is. */
static embed_status scan(emb_ngram_list *l) {
    embed_status st = EMBED_OK;
    XXH3_state_t state;
    emb_ngram_fgram some[HASHED];
    size_t n = 0;
    const char *text;
    size_t len;
    (void)XXH3_128bits_reset(&state);
    for (;;) {
        const struct mark here = {l->end_offset - (l->end - l->at), l->line};
        EMB_TRY(next_line(l, &text, &len));
        if (text == NULL)
            break;
        EMB_TRY(parse(l, text, len, &some[n]));
        if (l->rows == MAX_ROWS) {
            st = emb_fail(EMBED_ERR_UNSUPPORTED, "%s: more than %llu f-grams; split the list",
                          l->path, (unsigned long long)MAX_ROWS);
            goto fail;
        }
        if (l->rows % MARK_ROWS == 0) {
            EMB_TRY(emb_grow(&l->env, (void **)&l->marks, &l->marks_capacity, l->n_marks + 1,
                             sizeof *l->marks));
            l->marks[l->n_marks++] = here;
        }
        l->rows++;
        l->lengths[some[n].length]++;
        if (++n == HASHED) {
            (void)XXH3_128bits_update(&state, some, sizeof some);
            n = 0;
        }
    }
    (void)XXH3_128bits_update(&state, some, n * sizeof *some);
    XXH128_canonicalFromHash((XXH128_canonical_t *)l->digest, XXH3_128bits_digest(&state));
    seek(l, 0, 0, 0);
fail:
    return st;
}

embed_status emb_ngram_list_open(emb_ngram_list **out, const emb_env *env, const char *path) {
    embed_status st = EMBED_OK;
    emb_ngram_list *l = NULL;
    uint64_t size;
    *out = NULL;
    EMB_TRY(emb_new(env, sizeof *l, (void **)&l));
    l->env = *env;
    l->fd = -1;
    EMB_TRY(emb_strdup(env, path, strlen(path), &l->path));
    EMB_TRY(emb_file_open(path, &l->fd, &size));
    EMB_TRY(scan(l));
    *out = l;
    return EMBED_OK;
fail:
    emb_ngram_list_free(l);
    return st;
}

void emb_ngram_list_free(emb_ngram_list *l) {
    if (l == NULL)
        return;
    const emb_env env = l->env;
    emb_file_close(l->fd);
    emb_free(&env, l->marks);
    emb_free(&env, l->buffer);
    emb_free(&env, l->path);
    emb_free(&env, l);
}

uint64_t emb_ngram_list_rows(const emb_ngram_list *l) {
    return l->rows;
}

const uint64_t *emb_ngram_list_lengths(const emb_ngram_list *l) {
    return l->lengths;
}

void emb_ngram_list_digest(const emb_ngram_list *l, uint8_t digest[16]) {
    memcpy(digest, l->digest, sizeof l->digest);
}

uint64_t emb_ngram_list_bytes(const emb_ngram_list *l) {
    return sizeof *l + l->capacity + l->marks_capacity * sizeof *l->marks;
}

/* The next n-gram; the file had one more when it was opened. */
static embed_status next_ngram(emb_ngram_list *l, emb_ngram_fgram *g) {
    embed_status st = EMBED_OK;
    const char *text;
    size_t len;
    EMB_TRY(next_line(l, &text, &len));
    if (text == NULL)
        return emb_fail(EMBED_ERR_FORMAT, "%s: expected %llu f-grams, found %llu; it was changed",
                        l->path, (unsigned long long)l->rows, (unsigned long long)l->next_row);
    EMB_TRY(parse(l, text, len, g));
    l->next_row++;
fail:
    return st;
}

/* To row `first`: from the nearest mark, unless it is soon reached from here. */
static embed_status go_to(emb_ngram_list *l, uint64_t first) {
    embed_status st = EMBED_OK;
    emb_ngram_fgram skipped;
    if (first < l->next_row || first - l->next_row > first % MARK_ROWS) {
        const struct mark *m = &l->marks[first / MARK_ROWS];
        seek(l, m->offset, m->line, first - first % MARK_ROWS);
    }
    while (l->next_row < first)
        EMB_TRY(next_ngram(l, &skipped));
fail:
    return st;
}

embed_status emb_ngram_list_read(emb_ngram_list *l, uint64_t first, size_t n,
                                 emb_ngram_fgram *out) {
    embed_status st = EMBED_OK;
    if (first > l->rows || n > l->rows - first)
        return emb_fail(EMBED_ERR_INTERNAL, "%s: rows %llu + %zu of %llu", l->path,
                        (unsigned long long)first, n, (unsigned long long)l->rows);
    if (n == 0)
        return EMBED_OK;
    EMB_TRY(go_to(l, first));
    for (size_t i = 0; i < n; i++)
        EMB_TRY(next_ngram(l, &out[i]));
fail:
    if (st != EMBED_OK && l->n_marks > 0)
        seek(l, l->marks[0].offset, l->marks[0].line, 0);
    return st;
}

embed_status emb_ngram_list_line(emb_ngram_list *l, uint64_t row, uint64_t *line) {
    emb_ngram_fgram g;
    const embed_status st = emb_ngram_list_read(l, row, 1, &g);
    *line = l->line;
    return st;
}
