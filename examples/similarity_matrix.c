/* similarity_matrix: cosine similarity of every pair of texts.
 * usage: similarity_matrix MODEL_DIR TEXT TEXT... */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "embed.h"

#define MAX_TEXTS 100

int main(int argc, char **argv) {
    embed_text texts[MAX_TEXTS];
    embed_model *model = NULL;
    embed_context *ctx = NULL;
    embed_model_info info = {.struct_size = sizeof info};
    float *vectors = NULL;
    int ok = 0;

    if (argc < 4 || argc > 2 + MAX_TEXTS) {
        fprintf(stderr, "usage: similarity_matrix MODEL_DIR TEXT TEXT...\n");
        return 2;
    }
    const size_t n = (size_t)argc - 2;
    for (size_t i = 0; i < n; i++)
        texts[i] = (embed_text){argv[2 + i], strlen(argv[2 + i])};

    if (embed_model_open(&model, argv[1], NULL) != EMBED_OK ||
        embed_context_create(&ctx, model, NULL) != EMBED_OK ||
        embed_model_get_info(model, &info) != EMBED_OK)
        goto done;
    const size_t dim = (size_t)info.dim;
    vectors = malloc(n * dim * sizeof *vectors);
    if (!vectors || embed_encode(ctx, texts, n, NULL, vectors, n * dim) != EMBED_OK)
        goto done;
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < n; j++)
            printf("%7.3f", embed_cosine(vectors + i * dim, vectors + j * dim, dim));
        printf("  %s\n", argv[2 + i]);
    }
    ok = 1;
done:
    if (!ok)
        fprintf(stderr, "similarity_matrix: %s\n", embed_last_error());
    free(vectors);
    embed_context_free(ctx);
    embed_model_free(model);
    return ok ? 0 : 1;
}
