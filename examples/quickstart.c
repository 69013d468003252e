/* quickstart: embed a file of texts, one a line, and rank them for each query by meaning.
 * usage: quickstart MODEL_DIR QUERY... < CORPUS */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "embed.h"

#define MAX_TEXTS 10000
#define SHOWN 3

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The lines of standard input as spans; returns how many. */
static size_t read_lines(embed_text *lines) {
    static char block[1 << 20];
    block[fread(block, 1, sizeof block - 1, stdin)] = '\0';
    size_t n = 0;
    for (char *line = strtok(block, "\n"); line && n < MAX_TEXTS; line = strtok(NULL, "\n"))
        lines[n++] = (embed_text){line, strlen(line)};
    return n;
}

static int embed_corpus(embed_context *ctx, const embed_text *texts, size_t n, float *vectors,
                        size_t dim) {
    static embed_text_report reports[MAX_TEXTS];
    embed_encode_params params = EMBED_ENCODE_PARAMS_INIT;
    params.role = EMBED_ROLE_DOCUMENT;
    params.reports = reports;
    const double start = seconds();
    if (embed_encode(ctx, texts, n, &params, vectors, n * dim) != EMBED_OK)
        return 0;
    const double spent = seconds() - start;
    double tokens = 0;
    for (size_t i = 0; i < n; i++)
        tokens += reports[i].tokens;
    printf("%zu texts, %.0f tokens in %.3f s: %.0f tokens/s\n", n, tokens, spent, tokens / spent);
    return 1;
}

/* Print the SHOWN best texts, best first: each round finds the best below the one before. */
static int answer(embed_context *ctx, const char *query, const embed_text *texts, size_t n,
                  const float *vectors, float *asked, size_t dim) {
    const embed_text text = {query, strlen(query)};
    embed_encode_params params = EMBED_ENCODE_PARAMS_INIT;
    params.role = EMBED_ROLE_QUERY;
    const double start = seconds();
    if (embed_encode(ctx, &text, 1, &params, asked, dim) != EMBED_OK)
        return 0;
    printf("\n%s  (%.1f ms)\n", query, 1e3 * (seconds() - start));
    double limit = 2;
    for (size_t shown = 0; shown < SHOWN && shown < n; shown++) {
        size_t best = 0;
        double score = -2;
        for (size_t i = 0; i < n; i++) {
            const double s = embed_cosine(asked, vectors + i * dim, dim);
            best = s < limit && s > score ? i : best;
            score = s < limit && s > score ? s : score;
        }
        printf("  %.3f  %.*s\n", limit = score, (int)texts[best].len, texts[best].ptr);
    }
    return 1;
}

int main(int argc, char **argv) {
    static embed_text texts[MAX_TEXTS];
    embed_model *model = NULL;
    embed_context *ctx = NULL;
    embed_model_info info = {.struct_size = sizeof info};
    if (argc < 3) {
        fprintf(stderr, "usage: quickstart MODEL_DIR QUERY... < CORPUS\n");
        return 2;
    }
    const size_t n = read_lines(texts);
    int ok = embed_model_open(&model, argv[1], NULL) == EMBED_OK &&
             embed_model_get_info(model, &info) == EMBED_OK &&
             embed_context_create(&ctx, model, NULL) == EMBED_OK;
    const size_t dim = (size_t)info.dim;
    float *vectors = calloc(n + 1, (dim + 1) * sizeof *vectors); /* the last row is the query's */
    ok = ok && vectors && embed_corpus(ctx, texts, n, vectors, dim);
    for (int q = 2; ok && q < argc; q++)
        ok = answer(ctx, argv[q], texts, n, vectors, vectors + n * dim, dim);
    if (!ok)
        fprintf(stderr, "quickstart: %s\n", embed_last_error());
    free(vectors);
    embed_context_free(ctx);
    embed_model_free(model);
    return ok ? 0 : 1;
}
