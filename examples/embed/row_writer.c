#define _GNU_SOURCE /* realpath */
#include "row_writer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "third_party/yyjson/yyjson.h"
#include "tool.h"

/* .npy version 1: magic, header length, a Python dict padded with spaces
 * (numpy.lib.format, "Format Version 1.0"). A fixed 128 bytes leave room for any row count. */
#define NPY_HEADER_BYTES 128
#define NPY_PREFIX_BYTES 10
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define NPY_ORDER "<"
#else
#define NPY_ORDER ">"
#endif

static const struct {
    const char *descr;
    size_t bytes;
} dtypes[] = {[EMBED_F32] = {NPY_ORDER "f4", 4}, [EMBED_F16] = {NPY_ORDER "f2", 2},
              [EMBED_I8] = {"|i1", 1},           [EMBED_U8] = {"|u1", 1},
              [EMBED_BINARY] = {"|i1", 1},       [EMBED_UBINARY] = {"|u1", 1}};

static int fail_errno(const row_writer *w) {
    return tool_fail(w->who, "%s: %s", w->name, strerror(errno));
}

static int write_npy_header(const row_writer *w) {
    char header[NPY_HEADER_BYTES + 1];
    memset(header, ' ', sizeof header);
    memcpy(header, "\x93NUMPY\x01\x00", 8);
    header[8] = NPY_HEADER_BYTES - NPY_PREFIX_BYTES;
    header[9] = 0;
    const int len = snprintf(header + NPY_PREFIX_BYTES, sizeof header - NPY_PREFIX_BYTES,
                             "{'descr': '%s', 'fortran_order': False, 'shape': (%llu, %zu), }",
                             dtypes[w->dtype].descr, (unsigned long long)w->rows, w->elements);
    header[NPY_PREFIX_BYTES + len] = ' ';
    header[NPY_HEADER_BYTES - 1] = '\n';
    return fwrite(header, NPY_HEADER_BYTES, 1, w->file) == 1 ? EXIT_OK : fail_errno(w);
}

/* A regular file, or one that does not exist yet, is written beside its place and renamed; devices
 * and pipes are written in place. */
static int open_named(row_writer *w, const char *path) {
    struct stat st;
    const int exists = stat(path, &st) == 0;
    if (exists && !S_ISREG(st.st_mode)) {
        w->file = fopen(path, "w");
        return w->file ? EXIT_OK : fail_errno(w);
    }
    w->target = exists ? realpath(path, NULL) : strdup(path); /* a link stays a link */
    w->tmp = w->target ? malloc(strlen(w->target) + sizeof ".tmp") : NULL;
    if (!w->tmp)
        return fail_errno(w);
    strcpy(w->tmp, w->target);
    strcat(w->tmp, ".tmp");
    w->file = fopen(w->tmp, "w");
    if (w->file)
        return EXIT_OK;
    const int code = tool_fail(w->who, "%s: %s", w->tmp, strerror(errno));
    free(w->tmp);
    w->tmp = NULL; /* not ours to remove */
    return code;
}

int row_writer_open(row_writer *w, const char *who, const char *path, row_format format,
                    int32_t dtype, size_t elements) {
    const size_t len = path ? strlen(path) : 0;
    if (format == ROWS_BY_NAME)
        format = len >= 6 && strcmp(path + len - 6, ".jsonl") == 0 ? ROWS_JSONL : ROWS_NPY;
    *w = (row_writer){.who = who, .name = path, .format = format, .dtype = dtype};
    w->elements = elements;
    w->row_bytes = elements * dtypes[dtype].bytes;
    if (format == ROWS_JSONL && dtype == EMBED_F16)
        return tool_usage(who, "--dtype f16 goes into .npy files only");
    if (!path || strcmp(path, "-") == 0) {
        w->name = "standard output";
        w->file = stdout;
        if (format == ROWS_NPY && isatty(STDOUT_FILENO))
            return tool_usage(who, "vectors are binary: name a file with -o, pipe them into a "
                                   "program, or ask for --format jsonl");
    } else {
        const int code = open_named(w, path);
        if (code != EXIT_OK)
            return code;
    }
    w->data = w->file;
    if (format == ROWS_NPY && !w->tmp) { /* the row count is known last but stands first */
        w->data = tmpfile();
        return w->data ? EXIT_OK : tool_fail(who, "temporary file: %s", strerror(errno));
    }
    return format == ROWS_NPY ? write_npy_header(w) : EXIT_OK;
}

static yyjson_mut_val *row_values(const row_writer *w, yyjson_mut_doc *doc, const void *row) {
    if (w->dtype == EMBED_F32)
        return yyjson_mut_arr_with_float(doc, row, w->elements);
    if (w->dtype == EMBED_U8 || w->dtype == EMBED_UBINARY)
        return yyjson_mut_arr_with_uint8(doc, row, w->elements);
    return yyjson_mut_arr_with_sint8(doc, row, w->elements);
}

/* {"id": ..., "embedding": [...], "tokens": n, "truncated": true}; the id where the input has one,
 * "truncated" only where something was cut. */
static int write_json_row(row_writer *w, const void *row, const embed_text *id,
                          const embed_text_report *report) {
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, root);
    if (id && id->ptr)
        yyjson_mut_obj_add_strn(doc, root, "id", id->ptr, id->len);
    yyjson_mut_obj_add_val(doc, root, "embedding", row_values(w, doc, row));
    if (report) {
        yyjson_mut_obj_add_int(doc, root, "tokens", report->tokens);
        if (report->truncated)
            yyjson_mut_obj_add_true(doc, root, "truncated");
    }
    size_t len;
    yyjson_write_err err;
    char *line = yyjson_mut_write_opts(doc, 0, NULL, &len, &err);
    yyjson_mut_doc_free(doc);
    if (!line)
        return tool_fail(w->who, "%s: row %llu: %s", w->name, (unsigned long long)w->rows, err.msg);
    line[len] = '\n'; /* over the terminator */
    const size_t wrote = fwrite(line, 1, len + 1, w->data);
    free(line);
    return wrote == len + 1 ? EXIT_OK : fail_errno(w);
}

int row_writer_write(row_writer *w, const void *rows, size_t n, const embed_text *ids,
                     const embed_text_report *reports) {
    if (w->format == ROWS_NPY) {
        if (n && fwrite(rows, w->row_bytes, n, w->data) != n)
            return fail_errno(w);
        w->rows += n;
        return EXIT_OK;
    }
    for (size_t i = 0; i < n; i++, w->rows++) {
        const int code = write_json_row(w, (const char *)rows + i * w->row_bytes,
                                        ids ? &ids[i] : NULL, reports ? &reports[i] : NULL);
        if (code != EXIT_OK)
            return code;
    }
    return EXIT_OK;
}

static int copy_spool(row_writer *w) {
    char block[1 << 10];
    size_t got;
    if (fseek(w->data, 0, SEEK_SET) != 0)
        return tool_fail(w->who, "temporary file: %s", strerror(errno));
    while ((got = fread(block, 1, sizeof block, w->data)) > 0)
        if (fwrite(block, 1, got, w->file) != got)
            return fail_errno(w);
    return ferror(w->data) ? tool_fail(w->who, "temporary file: %s", strerror(errno)) : EXIT_OK;
}

int row_writer_finish(row_writer *w) {
    int code = EXIT_OK;
    if (w->format == ROWS_NPY) {
        if (w->tmp && fseek(w->file, 0, SEEK_SET) != 0)
            return fail_errno(w);
        code = write_npy_header(w);
        if (code == EXIT_OK && w->data != w->file)
            code = copy_spool(w);
    }
    if (code != EXIT_OK)
        return code;
    if (fflush(w->file) != 0)
        return fail_errno(w);
    if (!w->tmp)
        return EXIT_OK;
    if (fsync(fileno(w->file)) != 0 || rename(w->tmp, w->target) != 0)
        return fail_errno(w);
    free(w->tmp);
    w->tmp = NULL;
    return EXIT_OK;
}

void row_writer_close(row_writer *w) {
    if (w->data && w->data != w->file)
        fclose(w->data);
    if (w->file && w->file != stdout)
        fclose(w->file);
    if (w->tmp)
        remove(w->tmp);
    free(w->tmp);
    free(w->target);
    *w = (row_writer){0};
}

int npy_read(const char *who, const char *path, size_t rows, size_t columns, float *out) {
    FILE *f = fopen(path, "r");
    if (!f)
        return tool_fail(who, "%s: %s", path, strerror(errno));
    unsigned char prefix[NPY_PREFIX_BYTES];
    char header[1024] = "", shape[64];
    size_t len = 0;
    snprintf(shape, sizeof shape, "(%zu, %zu)", rows, columns);
    if (fread(prefix, sizeof prefix, 1, f) == 1 && memcmp(prefix, "\x93NUMPY\x01", 7) == 0)
        len = (size_t)prefix[8] + 256 * (size_t)prefix[9];
    int code = EXIT_OK;
    if (len == 0 || len >= sizeof header || fread(header, len, 1, f) != 1)
        code = tool_fail(who, "%s: expected a .npy file", path);
    else if (!strstr(header, "'" NPY_ORDER "f4'") || !strstr(header, "False") ||
             !strstr(header, shape))
        code = tool_fail(who, "%s: expected float32 of shape %s, found %.*s", path, shape,
                         (int)strcspn(header, "}\n") + 1, header);
    else if (fread(out, sizeof *out * columns, rows, f) != rows)
        code = tool_fail(who, "%s: the file is shorter than its header says", path);
    fclose(f);
    return code;
}
