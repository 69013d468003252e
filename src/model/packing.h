/* packing: the rearranged copy of all layer weights that saves the matrix product from rearranging
 * them in each call. It never changes results. */
#ifndef EMB_MODEL_PACKING_H
#define EMB_MODEL_PACKING_H

#include "model/model.h"

/* limit: as embed_model_params.pack_bytes. The copy is made whole or not at all: rearranging a part
 * of a large model would save the same part of little time, while costing memory and a slower open;
 * the models whose short calls gain, those of a few tens of millions of weights, fit whole. */
embed_status emb_packing_build(embed_model *model, uint64_t limit);

#endif
