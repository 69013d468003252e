#include "model/prompt.h"

#include <stdio.h>
#include <string.h>

/* Names that a role's prompt goes by, first match wins (sentence-transformers encode_query,
 * encode_document; the nomic models). */
static const char *const query_names[] = {"query", "search_query", NULL};
static const char *const document_names[] = {"document", "passage", "search_document", "corpus",
                                             NULL};

static const emb_prompt *find(const emb_pipeline_config *p, const char *const *names) {
    for (; *names != NULL; names++)
        for (int32_t i = 0; i < p->n_prompts; i++)
            if (strcmp(p->prompts[i].name, *names) == 0)
                return &p->prompts[i];
    return NULL;
}

static embed_status missing(const embed_model *m, const char *role) {
    const emb_pipeline_config *p = &m->config.pipeline;
    char names[256] = "";
    size_t used = 0;
    for (int32_t i = 0; i < p->n_prompts && used < sizeof names; i++) {
        const int n = snprintf(names + used, sizeof names - used, "%s\"%s\"", i > 0 ? ", " : "",
                               p->prompts[i].name);
        used += n > 0 ? (size_t)n : 0;
    }
    return emb_fail(EMBED_ERR_ARG,
                    "role: %s has no prompt for role %s, only %s; give params.prefix instead",
                    m->name, role, names);
}

embed_status emb_prompt_for_role(embed_text *prompt, const embed_model *m, int32_t role) {
    const emb_pipeline_config *p = &m->config.pipeline;
    const emb_prompt *found = NULL;
    *prompt = (embed_text){NULL, 0};
    switch (role) {
    case EMBED_ROLE_NONE:
        return EMBED_OK;
    case EMBED_ROLE_DEFAULT:
        if (p->default_prompt >= 0)
            found = &p->prompts[p->default_prompt];
        break;
    case EMBED_ROLE_QUERY:
        found = find(p, query_names);
        if (found == NULL && p->n_prompts > 0)
            return missing(m, "query");
        break;
    case EMBED_ROLE_DOCUMENT:
        found = find(p, document_names);
        if (found == NULL && p->n_prompts > 0 && find(p, query_names) == NULL)
            return missing(m, "document");
        break;
    default:
        return emb_fail(EMBED_ERR_ARG, "role: expected 0 to %d, found %d", EMBED_ROLE_DOCUMENT,
                        role);
    }
    if (found != NULL)
        *prompt = (embed_text){found->text, found->text_len};
    return EMBED_OK;
}

embed_status emb_prompt_skip(int32_t *skip, const embed_model *m, emb_tok_scratch *scratch,
                             embed_text prompt, uint32_t flags) {
    const int32_t *ids;
    size_t n;
    int32_t truncated;
    *skip = 0;
    if (m->config.pipeline.include_prompt || prompt.len == 0)
        return EMBED_OK;
    const emb_tok_options options = {.flags = flags & EMBED_UTF8_REFUSE,
                                     .max_tokens = m->config.pipeline.max_tokens};
    const embed_status st =
        emb_tokenizer_encode(m->tokenizer, scratch, prompt, &options, &ids, &n, &truncated);
    if (st != EMBED_OK) {
        emb_fail_prefix("prompt");
        return st;
    }
    *skip = (int32_t)n - (emb_tokenizer_ends_special(m->tokenizer) ? 1 : 0);
    return EMBED_OK;
}
