#include "api/params.h"
#include "model/fingerprint.h"
#include "model/model.h"

embed_status embed_model_open(embed_model **out, const char *path,
                              const embed_model_params *params) {
    embed_status st = EMBED_OK;
    embed_model_params p;
    if (out == NULL)
        return emb_fail(EMBED_ERR_ARG, "out: NULL");
    *out = NULL;
    if (path == NULL || path[0] == '\0')
        return emb_fail(EMBED_ERR_ARG, "path: expected a directory, found %s",
                        path == NULL ? "NULL" : "an empty string");
    EMB_TRY(emb_params_read(&p, sizeof p, params, "embed_model_params"));
    if (p.reserved != 0)
        return emb_fail(EMBED_ERR_ABI, "embed_model_params.reserved: expected 0, found %d",
                        p.reserved);
    if (p.isa < EMBED_ISA_AUTO || p.isa > EMBED_ISA_AVX512)
        return emb_fail(EMBED_ERR_ARG, "embed_model_params.isa: expected 0 to %d, found %d",
                        EMBED_ISA_AVX512, p.isa);
    EMB_TRY(emb_model_open(out, path, &p));
fail:
    return st;
}

void embed_model_free(embed_model *model) {
    emb_model_release(model);
}

embed_status embed_model_get_info(const embed_model *model, embed_model_info *info) {
    embed_model_info ours;
    if (model == NULL || info == NULL)
        return emb_fail(EMBED_ERR_ARG, "%s: NULL", model == NULL ? "model" : "info");
    emb_model_info(model, &ours);
    return emb_params_write(info, &ours, sizeof ours, "embed_model_info");
}

/* The fingerprint and the idle tokenizer scratch are the parts of a model that change after it was
 * opened, behind a mutex and an atomic: callers rightly see a constant model. */
embed_status embed_model_fingerprint(const embed_model *model, char out[33]) {
    if (model == NULL || out == NULL)
        return emb_fail(EMBED_ERR_ARG, "%s: NULL", model == NULL ? "model" : "out");
    emb_fingerprint_get((embed_model *)model, out);
    return EMBED_OK;
}

embed_status embed_model_prompt(const embed_model *model, int32_t i, const char **name,
                                embed_text *prompt) {
    if (model == NULL || name == NULL || prompt == NULL)
        return emb_fail(EMBED_ERR_ARG, "%s: NULL",
                        model == NULL  ? "model"
                        : name == NULL ? "name"
                                       : "prompt");
    const emb_pipeline_config *p = &model->config.pipeline;
    if (i < 0 || i >= p->n_prompts)
        return emb_fail(EMBED_ERR_ARG, "i: expected a number below %d, the prompts of %s, found %d",
                        p->n_prompts, model->name, i);
    *name = p->prompts[i].name;
    *prompt = (embed_text){p->prompts[i].text, p->prompts[i].text_len};
    return EMBED_OK;
}
