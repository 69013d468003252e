/* tool: what the commands of the `embed` program share: exit codes, messages, opening a model. */
#ifndef EMBED_PROGRAM_TOOL_H
#define EMBED_PROGRAM_TOOL_H

#include <stdint.h>

#include "embed.h"
#include "options.h"

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

/* argv[0] is "embed <command>", the start of every message. */
int cmd_info(int argc, char **argv);
int cmd_encode(int argc, char **argv);
int cmd_tokenize(int argc, char **argv);
int cmd_similarity(int argc, char **argv);
int cmd_search(int argc, char **argv);
int cmd_bench(int argc, char **argv);
int cmd_compare(int argc, char **argv);
int cmd_devices(int argc, char **argv);
int cmd_ngram(int argc, char **argv); /* has commands of its own, see ngram.h */

/* "<who>: <message>" on stderr; returns EXIT_FAILED or, for tool_usage, EXIT_USAGE. */
int tool_fail(const char *who, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int tool_usage(const char *who, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Open the model that -m names, or both a model and a context, with the library's warnings on
 * stderr. `isa` is an embed_isa. Returns an exit code, EXIT_USAGE if `path` is NULL because -m was
 * not given; then there is nothing to free. */
int tool_open_model(const char *who, const char *path, int32_t isa, embed_model **model);
/* The same for commands that only tokenise: no weights are brought into memory. */
int tool_open_tokenizer(const char *who, const char *path, embed_model **model);
int tool_open(const char *who, const char *path, int32_t isa, const embed_context_params *params,
              embed_model **model, embed_context **ctx);

/* "f32", "f16", "bf16" or "int8"; "?" for any other. */
const char *tool_dtype_name(int32_t dtype);

/* Data on stdout that could not be written is a failure: call at the end of a command. */
int tool_flush_stdout(const char *who);

/* The values of --role. */
extern const option_choice tool_roles[];

/* --device, --device-dtype, --device-products, --tf32 and --placement, of every command that
 * encodes. Starts zeroed.
 */
enum { TOOL_MAX_DEVICES = 64 };
typedef struct device_options {
    const char *device; /* NULL: the CPU */
    int32_t dtype;      /* embed_dtype; 0: not given */
    int32_t placement;  /* embed_placement */
    int32_t tf32;       /* 1: --tf32 */
    int32_t products;   /* embed_device_products */
    int32_t indices[TOOL_MAX_DEVICES];
} device_options;
extern const option_choice tool_device_types[], tool_placements[], tool_products[];
/* Into params, which point into *o; EXIT_USAGE after a message if it is no device. */
int tool_device(const char *who, device_options *o, embed_context_params *params);

#define OPTIONS_DEVICE(o)                                                                          \
    {"run",                                                                                        \
     "device",                                                                                     \
     "DEVICE",                                                                                     \
     "cpu, cuda, cuda:N, auto (a GPU if one is usable, else the CPU)\n"                            \
     "or emulated (the GPU's kernels on the CPU) (cpu); several:\n"                                \
     "cuda:0,1,2 or cuda:all, emulated:0,1,2 (of 8)",                                              \
     &(o).device,                                                                                  \
     NULL,                                                                                         \
     OPTION_TEXT,                                                                                  \
     0,                                                                                            \
     0,                                                                                            \
     0},                                                                                           \
        {"run",                                                                                    \
         "device-dtype",                                                                           \
         "TYPE",                                                                                   \
         "numbers on the device: f32, f16 or bf16 (f32)",                                          \
         &(o).dtype,                                                                               \
         tool_device_types,                                                                        \
         OPTION_CHOICE,                                                                            \
         0,                                                                                        \
         0,                                                                                        \
         0},                                                                                       \
        {"run",                                                                                    \
         "device-products",                                                                        \
         "HOW",                                                                                    \
         "who multiplies there: own (the same bits in any batch),\n"                               \
         "library (cuBLASLt), auto (with f16, bf16 or tf32 the faster\n"                           \
         "of them, by a measurement; with f32 own) (auto)",                                        \
         &(o).products,                                                                            \
         tool_products,                                                                            \
         OPTION_CHOICE,                                                                            \
         0,                                                                                        \
         0,                                                                                        \
         0},                                                                                       \
        {"run",       "tf32",                                                                      \
         NULL,        "with f32 on a GPU: products by tensor cores, as exact as f16",              \
         &(o).tf32,   NULL,                                                                        \
         OPTION_FLAG, 0,                                                                           \
         0,           0},                                                                          \
    {                                                                                              \
        "run", "placement", "HOW",                                                                 \
            "of several devices: replicated, or experts (each expert\n"                            \
            "on one of them, for models too large for one) (replicated)",                          \
            &(o).placement, tool_placements, OPTION_CHOICE, 0, 0, 0                                \
    }

#define OPTION_MODEL(variable)                                                                     \
    {                                                                                              \
        "model", "model", "DIR", "checkpoint directory as downloaded (required)", &(variable),     \
            NULL, OPTION_TEXT, 0, 0, 'm'                                                           \
    }
#define OPTION_ROLE(variable, preset)                                                              \
    {                                                                                              \
        "model", "role", "ROLE",                                                                   \
            "prompt of the checkpoint before each text: query,\n"                                  \
            "document, default or none (" preset ")",                                              \
            &(variable), tool_roles, OPTION_CHOICE, 0, 0, 'r'                                      \
    }
#define OPTION_THREADS(variable)                                                                   \
    {                                                                                              \
        "run", "threads", "N", "worker threads (all CPUs this process may use)", &(variable),      \
            NULL, OPTION_COUNT, 1, 1024, 'j'                                                       \
    }
#define OPTION_BATCH_TOKENS(variable)                                                              \
    {                                                                                              \
        "run", "batch-tokens", "N", "tokens per forward pass (4096)", &(variable), NULL,           \
            OPTION_COUNT, 1, 1 << 24, 0                                                            \
    }
#define OPTION_INPUT(variable)                                                                     \
    {                                                                                              \
        "input", "input", "FILE", "file to read, - is standard input (-)", &(variable), NULL,      \
            OPTION_TEXT, 0, 0, 'i'                                                                 \
    }
#define OPTION_INPUT_FORMAT(variable, formats)                                                     \
    {                                                                                              \
        "input", "input-format", "F",                                                              \
            "txt: a text a line; jsonl: {\"text\": ...} a line\n"                                  \
            "(by the end of the file's name, else txt)",                                           \
            &(variable), formats, OPTION_CHOICE, 0, 0, 0                                           \
    }
#define OPTION_PREFIX(variable)                                                                    \
    {                                                                                              \
        "model", "prefix", "TEXT", "own prompt instead of the checkpoint's", &(variable), NULL,    \
            OPTION_TEXT, 0, 0, 0                                                                   \
    }
#define OPTION_MAX_TOKENS(variable, help)                                                          \
    { "model", "max-tokens", "N", help, &(variable), NULL, OPTION_COUNT, 1, INT32_MAX, 0 }
#define OPTION_STRICT(variable)                                                                    \
    {                                                                                              \
        "input", "strict-utf8", NULL, "fail on invalid UTF-8 (becomes U+FFFD)", &(variable), NULL, \
            OPTION_FLAG, 0, 0, 0                                                                   \
    }
#define OPTIONS_END                                                                                \
    { NULL, NULL, NULL, NULL, NULL, NULL, OPTION_FLAG, 0, 0, 0 }

#endif
