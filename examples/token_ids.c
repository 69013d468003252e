/* token_ids: tokenise first, encode the ids later. For callers who count tokens, cache ids or have
 * a tokenizer of their own; the vector is the same, bit for bit, as from the text. usage: token_ids
 * MODEL_DIR TEXT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "embed.h"

int main(int argc, char **argv) {
    embed_model *model = NULL;
    embed_context *ctx = NULL;
    embed_model_info info = {.struct_size = sizeof info};
    embed_encode_params limit = EMBED_ENCODE_PARAMS_INIT;
    int32_t *ids = NULL;
    float *vectors = NULL;
    int same = -1;

    if (argc != 3) {
        fprintf(stderr, "usage: token_ids MODEL_DIR TEXT\n");
        return 2;
    }
    const embed_text text = {argv[2], strlen(argv[2])};
    if (embed_model_open(&model, argv[1], NULL) != EMBED_OK ||
        embed_context_create(&ctx, model, NULL) != EMBED_OK ||
        embed_model_get_info(model, &info) != EMBED_OK)
        goto done;
    const size_t dim = (size_t)info.dim;
    embed_ids row = {NULL, 0};
    limit.max_tokens = info.max_tokens; /* embed_tokenize cuts only if told to */
    ids = malloc((size_t)info.max_tokens * sizeof *ids);
    vectors = malloc(2 * dim * sizeof *vectors);
    if (!ids || !vectors ||
        embed_tokenize(model, text, &limit, ids, (size_t)info.max_tokens, &row.len) != EMBED_OK)
        goto done;
    row.ptr = ids;
    for (size_t i = 0; i < row.len; i++)
        printf("%d%c", ids[i], i + 1 < row.len ? ' ' : '\n');
    if (embed_encode_ids(ctx, &row, 1, NULL, vectors, dim) != EMBED_OK ||
        embed_encode(ctx, &text, 1, NULL, vectors + dim, dim) != EMBED_OK)
        goto done;
    same = memcmp(vectors, vectors + dim, dim * sizeof *vectors) == 0;
    printf("%zu tokens; the vector of the ids and of the text: %s\n", row.len,
           same ? "the same bits" : "different");
done:
    if (same < 0)
        fprintf(stderr, "token_ids: %s\n", embed_last_error());
    free(vectors);
    free(ids);
    embed_context_free(ctx);
    embed_model_free(model);
    return same == 1 ? 0 : 1;
}
