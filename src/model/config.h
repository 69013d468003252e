/* config: what the JSON files of a checkpoint say, checked and in one form, whichever generation of
 * files they are. Nothing is guessed: a missing key that would change the numbers is an error. */
#ifndef EMB_MODEL_CONFIG_H
#define EMB_MODEL_CONFIG_H

#include "base/alloc.h"
#include "kernels/gemm/gemm.h"

typedef enum emb_arch {
    EMB_ARCH_NOMIC_BERT = 1,
    EMB_ARCH_BERT = 2,
    EMB_ARCH_XLM_ROBERTA = 3
} emb_arch;

/* The encoder, from config.json. */
typedef struct emb_encoder_config {
    int32_t arch; /* emb_arch */
    int32_t hidden, layers, heads, head_dim, inner, vocab;
    int32_t max_positions;   /* longest input in tokens, special tokens included */
    int32_t position_rows;   /* rows of the learned position table; 0: none */
    int32_t position_offset; /* first position id: pad id + 1 for xlm-roberta, else 0 */
    int32_t type_rows;       /* rows of the token type table; 0: none */
    int32_t rotary_dim;      /* leading dimensions of a head that are rotated; 0: none */
    int32_t activation;      /* emb_activation of the dense layers (of the gate if `gated`) */
    int32_t gated;           /* 1: down(act(gate x) * (up x)) */
    int32_t qkv_bias, out_bias, up_bias, down_bias; /* 1: the bias exists */
    float eps;                                      /* layer norm */
    double rope_base;
    int32_t moe_every; /* layer i is MoE where i mod moe_every = 1; 0: no MoE layers */
    int32_t experts, top_k, renormalize;
    int32_t expert_activation; /* emb_activation */
    int32_t expert_bias;       /* 1: one shared output bias experts.bias */
    int32_t reserved;
} emb_encoder_config;

typedef struct emb_prompt {
    char *name;
    char *text;
    size_t text_len;
} emb_prompt;

#define EMB_MAX_DENSE 4

/* What happens around the encoder, from the sentence-transformers files. */
typedef struct emb_pipeline_config {
    int32_t max_tokens; /* longest input the files allow, special tokens included */
    int32_t pooling;    /* embed_pooling bits */
    int32_t n_pooling;  /* modes in the order in which they are concatenated; each once */
    int32_t pooling_order[6];
    int32_t include_prompt; /* 0: the prompt's tokens are left out of the pooling */
    int32_t normalize;      /* 1: ends in L2 normalisation */
    int32_t n_dense;
    struct {
        char *dir; /* such as "2_Dense": its model.safetensors holds linear.weight, linear.bias */
        int32_t in, out, bias, activation;
    } dense[EMB_MAX_DENSE];
    emb_prompt *prompts;
    int32_t n_prompts;
    int32_t default_prompt; /* index, -1: none */
    int32_t reserved;
} emb_pipeline_config;

typedef struct emb_config {
    emb_encoder_config encoder;
    emb_pipeline_config pipeline;
} emb_config;

/* Read every JSON file of the checkpoint directory but the tokenizer. On failure *config is empty.
 */
embed_status emb_config_read(emb_config *config, const emb_env *env, const char *dir);
void emb_config_clear(emb_config *config, const emb_env *env);

/* Layer i has experts. */
static inline int emb_config_is_moe(const emb_encoder_config *c, int32_t layer) {
    return c->moe_every > 0 && layer % c->moe_every == 1;
}

#endif
