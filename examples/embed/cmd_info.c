/* embed info: what a checkpoint is. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "third_party/yyjson/yyjson.h"
#include "tool.h"

/* The set bits of embed_pooling, such as "cls+mean". */
static const char *pooling_name(int32_t bits, char *out, size_t size) {
    static const char *const names[] = {"cls",           "max",           "mean",
                                        "mean_sqrt_len", "weighted_mean", "last_token"};
    out[0] = '\0';
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (bits & (1 << i))
            snprintf(out + strlen(out), size - strlen(out), "%s%s", *out ? "+" : "", names[i]);
    return out;
}

static int print_text(const char *who, const embed_model *model, const embed_model_info *info,
                      const char *fingerprint) {
    char pooling[80];
    printf("name              %s\n", info->name);
    printf("architecture      %s, %d layers of %d heads x %d, hidden %d, inner %d\n",
           info->architecture, info->layers, info->heads, info->head_dim, info->hidden,
           info->inner);
    if (info->moe_layers)
        printf("experts           %d in each of %d layers, %d per token\n", info->experts,
               info->moe_layers, info->experts_per_token);
    printf("dimensions        %d\n", info->dim);
    printf("max tokens        %d\n", info->max_tokens);
    printf("vocabulary        %d\n", info->vocab);
    printf("pooling           %s%s\n", pooling_name(info->pooling, pooling, sizeof pooling),
           info->normalized ? ", L2-normalised" : "");
    printf("parameters        %.1f M, %.1f M active per token\n", 1e-6 * (double)info->params_total,
           1e-6 * (double)info->params_active);
    printf("weights           %s, %.1f MB mapped\n", tool_dtype_name(info->weight_dtype),
           1e-6 * (double)info->weight_bytes);
    printf("memory            %.1f MB besides the mapping\n", 1e-6 * (double)info->resident_bytes);
    printf("work per token    %.1f MFLOP + %.3f MFLOP x tokens of its text\n",
           1e-6 * (double)info->flops_per_token, 1e-6 * (double)info->flops_per_token_pair);
    printf("kernels           %s\n", info->isa);
    printf("fingerprint       %s\n", fingerprint);
    for (int32_t i = 0; i < info->prompts; i++) {
        const char *name;
        embed_text prompt;
        if (embed_model_prompt(model, i, &name, &prompt) != EMBED_OK)
            return tool_fail(who, "%s", embed_last_error());
        printf("prompt            %s: \"%.*s\"\n", name, (int)prompt.len, prompt.ptr);
    }
    return tool_flush_stdout(who);
}

static void add_numbers(yyjson_mut_doc *doc, yyjson_mut_val *root, const embed_model_info *info) {
    const struct {
        const char *name;
        int64_t value;
    } numbers[] = {{"dim", info->dim},
                   {"hidden", info->hidden},
                   {"layers", info->layers},
                   {"heads", info->heads},
                   {"head_dim", info->head_dim},
                   {"inner", info->inner},
                   {"vocab", info->vocab},
                   {"moe_layers", info->moe_layers},
                   {"experts", info->experts},
                   {"experts_per_token", info->experts_per_token},
                   {"max_tokens", info->max_tokens},
                   {"params_total", info->params_total},
                   {"params_active", info->params_active},
                   {"flops_per_token", info->flops_per_token},
                   {"flops_per_token_pair", info->flops_per_token_pair},
                   {"weight_bytes", (int64_t)info->weight_bytes},
                   {"resident_bytes", (int64_t)info->resident_bytes}};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        yyjson_mut_obj_add_sint(doc, root, numbers[i].name, numbers[i].value);
}

/* Both texts must live as long as the document. */
static void add_text(yyjson_mut_doc *doc, yyjson_mut_val *object, const char *name,
                     embed_text text) {
    yyjson_mut_obj_add(object, yyjson_mut_str(doc, name),
                       yyjson_mut_strn(doc, text.ptr ? text.ptr : "", text.len));
}

static embed_text span(const char *s) {
    return (embed_text){s, strlen(s)};
}

static int print_json(const char *who, const embed_model *model, const embed_model_info *info,
                      const char *fingerprint) {
    char pooling[80];
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc), *prompts = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, root);
    add_text(doc, root, "name", span(info->name));
    add_text(doc, root, "architecture", span(info->architecture));
    add_numbers(doc, root, info);
    add_text(doc, root, "pooling", span(pooling_name(info->pooling, pooling, sizeof pooling)));
    yyjson_mut_obj_add_bool(doc, root, "normalized", info->normalized != 0);
    add_text(doc, root, "weight_dtype", span(tool_dtype_name(info->weight_dtype)));
    add_text(doc, root, "isa", span(info->isa));
    add_text(doc, root, "fingerprint", span(fingerprint));
    for (int32_t i = 0; i < info->prompts; i++) {
        const char *name;
        embed_text prompt;
        if (embed_model_prompt(model, i, &name, &prompt) == EMBED_OK)
            add_text(doc, prompts, name, prompt);
    }
    yyjson_mut_obj_add_val(doc, root, "prompts", prompts);
    char *text = yyjson_mut_write(doc, YYJSON_WRITE_PRETTY_TWO_SPACES, NULL);
    if (text)
        puts(text);
    free(text);
    yyjson_mut_doc_free(doc);
    return text ? tool_flush_stdout(who) : tool_fail(who, "not enough memory");
}

int cmd_info(int argc, char **argv) {
    const char *dir = NULL;
    int32_t json = 0;
    int first;
    const command cmd = {"info",
                         "-m DIR [--json]",
                         "Prints what a checkpoint is: architecture, sizes, prompts, fingerprint.",
                         "  embed info -m all-MiniLM-L6-v2\n"
                         "  embed info -m all-MiniLM-L6-v2 --json | jq .fingerprint\n",
                         0,
                         0};
    const option_spec table[] = {OPTION_MODEL(dir),
                                 {"output", "json", NULL, "one JSON object instead of a table",
                                  &json, NULL, OPTION_FLAG, 0, 0, 0},
                                 OPTIONS_END};
    const options_result parsed = options_parse(&cmd, table, argc, argv, &first);
    if (parsed != OPTIONS_RUN)
        return parsed == OPTIONS_HELP ? tool_flush_stdout(argv[0]) : EXIT_USAGE;

    embed_model *model;
    int code = tool_open_model(argv[0], dir, EMBED_ISA_AUTO, &model);
    if (code != EXIT_OK)
        return code;
    embed_model_info info = {.struct_size = sizeof info};
    char fingerprint[33];
    if (embed_model_get_info(model, &info) != EMBED_OK ||
        embed_model_fingerprint(model, fingerprint) != EMBED_OK)
        code = tool_fail(argv[0], "%s", embed_last_error());
    else
        code = (json ? print_json : print_text)(argv[0], model, &info, fingerprint);
    embed_model_free(model);
    return code;
}
