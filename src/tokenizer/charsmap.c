#include "tokenizer/charsmap.h"

#include "tokenizer/grapheme.h"
#include "tokenizer/utf8.h"

/* Clusters of more bytes are replaced code point by code point only: the reference's rule. */
#define WHOLE_CLUSTER_MAX 5

typedef struct replacement {
    const char *text; /* NULL: none */
    size_t len;
} replacement;

struct emb_charsmap {
    uint32_t *units;
    size_t units_len;
    char *texts; /* replacements, and a NUL after the last byte */
    size_t texts_len;
    replacement ascii[128]; /* of each ASCII character that is a cluster */
};

/* A unit of the trie (darts-clone, double-array-unit.h). */
static int has_leaf(uint32_t unit) {
    return (unit >> 8 & 1) != 0;
}
static uint32_t value_of(uint32_t unit) {
    return unit & 0x7fffffffu;
}
static uint32_t label_of(uint32_t unit) {
    return unit & 0x800000ffu;
}
static uint32_t offset_of(uint32_t unit) {
    return unit >> 10 << ((unit & 0x200u) >> 6);
}

/* The replacement of the shortest key that key[0 .. len) starts with. */
static replacement lookup(const emb_charsmap *map, const char *key, size_t len) {
    const replacement none = {NULL, 0};
    uint32_t at = offset_of(map->units[0]);
    for (size_t i = 0; i < len && key[i] != '\0'; i++) {
        const unsigned char c = (unsigned char)key[i];
        at ^= c;
        if (at >= map->units_len || label_of(map->units[at]) != c)
            return none;
        const uint32_t unit = map->units[at];
        at ^= offset_of(unit);
        if (has_leaf(unit)) {
            const char *text = map->texts + value_of(map->units[at]); /* checked when opened */
            return (replacement){text, strlen(text)};
        }
    }
    return none;
}

/* ------------------------------------------------------------------------------------- opening */

static int digit_of(char c) {
    return c >= 'A' && c <= 'Z'   ? c - 'A'
           : c >= 'a' && c <= 'z' ? c - 'a' + 26
           : c >= '0' && c <= '9' ? c - '0' + 52
           : c == '+'             ? 62
           : c == '/'             ? 63
                                  : -1;
}

/* RFC 4648 base64 with its padding; out holds len / 4 * 3 bytes. */
static embed_status decode_base64(const char *in, size_t len, unsigned char *out, size_t *n) {
    size_t pad = 0;
    *n = 0;
    if (len % 4 != 0)
        return emb_fail(EMBED_ERR_FORMAT,
                        "expected base64 in groups of 4 characters, found %zu characters", len);
    while (pad < 2 && pad < len && in[len - 1 - pad] == '=')
        pad++;
    for (size_t i = 0; i < len; i += 4) {
        uint32_t bits = 0;
        const size_t digits = i + 4 == len ? 4 - pad : 4;
        for (size_t k = 0; k < digits; k++) {
            const int digit = digit_of(in[i + k]);
            if (digit < 0)
                return emb_fail(EMBED_ERR_FORMAT,
                                "expected base64, found byte 0x%02x at character %zu",
                                (unsigned)(unsigned char)in[i + k], i + k);
            bits |= (uint32_t)digit << (18 - 6 * k);
        }
        for (size_t k = 0; k + 1 < digits; k++)
            out[(*n)++] = (unsigned char)(bits >> (16 - 8 * k));
    }
    return EMBED_OK;
}

static embed_status check_leaf(const emb_charsmap *map, uint32_t at) {
    if (at >= map->units_len)
        return emb_fail(EMBED_ERR_FORMAT, "expected trie offsets below %zu units, found %u",
                        map->units_len, (unsigned)at);
    const uint32_t value = value_of(map->units[at]);
    if (value > map->texts_len)
        return emb_fail(EMBED_ERR_FORMAT, "expected replacements within %zu bytes, found offset %u",
                        map->texts_len, (unsigned)value);
    if (((unsigned char)map->texts[value] & 0xc0) == 0x80)
        return emb_fail(EMBED_ERR_FORMAT,
                        "expected replacements to start at a character, found offset %u inside one",
                        (unsigned)value);
    return EMBED_OK;
}

/* Visit every unit that a lookup can reach, so that none leads outside. Nodes are told apart by
 * where their children are counted from; `seen` has one byte for each, `stack` room for all. */
static embed_status check_trie(const emb_charsmap *map, unsigned char *seen, uint32_t *stack) {
    size_t depth = 0;
    stack[depth++] = offset_of(map->units[0]);
    while (depth > 0) {
        const uint32_t base = stack[--depth];
        if ((base | 255) >= map->units_len)
            return emb_fail(EMBED_ERR_FORMAT, "expected trie offsets below %zu units, found %u",
                            map->units_len, (unsigned)base);
        for (uint32_t c = 1; c < 256; c++) {
            const uint32_t unit = map->units[base ^ c];
            if (label_of(unit) != c)
                continue;
            const uint32_t next = (base ^ c) ^ offset_of(unit);
            if (has_leaf(unit)) {
                const embed_status st = check_leaf(map, next);
                if (st != EMBED_OK)
                    return st;
                continue; /* a lookup ends at its first leaf */
            }
            if (next >= map->units_len || !seen[next]) {
                if (next < map->units_len)
                    seen[next] = 1;
                stack[depth++] = next;
            }
        }
    }
    return EMBED_OK;
}

static embed_status read_map(emb_charsmap *map, const emb_env *env, const unsigned char *bytes,
                             size_t n) {
    embed_status st;
    void *block, *seen = NULL, *stack = NULL;
    uint32_t trie_bytes = 0;
    for (size_t i = 0; i < 4 && i < n; i++)
        trie_bytes |= (uint32_t)bytes[i] << 8 * i;
    if (n < 4 || trie_bytes < 4 || trie_bytes > n - 4)
        return emb_fail(EMBED_ERR_FORMAT,
                        "expected a trie of at most %zu bytes, found a length of %u",
                        n < 4 ? (size_t)0 : n - 4, (unsigned)trie_bytes);
    map->units_len = trie_bytes / 4;
    EMB_TRY(emb_new_array(env, map->units_len, sizeof *map->units, &block));
    map->units = block;
    for (size_t i = 0; i < map->units_len * 4; i++)
        map->units[i / 4] |= (uint32_t)bytes[4 + i] << 8 * (i % 4);
    const char *texts = (const char *)bytes + 4 + map->units_len * 4;
    map->texts_len = n - 4 - map->units_len * 4;
    const size_t valid = emb_utf8_valid(texts, map->texts_len);
    if (valid != map->texts_len)
        return emb_fail(EMBED_ERR_FORMAT,
                        "expected replacements in UTF-8, found byte 0x%02x at %zu",
                        (unsigned)(unsigned char)texts[valid], valid);
    EMB_TRY(emb_strdup(env, texts, map->texts_len, &map->texts));
    EMB_TRY(emb_new_array(env, map->units_len, 1, &seen));
    EMB_TRY(emb_new_array(env, map->units_len + 256, sizeof(uint32_t), &stack));
    EMB_TRY(check_trie(map, seen, stack));
    for (int c = 0; c < 128; c++) {
        const char key = (char)c;
        map->ascii[c] = lookup(map, &key, 1);
    }
fail:
    emb_free(env, seen);
    emb_free(env, stack);
    return st;
}

embed_status emb_charsmap_create(emb_charsmap **out, const emb_env *env, const char *base64,
                                 size_t len) {
    embed_status st;
    void *block, *bytes = NULL;
    size_t n;
    *out = NULL;
    if ((st = emb_new(env, sizeof(emb_charsmap), &block)) != EMBED_OK)
        return st;
    emb_charsmap *map = block;
    EMB_TRY(emb_alloc(env, len / 4 * 3 + 3, &bytes));
    EMB_TRY(decode_base64(base64, len, bytes, &n));
    EMB_TRY(read_map(map, env, bytes, n));
    emb_free(env, bytes);
    *out = map;
    return EMBED_OK;
fail:
    emb_free(env, bytes);
    emb_charsmap_free(map, env);
    return st;
}

void emb_charsmap_free(emb_charsmap *map, const emb_env *env) {
    if (map == NULL)
        return;
    emb_free(env, map->units);
    emb_free(env, map->texts);
    emb_free(env, map);
}

/* ------------------------------------------------------------------------------------ applying */

/* Follows which output bytes stem from the start of the text, by the reference's accounting: each
 * output character has a change (1 added, 0 in place of one, -k also in place of k more), and what
 * is replaced by nothing counts for the character before it, or is forgotten if there is none. */
typedef struct origin {
    const char *in;
    size_t n, zero; /* the input and its leading bytes that stem from the start */
    size_t at;      /* input consumed by finished characters */
    int pending;    /* 1: one character waits for what may be added to its change */
    long change;
    size_t bytes; /* of the waiting character */
    size_t result;
} origin;

static void origin_finish(origin *o) {
    if (!o->pending)
        return;
    o->pending = 0;
    const size_t from = o->change > 0 ? (o->at > 0 ? o->at - 1 : 0) : o->at;
    if (from < o->zero)
        o->result += o->bytes;
    for (long k = o->change; k <= 0 && o->at < o->n; k++)
        o->at += emb_utf8_len(o->in[o->at]);
}

static void origin_add(origin *o, const char *text, size_t len, size_t old_chars) {
    size_t chars = 0, i = 0;
    for (size_t k = 0; k < len; k += emb_utf8_len(text[k]))
        chars++;
    for (size_t k = 0; k < len; k += emb_utf8_len(text[k]), i++) {
        origin_finish(o);
        o->pending = 1;
        o->bytes = emb_utf8_len(text[k]);
        o->change = chars > old_chars && i >= old_chars;
    }
    if (chars < old_chars)
        o->change -= (long)(old_chars - chars);
}

/* Append the replacement of in[at .. end), or those bytes if there is none. */
static embed_status put(const emb_env *env, const char *in, size_t at, size_t end, replacement r,
                        size_t old_chars, emb_text_buf *out, origin *o) {
    const char *text = r.text != NULL ? r.text : in + at;
    const size_t len = r.text != NULL ? r.len : end - at;
    const embed_status st = emb_text_reserve(out, env, len);
    if (st != EMBED_OK)
        return st;
    emb_text_put(out, text, len);
    if (o->at < o->zero || (o->at == o->zero && o->pending))
        origin_add(o, text, len, old_chars);
    return EMBED_OK;
}

static embed_status put_cluster(const emb_charsmap *map, const emb_env *env, const char *in,
                                size_t at, size_t end, size_t chars, emb_text_buf *out, origin *o) {
    if (end - at <= WHOLE_CLUSTER_MAX) {
        const replacement r = lookup(map, in + at, end - at);
        if (r.text != NULL)
            return put(env, in, at, end, r, chars, out, o);
    }
    for (size_t len; at < end; at += len) {
        len = emb_utf8_len(in[at]);
        const embed_status st = put(env, in, at, at + len, lookup(map, in + at, len), 1, out, o);
        if (st != EMBED_OK)
            return st;
    }
    return EMBED_OK;
}

embed_status emb_charsmap_apply(const emb_charsmap *map, const emb_unicode *u, const emb_env *env,
                                const char *in, size_t n, emb_text_buf *out, size_t *zero) {
    embed_status st;
    origin o = {in, n, *zero, 0, 0, 0, 0, 0};
    emb_cluster cluster = {0, 0, 0, 0};
    size_t len;
    for (size_t at = 0; at < n;) {
        /* An ASCII character before another one is a cluster, unless it is a carriage return. */
        if ((unsigned char)in[at] < 0x80 && in[at] != '\r' &&
            (at + 1 == n || (unsigned char)in[at + 1] < 0x80)) {
            EMB_TRY(put(env, in, at, at + 1, map->ascii[(unsigned char)in[at]], 1, out, &o));
            at++;
            continue;
        }
        size_t end = at, chars = 0;
        memset(&cluster, 0, sizeof cluster);
        do {
            const uint32_t c = emb_utf8_decode(in + end, &len);
            if (emb_cluster_next(&cluster, u, c) && chars > 0)
                break;
            end += len;
            chars++;
        } while (end < n);
        EMB_TRY(put_cluster(map, env, in, at, end, chars, out, &o));
        at = end;
    }
    origin_finish(&o);
    *zero = o.result;
    return EMBED_OK;
fail:
    return st;
}
