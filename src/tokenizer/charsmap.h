/* charsmap: the Precompiled normalizer, SentencePiece's precompiled_charsmap: a double-array trie
 * (darts-clone) from byte strings to offsets into a block of NUL-terminated replacements. Applied
 * as the reference tokenizers library does, per grapheme cluster. */
#ifndef EMB_TOKENIZER_CHARSMAP_H
#define EMB_TOKENIZER_CHARSMAP_H

#include "tokenizer/text_buf.h"
#include "tokenizer/unicode_props.h"

typedef struct emb_charsmap emb_charsmap;

/* base64: precompiled_charsmap as it stands in the file. Messages say what is wrong with it. */
embed_status emb_charsmap_create(emb_charsmap **out, const emb_env *env, const char *base64,
                                 size_t len);
void emb_charsmap_free(emb_charsmap *map, const emb_env *env);

/* Append in[0 .. n) with its clusters replaced; zero as in normalize.h. */
embed_status emb_charsmap_apply(const emb_charsmap *map, const emb_unicode *u, const emb_env *env,
                                const char *in, size_t n, emb_text_buf *out, size_t *zero);

#endif
