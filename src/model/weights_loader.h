/* weights_loader: takes tensors out of a checkpoint by name, checked against what the configuration
 * says of them, and remembers which were taken. */
#ifndef EMB_MODEL_WEIGHTS_LOADER_H
#define EMB_MODEL_WEIGHTS_LOADER_H

#include "io/tensor_files.h"
#include "model/weights.h"

#define EMB_TENSOR_NAME 80 /* room for any name of ours without prefix */

typedef struct emb_taken {
    char name[EMB_TENSOR_NAME]; /* as in README.md, whatever the file calls it */
    const emb_tensor *tensor;
} emb_taken;

/* What emb_weights.files points to. */
struct emb_weights_files {
    emb_tensor_files encoder;
    emb_tensor_files dense[EMB_MAX_DENSE];
    emb_taken *taken; /* in the order of taking */
    size_t n_taken, cap_taken;
    void **owned; /* vectors that could not be used in place */
    size_t n_owned, cap_owned;
    uint64_t largest; /* bytes of the encoder's largest tensor taken */
};

typedef struct emb_loader {
    const emb_env *env;
    emb_weights *weights;
    emb_tensor_files *set; /* where names are looked up */
    char *name;            /* the prefix, then room for a name */
    size_t prefix_len;
    const char *folder;   /* for the names in emb_taken: "" or "dense.0." */
    int64_t idle_experts; /* of every `experts` values that follow, these are not used by a token */
    int64_t experts;
} emb_loader;

/* Look names up in `set` under the prefix that its word embeddings have ("bert.", "0.auto_model."
 * ...), or under none if has_prefix is 0. */
embed_status emb_loader_init(emb_loader *l, const emb_env *env, emb_weights *weights,
                             emb_tensor_files *set, int has_prefix);
void emb_loader_clear(emb_loader *l);

/* The tensor [rows, cols] of that name; `keys` are the keys of config.json its shape comes from.
 * rows < 0: at least -rows.
 * Errors: _MISMATCH naming tensor, shape and keys; _UNSUPPORTED for another dtype. */
embed_status emb_loader_matrix(emb_loader *l, const char *name, int64_t rows, int64_t cols,
                               const char *keys, emb_matrix *out);
/* The vector [size] as f32, widened into memory of our own if it does not lie so in the file. Layer
 * norms may also be called gamma and beta. */
embed_status emb_loader_vector(emb_loader *l, const char *name, int64_t size, const char *keys,
                               const float **out);

/* Tensors of embeddings and layers that nobody took although the encoder of this configuration
 * should know them: EMBED_ERR_MISMATCH. Layers beyond config.layers only give a warning. */
embed_status emb_loader_check_rest(const emb_loader *l, const emb_encoder_config *config);

#endif
