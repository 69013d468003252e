/* token_reader: files of texts or token ids as the token ids that the encoder would see, a piece at
 * a time. */
#ifndef EMBED_PROGRAM_TOKEN_READER_H
#define EMBED_PROGRAM_TOKEN_READER_H

#include "text_reader.h"
#include "tool.h"

typedef struct token_options {
    option_texts files; /* none: standard input */
    int32_t format;     /* text_format */
    int32_t ids;        /* 1: lines are JSON arrays of token ids */
    int32_t strict, role, max_tokens;
    const char *prefix;
} token_options;

extern const option_choice token_formats[];

#define OPTION_INPUTS(variable)                                                                    \
    {                                                                                              \
        "input", "input", "FILE",                                                                  \
            "file to read, - is standard input (-); may be\n"                                      \
            "repeated",                                                                            \
            &(variable), NULL, OPTION_TEXTS, 0, 0, 'i'                                             \
    }
#define OPTION_IDS(variable)                                                                       \
    {                                                                                              \
        "input", "ids", NULL, "lines are JSON arrays of token ids, special tokens included",       \
            &(variable), NULL, OPTION_FLAG, 0, 0, 0                                                \
    }
/* All of them, for a token_options. */
#define OPTIONS_TOKENS(o)                                                                          \
    OPTION_INPUTS((o).files), OPTION_INPUT_FORMAT((o).format, token_formats), OPTION_IDS((o).ids), \
        OPTION_STRICT((o).strict)
#define OPTIONS_TOKENS_MODEL(o)                                                                    \
    OPTION_ROLE((o).role, "none"), OPTION_PREFIX((o).prefix),                                      \
        OPTION_MAX_TOKENS((o).max_tokens, "cut texts to N tokens (the model's limit)")

typedef struct token_piece {
    size_t n, tokens;
    const embed_ids *texts; /* [n], one after the other in memory */
    uint64_t bytes;         /* of input read for this piece */
} token_piece;

typedef struct token_reader {
    const char *who;
    const token_options *options;
    const embed_model *model;
    embed_encode_params params;
    size_t next_file;
    uint64_t total_bytes; /* of all files; 0: unknown */
    text_reader reader;
    int32_t *pool;
    size_t pool_capacity;
    embed_ids *texts;
    size_t texts_capacity;
    token_piece piece;
} token_reader;

/* What contradicts itself: an exit code after a message. */
int token_options_check(const char *who, const token_options *o);
/* model and options are borrowed until _close. All return exit codes after a message. */
int token_reader_open(token_reader *r, const char *who, const embed_model *model,
                      const token_options *options);
/* At most max_texts of one file, some megabytes; n = 0 is the end of the last file. */
int token_reader_next(token_reader *r, size_t max_texts, const token_piece **piece);
void token_reader_close(token_reader *r); /* also after a failed open */

#endif
