/* encode_with_table: texts encoded with a table of n-gram vectors, and how much of them the table
 * knew.
 *
 *     encode_with_table MODEL_DIR TABLE_DIR TEXT...
 *     examples/ngram_quickstart.sh makes a table */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "embed.h"

static int fail(void) {
    fprintf(stderr, "encode_with_table: %s\n", embed_last_error());
    return 1;
}

/* One text after the other, so that the statistics of a call are those of a text. */
static int encode(embed_context *ctx, const embed_table_info *table, size_t dim, char *const *texts,
                  int n) {
    float *vector = malloc(dim * sizeof *vector);
    int code = vector ? 0 : 1;
    for (int i = 0; i < n && code == 0; i++) {
        const embed_text text = {texts[i], strlen(texts[i])};
        embed_table_stats s = {.struct_size = sizeof s};
        if (embed_encode(ctx, &text, 1, NULL, vector, dim) != EMBED_OK ||
            embed_context_get_table_stats(ctx, &s) != EMBED_OK) {
            code = fail();
            break;
        }
        printf("%llu of %llu tokens matched", (unsigned long long)(s.positions - s.hits[0]),
               (unsigned long long)s.positions);
        for (int length = 2; length <= table->k; length++)
            printf("%s %d tokens: %llu", length == 2 ? "," : ";", length,
                   (unsigned long long)s.hits[length]);
        printf("  (%.4f, %.4f ...)  %s\n", (double)vector[0], (double)vector[dim - 1], texts[i]);
    }
    free(vector);
    return code;
}

int main(int argc, char **argv) {
    if (argc < 4) {
        fprintf(stderr, "usage: encode_with_table MODEL_DIR TABLE_DIR TEXT...\n");
        return 2;
    }
    embed_model *model = NULL;
    embed_table *table = NULL;
    embed_context *ctx = NULL;
    embed_model_info info = {.struct_size = sizeof info};
    embed_table_info facts = {.struct_size = sizeof facts};
    embed_context_params params = EMBED_CONTEXT_PARAMS_INIT;
    int code = 0;
    /* The table is refused unless it was made for this tokenizer and these word embeddings. */
    if (embed_model_open(&model, argv[1], NULL) != EMBED_OK ||
        embed_model_get_info(model, &info) != EMBED_OK ||
        embed_table_open(&table, argv[2], model, NULL) != EMBED_OK ||
        embed_table_get_info(table, &facts) != EMBED_OK)
        code = fail();
    params.table = table;
    if (code == 0 && embed_context_create(&ctx, model, &params) != EMBED_OK)
        code = fail();
    if (code == 0) {
        printf("table %s: %llu n-grams of 2 to %d tokens for %s\n", facts.id,
               (unsigned long long)facts.rows, facts.k, info.name);
        code = encode(ctx, &facts, (size_t)info.dim, argv + 3, argc - 3);
    }
    embed_context_free(ctx);
    embed_table_free(table);
    embed_model_free(model);
    return code;
}
