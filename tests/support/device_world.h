/* device_world: a tiny checkpoint on a fake device, with the CUDA kernels compiled for the CPU. */
#ifndef TEST_DEVICE_WORLD_H
#define TEST_DEVICE_WORLD_H

#include "support/table_model.h"

#include "cuda_module/cuda_ops.h"
#include "device/fake_device.h"
#include "kernels/cuda/cuda_emulation.h"
#include "model/context.h"
#include "model/device_forward.h"

#define TEXTS 8
#define BATCH 64
#define MAX_DIM 64

typedef struct world {
    emb_env env;
    test_allocator memory;
    emb_fake *fake;
    tiny_model checkpoint;
    embed_model *model;
    embed_text *texts;
} world;

/* With what the operations need besides. */
static inline void make_fake_of(world *w, const emb_fake_params *like) {
    emb_fake_params params = *like;
    params.run_job = emb_emulation_run;
    params.job_error = emb_emulation_error;
    params.ops = emb_cuda_ops(&params.n_ops);
    w->env = test_env();
    emb_emulation_redirect(emb_fake_submit, NULL);
    emb_emulation_seed(params.seed);
    assert_int_equal(emb_fake_create(&w->fake, &w->env, &params), EMBED_OK);
}

static inline void make_fake(world *w, uint64_t seed, uint64_t memory_bytes) {
    make_fake_of(w, &(emb_fake_params){.seed = seed, .memory_bytes = memory_bytes});
}

static inline void open_world(world *w, tiny_spec spec, size_t max_words) {
    memset(w, 0, sizeof *w);
    test_allocator_init(&w->memory, 0);
    tiny_model_make(&w->checkpoint, &spec);
    embed_model_params params = EMBED_MODEL_PARAMS_INIT;
    params.allocator = &w->memory.allocator;
    TEST_OK(embed_model_open(&w->model, w->checkpoint.dir, &params));
    w->texts = test_texts(&w->checkpoint, 7, TEXTS, max_words);
}

/* Everything of the model that is on the fake goes, and the fake with it. */
static inline void drop_fake(world *w) {
    emb_device_homes_free(w->model);
    assert_int_equal(emb_fake_live(w->fake), 0);
    emb_fake_free(w->fake);
    emb_emulation_redirect(NULL, NULL);
}

static inline void close_world(world *w) {
    embed_model_free(w->model);
    assert_int_equal(w->memory.live, 0);
    test_texts_free(w->texts, TEXTS);
    tiny_model_remove(&w->checkpoint);
}

static inline embed_status on_device(world *w, embed_table *table, int32_t dtype,
                                     embed_context **ctx) {
    const emb_place place = {.backend = emb_fake_backend(w->fake), .index = 0, .dtype = dtype};
    return emb_context_create(ctx, w->model, table, 1, BATCH, &place);
}

static inline embed_status encode(embed_context *ctx, const world *w, size_t n, float *out) {
    return embed_encode(ctx, w->texts, n, NULL, out, n * MAX_DIM * sizeof *out);
}

#endif
