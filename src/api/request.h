/* request: the arguments of an encode call, checked, as a job for the model. */
#ifndef EMB_API_REQUEST_H
#define EMB_API_REQUEST_H

#include "model/encode.h"

/* The caller's params, complete, with every field within its range. */
embed_status emb_request_params(embed_encode_params *p, const embed_encode_params *params);

/* What to tokenise: prompt, limit, flags. limit: of the model, or 0 for none. */
embed_status emb_request_tokenize(emb_tok_options *options, const embed_model *model,
                                  const embed_encode_params *p, int32_t limit);

/* Everything after tokenising: width, normalisation, output type, reports, progress. */
embed_status emb_request_output(emb_job *job, const embed_model *model,
                                const embed_encode_params *p);

/* Elements that n rows need, and EMBED_ERR_CAPACITY if `cap` is less. */
embed_status emb_request_capacity(const emb_job *job, size_t n, size_t *elements);

/* What a call is given: texts, or rows of ids, and room for the output. */
embed_status emb_request_texts(const embed_text *texts, size_t n);
embed_status emb_request_rows(const embed_model *model, const embed_ids *rows, size_t n);
embed_status emb_request_out(const emb_job *job, const void *out, size_t cap);

#endif
