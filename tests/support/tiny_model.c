#include "support/tiny_model.h"

#include "base/dtype.h"

tiny_spec tiny_spec_dense(void) {
    return (tiny_spec){
        .arch = TINY_NOMIC,
        .hidden = 48,
        .layers = 3,
        .heads = 4,
        .inner = 104,
        .words = 199, /* a vocabulary of 256: nomic files round it up to a multiple of 64 */
        .positions = 300,
        .activation = "gelu",
        .rotary_fraction = 1,
        .rotary_base = 10000,
        .eps = 1e-5,
        .dtype = EMBED_F32,
        .pooling = "mean",
        .normalize = 1,
        .seed = 20261123,
    };
}

tiny_spec tiny_spec_moe(void) {
    tiny_spec s = tiny_spec_dense();
    s.layers = 4;
    s.moe_every = 2;
    s.experts = 5;
    s.top_k = 2;
    s.prompts = "{\"query\": \"w1 w2: \", \"passage\": \"w3 w4: \", \"Classification\": \"w5 \"}";
    return s;
}

tiny_spec tiny_spec_gated(void) {
    tiny_spec s = tiny_spec_dense();
    s.activation = "swiglu";
    s.gated = 1;
    s.inner = 256; /* the authors' class rounds it up to a multiple */
    s.no_bias = 1;
    s.rotary_base = 1000;
    s.rotary_fraction = 0.5;
    s.eps = 1e-12;
    return s;
}

tiny_spec tiny_spec_bert(void) {
    tiny_spec s = tiny_spec_dense();
    s.arch = TINY_BERT;
    s.eps = 1e-12;
    return s;
}

tiny_spec tiny_spec_xlmr(void) {
    tiny_spec s = tiny_spec_dense();
    s.arch = TINY_XLMR;
    s.pooling = "cls";
    return s;
}

/* ------------------------------------------------------------------------------------ tensors */

/* Upper half of a float: any rounding will do for random numbers. Through a volatile, because gcc
 * 12.2 from -O1 drops the pair of shifts when both are in sight. */
static uint16_t bf16_of(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    const volatile uint16_t h = (uint16_t)(u >> 16);
    return h;
}

static float rounded(float x, int dtype) {
    return dtype == EMBED_F16    ? emb_f16_to_f32(emb_f32_to_f16(x))
           : dtype == EMBED_BF16 ? emb_bf16_to_f32(bf16_of(x))
                                 : x;
}

/* Normal numbers of this mean and deviation. */
static void add(tiny_model *m, uint64_t *state, int rows, int cols, double mean, double deviation,
                const char *fmt, ...) EMB_PRINTF(7, 8);
static void add(tiny_model *m, uint64_t *state, int rows, int cols, double mean, double deviation,
                const char *fmt, ...) {
    m->tensors = realloc(m->tensors, (size_t)(m->n_tensors + 1) * sizeof *m->tensors);
    assert_non_null(m->tensors);
    tiny_tensor *t = &m->tensors[m->n_tensors++];
    va_list args;
    va_start(args, fmt);
    assert_in_range(vsnprintf(t->name, sizeof t->name, fmt, args), 1, sizeof t->name - 1);
    va_end(args);
    const size_t n = (size_t)rows * (size_t)(cols > 0 ? cols : 1);
    t->rows = rows;
    t->cols = cols;
    t->data = malloc(n * sizeof *t->data);
    assert_non_null(t->data);
    for (size_t i = 0; i < n; i++)
        t->data[i] = rounded((float)(mean + deviation * test_normal(state)), m->spec.dtype);
}

static void add_linear(tiny_model *m, uint64_t *state, int out, int in, int bias,
                       const char *name) {
    add(m, state, out, in, 0, 1.2 / sqrt(in), "%s.weight", name);
    if (bias)
        add(m, state, out, 0, 0, 0.2, "%s.bias", name);
}

static void add_norm(tiny_model *m, uint64_t *state, const char *name) {
    add(m, state, m->spec.hidden, 0, 1, 0.2, "%s.weight", name);
    add(m, state, m->spec.hidden, 0, 0, 0.2, "%s.bias", name);
}

static const char *named(const char *fmt, int layer) {
    static char name[8][96];
    static int at;
    char *buf = name[at++ % 8];
    (void)snprintf(buf, sizeof name[0], fmt, layer);
    return buf;
}

static void add_nomic(tiny_model *m, uint64_t *state) {
    const tiny_spec *s = &m->spec;
    const int d = s->hidden, bias = !s->no_bias;
    add(m, state, m->vocab, d, 0, 0.5, "embeddings.word_embeddings.weight");
    add(m, state, 1, d, 0, 0.5, "embeddings.token_type_embeddings.weight");
    add_norm(m, state, "emb_ln");
    for (int i = 0; i < s->layers; i++) {
        add_linear(m, state, 3 * d, d, bias, named("encoder.layers.%d.attn.Wqkv", i));
        add_linear(m, state, d, d, bias, named("encoder.layers.%d.attn.out_proj", i));
        add_norm(m, state, named("encoder.layers.%d.norm1", i));
        add_norm(m, state, named("encoder.layers.%d.norm2", i));
        if (s->moe_every > 0 && i % s->moe_every == 1) {
            const int rows = s->experts * s->inner;
            add(m, state, s->experts, d, 0, 0.3, "encoder.layers.%d.mlp.router.layer.weight", i);
            add(m, state, rows, d, 0, 1.2 / sqrt(d), "encoder.layers.%d.mlp.experts.mlp.w1", i);
            add(m, state, rows, d, 0, 1.2 / sqrt(s->inner), "encoder.layers.%d.mlp.experts.mlp.w2",
                i);
            add(m, state, d, 0, 0, 0.2, "encoder.layers.%d.mlp.experts.bias", i);
            continue;
        }
        if (s->gated) {
            add_linear(m, state, s->inner, d, bias, named("encoder.layers.%d.mlp.fc11", i));
            add_linear(m, state, s->inner, d, bias, named("encoder.layers.%d.mlp.fc12", i));
        } else
            add_linear(m, state, s->inner, d, bias, named("encoder.layers.%d.mlp.fc1", i));
        add_linear(m, state, d, s->inner, bias, named("encoder.layers.%d.mlp.fc2", i));
    }
}

static void add_bert(tiny_model *m, uint64_t *state) {
    const tiny_spec *s = &m->spec;
    const int d = s->hidden, offset = s->arch == TINY_XLMR ? TINY_PAD + 1 : 0;
    add(m, state, m->vocab, d, 0, 0.5, "embeddings.word_embeddings.weight");
    add(m, state, s->positions + offset, d, 0, 0.3, "embeddings.position_embeddings.weight");
    add(m, state, s->arch == TINY_XLMR ? 1 : 2, d, 0, 0.3,
        "embeddings.token_type_embeddings.weight");
    add_norm(m, state, "embeddings.LayerNorm");
    for (int i = 0; i < s->layers; i++) {
        add_linear(m, state, d, d, 1, named("encoder.layer.%d.attention.self.query", i));
        add_linear(m, state, d, d, 1, named("encoder.layer.%d.attention.self.key", i));
        add_linear(m, state, d, d, 1, named("encoder.layer.%d.attention.self.value", i));
        add_linear(m, state, d, d, 1, named("encoder.layer.%d.attention.output.dense", i));
        add_norm(m, state, named("encoder.layer.%d.attention.output.LayerNorm", i));
        add_linear(m, state, s->inner, d, 1, named("encoder.layer.%d.intermediate.dense", i));
        add_linear(m, state, d, s->inner, 1, named("encoder.layer.%d.output.dense", i));
        add_norm(m, state, named("encoder.layer.%d.output.LayerNorm", i));
    }
}

/* ---------------------------------------------------------------------------------- safetensors */

static const char *dtype_name(int dtype) {
    return dtype == EMBED_F16 ? "F16" : dtype == EMBED_BF16 ? "BF16" : "F32";
}

static size_t store(unsigned char *out, const tiny_tensor *t, int dtype) {
    const size_t n = (size_t)t->rows * (size_t)(t->cols > 0 ? t->cols : 1);
    for (size_t i = 0; i < n; i++) {
        const uint16_t h = dtype == EMBED_F16 ? emb_f32_to_f16(t->data[i]) : bf16_of(t->data[i]);
        if (dtype == EMBED_F32)
            memcpy(out + 4 * i, &t->data[i], 4);
        else
            memcpy(out + 2 * i, &h, 2);
    }
    return n * (dtype == EMBED_F32 ? 4 : 2);
}

/* Header length, JSON header, data: https://huggingface.co/docs/safetensors */
static void write_tensors(const tiny_model *m, const char *file, int from, int to) {
    size_t bytes = 0, at = 8, data = 0;
    for (int i = from; i < to; i++)
        bytes += 4 * (size_t)m->tensors[i].rows * (size_t)(m->tensors[i].cols + 1) + 256;
    unsigned char *out = calloc(1, bytes + 16);
    assert_non_null(out);
    for (int i = from; i < to; i++) {
        const tiny_tensor *t = &m->tensors[i];
        const size_t n = (size_t)t->rows * (size_t)(t->cols > 0 ? t->cols : 1) *
                         (m->spec.dtype == EMBED_F32 ? 4 : 2);
        char shape[32];
        (void)snprintf(shape, sizeof shape, t->cols > 0 ? "%d, %d" : "%d", t->rows, t->cols);
        at += (size_t)sprintf((char *)out + at,
                              "%s\"%s\": {\"dtype\": \"%s\", \"shape\": [%s], \"data_offsets\": "
                              "[%zu, %zu]}",
                              i > from ? ", " : "{", t->name, dtype_name(m->spec.dtype), shape,
                              data, data + n);
        data += n;
    }
    out[at++] = '}';
    const uint64_t header = at - 8;
    memcpy(out, &header, 8);
    for (int i = from; i < to; i++)
        at += store(out + at, &m->tensors[i], m->spec.dtype);
    test_write(m->dir, file, out, (long)at);
    free(out);
}

/* ------------------------------------------------------------------------------------ JSON files
 */

static const char *const special_tokens[] = {"[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"};

static void write_tokenizer(const tiny_model *m) {
    const size_t cap = 8192 + (size_t)m->spec.words * 32;
    char *out = malloc(cap);
    assert_non_null(out);
    size_t at = (size_t)snprintf(out, cap,
                                 "{\"version\": \"1.0\", \"truncation\": null, "
                                 "\"padding\": null, \"added_tokens\": [");
    for (int i = 0; i < 5; i++)
        at += (size_t)snprintf(out + at, cap - at,
                               "%s{\"id\": %d, \"content\": \"%s\", \"single_word\": false, "
                               "\"lstrip\": false, \"rstrip\": false, \"normalized\": false, "
                               "\"special\": true}",
                               i > 0 ? ", " : "", i, special_tokens[i]);
    at += (size_t)snprintf(
        out + at, cap - at,
        "], \"normalizer\": {\"type\": \"BertNormalizer\", \"clean_text\": true, "
        "\"handle_chinese_chars\": true, \"strip_accents\": null, \"lowercase\": true}, "
        "\"pre_tokenizer\": {\"type\": \"BertPreTokenizer\"}, "
        "\"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": ["
        "{\"SpecialToken\": {\"id\": \"[CLS]\", \"type_id\": 0}}, "
        "{\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}, "
        "{\"SpecialToken\": {\"id\": \"[SEP]\", \"type_id\": 0}}], \"pair\": ["
        "{\"SpecialToken\": {\"id\": \"[CLS]\", \"type_id\": 0}}, "
        "{\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}, "
        "{\"SpecialToken\": {\"id\": \"[SEP]\", \"type_id\": 0}}, "
        "{\"Sequence\": {\"id\": \"B\", \"type_id\": 1}}, "
        "{\"SpecialToken\": {\"id\": \"[SEP]\", \"type_id\": 1}}], \"special_tokens\": {"
        "\"[CLS]\": {\"id\": \"[CLS]\", \"ids\": [0], \"tokens\": [\"[CLS]\"]}, "
        "\"[SEP]\": {\"id\": \"[SEP]\", \"ids\": [2], \"tokens\": [\"[SEP]\"]}}}, "
        "\"decoder\": {\"type\": \"WordPiece\", \"prefix\": \"##\", \"cleanup\": true}, "
        "\"model\": {\"type\": \"WordPiece\", \"unk_token\": \"[UNK]\", "
        "\"continuing_subword_prefix\": \"##\", \"max_input_chars_per_word\": 100, \"vocab\": {");
    for (int i = 0; i < 5; i++)
        at += (size_t)snprintf(out + at, cap - at, "\"%s\": %d, ", special_tokens[i], i);
    for (int i = 0; i < 52; i++)
        at += (size_t)snprintf(out + at, cap - at, "\"%s%c\": %d, ", i < 26 ? "" : "##",
                               'a' + i % 26, 5 + i);
    for (int i = 0; i < m->spec.words; i++)
        at += (size_t)snprintf(out + at, cap - at, "%s\"w%d\": %d", i > 0 ? ", " : "", i,
                               TINY_FIRST_WORD + i);
    at += (size_t)snprintf(out + at, cap - at, "}}}");
    assert_true(at < cap);
    test_write(m->dir, "tokenizer.json", out, (long)at);
    free(out);
}

static void write_nomic_config(const tiny_model *m) {
    const tiny_spec *s = &m->spec;
    const char *bias = s->no_bias ? "false" : "true";
    char moe[256] = "", out[2560];
    if (s->moe_every > 0)
        (void)snprintf(moe, sizeof moe,
                       "\"moe_every_n_layers\": %d, \"num_experts\": %d, \"moe_top_k\": %d, "
                       "\"moe_normalize_expert_weights\": %s, \"num_shared_experts\": 0, "
                       "\"expert_choice_router\": false, ",
                       s->moe_every, s->experts, s->top_k, s->renormalize ? "true" : "false");
    const int n = snprintf(
        out, sizeof out,
        "{\"architectures\": [\"NomicBertModel\"], \"model_type\": \"nomic_bert\", "
        "\"activation_function\": \"%s\", \"causal\": false, "
        "\"layer_norm_epsilon\": %.17g, \"max_trained_positions\": %d, \"mlp_fc1_bias\": %s, "
        "\"mlp_fc2_bias\": %s, \"n_embd\": %d, \"n_head\": %d, \"n_inner\": %d, \"n_layer\": %d, "
        "\"n_positions\": %d, %s\"pad_token_id\": 1, \"parallel_block\": false, "
        "\"prenorm\": false, \"qkv_proj_bias\": %s, \"rotary_emb_base\": %.17g, "
        "\"rotary_emb_fraction\": %.17g, \"rotary_emb_interleaved\": false, "
        "\"rotary_emb_scale_base\": null, \"rotary_scaling_factor\": null, "
        "\"scale_attn_weights\": true, \"type_vocab_size\": 1, \"use_rms_norm\": false, "
        "\"vocab_size\": %d}",
        s->activation, s->eps, s->positions, bias, bias, s->hidden, s->heads, s->inner, s->layers,
        s->positions, moe, bias, s->rotary_base, s->rotary_fraction, m->vocab);
    assert_in_range(n, 1, sizeof out - 1);
    test_write(m->dir, "config.json", out, n);
}

static void write_bert_config(const tiny_model *m) {
    const tiny_spec *s = &m->spec;
    const int xlmr = s->arch == TINY_XLMR;
    char out[2048];
    const int n = snprintf(
        out, sizeof out,
        "{\"architectures\": [\"%s\"], \"model_type\": \"%s\", \"hidden_act\": \"%s\", "
        "\"hidden_size\": %d, \"num_hidden_layers\": %d, \"num_attention_heads\": %d, "
        "\"intermediate_size\": %d, \"layer_norm_eps\": %.17g, \"max_position_embeddings\": %d, "
        "\"pad_token_id\": %d, \"position_embedding_type\": \"absolute\", "
        "\"type_vocab_size\": %d, \"vocab_size\": %d}",
        xlmr ? "XLMRobertaModel" : "BertModel", xlmr ? "xlm-roberta" : "bert", s->activation,
        s->hidden, s->layers, s->heads, s->inner, s->eps, s->positions + (xlmr ? 2 : 0),
        xlmr ? 1 : 0, xlmr ? 1 : 2, m->vocab);
    assert_in_range(n, 1, sizeof out - 1);
    test_write(m->dir, "config.json", out, n);
}

static int has_mode(const tiny_spec *s, const char *mode) {
    return strcmp(s->pooling, mode) == 0 || (s->pooling2 != NULL && strcmp(s->pooling2, mode) == 0);
}

static const char *flag(int on) {
    return on ? "true" : "false";
}

static void write_pipeline(tiny_model *m) {
    const tiny_spec *s = &m->spec;
    char out[2048];
    const int width = s->hidden * (s->pooling2 != NULL ? 2 : 1);
    (void)snprintf(out, sizeof out,
                   "[{\"idx\": 0, \"name\": \"0\", \"path\": \"\", \"type\": "
                   "\"sentence_transformers.models.Transformer\"}, {\"idx\": 1, \"name\": \"1\", "
                   "\"path\": \"1_Pooling\", \"type\": \"sentence_transformers.models.Pooling\"}"
                   "%s%s]",
                   s->dense > 0 ? ", {\"idx\": 2, \"name\": \"2\", \"path\": \"2_Dense\", "
                                  "\"type\": \"sentence_transformers.models.Dense\"}"
                                : "",
                   s->normalize ? ", {\"idx\": 3, \"name\": \"3\", \"path\": \"3_Normalize\", "
                                  "\"type\": \"sentence_transformers.models.Normalize\"}"
                                : "");
    test_write(m->dir, "modules.json", out, -1);
    (void)snprintf(out, sizeof out,
                   "{\"word_embedding_dimension\": %d, \"pooling_mode_cls_token\": %s, "
                   "\"pooling_mode_mean_tokens\": %s, \"pooling_mode_max_tokens\": %s, "
                   "\"pooling_mode_mean_sqrt_len_tokens\": %s, "
                   "\"pooling_mode_weightedmean_tokens\": %s, \"pooling_mode_lasttoken\": %s, "
                   "\"include_prompt\": %s}",
                   s->hidden, flag(has_mode(s, "cls")), flag(has_mode(s, "mean")),
                   flag(has_mode(s, "max")), flag(has_mode(s, "mean_sqrt_len")),
                   flag(has_mode(s, "weightedmean")), flag(has_mode(s, "lasttoken")),
                   flag(!s->exclude_prompt));
    test_write(m->dir, "1_Pooling/config.json", out, -1);
    (void)snprintf(out, sizeof out, "{\"max_seq_length\": %d, \"do_lower_case\": false}",
                   s->positions);
    test_write(m->dir, "sentence_bert_config.json", out, -1);
    (void)snprintf(out, sizeof out,
                   "{\"prompts\": %s, \"default_prompt_name\": %s%s%s, "
                   "\"similarity_fn_name\": \"cosine\"}",
                   s->prompts != NULL ? s->prompts : "{}", s->default_prompt != NULL ? "\"" : "",
                   s->default_prompt != NULL ? s->default_prompt : "null",
                   s->default_prompt != NULL ? "\"" : "");
    test_write(m->dir, "config_sentence_transformers.json", out, -1);
    if (s->dense == 0)
        return;
    (void)snprintf(out, sizeof out,
                   "{\"in_features\": %d, \"out_features\": %d, \"bias\": true, "
                   "\"activation_function\": \"torch.nn.modules.activation.Tanh\"}",
                   width, s->dense);
    test_write(m->dir, "2_Dense/config.json", out, -1);
}

void tiny_model_make(tiny_model *m, const tiny_spec *spec) {
    uint64_t state = spec->seed;
    *m = (tiny_model){.spec = *spec, .vocab = TINY_FIRST_WORD + spec->words};
    test_dir_make(m->dir);
    if (spec->arch == TINY_NOMIC) {
        add_nomic(m, &state);
        write_nomic_config(m);
    } else {
        add_bert(m, &state);
        write_bert_config(m);
    }
    const int encoder = m->n_tensors;
    write_tensors(m, "model.safetensors", 0, encoder);
    write_tokenizer(m);
    write_pipeline(m);
    if (spec->dense > 0) {
        add_linear(m, &state, spec->dense, spec->hidden * (spec->pooling2 != NULL ? 2 : 1), 1,
                   "linear");
        write_tensors(m, "2_Dense/model.safetensors", encoder, m->n_tensors);
    }
}

void tiny_model_remove(tiny_model *m) {
    for (int i = 0; i < m->n_tensors; i++)
        free(m->tensors[i].data);
    free(m->tensors);
    test_dir_remove(m->dir);
}

const float *tiny_model_tensor(const tiny_model *m, const char *fmt, ...) {
    char name[96];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(name, sizeof name, fmt, args);
    va_end(args);
    for (int i = 0; i < m->n_tensors; i++)
        if (strcmp(m->tensors[i].name, name) == 0)
            return m->tensors[i].data;
    return NULL;
}

void tiny_words(const tiny_model *m, uint64_t *state, size_t n, char *buf, size_t cap) {
    size_t at = 0;
    buf[0] = '\0';
    for (size_t i = 0; i < n; i++) {
        const int word = (int)(test_rand(state) % (uint64_t)m->spec.words);
        at += (size_t)snprintf(buf + at, cap - at, "%sw%d", i > 0 ? " " : "", word);
        assert_true(at < cap);
    }
}
