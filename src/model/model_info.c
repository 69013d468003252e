#include <stdio.h>

#include "model/model.h"

static const char *arch_name(int32_t arch) {
    return arch == EMB_ARCH_NOMIC_BERT ? "nomic_bert"
           : arch == EMB_ARCH_BERT     ? "bert"
                                       : "xlm-roberta";
}

/* Multiply-adds times two of every matrix product that one token passes through. */
static int64_t flops_per_token(const emb_encoder_config *c) {
    const int64_t d = c->hidden, inner = c->inner;
    int64_t products = 0;
    for (int32_t i = 0; i < c->layers; i++) {
        products += 4 * d * d; /* query, key, value, output */
        if (emb_config_is_moe(c, i))
            products += c->experts * d + c->top_k * 2 * d * inner;
        else
            products += (c->gated ? 3 : 2) * d * inner;
    }
    return 2 * products;
}

void emb_model_info(const embed_model *m, embed_model_info *info) {
    const emb_encoder_config *c = &m->config.encoder;
    const emb_pipeline_config *p = &m->config.pipeline;
    *info = (embed_model_info){
        .struct_size = sizeof *info,
        .dim = m->dim,
        .hidden = c->hidden,
        .layers = c->layers,
        .heads = c->heads,
        .head_dim = c->head_dim,
        .inner = c->inner,
        .vocab = (int32_t)m->weights.word.rows,
        .moe_layers = m->moe_layers,
        .experts = m->moe_layers > 0 ? c->experts : 0,
        .experts_per_token = m->moe_layers > 0 ? c->top_k : 0,
        .max_tokens = p->max_tokens,
        .pooling = p->pooling,
        .normalized = p->normalize,
        .weight_dtype = m->weights.dtype,
        .prompts = p->n_prompts,
        .params_total = m->weights.params_total,
        .params_active = m->weights.params_active,
        .flops_per_token = flops_per_token(c),
        .flops_per_token_pair = (int64_t)4 * c->heads * c->head_dim * c->layers,
        .weight_bytes = m->weights.mapped_bytes,
        .resident_bytes = atomic_load(&m->allocated),
    };
    (void)snprintf(info->architecture, sizeof info->architecture, "%s", arch_name(c->arch));
    (void)snprintf(info->name, sizeof info->name, "%s", m->name);
    (void)snprintf(info->isa, sizeof info->isa, "%s", m->isa->name);
}
