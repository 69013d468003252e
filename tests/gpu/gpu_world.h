/* gpu_world: a random checkpoint, contexts on the CPU and on the device of this run, and texts. */
#ifndef EMB_TESTS_GPU_GPU_WORLD_H
#define EMB_TESTS_GPU_GPU_WORLD_H

#include "support/table_model.h"

extern int32_t gpu_kind;   /* EMBED_DEVICE_CUDA or _EMULATED */
extern double gpu_minutes; /* --minutes */

/* --device cuda|emulated, --minutes N and one word (*what, NULL: none); 0 if they are wrong, which
 * has been said. */
int gpu_arguments(int argc, char **argv, const char **what);

typedef struct gpu_world {
    test_allocator memory;
    tiny_model checkpoint;
    embed_model *model;
    embed_text *texts;
    size_t n, dim;
    float *want; /* [n, dim] the CPU's, without a table */
} gpu_world;

/* n texts of up to max_words random words. */
void gpu_world_open(gpu_world *w, tiny_spec spec, size_t n, size_t max_words);
void gpu_world_close(gpu_world *w); /* expects all memory back */

embed_context_params gpu_params(int32_t dtype, embed_table *table, int32_t batch_tokens);
/* dtype 0: f32; table may be NULL; batch_tokens 0: the default. Free both as any other. */
embed_context *gpu_context(const gpu_world *w, int32_t dtype, embed_table *table,
                           int32_t batch_tokens);
/* The first n texts, on any context: [n, dim], to be freed. */
float *gpu_encode(const gpu_world *w, embed_context *ctx, size_t n);
/* The largest relative L2 error of the first n vectors; NaN counts as infinite. */
double gpu_error(const gpu_world *w, const float *got, const float *want, size_t n);
void gpu_near(const char *what, const gpu_world *w, const float *got, const float *want, size_t n,
              double bound);

#endif
