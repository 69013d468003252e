#include "api/params.h"
#include "model/ngram_binding.h"
#include "ngram/ngram_builder.h"
#include "ngram/ngram_check.h"
#include "ngram/ngram_remake.h"
#include "ngram/ngram_store.h"

static embed_status missing(const char *what) {
    return emb_fail(EMBED_ERR_ARG, "%s: expected a path, found none", what);
}

static int is_empty(const char *path) {
    return path == NULL || path[0] == '\0';
}

static embed_status check_job(const embed_job *job) {
    if (job->reserved[0] != 0 || job->reserved[1] != 0)
        return emb_fail(EMBED_ERR_ABI, "embed_job.reserved: expected 0");
    if (job->threads < 0 || job->threads > 1024)
        return emb_fail(EMBED_ERR_ARG, "embed_job.threads: expected 0 to 1024, found %d",
                        job->threads);
    return EMBED_OK;
}

static embed_status check_dtype(int32_t dtype) {
    if (dtype == EMBED_F32 || dtype == EMBED_F16 || dtype == EMBED_BF16 || dtype == EMBED_I8)
        return EMBED_OK;
    return emb_fail(EMBED_ERR_ARG, "dtype: expected f32, f16, bf16 or int8, found %d", dtype);
}

embed_status embed_ngram_build(embed_model *model, const char *fgrams, const char *rows,
                               const char *output, const embed_build_params *params) {
    embed_status st = EMBED_OK;
    embed_build_params p;
    emb_ngram_binding binding;
    emb_env env;
    if (model == NULL)
        return emb_fail(EMBED_ERR_ARG, "model: NULL");
    if (is_empty(fgrams) || is_empty(rows))
        return missing(is_empty(fgrams) ? "fgrams" : "rows");
    if (output != NULL && output[0] == '\0')
        return missing("output");
    EMB_TRY(emb_params_read(&p, sizeof p, params, "embed_build_params"));
    EMB_TRY(check_job(&p.job));
    p.dtype = p.dtype != 0 ? p.dtype : EMBED_I8;
    EMB_TRY(check_dtype(p.dtype));
    if (p.combine != EMBED_TABLE_REPLACE && p.combine != EMBED_TABLE_ADD)
        return emb_fail(EMBED_ERR_ARG, "embed_build_params.combine: expected 0 or 1, found %d",
                        p.combine);
    EMB_TRY(emb_env_init(&env, p.job.allocator, NULL, NULL));
    EMB_TRY(emb_ngram_binding_of(model, &binding));
    EMB_TRY(emb_ngram_build(&env, &binding, fgrams, rows, output, &p));
fail:
    return st;
}

embed_status embed_table_verify(const char *path, embed_model *model,
                                const embed_verify_params *params, embed_verify_result *result) {
    embed_status st = EMBED_OK;
    embed_verify_params p;
    embed_verify_result r = {0};
    emb_ngram_binding binding;
    emb_env env;
    if (is_empty(path))
        return missing("path");
    EMB_TRY(emb_params_read(&p, sizeof p, params, "embed_verify_params"));
    EMB_TRY(check_job(&p.job));
    if (p.flags & ~EMBED_TABLE_ALLOW_UNSAFE)
        return emb_fail(EMBED_ERR_ABI, "embed_verify_params.flags: unknown bits in 0x%x",
                        (unsigned)p.flags);
    EMB_TRY(emb_env_init(&env, p.job.allocator, NULL, NULL));
    if (model != NULL)
        EMB_TRY(emb_ngram_binding_to_check(model, &binding));
    st = emb_ngram_check(&env, path, model != NULL ? &binding : NULL, &p, &r);
    if (result != NULL) {
        const embed_status written = emb_params_write(result, &r, sizeof r, "embed_verify_result");
        st = st != EMBED_OK ? st : written;
    }
fail:
    return st;
}

embed_status embed_table_publish(const char *store, const char *table,
                                 const embed_publish_params *params, char version[32]) {
    embed_status st = EMBED_OK;
    embed_publish_params p;
    char name[32];
    emb_env env;
    if (is_empty(store) || is_empty(table))
        return missing(is_empty(store) ? "store" : "table");
    EMB_TRY(emb_params_read(&p, sizeof p, params, "embed_publish_params"));
    EMB_TRY(check_job(&p.job));
    if (p.flags & ~EMBED_TABLE_ALLOW_UNSAFE)
        return emb_fail(EMBED_ERR_ABI, "embed_publish_params.flags: unknown bits in 0x%x",
                        (unsigned)p.flags);
    EMB_TRY(emb_env_init(&env, p.job.allocator, NULL, NULL));
    EMB_TRY(emb_ngram_store_publish(&env, store, table, &p, version != NULL ? version : name));
fail:
    return st;
}

embed_status embed_table_rollback(const char *store, const char *version, char now[32]) {
    embed_status st = EMBED_OK;
    char name[32];
    emb_env env;
    if (is_empty(store))
        return missing("store");
    EMB_TRY(emb_env_init(&env, NULL, NULL, NULL));
    EMB_TRY(emb_ngram_store_rollback(&env, store, version, now != NULL ? now : name));
fail:
    return st;
}

embed_status embed_table_versions(const char *store, embed_store_version *versions, size_t cap,
                                  size_t *n) {
    embed_status st = EMBED_OK;
    emb_env env;
    if (is_empty(store))
        return missing("store");
    if (n == NULL)
        return emb_fail(EMBED_ERR_ARG, "n: NULL");
    *n = 0;
    EMB_TRY(emb_env_init(&env, NULL, NULL, NULL));
    EMB_TRY(emb_ngram_store_list(&env, store, versions, cap, n));
fail:
    return st;
}

embed_status embed_table_compact(const char *input, const char *output,
                                 const embed_compact_params *params) {
    embed_status st = EMBED_OK;
    embed_compact_params p;
    emb_env env;
    if (is_empty(input) || is_empty(output))
        return missing(is_empty(input) ? "input" : "output");
    EMB_TRY(emb_params_read(&p, sizeof p, params, "embed_compact_params"));
    EMB_TRY(check_job(&p.job));
    if (p.flags & ~EMBED_TABLE_ALLOW_UNSAFE || p.reserved != 0)
        return emb_fail(EMBED_ERR_ABI, "embed_compact_params: unknown flags 0x%x or reserved %d",
                        (unsigned)p.flags, p.reserved);
    if (p.dtype != 0)
        EMB_TRY(check_dtype(p.dtype));
    EMB_TRY(emb_env_init(&env, p.job.allocator, NULL, NULL));
    EMB_TRY(emb_ngram_remake(&env, input, output, &p));
fail:
    return st;
}
