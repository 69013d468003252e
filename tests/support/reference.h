/* reference: the encoder in double precision, written for plainness: one loop per sum, nothing
 * packed, nothing shared with the library but the checkpoint's numbers. */
#ifndef EMB_TESTS_SUPPORT_REFERENCE_H
#define EMB_TESTS_SUPPORT_REFERENCE_H

#include "support/tiny_model.h"

/* Hidden states of n ids: states[0] after the lookup, states[i + 1] after layer i; each [n,
 * hidden], for free() as one block. */
double *reference_states(const tiny_model *m, const int32_t *ids, size_t n);

/* The text's vector: pooling without the first `skip` tokens, dense module, first `dim` dimensions
 * (0: all), unit length if `normalize`. Returns the width. */
size_t reference_vector(const tiny_model *m, const int32_t *ids, size_t n, size_t skip, size_t dim,
                        int normalize, double *out);

/* The same from other word embeddings [n, hidden], such as those that an n-gram table gives; words
 * NULL: the checkpoint's, which reference_words returns, for free(). */
double *reference_words(const tiny_model *m, const int32_t *ids, size_t n);
double *reference_states_from(const tiny_model *m, const int32_t *ids, size_t n,
                              const double *words);
size_t reference_vector_from(const tiny_model *m, const int32_t *ids, size_t n, const double *words,
                             size_t skip, size_t dim, int normalize, double *out);

/* Smallest gap, over tokens and MoE layers, between the last chosen and the first unchosen router
 * probability: a decision closer than rounding may differ. 1 without MoE layers. */
double reference_router_gap(const tiny_model *m, const int32_t *ids, size_t n);
double reference_router_gap_from(const tiny_model *m, const int32_t *ids, size_t n,
                                 const double *words);

#endif
