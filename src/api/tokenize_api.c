#include <string.h>

#include "api/request.h"

embed_status embed_tokenize(const embed_model *model, embed_text text,
                            const embed_encode_params *params, int32_t *ids, size_t cap,
                            size_t *n) {
    embed_status st = EMBED_OK;
    embed_encode_params p;
    emb_tok_options options;
    emb_tok_scratch *scratch = NULL;
    const int32_t *found;
    int32_t truncated;
    if (model == NULL || n == NULL)
        return emb_fail(EMBED_ERR_ARG, "%s: NULL", model == NULL ? "model" : "n");
    if ((text.ptr == NULL && text.len > 0) || (ids == NULL && cap > 0))
        return emb_fail(EMBED_ERR_ARG, "%s: NULL", ids == NULL && cap > 0 ? "ids" : "text.ptr");
    EMB_TRY(emb_request_params(&p, params));
    EMB_TRY(emb_request_tokenize(&options, model, &p, 0));
    EMB_TRY(emb_model_borrow_scratch((embed_model *)model, &scratch));
    EMB_TRY(emb_tokenizer_encode(model->tokenizer, scratch, text, &options, &found, n, &truncated));
    if (truncated && (p.flags & EMBED_TRUNCATE_ERROR)) {
        st = emb_fail(EMBED_ERR_TOO_LONG, "expected at most %d tokens, found more", p.max_tokens);
        goto fail;
    }
    if (ids != NULL && cap < *n) {
        st = emb_fail(EMBED_ERR_CAPACITY, "ids: expected room for %zu ids, found %zu", *n, cap);
        goto fail;
    }
    if (ids != NULL && *n > 0)
        memcpy(ids, found, *n * sizeof *ids);
fail:
    if (scratch != NULL)
        emb_model_return_scratch((embed_model *)model, scratch);
    return st;
}
