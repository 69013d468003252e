#define _DEFAULT_SOURCE
#include "ngram/ngram_path.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/file.h"

#define LINK "current"
#define PARTIAL ".partial"

static embed_status refuse_link(const char *path) {
    return emb_fail(EMBED_ERR_IO,
                    "%s: is a symbolic link; name what it points to, or set "
                    "EMBED_TABLE_ALLOW_UNSAFE",
                    path);
}

static embed_status check_mode(const char *path, const struct stat *info) {
    if (info->st_mode & S_IWOTH)
        return emb_fail(EMBED_ERR_IO,
                        "%s: anyone may write to it (mode %04o); remove that permission (chmod "
                        "o-w) or set EMBED_TABLE_ALLOW_UNSAFE",
                        path, (unsigned)info->st_mode & 07777u);
    return EMBED_OK;
}

embed_status emb_ngram_path_check(const char *path, int fd) {
    struct stat name, file;
    if (lstat(path, &name) != 0 || fstat(fd, &file) != 0)
        return emb_file_fail(path, "cannot stat");
    if (S_ISLNK(name.st_mode) || name.st_ino != file.st_ino || name.st_dev != file.st_dev)
        return refuse_link(path);
    return check_mode(path, &file);
}

static embed_status check_directory(const char *path, int allow_unsafe) {
    struct stat info;
    if (lstat(path, &info) != 0)
        return emb_file_fail(path, "cannot open");
    if (S_ISLNK(info.st_mode) && !allow_unsafe)
        return refuse_link(path);
    if (!S_ISDIR(info.st_mode) && !S_ISLNK(info.st_mode))
        return emb_fail(EMBED_ERR_IO, "%s: expected the directory of a table, found a file", path);
    return allow_unsafe ? EMBED_OK : check_mode(path, &info);
}

static int ends_with(const char *path, const char *end) {
    const size_t n = strlen(path), m = strlen(end);
    return n >= m && strcmp(path + n - m, end) == 0;
}

/* "store/current" -> "store", for emb_free; NULL for other paths. */
static embed_status store_of(char **store, const emb_env *env, const char *path) {
    const char *slash = strrchr(path, '/');
    const char *name = slash != NULL ? slash + 1 : path;
    struct stat info;
    *store = NULL;
    if (strcmp(name, LINK) != 0 || lstat(path, &info) != 0 || !S_ISLNK(info.st_mode))
        return EMBED_OK;
    if (slash == NULL)
        return emb_strdup(env, ".", 1, store);
    return emb_strdup(env, path, slash == path ? 1 : (size_t)(slash - path), store);
}

/* The link holds a plain name, so that a store can be moved and nobody is led out of it. */
static embed_status follow(char **dir, const emb_env *env, const char *store) {
    char target[NAME_MAX + 1];
    char *link = NULL;
    struct stat info;
    embed_status st = emb_file_join(env, store, LINK, &link);
    if (st != EMBED_OK)
        return st;
    const ssize_t n = readlink(link, target, sizeof target - 1);
    if (n < 0) {
        st = ends_with(store, PARTIAL)
                 ? emb_fail(EMBED_ERR_IO,
                            "%s: a build that has not ended: no manifest.json; finish it with "
                            "`embed ngram build --resume`",
                            store)
                 : emb_fail(EMBED_ERR_IO,
                            "%s: holds neither a manifest.json nor a `" LINK
                            "` link: no table, or one that was not finished",
                            store);
        goto fail;
    }
    target[n] = '\0';
    if (n == 0 || strchr(target, '/') != NULL || target[0] == '.') {
        st = emb_fail(EMBED_ERR_IO, "%s: expected a link to a version beside it, found \"%s\"",
                      link, target);
        goto fail;
    }
    EMB_TRY(emb_file_join(env, store, target, dir));
    if (lstat(*dir, &info) != 0 && errno == ENOENT)
        st =
            emb_fail(EMBED_ERR_IO,
                     "%s: points to the version %s, which is not there; choose another with `embed "
                     "ngram rollback` or publish one",
                     link, target);
fail:
    emb_free(env, link);
    return st;
}

embed_status emb_ngram_path_resolve(char **dir, const emb_env *env, const char *path,
                                    int allow_unsafe) {
    embed_status st = EMBED_OK;
    char *plain = NULL, *store = NULL, *manifest = NULL;
    size_t n = strlen(path);
    int exists = 0;
    *dir = NULL;
    while (n > 1 && path[n - 1] == '/') /* "link/" would be the link's target */
        n--;
    EMB_TRY(emb_strdup(env, path, n, &plain));
    EMB_TRY(store_of(&store, env, plain));
    const char *start = store != NULL ? store : plain;
    EMB_TRY(check_directory(start, allow_unsafe));
    if (store == NULL) {
        EMB_TRY(emb_file_join(env, start, "manifest.json", &manifest));
        EMB_TRY(emb_file_exists(manifest, &exists));
    }
    if (exists)
        EMB_TRY(emb_strdup(env, start, strlen(start), dir));
    else {
        EMB_TRY(follow(dir, env, start));
        EMB_TRY(check_directory(*dir, allow_unsafe));
    }
fail:
    emb_free(env, plain);
    emb_free(env, store);
    emb_free(env, manifest);
    if (st != EMBED_OK) {
        emb_free(env, *dir);
        *dir = NULL;
    }
    return st;
}
