#define _GNU_SOURCE /* O_DIRECT */
#include "row_files.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "raw_uring.h"
#include "tool.h"

/* The first bytes of rows-NNN.bin, see src/ngram/README.md; little-endian. */
#define HEADER_BYTES 4096
#define ROWS_MAGIC 0x53574f5247424d45u
#define AT_COUNT 40
#define AT_FIRST_ROW 48
#define AT_ROW_BYTES 72
#define AT_PER_BLOCK 76
#define AT_BLOCK_BYTES 80

static uint64_t number(const unsigned char *p, size_t bytes) {
    uint64_t v = 0;
    for (size_t i = 0; i < bytes; i++)
        v |= (uint64_t)p[i] << 8 * i;
    return v;
}

static int fail_errno(const row_files *f, const char *path) {
    return tool_fail(f->who, "%s: %s", path, strerror(errno));
}

static int open_part(row_files *f, row_file *file) {
    unsigned char head[AT_BLOCK_BYTES + 4];
    struct stat info;
    file->fd = open(file->path, O_RDONLY | O_CLOEXEC);
    if (file->fd < 0 || fstat(file->fd, &info) != 0)
        return fail_errno(f, file->path);
    if (pread(file->fd, head, sizeof head, 0) != (ssize_t)sizeof head ||
        number(head, 8) != ROWS_MAGIC)
        return tool_fail(f->who, "%s: not a row file of a table", file->path);
    file->bytes = (uint64_t)info.st_size;
    file->rows = number(head + AT_COUNT, 8);
    file->first_row = number(head + AT_FIRST_ROW, 8);
    f->row_bytes = (uint32_t)number(head + AT_ROW_BYTES, 4);
    f->rows_per_block = (uint32_t)number(head + AT_PER_BLOCK, 4);
    f->block_bytes = (uint32_t)number(head + AT_BLOCK_BYTES, 4);
    if (!f->rows_per_block || !f->row_bytes || f->block_bytes < f->row_bytes)
        return tool_fail(f->who, "%s: senseless sizes", file->path);
    return EXIT_OK;
}

int row_files_open(row_files *f, const char *who, const char *directory, int32_t parts) {
    int code = EXIT_OK;
    *f = (row_files){.who = who};
    f->files = calloc((size_t)parts + 1, sizeof *f->files);
    if (!f->files)
        return tool_fail(who, "not enough memory");
    for (int32_t i = 0; i < parts && code == EXIT_OK; i++) {
        const size_t bytes = strlen(directory) + 32;
        row_file *file = &f->files[f->n++];
        file->fd = -1;
        file->path = malloc(bytes);
        if (!file->path)
            return tool_fail(who, "not enough memory");
        snprintf(file->path, bytes, "%s/rows-%03d.bin", directory, i);
        code = open_part(f, file);
    }
    return code;
}

static int map_files(row_files *f, int random) {
    for (size_t i = 0; i < f->n; i++) {
        row_file *file = &f->files[i];
        if (file->map)
            continue;
        void *p = mmap(NULL, file->bytes, PROT_READ, MAP_SHARED, file->fd, 0);
        if (p == MAP_FAILED) {
            fail_errno(f, file->path);
            return -1;
        }
        file->map = p;
        if (random)
            (void)madvise(p, file->bytes, MADV_RANDOM);
    }
    return 1;
}

static void unmap_files(row_files *f) {
    for (size_t i = 0; i < f->n; i++) {
        if (f->files[i].map)
            munmap(f->files[i].map, f->files[i].bytes);
        f->files[i].map = NULL;
    }
}

void row_files_close(row_files *f) {
    unmap_files(f);
    for (size_t i = 0; i < f->n; i++) {
        if (f->files[i].fd >= 0)
            close(f->files[i].fd);
        free(f->files[i].path);
    }
    free(f->files);
    *f = (row_files){0};
}

void row_files_drop(row_files *f) {
    unmap_files(f); /* mapped pages would stay */
    for (size_t i = 0; i < f->n; i++) {
        (void)fdatasync(f->files[i].fd); /* pages that are not written yet would stay */
        (void)posix_fadvise(f->files[i].fd, 0, 0, POSIX_FADV_DONTNEED);
    }
}

int row_files_warm(const row_files *f) {
    enum { PIECE = 1 << 20 };
    char *buffer = malloc(PIECE);
    if (!buffer)
        return tool_fail(f->who, "not enough memory");
    for (size_t i = 0; i < f->n; i++) {
        ssize_t got = 1;
        for (off_t at = 0; got > 0; at += got)
            got = pread(f->files[i].fd, buffer, PIECE, at);
        if (got < 0) {
            free(buffer);
            return fail_errno(f, f->files[i].path);
        }
    }
    free(buffer);
    return EXIT_OK;
}

/* ------------------------------------------------------------------------------------- reading */

static const row_file *place(const row_files *f, int64_t row, uint64_t *offset) {
    size_t i = 0;
    while (i + 1 < f->n && (uint64_t)row >= f->files[i + 1].first_row)
        i++;
    const uint64_t at = (uint64_t)row - f->files[i].first_row;
    *offset = HEADER_BYTES + at / f->rows_per_block * f->block_bytes +
              at % f->rows_per_block * f->row_bytes;
    return &f->files[i];
}

static uint64_t sum_of(const unsigned char *p, size_t bytes) {
    uint64_t sum = 0;
    for (size_t i = 0; i + 8 <= bytes; i += 64) { /* a cache line each */
        uint64_t v;
        memcpy(&v, p + i, sizeof v);
        sum += v;
    }
    return sum;
}

/* The mapping stays for the next time, with its page tables, until the files are dropped. */
static int read_mapped(row_files *f, raw_method method, const int64_t *rows, size_t n,
                       uint64_t *sum) {
    unsigned char *out = malloc(f->row_bytes);
    const int result = out ? map_files(f, method == RAW_FAULTS) : -1;
    for (size_t i = 0; i < n && result > 0; i++) {
        uint64_t offset;
        const row_file *file = place(f, rows[i], &offset);
        memcpy(out, file->map + offset, f->row_bytes);
        *sum += sum_of(out, f->row_bytes);
    }
    free(out);
    return result;
}

struct pool {
    const row_files *f;
    const int64_t *rows;
    size_t n;
    atomic_size_t next;
    _Atomic uint64_t sum;
    atomic_int failed;
};

static void *pool_thread(void *arg) {
    struct pool *p = arg;
    unsigned char *out = malloc(p->f->row_bytes);
    uint64_t sum = 0;
    for (size_t i; out && (i = atomic_fetch_add(&p->next, 1)) < p->n;) {
        uint64_t offset;
        const row_file *file = place(p->f, p->rows[i], &offset);
        if (pread(file->fd, out, p->f->row_bytes, (off_t)offset) != (ssize_t)p->f->row_bytes)
            atomic_store(&p->failed, 1);
        sum += sum_of(out, p->f->row_bytes);
    }
    if (!out)
        atomic_store(&p->failed, 1);
    free(out);
    atomic_fetch_add(&p->sum, sum);
    return NULL;
}

static int read_pool(const row_files *f, int threads, const int64_t *rows, size_t n,
                     uint64_t *sum) {
    struct pool p = {.f = f, .rows = rows, .n = n};
    pthread_t ids[RAW_THREADS];
    int started = 0;
    while (started + 1 < threads && pthread_create(&ids[started], NULL, pool_thread, &p) == 0)
        started++;
    (void)pool_thread(&p);
    for (int i = 0; i < started; i++)
        pthread_join(ids[i], NULL);
    *sum += atomic_load(&p.sum);
    if (!atomic_load(&p.failed))
        return 1;
    tool_fail(f->who, "%s: cannot be read", f->files[0].path);
    return -1;
}

static int read_uring(const row_files *f, const int64_t *rows, size_t n, uint64_t *sum) {
    raw_read *reads = malloc((n + 1) * sizeof *reads);
    int *fds = malloc((f->n + 1) * sizeof *fds);
    int result = reads && fds ? 1 : -1;
    for (size_t i = 0; i < f->n && fds; i++) {
        fds[i] = open(f->files[i].path, O_RDONLY | O_CLOEXEC | O_DIRECT);
        if (fds[i] < 0)
            fds[i] = open(f->files[i].path, O_RDONLY | O_CLOEXEC);
    }
    for (size_t i = 0; i < n && result > 0; i++) {
        uint64_t offset;
        const row_file *file = place(f, rows[i], &offset);
        const uint64_t start = offset / RAW_ALIGN * RAW_ALIGN;
        const uint64_t end = (offset + f->row_bytes + RAW_ALIGN - 1) / RAW_ALIGN * RAW_ALIGN;
        reads[i] = (raw_read){fds[file - f->files], (uint32_t)(offset - start), start,
                              (uint32_t)(end - start), f->row_bytes};
    }
    if (result > 0)
        result = raw_uring_run(reads, n, RAW_DEPTH, sum);
    if (result < 0)
        tool_fail(f->who, "%s: cannot be read by io_uring", f->files[0].path);
    for (size_t i = 0; i < f->n && fds; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    free(fds);
    free(reads);
    return result;
}

int row_files_read(row_files *f, raw_method method, const int64_t *rows, size_t n, uint64_t *sum) {
    switch (method) {
    case RAW_PREAD:
        return read_pool(f, 1, rows, n, sum);
    case RAW_POOL:
        return read_pool(f, RAW_THREADS, rows, n, sum);
    case RAW_URING:
        return read_uring(f, rows, n, sum);
    case RAW_READAHEAD:
    case RAW_FAULTS:
    case RAW_GATHER:
        return read_mapped(f, method, rows, n, sum);
    }
    return -1;
}
