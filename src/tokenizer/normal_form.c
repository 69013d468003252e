#include "tokenizer/normal_form.h"

#include "tokenizer/utf8.h"

#define SHORT_RUN 24 /* up to here insertion sort beats counting */

static embed_status work_room(emb_form_work *work, const emb_env *env, size_t need) {
    void *chars = work->chars;
    const embed_status st = emb_grow(env, &chars, &work->cap, need, sizeof *work->chars);
    work->chars = chars;
    return st;
}

/* Append the decomposition of c to the stretch. */
static embed_status push(const emb_unicode *u, const emb_env *env, emb_form form,
                         emb_form_work *work, size_t *len, uint32_t c) {
    uint32_t parts[EMB_DECOMPOSED_MAX];
    const size_t k = emb_char_decompose(u, c, form & EMB_FORM_COMPATIBLE, parts);
    const embed_status st = work_room(work, env, *len + k);
    if (st != EMBED_OK)
        return st;
    for (size_t i = 0; i < k; i++)
        work->chars[(*len)++] = (emb_form_char){parts[i], i > 0, emb_char_value(&u->ccc, parts[i])};
    return EMBED_OK;
}

/* Stable sort of one run of combining characters by class. */
static embed_status sort_run(emb_form_work *work, const emb_env *env, emb_form_char *run,
                             size_t n) {
    if (n <= SHORT_RUN) {
        for (size_t i = 1; i < n; i++) {
            const emb_form_char x = run[i];
            size_t k = i;
            for (; k > 0 && run[k - 1].ccc > x.ccc; k--)
                run[k] = run[k - 1];
            run[k] = x;
        }
        return EMBED_OK;
    }
    void *sorted = work->sorted;
    const embed_status st = emb_grow(env, &sorted, &work->sorted_cap, n, sizeof *run);
    work->sorted = sorted;
    if (st != EMBED_OK)
        return st;
    size_t start[257] = {0};
    for (size_t i = 0; i < n; i++)
        start[run[i].ccc + 1]++;
    for (size_t i = 1; i < 257; i++)
        start[i] += start[i - 1];
    for (size_t i = 0; i < n; i++)
        work->sorted[start[run[i].ccc]++] = run[i];
    memcpy(run, work->sorted, n * sizeof *run);
    return EMBED_OK;
}

/* Canonical ordering: UAX #15, D109. */
static embed_status reorder(emb_form_work *work, const emb_env *env, size_t n) {
    for (size_t i = 0; i < n;) {
        size_t end = i;
        while (end < n && work->chars[end].ccc != 0)
            end++;
        if (end > i + 1) {
            const embed_status st = sort_run(work, env, work->chars + i, end - i);
            if (st != EMBED_OK)
                return st;
        }
        i = end + 1;
    }
    return EMBED_OK;
}

/* Canonical composition in place: UAX #15, D117. Returns the new length. */
static size_t compose(emb_form_char *chars, size_t n) {
    size_t used = 0, starter = n; /* n: none yet */
    uint32_t last = 0;            /* class of the last character kept after the starter */
    for (size_t i = 0; i < n; i++) {
        const emb_form_char x = chars[i];
        const int adjacent = starter < n && used == starter + 1;
        if (starter < n && (adjacent || last < x.ccc)) {
            const uint32_t whole = emb_char_compose(chars[starter].c, x.c);
            if (whole != 0) {
                chars[starter].c = whole;
                chars[starter].change += x.change - 1;
                continue;
            }
        }
        if (x.ccc == 0)
            starter = used;
        last = x.ccc;
        chars[used++] = x;
    }
    return used;
}

/* How many bytes of the stretch's output stem from before in[zero], by walking the changes along
 * the input as the reference does. `at` is where the stretch starts in the input. */
static size_t zero_of(const emb_form_char *chars, size_t n, const char *in, size_t len, size_t at,
                      size_t zero) {
    char bytes[4];
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        const size_t from = chars[i].change > 0 ? (at > 0 ? at - 1 : 0) : at;
        if (from >= zero)
            break;
        count += emb_utf8_encode(chars[i].c, bytes);
        for (int32_t k = chars[i].change; k <= 0 && at < len; k++)
            at += emb_utf8_len(in[at]);
    }
    return count;
}

/* Normalize in[at .. end), which does not interact with its neighbours. */
static embed_status stretch(const emb_unicode *u, const emb_env *env, emb_form form,
                            emb_form_work *work, const char *in, size_t at, size_t end,
                            emb_text_buf *out, size_t zero, size_t *out_zero) {
    embed_status st;
    size_t n = 0, len, put = 0;
    for (size_t i = at; i < end; i += len)
        EMB_TRY(push(u, env, form, work, &n, emb_utf8_decode(in + i, &len)));
    EMB_TRY(reorder(work, env, n));
    if (form & EMB_FORM_COMPOSED)
        n = compose(work->chars, n);
    EMB_TRY(emb_text_reserve(out, env, n * 4));
    for (size_t i = 0; i < n; i++)
        put += emb_utf8_encode(work->chars[i].c, out->data + out->len + put);
    out->len += put;
    if (at < zero)
        *out_zero += end <= zero ? put : zero_of(work->chars, n, in, end, at, zero);
fail:
    return st;
}

/* Copy in[at .. end) as it is. */
static embed_status copy(const emb_env *env, const char *in, size_t at, size_t end,
                         emb_text_buf *out, size_t zero, size_t *out_zero) {
    const embed_status st = emb_text_reserve(out, env, end - at);
    if (st != EMBED_OK)
        return st;
    emb_text_put(out, in + at, end - at);
    if (at < zero)
        *out_zero += (end < zero ? end : zero) - at;
    return EMBED_OK;
}

embed_status emb_form_apply(const emb_unicode *u, const emb_env *env, emb_form form,
                            emb_form_work *work, const char *in, size_t n, emb_text_buf *out,
                            size_t *zero) {
    static const unsigned changed[] = {EMB_CHAR_NFD, EMB_CHAR_NFKD, EMB_CHAR_NFC, EMB_CHAR_NFKC};
    const int composed = form & EMB_FORM_COMPOSED;
    const unsigned joins = EMB_CHAR_REORDER | (composed ? EMB_CHAR_SECOND : 0);
    const unsigned slow = joins | changed[form];
    embed_status st = EMBED_OK;
    size_t out_zero = 0, done = 0, len; /* in[0 .. done) is written */
    size_t last = 0;                    /* where the code point before `at` starts */
    for (size_t at = 0; at < n;) {
        if ((unsigned char)in[at] < 0x80) {
            last = at++;
            continue;
        }
        const unsigned flags = emb_char_flags(u, emb_utf8_decode(in + at, &len));
        if ((flags & slow) == 0) {
            last = at;
            at += len;
            continue;
        }
        /* A stretch that joins what is before it starts there if composing may change that. */
        const size_t from = composed && (flags & joins) && at > done ? last : at;
        size_t end = at + len;
        while (end < n && (unsigned char)in[end] >= 0x80 &&
               (emb_char_flags(u, emb_utf8_decode(in + end, &len)) & joins))
            end += len;
        EMB_TRY(copy(env, in, done, from, out, *zero, &out_zero));
        EMB_TRY(stretch(u, env, form, work, in, from, end, out, *zero, &out_zero));
        done = at = end;
    }
    EMB_TRY(copy(env, in, done, n, out, *zero, &out_zero));
    *zero = out_zero;
fail:
    return st;
}

void emb_form_work_free(emb_form_work *work, const emb_env *env) {
    emb_free(env, work->chars);
    emb_free(env, work->sorted);
    *work = (emb_form_work){NULL, NULL, 0, 0};
}
