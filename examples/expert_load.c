/* expert_load: how a Mixture-of-Experts model spread the tokens of a call over its experts. A
 * busiest share far above 1/experts means that few experts do most of the work. usage: expert_load
 * MODEL_DIR < FILE */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "embed.h"

#define MAX_TEXTS 10000

/* The lines of standard input as spans; returns how many. */
static size_t read_lines(embed_text *lines) {
    static char block[1 << 20];
    block[fread(block, 1, sizeof block - 1, stdin)] = '\0';
    size_t n = 0;
    for (char *line = strtok(block, "\n"); line && n < MAX_TEXTS; line = strtok(NULL, "\n"))
        lines[n++] = (embed_text){line, strlen(line)};
    return n;
}

static embed_status print_layer(const embed_context *ctx, int32_t i) {
    embed_expert_stats stats = {.struct_size = sizeof stats};
    const embed_status st = embed_get_expert_stats(ctx, i, &stats);
    if (st != EMBED_OK)
        return st;
    printf("layer %2d: busiest %.1f %%, mean gate %.3f, tokens", stats.layer,
           100 * (double)stats.busiest_share, (double)stats.mean_gate);
    for (int32_t e = 0; e < stats.experts; e++)
        printf(" %llu", (unsigned long long)stats.expert_tokens[e]);
    printf(" of %llu\n", (unsigned long long)stats.tokens);
    return EMBED_OK;
}

int main(int argc, char **argv) {
    static embed_text texts[MAX_TEXTS];
    embed_model *model = NULL;
    embed_context *ctx = NULL;
    embed_model_info info = {.struct_size = sizeof info};
    float *vectors = NULL;
    embed_status st;

    if (argc != 2) {
        fprintf(stderr, "usage: expert_load MODEL_DIR < FILE\n");
        return 2;
    }
    const size_t n = read_lines(texts);
    if ((st = embed_model_open(&model, argv[1], NULL)) == EMBED_OK &&
        (st = embed_model_get_info(model, &info)) == EMBED_OK &&
        (st = embed_context_create(&ctx, model, NULL)) == EMBED_OK) {
        const size_t need = n * (size_t)info.dim;
        vectors = malloc(need * sizeof *vectors);
        st = vectors ? embed_encode(ctx, texts, n, NULL, vectors, need) : EMBED_ERR_NOMEM;
    }
    if (st == EMBED_OK && info.moe_layers == 0)
        printf("%s has no experts\n", info.name);
    for (int32_t i = 0; st == EMBED_OK && i < info.moe_layers; i++)
        st = print_layer(ctx, i);
    if (st != EMBED_OK)
        fprintf(stderr, "expert_load: %s\n", embed_last_error());
    free(vectors);
    embed_context_free(ctx);
    embed_model_free(model);
    return st == EMBED_OK ? 0 : 1;
}
