#include <string.h>

#include "api/params.h"
#include "ngram/counts_select.h"

#define DEFAULT_MEMORY ((uint64_t)1 << 30)

embed_status embed_counts_get_info(const char *path, embed_counts_info *info) {
    embed_status st = EMBED_OK;
    emb_env env;
    emb_counts_reader r;
    embed_counts_info ours;
    if (path == NULL || info == NULL)
        return emb_fail(EMBED_ERR_ARG, "%s: NULL", path == NULL ? "path" : "info");
    EMB_TRY(emb_env_init(&env, NULL, NULL, NULL));
    EMB_TRY(emb_counts_open(&r, &env, path, 0));
    const emb_counts_header *h = &r.header;
    memset(&ours, 0, sizeof ours);
    ours.struct_size = sizeof ours;
    memcpy(ours.tokenizer, h->tokenizer, sizeof h->tokenizer);
    ours.vocab = h->vocab;
    ours.hidden = h->hidden;
    ours.k = h->k;
    ours.with_documents = h->with_documents;
    ours.min_count = h->min_count;
    ours.min_documents = h->min_documents;
    ours.tokens = h->tokens;
    ours.texts = h->texts;
    for (int32_t n = 2; n <= h->k; n++)
        ours.ngrams[n] = h->sections[n].entries;
    emb_counts_close(&r);
    st = emb_params_write(info, &ours, sizeof ours, "embed_counts_info");
fail:
    return st;
}

/* What of a job counts here. */
static embed_status read_job(const embed_job *job, emb_env *env, emb_counts_job *out) {
    if (job->reserved[0] != 0 || job->reserved[1] != 0)
        return emb_fail(EMBED_ERR_ABI, "embed_job.reserved: expected 0");
    *out =
        (emb_counts_job){job->memory == 0 ? DEFAULT_MEMORY : job->memory, job->report, job->user};
    return emb_env_init(env, job->allocator, NULL, NULL);
}

embed_status embed_ngram_merge(const char *const *inputs, size_t n, const char *output,
                               const embed_job *job) {
    static const embed_job defaults;
    emb_counts_job counts_job;
    emb_env env;
    embed_status st = EMBED_OK;
    if (inputs == NULL || output == NULL || output[0] == '\0')
        return emb_fail(EMBED_ERR_ARG, "%s: expected a path", inputs == NULL ? "inputs" : "output");
    for (size_t i = 0; i < n; i++)
        if (inputs[i] == NULL)
            return emb_fail(EMBED_ERR_ARG, "inputs[%zu]: NULL", i);
    EMB_TRY(read_job(job != NULL ? job : &defaults, &env, &counts_job));
    EMB_TRY(emb_counts_merge(&env, inputs, n, output, &counts_job));
fail:
    return st;
}

static embed_status read_limits(const embed_select_params *p, emb_counts_limits *l) {
    memset(l, 0, sizeof *l);
    if (p->top == 0 && p->min_count == 0 && p->bytes == 0)
        return emb_fail(EMBED_ERR_ARG, "embed_select_params: expected top, min_count or bytes; "
                                       "min_count 1 takes all n-grams");
    if (p->n_excluded > INT32_MAX || (p->excluded == NULL && p->n_excluded > 0))
        return emb_fail(EMBED_ERR_ARG, "embed_select_params.excluded: %s",
                        p->excluded == NULL ? "NULL" : "too many ids");
    if (p->width < 0 || p->width > 1 << 16)
        return emb_fail(EMBED_ERR_ARG, "embed_select_params.width: expected 0 to 65536, found %d",
                        p->width);
    l->rows = p->top;
    l->min_count = p->min_count;
    l->min_documents = p->min_documents;
    l->bytes = p->bytes;
    l->width = p->width;
    l->dtype = p->dtype == EMBED_DTYPE_DEFAULT ? EMBED_I8 : p->dtype;
    if (l->dtype < EMBED_F32 || l->dtype > EMBED_I8)
        return emb_fail(EMBED_ERR_ARG,
                        "embed_select_params.dtype: expected f32, f16, bf16 or int8, found %d",
                        p->dtype);
    for (int32_t n = 2; n <= EMB_NGRAM_MAX_K; n++) {
        l->per_length[n] = p->max_per_length[n];
        l->quotas |= p->max_per_length[n] > 0;
    }
    l->excluded = p->excluded;
    l->n_excluded = (int32_t)p->n_excluded;
    return EMBED_OK;
}

embed_status embed_ngram_select(const char *counts, const char *output,
                                const embed_select_params *params, embed_select_result *result) {
    embed_status st = EMBED_OK;
    embed_select_params p;
    embed_select_result ours;
    emb_counts_selection found;
    emb_counts_limits limits;
    emb_counts_job job;
    emb_env env;
    if (counts == NULL || output == NULL || output[0] == '\0')
        return emb_fail(EMBED_ERR_ARG, "%s: expected a path", counts == NULL ? "counts" : "output");
    EMB_TRY(emb_params_read(&p, sizeof p, params, "embed_select_params"));
    EMB_TRY(read_limits(&p, &limits));
    EMB_TRY(read_job(&p.job, &env, &job));
    EMB_TRY(emb_counts_select(&env, counts, output, &limits, &job, &found));
    if (result == NULL)
        return EMBED_OK;
    memset(&ours, 0, sizeof ours);
    ours.struct_size = sizeof ours;
    ours.rows = found.rows;
    ours.cut_off = found.cut_off;
    memcpy(ours.rows_by_length, found.length_rows, sizeof ours.rows_by_length);
    memcpy(ours.matches_by_length, found.positions, sizeof ours.matches_by_length);
    ours.tokens = found.tokens;
    ours.table_bytes = found.table_bytes;
    ours.dropped = found.dropped;
    ours.width = found.width;
    ours.passes = (int32_t)found.passes;
    st = emb_params_write(result, &ours, sizeof ours, "embed_select_result");
fail:
    return st;
}
