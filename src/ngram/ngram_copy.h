/* ngram_copy: the files of a table into another directory, each checked against its digest on the
 * way and synced. */
#ifndef EMB_NGRAM_NGRAM_COPY_H
#define EMB_NGRAM_NGRAM_COPY_H

#include "ngram/ngram_manifest.h"
#include "ngram/ngram_tell.h"

/* Into directory `to`, which exists and is empty. EMBED_ERR_FORMAT naming a file that is not what
 * the manifest says. */
embed_status emb_ngram_copy(const emb_env *env, const char *from, const char *to,
                            const emb_ngram_manifest *manifest, emb_ngram_teller *teller);

#endif
