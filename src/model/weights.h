/* weights: every tensor of a checkpoint by its place in the encoder, as views into mapped files.
 * src/model/README.md lists names, shapes and sources. */
#ifndef EMB_MODEL_WEIGHTS_H
#define EMB_MODEL_WEIGHTS_H

#include "model/config.h"

typedef struct emb_layer_weights {
    emb_weight qkv[3]; /* one fused [3*hidden, hidden], or query, key, value [hidden, hidden] */
    const float *qkv_bias[3];
    int32_t n_qkv; /* 1 or 3 */
    int32_t moe;   /* 1: router and experts below; 0: up, gate, down */
    emb_weight out;
    const float *out_bias;
    const float *norm1_gamma, *norm1_beta; /* after attention */
    emb_weight up, gate, down;             /* gate.m.data NULL unless gated */
    const float *up_bias, *gate_bias, *down_bias;
    emb_matrix router;                   /* [experts, hidden] */
    const float *router_bias;            /* NULL if the checkpoint has none */
    emb_weight *expert_up, *expert_down; /* [experts]; NT [inner, hidden] and NN [inner, hidden] */
    const float *expert_bias;            /* [hidden] or NULL */
    const float *norm2_gamma, *norm2_beta;
} emb_layer_weights;

typedef struct emb_weights {
    struct emb_weights_files *files;     /* the mappings; own everything below */
    emb_matrix word, position, type;     /* data NULL where the model has none */
    const float *norm_gamma, *norm_beta; /* embedding layer norm */
    emb_layer_weights *layers;
    struct {
        emb_weight w;
        const float *bias;
    } dense[EMB_MAX_DENSE];
    int32_t dtype; /* embed_dtype of the encoder's largest tensor */
    int32_t reserved;
    uint64_t mapped_bytes; /* of tensors in use */
    uint64_t owned_bytes;  /* allocated: small vectors widened to f32 */
    int64_t params_total, params_active;
} emb_weights;

/* Map the checkpoint's tensor files and find every tensor the config asks for, checking name, shape
 * and dtype; 1-D tensors that are not usable f32 in place are widened into owned memory. Tensors
 * that the encoder has no use for (pooler, MLM head) are allowed. */
embed_status emb_weights_open(emb_weights *weights, const emb_env *env, const char *dir,
                              const emb_config *config);
void emb_weights_close(emb_weights *weights, const emb_env *env, const emb_config *config);

/* Every tensor in use, in a fixed order, for the fingerprint: its name as src/model/README.md lists
 * it (so without prefix), embed_dtype, and bytes as they lie in the file. */
typedef void (*emb_weights_visit_fn)(void *arg, const char *name, int32_t dtype, const void *data,
                                     size_t bytes);
void emb_weights_visit(const emb_weights *weights, emb_weights_visit_fn fn, void *arg);

#endif
