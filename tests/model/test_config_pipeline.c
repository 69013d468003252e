#include "support/files.h"
#include "support/json_edit.h"

#include "model/config.h"

static char dir[256];

static const char encoder[] = "\"model_type\": \"bert\"\n"
                              "\"hidden_act\": \"gelu\"\n"
                              "\"hidden_size\": 8\n"
                              "\"intermediate_size\": 16\n"
                              "\"layer_norm_eps\": 1e-12\n"
                              "\"max_position_embeddings\": 512\n"
                              "\"num_attention_heads\": 2\n"
                              "\"num_hidden_layers\": 1\n"
                              "\"type_vocab_size\": 2\n"
                              "\"vocab_size\": 100\n";
static const char pooling[] = "\"word_embedding_dimension\": 8\n"
                              "\"pooling_mode_cls_token\": false\n"
                              "\"pooling_mode_mean_tokens\": true\n"
                              "\"pooling_mode_max_tokens\": false\n"
                              "\"pooling_mode_mean_sqrt_len_tokens\": false\n";
static const char dense[] = "\"in_features\": 8\n"
                            "\"out_features\": 5\n"
                            "\"bias\": true\n"
                            "\"activation_function\": \"torch.nn.modules.activation.Tanh\"\n";
static const char settings[] = "\"max_seq_length\": 256\n\"do_lower_case\": false\n";

#define OLD "sentence_transformers.models."
#define MODULE(type, path)                                                                         \
    "{\"idx\": 0, \"name\": \"0\", \"path\": \"" path "\", \"type\": \"" type "\"}"
#define WITH(...)                                                                                  \
    (const test_edit[]) {                                                                          \
        __VA_ARGS__, {                                                                             \
            NULL, NULL                                                                             \
        }                                                                                          \
    }

static void expect(embed_status got, embed_status status, const char *message) {
    if (got != status || strstr(emb_fail_message(), message) == NULL)
        fail_msg("expected %s and \"%s\", found %s and \"%s\"", embed_status_name(status), message,
                 embed_status_name(got), emb_fail_message());
}

/* A small checkpoint's JSON files, as sentence-transformers up to 5 writes them. */
static void write_all(void) {
    test_dir_remove(dir);
    test_dir_make(dir);
    test_write_json(dir, "config.json", encoder, NULL);
    test_write_json(dir, "1_Pooling/config.json", pooling, NULL);
    test_write_json(dir, "2_Dense/config.json", dense, NULL);
    test_write(dir, "modules.json",
               "[" MODULE(OLD "Transformer", "") "," MODULE(OLD "Pooling", "1_Pooling") "]", -1);
    test_write_json(dir, "sentence_bert_config.json", settings, NULL);
    test_write(dir, "tokenizer_config.json", "{\"model_max_length\": 512}", -1);
}

static char logged[512];

static void keep_log(void *user, int32_t level, const char *msg) {
    (void)user;
    (void)level;
    (void)snprintf(logged, sizeof logged, "%s", msg);
}

/* The caller clears it. */
static emb_config read_config(void) {
    emb_env env;
    emb_config config;
    logged[0] = '\0';
    assert_int_equal(emb_env_init(&env, NULL, keep_log, NULL), EMBED_OK);
    if (emb_config_read(&config, &env, dir) != EMBED_OK)
        fail_msg("%s", emb_fail_message());
    return config;
}

static void clear(emb_config *config) {
    const emb_env env = test_env();
    emb_config_clear(config, &env);
}

static embed_status read_status(void) {
    const emb_env env = test_env();
    emb_config config;
    const embed_status st = emb_config_read(&config, &env, dir);
    emb_config_clear(&config, &env);
    return st;
}

static void test_old_files(void **state) {
    (void)state;
    write_all();
    emb_config c = read_config();
    const emb_pipeline_config *p = &c.pipeline;
    assert_int_equal(p->max_tokens, 256);
    assert_true(p->pooling == EMBED_POOL_MEAN && p->n_pooling == 1);
    assert_true(p->include_prompt == 1 && p->normalize == 0 && p->n_dense == 0);
    assert_true(p->n_prompts == 0 && p->default_prompt == -1);
    clear(&c);
    /* all modes, dense, normalize (without a file), prompts */
    test_write_json(dir, "1_Pooling/config.json", pooling,
                    WITH({"pooling_mode_cls_token", "true"}, {"pooling_mode_max_tokens", "true"},
                         {"pooling_mode_mean_sqrt_len_tokens", "true"},
                         {"pooling_mode_weightedmean_tokens", "true"},
                         {"pooling_mode_lasttoken", "true"}, {"include_prompt", "false"}));
    test_write_json(dir, "2_Dense/config.json", dense, WITH({"in_features", "48"}));
    test_write(dir, "modules.json",
               "[" MODULE(OLD "Transformer", "") "," MODULE(OLD "Pooling", "1_Pooling") "," MODULE(
                   OLD "Dense", "2_Dense") "," MODULE(OLD "Normalize", "3_Normalize") "]",
               -1);
    test_write(dir, "config_sentence_transformers.json",
               "{\"__version__\": {}, \"prompts\": {\"query\": \"q: \", \"none\": null, "
               "\"passage\": \"p\\u0000: \"}, \"default_prompt_name\": \"passage\"}",
               -1);
    c = read_config();
    p = &c.pipeline;
    assert_true(p->n_pooling == 6 && p->pooling == 63 && p->include_prompt == 0);
    for (int i = 0; i < 6; i++)
        assert_int_equal(p->pooling_order[i], 1 << i);
    assert_int_equal(p->n_dense, 1);
    assert_string_equal(p->dense[0].dir, "2_Dense");
    assert_true(p->dense[0].in == 48 && p->dense[0].out == 5 && p->dense[0].bias == 1 &&
                p->dense[0].activation == EMB_ACT_TANH);
    assert_int_equal(p->normalize, 1);
    assert_int_equal(p->n_prompts, 3);
    assert_string_equal(p->prompts[0].name, "query");
    assert_string_equal(p->prompts[0].text, "q: ");
    assert_int_equal(p->prompts[1].text_len, 0);
    assert_int_equal(p->prompts[2].text_len, 4);
    assert_memory_equal(p->prompts[2].text, "p\0: ", 5);
    assert_int_equal(p->default_prompt, 2);
    clear(&c);
}

/* What sentence-transformers 6.2.0 writes. */
static void test_new_files(void **state) {
    (void)state;
#define NEW "sentence_transformers.base.modules."
    write_all();
    test_write(dir, "modules.json",
               "[" MODULE(NEW "transformer.Transformer", "") "," MODULE(
                   "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
                   "1_Pooling") "," MODULE(NEW "dense.Dense",
                                           "2_Dense") "," MODULE(NEW "normalize.Normalize",
                                                                 "3_Normalize") "]",
               -1);
    test_write(dir, "1_Pooling/config.json",
               "{\"embedding_dimension\": 8, \"pooling_mode\": [\"mean\", \"cls\"], "
               "\"include_prompt\": true}",
               -1);
    test_write_json(dir, "2_Dense/config.json", dense,
                    WITH({"in_features", "16"}, {"module_input_name", "\"sentence_embedding\""},
                         {"module_output_name", "\"sentence_embedding\""}, {"bias", "false"},
                         {"activation_function", "\"torch.nn.modules.linear.Identity\""}));
    test_write(dir, "3_Normalize/config.json",
               "{\"module_input_name\": \"sentence_embedding\", "
               "\"module_output_name\": \"sentence_embedding\"}",
               -1);
    test_write(dir, "sentence_bert_config.json",
               "{\"transformer_task\": \"feature-extraction\", \"modality_config\": {\"text\": "
               "{\"method\": \"forward\", \"method_output_name\": \"last_hidden_state\"}}, "
               "\"module_output_name\": \"token_embeddings\"}",
               -1);
    test_write(dir, "tokenizer_config.json", "{\"model_max_length\": 20}", -1);
    test_write(dir, "config_sentence_transformers.json",
               "{\"default_prompt_name\": null, \"model_type\": \"SentenceTransformer\", "
               "\"prompts\": {\"document\": \"\", \"query\": \"q: \"}, "
               "\"similarity_fn_name\": \"cosine\"}",
               -1);
    emb_config c = read_config();
    const emb_pipeline_config *p = &c.pipeline;
    assert_int_equal(p->max_tokens, 20);
    assert_true(p->n_pooling == 2 && p->pooling == (EMBED_POOL_MEAN | EMBED_POOL_CLS));
    assert_true(p->pooling_order[0] == EMBED_POOL_MEAN && p->pooling_order[1] == EMBED_POOL_CLS);
    assert_true(p->n_dense == 1 && p->dense[0].bias == 0 && p->dense[0].activation == EMB_ACT_NONE);
    assert_true(p->normalize == 1 && p->n_prompts == 2 && p->default_prompt == -1);
    clear(&c);
    test_write(dir, "1_Pooling/config.json",
               "{\"embedding_dimension\": 8, \"pooling_mode\": \"lasttoken\"}", -1);
    test_write_json(dir, "2_Dense/config.json", dense, NULL);
    c = read_config();
    assert_true(c.pipeline.n_pooling == 1 && c.pipeline.pooling == EMBED_POOL_LAST);
    clear(&c);
}

static void test_no_modules(void **state) {
    (void)state;
    write_all();
    assert_int_equal(remove(test_path(dir, "modules.json")), 0);
    emb_config c = read_config();
    assert_true(c.pipeline.pooling == EMBED_POOL_MEAN && c.pipeline.n_pooling == 1);
    assert_true(c.pipeline.normalize == 0 && c.pipeline.include_prompt == 1);
    assert_int_equal(c.pipeline.max_tokens, 512); /* sentence_bert_config.json belongs to modules */
    assert_non_null(strstr(logged, "no modules.json: mean pooling, no normalisation"));
    clear(&c);
}

static void test_lengths(void **state) {
    (void)state;
    static const struct {
        const char *settings, *tokenizer; /* NULL: no such file */
        int32_t expected;
    } cases[] = {
        {"{\"max_seq_length\": 128}", "{\"model_max_length\": 512}", 128},
        {"{\"max_seq_length\": 384}", "{\"model_max_length\": 128}", 384}, /* decides if given */
        {"{\"max_seq_length\": 8192}", "{}", 512},                         /* the position table */
        {"{\"max_seq_length\": null}", "{\"model_max_length\": 300}", 300},
        {"{}", "{\"model_max_length\": 1000000000000000019884624838656}", 512},
        {"{}", "{\"model_max_length\": 1e30}", 512},
        {"{}", "{}", 512},
        {NULL, "{\"model_max_length\": 77}", 77},
        {NULL, NULL, 512},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_all();
        (void)remove(test_path(dir, "sentence_bert_config.json"));
        (void)remove(test_path(dir, "tokenizer_config.json"));
        if (cases[i].settings != NULL)
            test_write(dir, "sentence_bert_config.json", cases[i].settings, -1);
        if (cases[i].tokenizer != NULL)
            test_write(dir, "tokenizer_config.json", cases[i].tokenizer, -1);
        emb_config c = read_config();
        if (c.pipeline.max_tokens != cases[i].expected)
            fail_msg("case %zu: expected %d, found %d", i, cases[i].expected,
                     c.pipeline.max_tokens);
        clear(&c);
    }
    write_all(); /* xlm-roberta: two rows of the table are never used; the oldest settings file */
    test_write_json(dir, "config.json", encoder,
                    WITH({"model_type", "\"xlm-roberta\""}, {"pad_token_id", "1"},
                         {"max_position_embeddings", "514"}));
    assert_int_equal(remove(test_path(dir, "sentence_bert_config.json")), 0);
    emb_config c = read_config();
    assert_int_equal(c.pipeline.max_tokens, 512);
    clear(&c);
    test_write(dir, "sentence_xlm-roberta_config.json", "{\"max_seq_length\": 99}", -1);
    c = read_config();
    assert_int_equal(c.pipeline.max_tokens, 99);
    clear(&c);
}

static void test_lower_case(void **state) {
    (void)state;
    static const struct {
        const char *normalizer;
        int accepted;
    } cases[] = {
        {"{\"type\": \"BertNormalizer\", \"lowercase\": true}", 1},
        {"{\"type\": \"Lowercase\"}", 1},
        {"{\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"NFC\"}, {\"type\": "
         "\"Lowercase\"}]}",
         1},
        {"{\"type\": \"BertNormalizer\", \"lowercase\": false}", 0},
        {"{\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"NFC\"}]}", 0},
        {"null", 0},
    };
    char text[256];
    write_all();
    test_write_json(dir, "sentence_bert_config.json", settings, WITH({"do_lower_case", "true"}));
    expect(read_status(), EMBED_ERR_IO, "tokenizer.json: cannot open: No such file or directory");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        (void)snprintf(text, sizeof text, "{\"normalizer\": %s}", cases[i].normalizer);
        test_write(dir, "tokenizer.json", text, -1);
        if (cases[i].accepted)
            assert_int_equal(read_status(), EMBED_OK);
        else
            expect(read_status(), EMBED_ERR_UNSUPPORTED,
                   "sentence_bert_config.json: do_lower_case: expected false, or a tokenizer.json "
                   "whose normalizer lowers the text, found true");
    }
}

/* One file is replaced by another text. */
static const struct refusal {
    const char *file, *text;
    embed_status status;
    const char *message;
} refusals[] = {
    {"modules.json", "{}", EMBED_ERR_UNSUPPORTED, "modules.json: expected an array of Transformer"},
    {"modules.json", "[]", EMBED_ERR_UNSUPPORTED, "modules.json: expected an array of Transformer"},
    {"modules.json", "[" MODULE(OLD "Transformer", "") "]", EMBED_ERR_UNSUPPORTED,
     "modules.json: expected an array of Transformer, Pooling ..., found an array of 1"},
    {"modules.json", "[1, 2]", EMBED_ERR_FORMAT, "modules.json: [0]: expected an object, found 1"},
    {"modules.json", "[" MODULE(OLD "CLIPModel", "") "," MODULE(OLD "Pooling", "1_Pooling") "]",
     EMBED_ERR_UNSUPPORTED,
     "modules.json: [0].type: expected a Transformer as first module, found "
     "\"sentence_transformers.models.CLIPModel\""},
    {"modules.json", "[" MODULE(OLD "Transformer", "0_BERT") "," MODULE(OLD "Pooling", "1") "]",
     EMBED_ERR_UNSUPPORTED, "[0].path: expected \"\", the encoder beside modules.json"},
    {"modules.json", "[" MODULE(OLD "Transformer", "") "," MODULE(OLD "Normalize", "1") "]",
     EMBED_ERR_UNSUPPORTED, "[1].type: expected Pooling as second module"},
    {"modules.json",
     "[" MODULE(OLD "Transformer", "") "," MODULE(OLD "Pooling", "1_Pooling") "," MODULE(
         OLD "LayerNorm", "2_LayerNorm") "]",
     EMBED_ERR_UNSUPPORTED,
     "[2].type: expected Dense or Normalize after Pooling, found "
     "\"sentence_transformers.models.LayerNorm\""},
    {"modules.json",
     "[" MODULE(OLD "Transformer", "") "," MODULE(OLD "Pooling", "1_Pooling") "," MODULE(
         OLD "Normalize", "2") "," MODULE(OLD "Dense", "2_Dense") "]",
     EMBED_ERR_UNSUPPORTED, "[3].type: expected nothing after Normalize"},
    {"modules.json",
     "[" MODULE(OLD "Transformer", "") "," MODULE(OLD "Pooling", "../1_Pooling") "]",
     EMBED_ERR_FORMAT, "[1].path: expected a folder inside the checkpoint, found \"../1_Pooling\""},
    {"modules.json", "[" MODULE(OLD "Transformer", "") "," MODULE(OLD "Pooling", "/etc") "]",
     EMBED_ERR_FORMAT, "[1].path: expected a folder inside the checkpoint"},
    {"modules.json", "[" MODULE(OLD "Transformer", "") "," MODULE(OLD "Pooling", "a/../../b") "]",
     EMBED_ERR_FORMAT, "[1].path: expected a folder inside the checkpoint"},
    {"modules.json", "[" MODULE(OLD "Transformer", "") "," MODULE(OLD "Pooling", "gone") "]",
     EMBED_ERR_IO, "gone/config.json: cannot open: No such file or directory"},
    {"modules.json", "[{\"path\": \"\"}, {}]", EMBED_ERR_FORMAT, "[0].type: expected a string"},
    {"1_Pooling/config.json", "{\"word_embedding_dimension\": 8}", EMBED_ERR_FORMAT,
     "pooling_mode_mean_tokens: expected true or false, found nothing"},
    {"1_Pooling/config.json",
     "{\"word_embedding_dimension\": 8, \"pooling_mode_mean_tokens\": false}", EMBED_ERR_FORMAT,
     "pooling_mode: expected a pooling mode, found nothing"},
    {"1_Pooling/config.json", "{\"word_embedding_dimension\": 8, \"pooling_mode_mean_tokens\": 1}",
     EMBED_ERR_FORMAT, "pooling_mode_mean_tokens: expected true or false, found 1"},
    {"1_Pooling/config.json", "{\"embedding_dimension\": 8, \"pooling_mode\": \"attention\"}",
     EMBED_ERR_UNSUPPORTED, "pooling_mode: expected cls, max, mean"},
    {"1_Pooling/config.json", "{\"embedding_dimension\": 8, \"pooling_mode\": [\"mean\", 3]}",
     EMBED_ERR_UNSUPPORTED, "pooling_mode[1]: expected cls, max, mean"},
    {"1_Pooling/config.json", "{\"embedding_dimension\": 8, \"pooling_mode\": [\"cls\", \"cls\"]}",
     EMBED_ERR_UNSUPPORTED, "pooling_mode[1]: expected each mode once"},
    {"1_Pooling/config.json", "{\"embedding_dimension\": 8, \"pooling_mode\": []}",
     EMBED_ERR_FORMAT, "pooling_mode: expected a pooling mode, found an array of 0"},
    {"1_Pooling/config.json", "{\"embedding_dimension\": 9, \"pooling_mode\": \"mean\"}",
     EMBED_ERR_MISMATCH,
     "1_Pooling/config.json: embedding_dimension: expected the encoder's width of 8, found 9"},
    {"1_Pooling/config.json", "{\"pooling_mode\": \"mean\"}", EMBED_ERR_FORMAT,
     "word_embedding_dimension: expected a number, found nothing"},
    {"1_Pooling/config.json",
     "{\"embedding_dimension\": 8, \"pooling_mode\": \"mean\", \"include_prompt\": \"no\"}",
     EMBED_ERR_FORMAT, "include_prompt: expected true or false, found \"no\""},
    {"sentence_bert_config.json", "{\"max_seq_length\": 0}", EMBED_ERR_FORMAT,
     "max_seq_length: expected a number of at least 1, found 0"},
    {"sentence_bert_config.json", "{\"max_seq_length\": \"512\"}", EMBED_ERR_FORMAT,
     "max_seq_length: expected a number, found \"512\""},
    {"sentence_bert_config.json", "{\"transformer_task\": \"text-generation\"}",
     EMBED_ERR_UNSUPPORTED, "transformer_task: expected \"feature-extraction\""},
    {"sentence_bert_config.json", "{\"module_output_name\": \"scores\"}", EMBED_ERR_UNSUPPORTED,
     "module_output_name: expected \"token_embeddings\", found \"scores\""},
    {"sentence_bert_config.json", "{\"modality_config\": {\"image\": {}}}", EMBED_ERR_FORMAT,
     "modality_config.text: expected an object, found nothing"},
    {"sentence_bert_config.json",
     "{\"modality_config\": {\"text\": {\"method\": \"get_text_features\"}}}",
     EMBED_ERR_UNSUPPORTED, "modality_config.text.method: expected \"forward\""},
    {"sentence_bert_config.json",
     "{\"modality_config\": {\"text\": {\"method_output_name\": \"pooler_output\"}}}",
     EMBED_ERR_UNSUPPORTED, "modality_config.text.method_output_name: expected"},
    {"sentence_bert_config.json", "{\"query_length\": 32}", EMBED_ERR_UNSUPPORTED,
     "query_length: expected null, found 32"},
    {"sentence_bert_config.json", "{\"processing_kwargs\": {\"text\": {}}}", EMBED_ERR_UNSUPPORTED,
     "processing_kwargs: expected nothing in it"},
    {"sentence_bert_config.json", "{\"config_args\": {\"rotary_scaling_factor\": 2}}",
     EMBED_ERR_UNSUPPORTED,
     "config_args.rotary_scaling_factor: expected no argument of this name, found 2"},
    {"tokenizer_config.json", "{\"model_max_length\": -1}", EMBED_ERR_FORMAT,
     "tokenizer_config.json: model_max_length: expected a number of at least 1, found -1"},
    {"tokenizer_config.json", "{\"model_max_length\": NaN}", EMBED_ERR_FORMAT, "found nan"},
    {"config_sentence_transformers.json", "{\"model_type\": \"SparseEncoder\"}",
     EMBED_ERR_UNSUPPORTED,
     "model_type: expected \"SentenceTransformer\", found \"SparseEncoder\""},
    {"config_sentence_transformers.json", "{\"prompts\": [\"a\"]}", EMBED_ERR_FORMAT,
     "prompts: expected an object, found an array of 1"},
    {"config_sentence_transformers.json", "{\"prompts\": {\"a\": 1}}", EMBED_ERR_FORMAT,
     "prompts.a: expected a string, found 1"},
    {"config_sentence_transformers.json", "{\"prompts\": {\"a\": \"x\", \"a\": \"y\"}}",
     EMBED_ERR_FORMAT, "prompts.a: expected one value, the key stands there 2 times"},
    {"config_sentence_transformers.json", "{\"prompts\": {\"a\\u0000b\": \"x\"}}", EMBED_ERR_FORMAT,
     "expected a name without NUL bytes"},
    {"config_sentence_transformers.json",
     "{\"prompts\": {\"a\": \"x\"}, \"default_prompt_name\": \"b\"}", EMBED_ERR_MISMATCH,
     "default_prompt_name: expected the name of a prompt, found \"b\""},
};

static void test_refused(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        write_all();
        test_write(dir, refusals[i].file, refusals[i].text, -1);
        expect(read_status(), refusals[i].status, refusals[i].message);
    }
}

static void test_dense_refused(void **state) {
    (void)state;
    static const struct {
        test_edit edit;
        embed_status status;
        const char *message;
    } cases[] = {
        {{"in_features", "9"},
         EMBED_ERR_MISMATCH,
         "2_Dense/config.json: in_features: expected 8, the width of the module before, found 9"},
        {{"out_features", "0"}, EMBED_ERR_FORMAT, "out_features: expected an integer from 1"},
        {{"bias", NULL}, EMBED_ERR_FORMAT, "bias: expected true or false, found nothing"},
        {{"activation_function", NULL}, EMBED_ERR_FORMAT, "activation_function: expected a string"},
        {{"activation_function", "\"torch.nn.modules.activation.Mish\""},
         EMBED_ERR_UNSUPPORTED,
         "activation_function: expected Identity, Tanh, GELU, ReLU, Sigmoid or SiLU of torch.nn, "
         "found \"torch.nn.modules.activation.Mish\""},
        {{"activation_function", "\"mine.Tanh\""}, EMBED_ERR_UNSUPPORTED, "found \"mine.Tanh\""},
        {{"use_residual", "true"}, EMBED_ERR_UNSUPPORTED, "use_residual: expected false"},
        {{"module_input_name", "\"token_embeddings\""},
         EMBED_ERR_UNSUPPORTED,
         "module_input_name: expected \"sentence_embedding\", found \"token_embeddings\""},
    };
#define CHAIN                                                                                      \
    "[" MODULE(OLD "Transformer", "") "," MODULE(OLD "Pooling",                                    \
                                                 "1_Pooling") "," MODULE(OLD "Dense", "2_Dense")
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const test_edit edits[] = {cases[i].edit, {NULL, NULL}};
        write_all();
        test_write(dir, "modules.json", CHAIN "]", -1);
        test_write_json(dir, "2_Dense/config.json", dense, edits);
        expect(read_status(), cases[i].status, cases[i].message);
    }
    write_all(); /* 5 wide after the first, and five of them */
    test_write(dir, "modules.json", CHAIN "," MODULE(OLD "Dense", "2_Dense") "]", -1);
    expect(read_status(), EMBED_ERR_MISMATCH, "in_features: expected 5, the width of the module");
    test_write_json(dir, "2_Dense/config.json", dense, WITH({"out_features", "8"}));
    test_write(dir, "modules.json",
               CHAIN
               "," MODULE(OLD "Dense", "2_Dense") "," MODULE(OLD "Dense", "2_Dense") "," MODULE(
                   OLD "Dense", "2_Dense") "," MODULE(OLD "Dense", "2_Dense") "]",
               -1);
    expect(read_status(), EMBED_ERR_UNSUPPORTED, "[6].type: expected at most 4 Dense modules");
}

static void test_allocation_failures(void **state) {
    (void)state;
    write_all();
    test_write(dir, "modules.json", CHAIN "," MODULE(OLD "Normalize", "3") "]", -1);
    test_write_json(dir, "sentence_bert_config.json", settings, WITH({"do_lower_case", "true"}));
    test_write(dir, "tokenizer.json", "{\"normalizer\": {\"type\": \"Lowercase\"}}", -1);
    test_write(dir, "config_sentence_transformers.json",
               "{\"prompts\": {\"query\": \"q: \", \"document\": \"d: \"}}", -1);
    for (long n = 1;; n++) {
        test_allocator a;
        emb_env env;
        emb_config config;
        test_allocator_init(&a, n);
        assert_int_equal(emb_env_init(&env, &a.allocator, NULL, NULL), EMBED_OK);
        const embed_status st = emb_config_read(&config, &env, dir);
        assert_int_equal(st, a.failed ? EMBED_ERR_NOMEM : EMBED_OK);
        emb_config_clear(&config, &env);
        assert_int_equal(a.live, 0);
        if (!a.failed) {
            assert_true(n > 30);
            return;
        }
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
        cmocka_unit_test(test_old_files),     cmocka_unit_test(test_new_files),
        cmocka_unit_test(test_no_modules),    cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_lower_case),    cmocka_unit_test(test_refused),
        cmocka_unit_test(test_dense_refused), cmocka_unit_test(test_allocation_failures)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
