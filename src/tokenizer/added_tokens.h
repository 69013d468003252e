/* added_tokens: tokens that are found in the text itself, before any model sees it. */
#ifndef EMB_TOKENIZER_ADDED_TOKENS_H
#define EMB_TOKENIZER_ADDED_TOKENS_H

#include "io/json.h"
#include "tokenizer/normalize.h"
#include "tokenizer/trie.h"

typedef struct emb_added_token {
    char *content;
    size_t len;
    int32_t id;
    int32_t single_word;    /* only where no word character is next to it */
    int32_t lstrip, rstrip; /* takes the white space on that side with it */
    int32_t normalized;     /* its normalized form is looked for in normalized text */
    int32_t special;        /* 1: control token, not text: ends the history of n-grams */
    int32_t replaced;       /* 1: a later entry of the file has its id */
} emb_added_token;

/* Tokens looked for in one kind of text: raw or normalized. */
typedef struct emb_added_set {
    emb_trie trie;      /* to index into tokens */
    uint8_t first[256]; /* 1 for bytes that some token starts with */
    size_t count;
} emb_added_set;

typedef struct emb_added_tokens {
    emb_added_token *tokens;
    size_t n;
    emb_added_set raw, normalized;
    emb_trie index; /* every content to its index */
    int32_t greatest;
    int32_t reserved;
} emb_added_tokens;

/* How the model finds its own tokens: -1 if it has none of that text. */
typedef struct emb_model_vocab {
    const void *model;
    int32_t (*find)(const void *model, const char *token, size_t len);
    size_t tokens; /* how many it has */
} emb_model_vocab;

/* value: the file's "added_tokens". Ids are the model's, or follow its vocabulary; the ids in the
 * file do not count, as in the reference, but a difference is logged. Fill *out, to be freed even
 * on failure. */
embed_status emb_added_load(emb_added_tokens *out, const emb_env *env, const emb_json_doc *doc,
                            const emb_json *value, const emb_model_vocab *vocab,
                            const emb_normalizer *normalizer, const emb_unicode *u);
void emb_added_free(emb_added_tokens *added, const emb_env *env);
int32_t emb_added_find(const emb_added_tokens *added, const char *token, size_t len);

/* Walks a text: each call gives the stretch before the next token, which may be empty, and the
 * token; `id` -1 and the rest of the text at the end. Then 0. */
typedef struct emb_added_scan {
    const emb_added_tokens *added;
    const emb_added_set *set;
    const emb_unicode *u;
    const char *text;
    size_t n;
    size_t at;                   /* where to look next */
    size_t start;                /* end of the last token with its white space */
    size_t space_from, space_to; /* the last white space that was walked to its end */
    int32_t done;
    int32_t reserved;
} emb_added_scan;

emb_added_scan emb_added_begin(const emb_added_tokens *added, int normalized, const emb_unicode *u,
                               const char *text, size_t n);
int emb_added_next(emb_added_scan *scan, size_t *start, size_t *end, int32_t *id);

#endif
