#include "tokenizer/normalize.h"

static embed_status add_step(emb_normalizer *n, const emb_env *env, emb_norm_kind kind,
                             emb_norm_step **out) {
    void *steps = n->steps;
    const embed_status st = emb_grow(env, &steps, &n->cap, n->n + 1, sizeof *n->steps);
    n->steps = steps;
    if (st != EMBED_OK)
        return st;
    *out = &n->steps[n->n++];
    memset(*out, 0, sizeof **out);
    (*out)->kind = kind;
    return EMBED_OK;
}

static embed_status load_bert(emb_normalizer *n, const emb_env *env, const emb_json_doc *doc,
                              const emb_json *value) {
    embed_status st;
    emb_norm_step *step;
    int32_t clean, chinese, lower, accents;
    EMB_TRY(emb_json_need_bool(doc, value, "clean_text", &clean));
    EMB_TRY(emb_json_need_bool(doc, value, "handle_chinese_chars", &chinese));
    EMB_TRY(emb_json_need_bool(doc, value, "lowercase", &lower));
    accents = lower; /* absent or null: as lowercase */
    EMB_TRY(emb_json_get_bool(doc, value, "strip_accents", &accents));
    if (clean)
        EMB_TRY(add_step(n, env, EMB_NORM_CLEAN, &step));
    if (chinese)
        EMB_TRY(add_step(n, env, EMB_NORM_CHINESE, &step));
    if (accents) {
        EMB_TRY(add_step(n, env, EMB_NORM_FORM, &step));
        step->form = EMB_NFD;
        EMB_TRY(add_step(n, env, EMB_NORM_DROP_MN, &step));
    }
    if (lower)
        EMB_TRY(add_step(n, env, EMB_NORM_LOWER, &step));
fail:
    return st;
}

static embed_status load_replace(emb_normalizer *n, const emb_env *env, const emb_json_doc *doc,
                                 const emb_json *value) {
    embed_status st;
    emb_norm_step *step;
    const emb_json *pattern, *name, *text;
    const char *content, *string;
    size_t content_len, len;
    EMB_TRY(emb_json_need(doc, value, "pattern", EMB_JSON_OBJECT, &pattern));
    EMB_TRY(emb_json_need_string(doc, value, "content", &content, &content_len));
    emb_json_iter it = emb_json_iterate(pattern);
    text = emb_json_next(&it, &name);
    const int regex = emb_json_equals(name, "Regex");
    if (emb_json_count(pattern) != 1 || !(regex || emb_json_equals(name, "String")))
        return emb_json_fail(EMBED_ERR_UNSUPPORTED, doc, value, "pattern",
                             "expected {\"String\": ...} or {\"Regex\": ...}");
    if (emb_json_type_of(text) != EMB_JSON_STRING)
        return emb_json_fail(EMBED_ERR_FORMAT, doc, text, NULL, "expected a string");
    string = emb_json_string(text, &len);
    EMB_TRY(add_step(n, env, EMB_NORM_REPLACE, &step));
    st = emb_replace_create(&step->replace, env, string, len, regex, content, content_len);
    if (st == EMBED_ERR_UNSUPPORTED)
        return emb_json_fail(st, doc, text, NULL,
                             "expected a non-empty text, or one character or class repeated at "
                             "least once, such as \" {2,}\" or \"\\s+\"");
fail:
    return st;
}

static embed_status load_charsmap(emb_normalizer *n, const emb_env *env, const emb_json_doc *doc,
                                  const emb_json *value) {
    embed_status st;
    emb_norm_step *step;
    const char *base64;
    size_t len;
    EMB_TRY(emb_json_need_string(doc, value, "precompiled_charsmap", &base64, &len));
    EMB_TRY(add_step(n, env, EMB_NORM_CHARSMAP, &step));
    st = emb_charsmap_create(&step->map, env, base64, len);
    if (st == EMBED_ERR_FORMAT)
        emb_fail_prefix("%s: normalizer: precompiled_charsmap", emb_json_name(doc));
fail:
    return st;
}

static embed_status load_strip(emb_normalizer *n, const emb_env *env, const emb_json_doc *doc,
                               const emb_json *value) {
    embed_status st;
    emb_norm_step *step;
    EMB_TRY(add_step(n, env, EMB_NORM_STRIP, &step));
    EMB_TRY(emb_json_need_bool(doc, value, "strip_left", &step->left));
    EMB_TRY(emb_json_need_bool(doc, value, "strip_right", &step->right));
fail:
    return st;
}

static embed_status load_prepend(emb_normalizer *n, const emb_env *env, const emb_json_doc *doc,
                                 const emb_json *value) {
    embed_status st;
    emb_norm_step *step;
    const char *text;
    size_t len;
    EMB_TRY(emb_json_need_string(doc, value, "prepend", &text, &len));
    EMB_TRY(add_step(n, env, EMB_NORM_PREPEND, &step));
    EMB_TRY(emb_strdup(env, text, len, &step->text));
    step->text_len = len;
fail:
    return st;
}

/* Depth is bounded by the JSON reader. */
static embed_status load(emb_normalizer *n, const emb_env *env, const emb_json_doc *doc,
                         const emb_json *value) {
    static const struct {
        const char *type;
        emb_norm_kind kind;
        emb_form form;
    } simple[] = {
        {"Lowercase", EMB_NORM_LOWER, EMB_NFD}, {"NFD", EMB_NORM_FORM, EMB_NFD},
        {"NFKD", EMB_NORM_FORM, EMB_NFKD},      {"NFC", EMB_NORM_FORM, EMB_NFC},
        {"NFKC", EMB_NORM_FORM, EMB_NFKC},      {"StripAccents", EMB_NORM_DROP_MARKS, EMB_NFD},
        {"Nmt", EMB_NORM_NMT, EMB_NFD}};
    static const struct {
        const char *type;
        embed_status (*load)(emb_normalizer *, const emb_env *, const emb_json_doc *,
                             const emb_json *);
    } others[] = {{"BertNormalizer", load_bert},
                  {"Replace", load_replace},
                  {"Precompiled", load_charsmap},
                  {"Strip", load_strip},
                  {"Prepend", load_prepend}};
    embed_status st;
    const emb_json *type, *list, *item;
    emb_norm_step *step;
    EMB_TRY(emb_json_need(doc, value, "type", EMB_JSON_STRING, &type));
    if (emb_json_equals(type, "Sequence")) {
        EMB_TRY(emb_json_need(doc, value, "normalizers", EMB_JSON_ARRAY, &list));
        emb_json_iter it = emb_json_iterate(list);
        while ((item = emb_json_next(&it, NULL)) != NULL)
            EMB_TRY(load(n, env, doc, item));
        return EMBED_OK;
    }
    for (size_t i = 0; i < sizeof simple / sizeof *simple; i++)
        if (emb_json_equals(type, simple[i].type)) {
            EMB_TRY(add_step(n, env, simple[i].kind, &step));
            step->form = simple[i].form;
            return EMBED_OK;
        }
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (emb_json_equals(type, others[i].type))
            return others[i].load(n, env, doc, value);
    return emb_json_fail(EMBED_ERR_UNSUPPORTED, doc, value, "type",
                         "expected BertNormalizer, Lowercase, NFC, NFD, NFKC, NFKD, Nmt, "
                         "Precompiled, Prepend, Replace, Sequence, Strip or StripAccents");
fail:
    return st;
}

embed_status emb_normalizer_load(emb_normalizer *out, const emb_env *env, const emb_json_doc *doc,
                                 const emb_json *value) {
    memset(out, 0, sizeof *out);
    if (emb_json_type_of(value) == EMB_JSON_ABSENT || emb_json_type_of(value) == EMB_JSON_NULL)
        return EMBED_OK;
    return load(out, env, doc, value);
}

void emb_normalizer_free(emb_normalizer *n, const emb_env *env) {
    for (size_t i = 0; i < n->n; i++) {
        emb_free(env, n->steps[i].text);
        emb_replace_free(&n->steps[i].replace, env);
        emb_charsmap_free(n->steps[i].map, env);
    }
    emb_free(env, n->steps);
    memset(n, 0, sizeof *n);
}
