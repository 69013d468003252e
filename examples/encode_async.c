/* encode_async: two batches of texts encoded in the background, on the first usable GPU or else on
 * the CPU, while this thread counts their words; then how near each text is to the first one.
 *
 *     encode_async MODEL_DIR [--device auto|cuda|cpu] TEXT TEXT...
 *
 * Experimental part of embed.h. With a vector index on the same GPU, `on_device` puts the vectors
 * into its memory, and embed_pending_order lets its stream go on behind them with no wait here. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "embed.h"

static const char usage[] =
    "usage: encode_async MODEL_DIR [--device auto|cuda|cpu] TEXT TEXT... (or --help)\n";

static int fail(void) {
    fprintf(stderr, "encode_async: %s\n", embed_last_error());
    return 1;
}

/* Called by a thread of the context when a call has ended. */
static void tell(void *user, embed_pending *pending, embed_status status) {
    (void)pending;
    fprintf(stderr, "batch %s: %s\n", (const char *)user, embed_status_name(status));
}

static size_t count_words(const embed_text *text) {
    size_t words = 0;
    for (size_t i = 0; i < text->len; i++)
        words += text->ptr[i] != ' ' && (i == 0 || text->ptr[i - 1] == ' ');
    return words;
}

/* Texts and vectors belong to the calls until these have ended. */
static int encode(embed_context *ctx, size_t dim, const embed_text *texts, size_t n, float *out) {
    static char names[2][2] = {"1", "2"};
    embed_pending *calls[2] = {NULL, NULL};
    int code = 0;
    for (size_t i = 0; i < 2 && code == 0; i++) {
        const size_t from = i * (n / 2), count = i == 0 ? n / 2 : n - n / 2;
        embed_async_params params = EMBED_ASYNC_PARAMS_INIT;
        params.done = tell;
        params.done_user = names[i];
        if (embed_encode_async(ctx, texts + from, count, &params, out + from * dim, count * dim,
                               &calls[i]) != EMBED_OK)
            code = fail();
    }
    size_t counted = 0, words = 0;
    for (int32_t done = 0; code == 0 && !done && counted < n; counted++) {
        words += count_words(&texts[counted]);
        if (embed_pending_poll(calls[1], &done) != EMBED_OK)
            code = fail();
    }
    for (size_t i = 0; i < 2 && code == 0; i++)
        if (embed_pending_wait(calls[i], -1, NULL) != EMBED_OK)
            code = fail();
    embed_pending_free(calls[0]); /* waits where the call has not ended */
    embed_pending_free(calls[1]);
    if (code == 0)
        printf("%zu words in %zu texts counted meanwhile\n", words, counted);
    return code;
}

int main(int argc, char **argv) {
    const int help = argc > 1 && strcmp(argv[1], "--help") == 0;
    const int named = argc > 3 && strcmp(argv[2], "--device") == 0;
    const int first = named ? 4 : 2, n = argc - first;
    if (help || n < 2) {
        fputs(usage, help ? stdout : stderr);
        return help ? 0 : 2;
    }
    embed_model *model = NULL;
    embed_context *ctx = NULL;
    embed_model_info info = {.struct_size = sizeof info};
    embed_context_params params = EMBED_CONTEXT_PARAMS_INIT;
    params.device = named && strcmp(argv[3], "cpu") == 0    ? EMBED_DEVICE_CPU
                    : named && strcmp(argv[3], "cuda") == 0 ? EMBED_DEVICE_CUDA
                                                            : EMBED_DEVICE_AUTO;
    int code = embed_model_open(&model, argv[1], NULL) != EMBED_OK ||
                       embed_model_get_info(model, &info) != EMBED_OK ||
                       embed_context_create(&ctx, model, &params) != EMBED_OK
                   ? fail()
                   : 0;
    const size_t dim = (size_t)info.dim, count = (size_t)n;
    embed_text *texts = malloc(count * sizeof *texts);
    float *out = malloc(count * dim * sizeof *out);
    for (size_t i = 0; texts != NULL && i < count; i++)
        texts[i] = (embed_text){argv[(size_t)first + i], strlen(argv[(size_t)first + i])};
    if (code == 0)
        code = texts != NULL && out != NULL ? encode(ctx, dim, texts, count, out) : 1;
    for (size_t i = 0; code == 0 && i < count; i++)
        printf("%.3f  %s\n", embed_cosine(out, out + i * dim, dim), texts[i].ptr);
    embed_context_free(ctx);
    embed_model_free(model);
    free(out);
    free(texts);
    return code;
}
