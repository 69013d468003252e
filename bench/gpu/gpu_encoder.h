/* gpu_encoder: a whole model on the device of a benchmark, and batches of random ids for it. */
#ifndef EMB_BENCH_GPU_GPU_ENCODER_H
#define EMB_BENCH_GPU_GPU_ENCODER_H

#include "gpu/gpu_bench.h"
#include "model/model.h"

/* Opens b->model_dir, or the random checkpoint of the nomic v2 shape, written if need be. */
embed_status gpu_model_open(gpu_bench *b, embed_model **model);
embed_context_params gpu_context_params(const gpu_bench *b, int32_t dtype, int32_t batch_tokens);
embed_status gpu_context_create(const gpu_bench *b, embed_model *model, int32_t dtype,
                                int32_t batch_tokens, embed_context **ctx);

/* Texts of given lengths, and a place for their vectors. */
typedef struct gpu_texts {
    embed_ids *rows; /* [n] */
    int32_t *ids;    /* one after the other */
    float *out;      /* [n, dim] */
    size_t n, tokens, dim;
} gpu_texts;

embed_status gpu_texts_make(gpu_texts *t, const embed_model *model, const int32_t *lengths,
                            size_t n, uint64_t seed);
void gpu_texts_free(gpu_texts *t);

/* gpu_work with host set: one call of embed_encode_ids. */
typedef struct gpu_call {
    embed_context *ctx;
    gpu_texts *texts;
} gpu_call;
embed_status gpu_run_call(gpu_bench *b, void *call);

/* Active flops of these texts: every multiplication by a weight that a token meets, and attention.
 */
double gpu_encoder_flops(const embed_model *model, const gpu_texts *t);

#endif
