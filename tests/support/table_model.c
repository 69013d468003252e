#include "support/table_model.h"

#include "base/dtype.h"
#include "model/ngram_binding.h"

#define MAX_IDS 512

static int is_special(const embed_model *model, int32_t id) {
    for (int32_t i = 0; i < model->n_special; i++)
        if (model->special[i] == id)
            return 1;
    return 0;
}

void test_word(const embed_model *model, int32_t id, float *out) {
    const emb_matrix *word = &model->weights.word;
    const unsigned char *from = word->data;
    for (int64_t i = 0; i < word->cols; i++) {
        const size_t at = (size_t)(id * word->cols + i) * emb_dtype_bytes(word->dtype);
        uint16_t half;
        if (word->dtype == EMBED_F32) {
            memcpy(&out[i], from + at, sizeof *out);
            continue;
        }
        memcpy(&half, from + at, sizeof half);
        out[i] = word->dtype == EMBED_F16 ? emb_f16_to_f32(half) : emb_bf16_to_f32(half);
    }
}

void test_grams_of_texts(test_grams *g, const embed_model *model, const embed_text *texts, size_t n,
                         int32_t k, double share, int copies, uint64_t *rng) {
    static int32_t ids[MAX_IDS];
    float *vector = malloc((size_t)model->weights.word.cols * sizeof *vector);
    assert_non_null(vector);
    for (size_t i = 0; i < n; i++) {
        const size_t tokens = test_ids(model, texts[i], ids, MAX_IDS);
        for (size_t end = 0; end < tokens; end++)
            for (int32_t m = 1; m <= k && (size_t)m <= end + 1; m++) {
                if (is_special(model, ids[end + 1 - (size_t)m]))
                    break;
                if (m < 2 || !(test_uniform(rng) < share))
                    continue;
                test_word(model, ids[end], vector);
                test_grams_add(g, ids + end + 1 - (size_t)m, m, 100, copies ? vector : NULL, rng);
            }
    }
    free(vector);
}

embed_table *test_table_open(embed_model *model, const char *path,
                             const embed_table_params *params) {
    embed_table *table;
    TEST_OK(embed_table_open(&table, path, model, params));
    return table;
}

embed_table *test_table_make(embed_model *model, const char *path, const test_table_spec *spec,
                             const test_grams *g) {
    test_table_spec bound = *spec;
    emb_ngram_binding binding;
    TEST_OK(emb_ngram_binding_of(model, &binding));
    bound.binding = &binding;
    test_table_write(path, &bound, g);
    return test_table_open(model, path, NULL);
}

embed_context *test_context_with(embed_model *model, embed_table *table, int threads,
                                 int batch_tokens) {
    embed_context_params params = EMBED_CONTEXT_PARAMS_INIT;
    embed_context *ctx;
    params.threads = threads;
    params.batch_tokens = batch_tokens;
    params.table = table;
    TEST_OK(embed_context_create(&ctx, model, &params));
    return ctx;
}

int64_t test_longest_match(const embed_model *model, const test_grams *g, const int32_t *ids,
                           size_t at, int32_t k, int32_t *length) {
    int32_t room = 0;
    while (room < k && (size_t)room <= at && !is_special(model, ids[at - (size_t)room]))
        room++;
    for (*length = room; *length >= 2; --*length) {
        const int64_t row = test_grams_find(g, ids + at + 1 - (size_t)*length, *length);
        if (row >= 0)
            return row;
    }
    *length = 0;
    return -1;
}
