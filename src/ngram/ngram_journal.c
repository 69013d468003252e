#define _DEFAULT_SOURCE
#include "ngram/ngram_journal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hex.h"
#include "io/durable.h"
#include "io/file.h"

#define HEAD "embed n-gram table in the making 1 "
#define MAX_BYTES ((size_t)1 << 20) /* 1000 parts take 130 bytes each */

static embed_status append(const emb_ngram_journal *j, const char *line, int len) {
    const embed_status st = emb_durable_write_all(j->fd, line, (size_t)len, j->path);
    if (st != EMBED_OK)
        return st;
    return fsync(j->fd) != 0 ? emb_file_fail(j->path, "cannot sync") : EMBED_OK;
}

static embed_status remember(emb_ngram_journal *j, const emb_env *env, const char *name,
                             uint64_t bytes, const char sha256[65]) {
    const embed_status st =
        emb_grow(env, (void **)&j->files, &j->capacity, j->n_files + 1, sizeof *j->files);
    if (st != EMBED_OK)
        return st;
    emb_ngram_file *f = &j->files[j->n_files];
    f->bytes = bytes;
    memcpy(f->sha256, sha256, sizeof f->sha256);
    const embed_status named = emb_strdup(env, name, strlen(name), &f->name);
    j->n_files += named == EMBED_OK;
    return named;
}

embed_status emb_ngram_journal_add_file(emb_ngram_journal *j, const emb_env *env, const char *name,
                                        uint64_t bytes, const char sha256[65]) {
    char line[256];
    const embed_status st = remember(j, env, name, bytes, sha256);
    if (st != EMBED_OK)
        return st;
    return append(j, line,
                  snprintf(line, sizeof line, "file %s %" PRIu64 " %s\n", name, bytes, sha256));
}

embed_status emb_ngram_journal_add_index(emb_ngram_journal *j, uint64_t keys, uint64_t n_buckets,
                                         uint64_t seed,
                                         const uint64_t length_rows[EMB_NGRAM_MAX_K + 1]) {
    char line[512];
    int n = snprintf(line, sizeof line, "index %" PRIu64 " %" PRIu64 " %" PRIu64, keys, n_buckets,
                     seed);
    for (int i = 0; i <= EMB_NGRAM_MAX_K; i++)
        n += snprintf(line + n, sizeof line - (size_t)n, " %" PRIu64, length_rows[i]);
    n += snprintf(line + n, sizeof line - (size_t)n, "\n");
    j->keys = keys;
    j->n_buckets = n_buckets;
    j->seed = seed;
    memcpy(j->length_rows, length_rows, sizeof j->length_rows);
    return append(j, line, n);
}

const emb_ngram_file *emb_ngram_journal_find(const emb_ngram_journal *j, const char *name) {
    for (size_t i = 0; i < j->n_files; i++)
        if (strcmp(j->files[i].name, name) == 0)
            return &j->files[i];
    return NULL;
}

/* One whole line, its newline cut off; *good = 0 if it is none of ours. */
static embed_status read_line(emb_ngram_journal *j, const emb_env *env, const char *line,
                              int *good) {
    char name[33], sha256[65];
    uint64_t bytes;
    int at = 0;
    *good = 1;
    if (sscanf(line, "file %32s %" SCNu64 " %64s", name, &bytes, sha256) == 3 &&
        strlen(sha256) == 64)
        return remember(j, env, name, bytes, sha256);
    if (sscanf(line, "index %" SCNu64 " %" SCNu64 " %" SCNu64 "%n", &j->keys, &j->n_buckets,
               &j->seed, &at) == 3) {
        for (int i = 0, used = 0; i <= EMB_NGRAM_MAX_K && *good; i++, at += used)
            *good = sscanf(line + at, " %" SCNu64 "%n", &j->length_rows[i], &used) == 1;
        return EMBED_OK;
    }
    *good = 0;
    return EMBED_OK;
}

static embed_status begin(emb_ngram_journal *j, const uint8_t table_id[16],
                          const uint8_t salt[32]) {
    char id[33], grains[65], line[256];
    if (ftruncate(j->fd, 0) != 0 || lseek(j->fd, 0, SEEK_SET) != 0)
        return emb_file_fail(j->path, "cannot truncate");
    j->fresh = 1;
    memcpy(j->table_id, table_id, sizeof j->table_id);
    memcpy(j->salt, salt, sizeof j->salt);
    emb_hex_write(table_id, 16, id);
    emb_hex_write(salt, 32, grains);
    return append(j, line, snprintf(line, sizeof line, HEAD "%s %s\n", id, grains));
}

/* Everything up to the last newline. */
static embed_status replay(emb_ngram_journal *j, const emb_env *env, char *text, size_t size,
                           const uint8_t table_id[16], const uint8_t salt[32]) {
    const size_t head = strlen(HEAD), first = head + 32 + 1 + 64;
    embed_status st = EMBED_OK;
    size_t at = first + 1;
    if (size <= first || text[first] != '\n' || memcmp(text, HEAD, head) != 0 ||
        !emb_hex_read(text + head, 16, j->table_id) || !emb_hex_read(text + head + 33, 32, j->salt))
        return begin(j, table_id, salt);
    if (memcmp(j->table_id, table_id, sizeof j->table_id) != 0)
        return emb_fail(EMBED_ERR_MISMATCH,
                        "%s: was begun from other inputs or with other options; give the same ones "
                        "to go on, or remove its directory to begin anew",
                        j->path);
    for (char *end; at < size && (end = memchr(text + at, '\n', size - at)) != NULL;) {
        int good;
        *end = '\0';
        EMB_TRY(read_line(j, env, text + at, &good));
        if (!good)
            break;
        at = (size_t)(end - text) + 1;
    }
    if (ftruncate(j->fd, (off_t)at) != 0 || lseek(j->fd, (off_t)at, SEEK_SET) < 0)
        st = emb_file_fail(j->path, "cannot truncate");
fail:
    return st;
}

int emb_ngram_journal_busy(const emb_env *env, const char *dir) {
    char *path;
    if (emb_file_join(env, dir, EMB_NGRAM_JOURNAL_NAME, &path) != EMBED_OK)
        return 0;
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    const int busy = fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    if (fd >= 0)
        emb_file_close(fd);
    emb_free(env, path);
    return busy;
}

embed_status emb_ngram_journal_open(emb_ngram_journal *j, const emb_env *env, const char *dir,
                                    const uint8_t table_id[16], const uint8_t salt[32]) {
    embed_status st = EMBED_OK;
    char *text = NULL;
    struct stat info;
    *j = (emb_ngram_journal){.fd = -1};
    EMB_TRY(emb_file_join(env, dir, EMB_NGRAM_JOURNAL_NAME, &j->path));
    j->fd = open(j->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (j->fd < 0) {
        st = emb_file_fail(j->path, "cannot open");
        goto fail;
    }
    if (flock(j->fd, LOCK_EX | LOCK_NB) != 0) {
        st = errno == EWOULDBLOCK
                 ? emb_fail(EMBED_ERR_IO, "%s: another run is writing this table", j->path)
                 : emb_file_fail(j->path, "cannot lock");
        goto fail;
    }
    if (fstat(j->fd, &info) != 0 || (uint64_t)info.st_size > MAX_BYTES) {
        st = emb_fail(EMBED_ERR_FORMAT, "%s: not a journal of ours", j->path);
        goto fail;
    }
    const size_t size = (size_t)info.st_size;
    EMB_TRY(emb_alloc(env, size + 1, (void **)&text));
    EMB_TRY(emb_file_read_at(j->fd, j->path, 0, text, size));
    text[size] = '\0';
    EMB_TRY(replay(j, env, text, size, table_id, salt));
    EMB_TRY(emb_durable_sync_dir(dir));
    emb_free(env, text);
    return EMBED_OK;
fail:
    emb_free(env, text);
    emb_ngram_journal_close(j, env);
    return st;
}

void emb_ngram_journal_close(emb_ngram_journal *j, const emb_env *env) {
    for (size_t i = 0; i < j->n_files; i++)
        emb_free(env, j->files[i].name);
    emb_free(env, j->files);
    emb_free(env, j->path);
    emb_file_close(j->fd);
    *j = (emb_ngram_journal){.fd = -1};
}
