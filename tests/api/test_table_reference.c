/* Vectors with random rows against the double-precision reference, in which each position's word
 * embedding is replaced, or added to, by the row of the longest match as a plain search finds it:
 * both modes, every row type as its own rounding defines it, with and without a projection. */
#include "support/reference.h"
#include "support/table_model.h"

#include "base/dtype.h"

#define TEXTS 6
#define D 48
#define NARROW 20      /* width of rows that are projected */
#define TOLERANCE 3e-6 /* relative L2 error, as without a table */

static char dir[256];

static int set_up(void **state) {
    (void)state;
    test_dir_make(dir);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    test_dir_remove(dir);
    return 0;
}

/* Nearest bf16, ties to even. */
static float bf16(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    u = (u + 0x7fff + (u >> 16 & 1)) & 0xffff0000u;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* What is left of a row once it was stored: int8 has one scale, the greatest magnitude is 127. */
static void stored(const float *row, int width, int dtype, double *out) {
    float most = 0;
    for (int i = 0; i < width; i++)
        most = fmaxf(most, fabsf(row[i]));
    for (int i = 0; i < width; i++) {
        const float scale = most / 127;
        out[i] = dtype == EMBED_F16    ? (double)emb_f16_to_f32(emb_f32_to_f16(row[i]))
                 : dtype == EMBED_BF16 ? (double)bf16(row[i])
                 : dtype == EMBED_I8   ? (double)scale * rint((double)(row[i] / scale))
                                       : (double)row[i];
    }
}

struct table {
    test_grams g;
    int dtype, mode;
    const float *projection; /* [D, NARROW] or NULL */
};

/* words [n, D]: what the table makes of them. Returns the positions that matched. */
static int apply(const struct table *t, const embed_model *model, const int32_t *ids, size_t n,
                 double *words) {
    int matched = 0;
    for (size_t at = 0; at < n; at++) {
        int32_t length;
        double row[D], wide[D] = {0};
        const int64_t r = test_longest_match(model, &t->g, ids, at, 8, &length);
        if (r < 0)
            continue;
        stored(t->g.vectors + r * t->g.width, t->g.width, t->dtype, row);
        for (int i = 0; i < D; i++)
            for (int j = 0; j < NARROW && t->projection != NULL; j++)
                wide[i] += (double)t->projection[i * NARROW + j] * row[j];
        for (int i = 0; i < D; i++)
            words[at * D + (size_t)i] = (t->mode == EMB_NGRAM_ADD ? words[at * D + (size_t)i] : 0) +
                                        (t->projection != NULL ? wide[i] : row[i]);
        matched++;
    }
    return matched;
}

static void check(const char *what, const tiny_model *m, const struct table *t, embed_model *model,
                  const embed_text *texts) {
    static float got[TEXTS * D];
    static int32_t ids[128];
    const test_table_spec spec = {.dtype = t->dtype, .mode = t->mode, .projection = t->projection};
    static int number;
    char name[32];
    (void)snprintf(name, sizeof name, "t%d", number++);
    embed_table *table = test_table_make(model, test_path(dir, name), &spec, &t->g);
    embed_context *ctx = test_context_with(model, table, 2, 100);
    embed_table_stats s = {.struct_size = sizeof s};
    int matched = 0;
    TEST_OK(embed_encode(ctx, texts, TEXTS, NULL, got, TEXTS * D));
    TEST_OK(embed_context_get_table_stats(ctx, &s));
    for (size_t i = 0; i < TEXTS; i++) {
        double want[D];
        const size_t n = test_ids(model, texts[i], ids, 128);
        double *words = reference_words(m, ids, n);
        matched += apply(t, model, ids, n, words);
        const double gap = reference_router_gap_from(m, ids, n, words);
        if (!(gap > 1e-6)) /* pick another seed: the comparison needs one clear decision */
            fail_msg("%s: router gap %.3g", what, gap);
        reference_vector_from(m, ids, n, words, 0, 0, 1, want);
        const double err = test_rel_l2(got + i * D, want, D);
        if (!(err <= TOLERANCE))
            fail_msg("%s, dtype %d, mode %d%s, text %zu: error %.3g", what, t->dtype, t->mode,
                     t->projection != NULL ? ", projected" : "", i, err);
        free(words);
    }
    assert_int_equal(s.positions - s.hits[0], matched);
    assert_true(matched > 0 && s.hits[0] > 0 && s.hits[2] > 0 && s.hits[4] > 0);
    embed_context_free(ctx);
    embed_table_free(table);
}

static void run(const char *what, const tiny_spec *spec) {
    tiny_model m;
    static float projection[D * NARROW];
    uint64_t rng = 77;
    tiny_model_make(&m, spec);
    embed_model *model = test_open(m.dir);
    embed_text *texts = test_texts(&m, 13, TEXTS, 50);
    for (int i = 0; i < D * NARROW; i++)
        projection[i] = (float)(0.2 * test_normal(&rng));
    for (int projected = 0; projected < 2; projected++) {
        struct table t = {.projection = projected ? projection : NULL};
        test_grams_init(&t.g, projected ? NARROW : D);
        test_grams_of_texts(&t.g, model, texts, TEXTS, 6, 0.4, 0, &rng);
        for (t.dtype = EMBED_F32; t.dtype <= EMBED_I8; t.dtype++)
            for (t.mode = EMB_NGRAM_REPLACE; t.mode <= EMB_NGRAM_ADD; t.mode++)
                check(what, &m, &t, model, texts);
        test_grams_free(&t.g);
    }
    test_texts_free(texts, TEXTS);
    embed_model_free(model);
    tiny_model_remove(&m);
}

static void bert(void **state) {
    (void)state;
    const tiny_spec s = tiny_spec_bert();
    run("bert", &s);
}

static void nomic_dense(void **state) {
    (void)state;
    const tiny_spec s = tiny_spec_dense();
    run("nomic dense", &s);
}

static void nomic_moe(void **state) {
    (void)state;
    const tiny_spec s = tiny_spec_moe();
    run("nomic moe", &s);
}

static void xlm_roberta_in_half_precision(void **state) {
    (void)state;
    tiny_spec s = tiny_spec_xlmr();
    s.dtype = EMBED_BF16;
    run("xlm-roberta", &s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bert),
        cmocka_unit_test(nomic_dense),
        cmocka_unit_test(nomic_moe),
        cmocka_unit_test(xlm_roberta_in_half_precision),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
