/* ngram_check: is every byte of a table as it was written, and does everything fit together? */
#ifndef EMB_NGRAM_NGRAM_CHECK_H
#define EMB_NGRAM_NGRAM_CHECK_H

#include "ngram/ngram_manifest.h"

/* params: embed_verify_params, already read; binding NULL: not compared. *result is set in any
 * case. EMBED_OK if nothing is wrong, else the status of the first problem. */
embed_status emb_ngram_check(const emb_env *env, const char *path, const emb_ngram_binding *binding,
                             const embed_verify_params *params, embed_verify_result *result);

#endif
