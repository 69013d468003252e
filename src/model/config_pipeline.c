#include <string.h>

#include "io/file.h"
#include "model/config_parts.h"

#define NO_LIMIT INT32_MAX
#define MAX_LIMIT (1 << 28)

/* What a module of sentence-transformers is called: the last component of its type, which is the
 * same in all versions ("sentence_transformers.models.Pooling",
 * "sentence_transformers.sentence_transformer.modules.pooling.Pooling"). */
static const char *last_component(const char *type) {
    const char *dot = strrchr(type, '.');
    return dot != NULL ? dot + 1 : type;
}

/* A string that, if there at all, has that one value. */
static embed_status fixed_string(const emb_json_doc *doc, const emb_json *object, const char *key,
                                 const char *expected) {
    const char *value = expected;
    embed_status st = emb_json_get_string(doc, object, key, &value, NULL);
    if (st == EMBED_OK && strcmp(value, expected) != 0)
        st = emb_json_fail(EMBED_ERR_UNSUPPORTED, doc, object, key, "expected \"%s\"", expected);
    return st;
}

/* Dense and Normalize work on the pooled vector, in place of it (sentence-transformers 6 can have
 * them elsewhere). */
static embed_status check_module_io(const emb_json_doc *doc, const emb_json *root) {
    const embed_status st = fixed_string(doc, root, "module_input_name", "sentence_embedding");
    return st != EMBED_OK ? st
                          : fixed_string(doc, root, "module_output_name", "sentence_embedding");
}

/* ------------------------------------------------------------------------------------ pooling */

/* Modes in the order of concatenation (sentence-transformers pooling.py). */
static const struct {
    const char *name, *old_key;
    int32_t mode;
} modes[] = {{"cls", "pooling_mode_cls_token", EMBED_POOL_CLS},
             {"max", "pooling_mode_max_tokens", EMBED_POOL_MAX},
             {"mean", "pooling_mode_mean_tokens", EMBED_POOL_MEAN},
             {"mean_sqrt_len_tokens", "pooling_mode_mean_sqrt_len_tokens", EMBED_POOL_MEAN_SQRT},
             {"weightedmean", "pooling_mode_weightedmean_tokens", EMBED_POOL_WEIGHTED_MEAN},
             {"lasttoken", "pooling_mode_lasttoken", EMBED_POOL_LAST}};
#define N_MODES (sizeof modes / sizeof *modes)

static embed_status add_mode(emb_pipeline_config *p, const emb_json_doc *doc,
                             const emb_json *value) {
    for (size_t i = 0; i < N_MODES; i++)
        if (emb_json_equals(value, modes[i].name)) {
            if (p->pooling & modes[i].mode)
                return emb_json_fail(EMBED_ERR_UNSUPPORTED, doc, value, NULL,
                                     "expected each mode once");
            p->pooling |= modes[i].mode;
            p->pooling_order[p->n_pooling++] = modes[i].mode;
            return EMBED_OK;
        }
    return emb_json_fail(
        EMBED_ERR_UNSUPPORTED, doc, value, NULL,
        "expected cls, max, mean, mean_sqrt_len_tokens, weightedmean or lasttoken");
}

/* "pooling_mode": "mean" or ["cls", "mean"], which sentence-transformers 6 writes. */
static embed_status read_new_modes(emb_pipeline_config *p, const emb_json_doc *doc,
                                   const emb_json *mode) {
    const emb_json *value;
    if (emb_json_type_of(mode) != EMB_JSON_ARRAY)
        return add_mode(p, doc, mode);
    for (emb_json_iter it = emb_json_iterate(mode); (value = emb_json_next(&it, NULL)) != NULL;) {
        const embed_status st = add_mode(p, doc, value);
        if (st != EMBED_OK)
            return st;
    }
    return EMBED_OK;
}

/* One boolean per mode; absent is false, but for the mean, of which releases think differently. */
static embed_status read_old_modes(emb_pipeline_config *p, const emb_json_doc *doc) {
    const emb_json *root = emb_json_root(doc);
    embed_status st;
    for (size_t i = 0; i < N_MODES; i++) {
        int32_t on = 0;
        if (modes[i].mode == EMBED_POOL_MEAN)
            EMB_TRY(emb_json_need_bool(doc, root, modes[i].old_key, &on));
        else
            EMB_TRY(emb_json_get_bool(doc, root, modes[i].old_key, &on));
        if (on) {
            p->pooling |= modes[i].mode;
            p->pooling_order[p->n_pooling++] = modes[i].mode;
        }
    }
    return EMBED_OK;
fail:
    return st;
}

static embed_status read_pooling(emb_pipeline_config *p, const emb_env *env, const char *dir,
                                 const char *path, int32_t *width) {
    emb_json_doc *doc = NULL;
    const emb_json *mode, *dimension;
    embed_status st;
    EMB_TRY(emb_config_open_json(&doc, env, dir, path, "config.json", 0));
    const emb_json *root = emb_json_root(doc);
    EMB_TRY(emb_json_find(doc, root, "pooling_mode", &mode));
    if (emb_json_type_of(mode) > EMB_JSON_NULL)
        EMB_TRY(read_new_modes(p, doc, mode));
    else
        EMB_TRY(read_old_modes(p, doc));
    if (p->n_pooling == 0) {
        st = emb_json_fail(EMBED_ERR_FORMAT, doc, root, "pooling_mode", "expected a pooling mode");
        goto fail;
    }
    p->include_prompt = 1;
    EMB_TRY(emb_json_get_bool(doc, root, "include_prompt", &p->include_prompt));
    EMB_TRY(emb_json_find(doc, root, "embedding_dimension", &dimension));
    const char *key = dimension != NULL ? "embedding_dimension" : "word_embedding_dimension";
    int32_t declared;
    EMB_TRY(emb_json_need_int(doc, root, key, 1, INT32_MAX, &declared));
    if (declared != *width) {
        st = emb_json_fail(EMBED_ERR_MISMATCH, doc, root, key, "expected the encoder's width of %d",
                           *width);
        goto fail;
    }
    *width *= p->n_pooling;
fail:
    emb_json_free(doc);
    return st;
}

/* -------------------------------------------------------------------------- dense, normalize */

static embed_status read_dense(emb_pipeline_config *p, const emb_env *env, const char *dir,
                               const char *path, int32_t *width) {
    static const struct {
        const char *name;
        int32_t activation;
    } acts[] = {{"Identity", EMB_ACT_NONE}, {"Tanh", EMB_ACT_TANH},       {"GELU", EMB_ACT_GELU},
                {"ReLU", EMB_ACT_RELU},     {"Sigmoid", EMB_ACT_SIGMOID}, {"SiLU", EMB_ACT_SILU}};
    emb_json_doc *doc = NULL;
    const char *act;
    int32_t residual = 0, known = 0;
    embed_status st;
    EMB_TRY(emb_config_open_json(&doc, env, dir, path, "config.json", 0));
    const emb_json *root = emb_json_root(doc);
    EMB_TRY(check_module_io(doc, root));
    EMB_TRY(emb_json_get_bool(doc, root, "use_residual", &residual));
    if (residual) {
        st = emb_json_fail(EMBED_ERR_UNSUPPORTED, doc, root, "use_residual", "expected false");
        goto fail;
    }
    const int32_t i = p->n_dense;
    EMB_TRY(emb_json_need_int(doc, root, "in_features", 1, 1 << 20, &p->dense[i].in));
    EMB_TRY(emb_json_need_int(doc, root, "out_features", 1, 1 << 20, &p->dense[i].out));
    EMB_TRY(emb_json_need_bool(doc, root, "bias", &p->dense[i].bias));
    EMB_TRY(emb_json_need_string(doc, root, "activation_function", &act, NULL));
    for (size_t k = 0; k < sizeof acts / sizeof *acts; k++)
        if (strncmp(act, "torch.", 6) == 0 && strcmp(last_component(act), acts[k].name) == 0) {
            p->dense[i].activation = acts[k].activation;
            known = 1;
        }
    if (!known) {
        st = emb_json_fail(EMBED_ERR_UNSUPPORTED, doc, root, "activation_function",
                           "expected Identity, Tanh, GELU, ReLU, Sigmoid or SiLU of torch.nn");
        goto fail;
    }
    if (p->dense[i].in != *width) {
        st = emb_json_fail(EMBED_ERR_MISMATCH, doc, root, "in_features",
                           "expected %d, the width of the module before", *width);
        goto fail;
    }
    EMB_TRY(emb_strdup(env, path, strlen(path), &p->dense[i].dir));
    *width = p->dense[i].out;
    p->n_dense++;
fail:
    emb_json_free(doc);
    return st;
}

static embed_status read_normalize(emb_pipeline_config *p, const emb_env *env, const char *dir,
                                   const char *path) {
    emb_json_doc *doc = NULL;
    embed_status st = emb_config_open_json(&doc, env, dir, path, "config.json", 1);
    if (st == EMBED_OK && doc != NULL) /* none before sentence-transformers 6 */
        st = check_module_io(doc, emb_json_root(doc));
    p->normalize = 1;
    emb_json_free(doc);
    return st;
}

/* ------------------------------------------------------------------------------- modules.json */

/* A path that stays below the checkpoint. */
static int is_inside(const char *path) {
    if (path[0] == '\0' || path[0] == '/' || strchr(path, '\\') != NULL)
        return 0;
    for (const char *p = path; p != NULL; p = strchr(p, '/')) {
        p += *p == '/';
        if (strncmp(p, "..", 2) == 0 && (p[2] == '/' || p[2] == '\0'))
            return 0;
    }
    return 1;
}

/* Module i: Transformer, Pooling, any number of Dense, at last Normalize. */
static embed_status read_module(emb_pipeline_config *p, const emb_env *env, const char *dir,
                                const emb_json_doc *doc, const emb_json *module, size_t i,
                                int32_t *width) {
    const char *type, *path;
    size_t len;
    embed_status st;
    EMB_TRY(emb_json_need_string(doc, module, "type", &type, NULL));
    EMB_TRY(emb_json_need_string(doc, module, "path", &path, &len));
    const char *name = last_component(type);
    if (i == 0) {
        if (strcmp(name, "Transformer") != 0)
            return emb_json_fail(EMBED_ERR_UNSUPPORTED, doc, module, "type",
                                 "expected a Transformer as first module");
        return path[0] == '\0' ? EMBED_OK
                               : emb_json_fail(EMBED_ERR_UNSUPPORTED, doc, module, "path",
                                               "expected \"\", the encoder beside modules.json");
    }
    if (!is_inside(path) || strlen(path) != len)
        return emb_json_fail(EMBED_ERR_FORMAT, doc, module, "path",
                             "expected a folder inside the checkpoint");
    if (i == 1 && strcmp(name, "Pooling") == 0)
        return read_pooling(p, env, dir, path, width);
    if (i == 1 || (strcmp(name, "Dense") != 0 && strcmp(name, "Normalize") != 0))
        return emb_json_fail(EMBED_ERR_UNSUPPORTED, doc, module, "type",
                             i == 1 ? "expected Pooling as second module"
                                    : "expected Dense or Normalize after Pooling");
    if (p->normalize)
        return emb_json_fail(EMBED_ERR_UNSUPPORTED, doc, module, "type",
                             "expected nothing after Normalize");
    if (strcmp(name, "Normalize") == 0)
        return read_normalize(p, env, dir, path);
    if (p->n_dense == EMB_MAX_DENSE)
        return emb_json_fail(EMBED_ERR_UNSUPPORTED, doc, module, "type",
                             "expected at most %d Dense modules", EMB_MAX_DENSE);
    return read_dense(p, env, dir, path, width);
fail:
    return st;
}

static embed_status read_modules(emb_pipeline_config *p, const emb_env *env, const char *dir,
                                 const emb_json_doc *doc, int32_t width) {
    const emb_json *root = emb_json_root(doc), *module;
    size_t i = 0;
    if (emb_json_type_of(root) != EMB_JSON_ARRAY || emb_json_count(root) < 2)
        return emb_json_fail(EMBED_ERR_UNSUPPORTED, doc, root, NULL,
                             "expected an array of Transformer, Pooling ...");
    for (emb_json_iter it = emb_json_iterate(root); (module = emb_json_next(&it, NULL)) != NULL;
         i++) {
        const embed_status st = read_module(p, env, dir, doc, module, i, &width);
        if (st != EMBED_OK)
            return st;
    }
    return EMBED_OK;
}

/* ------------------------------------------------------------- lengths, settings of Transformer */

/* transformers writes an enormous number where there is no limit. */
static embed_status read_limit(const emb_json_doc *doc, const char *key, int32_t *limit) {
    const emb_json *value = NULL;
    const embed_status st = emb_json_get(doc, emb_json_root(doc), key, EMB_JSON_NUMBER, &value);
    const double number = emb_json_number(value);
    if (st != EMBED_OK || value == NULL)
        return st;
    if (!(number >= 1))
        return emb_json_fail(EMBED_ERR_FORMAT, doc, emb_json_root(doc), key,
                             "expected a number of at least 1");
    if (number < MAX_LIMIT)
        *limit = (int32_t)number;
    return EMBED_OK;
}

/* With do_lower_case, sentence-transformers lowers the text before all else, unless the tokenizer
 * lowers it anyway (Transformer.__init__). Only the latter is taken; BertNormalizer lowers after
 * cleaning and splitting Chinese characters, which lowering before does not change. */
static embed_status check_lower_case(const emb_env *env, const char *dir, const emb_json_doc *doc) {
    emb_json_doc *tokenizer = NULL;
    const emb_json *normalizer = NULL, *parts = NULL, *part;
    char *path = NULL;
    int32_t asked = 0, lowers = 0;
    embed_status st;
    EMB_TRY(emb_json_get_bool(doc, emb_json_root(doc), "do_lower_case", &asked));
    if (!asked)
        return EMBED_OK;
    EMB_TRY(emb_file_join(env, dir, "tokenizer.json", &path));
    EMB_TRY(emb_json_open(&tokenizer, env, path, 256u << 20));
    EMB_TRY(emb_json_get(tokenizer, emb_json_root(tokenizer), "normalizer", EMB_JSON_OBJECT,
                         &normalizer));
    if (normalizer != NULL)
        EMB_TRY(emb_json_get(tokenizer, normalizer, "normalizers", EMB_JSON_ARRAY, &parts));
    emb_json_iter it = emb_json_iterate(parts);
    for (part = parts != NULL ? emb_json_next(&it, NULL) : normalizer; part != NULL && !lowers;
         part = emb_json_next(&it, NULL)) {
        const char *type = "";
        EMB_TRY(emb_json_get_string(tokenizer, part, "type", &type, NULL));
        lowers = strcmp(type, "Lowercase") == 0;
        if (strcmp(type, "BertNormalizer") == 0)
            EMB_TRY(emb_json_get_bool(tokenizer, part, "lowercase", &lowers));
    }
    if (!lowers)
        st = emb_json_fail(EMBED_ERR_UNSUPPORTED, doc, emb_json_root(doc), "do_lower_case",
                           "expected false, or a tokenizer.json whose normalizer lowers the text");
fail:
    emb_json_free(tokenizer);
    emb_free(env, path);
    return st;
}

/* Arguments that a checkpoint passes to transformers when it is loaded, under old and new names:
 * only such as leave the numbers alone. */
static embed_status check_load_args(const emb_json_doc *doc) {
    static const char *const keys[] = {"model_args",    "model_kwargs",   "config_args",
                                       "config_kwargs", "tokenizer_args", "processor_kwargs"};
    static const char *const harmless[] = {"trust_remote_code",   "torch_dtype",       "dtype",
                                           "attn_implementation", "add_pooling_layer", "use_fast"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const emb_json *args = NULL, *name;
        const embed_status st =
            emb_json_get(doc, emb_json_root(doc), keys[i], EMB_JSON_OBJECT, &args);
        if (st != EMBED_OK)
            return st;
        emb_json_iter it = emb_json_iterate(args);
        while (emb_json_next(&it, &name) != NULL) {
            size_t k = 0;
            while (k < sizeof harmless / sizeof *harmless && !emb_json_equals(name, harmless[k]))
                k++;
            if (k == sizeof harmless / sizeof *harmless)
                return emb_json_fail(EMBED_ERR_UNSUPPORTED, doc, args, emb_json_string(name, NULL),
                                     "expected no argument of this name");
        }
    }
    return EMBED_OK;
}

/* sentence_bert_config.json of either generation; *limit: max_seq_length if given. */
static embed_status read_transformer(const emb_env *env, const char *dir, const emb_json_doc *doc,
                                     int32_t *limit) {
    static const char *const unused[] = {"query_length", "document_length", "query_expansion"};
    const emb_json *root = emb_json_root(doc), *modality = NULL, *text = NULL, *value;
    embed_status st;
    EMB_TRY(read_limit(doc, "max_seq_length", limit));
    EMB_TRY(check_lower_case(env, dir, doc));
    EMB_TRY(check_load_args(doc));
    EMB_TRY(fixed_string(doc, root, "transformer_task", "feature-extraction"));
    EMB_TRY(fixed_string(doc, root, "module_output_name", "token_embeddings"));
    EMB_TRY(emb_json_get(doc, root, "modality_config", EMB_JSON_OBJECT, &modality));
    if (modality != NULL) {
        EMB_TRY(emb_json_need(doc, modality, "text", EMB_JSON_OBJECT, &text));
        EMB_TRY(fixed_string(doc, text, "method", "forward"));
        EMB_TRY(fixed_string(doc, text, "method_output_name", "last_hidden_state"));
    }
    for (size_t i = 0; i < sizeof unused / sizeof *unused; i++) {
        EMB_TRY(emb_json_find(doc, root, unused[i], &value));
        if (emb_json_type_of(value) > EMB_JSON_NULL)
            return emb_json_fail(EMBED_ERR_UNSUPPORTED, doc, root, unused[i], "expected null");
    }
    EMB_TRY(emb_json_find(doc, root, "processing_kwargs", &value));
    if (emb_json_type_of(value) > EMB_JSON_NULL && emb_json_count(value) > 0)
        return emb_json_fail(EMBED_ERR_UNSUPPORTED, doc, root, "processing_kwargs",
                             "expected nothing in it");
fail:
    return st;
}

/* max_seq_length decides where it is given, else the tokenizer's model_max_length, and the
 * positions of the encoder are a limit in any case: Transformer.__init__. */
static embed_status read_max_tokens(emb_pipeline_config *p, const emb_env *env, const char *dir,
                                    const emb_encoder_config *encoder, int has_modules) {
    static const char *const names[] = {"sentence_bert_config.json", "sentence_roberta_config.json",
                                        "sentence_xlm-roberta_config.json"};
    emb_json_doc *doc = NULL;
    int32_t limit = NO_LIMIT, tokenizer_limit = NO_LIMIT;
    embed_status st = EMBED_OK;
    for (size_t i = 0; has_modules && doc == NULL && i < sizeof names / sizeof *names; i++)
        EMB_TRY(emb_config_open_json(&doc, env, dir, NULL, names[i], 1));
    if (doc != NULL)
        EMB_TRY(read_transformer(env, dir, doc, &limit));
    emb_json_free(doc);
    doc = NULL;
    EMB_TRY(emb_config_open_json(&doc, env, dir, NULL, "tokenizer_config.json", 1));
    if (doc != NULL)
        EMB_TRY(read_limit(doc, "model_max_length", &tokenizer_limit));
    if (limit == NO_LIMIT)
        limit = tokenizer_limit;
    p->max_tokens = limit < encoder->max_positions ? limit : encoder->max_positions;
fail:
    emb_json_free(doc);
    return st;
}

/* ------------------------------------------------------------------------------------ prompts */

static embed_status add_prompt(emb_pipeline_config *p, const emb_env *env, const emb_json_doc *doc,
                               const emb_json *prompts, const emb_json *name,
                               const emb_json *value) {
    emb_prompt *prompt = &p->prompts[p->n_prompts];
    const char *key, *text = "";
    size_t key_len;
    embed_status st;
    key = emb_json_string(name, &key_len);
    if (strlen(key) != key_len)
        return emb_json_fail(EMBED_ERR_FORMAT, doc, value, NULL,
                             "expected a name without NUL bytes");
    EMB_TRY(emb_json_find(doc, prompts, key, &value));                         /* not twice */
    EMB_TRY(emb_json_get_string(doc, prompts, key, &text, &prompt->text_len)); /* null: empty */
    p->n_prompts++;
    EMB_TRY(emb_strdup(env, key, key_len, &prompt->name));
    EMB_TRY(emb_strdup(env, text, prompt->text_len, &prompt->text));
fail:
    return st;
}

static embed_status read_prompts(emb_pipeline_config *p, const emb_env *env, const char *dir) {
    emb_json_doc *doc = NULL;
    const emb_json *prompts = NULL, *name, *value;
    const char *fallback = NULL;
    void *array;
    embed_status st;
    EMB_TRY(emb_config_open_json(&doc, env, dir, NULL, "config_sentence_transformers.json", 1));
    if (doc == NULL)
        return EMBED_OK;
    const emb_json *root = emb_json_root(doc);
    EMB_TRY(fixed_string(doc, root, "model_type", "SentenceTransformer"));
    EMB_TRY(emb_json_get(doc, root, "prompts", EMB_JSON_OBJECT, &prompts));
    if (emb_json_count(prompts) > 10000) {
        st =
            emb_json_fail(EMBED_ERR_FORMAT, doc, root, "prompts", "expected at most 10000 prompts");
        goto fail;
    }
    EMB_TRY(emb_new_array(env, emb_json_count(prompts), sizeof *p->prompts, &array));
    p->prompts = array;
    for (emb_json_iter it = emb_json_iterate(prompts); (value = emb_json_next(&it, &name)) != NULL;)
        EMB_TRY(add_prompt(p, env, doc, prompts, name, value));
    EMB_TRY(emb_json_get_string(doc, root, "default_prompt_name", &fallback, NULL));
    for (int32_t i = 0; fallback != NULL && i < p->n_prompts; i++)
        if (strcmp(p->prompts[i].name, fallback) == 0)
            p->default_prompt = i;
    if (fallback != NULL && p->default_prompt < 0)
        st = emb_json_fail(EMBED_ERR_MISMATCH, doc, root, "default_prompt_name",
                           "expected the name of a prompt");
fail:
    emb_json_free(doc);
    return st;
}

embed_status emb_config_read_pipeline(emb_pipeline_config *p, const emb_env *env, const char *dir,
                                      const emb_encoder_config *encoder) {
    emb_json_doc *doc = NULL;
    embed_status st;
    p->default_prompt = -1;
    EMB_TRY(emb_config_open_json(&doc, env, dir, NULL, "modules.json", 1));
    if (doc != NULL) {
        EMB_TRY(read_modules(p, env, dir, doc, encoder->hidden));
        EMB_TRY(read_prompts(p, env, dir));
    } else { /* SentenceTransformer._load_default_modules */
        emb_log(env, EMBED_LOG_WARN,
                "%s: no modules.json: mean pooling, no normalisation, no prompts", dir);
        p->pooling = p->pooling_order[0] = EMBED_POOL_MEAN;
        p->n_pooling = 1;
        p->include_prompt = 1;
    }
    EMB_TRY(read_max_tokens(p, env, dir, encoder, doc != NULL));
fail:
    emb_json_free(doc);
    return st;
}
