/* wordpiece: greedy longest-match-first subwords (Wu et al. 2016, arXiv:1609.08144). */
#ifndef EMB_TOKENIZER_WORDPIECE_H
#define EMB_TOKENIZER_WORDPIECE_H

#include "io/json.h"
#include "tokenizer/id_list.h"
#include "tokenizer/trie.h"

typedef struct emb_wordpiece {
    emb_trie trie;         /* token to id */
    size_t tokens;         /* in the vocabulary */
    int32_t unk, greatest; /* ids */
    int32_t continues;     /* 0: no token starts with the continuation prefix */
    uint32_t continuation; /* the trie's unit after that prefix */
    size_t max_chars;      /* longer words are unknown */
} emb_wordpiece;

/* value: the file's "model". Fill *out, to be freed even on failure. */
embed_status emb_wordpiece_load(emb_wordpiece *out, const emb_env *env, const emb_json_doc *doc,
                                const emb_json *value);
void emb_wordpiece_free(emb_wordpiece *model, const emb_env *env);

/* Append the ids of one word. */
embed_status emb_wordpiece_encode(const emb_wordpiece *model, const emb_env *env, const char *word,
                                  size_t len, emb_id_list *out);

#endif
