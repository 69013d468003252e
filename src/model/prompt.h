/* prompt: what goes before a text, by role. */
#ifndef EMB_MODEL_PROMPT_H
#define EMB_MODEL_PROMPT_H

#include "model/model.h"

/* The checkpoint's prompt for a role (embed_role), empty where it has none and needs none; see
 * embed_role in embed.h for the rule. */
embed_status emb_prompt_for_role(embed_text *prompt, const embed_model *model, int32_t role);

/* Leading tokens that sentence-transformers leaves out of the pooling where the checkpoint says
 * include_prompt = false: the tokens of the prompt alone, special ones included but a trailing one
 * (SentenceTransformer._get_prompt_length). 0 where the prompt counts. */
embed_status emb_prompt_skip(int32_t *skip, const embed_model *model, emb_tok_scratch *scratch,
                             embed_text prompt, uint32_t flags);

#endif
