#define _POSIX_C_SOURCE 200809L
#include "io/durable.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/file.h"

embed_status emb_durable_write_all(int fd, const void *data, size_t bytes, const char *path) {
    const char *p = data;
    while (bytes > 0) {
        const ssize_t n = write(fd, p, bytes);
        if (n < 0 && errno != EINTR)
            return emb_file_fail(path, "cannot write");
        if (n > 0) {
            p += n;
            bytes -= (size_t)n;
        }
    }
    return EMBED_OK;
}

embed_status emb_durable_write_at(int fd, const void *data, size_t bytes, uint64_t offset,
                                  const char *path) {
    const char *p = data;
    while (bytes > 0) {
        const ssize_t n = pwrite(fd, p, bytes, (off_t)offset);
        if (n < 0 && errno != EINTR)
            return emb_file_fail(path, "cannot write");
        if (n > 0) {
            p += n;
            bytes -= (size_t)n;
            offset += (uint64_t)n;
        }
    }
    return EMBED_OK;
}

embed_status emb_durable_sync_dir(const char *path) {
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return emb_file_fail(path, "cannot open");
    const embed_status st = fsync(fd) != 0 ? emb_file_fail(path, "cannot sync") : EMBED_OK;
    emb_file_close(fd);
    return st;
}

embed_status emb_durable_check_target(const char *path) {
    struct stat info;
    if (lstat(path, &info) != 0)
        return errno == ENOENT ? EMBED_OK : emb_file_fail(path, "cannot look at it");
    if (S_ISREG(info.st_mode))
        return EMBED_OK;
    return emb_fail(EMBED_ERR_IO, "%s: expected a file or nothing, found %s; name another output",
                    path,
                    S_ISDIR(info.st_mode)   ? "a directory"
                    : S_ISLNK(info.st_mode) ? "a symbolic link"
                                            : "a device or pipe");
}

embed_status emb_durable_rename(const emb_env *env, const char *from, const char *to) {
    const char *slash = strrchr(to, '/');
    const size_t n = slash == NULL ? 1 : slash == to ? 1 : (size_t)(slash - to);
    char *dir;
    embed_status st = emb_durable_check_target(to);
    if (st == EMBED_OK)
        st = emb_strdup(env, slash == NULL ? "." : to, n, &dir);
    if (st != EMBED_OK)
        return st;
    st = rename(from, to) != 0 ? emb_file_fail(to, "cannot rename to it")
                               : emb_durable_sync_dir(dir);
    emb_free(env, dir);
    return st;
}

embed_status emb_durable_write(const char *path, const void *data, size_t bytes) {
    embed_status st = EMBED_OK;
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd < 0)
        return emb_file_fail(path, "cannot create");
    EMB_TRY(emb_durable_write_all(fd, data, bytes, path));
    if (fsync(fd) != 0) {
        st = emb_file_fail(path, "cannot sync");
        goto fail;
    }
    if (close(fd) != 0) {
        (void)unlink(path);
        return emb_file_fail(path, "cannot close");
    }
    return EMBED_OK;
fail:
    (void)close(fd);
    (void)unlink(path);
    return st;
}
