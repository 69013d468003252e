/* late_interaction: one vector per token instead of one per text. Each token of the query looks for
 * its best match in the document; the score is the mean of these (MaxSim, Khattab and Zaharia
 * 2020). usage: late_interaction MODEL_DIR QUERY DOCUMENT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "embed.h"

typedef struct token_vectors {
    size_t n;
    int32_t *ids;
    float *states; /* [n, hidden] */
} token_vectors;

/* First ask how many tokens there are, then encode. */
static embed_status encode_tokens(embed_context *ctx, const char *s, size_t hidden,
                                  token_vectors *out) {
    const embed_text text = {s, strlen(s)};
    embed_status st = embed_encode_tokens(ctx, text, NULL, NULL, 0, NULL, &out->n);
    if (st != EMBED_OK)
        return st;
    out->ids = malloc(out->n * sizeof *out->ids);
    out->states = malloc(out->n * hidden * sizeof *out->states);
    if (!out->ids || !out->states)
        return EMBED_ERR_NOMEM;
    return embed_encode_tokens(ctx, text, NULL, out->states, out->n * hidden, out->ids, &out->n);
}

static double max_sim(const token_vectors *query, const token_vectors *document, size_t hidden) {
    double sum = 0;
    for (size_t i = 0; i < query->n; i++) {
        double best = -1;
        size_t at = 0;
        for (size_t j = 0; j < document->n; j++) {
            const double s =
                embed_cosine(query->states + i * hidden, document->states + j * hidden, hidden);
            at = s > best ? j : at;
            best = s > best ? s : best;
        }
        printf("  token %6d matches %6d at %2zu: %.3f\n", query->ids[i], document->ids[at], at,
               best);
        sum += best;
    }
    return sum / (double)query->n;
}

int main(int argc, char **argv) {
    embed_model *model = NULL;
    embed_context *ctx = NULL;
    embed_model_info info = {.struct_size = sizeof info};
    token_vectors query = {0, NULL, NULL}, document = {0, NULL, NULL};
    embed_status st;

    if (argc != 4) {
        fprintf(stderr, "usage: late_interaction MODEL_DIR QUERY DOCUMENT\n");
        return 2;
    }
    if ((st = embed_model_open(&model, argv[1], NULL)) == EMBED_OK &&
        (st = embed_model_get_info(model, &info)) == EMBED_OK &&
        (st = embed_context_create(&ctx, model, NULL)) == EMBED_OK &&
        (st = encode_tokens(ctx, argv[2], (size_t)info.hidden, &query)) == EMBED_OK &&
        (st = encode_tokens(ctx, argv[3], (size_t)info.hidden, &document)) == EMBED_OK)
        printf("score %.4f\n", max_sim(&query, &document, (size_t)info.hidden));
    if (st != EMBED_OK)
        fprintf(stderr, "late_interaction: %s\n", embed_last_error());
    free(query.ids);
    free(query.states);
    free(document.ids);
    free(document.states);
    embed_context_free(ctx);
    embed_model_free(model);
    return st == EMBED_OK ? 0 : 1;
}
