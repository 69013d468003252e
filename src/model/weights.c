#include "model/weights.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/dtype.h"
#include "io/file.h"
#include "model/weights_loader.h"

/* Names of one layer's tensors without ".weight" and ".bias", after "<layers>.<i>.". Sources:
 * contrastors models/huggingface/modeling_hf_nomic_bert.py (NomicBertBlock)
 * and transformers models/bert/modeling_bert.py (BertLayer; XLMRobertaLayer is the same). */
typedef struct layout {
    const char *layers;
    const char *norm;   /* embedding layer norm, outside of the layers */
    const char *qkv[3]; /* one fused, or three */
    const char *out, *norm1, *up, *gate, *down, *norm2;
    const char *keys_width; /* what config.json calls the sizes */
    const char *keys_inner, *keys_vocab;
} layout;

static const layout nomic = {"encoder.layers",
                             "emb_ln",
                             {"attn.Wqkv", NULL, NULL},
                             "attn.out_proj",
                             "norm1",
                             NULL, /* fc1 or fc11: depends on the kind of MLP */
                             "mlp.fc12",
                             "mlp.fc2",
                             "norm2",
                             "n_embd, hidden_size",
                             "n_embd and n_inner, hidden_size and intermediate_size",
                             "vocab_size and n_embd, hidden_size"};
static const layout bert = {"encoder.layer",
                            "embeddings.LayerNorm",
                            {"attention.self.query", "attention.self.key", "attention.self.value"},
                            "attention.output.dense",
                            "attention.output.LayerNorm",
                            "intermediate.dense",
                            NULL,
                            "output.dense",
                            "output.LayerNorm",
                            "hidden_size",
                            "hidden_size and intermediate_size",
                            "vocab_size and hidden_size"};

typedef struct reader {
    emb_loader loader;
    const layout *names;
    const emb_encoder_config *config;
    int32_t layer; /* the one being read; -1: outside of the layers */
} reader;

static void full_name(const reader *r, const char *part, const char *suffix,
                      char name[EMB_TENSOR_NAME]) {
    if (r->layer < 0)
        (void)snprintf(name, EMB_TENSOR_NAME, "%s%s", part, suffix);
    else
        (void)snprintf(name, EMB_TENSOR_NAME, "%s.%" PRId32 ".%s%s", r->names->layers, r->layer,
                       part, suffix);
}

static embed_status read_matrix(reader *r, const char *part, const char *suffix, int64_t rows,
                                int64_t cols, const char *keys, emb_matrix *out) {
    char name[EMB_TENSOR_NAME];
    full_name(r, part, suffix, name);
    return emb_loader_matrix(&r->loader, name, rows, cols, keys, out);
}

static embed_status read_vector(reader *r, const char *part, const char *suffix, int64_t size,
                                const char *keys, const float **out) {
    char name[EMB_TENSOR_NAME];
    full_name(r, part, suffix, name);
    return emb_loader_vector(&r->loader, name, size, keys, out);
}

/* part.weight [rows, cols] and, if the configuration has one, part.bias [rows]. */
static embed_status read_linear(reader *r, const char *part, int64_t rows, int64_t cols,
                                int32_t has_bias, const char *keys, emb_weight *w,
                                const float **bias) {
    embed_status st = read_matrix(r, part, ".weight", rows, cols, keys, &w->m);
    w->layout = EMB_GEMM_NT;
    if (st == EMBED_OK && has_bias)
        st = read_vector(r, part, ".bias", rows, keys, bias);
    return st;
}

static embed_status read_norm(reader *r, const char *part, const float **gamma,
                              const float **beta) {
    const int64_t size = r->config->hidden;
    const embed_status st = read_vector(r, part, ".weight", size, r->names->keys_width, gamma);
    return st != EMBED_OK ? st : read_vector(r, part, ".bias", size, r->names->keys_width, beta);
}

static embed_status read_embeddings(reader *r, emb_weights *w) {
    const emb_encoder_config *c = r->config;
    embed_status st;
    r->layer = -1;
    /* Rows beyond vocab_size are padding (pad_vocab_size_multiple). */
    EMB_TRY(read_matrix(r, "embeddings.word_embeddings", ".weight", -(int64_t)c->vocab, c->hidden,
                        r->names->keys_vocab, &w->word));
    if (c->position_rows > 0)
        EMB_TRY(read_matrix(r, "embeddings.position_embeddings", ".weight", c->position_rows,
                            c->hidden, "max_position_embeddings, n_positions", &w->position));
    if (c->type_rows > 0)
        EMB_TRY(read_matrix(r, "embeddings.token_type_embeddings", ".weight", c->type_rows,
                            c->hidden, "type_vocab_size", &w->type));
    EMB_TRY(read_norm(r, r->names->norm, &w->norm_gamma, &w->norm_beta));
fail:
    return st;
}

static embed_status read_attention(reader *r, emb_layer_weights *l) {
    const emb_encoder_config *c = r->config;
    const char *keys = r->names->keys_width;
    embed_status st;
    l->n_qkv = r->names->qkv[1] == NULL ? 1 : 3;
    for (int32_t i = 0; i < l->n_qkv; i++)
        EMB_TRY(read_linear(r, r->names->qkv[i], (int64_t)c->hidden * (l->n_qkv == 1 ? 3 : 1),
                            c->hidden, c->qkv_bias, keys, &l->qkv[i], &l->qkv_bias[i]));
    EMB_TRY(read_linear(r, r->names->out, c->hidden, c->hidden, c->out_bias, keys, &l->out,
                        &l->out_bias));
    EMB_TRY(read_norm(r, r->names->norm1, &l->norm1_gamma, &l->norm1_beta));
fail:
    return st;
}

static embed_status read_mlp(reader *r, emb_layer_weights *l) {
    const emb_encoder_config *c = r->config;
    const char *keys = r->names->keys_inner, *up = r->names->up;
    embed_status st;
    if (up == NULL)
        up = c->gated ? "mlp.fc11" : "mlp.fc1";
    EMB_TRY(read_linear(r, up, c->inner, c->hidden, c->up_bias, keys, &l->up, &l->up_bias));
    if (c->gated)
        EMB_TRY(read_linear(r, r->names->gate, c->inner, c->hidden, c->up_bias, keys, &l->gate,
                            &l->gate_bias));
    EMB_TRY(read_linear(r, r->names->down, c->hidden, c->inner, c->down_bias, keys, &l->down,
                        &l->down_bias));
fail:
    return st;
}

/* Expert e owns rows e * inner ... of w1, applied as a Linear's weight is, and of w2, applied
 * transposed: megablocks layers/mlp.py, SparseMLP. */
static embed_status read_experts(reader *r, emb_layer_weights *l) {
    const emb_encoder_config *c = r->config;
    const char *keys = "num_experts, n_inner and n_embd";
    const int64_t rows = (int64_t)c->experts * c->inner;
    emb_matrix w1, w2;
    void *array;
    embed_status st;
    EMB_TRY(read_matrix(r, "mlp.router.layer", ".weight", c->experts, c->hidden, keys, &l->router));
    r->loader.experts = c->experts;
    r->loader.idle_experts = c->experts - c->top_k;
    EMB_TRY(read_matrix(r, "mlp.experts.mlp.w1", "", rows, c->hidden, keys, &w1));
    EMB_TRY(read_matrix(r, "mlp.experts.mlp.w2", "", rows, c->hidden, keys, &w2));
    r->loader.experts = 1;
    r->loader.idle_experts = 0;
    if (c->expert_bias)
        EMB_TRY(read_vector(r, "mlp.experts.bias", "", c->hidden, keys, &l->expert_bias));
    EMB_TRY(emb_new_array(r->loader.env, (size_t)c->experts, sizeof *l->expert_up, &array));
    l->expert_up = array;
    EMB_TRY(emb_new_array(r->loader.env, (size_t)c->experts, sizeof *l->expert_down, &array));
    l->expert_down = array;
    const size_t bytes1 = (size_t)c->inner * (size_t)c->hidden * emb_dtype_bytes(w1.dtype);
    const size_t bytes2 = (size_t)c->inner * (size_t)c->hidden * emb_dtype_bytes(w2.dtype);
    for (int32_t e = 0; e < c->experts; e++) {
        const unsigned char *up = w1.data, *down = w2.data;
        l->expert_up[e] = (emb_weight){
            {up + (size_t)e * bytes1, c->inner, c->hidden, w1.dtype, 0}, EMB_GEMM_NT, 0, NULL};
        l->expert_down[e] = (emb_weight){
            {down + (size_t)e * bytes2, c->inner, c->hidden, w2.dtype, 0}, EMB_GEMM_NN, 0, NULL};
    }
fail:
    return st;
}

static embed_status read_layers(reader *r, emb_weights *w) {
    const emb_encoder_config *c = r->config;
    void *layers;
    embed_status st;
    EMB_TRY(emb_new_array(r->loader.env, (size_t)c->layers, sizeof *w->layers, &layers));
    w->layers = layers;
    for (r->layer = 0; r->layer < c->layers; r->layer++) {
        emb_layer_weights *l = &w->layers[r->layer];
        l->moe = emb_config_is_moe(c, r->layer);
        EMB_TRY(read_attention(r, l));
        EMB_TRY(l->moe ? read_experts(r, l) : read_mlp(r, l));
        EMB_TRY(read_norm(r, r->names->norm2, &l->norm2_gamma, &l->norm2_beta));
    }
fail:
    return st;
}

/* Dense module i: linear.weight [out, in], linear.bias [out] (sentence-transformers dense.py). */
static embed_status read_dense(emb_weights *w, const emb_env *env, const char *dir,
                               const emb_config *config, int32_t i) {
    emb_tensor_files *set = &w->files->dense[i];
    reader r = {.loader = {.env = env}, .config = &config->encoder, .layer = -1};
    char *path = NULL, folder[16];
    embed_status st;
    EMB_TRY(emb_file_join(env, dir, config->pipeline.dense[i].dir, &path));
    EMB_TRY(emb_tensor_files_open(set, env, path));
    EMB_TRY(emb_loader_init(&r.loader, env, w, set, 0));
    (void)snprintf(folder, sizeof folder, "dense.%" PRId32 ".", i);
    r.loader.folder = folder;
    EMB_TRY(read_linear(&r, "linear", config->pipeline.dense[i].out, config->pipeline.dense[i].in,
                        config->pipeline.dense[i].bias, "out_features and in_features",
                        &w->dense[i].w, &w->dense[i].bias));
fail:
    emb_loader_clear(&r.loader);
    emb_free(env, path);
    return st;
}

embed_status emb_weights_open(emb_weights *weights, const emb_env *env, const char *dir,
                              const emb_config *config) {
    reader r = {.loader = {.env = env},
                .names = config->encoder.arch == EMB_ARCH_NOMIC_BERT ? &nomic : &bert,
                .config = &config->encoder};
    void *files;
    embed_status st;
    memset(weights, 0, sizeof *weights);
    EMB_TRY(emb_new(env, sizeof *weights->files, &files));
    weights->files = files;
    EMB_TRY(emb_tensor_files_open(&weights->files->encoder, env, dir));
    EMB_TRY(emb_loader_init(&r.loader, env, weights, &weights->files->encoder, 1));
    EMB_TRY(read_embeddings(&r, weights));
    EMB_TRY(read_layers(&r, weights));
    EMB_TRY(emb_loader_check_rest(&r.loader, &config->encoder));
    for (int32_t i = 0; i < config->pipeline.n_dense; i++)
        EMB_TRY(read_dense(weights, env, dir, config, i));
    emb_loader_clear(&r.loader);
    return EMBED_OK;
fail:
    emb_loader_clear(&r.loader);
    emb_weights_close(weights, env, config);
    return st;
}

void emb_weights_close(emb_weights *weights, const emb_env *env, const emb_config *config) {
    struct emb_weights_files *files = weights->files;
    for (int32_t i = 0; weights->layers != NULL && i < config->encoder.layers; i++) {
        emb_free(env, weights->layers[i].expert_up);
        emb_free(env, weights->layers[i].expert_down);
    }
    emb_free(env, weights->layers);
    if (files != NULL) {
        for (size_t i = 0; i < files->n_owned; i++)
            emb_free(env, files->owned[i]);
        emb_free(env, files->owned);
        emb_free(env, files->taken);
        for (int32_t i = 0; i < EMB_MAX_DENSE; i++)
            emb_tensor_files_close(&files->dense[i], env);
        emb_tensor_files_close(&files->encoder, env);
        emb_free(env, files);
    }
    memset(weights, 0, sizeof *weights);
}

void emb_weights_visit(const emb_weights *weights, emb_weights_visit_fn fn, void *arg) {
    for (size_t i = 0; i < weights->files->n_taken; i++) {
        const emb_taken *taken = &weights->files->taken[i];
        fn(arg, taken->name, taken->tensor->dtype, taken->tensor->data, taken->tensor->bytes);
    }
}
