#include "tokenizer/pretokenize.h"

#include "tokenizer/utf8.h"

/* ------------------------------------------------------------------------------------- loading */

static embed_status add_step(emb_pretokenizer *p, const emb_json_doc *doc, const emb_json *value,
                             emb_pre_step step) {
    if (p->n == EMB_PRE_MAX)
        return emb_json_fail(EMBED_ERR_UNSUPPORTED, doc, value, NULL,
                             "expected at most %d pre-tokenizers", EMB_PRE_MAX);
    p->steps[p->n++] = step;
    return EMBED_OK;
}

static embed_status add_split(emb_pretokenizer *p, const emb_json_doc *doc, const emb_json *value,
                              unsigned flags, emb_pre_behavior behavior) {
    emb_pre_step step = {EMB_PRE_SPLIT, flags, behavior, EMB_PRE_NEVER, 0, {0}, 0};
    return add_step(p, doc, value, step);
}

static embed_status load_metaspace(emb_pretokenizer *p, const emb_json_doc *doc,
                                   const emb_json *value) {
    static const char *const names[] = {"always", "first", "never"};
    emb_pre_step step = {EMB_PRE_METASPACE, 0, EMB_PRE_REMOVED, EMB_PRE_ALWAYS, 1, {0}, 0};
    embed_status st;
    const char *text;
    const emb_json *scheme = NULL;
    int32_t add_prefix = 1, i = 0;
    EMB_TRY(emb_json_need_string(doc, value, "replacement", &text, &step.replacement_len));
    if (step.replacement_len == 0 || emb_utf8_len(text[0]) != step.replacement_len)
        return emb_json_fail(EMBED_ERR_FORMAT, doc, value, "replacement", "expected one character");
    memcpy(step.replacement, text, step.replacement_len);
    EMB_TRY(emb_json_get_bool(doc, value, "add_prefix_space", &add_prefix));
    EMB_TRY(emb_json_get_bool(doc, value, "split", &step.split));
    EMB_TRY(emb_json_get(doc, value, "prepend_scheme", EMB_JSON_STRING, &scheme));
    if (scheme != NULL) {
        while (i < 3 && !emb_json_equals(scheme, names[i]))
            i++;
        if (i == 3)
            return emb_json_fail(EMBED_ERR_UNSUPPORTED, doc, value, "prepend_scheme",
                                 "expected always, first or never");
        step.scheme = (emb_pre_scheme)i;
    } else if (!add_prefix) {
        step.scheme = EMB_PRE_NEVER;
    }
    if (!add_prefix && step.scheme != EMB_PRE_NEVER)
        return emb_json_fail(EMBED_ERR_FORMAT, doc, value, "prepend_scheme",
                             "expected never, since add_prefix_space is false");
    p->uses_zero |= step.scheme == EMB_PRE_FIRST;
    return add_step(p, doc, value, step);
fail:
    return st;
}

static embed_status load_punctuation(emb_pretokenizer *p, const emb_json_doc *doc,
                                     const emb_json *value) {
    static const char *const names[] = {"Removed", "Isolated", "MergedWithPrevious",
                                        "MergedWithNext", "Contiguous"};
    const emb_json *name = NULL;
    int32_t i = EMB_PRE_ISOLATED;
    const embed_status st = emb_json_get(doc, value, "behavior", EMB_JSON_STRING, &name);
    if (st != EMBED_OK)
        return st;
    if (name != NULL)
        for (i = 0; i < 5 && !emb_json_equals(name, names[i]);)
            i++;
    if (i == 5)
        return emb_json_fail(EMBED_ERR_UNSUPPORTED, doc, value, "behavior",
                             "expected Removed, Isolated, MergedWithPrevious, MergedWithNext or "
                             "Contiguous");
    return add_split(p, doc, value, EMB_CHAR_PUNCT, (emb_pre_behavior)i);
}

/* Depth is bounded by the JSON reader. */
static embed_status load(emb_pretokenizer *p, const emb_json_doc *doc, const emb_json *value) {
    const emb_pre_step runs = {EMB_PRE_RUNS, 0, EMB_PRE_REMOVED, EMB_PRE_NEVER, 0, {0}, 0};
    embed_status st;
    const emb_json *type, *list, *item;
    int32_t individual;
    EMB_TRY(emb_json_need(doc, value, "type", EMB_JSON_STRING, &type));
    if (emb_json_equals(type, "Sequence")) {
        EMB_TRY(emb_json_need(doc, value, "pretokenizers", EMB_JSON_ARRAY, &list));
        emb_json_iter it = emb_json_iterate(list);
        while ((item = emb_json_next(&it, NULL)) != NULL)
            EMB_TRY(load(p, doc, item));
    } else if (emb_json_equals(type, "BertPreTokenizer")) {
        EMB_TRY(add_split(p, doc, value, EMB_CHAR_SPACE, EMB_PRE_REMOVED));
        EMB_TRY(add_split(p, doc, value, EMB_CHAR_PUNCT, EMB_PRE_ISOLATED));
    } else if (emb_json_equals(type, "WhitespaceSplit")) {
        EMB_TRY(add_split(p, doc, value, EMB_CHAR_SPACE, EMB_PRE_REMOVED));
    } else if (emb_json_equals(type, "Whitespace")) {
        EMB_TRY(add_step(p, doc, value, runs));
    } else if (emb_json_equals(type, "Metaspace")) {
        EMB_TRY(load_metaspace(p, doc, value));
    } else if (emb_json_equals(type, "Punctuation")) {
        EMB_TRY(load_punctuation(p, doc, value));
    } else if (emb_json_equals(type, "Digits")) {
        EMB_TRY(emb_json_need_bool(doc, value, "individual_digits", &individual));
        EMB_TRY(add_split(p, doc, value, EMB_CHAR_NUMERIC,
                          individual ? EMB_PRE_ISOLATED : EMB_PRE_CONTIGUOUS));
    } else {
        st = emb_json_fail(EMBED_ERR_UNSUPPORTED, doc, value, "type",
                           "expected BertPreTokenizer, Digits, Metaspace, Punctuation, Sequence, "
                           "Whitespace or WhitespaceSplit");
    }
fail:
    return st;
}

embed_status emb_pretokenizer_load(emb_pretokenizer *out, const emb_json_doc *doc,
                                   const emb_json *value) {
    memset(out, 0, sizeof *out);
    if (emb_json_type_of(value) == EMB_JSON_ABSENT || emb_json_type_of(value) == EMB_JSON_NULL)
        return EMBED_OK;
    return load(out, doc, value);
}

/* ------------------------------------------------------------------------------------- running */

typedef struct walk {
    const emb_pretokenizer *pre;
    const emb_unicode *u;
    const emb_env *env;
    emb_pre_work *work;
    emb_word_sink *sink;
} walk;

static embed_status run(const walk *w, size_t step, const char *text, size_t n, size_t zero);

/* Hand text[from .. to) on; nothing if it is empty. */
static embed_status pass(const walk *w, size_t step, const char *text, size_t from, size_t to,
                         size_t zero) {
    if (from == to || w->sink->stop)
        return EMBED_OK;
    if (step == w->pre->n)
        return w->sink->word(w->sink->user, text + from, to - from);
    return run(w, step, text + from, to - from, zero > from ? zero - from : 0);
}

static int has_flag(const walk *w, const char *text, size_t at, unsigned flags, size_t *len) {
    return (emb_char_flags(w->u, emb_utf8_decode(text + at, len)) & flags) != 0;
}

/* Rust's NormalizedString::split with a character predicate. Merging takes one character only: of
 * several in a row the others stand alone, which is a cut after (before) each of them. */
static embed_status run_split(const walk *w, size_t step, const char *text, size_t n, size_t zero) {
    const emb_pre_step *s = &w->pre->steps[step];
    embed_status st;
    size_t start = 0, len;
    int last = -1; /* was the character before one to split at? */
    for (size_t at = 0; at < n && !w->sink->stop; at += len) {
        const int hit = has_flag(w, text, at, s->flags, &len);
        size_t cut = start, next = start;
        if (!hit && last == 0)
            continue;
        if (s->behavior == EMB_PRE_CONTIGUOUS) {
            if (last >= 0 && hit != last)
                cut = next = at;
        } else if (hit && s->behavior == EMB_PRE_MERGED_WITH_PREVIOUS) {
            cut = next = at + len;
        } else if (hit) {
            cut = next = at;
            if (s->behavior == EMB_PRE_REMOVED)
                next = at + len;
        }
        EMB_TRY(pass(w, step + 1, text, start, cut, zero));
        start = next;
        if (hit && s->behavior == EMB_PRE_ISOLATED) {
            EMB_TRY(pass(w, step + 1, text, at, at + len, zero));
            start = at + len;
        }
        last = hit;
    }
    EMB_TRY(pass(w, step + 1, text, start, n, zero));
fail:
    return st;
}

static embed_status run_runs(const walk *w, size_t step, const char *text, size_t n, size_t zero) {
    embed_status st;
    size_t start = 0, len;
    int last = 0; /* 0 white space, 1 word, 2 other */
    for (size_t at = 0; at < n && !w->sink->stop; at += len) {
        const int kind = has_flag(w, text, at, EMB_CHAR_WORD, &len)    ? 1
                         : has_flag(w, text, at, EMB_CHAR_SPACE, &len) ? 0
                                                                       : 2;
        if (kind != last) {
            if (last != 0)
                EMB_TRY(pass(w, step + 1, text, start, at, zero));
            start = at;
        }
        last = kind;
    }
    if (last == 0)
        return EMBED_OK;
    EMB_TRY(pass(w, step + 1, text, start, n, zero));
fail:
    return st;
}

static int starts_with(const emb_pre_step *s, const char *text, size_t n) {
    return n >= s->replacement_len && memcmp(text, s->replacement, s->replacement_len) == 0;
}

static embed_status run_metaspace(const walk *w, size_t step, const char *text, size_t n,
                                  size_t zero) {
    const emb_pre_step *s = &w->pre->steps[step];
    emb_text_buf *out = &w->work->text[step];
    embed_status st;
    size_t room, new_zero = 0, start = 0;
    EMB_TRY(emb_mul(n + 1, s->replacement_len, "text", &room));
    out->len = 0;
    EMB_TRY(emb_text_reserve(out, w->env, room));
    if ((s->scheme == EMB_PRE_ALWAYS || (s->scheme == EMB_PRE_FIRST && zero > 0)) &&
        !starts_with(s, text, n) && text[0] != ' ')
        emb_text_put(out, s->replacement, s->replacement_len);
    for (size_t at = 0; at < n; at++) {
        if (text[at] == ' ')
            emb_text_put(out, s->replacement, s->replacement_len);
        else
            out->data[out->len++] = text[at];
        if (at + 1 == zero)
            new_zero = out->len;
    }
    if (!s->split)
        return pass(w, step + 1, out->data, 0, out->len, new_zero);
    for (size_t at = 1; at < out->len && !w->sink->stop; at++)
        if (starts_with(s, out->data + at, out->len - at)) {
            EMB_TRY(pass(w, step + 1, out->data, start, at, new_zero));
            start = at;
        }
    EMB_TRY(pass(w, step + 1, out->data, start, out->len, new_zero));
fail:
    return st;
}

static embed_status run(const walk *w, size_t step, const char *text, size_t n, size_t zero) {
    switch (w->pre->steps[step].kind) {
    case EMB_PRE_RUNS:
        return run_runs(w, step, text, n, zero);
    case EMB_PRE_METASPACE:
        return run_metaspace(w, step, text, n, zero);
    default:
        return run_split(w, step, text, n, zero);
    }
}

embed_status emb_pretokenize(const emb_pretokenizer *pre, const emb_unicode *u, const emb_env *env,
                             emb_pre_work *work, const char *text, size_t n, size_t zero,
                             emb_word_sink *sink) {
    const walk w = {pre, u, env, work, sink};
    return pass(&w, 0, text, 0, n, zero);
}

void emb_pre_work_free(emb_pre_work *work, const emb_env *env) {
    for (size_t i = 0; i < EMB_PRE_MAX; i++)
        emb_free(env, work->text[i].data);
    memset(work, 0, sizeof *work);
}
