/* unigram: the most probable segmentation under a unigram language model (Kudo 2018,
 * arXiv:1804.10959), by the Viterbi search and the tie rules of the reference tokenizers library.
 */
#ifndef EMB_TOKENIZER_UNIGRAM_H
#define EMB_TOKENIZER_UNIGRAM_H

#include "io/json.h"
#include "tokenizer/id_list.h"
#include "tokenizer/trie.h"

typedef struct emb_unigram_piece {
    double score;
    int32_t id;
    int32_t reserved;
} emb_unigram_piece;

typedef struct emb_unigram {
    emb_trie trie;             /* piece to index into pieces */
    emb_unigram_piece *pieces; /* in the order of their bytes, so that prefixes lie together */
    size_t tokens;             /* in the vocabulary */
    int32_t unk;               /* id, -1: none */
    int32_t byte_fallback;     /* 1: bytes[] has every byte that there is a token for, else -1 */
    int32_t bytes[256];
    double unk_score;
    int32_t greatest; /* id */
    int32_t reserved;
} emb_unigram;

typedef struct emb_unigram_cell { /* best way to get to a place in the word */
    double score;
    int32_t id;
    uint32_t len; /* of the last piece on that way; 0: no way yet */
} emb_unigram_cell;

typedef struct emb_unigram_work {
    emb_unigram_cell *cells;
    size_t cap;
} emb_unigram_work;

/* value: the file's "model", opened with digits. Fill *out, to be freed even on failure. */
embed_status emb_unigram_load(emb_unigram *out, const emb_env *env, const emb_json_doc *doc,
                              const emb_json *value);
void emb_unigram_free(emb_unigram *model, const emb_env *env);

/* Append the ids of one word. Errors: _FORMAT if a character has no token and unk_id is null. */
embed_status emb_unigram_encode(const emb_unigram *model, const emb_env *env,
                                emb_unigram_work *work, const char *word, size_t len,
                                emb_id_list *out);
void emb_unigram_work_free(emb_unigram_work *work, const emb_env *env);
int32_t emb_unigram_find(const emb_unigram *model, const char *token, size_t len);

#endif
