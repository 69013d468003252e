/* durable: files that are either wholly there or not there at all, after any crash. */
#ifndef EMB_IO_DURABLE_H
#define EMB_IO_DURABLE_H

#include "base/alloc.h"

/* Create `path` (which must not exist), write, fsync and close; nothing is left on failure. */
embed_status emb_durable_write(const char *path, const void *data, size_t bytes);

/* fsync a directory, so that names made or renamed in it last. */
embed_status emb_durable_sync_dir(const char *path);

/* Can a file take the name `path` by rename(2) without harm? _IO unless nothing or a regular file
 * is there: a device would be lost, and a link would stop being one. */
embed_status emb_durable_check_target(const char *path);

/* emb_durable_check_target, rename(2), then sync the directory of `to`. */
embed_status emb_durable_rename(const emb_env *env, const char *from, const char *to);

/* write(2) and pwrite(2) until all is written; short writes and EINTR go on. */
embed_status emb_durable_write_all(int fd, const void *data, size_t bytes, const char *path);
embed_status emb_durable_write_at(int fd, const void *data, size_t bytes, uint64_t offset,
                                  const char *path);

#endif
