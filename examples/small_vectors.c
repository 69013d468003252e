/* small_vectors: the same texts as f32, f16, int8 and bits, with half of the dimensions
 * (Matryoshka), and how much of a similarity survives. usage: small_vectors MODEL_DIR TEXT TEXT...
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "embed.h"

#define MAX_TEXTS 100

/* Share of equal bits, from 0 to 1: what replaces the cosine for binary vectors. */
static double bit_similarity(const uint8_t *a, const uint8_t *b, size_t bytes) {
    int different = 0;
    for (size_t i = 0; i < bytes; i++)
        different += __builtin_popcount(a[i] ^ b[i]);
    return 1 - different / (8.0 * (double)bytes);
}

static double int8_cosine(const int8_t *a, const int8_t *b, size_t dim) {
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < dim; i++) {
        ab += a[i] * b[i];
        aa += a[i] * a[i];
        bb += b[i] * b[i];
    }
    return aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : 0;
}

int main(int argc, char **argv) {
    embed_text texts[MAX_TEXTS];
    embed_model *model = NULL;
    embed_context *ctx = NULL;
    embed_model_info info = {.struct_size = sizeof info};
    embed_encode_params params = EMBED_ENCODE_PARAMS_INIT;
    embed_status st;

    if (argc < 4 || argc > 2 + MAX_TEXTS) {
        fprintf(stderr, "usage: small_vectors MODEL_DIR TEXT TEXT...\n");
        return 2;
    }
    const size_t n = (size_t)argc - 2;
    for (size_t i = 0; i < n; i++)
        texts[i] = (embed_text){argv[2 + i], strlen(argv[2 + i])};
    if ((st = embed_model_open(&model, argv[1], NULL)) == EMBED_OK &&
        (st = embed_model_get_info(model, &info)) == EMBED_OK)
        st = embed_context_create(&ctx, model, NULL);
    const size_t full = (size_t)info.dim, dim = full / 2, bytes = (dim + 7) / 8;
    float *whole = calloc(n, (full + 1) * sizeof *whole), *half = calloc(n, full * sizeof *half);
    float *ranges = calloc(2, full * sizeof *ranges);
    int8_t *coarse = calloc(n, full + 1);
    uint8_t *bits = calloc(n, full + 1);
    if (st == EMBED_OK && !(whole && half && ranges && coarse && bits))
        st = EMBED_ERR_NOMEM;

    if (st == EMBED_OK && (st = embed_encode(ctx, texts, n, NULL, whole, n * full)) == EMBED_OK) {
        params.dim = (int32_t)dim; /* the first half, normalised again */
        st = embed_encode(ctx, texts, n, &params, half, n * dim);
    }
    /* Vectors that exist already are converted with embed_quantize ... */
    if (st == EMBED_OK && (st = embed_quantize_ranges(half, n, dim, ranges)) == EMBED_OK)
        st = embed_quantize(half, n, dim, EMBED_I8, ranges, coarse, n * dim);
    /* ... and embed_encode can write the small form at once. */
    params.output = EMBED_UBINARY;
    if (st == EMBED_OK && (st = embed_encode(ctx, texts, n, &params, bits, n * bytes)) == EMBED_OK)
        for (size_t i = 1; i < n; i++)
            printf("f32[%zu] %.4f  f32[%zu] %.4f  int8[%zu] %.4f  bits[%zu] %.4f  %s\n", full,
                   embed_cosine(whole, whole + i * full, full), dim,
                   embed_cosine(half, half + i * dim, dim), dim,
                   int8_cosine(coarse, coarse + i * dim, dim), dim,
                   bit_similarity(bits, bits + i * bytes, bytes), argv[2 + i]);
    if (st != EMBED_OK)
        fprintf(stderr, "small_vectors: %s\n", embed_last_error());
    free(whole);
    free(half);
    free(ranges);
    free(coarse);
    free(bits);
    embed_context_free(ctx);
    embed_model_free(model);
    return st == EMBED_OK ? 0 : 1;
}
