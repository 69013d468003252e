#include "tokenizer/added_tokens.h"

#include "tokenizer/utf8.h"

/* ------------------------------------------------------------------------------------- loading */

static embed_status load_token(emb_added_token *t, const emb_env *env, const emb_json_doc *doc,
                               const emb_json *item) {
    embed_status st;
    const char *content;
    EMB_TRY(emb_json_need_int(doc, item, "id", 0, INT32_MAX - 1, &t->id));
    EMB_TRY(emb_json_need_string(doc, item, "content", &content, &t->len));
    EMB_TRY(emb_json_need_bool(doc, item, "single_word", &t->single_word));
    EMB_TRY(emb_json_need_bool(doc, item, "lstrip", &t->lstrip));
    EMB_TRY(emb_json_need_bool(doc, item, "rstrip", &t->rstrip));
    EMB_TRY(emb_json_need_bool(doc, item, "normalized", &t->normalized));
    EMB_TRY(emb_json_get_bool(doc, item, "special", &t->special));
    EMB_TRY(emb_strdup(env, content, t->len, &t->content));
fail:
    return st;
}

/* Give each token the id that the reference gives it: the model's, that of an earlier entry of the
 * same content, or the next free one. Of entries with one id the last one counts. Entries come in
 * `keys`, sorted by content and then by order, with value = order. */
static void assign_ids(emb_added_tokens *a, const emb_env *env, const emb_json_doc *doc,
                       const emb_trie_key *keys, uint32_t *first_of, const emb_model_vocab *vocab) {
    for (size_t i = 0; i < a->n; i++) {
        const int same = i > 0 && emb_trie_key_equal(&keys[i], &keys[i - 1]);
        first_of[keys[i].value] = same ? first_of[keys[i - 1].value] : keys[i].value;
        if (same)
            a->tokens[keys[i - 1].value].replaced = 1;
    }
    int32_t next = (int32_t)vocab->tokens;
    a->greatest = -1;
    for (size_t i = 0; i < a->n; i++) {
        emb_added_token *t = &a->tokens[i];
        const int32_t wanted = t->id;
        t->id = first_of[i] < i ? a->tokens[first_of[i]].id
                                : vocab->find(vocab->model, t->content, t->len);
        if (t->len == 0) { /* the reference passes over it */
            t->replaced = 1;
            continue;
        }
        if (t->id < 0)
            t->id = next++;
        if (t->id != wanted)
            emb_log(env, EMBED_LOG_WARN, "%s: added_tokens[%zu].id: \"%.60s\" has id %d, found %d",
                    emb_json_name(doc), i, t->content, (int)t->id, (int)wanted);
        if (t->id > a->greatest)
            a->greatest = t->id;
    }
}

static embed_status fail_twice(const emb_json_doc *doc, const emb_trie_key *key) {
    return emb_fail(EMBED_ERR_FORMAT,
                    "%s: added_tokens: expected each token to match a text of its own, found two "
                    "for \"%.60s\"",
                    emb_json_name(doc), key->ptr);
}

/* The trie of one set; texts[i] is what token i looks like there. */
static embed_status build_set(emb_added_tokens *a, emb_added_set *set, int normalized,
                              const emb_env *env, const emb_json_doc *doc, emb_text_buf *texts,
                              emb_trie_key *keys, emb_trie_key *spare) {
    for (size_t i = 0; i < a->n; i++) {
        const emb_added_token *t = &a->tokens[i];
        if (t->replaced || t->normalized != normalized)
            continue;
        if (texts[i].len == 0)
            return emb_fail(EMBED_ERR_FORMAT,
                            "%s: added_tokens[%zu].content: expected text that the normalizer "
                            "leaves something of, found \"%.60s\"",
                            emb_json_name(doc), i, t->content);
        keys[set->count++] =
            (emb_trie_key){texts[i].data, texts[i].len, 0, (uint32_t)i, (uint32_t)i};
        set->first[(unsigned char)texts[i].data[0]] = 1;
    }
    emb_trie_sort(keys, spare, set->count);
    for (size_t i = 1; i < set->count; i++)
        if (emb_trie_key_equal(&keys[i], &keys[i - 1]))
            return fail_twice(doc, &keys[i]);
    return emb_trie_build(&set->trie, env, keys, set->count);
}

/* What each token looks like in the text that it is looked for in. */
static embed_status normalize_tokens(const emb_added_tokens *a, const emb_env *env,
                                     const emb_normalizer *normalizer, const emb_unicode *u,
                                     emb_norm_work *work, emb_text_buf *texts) {
    embed_status st = EMBED_OK;
    for (size_t i = 0; i < a->n; i++) {
        const char *text = a->tokens[i].content;
        size_t len = a->tokens[i].len, zero = 0;
        if (a->tokens[i].normalized)
            EMB_TRY(emb_normalize(normalizer, u, env, work, text, len, &zero, &text, &len));
        EMB_TRY(emb_text_reserve(&texts[i], env, len + 1));
        emb_text_put(&texts[i], text, len);
        texts[i].data[len] = '\0';
    }
fail:
    return st;
}

embed_status emb_added_load(emb_added_tokens *a, const emb_env *env, const emb_json_doc *doc,
                            const emb_json *value, const emb_model_vocab *vocab,
                            const emb_normalizer *normalizer, const emb_unicode *u) {
    embed_status st;
    const emb_json *item;
    emb_norm_work work = {{{NULL, 0, 0}, {NULL, 0, 0}}, {NULL, NULL, 0, 0}};
    void *tokens, *keys_block = NULL, *spare = NULL, *firsts = NULL, *texts_block = NULL;
    size_t n = 0;
    memset(a, 0, sizeof *a);
    EMB_TRY(emb_new_array(env, emb_json_count(value), sizeof *a->tokens, &tokens));
    a->tokens = tokens;
    a->n = emb_json_count(value);
    if (a->n + vocab->tokens > EMB_TRIE_MAX)
        return emb_json_fail(EMBED_ERR_UNSUPPORTED, doc, value, NULL,
                             "expected at most %u tokens in all", EMB_TRIE_MAX);
    EMB_TRY(emb_new_array(env, a->n, sizeof(emb_trie_key), &keys_block));
    EMB_TRY(emb_new_array(env, a->n, sizeof(emb_trie_key), &spare));
    EMB_TRY(emb_new_array(env, a->n, sizeof(uint32_t), &firsts));
    EMB_TRY(emb_new_array(env, a->n, sizeof(emb_text_buf), &texts_block));
    emb_trie_key *keys = keys_block;
    emb_json_iter it = emb_json_iterate(value);
    while ((item = emb_json_next(&it, NULL)) != NULL)
        EMB_TRY(load_token(&a->tokens[n++], env, doc, item));
    for (size_t i = 0; i < n; i++)
        keys[i] = (emb_trie_key){a->tokens[i].content, a->tokens[i].len, 0, (uint32_t)i, 0};
    emb_trie_sort(keys, spare, n);
    assign_ids(a, env, doc, keys, firsts, vocab);
    size_t distinct = 0;
    for (size_t i = 0; i < n; i++)
        if (!a->tokens[keys[i].value].replaced)
            keys[distinct++] = keys[i];
    EMB_TRY(emb_trie_build(&a->index, env, keys, distinct));
    EMB_TRY(normalize_tokens(a, env, normalizer, u, &work, texts_block));
    EMB_TRY(build_set(a, &a->raw, 0, env, doc, texts_block, keys, spare));
    EMB_TRY(build_set(a, &a->normalized, 1, env, doc, texts_block, keys, spare));
fail:
    for (size_t i = 0; texts_block != NULL && i < a->n; i++)
        emb_free(env, ((emb_text_buf *)texts_block)[i].data);
    emb_free(env, keys_block);
    emb_free(env, spare);
    emb_free(env, firsts);
    emb_free(env, texts_block);
    emb_norm_work_free(&work, env);
    return st;
}

void emb_added_free(emb_added_tokens *a, const emb_env *env) {
    for (size_t i = 0; i < a->n; i++)
        emb_free(env, a->tokens[i].content);
    emb_free(env, a->tokens);
    emb_trie_free(&a->raw.trie, env);
    emb_trie_free(&a->normalized.trie, env);
    emb_trie_free(&a->index, env);
    memset(a, 0, sizeof *a);
}

int32_t emb_added_find(const emb_added_tokens *a, const char *token, size_t len) {
    const int32_t index = len > 0 ? emb_trie_find(&a->index, token, len) : -1;
    return index < 0 ? -1 : a->tokens[index].id;
}

/* ------------------------------------------------------------------------------------ scanning */

emb_added_scan emb_added_begin(const emb_added_tokens *a, int normalized, const emb_unicode *u,
                               const char *text, size_t n) {
    return (emb_added_scan){a, normalized ? &a->normalized : &a->raw, u, text, n, 0, 0, 0, 0, 0, 0};
}

/* The leftmost-longest token from scan->at on; its index and [*from, *to), or -1. */
static int32_t find_token(const emb_added_scan *s, size_t *from, size_t *to) {
    for (size_t at = s->at; at < s->n; at++) {
        uint32_t node = 0;
        int32_t found = -1;
        if (!s->set->first[(unsigned char)s->text[at]])
            continue;
        for (size_t i = at; i < s->n; i++) {
            if (!emb_trie_step(&s->set->trie, &node, (unsigned char)s->text[i]))
                break;
            const int32_t index = emb_trie_value(&s->set->trie, node);
            if (index >= 0) {
                found = index;
                *to = i + 1;
            }
        }
        if (found >= 0) {
            *from = at;
            return found;
        }
    }
    return -1;
}

static int has_flag(const emb_added_scan *s, size_t at, unsigned flag) {
    size_t len;
    return (emb_char_flags(s->u, emb_utf8_decode(s->text + at, &len)) & flag) != 0;
}

/* End of the white space at `at`. */
static size_t skip_space(emb_added_scan *s, size_t at) {
    if (at >= s->space_from && at < s->space_to)
        return s->space_to;
    s->space_from = at;
    while (at < s->n && has_flag(s, at, EMB_CHAR_SPACE))
        at += emb_utf8_len(s->text[at]);
    s->space_to = at;
    return at;
}

/* The rules of the reference's added_vocabulary.rs, find_matches: a token that fails single_word is
 * passed over whole; white space taken on the right may hold further tokens, one of which takes the
 * walk back to its own end; a token whose white space leaves nothing of it is dropped. */
int emb_added_next(emb_added_scan *s, size_t *start, size_t *end, int32_t *id) {
    size_t from, to;
    int32_t index;
    if (s->done)
        return 0;
    while (s->set->count > 0 && (index = find_token(s, &from, &to)) >= 0) {
        const emb_added_token *t = &s->added->tokens[index];
        s->at = to;
        if (t->single_word &&
            ((from > 0 && has_flag(s, emb_utf8_back(s->text, from), EMB_CHAR_WORD)) ||
             (to < s->n && has_flag(s, to, EMB_CHAR_WORD))))
            continue;
        if (t->lstrip && from < s->start)
            from = s->start;
        while (t->lstrip && from > s->start) {
            const size_t before = emb_utf8_back(s->text, from);
            if (!has_flag(s, before, EMB_CHAR_SPACE))
                break;
            from = before;
        }
        if (t->rstrip)
            to = skip_space(s, to);
        *start = s->start;
        *end = from > s->start ? from : s->start;
        *id = t->id;
        s->start = to;
        if (from < to)
            return 1;
    }
    s->done = 1;
    *start = s->start;
    *end = s->n;
    *id = -1;
    return 1;
}
