/* ngram_builder: a table from an f-gram list and the vectors that belong to it. */
#ifndef EMB_NGRAM_NGRAM_BUILDER_H
#define EMB_NGRAM_NGRAM_BUILDER_H

#include "ngram/ngram_manifest.h"

/* params: embed_build_params, already read and checked (api/params.h). output NULL: everything is
 * opened and the estimate told, nothing written. */
embed_status emb_ngram_build(const emb_env *env, const emb_ngram_binding *binding,
                             const char *fgrams, const char *rows, const char *output,
                             const embed_build_params *params);

/* The 32 bytes that key or key_path give; *given 0 if neither is set. */
embed_status emb_ngram_key_get(const emb_env *env, const char *key_path, embed_key_fn key,
                               void *key_user, uint8_t out[32], int *given);

#endif
