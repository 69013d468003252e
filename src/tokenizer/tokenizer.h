/* tokenizer: text to ids as tokenizer.json defines them, equal to the Hugging Face `tokenizers`
 * library on every input. Immutable once open, shared by threads. */
#ifndef EMB_TOKENIZER_TOKENIZER_H
#define EMB_TOKENIZER_TOKENIZER_H

#include "base/alloc.h"

typedef struct emb_tokenizer emb_tokenizer;
typedef struct emb_tok_scratch emb_tok_scratch; /* growing buffers of one thread */

/* path: the tokenizer.json. Messages name the file and key. */
embed_status emb_tokenizer_open(emb_tokenizer **out, const emb_env *env, const char *path);
void emb_tokenizer_free(emb_tokenizer *tok);

int32_t emb_tokenizer_vocab(const emb_tokenizer *tok); /* largest id + 1, added tokens included */
/* Id of a token's exact text, -1 if there is none. */
int32_t emb_tokenizer_id(const emb_tokenizer *tok, const char *token, size_t len);
/* How many special tokens the post-processor adds to one text; whether it ends in one. */
int32_t emb_tokenizer_special_count(const emb_tokenizer *tok);
int32_t emb_tokenizer_ends_special(const emb_tokenizer *tok);
/* Ids of the special tokens, ascending, each once: added tokens that the file calls special, and
 * what the post-processor adds. *ids is the caller's to free with env. */
embed_status emb_tokenizer_special_ids(const emb_tokenizer *tok, const emb_env *env, int32_t **ids,
                                       int32_t *n);
/* truncation.max_length of the file, 0 if none. */
int32_t emb_tokenizer_max_length(const emb_tokenizer *tok);

embed_status emb_tok_scratch_create(emb_tok_scratch **out, const emb_env *env);
void emb_tok_scratch_free(emb_tok_scratch *scratch);
uint64_t emb_tok_scratch_bytes(const emb_tok_scratch *scratch);

typedef struct emb_tok_options {
    embed_text prefix;  /* goes before the text, as if both were one string */
    int64_t max_tokens; /* special tokens included; 0: no limit. Cuts at the right */
    uint32_t flags;     /* EMBED_UTF8_REFUSE, EMBED_NO_SPECIAL_TOKENS */
} emb_tok_options;

/* Tokenise one text. *ids points into the scratch and is valid until its next use.
 * *truncated is 1 if tokens were cut; the tokeniser may then stop early. */
embed_status emb_tokenizer_encode(const emb_tokenizer *tok, emb_tok_scratch *scratch,
                                  embed_text text, const emb_tok_options *options,
                                  const int32_t **ids, size_t *n, int32_t *truncated);

#endif
