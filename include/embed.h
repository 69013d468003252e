/* embed.h - text to vectors inside your own process.
 *
 * embed opens a text-embedding checkpoint exactly as Hugging Face serves it (config.json,
 * model.safetensors, tokenizer.json ...) and turns UTF-8 text into vectors that agree with the
 * reference implementation to float32 accuracy: nomic_bert (nomic-embed-text-v1, v1.5 and the
 * Mixture-of-Experts v2), bert and xlm-roberta.
 *
 *     embed_model *model;
 *     embed_context *ctx;
 *     float out[384];
 *     const embed_text text = {"how tall is the Eiffel tower?", 29};
 *     if (embed_model_open(&model, "all-MiniLM-L6-v2", NULL) != EMBED_OK ||
 *         embed_context_create(&ctx, model, NULL) != EMBED_OK ||
 *         embed_encode(ctx, &text, 1, NULL, out, 384) != EMBED_OK) {
 *         fprintf(stderr, "%s\n", embed_last_error());
 *         return 1;
 *     }
 *     embed_context_free(ctx);
 *     embed_model_free(model);
 *
 * CAVEATS
 *   - Weights are memory-mapped. A checkpoint file that is cut or overwritten in place while a
 *     model is open changes the vectors or raises SIGBUS, as with every mapping; replace
 *     checkpoints by renaming.
 *   - A forked child may use neither contexts nor models of its parent, but may free them: the
 *     worker threads of a context do not survive fork(). It cannot encode with them: EMBED_ERR_ARG,
 *     on a device EMBED_ERR_DEVICE, and if its parent used devices, it can use none of their kind.
 *   - The library never prints, exits, aborts, reads the environment, installs signal handlers or
 *     changes process-wide state. Its only state outside handles is the thread-local text of
 *     embed_last_error().
 *   - Same text, same bits: a text's vector does not depend on the other texts of the call, on
 *     their order, on batch_tokens, on the number of threads or on which of the implementations
 *     (embed_model_params.isa) runs; it does depend on the n-gram table, if one is attached. On a
 *     device it depends on that, and with 16-bit numbers see embed_context_create.
 *     Vectors of different builds of this library, or of different `fingerprint`s, are not
 *     comparable bit for bit.
 *
 * THREADS  An embed_model is immutable and may be used by any number of threads. An embed_context
 *   belongs to one thread at a time (a second call meanwhile is EMBED_ERR_ARG; only
 *   embed_context_set_table may come from another); contexts of one model run in parallel. A
 *   context keeps its model alive, so the order of frees never matters.
 * ERRORS   Every call that can fail returns an embed_status and, unless it is EMBED_OK, leaves a
 *   sentence in embed_last_error() of the calling thread. Output buffers are then unspecified,
 *   handles stay usable, and a failed open or create sets *out to NULL and leaves nothing to free.
 *   Each call may return EMBED_ERR_ARG (NULL or senseless argument) and EMBED_ERR_ABI (a params
 *   struct of a newer header uses a field or flag that this library does not know, or struct_size
 *   was not set). Where one text of many is at fault, the message names its index.
 * PARAMS   A params struct starts with struct_size = sizeof of the struct; zero in any other field
 *   means the default, so zeroed memory with struct_size set is the default (the _INIT macros only
 *   say the same), and a NULL params pointer means all defaults. Structs grow at their end, and
 *   `reserved` stays 0. Pointers in params are borrowed for the call unless said otherwise.
 *
 * Licence: Apache-2.0. */
#ifndef EMBED_H
#define EMBED_H

#include <stddef.h>
#include <stdint.h>

#if defined(EMBED_STATIC)
#define EMBED_API
#elif defined(_WIN32)
#define EMBED_API __declspec(dllimport)
#else
#define EMBED_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---------------------------------------------------------------------------- version, status */

#define EMBED_VERSION_MAJOR 0
#define EMBED_VERSION_MINOR 1
#define EMBED_VERSION_PATCH 0
#define EMBED_VERSION                                                                              \
    (EMBED_VERSION_MAJOR * 1000000 + EMBED_VERSION_MINOR * 1000 + EMBED_VERSION_PATCH)

/* Version of the library that runs, major*1000000 + minor*1000 + patch. */
EMBED_API uint32_t embed_version(void);

/* Values are never renumbered or reused. 1-9 caller, 10-19 resources, 20-29 files and formats,
 * 30-39 device, 90 internal. */
typedef enum embed_status {
    EMBED_OK = 0,
    EMBED_ERR_ARG = 1,          /* NULL, out-of-range or contradictory argument */
    EMBED_ERR_ABI = 2,          /* params struct with a field or flag unknown to this library */
    EMBED_ERR_CAPACITY = 3,     /* output buffer too small; the message names the need */
    EMBED_ERR_UTF8 = 4,         /* invalid UTF-8 and EMBED_UTF8_REFUSE was asked for */
    EMBED_ERR_TOO_LONG = 5,     /* text over the limit and EMBED_TRUNCATE_ERROR was asked for */
    EMBED_ERR_CANCELLED = 6,    /* a callback, or embed_pending_cancel, asked to stop */
    EMBED_ERR_NOMEM = 10,       /* an allocation failed */
    EMBED_ERR_THREAD = 11,      /* a worker thread could not be started */
    EMBED_ERR_IO = 20,          /* missing file, no permission, read or map error */
    EMBED_ERR_FORMAT = 21,      /* malformed file: JSON, safetensors, tokenizer */
    EMBED_ERR_TRUNCATED = 22,   /* file shorter than its own header says */
    EMBED_ERR_UNSUPPORTED = 23, /* well-formed, but asks for something this library refuses */
    EMBED_ERR_MISMATCH = 24,    /* files of one checkpoint contradict each other */
    EMBED_ERR_DEVICE = 30,      /* device missing or failed */
    EMBED_ERR_INTERNAL = 90     /* a bug in this library */
} embed_status;

/* Name of the constant, such as "EMBED_ERR_IO"; "EMBED_ERR_?" for an unknown value. Static. */
EMBED_API const char *embed_status_name(embed_status status);

/* The sentence behind the calling thread's last failure, "" if there was none: the constant's
 * name, then file, key or tensor, expected and found. Valid until that thread's next embed call. */
EMBED_API const char *embed_last_error(void);

/* -------------------------------------------------------------------------------------- types */

typedef struct embed_model embed_model;     /* an open checkpoint: immutable, shared by threads */
typedef struct embed_context embed_context; /* scratch memory and worker threads: one user */
typedef struct embed_table embed_table;     /* an open n-gram table: immutable, shared by threads */

/* UTF-8 bytes, not NUL-terminated; NUL bytes are ordinary bytes */
typedef struct embed_text {
    const char *ptr; /* may be NULL if len is 0 */
    size_t len;
} embed_text;

/* ready-made token ids, special tokens included */
typedef struct embed_ids {
    const int32_t *ptr;
    size_t len; /* 1 .. max tokens of the model */
} embed_ids;

/* Caller's memory. alloc returns a block aligned to `align` (a power of two) or NULL; free gets the
 * size that was asked for and is never called with NULL. Both are called from any thread that uses
 * a handle made with them, so both must be thread-safe. Copied; `user` must outlive the handles. */
typedef struct embed_allocator {
    void *user;
    void *(*alloc)(void *user, size_t size, size_t align);
    void (*free)(void *user, void *ptr, size_t size);
} embed_allocator;

typedef enum embed_log_level { EMBED_LOG_INFO = 1, EMBED_LOG_WARN = 2 } embed_log_level;
/* Called from the thread that opens a model; msg is valid during the call. Default: silent. */
typedef void (*embed_log_fn)(void *user, int32_t level, const char *msg);

/* instruction set of the kernels; all give the same bits */
typedef enum embed_isa {
    EMBED_ISA_AUTO = 0,     /* the best that this machine runs */
    EMBED_ISA_PORTABLE = 1, /* plain C */
    EMBED_ISA_AVX2 = 2,     /* AVX2 + FMA + F16C */
    EMBED_ISA_AVX512 = 3    /* AVX-512 F, BW, DQ, VL */
} embed_isa;

/* Which prompt of the checkpoint goes before each text. A checkpoint without any prompts has none
 * for any role. One that has a query prompt but none for documents wants its documents bare. In any
 * other case a role without its prompt is EMBED_ERR_ARG, and the message names the prompts. */
typedef enum embed_role {
    EMBED_ROLE_NONE = 0,    /* no prompt */
    EMBED_ROLE_DEFAULT = 1, /* the checkpoint's default_prompt_name, else none */
    EMBED_ROLE_QUERY = 2,   /* "query", else "search_query" */
    EMBED_ROLE_DOCUMENT = 3 /* "document", else "passage", "search_document", "corpus" */
} embed_role;

typedef enum embed_dtype {
    EMBED_DTYPE_DEFAULT = 0,
    EMBED_F32 = 1,
    EMBED_F16 = 2,
    EMBED_BF16 = 3, /* weights only */
    EMBED_I8 = 4,   /* outputs: calibrated per dimension, see embed_quantize */
    EMBED_U8 = 5,
    EMBED_BINARY = 6, /* outputs: 8 dimensions a byte as int8 (ubinary - 128) */
    EMBED_UBINARY = 7 /* outputs: 8 dimensions a byte, first dimension in the highest bit */
} embed_dtype;

/* bits: several modes are concatenated in this order */
typedef enum embed_pooling {
    EMBED_POOL_CLS = 1,
    EMBED_POOL_MAX = 2,
    EMBED_POOL_MEAN = 4,
    EMBED_POOL_MEAN_SQRT = 8,      /* sum over tokens divided by sqrt(tokens) */
    EMBED_POOL_WEIGHTED_MEAN = 16, /* token i weighs i+1 */
    EMBED_POOL_LAST = 32
} embed_pooling;

/* ------------------------------------------------------------------------------------- models */

typedef struct embed_model_params {
    size_t struct_size;
    const embed_allocator *allocator; /* copied; NULL: malloc */
    embed_log_fn log;
    void *log_user;
    uint64_t pack_bytes; /* up to how many bytes of weights may be rearranged once, in memory, for
                            faster short calls; 0: 128 MiB; 1: never. Never changes results */
    int32_t isa;         /* embed_isa; refused if this machine cannot run it */
    int32_t reserved;
} embed_model_params;
#define EMBED_MODEL_PARAMS_INIT                                                                    \
    { sizeof(embed_model_params), NULL, NULL, NULL, 0, 0, 0 }

/* Open the checkpoint directory `path` (UTF-8, NUL-terminated).
 *   Reads config.json, model.safetensors or model.safetensors.index.json with its shards,
 *   tokenizer.json and, where present, tokenizer_config.json, sentence_bert_config.json,
 *   config_sentence_transformers.json, modules.json and the modules it names. Weights (F32, F16,
 *   BF16) stay memory-mapped. Nothing is guessed: a missing key that would change the numbers, or
 *   one that asks for what is not implemented, is an error that names it.
 * Errors  _IO, _FORMAT, _TRUNCATED, _UNSUPPORTED, _MISMATCH, _NOMEM
 * Source  Nomic Embed v2, arXiv:2502.07972; contrastors; transformers BertModel, XLMRobertaModel */
EMBED_API embed_status embed_model_open(embed_model **out, const char *path,
                                        const embed_model_params *params);
EMBED_API void embed_model_free(embed_model *model); /* NULL is a no-op */

typedef struct embed_model_info {
    size_t struct_size;
    char architecture[16]; /* "nomic_bert", "bert", "xlm-roberta" */
    char name[128];        /* last component of the path */
    int32_t dim;           /* width of a vector, after pooling and dense modules */
    int32_t hidden;        /* width of a per-token hidden state */
    int32_t layers, heads, head_dim, inner;
    int32_t vocab;      /* rows of the embedding matrix */
    int32_t moe_layers; /* 0: dense */
    int32_t experts, experts_per_token;
    int32_t max_tokens;      /* special tokens included */
    int32_t pooling;         /* embed_pooling bits */
    int32_t normalized;      /* 1: the checkpoint ends in L2 normalisation */
    int32_t weight_dtype;    /* embed_dtype of the largest tensors */
    int32_t prompts;         /* number of named prompts, see embed_model_prompt */
    int64_t params_total;    /* weights in the checkpoint that are used */
    int64_t params_active;   /* weights that one token passes through (embedding rows of all
                                tokens counted whole, as model cards do) */
    int64_t flops_per_token; /* multiply-adds x 2 of all matrix products of one token, attention
                                scores apart */
    int64_t flops_per_token_pair; /* the attention part: this times text length, per token */
    uint64_t weight_bytes;        /* bytes of mapped weights */
    uint64_t resident_bytes;      /* bytes allocated by the open model, mappings not counted */
    char isa[16];                 /* kernels in use: "portable", "avx2", "avx512" */
} embed_model_info;

/* Fill *info, whose struct_size the caller has set. */
EMBED_API embed_status embed_model_get_info(const embed_model *model, embed_model_info *info);

/* Identity of everything that changes vectors: weights, configuration, tokenizer, pooling, prompts.
 *   out  33 bytes: 32 hexadecimal digits and NUL
 *   The first call hashes every weight byte (XXH3-128; about a second for 2 GB of warm pages),
 *   later ones are immediate.
 * Errors  _ARG */
EMBED_API embed_status embed_model_fingerprint(const embed_model *model, char out[33]);

/* Prompt number i, 0 .. info.prompts - 1; strings live as long as the model. */
EMBED_API embed_status embed_model_prompt(const embed_model *model, int32_t i, const char **name,
                                          embed_text *prompt);

/* ------------------------------------------------------------------------------------ devices */
/* What this machine can encode on, and where a context does (embed_context_params.device). */

typedef enum embed_device_kind {
    EMBED_DEVICE_CPU = 1,
    EMBED_DEVICE_CUDA = 2,    /* an NVIDIA GPU, through the module libembed_cuda.so */
    EMBED_DEVICE_AUTO = 3,    /* contexts only: the first usable GPU, else the CPU */
    EMBED_DEVICE_EMULATED = 4 /* contexts only: the GPU kernels run on the CPU, slow but exact, by a
                                 build with the CMake preset `emulation` */
} embed_device_kind;

/* something this machine has, or lacks, to encode on */
typedef struct embed_device {
    size_t struct_size;
    int32_t kind;             /* embed_device_kind */
    int32_t index;            /* among those of its kind; -1: there is none, see reason */
    int32_t usable;           /* 1: it answers, and this build has code for it */
    int32_t capability_major; /* compute capability, such as 9 and 0; 0: not CUDA */
    int32_t capability_minor;
    int32_t driver;     /* CUDA version the driver supports, 13000 for 13.0; 0: none */
    int32_t processors; /* multiprocessors; CPUs that this process may use */
    int32_t reserved;
    uint64_t memory_total; /* bytes; 0: not known */
    uint64_t memory_free;  /* bytes; UINT64_MAX: not known */
    char name[128];
    char reason[256]; /* why it is not usable: no module, no driver, driver too old, no device, no
                         code for it, no memory ...; "" if it is */
} embed_device;

/* Number of entries that embed_device_info tells: the CPU, always the first, and each CUDA device,
 * usable or not, or one entry with index -1 and the reason why there is none. Lacking a device,
 * driver or module is no error. Opens the module at the first call and looks anew at each; takes no
 * memory on any device and leaves the thread's current device and context as they are.
 * Threads any number */
EMBED_API embed_status embed_device_count(int32_t *count);
/* Fill *device, whose struct_size the caller has set, with entry i, 0 .. count - 1.
 * Errors  _ARG */
EMBED_API embed_status embed_device_info(int32_t i, embed_device *device);

/* ----------------------------------------------------------------------------------- contexts */

/* How one model lies on several devices. Vectors are those of one device, bit for bit, if all are
 * of one kind. */
typedef enum embed_placement {
    EMBED_PLACE_REPLICATED = 0, /* all of it on each, batches go to whichever has least to do */
    EMBED_PLACE_EXPERTS = 1 /* expert e of each layer on device e mod n_devices only, the rest on
                               each; all go through the layers in step, and tokens to their experts
                               and back through NCCL. For experts that do not fit one device; slower
                               where they do. A model without experts is replicated */
} embed_placement;

#define EMBED_ALL_DEVICES (-1) /* n_devices: all usable ones */

/* Flags of embed_context_params.device_flags, of no effect on the CPU.
 * NO_GRAPHS launches every batch kernel by kernel: slower for small ones, the same bits.
 * TF32, for EMBED_F32 only: matrix products by tensor cores, which round their factors to 10 bits
 * behind the point, as EMBED_F16 has; sums and all else stay f32. Faster, with errors as EMBED_F16.
 */
#define EMBED_NO_GRAPHS 1u
#define EMBED_TF32 2u

/* What runs the matrix products of a device, and so what bits can be relied on: see
 * embed_context_create. */
typedef enum embed_device_products {
    EMBED_PRODUCTS_AUTO = 0, /* EMBED_F32: as OWN; 16-bit types and EMBED_TF32: per bucket of batch
                                sizes whichever was measured faster on the device */
    EMBED_PRODUCTS_OWN = 1,  /* this library's kernels: a text has the same bits in any batch */
    EMBED_PRODUCTS_LIBRARY = 2 /* cuBLASLt, and cuDNN for attention, wherever they can */
} embed_device_products;

/* How the rows of an n-gram table come to one device. Several get the row of each token as floats
 * with each batch, which counts as COPY. Vectors are the same bits in each way. */
typedef enum embed_table_place {
    EMBED_TABLE_PLACE_AUTO = 0, /* by the size of the table, the memory of the device, and what it
                                   can read: RESIDENT, MAP (without registering), CACHE or COPY */
    EMBED_TABLE_PLACE_COPY = 1, /* distinct rows of a batch, as stored, through pinned memory */
    EMBED_TABLE_PLACE_MAP = 2, /* the device reads the table's mapping over the bus; unless it reads
                                  all memory of the host, the mapping is registered with it, which
                                  pins the whole file in memory. Not for encrypted rows (but in
                                  EMBED_TABLE_HUGE), rows that are read, or behind a projection */
    EMBED_TABLE_PLACE_CACHE = 3,   /* rows used lately stay on the device, the others as COPY */
    EMBED_TABLE_PLACE_RESIDENT = 4 /* all rows in device memory, read and checked when the table is
                                      attached; shared by all contexts of the device */
} embed_table_place;

typedef struct embed_context_params {
    size_t struct_size;
    int32_t threads;      /* 0: the CPUs this process may use (affinity and cgroup quota) */
    int32_t batch_tokens; /* tokens per forward pass; 0: 4096. A single text longer than this is a
                             batch of its own */
    embed_table *table;   /* n-gram table whose rows encoding uses, kept alive by the context; NULL:
                             none. See embed_context_set_table */
    int32_t device;       /* embed_device_kind; 0: EMBED_DEVICE_CPU */
    int32_t device_index; /* which one of EMBED_DEVICE_CUDA or EMBED_DEVICE_EMULATED */
    int32_t device_dtype; /* embed_dtype of matrices and hidden states on the device: EMBED_F32,
                             EMBED_F16 or EMBED_BF16; sums are f32. 0: EMBED_F32 */
    int32_t device_products; /* embed_device_products */
    const int32_t *devices;  /* [n_devices] several devices of one kind instead of device_index,
                                copied; NULL with n_devices EMBED_ALL_DEVICES */
    int32_t n_devices;       /* 0: one, at device_index */
    int32_t placement;       /* embed_placement of several devices */
    uint32_t device_flags;   /* 0, or EMBED_NO_GRAPHS, EMBED_TF32 */
    int32_t table_place;     /* embed_table_place, of any table attached to a context on a device */
    uint64_t device_cache_bytes; /* device memory for rows with AUTO and CACHE; 0: up to half of
                                    what is free for all of them, or a quarter for some */
} embed_context_params;
#define EMBED_CONTEXT_PARAMS_INIT                                                                  \
    { sizeof(embed_context_params), 0, 0, NULL, 0, 0, 0, 0, NULL, 0, 0, 0, 0, 0 }

/* Make a context: threads and all scratch memory. Encoding then allocates only for a text that is
 * longer than all before it and than batch_tokens, or longer in bytes than the tokenizer has seen.
 * On a device the first context of a model uploads its weights, which stay there as long as the
 * model; too little memory there halves batch_tokens until it does. A device that fails for good
 * makes calls return EMBED_ERR_DEVICE; contexts on the CPU are not affected.
 * Of several devices the weights are read for the first, which sends them to the others (through
 * NCCL; without it each gets them from the host); all take the same batch_tokens. One that fails
 * ends the call, and the context can do no more; contexts without it can.
 * A vector of unit length differs from the CPU's by at most 2e-5 in EMBED_F32, and in the worst of
 * its numbers by about 0.005 in EMBED_F16 and 0.04 in EMBED_BF16, whatever runs the products. With
 * experts it may differ by more (0.1 was seen for a text of one token in EMBED_BF16) where two of
 * them are so nearly equal to a token's router that rounding decides which of them it gets.
 * With EMBED_PRODUCTS_OWN, and so by default in EMBED_F32, a text's bits do not depend on the other
 * texts of the call, on the size of the batch they come to share with it, or on whether that runs
 * from a graph; they do depend on the model, the type and EMBED_TF32, and may differ between
 * architectures and versions of this library. Where cuBLASLt runs products they are the same in all
 * batches of one bucket (sizes that round up to the same number of tokens, a quarter apart up to
 * 4096 and then at most a sixteenth), for all contexts of the model and all devices of one kind. In
 * batches of more than 4096 tokens of long texts of like length cuDNN may run attention in the same
 * way, and the number of texts and the longest of them, rounded up to powers of two, are part of
 * the bucket. Between buckets, or if EMBED_PRODUCTS_AUTO measures anew for a model that is opened
 * again, bits may differ within that bound. embed_context_get_choice tells what was decided.
 *
 * Errors  _NOMEM, _THREAD, _MISMATCH (table), _DEVICE (no such device, with the reason) */
EMBED_API embed_status embed_context_create(embed_context **out, embed_model *model,
                                            const embed_context_params *params);
EMBED_API void embed_context_free(embed_context *ctx); /* NULL is a no-op */

/* Bytes a context with these params would take, without making it; and what one takes now (0 for
 * NULL). A table counts with the batches that wait for its rows, not with its own memory. Neither
 * counts the stacks of the threads; the plan leaves out the buffers that are made when rows of a
 * table must first be read with calls (io_uring, pread). On a device both count its memory and
 * pinned memory of the host, but not the weights, which belong to the model, nor what the driver
 * takes for graphs (at most 64 of them) and for itself. A table whose rows are resident on the
 * device, or cached there, counts with them. */
EMBED_API embed_status embed_plan_bytes(const embed_model *model,
                                        const embed_context_params *params, uint64_t *bytes);
EMBED_API uint64_t embed_context_bytes(const embed_context *ctx);
/* Threads a context works with, the calling one included; 0 for NULL. */
EMBED_API int32_t embed_context_threads(const embed_context *ctx);

/* ----------------------------------------------------------------------------------- encoding */

/* Flags of embed_encode_params.flags */
#define EMBED_NO_NORMALIZE 1u       /* leave out the checkpoint's L2 normalisation */
#define EMBED_NORMALIZE 2u          /* normalise even if the checkpoint does not */
#define EMBED_TRUNCATE_ERROR 4u     /* a text over the limit is EMBED_ERR_TOO_LONG (default: cut) */
#define EMBED_UTF8_REFUSE 8u        /* invalid UTF-8 is EMBED_ERR_UTF8 (default: U+FFFD) */
#define EMBED_NO_SPECIAL_TOKENS 16u /* embed_tokenize only: without [CLS], [SEP] ... */

/* what happened to one text */
typedef struct embed_text_report {
    int32_t tokens;    /* tokens that went through the encoder, special and prompt included */
    int32_t truncated; /* 1: the text had more */
} embed_text_report;

/* Called after each batch from the calling thread; a non-zero return ends the call with
 * EMBED_ERR_CANCELLED. It must not use the context. */
typedef int32_t (*embed_progress_fn)(void *user, uint64_t texts_done, uint64_t texts_total,
                                     uint64_t tokens_done);

typedef struct embed_encode_params {
    size_t struct_size;
    int32_t role; /* embed_role */
    uint32_t flags;
    const char *prefix; /* own prompt instead of the role's; NULL: none given */
    size_t prefix_len;
    int32_t dim;        /* Matryoshka: keep the first dim dimensions, then normalise; 0: all */
    int32_t max_tokens; /* 0: the model's; smaller: cut there; larger is refused */
    int32_t output;     /* embed_dtype of out; 0: EMBED_F32 */
    int32_t reserved;
    const float *ranges; /* [2, dim] for EMBED_I8 and EMBED_U8: least and greatest value of each
                            dimension, from embed_quantize_ranges */
    embed_text_report *reports; /* [n] or NULL */
    embed_progress_fn progress;
    void *progress_user;
} embed_encode_params;
#define EMBED_ENCODE_PARAMS_INIT                                                                   \
    { sizeof(embed_encode_params), 0, 0, NULL, 0, 0, 0, 0, 0, NULL, NULL, NULL, NULL }

/* Elements of `out` that n texts need: n * dim, or n * ceil(dim / 8) for the binary types; the
 * element is float, uint16_t (EMBED_F16), int8_t or uint8_t. */
EMBED_API embed_status embed_output_len(const embed_model *model, const embed_encode_params *params,
                                        size_t n, size_t *elements);

/* Embed n texts, one row each, in input order.
 *   texts   n spans, borrowed for the call; longer than the limit: cut, or an error per flags
 *   out     [n, dim] row-major, caller-owned; cap in elements, at least embed_output_len
 *   Any n: texts are worked on in windows of bounded memory. n = 0 is no error. An empty text is
 *   encoded as its special tokens.
 * Errors  _CAPACITY, _UTF8, _TOO_LONG, _CANCELLED, _NOMEM
 * Threads one call at a time per context; blocks
 * Source  arXiv:2502.07972 sec. 3; pooling and prompts as sentence-transformers; Matryoshka:
 *         arXiv:2205.13147 */
EMBED_API embed_status embed_encode(embed_context *ctx, const embed_text *texts, size_t n,
                                    const embed_encode_params *params, void *out, size_t cap);

/* The same for ready-made ids; role, prefix and max_tokens are not used. Ids outside the
 * vocabulary, empty rows and rows over the model's limit are EMBED_ERR_ARG. */
EMBED_API embed_status embed_encode_ids(embed_context *ctx, const embed_ids *rows, size_t n,
                                        const embed_encode_params *params, void *out, size_t cap);

/* Per-token hidden states of one text for late-interaction users: the encoder's last layer, before
 * pooling, not normalised.
 *   out       [*n_tokens, hidden] f32; cap in floats; NULL with cap 0 only counts
 *   ids       [*n_tokens] the tokens, or NULL; written together with out, and cap bounds both
 *   n_tokens  set on EMBED_ERR_CAPACITY too
 *   params    role, prefix, max_tokens and flags count; dim and output must be 0
 * Errors  as embed_encode */
EMBED_API embed_status embed_encode_tokens(embed_context *ctx, embed_text text,
                                           const embed_encode_params *params, float *out,
                                           size_t cap, int32_t *ids, size_t *n_tokens);

/* ------------------------------------------------------------------------------- tokenisation */

/* Token ids of one text as the checkpoint's tokenizer.json defines them, special tokens included,
 * the prompt of params.role or params.prefix in front, cut only if params.max_tokens is set (or
 * EMBED_ERR_TOO_LONG with EMBED_TRUNCATE_ERROR).
 *   ids       caller-owned; cap in ids; NULL with cap 0 only counts
 *   n         the number of ids; set on EMBED_ERR_CAPACITY too
 * Errors  _CAPACITY, _UTF8, _TOO_LONG, _NOMEM
 * Threads any number per model */
EMBED_API embed_status embed_tokenize(const embed_model *model, embed_text text,
                                      const embed_encode_params *params, int32_t *ids, size_t cap,
                                      size_t *n);

/* --------------------------------------------------------------------------- vector utilities */

/* Dot product and cosine of two float vectors, summed in double; 0 for NULL, and the cosine with a
 * zero vector is 0. */
EMBED_API double embed_dot(const float *a, const float *b, size_t dim);
EMBED_API double embed_cosine(const float *a, const float *b, size_t dim);

/* Least and greatest value per dimension of [n, dim] vectors: the calibration that EMBED_I8 and
 * EMBED_U8 need.
 *   ranges  [2, dim], caller-owned: written
 * Source  sentence-transformers quantize_embeddings */
EMBED_API embed_status embed_quantize_ranges(const float *vectors, size_t n, size_t dim,
                                             float *ranges);

/* Convert [n, dim] floats to another output type, as sentence-transformers' quantize_embeddings:
 *   EMBED_U8      (v - min) / step rounded down and clamped to 0 .. 255, step = (max - min) / 255;
 *                 EMBED_I8 the same - 128
 *   EMBED_UBINARY packed v > 0; EMBED_BINARY the same - 128; EMBED_F16 round to nearest even
 *   out           caller-owned, embed_output_len elements; ranges as above, else NULL */
EMBED_API embed_status embed_quantize(const float *vectors, size_t n, size_t dim, int32_t output,
                                      const float *ranges, void *out, size_t cap);

/* ------------------------------------------------------------------------------ n-gram tables */
/* A table holds precomputed vectors of frequent n-grams (f-grams). At each position of a text the
 * longest f-gram of 2 .. K tokens that ends there and lies wholly inside the text gives its row,
 * which replaces the token's word embedding before position and type embeddings and layer norm
 * (or is added to it, if the table says so). No match: the word embedding as always. Special
 * tokens never take part and end the history; a prompt's tokens are ordinary tokens.
 * Source  SCONE, arXiv:2502.01637, Algorithm 1; mode "add": Over-Encoding, arXiv:2501.16975 */

/* where the rows live while the table is open */
typedef enum embed_table_mode {
    EMBED_TABLE_AUTO = 0,     /* lazy */
    EMBED_TABLE_LAZY = 1,     /* mapped; pages come when first used, in batched reads */
    EMBED_TABLE_POPULATE = 2, /* mapped and read in at open */
    EMBED_TABLE_HUGE = 3,     /* copied into private memory, huge pages where the system has them */
    EMBED_TABLE_READ = 4      /* never mapped: for file systems where a cut file raises SIGBUS */
} embed_table_mode;

/* How cold rows are brought in; modes populate and huge have none. With io_uring or pread rows come
 * through the row cache instead of a mapping of the rows: io_uring past the page cache (O_DIRECT,
 * where the file system takes it), pread through it. Results are the same bits with every mode and
 * io. */
typedef enum embed_table_io {
    EMBED_TABLE_IO_AUTO = 0,     /* chosen by a probe at open */
    EMBED_TABLE_IO_WILLNEED = 1, /* mmap, MADV_RANDOM, batched MADV_WILLNEED */
    EMBED_TABLE_IO_URING = 2,    /* io_uring; refused where the kernel or container forbids it */
    EMBED_TABLE_IO_PREAD = 3     /* a pool of pread calls */
} embed_table_io;

/* Flags of embed_table_params.flags */
#define EMBED_TABLE_ALLOW_MISMATCH 1u /* experiments: made for another model; widths must agree */
#define EMBED_TABLE_ALLOW_UNSAFE 2u   /* world-writable parts, or parts behind symbolic links */

/* Fill key[32]; a non-zero return refuses. Called during embed_table_open. */
typedef int32_t (*embed_key_fn)(void *user, unsigned char key[32]);

typedef struct embed_table_params {
    size_t struct_size;
    int32_t mode; /* embed_table_mode */
    int32_t io;   /* embed_table_io */
    uint32_t flags;
    int32_t reserved;
    uint64_t pin_bytes;   /* copy the hottest rows, up to so many bytes, and lock the copy in
                             memory (`ulimit -l`) */
    uint64_t cache_bytes; /* row cache: rows kept, where rows are read or decrypted; 0: 64
                             MiB; 1: none */
    const char *key_path; /* file of exactly 32 bytes for an encrypted table */
    embed_key_fn key;     /* or a callback */
    void *key_user;
    const embed_allocator *allocator; /* copied; NULL: malloc */
} embed_table_params;
#define EMBED_TABLE_PARAMS_INIT                                                                    \
    { sizeof(embed_table_params), 0, 0, 0, 0, 0, 0, NULL, NULL, NULL, NULL }

typedef enum embed_table_combine {
    EMBED_TABLE_REPLACE = 0, /* the row takes the place of the word embedding */
    EMBED_TABLE_ADD = 1      /* the row is added to it */
} embed_table_combine;

/* an n-gram that has a row */
typedef struct embed_ngram {
    int32_t ids[8]; /* in text order; unused ones 0 */
    int32_t length; /* 2 .. 8; 0: no row */
    uint32_t count; /* occurrences in the corpus; saturates */
} embed_ngram;

typedef struct embed_table_info {
    size_t struct_size;
    char id[33];     /* 32 hexadecimal digits, the same in all files of the table */
    int32_t combine; /* embed_table_combine */
    int32_t k;       /* longest n-gram */
    int32_t width;   /* floats of a row as stored */
    int32_t hidden;  /* floats of the word embedding it is made for; another width than the row's
                        has a projection in between */
    int32_t vocab;
    int32_t dtype;    /* embed_dtype of the rows */
    int32_t mode, io; /* embed_table_mode, embed_table_io in force */
    int32_t encrypted, parts;
    uint64_t rows, keys; /* n-grams with a row; entries of the index, which also holds suffixes */
    uint64_t row_bytes;  /* of one row, its header included */
    uint64_t index_bytes, rows_bytes; /* of the files */
    uint64_t pinned_rows;
    uint64_t rows_by_length[9];
    char tokenizer[33], embedding[33], model[33]; /* fingerprints of what it was made for */
    /* free text of whoever made it, living as long as the table; NULL: not stated */
    const char *path, *corpus, *corpus_date, *licence, *created, *created_by, *parent, *fgram_model;
    int64_t min_count, min_documents; /* -1: not stated */
} embed_table_info;

typedef struct embed_table_stats {
    size_t struct_size;
    uint64_t positions;
    uint64_t hits[9];       /* positions by length of their match; [0]: none */
    uint64_t distinct_rows; /* summed over batches */
    uint64_t cache_hits;    /* of them, found in the row cache */
    uint64_t bytes_read;    /* by calls for it; page faults of a mapping are not counted */
    uint64_t foreign_rows;  /* the index named a row of another n-gram: not used */
    uint64_t cache_bytes;   /* taken by the row cache */
    double fetch_seconds;   /* spent looking up and bringing rows */
    double wait_seconds;    /* spent by the encoder waiting for them */
    double resident_share;  /* of the mapped rows in memory (mincore); -1: not mapped */
    /* on devices: */
    int32_t place; /* embed_table_place in use (the last one counted, of several); 0: none */
    int32_t reserved;
    uint64_t device_bytes; /* of rows that crossed to a device; MAP: of distinct rows it read */
    uint64_t device_hits;  /* of distinct_rows, those that were in its memory already */
    double device_wait_seconds; /* its encoder waited for rows on their way to it */
} embed_table_stats;

/* Open a table, or the version that the `current` link of a store names. Only manifest and index
 * are read; the index is checked whole. A table's rows never change while it is open: publish a new
 * version beside it and open that.
 *   model   what it will be used with, or NULL: checked when the table is attached to a context
 *   params  NULL: all defaults
 * Errors  _MISMATCH: made for another tokenizer, word embedding matrix or width (the message names
 *         both sides), or files of several tables mixed; _FORMAT: changed bits, foreign
 *         files; _TRUNCATED; _UNSUPPORTED: a newer format, or an io that this system refuses;
 *         _IO: also files, or a directory, that anyone may write to, or behind symbolic links;
 *         _ARG: wrong key, or none; _NOMEM: also pin_bytes over the limit on locked memory */
EMBED_API embed_status embed_table_open(embed_table **out, const char *path, embed_model *model,
                                        const embed_table_params *params);
/* NULL is a no-op. Contexts and tickets that use the table keep it alive. */
EMBED_API void embed_table_free(embed_table *table);

EMBED_API embed_status embed_table_get_info(const embed_table *table, embed_table_info *info);
/* Totals since the table was opened, all contexts and calls together. */
EMBED_API embed_status embed_table_get_stats(embed_table *table, embed_table_stats *stats);

/* Longest match at each position of n texts by the rule above, from the index alone: no row is
 * read, so once in some 10^10 positions it names a row of another n-gram, which embed_encode would
 * have noticed (compare embed_table_fetch's ngrams to be certain).
 *   texts          any ids; ids outside the vocabulary match nothing
 *   rows, lengths  [positions of all texts, one after the other]; -1 and 0 where nothing matches
 *   cap            of either, in positions
 * Errors  _CAPACITY, _NOMEM
 * Threads any number per table */
EMBED_API embed_status embed_table_lookup(const embed_table *table, const embed_ids *texts,
                                          size_t n, int64_t *rows, int32_t *lengths, size_t cap);

/* Vectors of rows as stored, widened to float, before any projection; each row is checked.
 *   rows    [n] row numbers, in any order; -1 gives zeros
 *   out     [n, width], or NULL: only ngrams; cap in floats
 *   ngrams  [n] whose row it is, or NULL
 * Errors  _ARG: no such row; _CAPACITY; _FORMAT: a corrupt row, naming part and row; _TRUNCATED (in
 *         mode read; a mapped file that is cut raises SIGBUS); _IO, _NOMEM
 * Threads any number per table */
EMBED_API embed_status embed_table_fetch(embed_table *table, const int64_t *rows, size_t n,
                                         float *out, size_t cap, embed_ngram *ngrams);

/* Have rows brought into memory (page cache or row cache) by a thread of the table. Returns at
 * once; rows are copied. Each ticket must be waited for, which frees it.
 * Errors  _ARG: no such row; _NOMEM, _THREAD */
typedef struct embed_table_ticket embed_table_ticket;
EMBED_API embed_status embed_table_prefetch(embed_table *table, const int64_t *rows, size_t n,
                                            embed_table_ticket **ticket);
/* Wait until the ticket's rows are there, and free it; the status is that of the fetch. */
EMBED_API embed_status embed_table_wait(embed_table_ticket *ticket);

/* Encode with this table from the next call on; NULL: without one. A call that runs meanwhile keeps
 * the table it began with, and a table that was swapped out lives until the last batch that uses it
 * has ended, so a new version can be put in place of the old one while texts are encoded:
 *     embed_table_open(&table, "store", model, NULL);
 *     embed_context_set_table(ctx, table);
 *     embed_table_free(table);                       (the context keeps it)
 *   While a batch is in the encoder, a thread of the context finds and fetches the rows of the two
 *   batches after it. A row that cannot be read or fails its checksum fails the call that needs it,
 *   never changes a vector silently; the context stays usable.
 *   A table changes vectors: for the same text they agree bit for bit among all calls with tables
 *   of the same embed_table_info.id, whatever the mode, io, cache, batches and threads, but not
 *   with those of another table or of none. embed_model_fingerprint knows nothing of tables: store
 *   embed_table_info.id beside it wherever vectors are kept.
 * Errors  _MISMATCH (made for another model, or of another width; both sides named), _NOMEM,
 *         _THREAD; the old table then stays
 * Threads any, at any time; the one exception from the rule that a context has one user */
EMBED_API embed_status embed_context_set_table(embed_context *ctx, embed_table *table);

/* What the last encode call of this context did with its table; zeros if it had none. What belongs
 * to the table and to no call is left out: cache_bytes is 0, resident_share -1. */
EMBED_API embed_status embed_context_get_table_stats(const embed_context *ctx,
                                                     embed_table_stats *stats);

/* --------------------------------------------------------------------------------- long jobs */
/* Counting, merging, building and checking run for minutes to hours over files larger than memory.
 * They share what follows. A job that was killed, cancelled or failed leaves no half-written output
 * under the output's name; what it has safely done so far lies beside the output or in temp_dir,
 * and resume = 1 goes on from there and ends with the same bytes as an undisturbed run. */

/* How far a job is. Pointers live during the call. */
typedef struct embed_job_report {
    const char *phase;     /* what it is at, such as "count 3-grams" */
    const char *unit;      /* what done and total count: "tokens", "rows", "bytes" */
    uint64_t done, total;  /* in this phase; total 0: not known */
    uint64_t memory_bytes; /* estimates for the whole job: memory at its peak, and */
    uint64_t disk_bytes;   /* bytes that output and temporary files will take; 0: not known */
} embed_job_report;

/* Called from the thread that runs the job: once with the estimates before anything is written,
 * then at each change of phase and a few times a second. A non-zero return ends the job with
 * EMBED_ERR_CANCELLED. It must not use the handles of the job. */
typedef int32_t (*embed_job_fn)(void *user, const embed_job_report *report);

/* Part of the params of each job, by value; zeroed memory is the default. */
typedef struct embed_job {
    uint64_t memory;      /* bytes the job may use, peak; 0: 1 GiB. Less than it needs at least is
                             EMBED_ERR_ARG, and the message names the least */
    const char *temp_dir; /* for files larger than memory; NULL: beside the output */
    int32_t threads;      /* 0: the CPUs this process may use */
    int32_t resume;       /* 1: go on where a killed run of the same job stopped; without one to go
                             on from it starts afresh. What a run with other inputs or other
                             params left is EMBED_ERR_MISMATCH */
    embed_job_fn report;  /* or NULL */
    void *user;
    const embed_allocator *allocator; /* copied; NULL: malloc */
    uint64_t reserved[2];             /* 0 */
} embed_job;
#define EMBED_JOB_INIT                                                                             \
    {                                                                                              \
        0, NULL, 0, 0, NULL, NULL, NULL, {                                                         \
            0, 0                                                                                   \
        }                                                                                          \
    }

/* Bring the hottest `bytes` of a table's rows into memory, 0: all of them. In modes that read, as
 * many as the row cache holds.
 *   report  of bytes done and to do; may be NULL
 * Errors  as embed_table_fetch; _CANCELLED */
EMBED_API embed_status embed_table_warm(embed_table *table, uint64_t bytes, embed_job_fn report,
                                        void *user);

/* --------------------------------------------------------------------- is a table worth having */

/* One table that could be made: n-grams of 2 .. k tokens, the most frequent ones of the texts that
 * are counted, looked up in the texts that are held out. */
typedef struct embed_advise_cell {
    int32_t k;
    int32_t reserved;
    uint64_t rows_wanted, rows; /* fewer than wanted: no more n-grams are frequent enough */
    uint64_t least_count;       /* count of the last n-gram that is in */
    uint64_t positions;         /* tokens looked up, special tokens included */
    uint64_t matched;           /* of them, by an n-gram of the table */
    uint64_t hits[9];           /* positions by length of their match; [0]: none */
    uint64_t distinct_rows;     /* rows that were used at all */
    uint64_t disk_bytes;        /* index and rows */
    double hot_1_percent, hot_10_percent; /* share of the matches that fall on the first 1 and 10 %
                                             of the rows, which could stay in memory */
} embed_advise_cell;

typedef struct embed_advise_sample {
    size_t struct_size;
    uint64_t texts_seen, tokens_seen; /* all that was added; kept are */
    uint64_t texts_counted, tokens_counted;
    uint64_t texts_held, tokens_held;
} embed_advise_sample;

typedef struct embed_advise_params {
    size_t struct_size;
    const int32_t *k; /* [n_k] longest n-grams to try, 2 .. 8; NULL: 2, 3, 4, 5, 6, 8 */
    size_t n_k;
    const uint64_t *rows; /* [n_rows] sizes to try, at least 1; NULL: 10k, 100k, 1M, 10M */
    size_t n_rows;
    double held_out;    /* share of the texts that are looked up, not counted; 0: 0.1 */
    uint64_t min_count; /* n-grams seen less often are left out, 2 or more; 0: 2 */
    int32_t width;      /* floats of a row, for the bytes on disk; 0: the model's */
    int32_t dtype;      /* embed_dtype of the rows, the same; 0: EMBED_I8 */
    embed_job job;      /* memory bounds the sample: beyond it whole texts are left out, evenly and
                           always the same ones; temp_dir and resume are not used */
} embed_advise_params;
#define EMBED_ADVISE_PARAMS_INIT                                                                   \
    { sizeof(embed_advise_params), NULL, 0, NULL, 0, 0, 0, 0, 0, EMBED_JOB_INIT }

/* What a table would do for a corpus, before anyone pays for one: add a sample of it, then run.
 * More text gives more frequent n-grams, so a table counted on the whole corpus covers more than a
 * table of the same size counted on the sample.
 *   out     freed with embed_ngram_advisor_free; params are copied, what they point to as well
 * Errors  _ARG: a size or share that makes no sense; memory too small, naming the least
 * Threads one call at a time for an advisor */
typedef struct embed_ngram_advisor embed_ngram_advisor;
EMBED_API embed_status embed_ngram_advisor_create(embed_ngram_advisor **out, embed_model *model,
                                                  const embed_advise_params *params);
EMBED_API void embed_ngram_advisor_free(embed_ngram_advisor *advisor); /* NULL is a no-op */
/* n texts as the encoder would see them: ids of embed_tokenize, special tokens included. */
EMBED_API embed_status embed_ngram_advisor_add(embed_ngram_advisor *advisor, const embed_ids *texts,
                                               size_t n);
/* The answer for what has been added so far; more can be added afterwards.
 *   cells   [n_k * n_rows], k outermost; caller-owned, cap in cells; NULL with cap 0 only counts
 *   n       the number of cells; set on EMBED_ERR_CAPACITY too
 *   sample  its struct_size set by the caller; or NULL
 * Errors  _CAPACITY; _ARG: fewer than 2 texts; _CANCELLED, _NOMEM */
EMBED_API embed_status embed_ngram_advisor_run(embed_ngram_advisor *advisor,
                                               embed_advise_cell *cells, size_t cap, size_t *n,
                                               embed_advise_sample *sample);

/* -------------------------------------------------------------------------------- making tables */

/* From the model's own word embeddings, of the n-gram's last token or their mean. A table of the
 * last ones changes nothing. */
typedef enum embed_rows_derive { EMBED_ROWS_LAST = 0, EMBED_ROWS_MEAN = 1 } embed_rows_derive;

typedef struct embed_rows_params {
    size_t struct_size;
    int32_t derive;       /* embed_rows_derive, where there is no f-gram model */
    int32_t batch_tokens; /* tokens per forward pass; 0: 4096 */
    const char *from;     /* rows computed elsewhere, [n, hidden] in list order: .npy (f2, f4, f8),
                             .safetensors, or bare numbers; NULL: computed here */
    const char *from_tensor; /* which one of a safetensors file; NULL: its only one */
    int32_t from_dtype;      /* embed_dtype of bare numbers; 0: EMBED_F32 */
    int32_t reserved;
    embed_job job;
    int32_t device; /* as embed_context_params: where an f-gram model runs; what needs none is
                       copied or averaged on the CPU */
    int32_t device_index;
    int32_t device_dtype;
    int32_t reserved2;
} embed_rows_params;

/* Vectors of the n-grams of a list: a .npy file, f32 [n, hidden] in list order, for
 * embed_ngram_build.
 *   fgram_model  an f-gram model: a checkpoint in the same layout, fed the word embeddings of
 *                `model` in place of its own, without special tokens, positions from the first on.
 *                A row is the last layer's hidden state of the last token. Hidden width and
 *                vocabulary must be those of `model`. NULL: params->derive or params->from; derived
 *                rows show how a table works, they are no gain in quality
 *   fgrams       JSON lines {"ids":[...],"count":n}
 *   output       written beside its place and renamed
 *   A row's bits depend on its n-gram, the models and the kind of device alone, so a resumed job
 *   ends with the same bytes. Values that are NaN or infinite are refused.
 * Errors  _MISMATCH: models, or rows and list, that do not fit together; _FORMAT naming line or
 *         row; _IO: also what an earlier run left, without resume; _TRUNCATED, _UNSUPPORTED
 *         (from); _CANCELLED, _NOMEM, _THREAD, _DEVICE
 * Source  SCONE, arXiv:2502.01637, section 3 */
EMBED_API embed_status embed_ngram_rows(embed_model *model, embed_model *fgram_model,
                                        const char *fgrams, const char *output,
                                        const embed_rows_params *params);

typedef struct embed_build_params {
    size_t struct_size;
    int32_t dtype;       /* of the rows: EMBED_F32, EMBED_F16, EMBED_BF16 or EMBED_I8 (int8 with a
                            scale for each row); 0: EMBED_I8 */
    int32_t combine;     /* embed_table_combine */
    double load;         /* share of the index that is filled, up to 0.9; 0: 0.75 */
    uint64_t part_bytes; /* size of a row file at most; 0: 4 GiB */
    const char *projection; /* "FILE.safetensors:NAME", a matrix [hidden, width] that is applied to
                               rows of another width; it is copied into the table */
    const char *key_path;   /* encrypt: a file of exactly 32 bytes, */
    embed_key_fn key;       /* or a callback */
    void *key_user;
    /* what will be asked about the table one day; free text, NULL: not stated */
    const char *corpus, *corpus_date, *licence, *created, *fgram_model;
    const char *parent;               /* directory of the table that this one takes the place of */
    int64_t min_count, min_documents; /* least occurrences, documents per n-gram; 0: not stated */
    embed_job job;
} embed_build_params;

/* Write a table for `model`, from n-grams and their vectors. The same inputs make the same bytes,
 * whatever the memory and threads (an encrypted table has a random salt).
 *   fgrams  JSON lines {"ids":[...],"count":n} in row order, hottest first; "count" may be missing
 *   rows    vectors in the same order: .npy [n, width] float, .safetensors or FILE:TENSOR, or bare
 *           float32 in a .f32 or .bin file; streamed
 *   output  directory, which must not exist; NULL: check the inputs and report the estimate only.
 *           Until it is whole it is called <output>.partial; what a run that was stopped left there
 *           is EMBED_ERR_IO, unless job.resume is set
 * Errors  _FORMAT naming line and key, or row: not 2 to 8 ids, ids outside the vocabulary or
 *         special, an n-gram twice, vectors that are NaN, infinite or too large for the type;
 *         _MISMATCH: numbers of rows or widths that differ; _ARG, _IO, _CANCELLED, _NOMEM */
EMBED_API embed_status embed_ngram_build(embed_model *model, const char *fgrams, const char *rows,
                                         const char *output, const embed_build_params *params);

/* Called for each thing that is wrong with a table, up to 100 times, from the calling thread. */
typedef void (*embed_problem_fn)(void *user, const char *file, const char *problem);

typedef struct embed_verify_params {
    size_t struct_size;
    int32_t full; /* 0: manifest, names, sizes, headers and the index's checksum; 1: also SHA-256 of
                     every file, the checksum of every row, every row found by its own n-gram and
                     every entry of the index accounted for */
    uint32_t flags;       /* EMBED_TABLE_ALLOW_UNSAFE */
    const char *key_path; /* of an encrypted table, */
    embed_key_fn key;     /* or a callback */
    void *key_user;
    embed_problem_fn problem; /* or NULL */
    void *problem_user;
    embed_job job;
} embed_verify_params;

typedef struct embed_verify_result {
    size_t struct_size;
    uint64_t problems; /* found, also those that were not told of */
    uint64_t files, rows, index_entries;
    uint64_t bytes; /* read for a full check */
} embed_verify_result;

/* Is a table what it was when it was written?
 *   path    table or store
 *   model   compare the table with it too; NULL: do not
 *   result  filled in any case; may be NULL
 * Errors  the first problem's: _FORMAT, _TRUNCATED, _MISMATCH, _UNSUPPORTED, _IO; _ARG: wrong key;
 *         _CANCELLED, _NOMEM */
EMBED_API embed_status embed_table_verify(const char *path, embed_model *model,
                                          const embed_verify_params *params,
                                          embed_verify_result *result);

typedef struct embed_compact_params {
    size_t struct_size;
    int32_t dtype;          /* of the rows: EMBED_F32, EMBED_F16, EMBED_BF16 or EMBED_I8; 0: as they
                               are, then no bit of a vector changes */
    uint32_t flags;         /* EMBED_TABLE_ALLOW_UNSAFE */
    const char *access_log; /* lines {"row":n,"hits":n}, or a row number and perhaps its hits: rows
                               come in the order of their hits, others after them as they were */
    uint64_t drop_below;    /* leave out n-grams that occurred less often; 0: none */
    double load;            /* as embed_build_params */
    uint64_t part_bytes;
    const char *created;
    const char *key_path; /* of an encrypted input, */
    embed_key_fn key;     /* or a callback; the output is encrypted with it too, */
    void *key_user;
    const char *new_key_path; /* unless there is another for it, */
    embed_key_fn new_key;
    void *new_key_user;
    int32_t decrypt; /* or it is to be in clear: 1 */
    int32_t reserved;
    embed_job job;
} embed_compact_params;

/* Write a new version of a table: re-ordered, trimmed or of another type. It names the old one as
 * its parent. Where n-grams are left out, longer ones that end in them still match.
 * Errors  as embed_table_open and embed_ngram_build; _FORMAT naming a line of the log */
EMBED_API embed_status embed_table_compact(const char *input, const char *output,
                                           const embed_compact_params *params);

/* ------------------------------------------------------------------------- versions of a table */
/* A store is a directory of versions, v000001, v000002 ..., with a link `current` to the one in
 * use. embed_table_open of a store opens that one; whoever has another open keeps it. */

typedef struct embed_publish_params {
    size_t struct_size;
    int32_t move;   /* 1: rename the table into the store instead of copying it; same file system */
    uint32_t flags; /* EMBED_TABLE_ALLOW_UNSAFE */
    const char *key_path; /* of an encrypted table; without, its index is checked by digest only */
    embed_key_fn key;
    void *key_user;
    embed_job job;
} embed_publish_params;

typedef struct embed_store_version {
    char name[32];    /* "v000003" */
    char id[33];      /* of the table */
    char created[31]; /* day, "" if not stated */
    int32_t current;  /* 1: the one in use */
    int32_t reserved;
    uint64_t rows, bytes;
} embed_store_version;

/* Make a table the current version of a store, which is made if there is none. The table is checked
 * (embed_table_verify, quick), copied with every file's SHA-256 checked, synced, renamed, and only
 * then the link is swapped: at any moment, also after a crash, the old version or the new one
 * opens.
 *   version  receives its name; may be NULL
 * Errors  as embed_table_verify; _IO: also if another process is changing the store */
EMBED_API embed_status embed_table_publish(const char *store, const char *table,
                                           const embed_publish_params *params, char version[32]);

/* Point `current` at another version of the store, checked first.
 *   version  "v000003"; NULL: the one before the current one
 *   now      receives the name of the one in use; may be NULL
 * Errors  _ARG: no such version; as embed_table_publish */
EMBED_API embed_status embed_table_rollback(const char *store, const char *version, char now[32]);

/* The versions of a store, oldest first.
 *   versions  [cap], or NULL: only count
 *   n         how many there are; set on EMBED_ERR_CAPACITY too */
EMBED_API embed_status embed_table_versions(const char *store, embed_store_version *versions,
                                            size_t cap, size_t *n);

/* ------------------------------------------------------------------------- counting n-grams */
/* From a corpus to the n-grams worth a row. The counts are exact: every n-gram of 2 .. k tokens
 * that lies wholly inside one text and occurs at least min_count times. Special tokens take no part
 * and end the history; what the tokenizer puts around a text is not counted, nor is a prompt unless
 * `role` or `prefix` asks for it. Texts are not cut at the model's limit.
 * Source  SCONE, arXiv:2502.01637, sec. 3.1: one scan per length; an (n+1)-gram can only be
 * frequent if its n-prefix and its n-suffix are */

typedef struct embed_ngram_counter embed_ngram_counter; /* a counting job: one user */

typedef struct embed_count_params {
    size_t struct_size;
    int32_t k;              /* longest n-gram, 2 .. 8; 0: 5 */
    int32_t role;           /* embed_role; its prompt goes before each text */
    const char *prefix;     /* own prompt instead; copied; NULL: none given */
    size_t prefix_len;      /* bytes */
    uint64_t min_count;     /* n-grams that occur less often are left out; 0: 5 */
    uint64_t min_documents; /* those in fewer texts too; 0: texts are not counted per n-gram */
    uint32_t flags;         /* EMBED_UTF8_REFUSE */
    int32_t reserved;       /* 0 */
    const char *input;      /* what the input is, such as the files' names and sizes: a resumed job
                               must say the same. Copied; NULL: "" */
    uint64_t input_bytes;   /* of text to come, for the estimate of disk; 0: not known */
    embed_job job;          /* memory: of token streams and tables, the model and its tokenizer
                               apart. Texts longer than 1/32 of it take more */
} embed_count_params;
#define EMBED_COUNT_PARAMS_INIT                                                                    \
    {                                                                                              \
        sizeof(embed_count_params), 0, 0, NULL, 0, 0, 0, 0, 0, NULL, 0, {                          \
            0                                                                                      \
        }                                                                                          \
    }

typedef struct embed_count_result {
    size_t struct_size;
    uint64_t texts, tokens; /* special tokens apart */
    uint64_t ngrams[9];     /* different frequent ones, by length */
    double seconds[9];      /* of the scan for each length; [1]: until all tokens were there */
    int32_t passes[9];      /* over the tokens that memory allowed for; 0: an earlier run's */
    int32_t in_memory;      /* 1: the token streams fitted */
} embed_count_result;

/* Begin, or with params.job.resume go on with, counting into the file `output`. What is unfinished
 * lies in <output>.partial and the directory <output>.work (in job.temp_dir, if given), some 12
 * bytes a token; a failed or killed job leaves them and can be resumed, at the cost of at most one
 * scan.
 *   model   retained
 * Errors  _IO; _ARG if another process counts into the same output; _MISMATCH if there is another
 *         job to be resumed, naming both sides; _TRUNCATED, _FORMAT if its files are damaged */
EMBED_API embed_status embed_ngram_counter_create(embed_ngram_counter **out, embed_model *model,
                                                  const char *output,
                                                  const embed_count_params *params);
EMBED_API void embed_ngram_counter_free(embed_ngram_counter *counter); /* NULL is a no-op */

/* Texts of the input that a resumed job has already: go on with the next one. *complete = 1: it has
 * them all, and further texts are ignored. */
EMBED_API embed_status embed_ngram_counter_position(const embed_ngram_counter *counter,
                                                    uint64_t *texts, int32_t *complete);

/* Add n texts, or n rows of token ids (special tokens among them end the history). Empty ones are
 * counted as texts. After a failure the counter can only be freed.
 * Errors  _IO; _ARG: an id outside the vocabulary; _UTF8; _CANCELLED; _NOMEM */
EMBED_API embed_status embed_ngram_counter_add(embed_ngram_counter *counter,
                                               const embed_text *texts, size_t n);
EMBED_API embed_status embed_ngram_counter_add_ids(embed_ngram_counter *counter,
                                                   const embed_ids *rows, size_t n);

/* That was all: count, and put the file in its place. The same bytes for any number of threads, any
 * memory and any number of interruptions. result may be NULL. Only _free may follow. */
EMBED_API embed_status embed_ngram_counter_finish(embed_ngram_counter *counter,
                                                  embed_count_result *result);

/* What a file of counts holds. */
typedef struct embed_counts_info {
    size_t struct_size;
    char tokenizer[33]; /* fingerprint of tokenizer.json */
    char reserved[3];   /* 0 */
    int32_t vocab;      /* ids are below */
    int32_t hidden;     /* width of the model's word embedding; 0: merged from several models */
    int32_t k;
    int32_t with_documents; /* 1: it says how many texts each n-gram is in */
    int32_t reserved2;
    uint64_t min_count, min_documents, tokens, texts;
    uint64_t ngrams[9]; /* by length */
} embed_counts_info;

/* Errors  _IO, _FORMAT, _TRUNCATED, _UNSUPPORTED (a newer version) */
EMBED_API embed_status embed_counts_get_info(const char *path, embed_counts_info *info);

/* Sum files of counts of one tokenizer, K and way of counting texts (else EMBED_ERR_MISMATCH naming
 * both) into one, as if their texts had been counted together; no text may be in two of them.
 * N-grams below a file's own min_count are missing from it and so from the sum: count parts with
 * min_count 1, or take the sums of rare n-grams for lower bounds. The greatest min_count is kept.
 *   job   memory, report and allocator count; a killed run is simply run again */
EMBED_API embed_status embed_ngram_merge(const char *const *inputs, size_t n, const char *output,
                                         const embed_job *job);

typedef struct embed_select_params {
    size_t struct_size;
    /* which n-grams; 0: no such limit; one of the first three must be given */
    uint64_t top;               /* the most frequent ones, so many of all lengths together */
    uint64_t min_count;         /* those that occur at least so often */
    uint64_t bytes;             /* as many as fit in a table of so many bytes with rows as below */
    uint64_t min_documents;     /* those in at least so many texts */
    uint64_t max_per_length[9]; /* at most so many of each length, UINT64_MAX: none. An n-gram whose
                                   suffix is not taken is left out then, so that the set stays
                                   closed */
    const int32_t *excluded;    /* [n_excluded] ids: no n-gram with one of them */
    size_t n_excluded;
    int32_t width; /* floats of a row; 0: the width of the model that counted */
    int32_t dtype; /* of rows: EMBED_F32, EMBED_F16, EMBED_BF16; 0: EMBED_I8 */
    embed_job job; /* memory, report and allocator count; a killed run is simply run again */
} embed_select_params;
#define EMBED_SELECT_PARAMS_INIT                                                                   \
    {                                                                                              \
        sizeof(embed_select_params), 0, 0, 0, 0, {0}, NULL, 0, 0, 0, {                             \
            0                                                                                      \
        }                                                                                          \
    }

typedef struct embed_select_result {
    size_t struct_size;
    uint64_t rows, cut_off; /* cut_off: occurrences of the last one taken */
    uint64_t rows_by_length[9];
    uint64_t matches_by_length[9]; /* positions of the counted texts whose longest match has at
                                      least so many tokens; [2] are all that match. Exact for those
                                      texts, a prediction for others, which match less */
    uint64_t tokens;               /* counted positions, special tokens apart */
    uint64_t table_bytes; /* of a table with rows of that width and type; 0: width unknown */
    uint64_t dropped;     /* left out because their suffix was, see max_per_length */
    int32_t width;
    int32_t passes; /* over the counts, as many as memory made necessary */
} embed_select_result;

/* Write the f-gram list `output`: JSON lines {"ids":[...],"count":n} in row order: by descending
 * count, then the shorter, then by ascending ids. Every suffix of 2 or more tokens of an n-gram
 * stands before it.
 *   result  may be NULL
 * Errors  _IO, _FORMAT, _TRUNCATED; _ARG: no limit, documents were not counted, too little memory;
 *         _UNSUPPORTED: more rows than a table holds */
EMBED_API embed_status embed_ngram_select(const char *counts, const char *output,
                                          const embed_select_params *params,
                                          embed_select_result *result);

/* ---------------------------------------------------------------------------------- operation */

/* one Mixture-of-Experts layer in the last encode call */
typedef struct embed_expert_stats {
    size_t struct_size;
    int32_t layer; /* index in the encoder */
    int32_t experts;
    uint64_t tokens;               /* tokens routed; the counts below sum to tokens * top_k */
    float busiest_share;           /* share of the busiest expert, 1/experts when even */
    float mean_gate;               /* mean weight of the chosen experts */
    const uint64_t *expert_tokens; /* [experts] tokens per expert */
    const double *expert_gate;     /* [experts] mean gate weight per expert, 0 where unused */
} embed_expert_stats;

/* Statistics of MoE layer i, 0 .. info.moe_layers - 1, over the whole last encode call; the arrays
 * live until the context's next call. From a device they are brought by the first such call, and
 * there are none of an encode call that failed.
 * Errors  _ARG: also while the context is in use; _DEVICE */
EMBED_API embed_status embed_get_expert_stats(const embed_context *ctx, int32_t i,
                                              embed_expert_stats *stats);

/* ------------------------------------------------------------------------------- EXPERIMENTAL
 * From here to the end of the file: may change, or go, in any version. */

/* ------------------------------------------------------------------- encoding in the background */

/* One call of embed_encode_async and what becomes of it. Owned by the caller, who frees it once. */
typedef struct embed_pending embed_pending;

/* Called once when a call has ended, whatever its status, from the context's thread; calls behind
 * it wait until it returns. embed_last_error() has the message there. It may start further calls on
 * the context and free handles (its own, too, and nobody may use that handle after it then). It
 * must not wait for a call of the same context (EMBED_ERR_ARG) nor free the context (of no
 * effect). */
typedef void (*embed_done_fn)(void *user, embed_pending *pending, embed_status status);

typedef struct embed_async_params {
    size_t struct_size;
    const embed_encode_params *encode; /* as for embed_encode; NULL: all defaults. Its `progress` is
                                          called from the context's thread */
    const embed_ids *ids; /* [n] ready-made ids, as for embed_encode_ids, and texts NULL; or NULL */
    embed_done_fn done;   /* or NULL */
    void *done_user;
    int32_t on_device; /* 1: `out` is memory of the context's device, or managed memory: vectors go
                          there and not through the host. Refused unless the context encodes on one
                          device, and if the pointer is known to be of another kind; aligned to the
                          size of an element */
    int32_t reserved;
    void *stream; /* cudaStream_t, with on_device: `out` is written after all that was enqueued
                     there before this call. Of the device's primary context (the runtime's), not
                     being captured; the default streams are cudaStreamLegacy and
                     cudaStreamPerThread. NULL: no order */
} embed_async_params;
#define EMBED_ASYNC_PARAMS_INIT                                                                    \
    { sizeof(embed_async_params), NULL, NULL, NULL, NULL, 0, 0, NULL }

/* Embed n texts as embed_encode does, with the same bits, in the background: the call checks its
 * arguments, queues and returns. Calls of a context run one after the other, in the order they were
 * made, on a thread of the context that the first of them starts; until the last has ended, the
 * context is in use for all other calls (EMBED_ERR_ARG). A table that is attached meanwhile is that
 * of the next call. Several at once run in contexts of their own: two that take turns keep a device
 * busy while texts are tokenised.
 *   texts, out    and everything else that is pointed to, but the params structs themselves, is
 *                 borrowed until the call has ended: the texts' bytes, prefix, ranges, reports
 *   cap           in elements, as for embed_encode
 *   pending       set before the call can end; NULL if it is refused, and then `done` is not called
 * embed_context_free cancels what has not ended, and what callbacks would start meanwhile, and
 * waits for it; the handles are still to be freed and have EMBED_ERR_CANCELLED, if not another
 * status.
 * Errors  of the call: _ARG, _ABI, _CAPACITY, _NOMEM, _THREAD, _DEVICE; those of the work, as of
 *         embed_encode, are told by the handle
 * Threads one call at a time per context; does not block */
EMBED_API embed_status embed_encode_async(embed_context *ctx, const embed_text *texts, size_t n,
                                          const embed_async_params *params, void *out, size_t cap,
                                          embed_pending **pending);

/* Whether a call has ended. *done = 0: it has not, and the status is EMBED_OK. *done = 1: the
 * status and the message are those of the call, all of `out` is written, and `done` has returned.
 *   timeout_ms  how long to wait at most; negative: until it has ended
 *   done        may be NULL for embed_pending_wait
 * Threads any number, before embed_pending_free */
EMBED_API embed_status embed_pending_poll(embed_pending *pending, int32_t *done);
EMBED_API embed_status embed_pending_wait(embed_pending *pending, int64_t timeout_ms,
                                          int32_t *done);

/* Of a call with on_device: what is enqueued on `stream` (as in embed_async_params) from now on
 * comes after the last row of `out`. The host waits until the call is enqueued on the device (with
 * all before it), as an order among streams can only be told of what is there, but not until it has
 * run. A call that has failed by now gives its status; one that fails later leaves `out`
 * unspecified, and embed_pending_wait tells it. */
EMBED_API embed_status embed_pending_order(embed_pending *pending, void *stream);

/* Ask a call to end before its next batch, with EMBED_ERR_CANCELLED; it may end otherwise if it is
 * nearly through. Batches under way are waited for, and with them what they wait for. */
EMBED_API embed_status embed_pending_cancel(embed_pending *pending);

/* Waits until the call has ended. NULL is a no-op; in a child of fork() all of it is. */
EMBED_API void embed_pending_free(embed_pending *pending);

/* -------------------------------------------------------------- what runs products on a device */

/* one decision about what runs a product, or attention, of a model on a kind of device */
typedef struct embed_device_choice {
    size_t struct_size;
    int32_t count;            /* how many there are */
    int32_t strategy;         /* EMBED_PRODUCTS_OWN or EMBED_PRODUCTS_LIBRARY */
    int64_t rows;             /* tokens of the bucket of batches it is for */
    int64_t columns, depth;   /* of the product [rows, depth] x [depth, columns] */
    float own_us, library_us; /* microseconds of each, the least of several measurements; 0: not
                                 measured */
    char name[16];            /* "qkv", "out", "up", "gate", "down"; "attention": columns are
                                 texts and depth their length, both of the bucket */
    char algorithm[128];      /* of the library, in its own terms */
    char reason[256];         /* why the library is not used though it was asked for; "" if the
                                 figures tell */
} embed_device_choice;

/* Decision i, 0 .. count - 1, in the order they were made, by all contexts of the model with this
 * one's kind of device, type and device_products; batches of new sizes add some. Where there is
 * none, on the CPU or because our own kernels run everything, i = 0 tells the reason if there is
 * one (no library).
 *   choice  its struct_size set by the caller
 * Errors  _ARG: no such decision
 * Threads any number, also while the context is in use */
EMBED_API embed_status embed_context_get_choice(const embed_context *ctx, int32_t i,
                                                embed_device_choice *choice);

#ifdef __cplusplus
}
#endif
#endif /* EMBED_H */
