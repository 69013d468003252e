/* place: where a context of the public interface encodes. */
#ifndef EMB_API_PLACE_H
#define EMB_API_PLACE_H

#include "model/context.h"

/* The device that params ask for; backend NULL: the CPU.
 * Errors  _ARG; _DEVICE with the reason why there is none */
embed_status emb_place_find(emb_place *place, const embed_context_params *params);

#endif
