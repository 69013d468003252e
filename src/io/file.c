#define _POSIX_C_SOURCE 200809L
#include "io/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

embed_status emb_file_fail(const char *path, const char *what) {
    char reason[128];
    const int error = errno; /* strerror_r, not strerror: another thread may be failing too */
    if (strerror_r(error, reason, sizeof reason) != 0)
        (void)snprintf(reason, sizeof reason, "error %d", error);
    return emb_fail(EMBED_ERR_IO, "%s: %s: %s", path, what, reason);
}

static const char *kind_of(mode_t mode) {
    return S_ISDIR(mode)    ? "a directory"
           : S_ISFIFO(mode) ? "a pipe"
           : S_ISSOCK(mode) ? "a socket"
                            : "a device";
}

embed_status emb_file_open(const char *path, int *fd, uint64_t *size) {
    struct stat info;
    *fd = -1;
    *size = 0;
    /* O_NONBLOCK: opening a pipe that nobody writes to must not hang; no effect on files. */
    do
        *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    while (*fd < 0 && errno == EINTR);
    if (*fd < 0)
        return emb_file_fail(path, "cannot open");
    embed_status st = EMBED_OK;
    if (fstat(*fd, &info) != 0)
        st = emb_file_fail(path, "cannot stat");
    else if (!S_ISREG(info.st_mode))
        st = emb_fail(EMBED_ERR_IO, "%s: expected a file, found %s", path, kind_of(info.st_mode));
    else
        *size = (uint64_t)info.st_size;
    if (st != EMBED_OK) {
        emb_file_close(*fd);
        *fd = -1;
    }
    return st;
}

void emb_file_close(int fd) {
    if (fd >= 0)
        (void)close(fd);
}

static embed_status read_all(const char *path, int fd, char *buffer, size_t size) {
    size_t at = 0;
    while (at < size) {
        const ssize_t n = read(fd, buffer + at, size - at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return emb_file_fail(path, "cannot read");
        if (n == 0)
            return emb_fail(EMBED_ERR_IO, "%s: expected %zu bytes, the file ended after %zu", path,
                            size, at);
        at += (size_t)n;
    }
    return EMBED_OK;
}

embed_status emb_file_read(const char *path, const emb_env *env, size_t max_bytes, size_t padding,
                           char **out, size_t *size) {
    embed_status st = EMBED_OK;
    uint64_t bytes;
    size_t room;
    void *block = NULL;
    int fd;
    *out = NULL;
    *size = 0;
    EMB_TRY(emb_file_open(path, &fd, &bytes));
    if (bytes > max_bytes) {
        st = emb_fail(EMBED_ERR_FORMAT, "%s: expected at most %zu bytes, found %llu", path,
                      max_bytes, (unsigned long long)bytes);
        goto fail;
    }
    EMB_TRY(emb_add((size_t)bytes, padding, path, &room));
    EMB_TRY(emb_alloc(env, room, &block));
    EMB_TRY(read_all(path, fd, block, (size_t)bytes));
    memset((char *)block + bytes, 0, padding);
    emb_file_close(fd);
    *out = block;
    *size = (size_t)bytes;
    return EMBED_OK;
fail:
    emb_free(env, block);
    emb_file_close(fd);
    return st;
}

embed_status emb_file_read_at(int fd, const char *path, uint64_t offset, void *out, size_t bytes) {
    char *p = out;
    while (bytes > 0) {
        const ssize_t n = pread(fd, p, bytes, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return emb_file_fail(path, "cannot read");
        if (n == 0)
            return emb_fail(EMBED_ERR_TRUNCATED, "%s: the file ends before byte %llu", path,
                            (unsigned long long)(offset + bytes));
        p += n;
        bytes -= (size_t)n;
        offset += (uint64_t)n;
    }
    return EMBED_OK;
}

embed_status emb_file_exists(const char *path, int *exists) {
    struct stat info;
    *exists = 0;
    if (stat(path, &info) == 0) {
        *exists = 1;
        return EMBED_OK;
    }
    return errno == ENOENT || errno == ENOTDIR ? EMBED_OK : emb_file_fail(path, "cannot stat");
}

embed_status emb_file_join(const emb_env *env, const char *dir, const char *name, char **out) {
    const size_t n = strlen(dir), m = strlen(name);
    const int slash = n > 0 && dir[n - 1] == '/';
    embed_status st;
    size_t bytes;
    void *path;
    *out = NULL;
    if ((st = emb_add(n, m + 2, "path", &bytes)) != EMBED_OK ||
        (st = emb_alloc(env, bytes, &path)) != EMBED_OK)
        return st;
    (void)snprintf(path, bytes, "%s%s%s", dir, slash ? "" : "/", name);
    *out = path;
    return EMBED_OK;
}
