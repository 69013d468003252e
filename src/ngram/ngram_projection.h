/* ngram_projection: the matrix from a table's rows to the width of the model's word embeddings, for
 * rows of another width. */
#ifndef EMB_NGRAM_NGRAM_PROJECTION_H
#define EMB_NGRAM_NGRAM_PROJECTION_H

#include "base/alloc.h"

typedef struct emb_ngram_projection {
    char *name;          /* of the tensor */
    unsigned char *file; /* a safetensors file that holds it alone, as [hidden, width] F32 */
    size_t bytes;
    int32_t hidden, width;
} emb_ngram_projection;

/* From "FILE.safetensors:NAME", or a file with one matrix. Errors: _IO; _FORMAT, also for numbers
 * that are not finite; _MISMATCH unless it has `hidden` rows. */
embed_status emb_ngram_projection_read(emb_ngram_projection *p, const emb_env *env,
                                       const char *spec, int32_t hidden);
void emb_ngram_projection_clear(emb_ngram_projection *p, const emb_env *env);

/* "FILE:NAME" into its halves, *name NULL without a name. A file of the whole name has no name. */
embed_status emb_ngram_split_name(const emb_env *env, const char *spec, char **file, char **name);

#endif
