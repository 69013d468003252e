#include "model/packing.h"

typedef embed_status (*weight_fn)(void *arg, emb_weight *w);

static embed_status visit_layer(emb_layer_weights *l, const emb_encoder_config *c, weight_fn fn,
                                void *arg) {
    embed_status st = EMBED_OK;
    for (int32_t i = 0; i < l->n_qkv; i++)
        EMB_TRY(fn(arg, &l->qkv[i]));
    EMB_TRY(fn(arg, &l->out));
    if (!l->moe) {
        EMB_TRY(fn(arg, &l->up));
        if (l->gate.m.data != NULL)
            EMB_TRY(fn(arg, &l->gate));
        EMB_TRY(fn(arg, &l->down));
    }
    for (int32_t e = 0; l->moe && e < c->experts; e++) {
        EMB_TRY(fn(arg, &l->expert_up[e]));
        EMB_TRY(fn(arg, &l->expert_down[e]));
    }
fail:
    return st;
}

/* Every weight of a matrix product, in order of use. */
static embed_status visit_weights(embed_model *m, weight_fn fn, void *arg) {
    embed_status st = EMBED_OK;
    for (int32_t i = 0; i < m->config.encoder.layers; i++)
        EMB_TRY(visit_layer(&m->weights.layers[i], &m->config.encoder, fn, arg));
    for (int32_t i = 0; i < m->config.pipeline.n_dense; i++)
        EMB_TRY(fn(arg, &m->weights.dense[i].w));
fail:
    return st;
}

struct packer {
    const emb_isa *isa;
    size_t bytes;         /* so far */
    unsigned char *block; /* NULL: only count */
};

static embed_status pack_weight(void *arg, emb_weight *w) {
    struct packer *p = arg;
    size_t bytes;
    embed_status st = emb_gemm_packed_bytes(p->isa, w, &bytes);
    if (st != EMBED_OK)
        return st;
    if (p->block != NULL) {
        float *packed = (float *)(void *)(p->block + p->bytes);
        emb_gemm_pack(p->isa, w, packed);
        w->packed = packed;
    }
    return emb_add(p->bytes, emb_round_up(bytes, EMB_ALIGN), "packed weights", &p->bytes);
}

embed_status emb_packing_build(embed_model *m, uint64_t limit) {
    embed_status st = EMBED_OK;
    struct packer p = {m->isa, 0, NULL};
    if (limit == 0)
        limit = EMB_DEFAULT_PACK_BYTES;
    EMB_TRY(visit_weights(m, pack_weight, &p));
    if (p.bytes > limit)
        return EMBED_OK;
    EMB_TRY(emb_alloc(&m->env, p.bytes, (void **)&m->packed));
    p = (struct packer){m->isa, 0, (unsigned char *)m->packed};
    EMB_TRY(visit_weights(m, pack_weight, &p));
fail:
    return st;
}
