#include <math.h>
#include <string.h>

#include "model/config_parts.h"

/* Limits that keep every product of two sizes far from overflow. */
#define MAX_WIDTH (1 << 20)
#define MAX_LAYERS (1 << 12)
#define MAX_ROWS (1 << 28)

/* config.json. Keys are those of the authors' class for nomic models (contrastors,
 * models/huggingface/configuration_hf_nomic_bert.py, on top of GPT2Config) and of transformers'
 * BertConfig, XLMRobertaConfig and NomicBertConfig. */
typedef struct source {
    const emb_json_doc *doc;
    const emb_json *root;
} source;

/* A key whose only value that leaves the numbers as computed here is the one given; absent and null
 * mean that value in every version of the reference classes. */
typedef struct fixed_key {
    const char *key;
    emb_json_type type; /* EMB_JSON_NULL: nothing but null */
    double number;      /* for booleans 0 or 1 */
    const char *text;
} fixed_key;

static const fixed_key fixed_keys[] = {
    /* another block than post-LN attention and MLP */
    {"prenorm", EMB_JSON_BOOL, 0, NULL},
    {"parallel_block", EMB_JSON_BOOL, 0, NULL},
    {"use_rms_norm", EMB_JSON_BOOL, 0, NULL},
    {"norm_mlp", EMB_JSON_BOOL, 0, NULL},
    {"layer_scale", EMB_JSON_BOOL, 0, NULL},
    {"feed_forward_type", EMB_JSON_STRING, 0, "original"},
    /* another attention */
    {"causal", EMB_JSON_BOOL, 0, NULL},
    {"is_decoder", EMB_JSON_BOOL, 0, NULL},
    {"is_encoder_decoder", EMB_JSON_BOOL, 0, NULL},
    {"add_cross_attention", EMB_JSON_BOOL, 0, NULL},
    {"scale_attn_weights", EMB_JSON_BOOL, 1, NULL},
    {"scale_attn_by_inverse_layer_idx", EMB_JSON_BOOL, 0, NULL},
    /* other positions */
    {"use_alibi", EMB_JSON_BOOL, 0, NULL},
    {"alibi", EMB_JSON_BOOL, 0, NULL},
    {"rotary_emb_interleaved", EMB_JSON_BOOL, 0, NULL},
    {"rotary_head_dim", EMB_JSON_BOOL, 0, NULL},
    {"rotary_emb_scale_base", EMB_JSON_NULL, 0, NULL},
    {"rope_scaling", EMB_JSON_NULL, 0, NULL},
    /* other experts */
    {"expert_choice_router", EMB_JSON_BOOL, 0, NULL},
    {"num_shared_experts", EMB_JSON_NUMBER, 0, NULL},
    {"ffn_div", EMB_JSON_NUMBER, 1, NULL},
    {"moe_impl", EMB_JSON_STRING, 0, "megablocks"},
    /* other weights */
    {"quantization_config", EMB_JSON_NULL, 0, NULL},
    {"lora_adaptations", EMB_JSON_NULL, 0, NULL},
};

static embed_status check_fixed(const source *s) {
    static const char *const bools[] = {"false", "true"};
    for (size_t i = 0; i < sizeof fixed_keys / sizeof *fixed_keys; i++) {
        const fixed_key *f = &fixed_keys[i];
        const emb_json *value;
        int same = 0;
        const embed_status st = emb_json_find(s->doc, s->root, f->key, &value);
        if (st != EMBED_OK)
            return st;
        const emb_json_type type = emb_json_type_of(value);
        if (type == EMB_JSON_ABSENT || type == EMB_JSON_NULL)
            continue;
        if (f->type == type)
            same = f->type == EMB_JSON_BOOL     ? emb_json_is_true(value) == (f->number > 0)
                   : f->type == EMB_JSON_NUMBER ? !(fabs(emb_json_number(value) - f->number) > 0)
                                                : emb_json_equals(value, f->text);
        if (same)
            continue;
        if (f->type == EMB_JSON_NUMBER)
            return emb_json_fail(EMBED_ERR_UNSUPPORTED, s->doc, s->root, f->key, "expected %g",
                                 f->number);
        return emb_json_fail(EMBED_ERR_UNSUPPORTED, s->doc, s->root, f->key, "expected %s",
                             f->type == EMB_JSON_BOOL     ? bools[f->number > 0]
                             : f->type == EMB_JSON_STRING ? f->text
                                                          : "null");
    }
    return EMBED_OK;
}

/* Code that a checkpoint brings along may compute anything; only the nomic authors' is known. */
static embed_status check_own_code(const source *s) {
    const emb_json *map = NULL, *code;
    embed_status st = emb_json_get(s->doc, s->root, "auto_map", EMB_JSON_OBJECT, &map);
    if (st != EMBED_OK || map == NULL)
        return st;
    st = emb_json_find(s->doc, map, "AutoModel", &code);
    if (st == EMBED_OK && code != NULL)
        st = emb_json_fail(EMBED_ERR_UNSUPPORTED, s->doc, map, "AutoModel",
                           "expected a model that needs no code of its own");
    return st;
}

static int present(const emb_json *value) {
    return emb_json_type_of(value) > EMB_JSON_NULL;
}

/* Which of the two names of a number the file uses. Files that passed through several versions of
 * the tools can have both; then they must agree. */
static embed_status pick_key(const source *s, const char *old_key, const char *new_key,
                             const char **key) {
    const emb_json *old_value, *new_value;
    char shown[EMB_JSON_SHOWN];
    embed_status st;
    EMB_TRY(emb_json_find(s->doc, s->root, old_key, &old_value));
    EMB_TRY(emb_json_find(s->doc, s->root, new_key, &new_value));
    *key = present(old_value) ? old_key : new_key;
    if (!present(old_value) && !present(new_value))
        st = emb_json_fail(EMBED_ERR_FORMAT, s->doc, s->root, new_key,
                           "expected a number here or as %s", old_key);
    else if (present(old_value) && present(new_value) &&
             fabs(emb_json_number(old_value) - emb_json_number(new_value)) > 0)
        st = emb_json_fail(EMBED_ERR_MISMATCH, s->doc, s->root, new_key, "expected %s, as in %s",
                           emb_json_show(old_value, shown), old_key);
fail:
    return st;
}

static embed_status need_int(const source *s, const char *old_key, const char *new_key,
                             int32_t least, int32_t greatest, int32_t *out) {
    const char *key = new_key;
    const embed_status st = old_key == NULL ? EMBED_OK : pick_key(s, old_key, new_key, &key);
    return st != EMBED_OK ? st : emb_json_need_int(s->doc, s->root, key, least, greatest, out);
}

static embed_status need_eps(const source *s, const char *old_key, float *eps) {
    const char *key = "layer_norm_eps";
    double value = 0;
    embed_status st = old_key == NULL ? EMBED_OK : pick_key(s, old_key, key, &key);
    if (st == EMBED_OK)
        st = emb_json_need_number(s->doc, s->root, key, &value);
    if (st == EMBED_OK && !(value >= 0 && value < 1))
        st = emb_json_fail(EMBED_ERR_FORMAT, s->doc, s->root, key,
                           "expected a number of at least 0 and below 1");
    *eps = (float)value;
    return st;
}

/* Sizes that every architecture has, under both names. */
static embed_status read_sizes(const source *s, emb_encoder_config *c, int nomic) {
    const emb_json *value;
    embed_status st;
    EMB_TRY(need_int(s, nomic ? "n_embd" : NULL, "hidden_size", 1, MAX_WIDTH, &c->hidden));
    EMB_TRY(need_int(s, nomic ? "n_head" : NULL, "num_attention_heads", 1, MAX_WIDTH, &c->heads));
    EMB_TRY(need_int(s, nomic ? "n_layer" : NULL, "num_hidden_layers", 1, MAX_LAYERS, &c->layers));
    EMB_TRY(need_int(s, NULL, "vocab_size", 1, MAX_ROWS, &c->vocab));
    EMB_TRY(need_int(s, NULL, "type_vocab_size", 0, MAX_ROWS, &c->type_rows));
    EMB_TRY(need_eps(s, nomic ? "layer_norm_epsilon" : NULL, &c->eps));
    if (c->hidden % c->heads != 0)
        return emb_json_fail(EMBED_ERR_FORMAT, s->doc, s->root,
                             nomic ? "n_head" : "num_attention_heads",
                             "expected a divisor of the width %d", c->hidden);
    c->head_dim = c->hidden / c->heads;
    static const char *const derived[] = {"head_dim", "num_heads_kv", "num_key_value_heads"};
    for (size_t i = 0; i < sizeof derived / sizeof *derived; i++) {
        const int32_t expected = i == 0 ? c->head_dim : c->heads;
        EMB_TRY(emb_json_find(s->doc, s->root, derived[i], &value));
        if (present(value) && emb_json_integer(value) != expected)
            return emb_json_fail(EMBED_ERR_UNSUPPORTED, s->doc, s->root, derived[i],
                                 "expected %d for a width of %d and %d heads", expected, c->hidden,
                                 c->heads);
    }
fail:
    return st;
}

/* -------------------------------------------------------------------------- bert, xlm-roberta */

static embed_status read_bert(const source *s, emb_encoder_config *c) {
    /* transformers activations.py, ACT2FN */
    static const struct {
        const char *name;
        int32_t activation;
    } acts[] = {{"gelu", EMB_ACT_GELU},          {"gelu_python", EMB_ACT_GELU},
                {"gelu_new", EMB_ACT_GELU_TANH}, {"gelu_pytorch_tanh", EMB_ACT_GELU_TANH},
                {"relu", EMB_ACT_RELU},          {"silu", EMB_ACT_SILU},
                {"swish", EMB_ACT_SILU}};
    const char *act, *positions = "absolute";
    embed_status st;
    int32_t pad = -1;
    EMB_TRY(check_own_code(s));
    EMB_TRY(emb_json_get_string(s->doc, s->root, "position_embedding_type", &positions, NULL));
    if (strcmp(positions, "absolute") != 0)
        return emb_json_fail(EMBED_ERR_UNSUPPORTED, s->doc, s->root, "position_embedding_type",
                             "expected \"absolute\"");
    EMB_TRY(read_sizes(s, c, 0));
    EMB_TRY(need_int(s, NULL, "intermediate_size", 1, MAX_WIDTH, &c->inner));
    EMB_TRY(need_int(s, NULL, "max_position_embeddings", 1, MAX_ROWS, &c->position_rows));
    EMB_TRY(emb_json_need_string(s->doc, s->root, "hidden_act", &act, NULL));
    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++)
        if (strcmp(act, acts[i].name) == 0)
            c->activation = acts[i].activation;
    if (c->activation == EMB_ACT_NONE)
        return emb_json_fail(EMBED_ERR_UNSUPPORTED, s->doc, s->root, "hidden_act",
                             "expected gelu, gelu_new, gelu_pytorch_tanh, relu or silu");
    if (c->arch == EMB_ARCH_XLM_ROBERTA) {
        /* XLMRobertaEmbeddings.create_position_ids_from_input_ids: counting starts at pad + 1 */
        EMB_TRY(need_int(s, NULL, "pad_token_id", 0, c->vocab - 1, &pad));
        if (pad + 1 >= c->position_rows)
            return emb_json_fail(EMBED_ERR_FORMAT, s->doc, s->root, "max_position_embeddings",
                                 "expected more than pad_token_id + 1 = %d", pad + 1);
    }
    c->position_offset = pad + 1;
    c->max_positions = c->position_rows - c->position_offset;
    c->qkv_bias = c->out_bias = c->up_bias = c->down_bias = 1;
fail:
    return st;
}

/* --------------------------------------------------------------------------------- nomic_bert */

/* Activation and kind of MLP. In the authors' class activation_function says both (NomicBertBlock);
 * in transformers' NomicBertMLP the MLP is always gated and hidden_act is the gate's activation. */
static embed_status read_nomic_mlp(const source *s, emb_encoder_config *c, int original) {
    static const struct {
        const char *original, *native;
        int32_t activation;
    } gated[] = {{"swiglu", "silu", EMB_ACT_SILU},
                 {"geglu", "gelu", EMB_ACT_GELU},
                 {"glu", "sigmoid", EMB_ACT_SIGMOID}};
    const char *old_name = NULL, *new_name = NULL;
    int32_t from_new = EMB_ACT_NONE;
    embed_status st;
    EMB_TRY(emb_json_get_string(s->doc, s->root, "activation_function", &old_name, NULL));
    EMB_TRY(emb_json_get_string(s->doc, s->root, "hidden_act", &new_name, NULL));
    if (old_name == NULL && (original || new_name == NULL))
        return emb_json_fail(EMBED_ERR_FORMAT, s->doc, s->root,
                             original ? "activation_function" : "hidden_act", "expected a name");
    for (size_t i = 0; i < 3; i++) {
        if (old_name != NULL && strcmp(old_name, gated[i].original) == 0)
            c->activation = gated[i].activation;
        if (new_name != NULL && strcmp(new_name, gated[i].native) == 0)
            from_new = gated[i].activation;
    }
    c->gated = c->activation != EMB_ACT_NONE;
    if (old_name != NULL && strcmp(old_name, "gelu") == 0)
        c->activation = EMB_ACT_GELU;
    /* gelu_new and its like are not the tanh form there: the comparison that should choose it never
     * holds (NomicBertMLP), so that what is meant and what is computed differ. */
    if (old_name != NULL && c->activation == EMB_ACT_NONE)
        return emb_json_fail(EMBED_ERR_UNSUPPORTED, s->doc, s->root, "activation_function",
                             "expected gelu, swiglu, geglu or glu");
    if (new_name != NULL && from_new == EMB_ACT_NONE)
        return emb_json_fail(EMBED_ERR_UNSUPPORTED, s->doc, s->root, "hidden_act",
                             "expected silu, gelu or sigmoid");
    if (old_name != NULL && new_name != NULL && (!c->gated || c->activation != from_new))
        return emb_json_fail(EMBED_ERR_MISMATCH, s->doc, s->root, "hidden_act",
                             "expected what activation_function \"%s\" means", old_name);
    if (old_name == NULL) {
        c->activation = from_new;
        c->gated = 1;
    }
fail:
    return st;
}

/* Inner width: NomciBertGatedMLP rounds up to a multiple of 256, NomicBertMLP takes 4 * width if
 * none is given, the gated one 8/3. */
static embed_status read_nomic_inner(const source *s, emb_encoder_config *c, int original) {
    const emb_json *value;
    embed_status st;
    EMB_TRY(emb_json_find(s->doc, s->root, "n_inner", &value));
    if (original && !present(value))
        EMB_TRY(emb_json_find(s->doc, s->root, "intermediate_size", &value));
    if (original && !present(value))
        c->inner = c->gated ? (int32_t)((int64_t)8 * c->hidden / 3) : 4 * c->hidden;
    else
        EMB_TRY(need_int(s, "n_inner", "intermediate_size", 1, MAX_WIDTH, &c->inner));
    if (original && c->gated)
        c->inner = (c->inner + 255) / 256 * 256;
fail:
    return st;
}

static embed_status read_nomic_experts(const source *s, emb_encoder_config *c) {
    const emb_json *value;
    embed_status st;
    EMB_TRY(emb_json_get_int(s->doc, s->root, "num_experts", 0, MAX_WIDTH, &c->experts));
    EMB_TRY(emb_json_get_int(s->doc, s->root, "moe_every_n_layers", 0, MAX_LAYERS, &c->moe_every));
    if (c->experts == 0 && c->moe_every == 0)
        return EMBED_OK;
    /* One of the two given: the other one matters. */
    EMB_TRY(need_int(s, NULL, "num_experts", 0, MAX_WIDTH, &c->experts));
    EMB_TRY(need_int(s, NULL, "moe_every_n_layers", 0, MAX_LAYERS, &c->moe_every));
    if (c->experts == 0 || c->moe_every == 0) {
        c->experts = c->moe_every = 0;
        return EMBED_OK;
    }
    if (c->gated)
        return emb_json_fail(EMBED_ERR_UNSUPPORTED, s->doc, s->root, "activation_function",
                             "expected gelu in a model with experts");
    EMB_TRY(need_int(s, NULL, "moe_top_k", 1, c->experts, &c->top_k));
    /* false, true, or the order of a norm to divide by (megablocks layers/router.py); the first
     * norm of probabilities is their sum */
    EMB_TRY(emb_json_find(s->doc, s->root, "moe_normalize_expert_weights", &value));
    c->renormalize =
        emb_json_is_true(value) || (emb_json_is_integer(value) && emb_json_integer(value) == 1);
    if (!c->renormalize && emb_json_type_of(value) > EMB_JSON_BOOL &&
        !(emb_json_is_integer(value) && emb_json_integer(value) == 0))
        return emb_json_fail(EMBED_ERR_UNSUPPORTED, s->doc, s->root, "moe_normalize_expert_weights",
                             "expected true or false");
    c->expert_activation = c->activation;
    c->expert_bias = 1;
fail:
    return st;
}

/* Rotary base and fraction: rotary_emb_base and _fraction, or rope_parameters. */
static embed_status read_nomic_rotary(const source *s, emb_encoder_config *c, int original) {
    const emb_json *rope = NULL;
    const char *type = "default";
    double fraction = 1, partial = 1, theta = 0;
    embed_status st;
    if (original) {
        EMB_TRY(emb_json_need_number(s->doc, s->root, "rotary_emb_fraction", &fraction));
        if (fraction > 0)
            EMB_TRY(emb_json_need_number(s->doc, s->root, "rotary_emb_base", &c->rope_base));
        EMB_TRY(emb_json_get(s->doc, s->root, "rope_parameters", EMB_JSON_OBJECT, &rope));
    } else {
        EMB_TRY(emb_json_need(s->doc, s->root, "rope_parameters", EMB_JSON_OBJECT, &rope));
    }
    if (rope != NULL) {
        EMB_TRY(emb_json_get_string(s->doc, rope, "rope_type", &type, NULL));
        if (strcmp(type, "default") != 0)
            return emb_json_fail(EMBED_ERR_UNSUPPORTED, s->doc, rope, "rope_type",
                                 "expected \"default\"");
        EMB_TRY(emb_json_get_number(s->doc, rope, "partial_rotary_factor", &partial));
        if (fabs(partial - fraction) > 0)
            return emb_json_fail(EMBED_ERR_UNSUPPORTED, s->doc, rope, "partial_rotary_factor",
                                 "expected %g", fraction);
        EMB_TRY(emb_json_need_number(s->doc, rope, "rope_theta", &theta));
        if (original && fabs(theta - c->rope_base) > 0)
            return emb_json_fail(EMBED_ERR_MISMATCH, s->doc, rope, "rope_theta",
                                 "expected %g, as in rotary_emb_base", c->rope_base);
        c->rope_base = theta;
    }
    if (fraction > 0 && !(c->rope_base > 0))
        return emb_json_fail(EMBED_ERR_FORMAT, s->doc, rope != NULL ? rope : s->root,
                             rope != NULL ? "rope_theta" : "rotary_emb_base",
                             "expected a number above 0");
    const double dims = fraction * c->head_dim;
    c->rotary_dim = dims > 0 && dims <= c->head_dim ? (int32_t)dims : 0;
    if (!(fraction >= 0 && fraction <= 1) || fabs(dims - c->rotary_dim) > 0 || c->rotary_dim % 2)
        return emb_json_fail(EMBED_ERR_UNSUPPORTED, s->doc, s->root,
                             original ? "rotary_emb_fraction" : "head_dim",
                             "expected an even number of rotated dimensions of %d", c->head_dim);
fail:
    return st;
}

/* The longest input, and the learned table of a model without rotary positions. */
static embed_status read_nomic_positions(const source *s, emb_encoder_config *c, int original,
                                         const emb_env *env) {
    const emb_json *value;
    int32_t old_limit = 0, new_limit = 0, trained = 2048;
    double scaling = 0;
    embed_status st;
    EMB_TRY(emb_json_get_int(s->doc, s->root, "max_position_embeddings", 1, MAX_ROWS, &new_limit));
    EMB_TRY(emb_json_find(s->doc, s->root, "n_positions", &value));
    if (original && (present(value) || new_limit == 0))
        EMB_TRY(need_int(s, NULL, "n_positions", -MAX_ROWS, MAX_ROWS, &old_limit));
    if (!original && new_limit == 0)
        EMB_TRY(need_int(s, NULL, "max_position_embeddings", 1, MAX_ROWS, &new_limit));
    if (old_limit <= 0 && c->rotary_dim > 0)
        old_limit = new_limit > 0 ? new_limit : 2048; /* as NomicBertPreTrainedModel fills in */
    c->max_positions =
        new_limit > 0 && (old_limit <= 0 || new_limit < old_limit) ? new_limit : old_limit;
    if (c->max_positions <= 0)
        return emb_json_fail(EMBED_ERR_FORMAT, s->doc, s->root, "n_positions",
                             "expected a number above 0");
    if (c->rotary_dim == 0)
        c->position_rows = old_limit > 0 ? old_limit : new_limit;
    /* NomicBertDynamicNTKRotaryEmbedding changes the base in texts longer than trained for. */
    EMB_TRY(emb_json_get_number(s->doc, s->root, "rotary_scaling_factor", &scaling));
    EMB_TRY(emb_json_get_int(s->doc, s->root, "max_trained_positions", 1, MAX_ROWS, &trained));
    if (fabs(scaling) > 0 && c->rotary_dim > 0 && c->max_positions > trained) {
        emb_log(env, EMBED_LOG_WARN,
                "%s: rotary_scaling_factor: not applied, texts end at max_trained_positions, %d",
                emb_json_name(s->doc), trained);
        c->max_positions = trained;
    }
fail:
    return st;
}

static embed_status read_nomic(const source *s, emb_encoder_config *c, const emb_env *env) {
    const emb_json *value;
    const char *positions = "rope";
    embed_status st;
    EMB_TRY(emb_json_find(s->doc, s->root, "n_embd", &value));
    const int original = present(value); /* else as transformers 5 writes it */
    EMB_TRY(emb_json_get_string(s->doc, s->root, "position_embedding_type", &positions, NULL));
    if (strcmp(positions, "rope") != 0 && strcmp(positions, "rotary") != 0 &&
        strcmp(positions, "absolute") != 0)
        return emb_json_fail(EMBED_ERR_UNSUPPORTED, s->doc, s->root, "position_embedding_type",
                             "expected \"rope\"");
    EMB_TRY(read_sizes(s, c, 1));
    EMB_TRY(read_nomic_mlp(s, c, original));
    EMB_TRY(read_nomic_inner(s, c, original));
    EMB_TRY(read_nomic_experts(s, c));
    EMB_TRY(read_nomic_rotary(s, c, original));
    EMB_TRY(read_nomic_positions(s, c, original, env));
    if (original) {
        EMB_TRY(emb_json_need_bool(s->doc, s->root, "qkv_proj_bias", &c->qkv_bias));
        EMB_TRY(emb_json_need_bool(s->doc, s->root, "mlp_fc1_bias", &c->up_bias));
        EMB_TRY(emb_json_need_bool(s->doc, s->root, "mlp_fc2_bias", &c->down_bias));
    }
    c->out_bias = c->qkv_bias; /* NomicBertAttention: one key for both */
fail:
    return st;
}

embed_status emb_config_read_encoder(emb_encoder_config *c, const emb_env *env, const char *dir) {
    emb_json_doc *doc = NULL;
    const char *type;
    embed_status st;
    memset(c, 0, sizeof *c);
    EMB_TRY(emb_config_open_json(&doc, env, dir, NULL, "config.json", 0));
    const source s = {doc, emb_json_root(doc)};
    EMB_TRY(emb_json_need_string(doc, s.root, "model_type", &type, NULL));
    c->arch = strcmp(type, "nomic_bert") == 0    ? EMB_ARCH_NOMIC_BERT
              : strcmp(type, "bert") == 0        ? EMB_ARCH_BERT
              : strcmp(type, "xlm-roberta") == 0 ? EMB_ARCH_XLM_ROBERTA
                                                 : 0;
    if (c->arch == 0) {
        st = emb_json_fail(EMBED_ERR_UNSUPPORTED, doc, s.root, "model_type",
                           "expected nomic_bert, bert or xlm-roberta");
        goto fail;
    }
    EMB_TRY(check_fixed(&s));
    EMB_TRY(c->arch == EMB_ARCH_NOMIC_BERT ? read_nomic(&s, c, env) : read_bert(&s, c));
fail:
    emb_json_free(doc);
    return st;
}
