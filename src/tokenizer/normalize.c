#include "tokenizer/normalize.h"

#include "tokenizer/utf8.h"

/* What becomes of one code point in the steps that look at them one by one: up to 3, appended at
 * `out`, at most 12 bytes. */
static size_t map_char(emb_norm_kind kind, const emb_unicode *u, uint32_t c, const char *in,
                       size_t len, char *out) {
    uint32_t lower[2];
    const unsigned flags = emb_char_flags(u, c);
    switch (kind) {
    case EMB_NORM_CLEAN: /* bert.rs, do_clean_text: removal comes first */
        if (flags & EMB_CHAR_OTHER)
            return 0;
        if (flags & EMB_CHAR_SPACE) {
            out[0] = ' ';
            return 1;
        }
        break;
    case EMB_NORM_CHINESE:
        if (flags & EMB_CHAR_CHINESE) {
            out[0] = ' ';
            memcpy(out + 1, in, len);
            out[len + 1] = ' ';
            return len + 2;
        }
        break;
    case EMB_NORM_DROP_MN:
        if (flags & EMB_CHAR_MN)
            return 0;
        break;
    case EMB_NORM_DROP_MARKS:
        if (flags & EMB_CHAR_MARK)
            return 0;
        break;
    case EMB_NORM_LOWER:
        if (flags & EMB_CHAR_LOWER) {
            const size_t n = emb_char_lower(u, c, lower);
            const size_t first = emb_utf8_encode(lower[0], out);
            return n == 1 ? first : first + emb_utf8_encode(lower[1], out + first);
        }
        break;
    case EMB_NORM_NMT: /* unicode.rs, do_nmt */
        if ((c >= 0x01 && c <= 0x08) || c == 0x0b || (c >= 0x0e && c <= 0x1f) || c == 0x7f ||
            c == 0x8f || c == 0x9f)
            return 0;
        if (c == 0x09 || c == 0x0a || c == 0x0c || c == 0x0d || c == 0x1680 ||
            (c >= 0x200b && c <= 0x200f) || c == 0x2028 || c == 0x2029 || c == 0x2581 ||
            c == 0xfeff || c == 0xfffd) {
            out[0] = ' ';
            return 1;
        }
        break;
    default:
        break;
    }
    memcpy(out, in, len);
    return len;
}

/* ASCII that the step leaves alone. */
static int plain_ascii(emb_norm_kind kind, unsigned char c) {
    switch (kind) {
    case EMB_NORM_CLEAN:
    case EMB_NORM_NMT:
        return c >= 0x20 && c < 0x7f;
    case EMB_NORM_LOWER:
        return c < 'A' || c > 'Z';
    default:
        return 1;
    }
}

static embed_status map_chars(emb_norm_kind kind, const emb_unicode *u, const emb_env *env,
                              const char *in, size_t n, emb_text_buf *out, size_t *zero) {
    size_t len, out_zero = 0;
    /* The greatest growth of a code point: 3 to 5 bytes, or 2 to 3. */
    embed_status st = emb_text_reserve(out, env, n + n / 3 * 2 + 16);
    if (st != EMBED_OK)
        return st;
    for (size_t at = 0; at < n; at += len) {
        const unsigned char c = (unsigned char)in[at];
        const size_t before = out->len;
        if (c < 0x80 && plain_ascii(kind, c)) {
            len = 1;
            out->data[out->len++] = (char)c;
        } else {
            const uint32_t wide = emb_utf8_decode(in + at, &len);
            out->len += map_char(kind, u, wide, in + at, len, out->data + out->len);
        }
        if (at < *zero)
            out_zero += out->len - before;
    }
    *zero = out_zero;
    return EMBED_OK;
}

static embed_status strip(const emb_norm_step *step, const emb_unicode *u, const emb_env *env,
                          const char *in, size_t n, emb_text_buf *out, size_t *zero) {
    size_t start = 0, end = n, len;
    while (step->left && start < end &&
           (emb_char_flags(u, emb_utf8_decode(in + start, &len)) & EMB_CHAR_SPACE))
        start += len;
    while (step->right && end > start) {
        const size_t last = emb_utf8_back(in, end);
        if (!(emb_char_flags(u, emb_utf8_decode(in + last, &len)) & EMB_CHAR_SPACE))
            break;
        end = last;
    }
    const embed_status st = emb_text_reserve(out, env, end - start);
    if (st != EMBED_OK)
        return st;
    emb_text_put(out, in + start, end - start);
    *zero = *zero <= start ? 0 : *zero < end ? *zero - start : end - start;
    return EMBED_OK;
}

static embed_status prepend(const emb_norm_step *step, const emb_env *env, const char *in, size_t n,
                            emb_text_buf *out, size_t *zero) {
    const embed_status st = emb_text_reserve(out, env, n + step->text_len);
    if (st != EMBED_OK || n == 0)
        return st;
    emb_text_put(out, step->text, step->text_len);
    emb_text_put(out, in, n);
    if (*zero > 0)
        *zero += step->text_len;
    return EMBED_OK;
}

static embed_status run_step(const emb_norm_step *step, const emb_unicode *u, const emb_env *env,
                             emb_form_work *form, const char *in, size_t n, emb_text_buf *out,
                             size_t *zero) {
    switch (step->kind) {
    case EMB_NORM_FORM:
        return emb_form_apply(u, env, step->form, form, in, n, out, zero);
    case EMB_NORM_STRIP:
        return strip(step, u, env, in, n, out, zero);
    case EMB_NORM_PREPEND:
        return prepend(step, env, in, n, out, zero);
    case EMB_NORM_REPLACE:
        return emb_replace_apply(&step->replace, u, env, in, n, out, zero);
    case EMB_NORM_CHARSMAP:
        return emb_charsmap_apply(step->map, u, env, in, n, out, zero);
    default:
        return map_chars(step->kind, u, env, in, n, out, zero);
    }
}

embed_status emb_normalize(const emb_normalizer *normalizer, const emb_unicode *u,
                           const emb_env *env, emb_norm_work *work, const char *in, size_t n,
                           size_t *zero, const char **out, size_t *out_len) {
    embed_status st;
    for (size_t i = 0; i < normalizer->n; i++) {
        emb_text_buf *to = &work->text[i % 2];
        to->len = 0;
        EMB_TRY(emb_text_reserve(to, env, 1));
        EMB_TRY(run_step(&normalizer->steps[i], u, env, &work->form, in, n, to, zero));
        in = to->data;
        n = to->len;
    }
    *out = in;
    *out_len = n;
    return EMBED_OK;
fail:
    return st;
}

void emb_norm_work_free(emb_norm_work *work, const emb_env *env) {
    emb_free(env, work->text[0].data);
    emb_free(env, work->text[1].data);
    emb_form_work_free(&work->form, env);
    memset(work, 0, sizeof *work);
}
