/* ngram_projector: rows of one width to word embeddings of another, by the tensor that the
 * manifest names. */
#ifndef EMB_NGRAM_NGRAM_PROJECTOR_H
#define EMB_NGRAM_NGRAM_PROJECTOR_H

#include "kernels/gemm/gemm.h"
#include "ngram/ngram_table.h"

/* out[hidden] = weight[hidden, width] row[width]; immutable, shared by threads. */
typedef struct emb_ngram_projector {
    float *values;
    float *packed; /* for the table's instruction set */
    emb_weight weight;
} emb_ngram_projector;

/* *out is NULL without failure if the manifest names none. The file is checked against its SHA-256.
 * Errors: _MISMATCH: no such tensor, or not [hidden, width]; _FORMAT: changed bits. */
embed_status emb_ngram_projector_open(emb_ngram_projector **out, const embed_table *table,
                                      int allow_unsafe);
void emb_ngram_projector_free(emb_ngram_projector *projection, const emb_env *env);

#endif
