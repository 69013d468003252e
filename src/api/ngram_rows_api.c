#include <string.h>

#include "api/params.h"
#include "api/place.h"
#include "model/fgram_job.h"

static embed_status read_params(embed_rows_params *p, const embed_rows_params *params) {
    const embed_status st = emb_params_read(p, sizeof *p, params, "embed_rows_params");
    if (st != EMBED_OK)
        return st;
    if (p->reserved != 0 || p->reserved2 != 0 || p->job.reserved[0] != 0 || p->job.reserved[1] != 0)
        return emb_fail(EMBED_ERR_ABI, "embed_rows_params: expected reserved 0");
    if (p->derive < EMBED_ROWS_LAST || p->derive > EMBED_ROWS_MEAN)
        return emb_fail(EMBED_ERR_ARG, "embed_rows_params.derive: expected 0 or 1, found %d",
                        p->derive);
    if (p->batch_tokens < 0 || p->batch_tokens > EMB_MAX_BATCH_TOKENS)
        return emb_fail(EMBED_ERR_ARG, "embed_rows_params.batch_tokens: expected 0 to %d, found %d",
                        EMB_MAX_BATCH_TOKENS, p->batch_tokens);
    if (p->job.threads < 0 || p->job.threads > EMB_MAX_THREADS)
        return emb_fail(EMBED_ERR_ARG, "embed_rows_params.job.threads: expected 0 to %d, found %d",
                        EMB_MAX_THREADS, p->job.threads);
    if (p->from_dtype != 0 && p->from_dtype != EMBED_F32 && p->from_dtype != EMBED_F16 &&
        p->from_dtype != EMBED_BF16)
        return emb_fail(EMBED_ERR_ARG,
                        "embed_rows_params.from_dtype: expected EMBED_F32, EMBED_F16 or "
                        "EMBED_BF16, found %d",
                        p->from_dtype);
    return EMBED_OK;
}

static embed_status check_path(const char *name, const char *path) {
    if (path == NULL || path[0] == '\0')
        return emb_fail(EMBED_ERR_ARG, "%s: expected a file, found %s", name,
                        path == NULL ? "NULL" : "an empty string");
    return EMBED_OK;
}

static int32_t usable_threads(void) {
    const int cpus = emb_usable_cpus();
    return cpus < EMB_MAX_THREADS ? cpus : EMB_MAX_THREADS;
}

static embed_status find_place(emb_place *place, const embed_rows_params *p) {
    embed_context_params where = EMBED_CONTEXT_PARAMS_INIT;
    where.device = p->device;
    where.device_index = p->device_index;
    where.device_dtype = p->device_dtype;
    const embed_status st = emb_place_find(place, &where);
    if (st == EMBED_ERR_ARG)
        emb_fail_prefix("embed_rows_params");
    return st;
}

embed_status embed_ngram_rows(embed_model *model, embed_model *fgram_model, const char *fgrams,
                              const char *output, const embed_rows_params *params) {
    embed_status st = EMBED_OK;
    embed_rows_params p;
    emb_env env;
    emb_place place;
    if (model == NULL)
        return emb_fail(EMBED_ERR_ARG, "model: NULL");
    EMB_TRY(check_path("fgrams", fgrams));
    EMB_TRY(check_path("output", output));
    EMB_TRY(read_params(&p, params));
    if (fgram_model != NULL && (p.derive != 0 || p.from != NULL))
        return emb_fail(EMBED_ERR_ARG,
                        "fgram_model: rows come from it, or from embed_rows_params.%s, not both",
                        p.from != NULL ? "from" : "derive");
    EMB_TRY(find_place(&place, &p));
    EMB_TRY(emb_env_init(&env, p.job.allocator, NULL, NULL));
    EMB_TRY(emb_fgram_job_run(
        &env, &(emb_fgram_job){
                  .model = model,
                  .fgram = fgram_model,
                  .list = fgrams,
                  .output = output,
                  .from = p.from,
                  .from_params = {.tensor = p.from_tensor,
                                  .raw_dtype = p.from_dtype != 0 ? p.from_dtype : EMBED_F32,
                                  .raw_width = model->config.encoder.hidden},
                  .source = fgram_model != NULL           ? EMB_FGRAM_MODEL
                            : p.derive == EMBED_ROWS_MEAN ? EMB_FGRAM_MEAN
                                                          : EMB_FGRAM_LAST,
                  .threads = p.job.threads > 0 ? p.job.threads : usable_threads(),
                  .batch_tokens = p.batch_tokens > 0 ? p.batch_tokens : EMB_DEFAULT_BATCH_TOKENS,
                  .resume = p.job.resume,
                  .place = place,
                  .memory = p.job.memory > 0 ? p.job.memory : (uint64_t)1 << 30,
                  .report = p.job.report,
                  .user = p.job.user,
              }));
fail:
    return st;
}
