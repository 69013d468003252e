/* row_writer: vectors to a .npy file or JSON lines. A file appears under its name only when it is
 * complete: rows go to NAME.tmp, which is renamed at the end and removed on failure. */
#ifndef EMBED_PROGRAM_ROW_WRITER_H
#define EMBED_PROGRAM_ROW_WRITER_H

#include <stdio.h>

#include "embed.h"

typedef enum row_format {
    ROWS_BY_NAME = 0, /* .jsonl by the end of the file's name, else .npy */
    ROWS_NPY,
    ROWS_JSONL
} row_format;

typedef struct row_writer {
    const char *who, *name; /* for messages */
    char *target, *tmp;     /* rename `tmp` to `target` at the end; NULL: written in place */
    FILE *file;             /* where the result goes */
    FILE *data;             /* where rows go: `file`, or a spool file if `file` cannot seek */
    row_format format;
    int32_t dtype;   /* embed_dtype of the rows */
    size_t elements; /* of a row */
    size_t row_bytes;
    uint64_t rows;
} row_writer;

/* path NULL or "-": standard output. All return an exit code after a message. */
int row_writer_open(row_writer *w, const char *who, const char *path, row_format format,
                    int32_t dtype, size_t elements);
/* n rows; ids and reports ([n]) go into JSON lines and may be NULL. */
int row_writer_write(row_writer *w, const void *rows, size_t n, const embed_text *ids,
                     const embed_text_report *reports);
int row_writer_finish(row_writer *w);
/* Without row_writer_finish this throws the rows away; harmless after it and on a failed open. */
void row_writer_close(row_writer *w);

/* Read a float32 .npy file of shape [rows, columns] into `out`. */
int npy_read(const char *who, const char *path, size_t rows, size_t columns, float *out);

#endif
