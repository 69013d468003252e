/* ngram_path: which directory a path means, and whether files and directories are safe to use. */
#ifndef EMB_NGRAM_NGRAM_PATH_H
#define EMB_NGRAM_NGRAM_PATH_H

#include "base/alloc.h"

/* The directory of a table: path itself, or the version that the `current` link of a store names
 * (path may also be that link). *dir for emb_free. Refuses other symbolic links and directories
 * that anyone may write to, unless allowed. */
embed_status emb_ngram_path_resolve(char **dir, const emb_env *env, const char *path,
                                    int allow_unsafe);

/* EMBED_ERR_IO if the file, opened as fd, is behind a symbolic link or anyone may write to it. */
embed_status emb_ngram_path_check(const char *path, int fd);

#endif
