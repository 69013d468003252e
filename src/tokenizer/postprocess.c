#include "tokenizer/postprocess.h"

#include <string.h>

/* The reference keeps a text and its special tokens as a list of pieces, to each of which a later
 * processor of a Sequence may add; `segments` counts them, and the text is in the first of them
 * until a template sets it apart. */
typedef struct build {
    emb_postprocessor *post;
    const emb_env *env;
    const emb_json_doc *doc;
    size_t segments;
} build;

static embed_status put_front(build *b, int32_t id) {
    emb_id_list *list = &b->post->before;
    const embed_status st = emb_ids_push(list, b->env, id);
    if (st != EMBED_OK)
        return st;
    memmove(list->ids + 1, list->ids, (list->n - 1) * sizeof *list->ids);
    list->ids[0] = id;
    return EMBED_OK;
}

/* ["token", id] */
static embed_status read_pair(const build *b, const emb_json *value, const char *key, int32_t *id) {
    const emb_json *pair;
    const embed_status st = emb_json_need(b->doc, value, key, EMB_JSON_ARRAY, &pair);
    if (st != EMBED_OK)
        return st;
    emb_json_iter it = emb_json_iterate(pair);
    const emb_json *token = emb_json_next(&it, NULL), *number = emb_json_next(&it, NULL);
    const int64_t n = emb_json_integer(number);
    if (emb_json_count(pair) != 2 || emb_json_type_of(token) != EMB_JSON_STRING ||
        !emb_json_is_integer(number) || n < 0 || n >= INT32_MAX)
        return emb_json_fail(EMBED_ERR_FORMAT, b->doc, value, key, "expected [token, id]");
    *id = (int32_t)n;
    return EMBED_OK;
}

/* BertProcessing and RobertaProcessing: cls text sep. */
static embed_status load_pair(build *b, const emb_json *value) {
    embed_status st;
    int32_t sep, cls;
    if (b->segments != 1)
        return emb_json_fail(EMBED_ERR_UNSUPPORTED, b->doc, value, NULL,
                             "expected this before the TemplateProcessing");
    EMB_TRY(read_pair(b, value, "sep", &sep));
    EMB_TRY(read_pair(b, value, "cls", &cls));
    EMB_TRY(put_front(b, cls));
    EMB_TRY(emb_ids_push(&b->post->after, b->env, sep));
fail:
    return st;
}

/* The ids of a template's special token. */
static embed_status load_special(build *b, const emb_json *specials, const emb_json *piece,
                                 emb_id_list *to) {
    embed_status st;
    const char *name;
    const emb_json *entry, *ids, *item;
    EMB_TRY(emb_json_need_string(b->doc, piece, "id", &name, NULL));
    EMB_TRY(emb_json_need(b->doc, specials, name, EMB_JSON_OBJECT, &entry));
    EMB_TRY(emb_json_need(b->doc, entry, "ids", EMB_JSON_ARRAY, &ids));
    emb_json_iter it = emb_json_iterate(ids);
    while ((item = emb_json_next(&it, NULL)) != NULL) {
        const int64_t id = emb_json_integer(item);
        if (!emb_json_is_integer(item) || id < 0 || id >= INT32_MAX)
            return emb_json_fail(EMBED_ERR_FORMAT, b->doc, item, NULL,
                                 "expected a token id from 0 to %d", INT32_MAX - 1);
        EMB_TRY(emb_ids_push(to, b->env, (int32_t)id));
    }
fail:
    return st;
}

static embed_status load_template(build *b, const emb_json *value) {
    embed_status st;
    const emb_json *single, *specials, *item, *name, *piece, *id;
    emb_id_list front = {NULL, 0, 0};
    size_t texts = 0, pieces = 0;
    if (b->segments != 1)
        return emb_json_fail(EMBED_ERR_UNSUPPORTED, b->doc, value, NULL,
                             "expected one TemplateProcessing");
    EMB_TRY(emb_json_need(b->doc, value, "single", EMB_JSON_ARRAY, &single));
    EMB_TRY(emb_json_need(b->doc, value, "special_tokens", EMB_JSON_OBJECT, &specials));
    emb_json_iter it = emb_json_iterate(single);
    for (; (item = emb_json_next(&it, NULL)) != NULL; pieces++) {
        emb_json_iter member = emb_json_iterate(item);
        piece = emb_json_next(&member, &name);
        if (emb_json_count(item) == 1 && emb_json_equals(name, "SpecialToken")) {
            EMB_TRY(load_special(b, specials, piece, texts == 0 ? &front : &b->post->after));
        } else if (emb_json_count(item) == 1 && emb_json_equals(name, "Sequence")) {
            EMB_TRY(emb_json_need(b->doc, piece, "id", EMB_JSON_STRING, &id));
            if (!emb_json_equals(id, "A") || texts++ > 0) {
                st = emb_json_fail(EMBED_ERR_UNSUPPORTED, b->doc, piece, "id",
                                   "expected the sequence A, once");
                goto fail;
            }
        } else {
            st = emb_json_fail(EMBED_ERR_FORMAT, b->doc, item, NULL,
                               "expected {\"SpecialToken\": ...} or {\"Sequence\": ...}");
            goto fail;
        }
    }
    if (texts == 0) {
        st = emb_json_fail(EMBED_ERR_UNSUPPORTED, b->doc, value, "single",
                           "expected the sequence A, once");
        goto fail;
    }
    b->segments = pieces;
    for (size_t i = front.n; i-- > 0;)
        EMB_TRY(put_front(b, front.ids[i]));
fail:
    emb_free(b->env, front.ids);
    return st;
}

/* Depth is bounded by the JSON reader. */
static embed_status load(build *b, const emb_json *value) {
    embed_status st;
    const emb_json *type, *list, *item;
    EMB_TRY(emb_json_need(b->doc, value, "type", EMB_JSON_STRING, &type));
    if (emb_json_equals(type, "TemplateProcessing"))
        return load_template(b, value);
    if (emb_json_equals(type, "BertProcessing") || emb_json_equals(type, "RobertaProcessing"))
        return load_pair(b, value);
    if (emb_json_equals(type, "ByteLevel")) /* moves offsets only */
        return EMBED_OK;
    if (!emb_json_equals(type, "Sequence"))
        return emb_json_fail(EMBED_ERR_UNSUPPORTED, b->doc, value, "type",
                             "expected BertProcessing, ByteLevel, RobertaProcessing, Sequence or "
                             "TemplateProcessing");
    EMB_TRY(emb_json_need(b->doc, value, "processors", EMB_JSON_ARRAY, &list));
    emb_json_iter it = emb_json_iterate(list);
    while ((item = emb_json_next(&it, NULL)) != NULL)
        EMB_TRY(load(b, item));
fail:
    return st;
}

embed_status emb_postprocessor_load(emb_postprocessor *out, const emb_env *env,
                                    const emb_json_doc *doc, const emb_json *value) {
    memset(out, 0, sizeof *out);
    out->greatest = -1;
    if (emb_json_type_of(value) == EMB_JSON_ABSENT || emb_json_type_of(value) == EMB_JSON_NULL)
        return EMBED_OK;
    build b = {out, env, doc, 1};
    const embed_status st = load(&b, value);
    for (size_t i = 0; i < out->before.n; i++)
        if (out->before.ids[i] > out->greatest)
            out->greatest = out->before.ids[i];
    for (size_t i = 0; i < out->after.n; i++)
        if (out->after.ids[i] > out->greatest)
            out->greatest = out->after.ids[i];
    return st;
}

void emb_postprocessor_free(emb_postprocessor *post, const emb_env *env) {
    emb_free(env, post->before.ids);
    emb_free(env, post->after.ids);
}
