#include "support/checkpoint.h"

#include "base/dtype.h"

emb_config test_config_nomic(int32_t gated, int32_t biases) {
    emb_config c = {.encoder = {.arch = EMB_ARCH_NOMIC_BERT,
                                .hidden = 8,
                                .layers = 2,
                                .heads = 2,
                                .head_dim = 4,
                                .inner = 12,
                                .vocab = 20,
                                .max_positions = 64,
                                .type_rows = 2,
                                .rotary_dim = 4,
                                .activation = gated ? EMB_ACT_SILU : EMB_ACT_GELU,
                                .gated = gated,
                                .qkv_bias = biases,
                                .out_bias = biases,
                                .up_bias = biases,
                                .down_bias = biases,
                                .eps = 1e-5f,
                                .rope_base = 1000}};
    return c;
}

emb_config test_config_moe(void) {
    emb_config c = test_config_nomic(0, 1);
    c.encoder.layers = 4;
    c.encoder.moe_every = 2;
    c.encoder.experts = 3;
    c.encoder.top_k = 2;
    c.encoder.expert_bias = 1;
    c.encoder.expert_activation = EMB_ACT_GELU;
    return c;
}

emb_config test_config_bert(void) {
    emb_config c = test_config_nomic(0, 1);
    c.encoder.arch = EMB_ARCH_BERT;
    c.encoder.rotary_dim = 0;
    c.encoder.position_rows = c.encoder.max_positions;
    return c;
}

typedef struct writer {
    test_tensors *t;
    const char *prefix;
    const test_change *change;
    uint64_t *seed;
    int32_t dtype;
    int32_t layer; /* -1: none */
    const char *layers;
} writer;

static size_t product(const char *shape) {
    size_t n = 1;
    for (const char *p = shape; *p != '\0';) {
        char *end;
        n *= (size_t)strtoul(p, &end, 10);
        p = *end == ',' ? end + 1 : end;
    }
    return n;
}

static void add_changed(writer *w, const char *full, const test_change *change) {
    const size_t bytes = product(change->shape) * (change->dtype[0] == 'F'   ? 4
                                                   : change->dtype[0] == 'I' ? 8
                                                                             : 2);
    void *zeros = calloc(1, bytes + 1);
    assert_non_null(zeros);
    test_tensors_add_bytes(w->t, full, change->dtype, change->shape, zeros, bytes);
    free(zeros);
}

static void add(writer *w, const char *part, int64_t rows, int64_t cols) {
    char name[128], full[256];
    if (w->layer < 0)
        (void)snprintf(name, sizeof name, "%s", part);
    else
        (void)snprintf(name, sizeof name, "%s.%d.%s", w->layers, w->layer, part);
    (void)snprintf(full, sizeof full, "%s%s", w->prefix, name);
    const test_change *change = w->change;
    if (change == NULL || change->add || change->name == NULL || strcmp(change->name, name) != 0)
        test_tensors_add(w->t, full, w->dtype, rows, cols, NULL, 1, w->seed);
    else if (change->shape != NULL)
        add_changed(w, full, change);
}

static void add_linear(writer *w, const char *part, int64_t rows, int64_t cols, int32_t bias) {
    char name[128];
    (void)snprintf(name, sizeof name, "%s.weight", part);
    add(w, name, rows, cols);
    (void)snprintf(name, sizeof name, "%s.bias", part);
    if (bias)
        add(w, name, rows, 0);
}

static void add_norm(writer *w, const char *part, int64_t size) {
    char name[128];
    (void)snprintf(name, sizeof name, "%s.weight", part);
    add(w, name, size, 0);
    (void)snprintf(name, sizeof name, "%s.bias", part);
    add(w, name, size, 0);
}

static void add_nomic_layer(writer *w, const emb_encoder_config *c) {
    const int64_t h = c->hidden;
    add_linear(w, "attn.Wqkv", 3 * h, h, c->qkv_bias);
    add_linear(w, "attn.out_proj", h, h, c->out_bias);
    add_norm(w, "norm1", h);
    if (emb_config_is_moe(c, w->layer)) {
        add(w, "mlp.router.layer.weight", c->experts, h);
        add(w, "mlp.experts.mlp.w1", (int64_t)c->experts * c->inner, h);
        add(w, "mlp.experts.mlp.w2", (int64_t)c->experts * c->inner, h);
        add(w, "mlp.experts.bias", h, 0);
    } else {
        add_linear(w, c->gated ? "mlp.fc11" : "mlp.fc1", c->inner, h, c->up_bias);
        if (c->gated)
            add_linear(w, "mlp.fc12", c->inner, h, c->up_bias);
        add_linear(w, "mlp.fc2", h, c->inner, c->down_bias);
    }
    add_norm(w, "norm2", h);
}

static void add_bert_layer(writer *w, const emb_encoder_config *c) {
    const int64_t h = c->hidden;
    add_linear(w, "attention.self.query", h, h, 1);
    add_linear(w, "attention.self.key", h, h, 1);
    add_linear(w, "attention.self.value", h, h, 1);
    add_linear(w, "attention.output.dense", h, h, 1);
    add_norm(w, "attention.output.LayerNorm", h);
    add_linear(w, "intermediate.dense", c->inner, h, 1);
    add_linear(w, "output.dense", h, c->inner, 1);
    add_norm(w, "output.LayerNorm", h);
}

void test_checkpoint_add(test_tensors *t, const emb_config *config, const char *prefix,
                         int32_t dtype, const test_change *change, uint64_t *seed) {
    const emb_encoder_config *c = &config->encoder;
    const int is_nomic = c->arch == EMB_ARCH_NOMIC_BERT;
    writer w = {t, prefix, change, seed, dtype, -1, is_nomic ? "encoder.layers" : "encoder.layer"};
    add(&w, "embeddings.word_embeddings.weight", c->vocab, c->hidden);
    if (c->position_rows > 0)
        add(&w, "embeddings.position_embeddings.weight", c->position_rows, c->hidden);
    if (c->type_rows > 0)
        add(&w, "embeddings.token_type_embeddings.weight", c->type_rows, c->hidden);
    add_norm(&w, is_nomic ? "emb_ln" : "embeddings.LayerNorm", c->hidden);
    for (w.layer = 0; w.layer < c->layers; w.layer++) {
        if (is_nomic)
            add_nomic_layer(&w, c);
        else
            add_bert_layer(&w, c);
    }
    if (change != NULL && change->add) {
        char full[256];
        (void)snprintf(full, sizeof full, "%s%s", prefix, change->name);
        add_changed(&w, full, change);
    }
}
