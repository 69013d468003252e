#include "tokenizer/replace.h"

#include "tokenizer/utf8.h"

/* A regular expression being read: Oniguruma syntax, as the reference uses. */
typedef struct parser {
    const char *at, *end;
} parser;

static embed_status unsupported(void) {
    return emb_fail(EMBED_ERR_UNSUPPORTED,
                    "expected plain text, or one character or class with a count that is at least "
                    "1, such as \" {2,}\" or \"\\s+\"");
}

static uint32_t next_char(parser *p) {
    size_t len;
    const uint32_t c = emb_utf8_decode(p->at, &len);
    p->at += len;
    return c;
}

/* What follows a backslash: *spaces is set for \s, else the character is returned, 0 if the escape
 * means something else. */
static uint32_t escaped(parser *p, int32_t *spaces) {
    if (p->at == p->end)
        return 0;
    const uint32_t c = next_char(p);
    if (c == 's')
        *spaces = 1;
    else if (c == 't')
        return '\t';
    else if (c == 'n')
        return '\n';
    else if (c == 'r')
        return '\r';
    else if (c < 0x80 && !(c >= '0' && c <= '9') && !(c >= 'A' && c <= 'Z') &&
             !(c >= 'a' && c <= 'z'))
        return c;
    return 0;
}

/* One character, \s or a class in brackets. */
static embed_status parse_atom(parser *p, emb_replace *r) {
    const char open = *p->at;
    if (memchr("^$.|?*+(){}]", open, 12) != NULL)
        return unsupported();
    if (open != '[') {
        uint32_t c = next_char(p);
        if (c == '\\' && (c = escaped(p, &r->spaces)) == 0 && !r->spaces)
            return unsupported();
        if (!r->spaces)
            r->members[r->members_len++] = c;
        return EMBED_OK;
    }
    for (p->at++; p->at < p->end && *p->at != ']';) {
        uint32_t c = next_char(p);
        int32_t spaces = 0;
        if (c == '^' || c == '-' || c == '[' || c == '&')
            return unsupported();
        if (c == '\\' && (c = escaped(p, &spaces)) == 0 && !spaces)
            return unsupported();
        r->spaces |= spaces;
        if (!spaces && r->members_len == EMB_REPLACE_CLASS)
            return unsupported();
        if (!spaces)
            r->members[r->members_len++] = c;
    }
    if (p->at == p->end || (r->members_len == 0 && !r->spaces))
        return unsupported();
    p->at++;
    return EMBED_OK;
}

static int parse_count(parser *p, size_t *out) {
    const char *start = p->at;
    size_t n = 0;
    for (; p->at < p->end && *p->at >= '0' && *p->at <= '9' && n < 100000; p->at++)
        n = n * 10 + (size_t)(*p->at - '0');
    *out = n;
    return p->at > start && n <= 100000; /* Oniguruma's limit */
}

/* {n}, {n,}, {n,m}, + or nothing. */
static embed_status parse_quantifier(parser *p, emb_replace *r) {
    r->least = r->most = 1;
    if (p->at < p->end && *p->at == '+') {
        p->at++;
        r->most = SIZE_MAX;
    } else if (p->at < p->end && *p->at == '{') {
        p->at++;
        if (!parse_count(p, &r->least))
            return unsupported();
        r->most = r->least;
        if (p->at < p->end && *p->at == ',') {
            p->at++;
            r->most = SIZE_MAX;
            if (p->at < p->end && *p->at != '}' && !parse_count(p, &r->most))
                return unsupported();
        }
        if (p->at == p->end || *p->at++ != '}')
            return unsupported();
    }
    return r->least < 1 || r->most < r->least ? unsupported() : EMBED_OK;
}

/* Plain text, escapes resolved into `text`; *plain is 0 if the expression is more than that. */
static void unescape(const char *pattern, size_t len, char *text, size_t *n, int *plain) {
    parser p = {pattern, pattern + len};
    *n = 0;
    *plain = 1;
    while (p.at < p.end && *plain) {
        int32_t spaces = 0;
        uint32_t c = (unsigned char)*p.at;
        if (memchr("^$.|?*+(){}[]", *p.at, 13) != NULL) {
            *plain = 0;
        } else if (*p.at != '\\') {
            c = next_char(&p);
        } else {
            p.at++;
            c = escaped(&p, &spaces);
            *plain = c != 0;
        }
        if (*plain)
            *n += emb_utf8_encode(c, text + *n);
    }
}

embed_status emb_replace_create(emb_replace *out, const emb_env *env, const char *pattern,
                                size_t len, int regex, const char *content, size_t content_len) {
    embed_status st;
    int plain = 1;
    memset(out, 0, sizeof *out);
    EMB_TRY(emb_strdup(env, content, content_len, &out->content));
    out->content_len = content_len;
    if (len == 0)
        return emb_fail(EMBED_ERR_UNSUPPORTED, "expected a pattern that is not empty");
    EMB_TRY(emb_strdup(env, pattern, len, &out->text));
    out->text_len = len;
    if (!regex)
        return EMBED_OK;
    unescape(pattern, len, out->text, &out->text_len, &plain);
    if (plain)
        return EMBED_OK;
    emb_free(env, out->text);
    out->text = NULL;
    parser p = {pattern, pattern + len};
    EMB_TRY(parse_atom(&p, out));
    EMB_TRY(parse_quantifier(&p, out));
    if (p.at != p.end)
        EMB_TRY(unsupported());
fail:
    return st;
}

void emb_replace_free(emb_replace *r, const emb_env *env) {
    emb_free(env, r->text);
    emb_free(env, r->content);
    memset(r, 0, sizeof *r);
}

/* Bytes of the class member at s, 0 if it is none. */
static size_t member_at(const emb_replace *r, const emb_unicode *u, const char *s) {
    size_t len;
    const uint32_t c = emb_utf8_decode(s, &len);
    if (r->spaces && (emb_char_flags(u, c) & EMB_CHAR_SPACE))
        return len;
    for (size_t i = 0; i < r->members_len; i++)
        if (r->members[i] == c)
            return len;
    return 0;
}

/* The next match in in[at .. n): *start, and its end, which is 0 if there is none. */
static size_t find(const emb_replace *r, const emb_unicode *u, const char *in, size_t at, size_t n,
                   size_t *start) {
    if (r->text != NULL) {
        while (n - at >= r->text_len) {
            const char *hit = memchr(in + at, r->text[0], n - at - r->text_len + 1);
            if (hit == NULL)
                return 0;
            at = (size_t)(hit - in);
            if (memcmp(hit, r->text, r->text_len) == 0) {
                *start = at;
                return at + r->text_len;
            }
            at++;
        }
        return 0;
    }
    while (at < n) {
        size_t end = at, count = 0, len = 1;
        while (end < n && count < r->most && (len = member_at(r, u, in + end)) > 0) {
            end += len;
            count++;
        }
        if (count >= r->least) {
            *start = at;
            return end;
        }
        at = end < n ? end + emb_utf8_len(in[end]) : n;
    }
    return 0;
}

embed_status emb_replace_apply(const emb_replace *r, const emb_unicode *u, const emb_env *env,
                               const char *in, size_t n, emb_text_buf *out, size_t *zero) {
    embed_status st;
    size_t start = 0, end, out_zero = 0;
    for (size_t at = 0; at < n; at = end) {
        end = find(r, u, in, at, n, &start);
        const size_t keep = end > 0 ? start : n;
        EMB_TRY(emb_text_reserve(out, env, keep - at + r->content_len));
        emb_text_put(out, in + at, keep - at);
        if (at < *zero)
            out_zero += (keep < *zero ? keep : *zero) - at;
        if (end == 0)
            break;
        emb_text_put(out, r->content, r->content_len);
        if (end - 1 < *zero) /* what is put in stems from the match's last byte */
            out_zero += r->content_len;
    }
    *zero = out_zero;
    return EMBED_OK;
fail:
    return st;
}
