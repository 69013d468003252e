#include "support/checkpoint.h"
#include "support/files.h"

#include "base/dtype.h"
#include "io/tensor_files.h"
#include "model/weights.h"

static char dir[256];

static void expect(embed_status got, embed_status status, const char *message) {
    if (got != status || strstr(emb_fail_message(), message) == NULL)
        fail_msg("expected %s and \"%s\", found %s and \"%s\"", embed_status_name(status), message,
                 embed_status_name(got), emb_fail_message());
}

static void write_model(const emb_config *c, const char *prefix, int32_t dtype,
                        const test_change *change, size_t align) {
    uint64_t seed = 7;
    test_tensors t;
    test_tensors_init(&t);
    test_checkpoint_add(&t, c, prefix, dtype, change, &seed);
    test_tensors_write(&t, dir, "model.safetensors", align);
}

static emb_weights open_weights(const emb_config *c) {
    const emb_env env = test_env();
    emb_weights w;
    if (emb_weights_open(&w, &env, dir, c) != EMBED_OK)
        fail_msg("%s", emb_fail_message());
    return w;
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

static void close_weights(emb_weights *w, const emb_config *c) {
    const emb_env env = test_env();
    emb_weights_close(w, &env, c);
}

typedef struct listing {
    char text[16384];
    size_t used, tensors, bytes;
} listing;

static void list_tensor(void *arg, const char *name, int32_t dtype, const void *data,
                        size_t bytes) {
    listing *l = arg;
    assert_non_null(data);
    assert_true(emb_dtype_bytes(dtype) > 0);
    l->used += (size_t)snprintf(l->text + l->used, sizeof l->text - l->used, "%s %d %zu\n", name,
                                dtype, bytes);
    l->tensors++;
    l->bytes += bytes;
}

static void check_matrix(const emb_matrix *m, int64_t rows, int64_t cols, int32_t dtype) {
    assert_non_null(m->data);
    assert_int_equal(m->rows, rows);
    assert_int_equal(m->cols, cols);
    assert_int_equal(m->dtype, dtype);
}

static void test_bert(void **state) {
    (void)state;
    static listing l;
    emb_config c = test_config_bert();
    write_model(&c, "", EMBED_F32, NULL, 8);
    emb_weights w = open_weights(&c);
    check_matrix(&w.word, 20, 8, EMBED_F32);
    check_matrix(&w.position, 64, 8, EMBED_F32);
    check_matrix(&w.type, 2, 8, EMBED_F32);
    for (int i = 0; i < 2; i++) {
        const emb_layer_weights *x = &w.layers[i];
        assert_true(x->n_qkv == 3 && x->moe == 0);
        for (int k = 0; k < 3; k++) {
            check_matrix(&x->qkv[k].m, 8, 8, EMBED_F32);
            assert_int_equal(x->qkv[k].layout, EMB_GEMM_NT);
            assert_non_null(x->qkv_bias[k]);
        }
        check_matrix(&x->up.m, 12, 8, EMBED_F32);
        check_matrix(&x->down.m, 8, 12, EMBED_F32);
        assert_null(x->gate.m.data);
        assert_true(x->out_bias && x->up_bias && x->down_bias && x->norm1_gamma && x->norm1_beta &&
                    x->norm2_gamma && x->norm2_beta);
    }
    assert_int_equal(w.dtype, EMBED_F32);
    assert_int_equal(w.owned_bytes, 0); /* everything is used where it lies */
    l.used = l.tensors = l.bytes = 0;
    emb_weights_visit(&w, list_tensor, &l);
    assert_int_equal(l.tensors, 5 + 2 * 16);
    assert_int_equal(l.bytes, w.mapped_bytes);
    assert_int_equal(w.params_total * 4, w.mapped_bytes);
    assert_int_equal(w.params_active, w.params_total);
    assert_non_null(strstr(l.text, "embeddings.word_embeddings.weight 1 640\n"));
    assert_non_null(strstr(l.text, "encoder.layer.1.output.LayerNorm.bias 1 32\n"));
    close_weights(&w, &c);
}

static void test_nomic(void **state) {
    (void)state;
    emb_config c = test_config_nomic(1, 0);
    write_model(&c, "", EMBED_F32, NULL, 8);
    emb_weights w = open_weights(&c);
    const emb_layer_weights *x = &w.layers[1];
    assert_true(x->n_qkv == 1 && x->moe == 0);
    check_matrix(&x->qkv[0].m, 24, 8, EMBED_F32);
    check_matrix(&x->up.m, 12, 8, EMBED_F32);
    check_matrix(&x->gate.m, 12, 8, EMBED_F32);
    check_matrix(&x->down.m, 8, 12, EMBED_F32);
    assert_true(x->up.m.data < x->gate.m.data); /* fc11 was written before fc12 */
    assert_true(!x->qkv_bias[0] && !x->out_bias && !x->up_bias && !x->gate_bias && !x->down_bias);
    assert_null(w.position.data);
    close_weights(&w, &c);
    c = test_config_nomic(1, 1);
    c.encoder.type_rows = 0;
    write_model(&c, "", EMBED_F32, NULL, 8);
    w = open_weights(&c);
    assert_true(w.layers[0].gate_bias && w.layers[0].up_bias && w.layers[0].qkv_bias[0]);
    assert_null(w.type.data);
    close_weights(&w, &c);
}

static void test_moe(void **state) {
    (void)state;
    emb_config c = test_config_moe();
    write_model(&c, "", EMBED_F32, NULL, 8);
    emb_weights w = open_weights(&c);
    for (int i = 0; i < 4; i++) {
        const emb_layer_weights *x = &w.layers[i];
        assert_int_equal(x->moe, i % 2);
        if (!x->moe)
            continue;
        check_matrix(&x->router, 3, 8, EMBED_F32);
        assert_true(x->router_bias == NULL && x->expert_bias != NULL && x->up.m.data == NULL);
        for (int e = 0; e < 3; e++) {
            check_matrix(&x->expert_up[e].m, 12, 8, EMBED_F32);
            check_matrix(&x->expert_down[e].m, 12, 8, EMBED_F32);
            assert_int_equal(x->expert_up[e].layout, EMB_GEMM_NT);
            assert_int_equal(x->expert_down[e].layout, EMB_GEMM_NN);
            assert_ptr_equal(x->expert_up[e].m.data,
                             (const char *)x->expert_up[0].m.data + e * 12 * 8 * 4);
        }
    }
    /* One of three experts idles: 2 layers, w1 and w2. */
    assert_int_equal(w.params_total - w.params_active, 2 * 2 * 12 * 8);
    close_weights(&w, &c);
}

/* The sizes of nomic-embed-text-v2-moe give the counts of its model card, 475 M and 305 M. A file
 * with a hole in place of data: nothing of it is read. */
static void test_true_shape(void **state) {
    (void)state;
    emb_config c = test_config_moe();
    c.encoder.hidden = 768;
    c.encoder.layers = 12;
    c.encoder.heads = 12;
    c.encoder.head_dim = 64;
    c.encoder.inner = 3072;
    c.encoder.vocab = 250048;
    c.encoder.type_rows = 1;
    c.encoder.experts = 8;
    const int64_t h = 768, n = 3072;
    const int64_t shared = 250048 * h + h + 2 * h + 12 * (3 * h * h + 3 * h + h * h + h + 4 * h) +
                           6 * (2 * n * h + n + h) + 6 * (8 * h + h);
    char *header = malloc(1 << 16);
    size_t used = 1, at = 0;
    header[0] = '{';
#define T(name, rows, cols)                                                                        \
    do {                                                                                           \
        const size_t bytes = (size_t)(rows) * (size_t)((cols) > 0 ? (cols) : 1) * 4;               \
        used += (size_t)sprintf(header + used,                                                     \
                                "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[%lld%s%.0lld],"            \
                                "\"data_offsets\":[%zu,%zu]}",                                     \
                                used > 1 ? "," : "", name, (long long)(rows),                      \
                                (cols) > 0 ? "," : "", (long long)(cols), at, at + bytes);         \
        at += bytes;                                                                               \
    } while (0)
    T("embeddings.word_embeddings.weight", 250048, h);
    T("embeddings.token_type_embeddings.weight", 1, h);
    T("emb_ln.weight", h, 0);
    T("emb_ln.bias", h, 0);
    for (int i = 0; i < 12; i++) {
        static const struct {
            const char *name;
            int64_t rows, cols;
            int moe; /* -1: both kinds of layers */
        } parts[] = {{"attn.Wqkv.weight", 2304, 768, -1},    {"attn.Wqkv.bias", 2304, 0, -1},
                     {"attn.out_proj.weight", 768, 768, -1}, {"attn.out_proj.bias", 768, 0, -1},
                     {"norm1.weight", 768, 0, -1},           {"norm1.bias", 768, 0, -1},
                     {"norm2.weight", 768, 0, -1},           {"norm2.bias", 768, 0, -1},
                     {"mlp.fc1.weight", 3072, 768, 0},       {"mlp.fc1.bias", 3072, 0, 0},
                     {"mlp.fc2.weight", 768, 3072, 0},       {"mlp.fc2.bias", 768, 0, 0},
                     {"mlp.router.layer.weight", 8, 768, 1}, {"mlp.experts.mlp.w1", 24576, 768, 1},
                     {"mlp.experts.mlp.w2", 24576, 768, 1},  {"mlp.experts.bias", 768, 0, 1}};
        for (size_t k = 0; k < sizeof parts / sizeof *parts; k++) {
            char name[80];
            (void)snprintf(name, sizeof name, "encoder.layers.%d.%s", i, parts[k].name);
            if (parts[k].moe < 0 || parts[k].moe == i % 2)
                T(name, parts[k].rows, parts[k].cols);
        }
    }
    (void)sprintf(header + used, "}");
    test_safetensors_raw(dir, "model.safetensors", header, 0);
    FILE *f = fopen(test_path(dir, "model.safetensors"), "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, (long)(8 + strlen(header) + at - 1), SEEK_SET), 0);
    assert_int_equal(fputc(0, f), 0);
    assert_int_equal(fclose(f), 0);
    free(header);
    emb_weights w = open_weights(&c);
    assert_int_equal(w.params_total, shared + 6 * 8 * 2 * n * h);
    assert_int_equal(w.params_active, shared + 6 * 2 * 2 * n * h);
    assert_int_equal(w.params_total / 1000000, 475);
    assert_int_equal(w.params_active / 1000000, 305);
    assert_int_equal(w.mapped_bytes, at);
    close_weights(&w, &c);
    assert_int_equal(remove(test_path(dir, "model.safetensors")), 0);
}

/* Matrices stay in the file in every dtype and at every address; vectors become float32. */
static void test_dtypes_and_alignment(void **state) {
    (void)state;
    emb_config c = test_config_bert();
    write_model(&c, "", EMBED_F32, NULL, 8);
    emb_weights plain = open_weights(&c);
    static const int32_t dtypes[] = {EMBED_F32, EMBED_F16, EMBED_BF16};
    for (int i = 0; i < 3; i++)
        for (int odd = 0; odd < 2; odd++) {
            emb_config copy = c;
            uint64_t seed = 7;
            test_tensors t;
            test_tensors_init(&t);
            test_checkpoint_add(&t, &copy, "", dtypes[i], NULL, &seed);
            /* With the first data byte at an odd address, vectors of F32 lie there too. */
            if ((t.header_len + 2) % 2 != (size_t)odd)
                (void)strcpy(t.header + t.header_len++, " ");
            test_tensors_write(&t, dir, "other/model.safetensors", 1);
            const emb_env env = test_env();
            emb_weights w;
            if (emb_weights_open(&w, &env, test_path(dir, "other"), &copy) != EMBED_OK)
                fail_msg("%s", emb_fail_message());
            check_matrix(&w.layers[1].up.m, 12, 8, dtypes[i]);
            assert_int_equal(w.dtype, dtypes[i]);
            assert_int_equal((uintptr_t)w.word.data % 2, odd);
            const double eps = dtypes[i] == EMBED_F32   ? 0
                               : dtypes[i] == EMBED_F16 ? 0x1p-11
                                                        : 0x1p-8;
            for (int k = 0; k < 12; k++) {
                const double want = plain.layers[1].up_bias[k], got = w.layers[1].up_bias[k];
                if (!(fabs(got - want) <= eps * fabs(want)))
                    fail_msg("%d %d: [%d] got %g, want %g", dtypes[i], odd, k, got, want);
            }
            const size_t vectors = 2 * 8 + 2 * (4 * 8 + 4 * 8 + 12 + 8); /* floats */
            if (dtypes[i] != EMBED_F32 || odd)
                assert_int_equal(w.owned_bytes, vectors * 4);
            emb_weights_close(&w, &env, &copy);
        }
    close_weights(&plain, &c);
}

static void test_prefixes(void **state) {
    (void)state;
    static const char *const prefixes[] = {
        "bert.",         "roberta.", "encoder.",
        "0.auto_model.", "model.",   "a.very.long.prefix.that.nobody.would.use.in.earnest."};
    static listing with, without;
    emb_config c = test_config_bert();
    write_model(&c, "", EMBED_F32, NULL, 8);
    emb_weights w = open_weights(&c);
    without.used = without.tensors = without.bytes = 0;
    emb_weights_visit(&w, list_tensor, &without);
    close_weights(&w, &c);
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        write_model(&c, prefixes[i], EMBED_F32, NULL, 8);
        w = open_weights(&c);
        with.used = with.tensors = with.bytes = 0;
        emb_weights_visit(&w, list_tensor, &with);
        assert_string_equal(with.text, without.text); /* names are listed without */
        close_weights(&w, &c);
    }
}

/* Tensors the encoder has no use for, and layer norms under their oldest names. */
static void test_extra_tensors(void **state) {
    (void)state;
    static listing l;
    emb_config c = test_config_bert();
    uint64_t seed = 7;
    test_tensors t;
    test_tensors_init(&t);
    test_checkpoint_add(&t, &c, "bert.", EMBED_F32, NULL, &seed);
    test_tensors_add_bytes(&t, "bert.embeddings.position_ids", "I64", "1", "01234567", 8);
    test_tensors_add(&t, "bert.pooler.dense.weight", EMBED_F32, 8, 8, NULL, 1, &seed);
    test_tensors_add(&t, "cls.predictions.bias", EMBED_F32, 20, 0, NULL, 1, &seed);
    test_tensors_add(&t, "bert.encoder.layer.0.attention.rotary_emb.inv_freq", EMBED_F32, 2, 0,
                     NULL, 1, &seed);
    test_tensors_add(&t, "bert.encoder.layer.2.output.dense.weight", EMBED_F32, 8, 12, NULL, 1,
                     &seed);
    for (char *p = t.header; (p = strstr(p, "LayerNorm.weight")) != NULL;)
        memcpy(p, "LayerNorm.gamma\"", 16), p[16] = ' ';
    for (char *p = t.header; (p = strstr(p, "LayerNorm.bias")) != NULL;)
        memcpy(p, "LayerNorm.beta", 14);
    test_tensors_write(&t, dir, "model.safetensors", 8);
    emb_weights w = open_weights(&c);
    assert_int_equal(w.params_total * 4, w.mapped_bytes);
    l.used = l.tensors = l.bytes = 0;
    emb_weights_visit(&w, list_tensor, &l);
    assert_int_equal(l.tensors, 5 + 2 * 16);
    assert_non_null(strstr(l.text, "encoder.layer.0.output.LayerNorm.weight 1 32\n"));
    assert_null(strstr(l.text, "pooler"));
    close_weights(&w, &c);
}

static void test_padded_vocabulary(void **state) {
    (void)state;
    emb_config c = test_config_bert();
    const test_change more = {"embeddings.word_embeddings.weight", "24,8", "F32", 0};
    const test_change less = {"embeddings.word_embeddings.weight", "19,8", "F32", 0};
    write_model(&c, "", EMBED_F32, &more, 8);
    emb_weights w = open_weights(&c);
    assert_int_equal(w.word.rows, 24);
    close_weights(&w, &c);
    write_model(&c, "", EMBED_F32, &less, 8);
    expect(
        open_status(&c), EMBED_ERR_MISMATCH,
        "model.safetensors: embeddings.word_embeddings.weight: expected [>=20,8] (vocab_size and "
        "hidden_size), found [19,8]");
}

static void test_dense(void **state) {
    (void)state;
    static listing l;
    emb_config c = test_config_bert();
    uint64_t seed = 3;
    test_tensors t;
    char first[] = "2_Dense", second[] = "deep/3_Dense";
    c.pipeline.n_dense = 2;
    c.pipeline.dense[0].dir = first;
    c.pipeline.dense[0].in = 8;
    c.pipeline.dense[0].out = 5;
    c.pipeline.dense[0].bias = 1;
    c.pipeline.dense[1].dir = second;
    c.pipeline.dense[1].in = 5;
    c.pipeline.dense[1].out = 4;
    write_model(&c, "", EMBED_F16, NULL, 8);
    expect(open_status(&c), EMBED_ERR_IO, "2_Dense/model.safetensors: cannot open: No such file");
    test_write(dir, "2_Dense/pytorch_model.bin", "x", 1);
    expect(open_status(&c), EMBED_ERR_UNSUPPORTED,
           "2_Dense/pytorch_model.bin: expected model.safetensors beside it");
    test_tensors_init(&t);
    test_tensors_add(&t, "linear.bias", EMBED_F32, 5, 0, NULL, 1, &seed);
    test_tensors_add(&t, "linear.weight", EMBED_F32, 5, 8, NULL, 1, &seed);
    test_tensors_write(&t, dir, "2_Dense/model.safetensors", 8);
    test_tensors_add(&t, "linear.weight", EMBED_BF16, 4, 5, NULL, 1, &seed);
    test_tensors_write(&t, dir, "deep/3_Dense/model.safetensors", 8);
    emb_weights w = open_weights(&c);
    check_matrix(&w.dense[0].w.m, 5, 8, EMBED_F32);
    check_matrix(&w.dense[1].w.m, 4, 5, EMBED_BF16);
    assert_true(w.dense[0].bias != NULL && w.dense[1].bias == NULL);
    assert_int_equal(w.dtype, EMBED_F16); /* the encoder's, which has the largest tensor */
    l.used = l.tensors = l.bytes = 0;
    emb_weights_visit(&w, list_tensor, &l);
    assert_non_null(strstr(l.text, "dense.0.linear.weight 1 160\ndense.0.linear.bias 1 20\n"
                                   "dense.1.linear.weight 3 40\n"));
    close_weights(&w, &c);
    c.pipeline.dense[0].out = 6;
    expect(open_status(&c), EMBED_ERR_MISMATCH,
           "2_Dense/model.safetensors: linear.weight: expected [6,8] (out_features and "
           "in_features), found [5,8]");
}

/* The same tensors from two files. */
static void test_shards(void **state) {
    (void)state;
    static listing one, two;
    static char index[8192];
    static const char *const names[] = {"a.safetensors", "b.safetensors"};
    const emb_env env = test_env();
    emb_config c = test_config_bert();
    emb_tensor_files whole;
    test_tensors shards[2];
    char shape[EMB_SHAPE_SHOWN];
    write_model(&c, "", EMBED_F32, NULL, 8);
    emb_weights w = open_weights(&c);
    one.used = one.tensors = one.bytes = 0;
    emb_weights_visit(&w, list_tensor, &one);
    close_weights(&w, &c);
    assert_int_equal(emb_tensor_files_open(&whole, &env, dir), EMBED_OK);
    size_t used = (size_t)sprintf(index, "{\"weight_map\": ");
    test_tensors_init(&shards[0]);
    test_tensors_init(&shards[1]);
    for (size_t i = 0; i < whole.files[0].n; i++) {
        const emb_tensor *t = &whole.files[0].tensors[i];
        (void)emb_tensor_show_shape(t, shape);
        shape[strlen(shape) - 1] = '\0'; /* without the brackets */
        test_tensors_add_bytes(&shards[i % 2], t->name, t->dtype_name, shape + 1, t->data,
                               t->bytes);
        used += (size_t)sprintf(index + used, "%c\"%s\": \"%s\"", i == 0 ? '{' : ',', t->name,
                                names[i % 2]);
    }
    (void)sprintf(index + used, "}}");
    emb_tensor_files_close(&whole, &env);
    for (int i = 0; i < 2; i++)
        test_tensors_write(&shards[i], dir, names[i], 8);
    test_write(dir, "model.safetensors.index.json", index, -1);
    assert_int_equal(remove(test_path(dir, "model.safetensors")), 0);
    w = open_weights(&c);
    two.used = two.tensors = two.bytes = 0;
    emb_weights_visit(&w, list_tensor, &two);
    assert_string_equal(two.text, one.text);
    close_weights(&w, &c);
    const test_change missing = {"encoder.layer.1.output.dense.bias", NULL, NULL, 0};
    write_model(&c, "", EMBED_F32, &missing, 8);
    expect(open_status(&c), EMBED_ERR_MISMATCH, "encoder.layer.1.output.dense.bias: expected [8]");
}

static void test_allocation_failures(void **state) {
    (void)state;
    emb_config c = test_config_moe();
    char folder[] = "2_Dense";
    uint64_t seed = 3;
    test_tensors t;
    c.encoder.layers = 2;
    c.pipeline.n_dense = 1;
    c.pipeline.dense[0].dir = folder;
    c.pipeline.dense[0].in = 8;
    c.pipeline.dense[0].out = 5;
    c.pipeline.dense[0].bias = 1;
    write_model(&c, "0.auto_model.", EMBED_BF16, NULL, 8);
    test_tensors_init(&t);
    test_tensors_add(&t, "linear.bias", EMBED_F16, 5, 0, NULL, 1, &seed);
    test_tensors_add(&t, "linear.weight", EMBED_F16, 5, 8, NULL, 1, &seed);
    test_tensors_write(&t, dir, "2_Dense/model.safetensors", 8);
    for (long n = 1;; n++) {
        test_allocator a;
        emb_env env;
        emb_weights w;
        test_allocator_init(&a, n);
        assert_int_equal(emb_env_init(&env, &a.allocator, NULL, NULL), EMBED_OK);
        const embed_status st = emb_weights_open(&w, &env, dir, &c);
        assert_int_equal(st, a.failed ? EMBED_ERR_NOMEM : EMBED_OK);
        if (st == EMBED_OK)
            emb_weights_close(&w, &env, &c);
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
        cmocka_unit_test_setup_teardown(test_bert, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nomic, setup, teardown),
        cmocka_unit_test_setup_teardown(test_moe, setup, teardown),
        cmocka_unit_test_setup_teardown(test_true_shape, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dtypes_and_alignment, setup, teardown),
        cmocka_unit_test_setup_teardown(test_prefixes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_extra_tensors, setup, teardown),
        cmocka_unit_test_setup_teardown(test_padded_vocabulary, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dense, setup, teardown),
        cmocka_unit_test_setup_teardown(test_shards, setup, teardown),
        cmocka_unit_test_setup_teardown(test_allocation_failures, setup, teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
