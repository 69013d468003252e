#include "model/config.h"

#include <string.h>

#include "io/file.h"
#include "model/config_parts.h"

/* More than any configuration needs; what comes out of a parser is some ten times larger. */
#define MAX_JSON_BYTES (16u << 20)

embed_status emb_config_open_json(emb_json_doc **out, const emb_env *env, const char *dir,
                                  const char *sub, const char *name, int optional) {
    embed_status st;
    char *folder = NULL, *path = NULL;
    int exists = 1;
    *out = NULL;
    if (sub != NULL)
        EMB_TRY(emb_file_join(env, dir, sub, &folder));
    EMB_TRY(emb_file_join(env, folder != NULL ? folder : dir, name, &path));
    if (optional)
        EMB_TRY(emb_file_exists(path, &exists));
    if (exists)
        EMB_TRY(emb_json_open(out, env, path, MAX_JSON_BYTES));
    st = EMBED_OK;
fail:
    emb_free(env, path);
    emb_free(env, folder);
    return st;
}

embed_status emb_config_read(emb_config *config, const emb_env *env, const char *dir) {
    embed_status st;
    memset(config, 0, sizeof *config);
    EMB_TRY(emb_config_read_encoder(&config->encoder, env, dir));
    EMB_TRY(emb_config_read_pipeline(&config->pipeline, env, dir, &config->encoder));
    return EMBED_OK;
fail:
    emb_config_clear(config, env);
    return st;
}

void emb_config_clear(emb_config *config, const emb_env *env) {
    emb_pipeline_config *p = &config->pipeline;
    for (int32_t i = 0; p->prompts != NULL && i < p->n_prompts; i++) {
        emb_free(env, p->prompts[i].name);
        emb_free(env, p->prompts[i].text);
    }
    emb_free(env, p->prompts);
    for (int32_t i = 0; i < p->n_dense; i++)
        emb_free(env, p->dense[i].dir);
    memset(config, 0, sizeof *config);
}
