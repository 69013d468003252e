#include "support/checkpoint.h"
#include "support/files.h"

#include "model/weights.h"

static char dir[256];

static void expect(embed_status got, embed_status status, const char *message) {
    if (got != status || strstr(emb_fail_message(), message) == NULL)
        fail_msg("expected %s and \"%s\", found %s and \"%s\"", embed_status_name(status), message,
                 embed_status_name(got), emb_fail_message());
}

static void write_model(const emb_config *c, const char *prefix, const test_change *change) {
    uint64_t seed = 7;
    test_tensors t;
    test_tensors_init(&t);
    test_checkpoint_add(&t, c, prefix, EMBED_F32, change, &seed);
    test_tensors_write(&t, dir, "model.safetensors", 8);
}

static embed_status open_status(const emb_config *c) {
    static const emb_weights empty;
    const emb_env env = test_env();
    emb_weights w;
    const embed_status st = emb_weights_open(&w, &env, dir, c);
    if (st != EMBED_OK)
        assert_memory_equal(&w, &empty, sizeof w);
    else
        emb_weights_close(&w, &env, c);
    return st;
}

enum { BERT, GATED, EXPERTS };

static const struct refusal {
    int model;
    test_change change;
    embed_status status;
    const char *message;
} refusals[] = {
    {BERT,
     {"embeddings.word_embeddings.weight", NULL, NULL, 0},
     EMBED_ERR_MISMATCH,
     "expected a tensor embeddings.word_embeddings.weight, with or without a prefix, found none"},
    {BERT,
     {"embeddings.position_embeddings.weight", "63,8", "F32", 0},
     EMBED_ERR_MISMATCH,
     "embeddings.position_embeddings.weight: expected [64,8] (max_position_embeddings, "
     "n_positions), found [63,8]"},
    {BERT,
     {"embeddings.token_type_embeddings.weight", "1,8", "F32", 0},
     EMBED_ERR_MISMATCH,
     "expected [2,8] (type_vocab_size), found [1,8]"},
    {BERT,
     {"encoder.layer.1.attention.self.key.bias", NULL, NULL, 0},
     EMBED_ERR_MISMATCH,
     "x.encoder.layer.1.attention.self.key.bias: expected [8] (hidden_size), found nothing"},
    {BERT,
     {"encoder.layer.0.intermediate.dense.weight", "13,8", "F32", 0},
     EMBED_ERR_MISMATCH,
     "x.encoder.layer.0.intermediate.dense.weight: expected [12,8] (hidden_size and "
     "intermediate_size), found [13,8]"},
    {BERT,
     {"encoder.layer.0.output.dense.weight", "96", "F32", 0},
     EMBED_ERR_MISMATCH,
     "expected [8,12] (hidden_size and intermediate_size), found [96]"},
    {BERT,
     {"encoder.layer.0.output.dense.weight", "8,12,1", "F32", 0},
     EMBED_ERR_MISMATCH,
     "found [8,12,1]"},
    {BERT,
     {"encoder.layer.0.output.LayerNorm.bias", "1,8", "F32", 0},
     EMBED_ERR_MISMATCH,
     "expected [8] (hidden_size), found [1,8]"},
    {BERT,
     {"encoder.layer.0.output.dense.weight", "8,12", "I64", 0},
     EMBED_ERR_UNSUPPORTED,
     "x.encoder.layer.0.output.dense.weight: expected F32, F16 or BF16, found I64"},
    {BERT,
     {"encoder.layer.0.output.dense.bias", "8", "I64", 0},
     EMBED_ERR_UNSUPPORTED,
     "x.encoder.layer.0.output.dense.bias: expected F32, F16 or BF16, found I64"},
    {BERT,
     {"encoder.layer.1.attention.self.distance_embedding.weight", "3,4", "F32", 1},
     EMBED_ERR_MISMATCH,
     "x.encoder.layer.1.attention.self.distance_embedding.weight: expected no such tensor in the "
     "encoder that config.json describes, found [3,4]"},
    {BERT,
     {"y.embeddings.word_embeddings.weight", "20,8", "F32", 1},
     EMBED_ERR_UNSUPPORTED,
     "expected one encoder, found two: x.embeddings.word_embeddings.weight and "
     "x.y.embeddings.word_embeddings.weight"},
    {GATED,
     {"encoder.layers.0.attn.Wqkv.weight", "23,8", "F32", 0},
     EMBED_ERR_MISMATCH,
     "x.encoder.layers.0.attn.Wqkv.weight: expected [24,8] (n_embd, hidden_size), found [23,8]"},
    {GATED,
     {"encoder.layers.1.mlp.fc12.weight", "11,8", "F32", 0},
     EMBED_ERR_MISMATCH,
     "x.encoder.layers.1.mlp.fc12.weight: expected [12,8] (n_embd and n_inner, hidden_size and "
     "intermediate_size), found [11,8]"},
    {GATED,
     {"emb_ln.weight", NULL, NULL, 0},
     EMBED_ERR_MISMATCH,
     "x.emb_ln.weight: expected [8] (n_embd, hidden_size), found nothing"},
    {GATED,
     {"embeddings.position_embeddings.weight", "9,8", "F32", 1},
     EMBED_ERR_MISMATCH,
     "x.embeddings.position_embeddings.weight: expected no such tensor"},
    {EXPERTS,
     {"encoder.layers.1.mlp.experts.mlp.w1", "36,7", "F32", 0},
     EMBED_ERR_MISMATCH,
     "x.encoder.layers.1.mlp.experts.mlp.w1: expected [36,8] (num_experts, n_inner and n_embd), "
     "found [36,7]"},
    {EXPERTS,
     {"encoder.layers.3.mlp.experts.bias", NULL, NULL, 0},
     EMBED_ERR_MISMATCH,
     "x.encoder.layers.3.mlp.experts.bias: expected [8] (num_experts, n_inner and n_embd), found "
     "nothing"},
    {EXPERTS,
     {"encoder.layers.1.mlp.router.layer.bias", "3", "F32", 1},
     EMBED_ERR_MISMATCH,
     "x.encoder.layers.1.mlp.router.layer.bias: expected no such tensor"},
};

static void test_one_tensor(void **state) {
    (void)state;
    const emb_config models[] = {test_config_bert(), test_config_nomic(1, 1), test_config_moe()};
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        write_model(&models[refusals[i].model], "x.", &refusals[i].change);
        expect(open_status(&models[refusals[i].model]), refusals[i].status, refusals[i].message);
        expect(EMBED_OK, EMBED_OK, "model.safetensors: "); /* the file is named */
    }
}

/* The configuration denies biases, makes the MLP another kind, or places experts elsewhere. */
static void test_other_encoder(void **state) {
    (void)state;
    emb_config gated = test_config_nomic(1, 1), moe = test_config_moe(), c = gated;
    write_model(&gated, "", NULL);
    c.encoder.qkv_bias = c.encoder.out_bias = 0;
    expect(open_status(&c), EMBED_ERR_MISMATCH,
           "encoder.layers.0.attn.Wqkv.bias: expected no such tensor");
    c = gated;
    c.encoder.gated = 0;
    expect(open_status(&c), EMBED_ERR_MISMATCH, "encoder.layers.0.mlp.fc1.weight: expected [12,8]");
    c = test_config_bert();
    expect(open_status(&c), EMBED_ERR_MISMATCH,
           "embeddings.position_embeddings.weight: expected [64,8]");
    write_model(&moe, "", NULL);
    c = moe;
    c.encoder.moe_every = 3;
    expect(open_status(&c), EMBED_ERR_MISMATCH, "encoder.layers.3.mlp.fc1.weight: expected [12,8]");
    c = moe;
    c.encoder.experts = 4;
    expect(open_status(&c), EMBED_ERR_MISMATCH, "mlp.router.layer.weight: expected [4,8]");
}

static char logged[512];

static void keep_log(void *user, int32_t level, const char *msg) {
    (void)user;
    (void)level;
    (void)snprintf(logged, sizeof logged, "%s", msg);
}

/* Fewer layers than the file has: used so on purpose, and said. */
static void test_fewer_layers(void **state) {
    (void)state;
    emb_config c = test_config_bert();
    emb_env env;
    emb_weights w;
    write_model(&c, "", NULL);
    c.encoder.layers = 1;
    assert_int_equal(emb_env_init(&env, NULL, keep_log, NULL), EMBED_OK);
    assert_int_equal(emb_weights_open(&w, &env, dir, &c), EMBED_OK);
    emb_weights_close(&w, &env, &c);
    assert_non_null(strstr(logged, "layers 1 to 1 are not used: config.json has 1 layers"));
    c.encoder.layers = 3;
    expect(
        open_status(&c), EMBED_ERR_MISMATCH,
        "encoder.layer.2.attention.self.query.weight: expected [8,8] (hidden_size), found nothing");
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_one_tensor),
                                       cmocka_unit_test(test_other_encoder),
                                       cmocka_unit_test(test_fewer_layers)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
