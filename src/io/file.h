/* file: opening and reading regular files, with messages that name the file. */
#ifndef EMB_IO_FILE_H
#define EMB_IO_FILE_H

#include "base/alloc.h"

/* "<path>: <what>: <reason for errno>" as EMBED_ERR_IO; right after the call that failed. */
embed_status emb_file_fail(const char *path, const char *what);

/* Open for reading; directories, pipes and devices are refused (and never waited for).
 * *fd is -1 on failure. Errors: _IO with the path and the system's reason. */
embed_status emb_file_open(const char *path, int *fd, uint64_t *size);
void emb_file_close(int fd); /* -1 is a no-op */

/* The whole file in a block of size + `padding` bytes (the padding zeroed), for emb_free.
 * Errors: _IO; _FORMAT if it holds more than max_bytes; _NOMEM. */
embed_status emb_file_read(const char *path, const emb_env *env, size_t max_bytes, size_t padding,
                           char **out, size_t *size);

/* Exactly `bytes` from `offset`; a file that ends before is EMBED_ERR_TRUNCATED. */
embed_status emb_file_read_at(int fd, const char *path, uint64_t offset, void *out, size_t bytes);

/* *exists = 1 if something of that name is there (of any kind); a path that cannot be looked at for
 * another reason than absence, such as missing permission, is EMBED_ERR_IO. */
embed_status emb_file_exists(const char *path, int *exists);

/* "dir/name" for emb_free. */
embed_status emb_file_join(const emb_env *env, const char *dir, const char *name, char **out);

#endif
