#include "tokenizer/wordpiece.h"

#include <string.h>

/* Each id once: of two tokens with one id the reference would keep an arbitrary one. */
static embed_status check_ids(const emb_wordpiece *m, const emb_env *env, const emb_json_doc *doc,
                              const emb_json *vocab, const emb_trie_key *keys, size_t n) {
    void *block;
    embed_status st = emb_new_array(env, (size_t)m->greatest / 8 + 1, 1, &block);
    if (st != EMBED_OK)
        return st;
    unsigned char *seen = block;
    for (size_t i = 0; i < n && st == EMBED_OK; i++) {
        const unsigned bit = 1u << keys[i].value % 8;
        if (seen[keys[i].value / 8] & bit)
            st = emb_json_fail(EMBED_ERR_FORMAT, doc, vocab, NULL,
                               "expected each id once, found %u twice, for \"%.60s\" too",
                               (unsigned)keys[i].value, keys[i].ptr);
        seen[keys[i].value / 8] |= (unsigned char)bit;
    }
    emb_free(env, block);
    return st;
}

static embed_status load_vocab(emb_wordpiece *m, const emb_env *env, const emb_json_doc *doc,
                               const emb_json *vocab) {
    embed_status st;
    void *keys_block = NULL, *spare = NULL;
    const emb_json *name, *id;
    size_t n = 0;
    m->tokens = emb_json_count(vocab);
    if (m->tokens > EMB_TRIE_MAX)
        return emb_json_fail(EMBED_ERR_UNSUPPORTED, doc, vocab, NULL, "expected at most %u tokens",
                             EMB_TRIE_MAX);
    EMB_TRY(emb_new_array(env, m->tokens, sizeof(emb_trie_key), &keys_block));
    EMB_TRY(emb_new_array(env, m->tokens, sizeof(emb_trie_key), &spare));
    emb_trie_key *keys = keys_block;
    emb_json_iter it = emb_json_iterate(vocab);
    while ((id = emb_json_next(&it, &name)) != NULL) {
        const int64_t value = emb_json_integer(id);
        if (!emb_json_is_integer(id) || value < 0 || value >= EMB_TRIE_MAX) {
            st = emb_json_fail(EMBED_ERR_FORMAT, doc, id, NULL, "expected a token id from 0 to %u",
                               EMB_TRIE_MAX - 1);
            goto fail;
        }
        keys[n].ptr = emb_json_string(name, &keys[n].len);
        keys[n++].value = (uint32_t)value;
        if (value > m->greatest)
            m->greatest = (int32_t)value;
    }
    EMB_TRY(check_ids(m, env, doc, vocab, keys, n));
    emb_trie_sort(keys, spare, n);
    for (size_t i = 1; i < n; i++)
        if (emb_trie_key_equal(&keys[i], &keys[i - 1])) {
            st = emb_json_fail(EMBED_ERR_FORMAT, doc, vocab, NULL,
                               "expected each token once, found \"%.60s\" twice", keys[i].ptr);
            goto fail;
        }
    EMB_TRY(emb_trie_build(&m->trie, env, keys, n));
fail:
    emb_free(env, keys_block);
    emb_free(env, spare);
    return st;
}

embed_status emb_wordpiece_load(emb_wordpiece *m, const emb_env *env, const emb_json_doc *doc,
                                const emb_json *value) {
    embed_status st;
    const emb_json *vocab;
    const char *unk, *prefix;
    size_t unk_len, prefix_len;
    int32_t max_chars;
    memset(m, 0, sizeof *m);
    EMB_TRY(emb_json_need(doc, value, "vocab", EMB_JSON_OBJECT, &vocab));
    EMB_TRY(emb_json_need_string(doc, value, "unk_token", &unk, &unk_len));
    EMB_TRY(emb_json_need_string(doc, value, "continuing_subword_prefix", &prefix, &prefix_len));
    EMB_TRY(emb_json_need_int(doc, value, "max_input_chars_per_word", 0, INT32_MAX, &max_chars));
    m->max_chars = (size_t)max_chars;
    EMB_TRY(load_vocab(m, env, doc, vocab));
    m->unk = emb_trie_find(&m->trie, unk, unk_len);
    if (m->unk < 0)
        return emb_json_fail(EMBED_ERR_FORMAT, doc, value, "unk_token",
                             "expected a token of the vocabulary");
    m->continues = 1;
    for (size_t i = 0; i < prefix_len && m->continues; i++)
        m->continues = emb_trie_step(&m->trie, &m->continuation, (unsigned char)prefix[i]);
fail:
    return st;
}

void emb_wordpiece_free(emb_wordpiece *m, const emb_env *env) {
    emb_trie_free(&m->trie, env);
}

static int too_long(const emb_wordpiece *m, const char *word, size_t len) {
    size_t chars = 0;
    if (len <= m->max_chars)
        return 0;
    for (size_t i = 0; i < len && chars <= m->max_chars; i++)
        chars += ((unsigned char)word[i] & 0xc0) != 0x80;
    return chars > m->max_chars;
}

embed_status emb_wordpiece_encode(const emb_wordpiece *m, const emb_env *env, const char *word,
                                  size_t len, emb_id_list *out) {
    const emb_trie *trie = &m->trie;
    const size_t before = out->n;
    if (too_long(m, word, len))
        return emb_ids_push(out, env, m->unk);
    for (size_t start = 0, end = 0; start < len; start = end) {
        int32_t id = -1;
        uint32_t node = start == 0 ? 0 : m->continuation;
        for (size_t i = start; i < len && emb_trie_step(trie, &node, (unsigned char)word[i]); i++)
            if (trie->units[node].meta >> 9 != 0) {
                id = emb_trie_value(trie, node);
                end = i + 1;
            }
        if (id < 0 || (start > 0 && !m->continues)) {
            out->n = before;
            id = m->unk;
            end = len;
        }
        const embed_status st = emb_ids_push(out, env, id);
        if (st != EMBED_OK)
            return st;
    }
    return EMBED_OK;
}
