#include "tool.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const option_choice tool_roles[] = {{"query", EMBED_ROLE_QUERY},
                                    {"document", EMBED_ROLE_DOCUMENT},
                                    {"default", EMBED_ROLE_DEFAULT},
                                    {"none", EMBED_ROLE_NONE},
                                    {NULL, 0}};

static void say(const char *who, const char *fmt, va_list args) {
    fprintf(stderr, "%s: ", who);
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
}

int tool_fail(const char *who, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    say(who, fmt, args);
    va_end(args);
    return EXIT_FAILED;
}

int tool_usage(const char *who, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    say(who, fmt, args);
    va_end(args);
    return EXIT_USAGE;
}

static void log_warning(void *user, int32_t level, const char *msg) {
    if (level >= EMBED_LOG_WARN)
        fprintf(stderr, "%s: %s\n", (const char *)user, msg);
}

static int open_model(const char *who, const char *path, int32_t isa, uint64_t pack_bytes,
                      embed_model **model) {
    *model = NULL;
    if (!path)
        return tool_usage(who, "-m DIR is missing: the checkpoint directory to use");
    embed_model_params params = EMBED_MODEL_PARAMS_INIT;
    params.log = log_warning;
    params.log_user = (void *)who;
    params.isa = isa;
    params.pack_bytes = pack_bytes;
    if (embed_model_open(model, path, &params) != EMBED_OK)
        return tool_fail(who, "%s", embed_last_error());
    return EXIT_OK;
}

int tool_open_model(const char *who, const char *path, int32_t isa, embed_model **model) {
    return open_model(who, path, isa, 0, model);
}

int tool_open_tokenizer(const char *who, const char *path, embed_model **model) {
    return open_model(who, path, EMBED_ISA_AUTO, 1, model);
}

int tool_open(const char *who, const char *path, int32_t isa, const embed_context_params *params,
              embed_model **model, embed_context **ctx) {
    *ctx = NULL;
    const int code = tool_open_model(who, path, isa, model);
    if (code != EXIT_OK)
        return code;
    if (embed_context_create(ctx, *model, params) == EMBED_OK)
        return EXIT_OK;
    tool_fail(who, "%s", embed_last_error());
    embed_model_free(*model);
    *model = NULL;
    return EXIT_FAILED;
}

int tool_flush_stdout(const char *who) {
    if (fflush(stdout) != 0 || ferror(stdout))
        return tool_fail(who, "standard output: %s", strerror(errno));
    return EXIT_OK;
}
