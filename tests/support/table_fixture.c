#include "support/table_fixture.h"

void test_grams_init(test_grams *g, int32_t width) {
    *g = (test_grams){.width = width};
}

void test_grams_free(test_grams *g) {
    free(g->list);
    free(g->vectors);
    *g = (test_grams){.width = g->width};
}

int64_t test_grams_find(const test_grams *g, const int32_t *ids, int32_t length) {
    for (size_t i = 0; i < g->n; i++)
        if (g->list[i].length == length &&
            memcmp(g->list[i].ids, ids, (size_t)length * sizeof *ids) == 0)
            return (int64_t)i;
    return -1;
}

size_t test_grams_add(test_grams *g, const int32_t *ids, int32_t length, uint32_t count,
                      const float *vector, uint64_t *rng) {
    const size_t width = (size_t)g->width;
    const int64_t there = test_grams_find(g, ids, length);
    if (there >= 0)
        return (size_t)there;
    if (g->n == g->capacity) {
        g->capacity = 2 * g->capacity + 64;
        g->list = realloc(g->list, g->capacity * sizeof *g->list);
        g->vectors = realloc(g->vectors, g->capacity * width * sizeof *g->vectors);
        assert_true(g->list != NULL && g->vectors != NULL);
    }
    emb_ngram_fgram *f = &g->list[g->n];
    *f = (emb_ngram_fgram){.count = count, .length = (uint8_t)length};
    memcpy(f->ids, ids, (size_t)length * sizeof *ids);
    for (size_t i = 0; i < width; i++)
        g->vectors[g->n * width + i] = vector != NULL ? vector[i] : (float)test_normal(rng);
    return g->n++;
}

void test_grams_random(test_grams *g, size_t n, int32_t k, int32_t least, int32_t most, int closed,
                       uint64_t *rng) {
    const size_t want = g->n + n;
    for (size_t tries = 0; g->n < want && tries < 100 * n + 1000; tries++) {
        int32_t ids[EMB_NGRAM_MAX_K];
        const int32_t length = 2 + (int32_t)(test_rand(rng) % (uint64_t)(k - 1));
        for (int32_t i = 0; i < length; i++) {
            const double u = test_uniform(rng);
            ids[i] = least + (int32_t)((double)(most - least) * u * u);
        }
        for (int32_t m = closed ? 2 : length; m <= length && g->n < want; m++)
            test_grams_add(g, ids + length - m, m, (uint32_t)(1000000 / (g->n + 1)), NULL, rng);
    }
}

static embed_status some_fgrams(void *user, uint64_t first, size_t n, emb_ngram_fgram *out) {
    const test_grams *g = user;
    assert_true(first + n <= g->n);
    memcpy(out, g->list + first, n * sizeof *out);
    return EMBED_OK;
}

static embed_status some_vectors(void *user, uint64_t first, size_t n, float *out) {
    const test_grams *g = user;
    const size_t width = (size_t)g->width;
    memcpy(out, g->vectors + first * width, n * width * sizeof *out);
    return EMBED_OK;
}

emb_ngram_source test_grams_source(const test_grams *g) {
    emb_ngram_source s = {
        .rows = g->n, .user = (void *)(uintptr_t)g, .fgrams = some_fgrams, .vectors = some_vectors};
    uint64_t sum = 7; /* an identity that every byte changes */
    const unsigned char *bytes[2] = {(const unsigned char *)g->list,
                                     (const unsigned char *)g->vectors};
    const size_t sizes[2] = {g->n * sizeof *g->list, g->n * (size_t)g->width * sizeof(float)};
    for (int k = 0; k < 2; k++)
        for (size_t i = 0; i < sizes[k]; i++)
            sum = (sum ^ bytes[k][i]) * 0x100000001b3u;
    memcpy(s.identity, &sum, sizeof sum);
    return s;
}

embed_status test_table_try(const emb_env *env, const char *path, const test_table_spec *spec,
                            const test_grams *grams) {
    static char name[] = "projection", zeros[] = "00000000000000000000000000000000";
    emb_ngram_manifest m = {.mode = spec->mode};
    const emb_ngram_source source = test_grams_source(grams);
    m.layout.width = grams->width;
    m.layout.dtype = spec->dtype != 0 ? spec->dtype : EMBED_F32;
    m.provenance.corpus = (char *)(uintptr_t)spec->corpus;
    m.provenance.min_count = m.provenance.min_documents = -1;
    if (spec->binding != NULL)
        m.binding = *spec->binding;
    else {
        memcpy(m.binding.tokenizer, zeros, sizeof zeros);
        memcpy(m.binding.embedding, zeros, sizeof zeros);
        memcpy(m.binding.model, zeros, sizeof zeros);
        m.binding.hidden = spec->hidden != 0 ? spec->hidden : grams->width;
        m.binding.vocab = spec->vocab != 0 ? spec->vocab : 1000;
        m.binding.special = (int32_t *)(uintptr_t)spec->special;
        m.binding.n_special = spec->n_special;
    }
    emb_ngram_write_params p = {.manifest = &m,
                                .key = spec->key,
                                .part_bytes = spec->part_bytes,
                                .load = spec->load,
                                .threads = spec->threads != 0 ? spec->threads : 2};
    char *bytes = NULL;
    if (spec->projection != NULL) { /* header of 8 + 88 bytes, then the numbers */
        const size_t n = (size_t)m.binding.hidden * (size_t)grams->width * sizeof(float);
        const uint64_t head = 88;
        m.projection = name;
        p.projection_bytes = 8 + head + n;
        p.projection = bytes = malloc(p.projection_bytes + 1);
        memcpy(bytes, &head, 8);
        const int used = snprintf(
            bytes + 8, head + 1,
            "{\"projection\":{\"dtype\":\"F32\",\"shape\":[%d,%d],\"data_offsets\":[0,%zu]}}",
            m.binding.hidden, grams->width, n);
        memset(bytes + 8 + used, ' ', head - (size_t)used);
        memcpy(bytes + 8 + head, spec->projection, n);
    }
    const embed_status st = emb_ngram_write(env, path, &p, &source);
    free(bytes);
    return st;
}

void test_table_write(const char *path, const test_table_spec *spec, const test_grams *grams) {
    const emb_env env = test_env();
    const embed_status st = test_table_try(&env, path, spec, grams);
    if (st != EMBED_OK)
        fail_msg("%s: %s", path, emb_fail_message());
}
