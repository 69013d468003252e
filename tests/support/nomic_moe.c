#define _XOPEN_SOURCE 700 /* realpath, symlink */
#include "support/nomic_moe.h"

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HIDDEN = 768, INNER = 3072, LAYERS = 12, EXPERTS = 8, VOCAB = 250048, MAX_TENSORS = 200 };

typedef struct tensor {
    char name[64];
    uint64_t rows, cols; /* cols 0: one dimension */
    float std, mean;
} tensor;

typedef struct tensors {
    tensor t[MAX_TENSORS];
    size_t n;
} tensors;

static void add(tensors *all, const char *name, int layer, uint64_t rows, uint64_t cols, double std,
                double mean) {
    tensor *t = &all->t[all->n++];
    if (layer >= 0)
        snprintf(t->name, sizeof t->name, "encoder.layers.%d.%s", layer, name);
    else
        snprintf(t->name, sizeof t->name, "%s", name);
    t->rows = rows;
    t->cols = cols;
    t->std = (float)std;
    t->mean = (float)mean;
}

/* Scales as in trained encoders: attention scores and router logits of a few units, biases that
 * matter, layer norms off (1, 0). */
static void list_tensors(tensors *all) {
    const double narrow = 1 / sqrt(HIDDEN), wide = 1 / sqrt(INNER);
    add(all, "emb_ln.bias", -1, HIDDEN, 0, 0.2, 0);
    add(all, "emb_ln.weight", -1, HIDDEN, 0, 0.2, 1);
    add(all, "embeddings.token_type_embeddings.weight", -1, 1, HIDDEN, 0.03, 0);
    add(all, "embeddings.word_embeddings.weight", -1, VOCAB, HIDDEN, 0.05, 0);
    for (int i = 0; i < LAYERS; i++) {
        add(all, "attn.Wqkv.bias", i, 3 * HIDDEN, 0, 0.25, 0);
        add(all, "attn.Wqkv.weight", i, 3 * HIDDEN, HIDDEN, 1.4 * narrow, 0);
        add(all, "attn.out_proj.bias", i, HIDDEN, 0, 0.25, 0);
        add(all, "attn.out_proj.weight", i, HIDDEN, HIDDEN, 0.9 * narrow, 0);
        if (i % 2 == 1) {
            add(all, "mlp.experts.bias", i, HIDDEN, 0, 0.25, 0);
            add(all, "mlp.experts.mlp.w1", i, EXPERTS * INNER, HIDDEN, 1.3 * narrow, 0);
            add(all, "mlp.experts.mlp.w2", i, EXPERTS * INNER, HIDDEN, 1.6 * wide, 0);
            add(all, "mlp.router.layer.weight", i, EXPERTS, HIDDEN, 1.6 * narrow, 0);
        } else {
            add(all, "mlp.fc1.bias", i, INNER, 0, 0.25, 0);
            add(all, "mlp.fc1.weight", i, INNER, HIDDEN, 1.3 * narrow, 0);
            add(all, "mlp.fc2.bias", i, HIDDEN, 0, 0.25, 0);
            add(all, "mlp.fc2.weight", i, HIDDEN, INNER, 1.2 * wide, 0);
        }
        add(all, "norm1.bias", i, HIDDEN, 0, 0.2, 0);
        add(all, "norm1.weight", i, HIDDEN, 0, 0.2, 1);
        add(all, "norm2.bias", i, HIDDEN, 0, 0.2, 0);
        add(all, "norm2.weight", i, HIDDEN, 0, 0.2, 1);
    }
}

static uint64_t elements(const tensor *t) {
    return t->rows * (t->cols > 0 ? t->cols : 1);
}

/* mean + std * (sum of the four 16-bit parts of SplitMix64(seed, i), centred, unit variance): near
 * enough to normal, and exact integers until two float32 operations. */
static void fill(float *out, size_t n, uint64_t seed, uint64_t first, float std, float mean) {
    const float scale = std / 37837.227f; /* sqrt(4 * (65536^2 - 1) / 12) */
    for (size_t i = 0; i < n; i++) {
        uint64_t z = seed + (first + i + 1) * 0x9e3779b97f4a7c15u;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        z ^= z >> 31;
        const int32_t sum = (int32_t)(z & 0xffff) + (int32_t)(z >> 16 & 0xffff) +
                            (int32_t)(z >> 32 & 0xffff) + (int32_t)(z >> 48) - 131070;
        out[i] = (float)sum * scale + mean;
    }
}

static int write_tensors(FILE *f) {
    enum { CHUNK = 1 << 20 };
    static tensors all;
    all.n = 0;
    list_tensors(&all);
    char *header = calloc(1, 256 * MAX_TENSORS);
    float *chunk = malloc(CHUNK * sizeof *chunk);
    size_t at = 0;
    uint64_t offset = 0;
    int ok = header != NULL && chunk != NULL;
    if (ok)
        at += (size_t)sprintf(header, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (size_t i = 0; ok && i < all.n; i++) {
        const tensor *t = &all.t[i];
        char shape[48];
        if (t->cols > 0)
            snprintf(shape, sizeof shape, "%llu,%llu", (unsigned long long)t->rows,
                     (unsigned long long)t->cols);
        else
            snprintf(shape, sizeof shape, "%llu", (unsigned long long)t->rows);
        at += (size_t)sprintf(
            header + at, ",\"%s\":{\"dtype\":\"F32\",\"shape\":[%s],\"data_offsets\":[%llu,%llu]}",
            t->name, shape, (unsigned long long)offset,
            (unsigned long long)(offset + 4 * elements(t)));
        offset += 4 * elements(t);
    }
    if (ok) {
        header[at++] = '}';
        while (at % 8 != 0)
            header[at++] = ' ';
        const uint64_t size = at; /* little-endian, as every machine that runs this */
        ok = fwrite(&size, 8, 1, f) == 1 && fwrite(header, 1, at, f) == at;
    }
    for (size_t i = 0; ok && i < all.n; i++)
        for (uint64_t first = 0; ok && first < elements(&all.t[i]); first += CHUNK) {
            const uint64_t left = elements(&all.t[i]) - first;
            const size_t n = left < CHUNK ? (size_t)left : CHUNK;
            fill(chunk, n, (i + 1) * 0xd1342543de82ef95u, first, all.t[i].std, all.t[i].mean);
            ok = fwrite(chunk, sizeof *chunk, n, f) == n;
        }
    free(chunk);
    free(header);
    return ok ? 0 : -1;
}

/* As nomic-ai serves them. */
static const char config[] =
    "{\"activation_function\":\"gelu\",\"add_pooling_layer\":false,"
    "\"architectures\":[\"NomicBertModel\"],\"attn_pdrop\":0.0,\"bos_token_id\":null,"
    "\"causal\":false,\"dense_seq_output\":true,\"embd_pdrop\":0.1,\"eos_token_id\":null,"
    "\"expert_choice_router\":false,\"ffn_div\":1,\"fused_bias_fc\":true,"
    "\"fused_dropout_add_ln\":true,\"initializer_range\":0.02,\"layer_norm_epsilon\":1e-05,"
    "\"max_trained_positions\":2048,\"mlp_fc1_bias\":true,\"mlp_fc2_bias\":true,"
    "\"model_type\":\"nomic_bert\",\"moe_every_n_layers\":2,\"moe_impl\":\"megablocks\","
    "\"moe_normalize_expert_weights\":false,\"moe_resid_pdrop\":0.0,\"moe_top_k\":2,"
    "\"n_embd\":768,\"n_head\":12,\"n_inner\":3072,\"n_layer\":12,\"n_positions\":2048,"
    "\"num_experts\":8,\"num_shared_experts\":0,\"pad_token_id\":1,"
    "\"pad_vocab_size_multiple\":64,\"parallel_block\":false,"
    "\"parallel_block_tied_norm\":false,\"prenorm\":false,\"qkv_proj_bias\":true,"
    "\"reorder_and_upcast_attn\":false,\"resid_pdrop\":0.0,\"rotary_emb_base\":10000,"
    "\"rotary_emb_fraction\":1.0,\"rotary_emb_interleaved\":false,"
    "\"rotary_emb_scale_base\":null,\"rotary_scaling_factor\":null,"
    "\"router_aux_loss_coef\":0.1,\"scale_attn_by_inverse_layer_idx\":false,"
    "\"scale_attn_weights\":true,\"torch_dtype\":\"float32\","
    "\"transformers_version\":\"4.44.2\",\"type_vocab_size\":1,\"use_cache\":true,"
    "\"use_flash_attn\":true,\"use_rms_norm\":null,\"use_xentropy\":true,"
    "\"vocab_size\":250048}\n";

static const struct {
    const char *name, *text;
} files[] = {
    {"config.json", config},
    {"modules.json",
     "[{\"idx\":0,\"name\":\"0\",\"path\":\"\",\"type\":\"sentence_transformers.models."
     "Transformer\"},{\"idx\":1,\"name\":\"1\",\"path\":\"1_Pooling\",\"type\":"
     "\"sentence_transformers.models.Pooling\"},{\"idx\":2,\"name\":\"2\",\"path\":"
     "\"2_Normalize\",\"type\":\"sentence_transformers.models.Normalize\"}]\n"},
    {"1_Pooling/config.json",
     "{\"word_embedding_dimension\":768,\"pooling_mode_cls_token\":false,"
     "\"pooling_mode_mean_tokens\":true,\"pooling_mode_max_tokens\":false,"
     "\"pooling_mode_mean_sqrt_len_tokens\":false,\"pooling_mode_weightedmean_tokens\":false,"
     "\"pooling_mode_lasttoken\":false,\"include_prompt\":true}\n"},
    {"sentence_bert_config.json", "{\"max_seq_length\":512,\"do_lower_case\":false}\n"},
    {"config_sentence_transformers.json",
     "{\"prompts\":{\"query\":\"search_query: \",\"passage\":\"search_document: \"},"
     "\"default_prompt_name\":null,\"similarity_fn_name\":\"cosine\"}\n"},
    {"tokenizer_config.json",
     "{\"model_max_length\":512,\"tokenizer_class\":\"XLMRobertaTokenizer\"}\n"},
};

int test_write_nomic_moe(const char *dir, const char *tokenizer) {
    char path[1024], part[1024];
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    if (access(path, R_OK) == 0)
        return 0;
    snprintf(part, sizeof part, "%s/1_Pooling", dir);
    if ((mkdir(dir, 0777) != 0 && errno != EEXIST) || (mkdir(part, 0777) != 0 && errno != EEXIST)) {
        fprintf(stderr, "%s: %s\n", dir, strerror(errno));
        return -1;
    }
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        snprintf(part, sizeof part, "%s/%s", dir, files[i].name);
        FILE *f = fopen(part, "wb");
        if (f == NULL || fputs(files[i].text, f) < 0 || fclose(f) != 0) {
            fprintf(stderr, "%s: %s\n", part, strerror(errno));
            return -1;
        }
    }
    snprintf(part, sizeof part, "%s/tokenizer.json", dir);
    char *full = realpath(tokenizer, NULL);
    const int linked = full != NULL && (symlink(full, part) == 0 || errno == EEXIST);
    free(full);
    if (!linked) {
        fprintf(stderr, "%s: cannot link %s: %s\n", part, tokenizer, strerror(errno));
        return -1;
    }
    snprintf(part, sizeof part, "%s/model.part", dir); /* renamed once complete */
    FILE *f = fopen(part, "wb");
    const int written = f != NULL && write_tensors(f) == 0;
    if ((f != NULL && fclose(f) != 0) || !written || rename(part, path) != 0) {
        fprintf(stderr, "%s: %s\n", part, strerror(errno));
        unlink(part);
        return -1;
    }
    return 0;
}
