/* text_reader: a file of texts or token ids, read a piece at a time so that memory stays bounded
 * however long the file is.
 *   .txt    one text a line, line end (\n or \r\n) not included; an empty line is an empty text
 *   .jsonl  {"text": ...} a line, optionally "id" or "_id", and "title"; blank lines are skipped
 *   ids     [1, 2, 3] a line: ready-made token ids; blank lines are skipped, [] is refused unless
 *           allow_empty is set */
#ifndef EMBED_PROGRAM_TEXT_READER_H
#define EMBED_PROGRAM_TEXT_READER_H

#include <stdio.h>

#include "embed.h"

typedef enum text_format {
    TEXT_BY_NAME = 0, /* .jsonl by the end of the file's name, else .txt */
    TEXT_LINES,
    TEXT_JSONL,
    TEXT_IDS
} text_format;

/* One piece of the input; everything is owned by the reader and lives until its next call. */
typedef struct text_piece {
    size_t n;
    embed_text *texts; /* for TEXT_IDS the lines themselves */
    embed_text *ids;   /* "id" of the line, ptr NULL if it has none */
    embed_ids *tokens; /* TEXT_IDS only */
    uint64_t *lines;   /* line numbers, the first is 1 */
    uint64_t bytes;    /* of input read for this piece */
} text_piece;

typedef struct text_reader {
    const char *who, *name; /* for messages */
    FILE *file;
    text_format format;
    int with_title;  /* a text is "title text" where the line has a title */
    int allow_empty; /* TEXT_IDS: set after opening */
    uint64_t line;
    uint64_t file_bytes; /* 0: unknown, a pipe */
    char *input;         /* the line being read */
    size_t input_capacity;
    char *bytes; /* texts, ids and titles of the piece, one after the other */
    size_t bytes_used, bytes_capacity;
    int32_t *token_pool;
    size_t tokens_used, tokens_capacity;
    size_t capacity; /* of the arrays of `piece` */
    size_t *starts;  /* [capacity] where a text's bytes or tokens start */
    size_t *id_starts;
    text_piece piece;
} text_reader;

/* path NULL or "-": standard input. Both return an exit code after a message naming file and line;
 * text_reader_next gives a piece of at most max_texts (some megabytes of text); n = 0 is the end.
 */
int text_reader_open(text_reader *r, const char *who, const char *path, text_format format);
int text_reader_next(text_reader *r, size_t max_texts, const text_piece **piece);
void text_reader_close(text_reader *r); /* also after a failed open */

#endif
