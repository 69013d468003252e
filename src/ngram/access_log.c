#define _POSIX_C_SOURCE 200809L
#include "ngram/access_log.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "io/file.h"
#include "io/json.h"

#define PIECE ((size_t)256 << 10)
#define MAX_LINE ((size_t)64 << 10)

typedef struct log_reader {
    const emb_env *env;
    const char *path;
    uint32_t *hits;
    uint64_t rows, line;
} log_reader;

static embed_status wrong(const log_reader *r, const char *found, size_t len) {
    char shown[61];
    emb_fail_excerpt(shown, sizeof shown, found, len);
    return emb_fail(EMBED_ERR_FORMAT,
                    "%s: line %" PRIu64
                    ": expected {\"row\":n,\"hits\":n} or row and hits, found %s",
                    r->path, r->line, shown);
}

/* A whole number; the text after it, or NULL. */
static const char *take_number(const char *p, const char *end, uint64_t *out) {
    const char *start = p;
    *out = 0;
    for (; p < end && *p >= '0' && *p <= '9' && p - start < 19; p++)
        *out = *out * 10 + (uint64_t)(*p - '0');
    return p > start ? p : NULL;
}

static const char *skip_blanks(const char *p, const char *end) {
    while (p < end && (*p == ' ' || *p == '\t' || *p == '\r'))
        p++;
    return p;
}

static embed_status read_json(const log_reader *r, const char *line, size_t len, uint64_t *row,
                              uint64_t *hits) {
    emb_json_doc *doc = NULL;
    const emb_json *a, *b;
    embed_status st = EMBED_OK;
    EMB_TRY(emb_json_parse(&doc, r->env, r->path, line, len));
    EMB_TRY(emb_json_find(doc, emb_json_root(doc), "row", &a));
    EMB_TRY(emb_json_find(doc, emb_json_root(doc), "hits", &b));
    if (!emb_json_is_integer(a) || emb_json_integer(a) < 0 ||
        (b != NULL && (!emb_json_is_integer(b) || emb_json_integer(b) < 0))) {
        st = wrong(r, line, len);
        goto fail;
    }
    *row = (uint64_t)emb_json_integer(a);
    *hits = b != NULL ? (uint64_t)emb_json_integer(b) : 1;
fail:
    emb_json_free(doc);
    if (st == EMBED_ERR_FORMAT && strstr(emb_fail_message(), ": line ") == NULL)
        return wrong(r, line, len);
    return st;
}

static embed_status take_line(log_reader *r, const char *line, size_t len) {
    const char *end = line + len, *p = skip_blanks(line, end);
    uint64_t row = 0, hits = 1;
    embed_status st = EMBED_OK;
    r->line++;
    if (p == end)
        return EMBED_OK;
    if (*p == '{')
        st = read_json(r, p, (size_t)(end - p), &row, &hits);
    else if ((p = take_number(p, end, &row)) == NULL)
        st = wrong(r, line, len);
    else if ((p = skip_blanks(p, end)) != end &&
             ((p = take_number(p, end, &hits)) == NULL || skip_blanks(p, end) != end))
        st = wrong(r, line, len);
    if (st != EMBED_OK)
        return st;
    if (row >= r->rows)
        return emb_fail(EMBED_ERR_FORMAT,
                        "%s: line %" PRIu64 ": row: expected less than %" PRIu64 ", found %" PRIu64,
                        r->path, r->line, r->rows, row);
    const uint64_t sum = r->hits[row] + (hits < UINT32_MAX ? hits : UINT32_MAX);
    r->hits[row] = sum < UINT32_MAX ? (uint32_t)sum : UINT32_MAX;
    return EMBED_OK;
}

/* All whole lines of buffer[0 .. *used), and at the end of the file the rest; what is left moves to
 * the front. */
static embed_status take_lines(log_reader *r, char *buffer, size_t *used, int last) {
    size_t at = 0;
    for (char *stop; (stop = memchr(buffer + at, '\n', *used - at)) != NULL;) {
        const embed_status st = take_line(r, buffer + at, (size_t)(stop - buffer) - at);
        if (st != EMBED_OK)
            return st;
        at = (size_t)(stop - buffer) + 1;
    }
    if (last && at < *used) {
        const embed_status st = take_line(r, buffer + at, *used - at);
        if (st != EMBED_OK)
            return st;
        at = *used;
    }
    memmove(buffer, buffer + at, *used - at);
    *used -= at;
    if (*used > MAX_LINE)
        return emb_fail(EMBED_ERR_FORMAT, "%s: line %" PRIu64 " is longer than %zu bytes", r->path,
                        r->line + 1, MAX_LINE);
    return EMBED_OK;
}

embed_status emb_access_log_read(const emb_env *env, const char *path, uint32_t *hits,
                                 uint64_t rows, uint8_t digest[16]) {
    log_reader r = {env, path, hits, rows, 0};
    embed_status st = EMBED_OK;
    char *buffer = NULL;
    size_t used = 0;
    uint64_t size;
    int fd = -1;
    XXH3_state_t x;
    XXH128_canonical_t sum;
    XXH3_128bits_reset(&x);
    EMB_TRY(emb_file_open(path, &fd, &size));
    EMB_TRY(emb_alloc(env, MAX_LINE + PIECE, (void **)&buffer));
    for (uint64_t at = 0; at < size;) {
        const size_t n = size - at < PIECE ? (size_t)(size - at) : PIECE;
        EMB_TRY(emb_file_read_at(fd, path, at, buffer + used, n));
        (void)XXH3_128bits_update(&x, buffer + used, n);
        at += n;
        used += n;
        EMB_TRY(take_lines(&r, buffer, &used, at == size));
    }
    XXH128_canonicalFromHash(&sum, XXH3_128bits_digest(&x));
    memcpy(digest, sum.digest, 16);
fail:
    emb_file_close(fd);
    emb_free(env, buffer);
    return st;
}
