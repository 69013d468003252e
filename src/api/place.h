/* place: where a context of the public interface encodes. */
#ifndef EMB_API_PLACE_H
#define EMB_API_PLACE_H

#include "model/context.h"

/* The device that params ask for; backend NULL: the CPU.
 * Errors  _ARG; _DEVICE with the reason why there is none */
embed_status emb_place_find(emb_place *place, const embed_context_params *params);
/* The same with params->devices, each of which is there, usable and named once; and the second half
 * of it, of the backend that places->place has.
 * Errors  as above, with the number of the one at fault */
embed_status emb_places_find(emb_places *places, const embed_context_params *params);
embed_status emb_places_take(emb_places *places, const embed_context_params *params);

#endif
