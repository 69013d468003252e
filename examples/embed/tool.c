#include "tool.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const option_choice tool_roles[] = {{"query", EMBED_ROLE_QUERY},
                                    {"document", EMBED_ROLE_DOCUMENT},
                                    {"default", EMBED_ROLE_DEFAULT},
                                    {"none", EMBED_ROLE_NONE},
                                    {NULL, 0}};

const option_choice tool_device_types[] = {
    {"f32", EMBED_F32}, {"f16", EMBED_F16}, {"bf16", EMBED_BF16}, {NULL, 0}};

const option_choice tool_products[] = {{"auto", EMBED_PRODUCTS_AUTO},
                                       {"own", EMBED_PRODUCTS_OWN},
                                       {"library", EMBED_PRODUCTS_LIBRARY},
                                       {NULL, 0}};

const option_choice tool_placements[] = {
    {"replicated", EMBED_PLACE_REPLICATED}, {"experts", EMBED_PLACE_EXPERTS}, {NULL, 0}};

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

/* A number at *text, which is moved behind it; 0 if there is none. */
static int read_index(const char **text, int32_t *index) {
    char *end;
    errno = 0;
    const long value = strtol(*text, &end, 10);
    if (**text < '0' || **text > '9' || errno || value > INT32_MAX)
        return 0;
    *text = end;
    *index = (int32_t)value;
    return 1;
}

/* What may follow the kind: nothing, ":2", ":0,1,2" or ":all"; 0 if it is none of them. */
static int read_devices(const char *text, device_options *o, embed_context_params *params) {
    int32_t n = 0;
    if (*text == '\0')
        return 1;
    if (strcmp(text, ":all") == 0) {
        params->n_devices = EMBED_ALL_DEVICES;
        return 1;
    }
    do {
        text++; /* the colon or a comma */
        if (n == TOOL_MAX_DEVICES || !read_index(&text, &o->indices[n++]))
            return 0;
    } while (*text == ',');
    if (*text != '\0')
        return 0;
    if (n == 1)
        params->device_index = o->indices[0];
    else {
        params->devices = o->indices;
        params->n_devices = n;
    }
    return 1;
}

int tool_device(const char *who, device_options *o, embed_context_params *params) {
    static const option_choice kinds[] = {{"cpu", EMBED_DEVICE_CPU},
                                          {"cuda", EMBED_DEVICE_CUDA},
                                          {"auto", EMBED_DEVICE_AUTO},
                                          {"emulated", EMBED_DEVICE_EMULATED},
                                          {NULL, 0}};
    params->device_dtype = o->dtype;
    params->placement = o->placement;
    params->device_products = o->products;
    params->device_flags = o->tf32 ? EMBED_TF32 : 0;
    if (!o->device)
        return EXIT_OK;
    const size_t length = strcspn(o->device, ":");
    for (const option_choice *c = kinds; c->name; c++)
        if (strlen(c->name) == length && memcmp(c->name, o->device, length) == 0)
            params->device = c->value;
    const int several =
        params->device == EMBED_DEVICE_CUDA || params->device == EMBED_DEVICE_EMULATED;
    if (params->device == 0 || (!several && o->device[length] != '\0') ||
        !read_devices(o->device + length, o, params))
        return tool_usage(who,
                          "--device: expected cpu, auto, or cuda or emulated, alone or with :N, "
                          ":N,N... or :all, found '%s'",
                          o->device);
    return EXIT_OK;
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

const char *tool_dtype_name(int32_t dtype) {
    return dtype == EMBED_F32    ? "f32"
           : dtype == EMBED_F16  ? "f16"
           : dtype == EMBED_BF16 ? "bf16"
           : dtype == EMBED_I8   ? "int8"
                                 : "?";
}
