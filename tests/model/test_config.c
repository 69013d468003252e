#include "support/files.h"
#include "support/json_edit.h"

#include "model/config.h"

static char dir[256];

/* config.json of nomic-embed-text-v1.5, of v2-moe (the keys that differ), of a native nomic model
 * as transformers 5 writes it, of all-MiniLM-L6-v2 and of multilingual-e5-base. */
static const char nomic[] =
    "\"activation_function\": \"swiglu\"\n"
    "\"architectures\": [\"NomicBertModel\"]\n"
    "\"attn_pdrop\": 0.0\n"
    "\"auto_map\": {\"AutoModel\": \"modeling_hf_nomic_bert.NomicBertModel\"}\n"
    "\"causal\": false\n"
    "\"layer_norm_epsilon\": 1e-12\n"
    "\"max_trained_positions\": 2048\n"
    "\"mlp_fc1_bias\": false\n"
    "\"mlp_fc2_bias\": false\n"
    "\"model_type\": \"nomic_bert\"\n"
    "\"n_embd\": 768\n"
    "\"n_head\": 12\n"
    "\"n_inner\": 3072\n"
    "\"n_layer\": 12\n"
    "\"n_positions\": 8192\n"
    "\"pad_vocab_size_multiple\": 64\n"
    "\"parallel_block\": false\n"
    "\"prenorm\": false\n"
    "\"qkv_proj_bias\": false\n"
    "\"rotary_emb_base\": 1000\n"
    "\"rotary_emb_fraction\": 1.0\n"
    "\"rotary_emb_interleaved\": false\n"
    "\"rotary_emb_scale_base\": null\n"
    "\"rotary_scaling_factor\": null\n"
    "\"scale_attn_weights\": true\n"
    "\"type_vocab_size\": 2\n"
    "\"use_rms_norm\": false\n"
    "\"vocab_size\": 30528\n";
static const test_edit moe[] = {{"activation_function", "\"gelu\""},
                                {"expert_choice_router", "false"},
                                {"ffn_div", "1.0"},
                                {"layer_norm_epsilon", "1e-5"},
                                {"mlp_fc1_bias", "true"},
                                {"mlp_fc2_bias", "true"},
                                {"moe_every_n_layers", "2"},
                                {"moe_impl", "\"megablocks\""},
                                {"moe_normalize_expert_weights", "false"},
                                {"moe_top_k", "2"},
                                {"n_positions", "2048"},
                                {"num_experts", "8"},
                                {"num_shared_experts", "0"},
                                {"pad_token_id", "1"},
                                {"qkv_proj_bias", "true"},
                                {"rotary_emb_base", "10000.0"},
                                {"type_vocab_size", "1"},
                                {"use_rms_norm", "null"},
                                {"vocab_size", "250048"},
                                {NULL, NULL}};
static const char native[] =
    "\"architectures\": [\"NomicBertModel\"]\n"
    "\"head_dim\": 64\n"
    "\"hidden_act\": \"silu\"\n"
    "\"hidden_size\": 768\n"
    "\"intermediate_size\": 3000\n"
    "\"layer_norm_eps\": 1e-12\n"
    "\"max_position_embeddings\": 2048\n"
    "\"model_type\": \"nomic_bert\"\n"
    "\"num_attention_heads\": 12\n"
    "\"num_hidden_layers\": 12\n"
    "\"pad_token_id\": 0\n"
    "\"rope_parameters\": {\"rope_theta\": 1000.0, \"rope_type\": \"default\"}\n"
    "\"type_vocab_size\": 2\n"
    "\"vocab_size\": 30528\n";
static const char bert[] = "\"architectures\": [\"BertModel\"]\n"
                           "\"hidden_act\": \"gelu\"\n"
                           "\"hidden_dropout_prob\": 0.1\n"
                           "\"hidden_size\": 384\n"
                           "\"intermediate_size\": 1536\n"
                           "\"layer_norm_eps\": 1e-12\n"
                           "\"max_position_embeddings\": 512\n"
                           "\"model_type\": \"bert\"\n"
                           "\"num_attention_heads\": 12\n"
                           "\"num_hidden_layers\": 6\n"
                           "\"pad_token_id\": 0\n"
                           "\"position_embedding_type\": \"absolute\"\n"
                           "\"type_vocab_size\": 2\n"
                           "\"vocab_size\": 30522\n";
static const test_edit xlmr[] = {{"model_type", "\"xlm-roberta\""},
                                 {"layer_norm_eps", "1e-05"},
                                 {"max_position_embeddings", "514"},
                                 {"pad_token_id", "1"},
                                 {"type_vocab_size", "1"},
                                 {"vocab_size", "250002"},
                                 {NULL, NULL}};

static void expect(embed_status got, embed_status status, const char *message) {
    if (got != status || strstr(emb_fail_message(), message) == NULL)
        fail_msg("expected %s and \"%s\", found %s and \"%s\"", embed_status_name(status), message,
                 embed_status_name(got), emb_fail_message());
}

static emb_encoder_config read_encoder(const char *base, const test_edit *edits) {
    const emb_env env = test_env();
    emb_config config;
    test_write_json(dir, "config.json", base, edits);
    if (emb_config_read(&config, &env, dir) != EMBED_OK)
        fail_msg("%s", emb_fail_message());
    const emb_encoder_config encoder = config.encoder;
    emb_config_clear(&config, &env);
    return encoder;
}

static void test_nomic_original(void **state) {
    (void)state;
    emb_encoder_config c = read_encoder(nomic, NULL);
    assert_int_equal(c.arch, EMB_ARCH_NOMIC_BERT);
    assert_int_equal(c.hidden, 768);
    assert_int_equal(c.layers, 12);
    assert_int_equal(c.heads, 12);
    assert_int_equal(c.head_dim, 64);
    assert_int_equal(c.inner, 3072);
    assert_int_equal(c.vocab, 30528);
    assert_int_equal(c.max_positions, 8192);
    assert_int_equal(c.position_rows, 0);
    assert_int_equal(c.position_offset, 0);
    assert_int_equal(c.type_rows, 2);
    assert_int_equal(c.rotary_dim, 64);
    assert_int_equal(c.activation, EMB_ACT_SILU);
    assert_int_equal(c.gated, 1);
    assert_int_equal(c.qkv_bias + c.out_bias + c.up_bias + c.down_bias, 0);
    assert_true(c.eps == 1e-12f && c.rope_base == 1000);
    assert_int_equal(c.moe_every, 0);
    assert_false(emb_config_is_moe(&c, 1));
    c = read_encoder(nomic, moe);
    assert_int_equal(c.activation, EMB_ACT_GELU);
    assert_int_equal(c.gated, 0);
    assert_int_equal(c.qkv_bias + c.out_bias + c.up_bias + c.down_bias, 4);
    assert_true(c.eps == 1e-5f && c.rope_base == 10000);
    assert_int_equal(c.moe_every, 2);
    assert_int_equal(c.experts, 8);
    assert_int_equal(c.top_k, 2);
    assert_int_equal(c.renormalize, 0);
    assert_int_equal(c.expert_activation, EMB_ACT_GELU);
    assert_int_equal(c.expert_bias, 1);
    assert_true(!emb_config_is_moe(&c, 0) && emb_config_is_moe(&c, 1) && emb_config_is_moe(&c, 11));
}

static void test_nomic_variants(void **state) {
    (void)state;
#define WITH(...)                                                                                  \
    (const test_edit[]) {                                                                          \
        __VA_ARGS__, {                                                                             \
            NULL, NULL                                                                             \
        }                                                                                          \
    }
    /* MLP kinds; inner widths as the authors' class makes them */
    emb_encoder_config c = read_encoder(nomic, WITH({"activation_function", "\"geglu\""}));
    assert_true(c.gated == 1 && c.activation == EMB_ACT_GELU);
    c = read_encoder(nomic, WITH({"activation_function", "\"glu\""}, {"n_inner", "257"}));
    assert_true(c.gated == 1 && c.activation == EMB_ACT_SIGMOID && c.inner == 512);
    c = read_encoder(nomic, WITH({"n_inner", "null"}));
    assert_int_equal(c.inner, 2048);
    c = read_encoder(nomic, WITH({"n_inner", NULL}, {"activation_function", "\"gelu\""}));
    assert_int_equal(c.inner, 3072);
    c = read_encoder(nomic, WITH({"n_inner", "100"}, {"activation_function", "\"gelu\""}));
    assert_int_equal(c.inner, 100);
    /* biases one by one */
    c = read_encoder(nomic, WITH({"mlp_fc2_bias", "true"}));
    assert_true(c.down_bias == 1 && c.up_bias == 0 && c.qkv_bias == 0);
    /* positions */
    c = read_encoder(nomic, WITH({"rotary_emb_fraction", "0.5"}));
    assert_int_equal(c.rotary_dim, 32);
    c = read_encoder(nomic, WITH({"n_positions", "-1"}));
    assert_int_equal(c.max_positions, 2048);
    c = read_encoder(nomic, WITH({"rotary_emb_fraction", "0.0"}, {"rotary_emb_base", NULL},
                                 {"n_positions", "512"}));
    assert_true(c.rotary_dim == 0 && c.position_rows == 512 && c.max_positions == 512);
    c = read_encoder(nomic, WITH({"rotary_scaling_factor", "2"}));
    assert_int_equal(c.max_positions, 2048); /* beyond, the base would change */
    c = read_encoder(nomic,
                     WITH({"rotary_scaling_factor", "2"}, {"max_trained_positions", "9000"}));
    assert_int_equal(c.max_positions, 8192);
    /* experts */
    c = read_encoder(nomic, WITH({"activation_function", "\"gelu\""}, {"num_experts", "4"},
                                 {"moe_every_n_layers", "3"}, {"moe_top_k", "1"},
                                 {"moe_normalize_expert_weights", "true"}));
    assert_true(c.renormalize == 1 && emb_config_is_moe(&c, 4) && !emb_config_is_moe(&c, 3));
    c = read_encoder(nomic, WITH({"num_experts", "0"}, {"moe_every_n_layers", "2"}));
    assert_true(c.experts == 0 && c.moe_every == 0);
}

static void test_nomic_native(void **state) {
    (void)state;
    emb_encoder_config c = read_encoder(native, NULL);
    assert_true(c.hidden == 768 && c.layers == 12 && c.heads == 12 && c.head_dim == 64);
    assert_int_equal(c.inner, 3000); /* not rounded */
    assert_true(c.gated == 1 && c.activation == EMB_ACT_SILU);
    assert_int_equal(c.qkv_bias + c.out_bias + c.up_bias + c.down_bias, 0);
    assert_true(c.eps == 1e-12f && c.rope_base == 1000 && c.rotary_dim == 64);
    assert_true(c.max_positions == 2048 && c.position_rows == 0);
    c = read_encoder(native, WITH({"hidden_act", "\"gelu\""}));
    assert_true(c.gated == 1 && c.activation == EMB_ACT_GELU);
    /* Both generations of keys in one file, in agreement; of two lengths the smaller. */
    c = read_encoder(nomic, WITH({"hidden_size", "768"}, {"num_hidden_layers", "12"},
                                 {"layer_norm_eps", "1e-12"}, {"hidden_act", "\"silu\""},
                                 {"intermediate_size", "3072"}, {"max_position_embeddings", "2048"},
                                 {"rope_parameters", "{\"rope_theta\": 1e3}"}));
    assert_true(c.max_positions == 2048 && c.inner == 3072 && c.activation == EMB_ACT_SILU);
}

static void test_bert(void **state) {
    (void)state;
    emb_encoder_config c = read_encoder(bert, NULL);
    assert_int_equal(c.arch, EMB_ARCH_BERT);
    assert_true(c.hidden == 384 && c.layers == 6 && c.heads == 12 && c.head_dim == 32);
    assert_true(c.inner == 1536 && c.vocab == 30522 && c.type_rows == 2);
    assert_true(c.position_rows == 512 && c.position_offset == 0 && c.max_positions == 512);
    assert_true(c.rotary_dim == 0 && c.gated == 0 && c.activation == EMB_ACT_GELU);
    assert_int_equal(c.qkv_bias + c.out_bias + c.up_bias + c.down_bias, 4);
    c = read_encoder(bert, WITH({"hidden_act", "\"gelu_new\""}));
    assert_int_equal(c.activation, EMB_ACT_GELU_TANH);
    c = read_encoder(bert, WITH({"hidden_act", "\"relu\""}, {"position_embedding_type", NULL}));
    assert_int_equal(c.activation, EMB_ACT_RELU);
    c = read_encoder(bert, xlmr);
    assert_int_equal(c.arch, EMB_ARCH_XLM_ROBERTA);
    assert_true(c.position_rows == 514 && c.position_offset == 2 && c.max_positions == 512);
    assert_true(c.eps == 1e-5f && c.type_rows == 1);
}

static const struct refusal {
    const char *base;
    test_edit edit;
    embed_status status;
    const char *message;
} refusals[] = {
    /* What is asked for is not computed here. */
    {nomic,
     {"model_type", "\"mpnet\""},
     EMBED_ERR_UNSUPPORTED,
     "config.json: model_type: expected nomic_bert, bert or xlm-roberta, found \"mpnet\""},
    {nomic, {"prenorm", "true"}, EMBED_ERR_UNSUPPORTED, "prenorm: expected false, found true"},
    {nomic, {"parallel_block", "true"}, EMBED_ERR_UNSUPPORTED, "parallel_block: expected false"},
    {nomic, {"use_rms_norm", "true"}, EMBED_ERR_UNSUPPORTED, "use_rms_norm: expected false"},
    {nomic, {"norm_mlp", "true"}, EMBED_ERR_UNSUPPORTED, "norm_mlp: expected false, found true"},
    {nomic, {"causal", "true"}, EMBED_ERR_UNSUPPORTED, "causal: expected false, found true"},
    {nomic, {"causal", "0"}, EMBED_ERR_UNSUPPORTED, "causal: expected false, found 0"},
    {nomic, {"scale_attn_weights", "false"}, EMBED_ERR_UNSUPPORTED, "expected true, found false"},
    {nomic,
     {"rotary_emb_interleaved", "true"},
     EMBED_ERR_UNSUPPORTED,
     "rotary_emb_interleaved: expected false, found true"},
    {nomic,
     {"rotary_emb_scale_base", "512"},
     EMBED_ERR_UNSUPPORTED,
     "rotary_emb_scale_base: expected null, found 512"},
    {nomic,
     {"rotary_emb_fraction", "0.3"},
     EMBED_ERR_UNSUPPORTED,
     "rotary_emb_fraction: expected an even number of rotated dimensions of 64, found 0.3"},
    {nomic, {"rotary_emb_fraction", "1.5"}, EMBED_ERR_UNSUPPORTED, "rotary_emb_fraction: expected"},
    {nomic,
     {"rope_scaling", "{\"type\": \"dynamic\"}"},
     EMBED_ERR_UNSUPPORTED,
     "rope_scaling: expected null, found an object of 1"},
    {nomic, {"use_alibi", "true"}, EMBED_ERR_UNSUPPORTED, "use_alibi: expected false"},
    {nomic,
     {"position_embedding_type", "\"alibi\""},
     EMBED_ERR_UNSUPPORTED,
     "position_embedding_type: expected \"rope\", found \"alibi\""},
    {nomic,
     {"activation_function", "\"gelu_new\""},
     EMBED_ERR_UNSUPPORTED,
     "activation_function: expected gelu, swiglu, geglu or glu, found \"gelu_new\""},
    {nomic, {"expert_choice_router", "true"}, EMBED_ERR_UNSUPPORTED, "expected false, found true"},
    {nomic,
     {"num_shared_experts", "1"},
     EMBED_ERR_UNSUPPORTED,
     "num_shared_experts: expected 0, found 1"},
    {nomic, {"ffn_div", "2"}, EMBED_ERR_UNSUPPORTED, "ffn_div: expected 1, found 2"},
    {nomic,
     {"moe_impl", "\"contrastors\""},
     EMBED_ERR_UNSUPPORTED,
     "moe_impl: expected megablocks, found \"contrastors\""},
    {nomic, {"num_heads_kv", "4"}, EMBED_ERR_UNSUPPORTED, "num_heads_kv: expected 12"},
    {nomic,
     {"quantization_config", "{\"bits\": 4}"},
     EMBED_ERR_UNSUPPORTED,
     "quantization_config: expected null"},
    {native,
     {"head_dim", "32"},
     EMBED_ERR_UNSUPPORTED,
     "head_dim: expected 64 for a width of 768 and 12 heads, found 32"},
    {native,
     {"hidden_act", "\"relu\""},
     EMBED_ERR_UNSUPPORTED,
     "hidden_act: expected silu, gelu or sigmoid, found \"relu\""},
    {native,
     {"rope_parameters", "{\"rope_theta\": 1e3, \"rope_type\": \"yarn\"}"},
     EMBED_ERR_UNSUPPORTED,
     "rope_parameters.rope_type: expected \"default\", found \"yarn\""},
    {native,
     {"rope_parameters", "{\"rope_theta\": 1e3, \"partial_rotary_factor\": 0.5}"},
     EMBED_ERR_UNSUPPORTED,
     "rope_parameters.partial_rotary_factor: expected 1, found 0.5"},
    {bert, {"model_type", "\"roberta\""}, EMBED_ERR_UNSUPPORTED, "found \"roberta\""},
    {bert, {"is_decoder", "true"}, EMBED_ERR_UNSUPPORTED, "is_decoder: expected false"},
    {bert, {"add_cross_attention", "true"}, EMBED_ERR_UNSUPPORTED, "add_cross_attention: expected"},
    {bert,
     {"hidden_act", "\"quick_gelu\""},
     EMBED_ERR_UNSUPPORTED,
     "hidden_act: expected gelu, gelu_new, gelu_pytorch_tanh, relu or silu, found \"quick_gelu\""},
    {bert,
     {"position_embedding_type", "\"relative_key\""},
     EMBED_ERR_UNSUPPORTED,
     "position_embedding_type: expected \"absolute\", found \"relative_key\""},
    {bert,
     {"feed_forward_type", "\"geglu\""},
     EMBED_ERR_UNSUPPORTED,
     "feed_forward_type: expected original, found \"geglu\""},
    {bert,
     {"auto_map", "{\"AutoModel\": \"custom.Model\"}"},
     EMBED_ERR_UNSUPPORTED,
     "auto_map.AutoModel: expected a model that needs no code of its own, found \"custom.Model\""},
    /* Nothing is guessed. */
    {nomic,
     {"layer_norm_epsilon", NULL},
     EMBED_ERR_FORMAT,
     "layer_norm_eps: expected a number here or as layer_norm_epsilon, found nothing"},
    {nomic,
     {"rotary_emb_base", NULL},
     EMBED_ERR_FORMAT,
     "rotary_emb_base: expected a number, found nothing"},
    {nomic, {"rotary_emb_base", "null"}, EMBED_ERR_FORMAT, "rotary_emb_base: expected a number"},
    {nomic,
     {"rotary_emb_base", "0"},
     EMBED_ERR_FORMAT,
     "rotary_emb_base: expected a number above 0"},
    {nomic,
     {"rotary_emb_fraction", NULL},
     EMBED_ERR_FORMAT,
     "rotary_emb_fraction: expected a number"},
    {nomic,
     {"activation_function", NULL},
     EMBED_ERR_FORMAT,
     "activation_function: expected a name"},
    {nomic, {"qkv_proj_bias", NULL}, EMBED_ERR_FORMAT, "qkv_proj_bias: expected true or false"},
    {nomic, {"mlp_fc1_bias", NULL}, EMBED_ERR_FORMAT, "mlp_fc1_bias: expected true or false"},
    {nomic, {"mlp_fc2_bias", "null"}, EMBED_ERR_FORMAT, "mlp_fc2_bias: expected true or false"},
    {nomic,
     {"n_positions", NULL},
     EMBED_ERR_FORMAT,
     "n_positions: expected a number, found nothing"},
    {nomic,
     {"n_head", NULL},
     EMBED_ERR_FORMAT,
     "num_attention_heads: expected a number here or as n_head, found nothing"},
    {nomic, {"n_layer", "0"}, EMBED_ERR_FORMAT, "n_layer: expected an integer from 1 to 4096"},
    {nomic,
     {"n_head", "11"},
     EMBED_ERR_FORMAT,
     "n_head: expected a divisor of the width 768, found 11"},
    {nomic, {"n_embd", "768.5"}, EMBED_ERR_FORMAT, "n_embd: expected an integer"},
    {nomic, {"n_embd", "2147483647"}, EMBED_ERR_FORMAT, "n_embd: expected an integer from 1 to"},
    {nomic, {"n_inner", "-4"}, EMBED_ERR_FORMAT, "n_inner: expected an integer from 1 to"},
    {nomic, {"vocab_size", NULL}, EMBED_ERR_FORMAT, "vocab_size: expected a number, found nothing"},
    {nomic, {"type_vocab_size", NULL}, EMBED_ERR_FORMAT, "type_vocab_size: expected a number"},
    {nomic,
     {"num_experts", "8"},
     EMBED_ERR_FORMAT,
     "moe_every_n_layers: expected a number, found nothing"},
    {nomic, {"moe_every_n_layers", "2"}, EMBED_ERR_FORMAT, "num_experts: expected a number"},
    {nomic, {"model_type", NULL}, EMBED_ERR_FORMAT, "model_type: expected a string, found nothing"},
    {native, {"layer_norm_eps", NULL}, EMBED_ERR_FORMAT, "layer_norm_eps: expected a number"},
    {native,
     {"layer_norm_eps", "-1"},
     EMBED_ERR_FORMAT,
     "layer_norm_eps: expected a number of at least 0 and below 1, found -1"},
    {native, {"rope_parameters", NULL}, EMBED_ERR_FORMAT, "rope_parameters: expected an object"},
    {native,
     {"rope_parameters", "{}"},
     EMBED_ERR_FORMAT,
     "rope_parameters.rope_theta: expected a number, found nothing"},
    {native, {"hidden_act", NULL}, EMBED_ERR_FORMAT, "hidden_act: expected a name, found nothing"},
    {native,
     {"hidden_size", NULL},
     EMBED_ERR_FORMAT,
     "hidden_size: expected a number here or as n_embd, found nothing"},
    {native,
     {"max_position_embeddings", NULL},
     EMBED_ERR_FORMAT,
     "max_position_embeddings: expected"},
    {bert, {"layer_norm_eps", NULL}, EMBED_ERR_FORMAT, "layer_norm_eps: expected a number"},
    {bert, {"hidden_act", NULL}, EMBED_ERR_FORMAT, "hidden_act: expected a string, found nothing"},
    {bert,
     {"max_position_embeddings", NULL},
     EMBED_ERR_FORMAT,
     "max_position_embeddings: expected"},
    {bert,
     {"hidden_size", "\"384\""},
     EMBED_ERR_FORMAT,
     "hidden_size: expected a number, found \"384\""},
    /* The file contradicts itself. */
    {nomic,
     {"layer_norm_eps", "1e-5"},
     EMBED_ERR_MISMATCH,
     "layer_norm_eps: expected 1e-12, as in layer_norm_epsilon, found 1e-05"},
    {nomic,
     {"hidden_size", "1024"},
     EMBED_ERR_MISMATCH,
     "hidden_size: expected 768, as in n_embd, found 1024"},
    {nomic,
     {"rope_parameters", "{\"rope_theta\": 10000.0}"},
     EMBED_ERR_MISMATCH,
     "rope_parameters.rope_theta: expected 1000, as in rotary_emb_base, found 10000"},
    {nomic,
     {"hidden_act", "\"gelu\""},
     EMBED_ERR_MISMATCH,
     "hidden_act: expected what activation_function \"swiglu\" means, found \"gelu\""},
};

static embed_status read_status(void) {
    const emb_env env = test_env();
    emb_config config;
    const embed_status st = emb_config_read(&config, &env, dir);
    if (st != EMBED_OK) { /* empty */
        static const emb_config empty;
        assert_memory_equal(&config, &empty, sizeof config);
    }
    emb_config_clear(&config, &env);
    return st;
}

static void test_refused(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        const test_edit edits[] = {refusals[i].edit, {NULL, NULL}};
        test_write_json(dir, "config.json", refusals[i].base, edits);
        expect(read_status(), refusals[i].status, refusals[i].message);
        expect(EMBED_OK, EMBED_OK, "config.json: "); /* the file is named */
    }
    /* Refusals that take two keys. */
    test_write_json(dir, "config.json", nomic,
                    WITH({"num_experts", "8"}, {"moe_every_n_layers", "2"}));
    expect(read_status(), EMBED_ERR_UNSUPPORTED,
           "activation_function: expected gelu in a model with");
    test_edit edits[sizeof moe / sizeof *moe];
    memcpy(edits, moe, sizeof moe);
    static const test_edit wrong[] = {
        {"moe_top_k", "9"}, {"moe_top_k", NULL}, {"moe_normalize_expert_weights", "2"}};
    static const char *const messages[] = {"moe_top_k: expected an integer from 1 to 8, found 9",
                                           "moe_top_k: expected a number, found nothing",
                                           "moe_normalize_expert_weights: expected true or false"};
    for (size_t i = 0; i < 3; i++) {
        for (size_t k = 0; moe[k].key != NULL; k++)
            edits[k] = strcmp(moe[k].key, wrong[i].key) == 0 ? wrong[i] : moe[k];
        test_write_json(dir, "config.json", nomic, edits);
        expect(read_status(), i < 2 ? EMBED_ERR_FORMAT : EMBED_ERR_UNSUPPORTED, messages[i]);
    }
    test_write_json(dir, "config.json", bert,
                    WITH({"model_type", "\"xlm-roberta\""}, {"pad_token_id", NULL}));
    expect(read_status(), EMBED_ERR_FORMAT, "pad_token_id: expected a number, found nothing");
    test_write_json(dir, "config.json", bert,
                    WITH({"model_type", "\"xlm-roberta\""}, {"pad_token_id", "511"}));
    expect(read_status(), EMBED_ERR_FORMAT,
           "max_position_embeddings: expected more than pad_token_id + 1 = 512, found 512");
}

static void test_files(void **state) {
    (void)state;
    test_write(dir, "config.json",
               "{\"model_type\": \"bert\", \"hidden_size\": 8, \"hidden_size\": 9}", -1);
    expect(read_status(), EMBED_ERR_FORMAT, "the key stands there 2 times");
    test_write(dir, "config.json", "{\"model_type\"", -1);
    expect(read_status(), EMBED_ERR_FORMAT, "config.json: expected JSON, line 1");
    test_write(dir, "config.json", "[]", -1);
    expect(read_status(), EMBED_ERR_FORMAT, "config.json: expected an object");
    assert_int_equal(remove(test_path(dir, "config.json")), 0);
    expect(read_status(), EMBED_ERR_IO, "config.json: cannot open: No such file or directory");
    test_write(dir, "config.json/x", "", 0);
    expect(read_status(), EMBED_ERR_IO, "config.json: expected a file, found a directory");
    assert_int_equal(remove(test_path(dir, "config.json/x")), 0);
    assert_int_equal(remove(test_path(dir, "config.json")), 0);
}

/* Whatever stands in config.json: a status, never a crash. */
static void test_random_damage(void **state) {
    (void)state;
    static const char likely[] = "0123456789-.eE[]{},:\"truefalsn ";
    uint64_t seed = 20261123;
    static char text[4096], copy[4096];
    test_write_json(dir, "config.json", nomic, moe);
    FILE *f = fopen(test_path(dir, "config.json"), "rb");
    assert_non_null(f);
    const size_t size = fread(text, 1, sizeof text, f);
    (void)fclose(f);
    print_message("seed %llu\n", (unsigned long long)seed);
    for (int round = 0; round < 2000; round++) {
        memcpy(copy, text, size);
        for (uint64_t edits = 1 + test_rand(&seed) % 3; edits > 0; edits--)
            copy[test_rand(&seed) % size] = likely[test_rand(&seed) % (sizeof likely - 1)];
        test_write(dir, "config.json", copy, (long)size);
        const embed_status st = read_status();
        if (st != EMBED_OK && st != EMBED_ERR_FORMAT && st != EMBED_ERR_UNSUPPORTED &&
            st != EMBED_ERR_MISMATCH)
            fail_msg("round %d: %s", round, emb_fail_message());
    }
}

static int setup(void **state) {
    (void)state;
    test_dir_make(dir);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    test_dir_remove(dir);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nomic_original), cmocka_unit_test(test_nomic_variants),
        cmocka_unit_test(test_nomic_native),   cmocka_unit_test(test_bert),
        cmocka_unit_test(test_refused),        cmocka_unit_test(test_random_damage),
        cmocka_unit_test(test_files)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
