#include "tokenizer/unigram.h"

#include <stdio.h>
#include <string.h>

#include "tokenizer/json_number.h"
#include "tokenizer/utf8.h"

#define UNK_PENALTY 10.0 /* below the least score: SentencePiece, unigram_model.cc */

/* ------------------------------------------------------------------------------------- loading */

static embed_status read_piece(const emb_json_doc *doc, const emb_json *item, emb_trie_key *key,
                               double *score) {
    emb_json_iter it = emb_json_iterate(item);
    const emb_json *token = emb_json_next(&it, NULL), *number = emb_json_next(&it, NULL);
    size_t len;
    if (emb_json_type_of(item) != EMB_JSON_ARRAY || emb_json_count(item) != 2 ||
        emb_json_type_of(token) != EMB_JSON_STRING || emb_json_type_of(number) != EMB_JSON_NUMBER)
        return emb_json_fail(EMBED_ERR_FORMAT, doc, item, NULL, "expected [token, score]");
    key->ptr = emb_json_string(token, &key->len);
    const char *digits = emb_json_digits(number, &len);
    if (!emb_json_number_read(digits, len, score))
        return emb_json_fail(EMBED_ERR_FORMAT, doc, number, NULL, "expected a finite score");
    return EMBED_OK;
}

/* Of equal tokens the last one counts. Returns how many are left. */
static size_t drop_equal(emb_trie_key *keys, size_t n) {
    size_t used = 0;
    for (size_t i = 0; i < n; i++)
        if (i + 1 == n || !emb_trie_key_equal(&keys[i], &keys[i + 1]))
            keys[used++] = keys[i];
    return used;
}

static embed_status load_vocab(emb_unigram *m, const emb_env *env, const emb_json_doc *doc,
                               const emb_json *vocab) {
    embed_status st;
    void *keys_block = NULL, *spare = NULL, *scores_block = NULL, *block;
    const emb_json *item;
    size_t n = 0;
    m->tokens = emb_json_count(vocab);
    if (m->tokens == 0 || m->tokens > EMB_TRIE_MAX)
        return emb_json_fail(EMBED_ERR_FORMAT, doc, vocab, NULL, "expected 1 to %u tokens",
                             EMB_TRIE_MAX);
    EMB_TRY(emb_new_array(env, m->tokens, sizeof(emb_trie_key), &keys_block));
    EMB_TRY(emb_new_array(env, m->tokens, sizeof(emb_trie_key), &spare));
    EMB_TRY(emb_new_array(env, m->tokens, sizeof(double), &scores_block));
    emb_trie_key *keys = keys_block;
    double *scores = scores_block;
    emb_json_iter it = emb_json_iterate(vocab);
    while ((item = emb_json_next(&it, NULL)) != NULL) {
        EMB_TRY(read_piece(doc, item, &keys[n], &scores[n]));
        if (n == 0 || scores[n] < m->unk_score)
            m->unk_score = scores[n];
        n++;
    }
    m->unk_score -= UNK_PENALTY;
    m->greatest = (int32_t)m->tokens - 1;
    emb_trie_sort(keys, spare, n);
    n = drop_equal(keys, n);
    EMB_TRY(emb_new_array(env, n, sizeof *m->pieces, &block));
    m->pieces = block;
    for (size_t i = 0; i < n; i++) {
        m->pieces[i] = (emb_unigram_piece){scores[keys[i].order], (int32_t)keys[i].order, 0};
        keys[i].value = (uint32_t)i;
    }
    EMB_TRY(emb_trie_build(&m->trie, env, keys, n));
fail:
    emb_free(env, keys_block);
    emb_free(env, spare);
    emb_free(env, scores_block);
    return st;
}

embed_status emb_unigram_load(emb_unigram *m, const emb_env *env, const emb_json_doc *doc,
                              const emb_json *value) {
    embed_status st;
    const emb_json *vocab;
    char name[8];
    memset(m, 0, sizeof *m);
    m->unk = -1;
    EMB_TRY(emb_json_need(doc, value, "vocab", EMB_JSON_ARRAY, &vocab));
    EMB_TRY(load_vocab(m, env, doc, vocab));
    EMB_TRY(emb_json_get_int(doc, value, "unk_id", 0, m->greatest, &m->unk));
    EMB_TRY(emb_json_get_bool(doc, value, "byte_fallback", &m->byte_fallback));
    for (unsigned i = 0; i < 256; i++) {
        (void)snprintf(name, sizeof name, "<0x%02X>", i);
        m->bytes[i] = emb_unigram_find(m, name, 6);
    }
fail:
    return st;
}

void emb_unigram_free(emb_unigram *m, const emb_env *env) {
    emb_trie_free(&m->trie, env);
    emb_free(env, m->pieces);
}

void emb_unigram_work_free(emb_unigram_work *work, const emb_env *env) {
    emb_free(env, work->cells);
    *work = (emb_unigram_work){NULL, 0};
}

int32_t emb_unigram_find(const emb_unigram *m, const char *token, size_t len) {
    const int32_t index = emb_trie_find(&m->trie, token, len);
    return index < 0 ? -1 : m->pieces[index].id;
}

/* ------------------------------------------------------------------------------------ encoding */

static void offer(emb_unigram_cell *cell, double score, int32_t id, size_t len) {
    if (cell->len == 0 || score > cell->score) /* the earlier start, the longer piece, wins ties */
        *cell = (emb_unigram_cell){score, id, (uint32_t)len};
}

/* Fill the cells from left to right. */
static embed_status search(const emb_unigram *m, emb_unigram_cell *cells, const char *word,
                           size_t n) {
    size_t char_len;
    for (size_t start = 0; start < n; start += char_len) {
        const double here = cells[start].score;
        uint32_t node = 0;
        int single = 0;
        char_len = emb_utf8_len(word[start]);
        for (size_t i = start; i < n;) {
            if (!emb_trie_step(&m->trie, &node, (unsigned char)word[i++]))
                break;
            const int32_t index = emb_trie_value(&m->trie, node);
            if (index >= 0) {
                const emb_unigram_piece *piece = &m->pieces[index];
                offer(&cells[i], piece->score + here, piece->id, i - start);
                single |= i - start == char_len;
            }
        }
        if (single)
            continue;
        emb_unigram_cell *next = &cells[start + char_len];
        if (m->unk < 0 && (next->len == 0 || m->unk_score + here > next->score)) {
            size_t len;
            return emb_fail(EMBED_ERR_FORMAT,
                            "model.unk_id: expected an id, since U+%04X has no token, found null",
                            (unsigned)emb_utf8_decode(word + start, &len));
        }
        offer(next, m->unk_score + here, m->unk, char_len);
    }
    return EMBED_OK;
}

/* A stretch of unknown pieces is one token; it may even be in the vocabulary. */
static embed_status push_unknown(const emb_unigram *m, const emb_env *env, const char *text,
                                 size_t len, emb_id_list *out) {
    embed_status st;
    const int32_t id = emb_unigram_find(m, text, len);
    int bytes = id < 0 && m->byte_fallback;
    for (size_t i = 0; i < len && bytes; i++)
        bytes = m->bytes[(unsigned char)text[i]] >= 0;
    if (!bytes)
        return emb_ids_push(out, env, id < 0 ? m->unk : id);
    EMB_TRY(emb_ids_reserve(out, env, len));
    for (size_t i = len; i-- > 0;) /* the caller reverses */
        out->ids[out->n++] = m->bytes[(unsigned char)text[i]];
fail:
    return st;
}

embed_status emb_unigram_encode(const emb_unigram *m, const emb_env *env, emb_unigram_work *work,
                                const char *word, size_t len, emb_id_list *out) {
    embed_status st;
    void *cells = work->cells;
    const size_t first = out->n;
    st = emb_grow(env, &cells, &work->cap, len + 1, sizeof *work->cells);
    work->cells = cells;
    EMB_TRY(st);
    for (size_t i = 0; i <= len; i++)
        work->cells[i] = (emb_unigram_cell){0, 0, 0};
    EMB_TRY(search(m, work->cells, word, len));
    for (size_t end = len, start; end > 0; end = start) { /* back along the best way */
        const emb_unigram_cell *cell = &work->cells[end];
        start = end - cell->len;
        if (cell->id != m->unk) {
            EMB_TRY(emb_ids_push(out, env, cell->id));
            continue;
        }
        while (start > 0 && work->cells[start].id == m->unk)
            start -= work->cells[start].len;
        EMB_TRY(push_unknown(m, env, word + start, end - start, out));
    }
    for (size_t i = first, k = out->n; i + 1 < k; i++) {
        const int32_t swap = out->ids[--k];
        out->ids[k] = out->ids[i];
        out->ids[i] = swap;
    }
fail:
    return st;
}
