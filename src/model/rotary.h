/* rotary: cosines and sines of rotary position embeddings, for every position up to the limit. */
#ifndef EMB_MODEL_ROTARY_H
#define EMB_MODEL_ROTARY_H

#include "model/model.h"

/* Fills model->cos and ->sin where the architecture has rotary positions. */
embed_status emb_rotary_build(embed_model *model);

#endif
