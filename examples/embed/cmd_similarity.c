/* embed similarity: cosine similarity of two texts. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tool.h"

static int print_cosine(const char *who, embed_model *model, embed_context *ctx, int32_t role,
                        char *const operands[2]) {
    embed_model_info info = {.struct_size = sizeof info};
    embed_encode_params params = EMBED_ENCODE_PARAMS_INIT;
    params.role = role;
    const embed_text texts[2] = {{operands[0], strlen(operands[0])},
                                 {operands[1], strlen(operands[1])}};
    if (embed_model_get_info(model, &info) != EMBED_OK)
        return tool_fail(who, "%s", embed_last_error());
    const size_t dim = (size_t)info.dim;
    float *vectors = malloc(2 * dim * sizeof *vectors);
    if (!vectors)
        return tool_fail(who, "not enough memory");
    int code = EXIT_OK;
    if (embed_encode(ctx, texts, 2, &params, vectors, 2 * dim) != EMBED_OK)
        code = tool_fail(who, "%s", embed_last_error());
    else
        printf("%.6f\n", embed_cosine(vectors, vectors + dim, dim));
    free(vectors);
    const int flushed = tool_flush_stdout(who);
    return code != EXIT_OK ? code : flushed;
}

int cmd_similarity(int argc, char **argv) {
    const char *dir = NULL;
    int32_t role = EMBED_ROLE_NONE, threads = 0;
    device_options device = {.device = NULL};
    int first;
    const command cmd = {
        "similarity",
        "-m DIR [OPTION]... TEXT TEXT",
        "Prints the cosine similarity of two texts, from -1 to 1.",
        "  embed similarity -m all-MiniLM-L6-v2 'a cat sleeps' 'the kitten is dozing'\n"
        "  embed similarity -m nomic-embed-text-v2-moe -r query 'un chat dort' 'a cat sleeps'\n",
        2,
        2};
    const option_spec table[] = {OPTION_MODEL(dir), OPTION_ROLE(role, "none"),
                                 OPTION_THREADS(threads), OPTIONS_DEVICE(device), OPTIONS_END};
    const options_result parsed = options_parse(&cmd, table, argc, argv, &first);
    if (parsed != OPTIONS_RUN)
        return parsed == OPTIONS_HELP ? tool_flush_stdout(argv[0]) : EXIT_USAGE;

    embed_context_params params = EMBED_CONTEXT_PARAMS_INIT;
    params.threads = threads;
    if (tool_device(argv[0], &device, &params) != EXIT_OK)
        return EXIT_USAGE;
    embed_model *model;
    embed_context *ctx;
    int code = tool_open(argv[0], dir, EMBED_ISA_AUTO, &params, &model, &ctx);
    if (code != EXIT_OK)
        return code;
    code = print_cosine(argv[0], model, ctx, role, argv + first);
    embed_context_free(ctx);
    embed_model_free(model);
    return code;
}
