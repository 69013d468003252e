/* device_rows_world: a tiny model on a fake device with an n-gram table, and the vectors that rows
 * decoded by the CPU give there. */
#ifndef TEST_DEVICE_ROWS_WORLD_H
#define TEST_DEVICE_ROWS_WORLD_H

#include "support/device_world.h"

#include "model/ngram_binding.h"

#define HIDDEN 32
#define BOUND 2e-5 /* of a vector of unit length, f32 */

static const int32_t all_places[] = {EMBED_TABLE_PLACE_COPY, EMBED_TABLE_PLACE_MAP,
                                     EMBED_TABLE_PLACE_CACHE, EMBED_TABLE_PLACE_RESIDENT};
#define PLACES (sizeof all_places / sizeof all_places[0])

typedef struct rows_world {
    world w;
    test_grams grams;
    char dir[256], path[300];
    embed_table *table;
    float want[TEXTS * MAX_DIM];
} rows_world;

static inline size_t rows_bytes(const rows_world *r) {
    return TEXTS * (size_t)r->w.model->dim * sizeof *r->want;
}

static inline emb_places rows_places(const rows_world *r, int32_t place, uint64_t cache_bytes) {
    return (emb_places){.place = {.backend = emb_fake_backend(r->w.fake), .dtype = EMBED_F32},
                        .table_place = place,
                        .cache_bytes = cache_bytes};
}

static inline embed_status rows_context(rows_world *r, int32_t place, uint64_t cache_bytes,
                                        embed_context **ctx) {
    const emb_places places = rows_places(r, place, cache_bytes);
    return emb_context_create_on(ctx, r->w.model, r->table, 1, BATCH, &places);
}

/* Rows that the CPU decoded, as several devices get them. */
static inline void rows_expect(rows_world *r) {
    static float cpu[TEXTS * MAX_DIM];
    embed_context *ctx = test_context_with(r->w.model, r->table, 1, BATCH);
    TEST_OK(encode(ctx, &r->w, TEXTS, cpu));
    embed_context_free(ctx);
    make_fake(&r->w, 0, 0);
    TEST_OK(on_device(&r->w, NULL, EMBED_F32, &ctx));
    ctx->rows.backend = NULL;
    TEST_OK(embed_context_set_table(ctx, r->table));
    TEST_OK(encode(ctx, &r->w, TEXTS, r->want));
    embed_context_free(ctx);
    drop_fake(&r->w);
    for (size_t i = 0; i < rows_bytes(r) / sizeof *cpu; i++)
        assert_true(fabs((double)r->want[i] - (double)cpu[i]) <= BOUND);
}

/* width 0: of the model. params NULL: the default; the key is the spec's. */
static inline void open_rows(rows_world *r, const test_table_spec *spec, int32_t width,
                             const embed_table_params *params) {
    tiny_spec tiny = tiny_spec_dense();
    embed_table_params p = EMBED_TABLE_PARAMS_INIT;
    test_table_spec bound = *spec;
    emb_ngram_binding binding;
    uint64_t rng = 5;
    memset(r, 0, sizeof *r);
    tiny.layers = 1;
    tiny.hidden = HIDDEN;
    tiny.heads = 2;
    tiny.inner = 48;
    open_world(&r->w, tiny, 30);
    test_grams_init(&r->grams, tiny.hidden);
    test_grams_of_texts(&r->grams, r->w.model, r->w.texts, TEXTS, 3, 0.5, 0, &rng);
    if (width != 0)
        r->grams.width = width; /* narrower: the same numbers, other rows */
    test_dir_make(r->dir);
    (void)snprintf(r->path, sizeof r->path, "%s/table", r->dir);
    TEST_OK(emb_ngram_binding_of(r->w.model, &binding));
    bound.binding = &binding;
    test_table_write(r->path, &bound, &r->grams);
    if (params != NULL)
        p = *params;
    char key[320];
    (void)snprintf(key, sizeof key, "%s/key", r->dir);
    if (spec->key != NULL) {
        test_write(r->dir, "key", spec->key, 32);
        p.key_path = key;
    }
    r->table = test_table_open(r->w.model, r->path, &p);
    rows_expect(r);
}

static inline void close_rows(rows_world *r) {
    embed_table_free(r->table);
    test_dir_remove(r->dir);
    test_grams_free(&r->grams);
    close_world(&r->w);
}

#endif
