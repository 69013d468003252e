/* row_files: the row files of a table as plain files, for reading them in ways the library does not
 * or as a yardstick for it: system calls and nothing else, no checks, no decoding. */
#ifndef EMBED_PROGRAM_ROW_FILES_H
#define EMBED_PROGRAM_ROW_FILES_H

#include <stddef.h>
#include <stdint.h>

typedef enum raw_method {
    RAW_READAHEAD, /* mmap as it comes, rows touched one after the other */
    RAW_FAULTS,    /* mmap + MADV_RANDOM, the same */
    RAW_PREAD,     /* pread, one at a time */
    RAW_POOL,      /* pread in 16 threads */
    RAW_URING,     /* io_uring, 64 reads in flight, past the page cache where the disk allows */
    RAW_GATHER     /* memcpy from the mapping */
} raw_method;

#define RAW_THREADS 16
#define RAW_DEPTH 64

typedef struct row_file {
    char *path;
    int fd;
    uint64_t first_row, rows, bytes;
    unsigned char *map;
} row_file;

typedef struct row_files {
    const char *who;
    row_file *files;
    size_t n;
    uint32_t row_bytes, rows_per_block, block_bytes;
} row_files;

/* The parts of the table in `directory` (a version's own, no store). An exit code after a message;
 * close in any case. */
int row_files_open(row_files *f, const char *who, const char *directory, int32_t parts);
void row_files_close(row_files *f);
/* Ask the system to forget the files' pages; what others have mapped stays. */
void row_files_drop(row_files *f);
/* Read them all through the page cache. */
int row_files_warm(const row_files *f);

/* Bring n rows, once each in this order. *sum: of what was read, so that nothing is left out.
 * 1: done; 0: this system or build cannot; -1: failed, after a message. */
int row_files_read(row_files *f, raw_method method, const int64_t *rows, size_t n, uint64_t *sum);

#endif
