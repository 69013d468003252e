/* encode_on_gpu: texts encoded on the first usable GPU with bf16 products, or on the CPU where
 * there is none, with the rows of a table of n-gram vectors if one is named.
 *
 *     encode_on_gpu MODEL_DIR auto|cuda|cpu TABLE_DIR|- TEXT...
 *     `embed devices` says what there is; examples/ngram_quickstart.sh makes a table */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "embed.h"

static int fail(void) {
    fprintf(stderr, "encode_on_gpu: %s\n", embed_last_error());
    return 1;
}

static int32_t kind_of(const char *name) {
    return strcmp(name, "cpu") == 0    ? EMBED_DEVICE_CPU
           : strcmp(name, "cuda") == 0 ? EMBED_DEVICE_CUDA
                                       : EMBED_DEVICE_AUTO;
}

/* One call for all texts: batches are made inside, and the next one is on its way to the device
 * while one is in work. */
static int encode(embed_context *ctx, size_t dim, char *const *words, size_t n) {
    embed_text *texts = malloc(n * sizeof *texts);
    float *vectors = malloc(n * dim * sizeof *vectors);
    int code = texts && vectors ? 0 : 1;
    for (size_t i = 0; code == 0 && i < n; i++)
        texts[i] = (embed_text){words[i], strlen(words[i])};
    if (code == 0 && embed_encode(ctx, texts, n, NULL, vectors, n * dim) != EMBED_OK)
        code = fail();
    for (size_t i = 0; code == 0 && i < n; i++)
        printf("(%.4f, %.4f ...)  %s\n", (double)vectors[i * dim], (double)vectors[i * dim + 1],
               words[i]);
    free(vectors);
    free(texts);
    return code;
}

int main(int argc, char **argv) {
    if (argc < 5) {
        fprintf(stderr, "usage: encode_on_gpu MODEL_DIR auto|cuda|cpu TABLE_DIR|- TEXT...\n");
        return 2;
    }
    embed_model *model = NULL;
    embed_table *table = NULL;
    embed_context *ctx = NULL;
    embed_model_info info = {.struct_size = sizeof info};
    embed_context_params params = EMBED_CONTEXT_PARAMS_INIT;
    int code = 0;
    if (embed_model_open(&model, argv[1], NULL) != EMBED_OK ||
        embed_model_get_info(model, &info) != EMBED_OK ||
        (strcmp(argv[3], "-") != 0 && embed_table_open(&table, argv[3], model, NULL) != EMBED_OK))
        code = fail();
    params.device = kind_of(argv[2]);
    params.device_dtype = EMBED_BF16; /* of no effect on the CPU */
    params.table = table;
    /* Uploads the weights, once for all contexts of the model. */
    if (code == 0 && embed_context_create(&ctx, model, &params) != EMBED_OK)
        code = fail();
    if (code == 0)
        code = encode(ctx, (size_t)info.dim, argv + 4, (size_t)(argc - 4));
    embed_context_free(ctx);
    embed_table_free(table);
    embed_model_free(model);
    return code;
}
