/* ngram_store: a directory of versions of a table, v000001 v000002 ..., and a link `current` to the
 * one in use. Versions come whole or not at all, the link is swapped in one step, and whoever has a
 * version open keeps it. */
#ifndef EMB_NGRAM_NGRAM_STORE_H
#define EMB_NGRAM_NGRAM_STORE_H

#include "base/alloc.h"

/* params: embed_publish_params, already read. version receives the name of the new version. */
embed_status emb_ngram_store_publish(const emb_env *env, const char *store, const char *table,
                                     const embed_publish_params *params, char version[32]);
/* version NULL: the one before the current one. */
embed_status emb_ngram_store_rollback(const emb_env *env, const char *store, const char *version,
                                      char now[32]);
/* All versions in ascending order. *n is set on EMBED_ERR_CAPACITY too. */
embed_status emb_ngram_store_list(const emb_env *env, const char *store,
                                  embed_store_version *versions, size_t cap, size_t *n);

#endif
