/* forward: packed tokens to hidden states, stage by stage. Post-norm encoders only:
 *     x = LN(word [+ position] [+ type])
 *     per layer: x = LN(x + attention(x)), x = LN(x + feed_forward(x))
 * (Devlin et al. 2018, arXiv:1810.04805; Nussbaum et al. 2024, arXiv:2402.01613; 2025, 2502.07972)
 */
#ifndef EMB_MODEL_FORWARD_H
#define EMB_MODEL_FORWARD_H

#include "model/batch.h"
#include "model/plan.h"

/* Routing of the MoE layers, summed over the batches of one call. */
typedef struct emb_expert_counts {
    uint64_t *tokens;  /* [moe_layers, experts] */
    double *gate_sum;  /* [moe_layers, experts] */
    double *mean_gate; /* [moe_layers, experts], set at the end of the call */
} emb_expert_counts;

/* What a forward pass works with; part of a context. */
typedef struct emb_forward {
    const embed_model *model;
    emb_exec exec;
    emb_plan plan;
    unsigned char *arena;
    emb_expert_counts counts; /* empty without MoE layers */
} emb_forward;

static inline void *emb_forward_at(const emb_forward *f, size_t offset) {
    return f->arena + offset;
}
/* Hidden states [tokens, hidden]: input and output of every stage. */
static inline float *emb_forward_states(const emb_forward *f) {
    return emb_forward_at(f, f->plan.at.x);
}

embed_status emb_forward_lookup(emb_forward *f, const emb_batch *batch);
embed_status emb_forward_layer(emb_forward *f, const emb_batch *batch, int32_t layer);
/* The same for whoever wants only the last token of each text: behind the attention the others are
 * left out, and the states become [texts, hidden]. Same bits. */
embed_status emb_forward_layer_last(emb_forward *f, const emb_batch *batch, int32_t layer);
/* Lookup and all layers. */
embed_status emb_forward_run(emb_forward *f, const emb_batch *batch);

/* The parts of a layer: each reads the hidden states x and sets *update to what is added to them,
 * [tokens, hidden] in one of the regions of plan.h, valid until the next stage. */
embed_status emb_self_attention(emb_forward *f, const emb_batch *batch, const emb_layer_weights *l,
                                const float **update);
/* down(act(up x)), or gated: down(act(gate x) * up x). */
embed_status emb_ffn_dense(emb_forward *f, const emb_batch *batch, const emb_layer_weights *l,
                           const float **update);
/* moe_layer: number among the MoE layers, for the statistics. */
embed_status emb_ffn_moe(emb_forward *f, const emb_batch *batch, const emb_layer_weights *l,
                         int32_t moe_layer, const float **update);

#endif
