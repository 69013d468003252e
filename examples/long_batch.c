/* long_batch: a long call that reports its progress, can be cancelled and tells what happened to
 * each text: how many tokens it had and whether it was cut.
 * usage: long_batch MODEL_DIR TEXTS [STOP_AFTER]
 * Encodes TEXTS made-up texts and cancels the call once STOP_AFTER of them are done. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "embed.h"

#define WORDS "one text is longer than the next one "

typedef struct watch {
    uint64_t calls, stop_after;
} watch;

/* Called from embed_encode between batches, in this thread; non-zero cancels. */
static int32_t on_progress(void *user, uint64_t done, uint64_t total, uint64_t tokens) {
    watch *w = user;
    w->calls++;
    fprintf(stderr, "%llu of %llu texts, %llu tokens\n", (unsigned long long)done,
            (unsigned long long)total, (unsigned long long)tokens);
    return w->stop_after && done >= w->stop_after;
}

int main(int argc, char **argv) {
    embed_model *model = NULL;
    embed_context *ctx = NULL;
    embed_model_info info = {.struct_size = sizeof info};
    embed_context_params small = EMBED_CONTEXT_PARAMS_INIT;
    embed_encode_params params = EMBED_ENCODE_PARAMS_INIT;
    char *end = NULL;
    const long n_asked = argc > 2 ? strtol(argv[2], &end, 10) : 0;
    watch w = {0, argc > 3 ? strtoull(argv[3], NULL, 10) : 0};

    if (argc < 3 || argc > 4 || *end || n_asked < 1 || n_asked > 1000000) {
        fprintf(stderr, "usage: long_batch MODEL_DIR TEXTS [STOP_AFTER]\n");
        return 2;
    }
    const size_t n = (size_t)n_asked, unit = sizeof WORDS - 1, most = 40;
    char *words = malloc(most * unit);
    embed_text *texts = malloc(n * sizeof *texts);
    embed_text_report *reports = calloc(n, sizeof *reports);
    float *vectors = NULL;
    embed_status st = words && texts && reports ? EMBED_OK : EMBED_ERR_NOMEM;
    for (size_t i = 0; st == EMBED_OK && i < most; i++)
        memcpy(words + i * unit, WORDS, unit);
    for (size_t i = 0; st == EMBED_OK && i < n; i++)
        texts[i] = (embed_text){words, unit * (1 + i % most)};

    small.batch_tokens = 512; /* smaller batches report more often */
    if (st == EMBED_OK && (st = embed_model_open(&model, argv[1], NULL)) == EMBED_OK &&
        (st = embed_model_get_info(model, &info)) == EMBED_OK &&
        (st = embed_context_create(&ctx, model, &small)) == EMBED_OK) {
        const size_t need = n * (size_t)info.dim;
        vectors = malloc(need * sizeof *vectors);
        params.reports = reports;
        params.progress = on_progress;
        params.progress_user = &w;
        st = vectors ? embed_encode(ctx, texts, n, &params, vectors, need) : EMBED_ERR_NOMEM;
    }
    if (st == EMBED_OK) {
        long tokens = 0, cut = 0;
        for (size_t i = 0; i < n; i++) {
            tokens += reports[i].tokens;
            cut += reports[i].truncated;
        }
        printf("%zu texts, %ld tokens, %ld cut to %d tokens\n", n, tokens, cut, info.max_tokens);
    } else if (st == EMBED_ERR_CANCELLED) {
        printf("cancelled after %llu reports\n", (unsigned long long)w.calls);
    } else {
        fprintf(stderr, "long_batch: %s\n", embed_last_error());
    }
    free(vectors);
    free(reports);
    free(texts);
    free(words);
    embed_context_free(ctx);
    embed_model_free(model);
    return st == EMBED_OK || st == EMBED_ERR_CANCELLED ? 0 : 1;
}
