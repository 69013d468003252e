#include "api/request.h"

#include "api/params.h"
#include "model/output_type.h"
#include "model/prompt.h"

#define KNOWN_FLAGS                                                                                \
    (EMBED_NO_NORMALIZE | EMBED_NORMALIZE | EMBED_TRUNCATE_ERROR | EMBED_UTF8_REFUSE |             \
     EMBED_NO_SPECIAL_TOKENS)

embed_status emb_request_params(embed_encode_params *p, const embed_encode_params *params) {
    const embed_status st = emb_params_read(p, sizeof *p, params, "embed_encode_params");
    if (st != EMBED_OK)
        return st;
    if (p->reserved != 0)
        return emb_fail(EMBED_ERR_ABI, "embed_encode_params.reserved: expected 0, found %d",
                        p->reserved);
    if ((p->flags & ~KNOWN_FLAGS) != 0)
        return emb_fail(EMBED_ERR_ABI, "embed_encode_params.flags: unknown bits 0x%x",
                        p->flags & ~KNOWN_FLAGS);
    if ((p->flags & EMBED_NO_NORMALIZE) && (p->flags & EMBED_NORMALIZE))
        return emb_fail(EMBED_ERR_ARG, "embed_encode_params.flags: EMBED_NO_NORMALIZE and "
                                       "EMBED_NORMALIZE contradict each other");
    if (p->role < EMBED_ROLE_NONE || p->role > EMBED_ROLE_DOCUMENT)
        return emb_fail(EMBED_ERR_ARG, "embed_encode_params.role: expected 0 to %d, found %d",
                        EMBED_ROLE_DOCUMENT, p->role);
    if (p->prefix == NULL && p->prefix_len > 0)
        return emb_fail(EMBED_ERR_ARG, "embed_encode_params.prefix: NULL with prefix_len %zu",
                        p->prefix_len);
    if (p->output == EMBED_DTYPE_DEFAULT)
        p->output = EMBED_F32;
    if (emb_output_element_bytes(p->output) == 0)
        return emb_fail(EMBED_ERR_ARG,
                        "embed_encode_params.output: expected an output type of "
                        "embed_dtype, found %d",
                        p->output);
    return EMBED_OK;
}

embed_status emb_request_tokenize(emb_tok_options *options, const embed_model *m,
                                  const embed_encode_params *p, int32_t limit) {
    const int32_t special =
        (p->flags & EMBED_NO_SPECIAL_TOKENS) ? 0 : emb_tokenizer_special_count(m->tokenizer);
    *options = (emb_tok_options){
        .prefix = {p->prefix, p->prefix_len},
        .max_tokens = p->max_tokens > 0 ? p->max_tokens : limit,
        .flags = p->flags & (EMBED_UTF8_REFUSE | EMBED_NO_SPECIAL_TOKENS),
    };
    if (p->max_tokens != 0 && (p->max_tokens <= special || (limit > 0 && p->max_tokens > limit)))
        return emb_fail(EMBED_ERR_ARG,
                        "embed_encode_params.max_tokens: expected 0 or %d to %d, found %d",
                        special + 1, limit > 0 ? limit : INT32_MAX, p->max_tokens);
    return p->prefix != NULL ? EMBED_OK : emb_prompt_for_role(&options->prefix, m, p->role);
}

embed_status emb_request_output(emb_job *job, const embed_model *m, const embed_encode_params *p) {
    if (p->flags & EMBED_NO_SPECIAL_TOKENS)
        return emb_fail(EMBED_ERR_ARG, "embed_encode_params.flags: EMBED_NO_SPECIAL_TOKENS is for "
                                       "embed_tokenize; the encoder needs them");
    if (p->dim < 0 || p->dim > m->dim)
        return emb_fail(EMBED_ERR_ARG, "embed_encode_params.dim: expected 0 to %d, found %d",
                        m->dim, p->dim);
    if ((p->output == EMBED_I8 || p->output == EMBED_U8) && p->ranges == NULL)
        return emb_fail(EMBED_ERR_ARG,
                        "embed_encode_params.ranges: NULL, but %s needs them (see "
                        "embed_quantize_ranges)",
                        p->output == EMBED_I8 ? "EMBED_I8" : "EMBED_U8");
    job->output = p->output;
    job->ranges = p->ranges;
    job->reports = p->reports;
    job->progress = p->progress;
    job->progress_user = p->progress_user;
    job->refuse_long = (p->flags & EMBED_TRUNCATE_ERROR) != 0;
    job->pooling.dim = p->dim > 0 ? p->dim : m->dim;
    job->pooling.normalize = (p->flags & EMBED_NORMALIZE) != 0 ||
                             (m->config.pipeline.normalize && !(p->flags & EMBED_NO_NORMALIZE));
    return EMBED_OK;
}

embed_status emb_request_capacity(const emb_job *job, size_t n, size_t *elements) {
    const size_t row = (size_t)emb_output_row_len(job->output, job->pooling.dim);
    if (__builtin_mul_overflow(n, row, elements))
        return emb_fail(EMBED_ERR_ARG, "n: %zu rows of %zu elements are more than memory can hold",
                        n, row);
    return EMBED_OK;
}

embed_status emb_request_texts(const embed_text *texts, size_t n) {
    if (texts == NULL && n > 0)
        return emb_fail(EMBED_ERR_ARG, "texts: NULL with n %zu", n);
    for (size_t i = 0; i < n; i++)
        if (texts[i].ptr == NULL && texts[i].len > 0)
            return emb_fail(EMBED_ERR_ARG, "texts[%zu].ptr: NULL with len %zu", i, texts[i].len);
    return EMBED_OK;
}

static embed_status check_row(const embed_model *m, const embed_ids *row, size_t i) {
    const int32_t limit = m->config.pipeline.max_tokens;
    if (row->ptr == NULL || row->len < 1 || row->len > (size_t)limit)
        return emb_fail(EMBED_ERR_ARG, "rows[%zu]: expected 1 to %d ids, found %zu%s", i, limit,
                        row->len, row->ptr == NULL ? " at NULL" : "");
    for (size_t t = 0; t < row->len; t++)
        if (row->ptr[t] < 0 || row->ptr[t] >= m->weights.word.rows)
            return emb_fail(EMBED_ERR_ARG,
                            "rows[%zu].ptr[%zu]: expected an id below %lld, found %d", i, t,
                            (long long)m->weights.word.rows, row->ptr[t]);
    return EMBED_OK;
}

embed_status emb_request_rows(const embed_model *m, const embed_ids *rows, size_t n) {
    embed_status st = EMBED_OK;
    if (rows == NULL && n > 0)
        return emb_fail(EMBED_ERR_ARG, "rows: NULL with n %zu", n);
    for (size_t i = 0; i < n; i++)
        EMB_TRY(check_row(m, &rows[i], i));
fail:
    return st;
}

embed_status emb_request_out(const emb_job *job, const void *out, size_t cap) {
    size_t need;
    const embed_status st = emb_request_capacity(job, job->n, &need);
    if (st != EMBED_OK)
        return st;
    if (out == NULL && need > 0)
        return emb_fail(EMBED_ERR_ARG, "out: NULL");
    if (cap < need)
        return emb_fail(EMBED_ERR_CAPACITY, "out: expected room for %zu elements, found %zu", need,
                        cap);
    return EMBED_OK;
}
