/* ngram_remake: a new version of a table from an old one: other order, fewer rows, another type. */
#ifndef EMB_NGRAM_NGRAM_REMAKE_H
#define EMB_NGRAM_NGRAM_REMAKE_H

#include "base/alloc.h"

/* params: embed_compact_params, already read and checked. */
embed_status emb_ngram_remake(const emb_env *env, const char *input, const char *output,
                              const embed_compact_params *params);

#endif
