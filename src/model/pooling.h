/* pooling: hidden states of a batch to one vector per text: pooling, dense modules, Matryoshka cut,
 * normalisation (the modules of sentence-transformers; Kusupati et al. 2022, arXiv:2205.13147). */
#ifndef EMB_MODEL_POOLING_H
#define EMB_MODEL_POOLING_H

#include "model/forward.h"

typedef struct emb_pooling_options {
    int32_t skip;      /* leading tokens of each text left out of the pooling */
    int32_t dim;       /* dimensions kept */
    int32_t normalize; /* 1: to unit length after the cut */
} emb_pooling_options;

/* *vectors: [batch->texts] rows of which the first dim floats count, *stride floats apart; valid
 * until the next stage. */
embed_status emb_pooling_run(emb_forward *f, const emb_batch *batch,
                             const emb_pooling_options *options, const float **vectors,
                             int64_t *stride);

#endif
