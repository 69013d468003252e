#include "tokenizer/tokenizer_impl.h"

/* A tokenizer.json of the largest vocabularies has some 35 MB. */
#define MAX_BYTES ((size_t)1 << 30)

static int32_t wordpiece_find(const void *model, const char *token, size_t len) {
    return emb_trie_find(&((const emb_wordpiece *)model)->trie, token, len);
}

static int32_t unigram_find(const void *model, const char *token, size_t len) {
    return emb_unigram_find(model, token, len);
}

emb_model_vocab emb_tokenizer_model(const emb_tokenizer *tok) {
    if (tok->kind == EMB_WORDPIECE)
        return (emb_model_vocab){&tok->wordpiece, wordpiece_find, tok->wordpiece.tokens};
    return (emb_model_vocab){&tok->unigram, unigram_find, tok->unigram.tokens};
}

static embed_status load_model(emb_tokenizer *tok, const emb_json_doc *doc, const emb_json *value) {
    embed_status st;
    const emb_json *type;
    EMB_TRY(emb_json_need(doc, value, "type", EMB_JSON_STRING, &type));
    if (emb_json_equals(type, "WordPiece")) {
        tok->kind = EMB_WORDPIECE;
        return emb_wordpiece_load(&tok->wordpiece, &tok->env, doc, value);
    }
    if (emb_json_equals(type, "Unigram")) {
        tok->kind = EMB_UNIGRAM;
        return emb_unigram_load(&tok->unigram, &tok->env, doc, value);
    }
    return emb_json_fail(EMBED_ERR_UNSUPPORTED, doc, value, "type",
                         "expected WordPiece or Unigram");
fail:
    return st;
}

static embed_status load_truncation(emb_tokenizer *tok, const emb_json_doc *doc,
                                    const emb_json *root) {
    const emb_json *truncation = NULL;
    const embed_status st = emb_json_get(doc, root, "truncation", EMB_JSON_OBJECT, &truncation);
    if (st != EMBED_OK || truncation == NULL)
        return st;
    return emb_json_need_int(doc, truncation, "max_length", 0, INT32_MAX, &tok->max_length);
}

static int32_t greater(int32_t a, int32_t b) {
    return a > b ? a : b;
}

static embed_status load(emb_tokenizer *tok, const emb_json_doc *doc) {
    embed_status st;
    const emb_json *root = emb_json_root(doc), *value, *added = NULL;
    EMB_TRY(emb_json_find(doc, root, "normalizer", &value));
    EMB_TRY(emb_normalizer_load(&tok->normalizer, &tok->env, doc, value));
    EMB_TRY(emb_json_find(doc, root, "pre_tokenizer", &value));
    EMB_TRY(emb_pretokenizer_load(&tok->pretokenizer, doc, value));
    EMB_TRY(emb_json_find(doc, root, "post_processor", &value));
    EMB_TRY(emb_postprocessor_load(&tok->post, &tok->env, doc, value));
    EMB_TRY(load_truncation(tok, doc, root));
    EMB_TRY(emb_json_need(doc, root, "model", EMB_JSON_OBJECT, &value));
    EMB_TRY(load_model(tok, doc, value));
    EMB_TRY(emb_json_get(doc, root, "added_tokens", EMB_JSON_ARRAY, &added));
    const emb_model_vocab vocab = emb_tokenizer_model(tok);
    EMB_TRY(
        emb_added_load(&tok->added, &tok->env, doc, added, &vocab, &tok->normalizer, tok->unicode));
    const int32_t model =
        tok->kind == EMB_WORDPIECE ? tok->wordpiece.greatest : tok->unigram.greatest;
    tok->vocab = greater(model, greater(tok->added.greatest, tok->post.greatest)) + 1;
fail:
    return st;
}

embed_status emb_tokenizer_open(emb_tokenizer **out, const emb_env *env, const char *path) {
    embed_status st;
    void *block;
    emb_json_doc *doc = NULL;
    *out = NULL;
    if ((st = emb_new(env, sizeof(emb_tokenizer), &block)) != EMBED_OK)
        return st;
    emb_tokenizer *tok = block;
    tok->env = *env;
    EMB_TRY(emb_json_open_digits(&doc, env, path, MAX_BYTES));
    EMB_TRY(emb_unicode_create(&tok->unicode, env));
    EMB_TRY(load(tok, doc));
    emb_json_free(doc);
    *out = tok;
    return EMBED_OK;
fail:
    emb_json_free(doc);
    emb_tokenizer_free(tok);
    return st;
}

void emb_tokenizer_free(emb_tokenizer *tok) {
    if (tok == NULL)
        return;
    const emb_env env = tok->env;
    emb_normalizer_free(&tok->normalizer, &env);
    emb_added_free(&tok->added, &env);
    emb_postprocessor_free(&tok->post, &env);
    emb_wordpiece_free(&tok->wordpiece, &env);
    emb_unigram_free(&tok->unigram, &env);
    emb_unicode_free(tok->unicode, &env);
    emb_free(&env, tok);
}
