#define _GNU_SOURCE /* sync_file_range, flock */
#include "ngram/ngram_npy_sink.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "io/durable.h"
#include "io/file.h"
#include "ngram/ngram_npy.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#define STATE_MAGIC 0x53574f5259504e45u /* "ENPYROWS" */
#define CHECKPOINT_SECONDS 5

/* What is durable. Two slots are written in turn, so that one is whole after any crash. */
struct slot {
    uint64_t magic, number, done, rows, width;
    uint8_t identity[16];
    uint64_t checksum; /* XXH3-64 of what stands before it */
};

struct emb_npy_sink {
    emb_env env;
    char *path, *partial, *state, *dir;
    int fd, state_fd;
    struct slot now;
    uint64_t safe; /* rows that the state on disk names */
    size_t row_bytes;
    double checkpoint; /* when the last one was */
    int32_t finished;  /* 1: renamed in an earlier run */
    int32_t created;   /* 1: the partial file is this run's own */
};

static uint64_t checksum(const struct slot *s) {
    return XXH3_64bits(s, offsetof(struct slot, checksum));
}

static uint64_t bytes_until(const emb_npy_sink *s, uint64_t rows) {
    return EMB_NPY_HEADER_BYTES + rows * s->row_bytes;
}

/* Rows first, then the note of them. NULL, or the file that it failed on, with errno set. */
static const char *store(emb_npy_sink *s) {
    if (fdatasync(s->fd) != 0)
        return s->partial;
    s->now.number++;
    s->now.checksum = checksum(&s->now);
    errno = EIO; /* in case the write is cut */
    if (pwrite(s->state_fd, &s->now, sizeof s->now, (off_t)(s->now.number % 2 * sizeof s->now)) !=
            (ssize_t)sizeof s->now ||
        fdatasync(s->state_fd) != 0)
        return s->state;
    s->safe = s->now.done;
    s->checkpoint = emb_clock_seconds();
    return NULL;
}

static embed_status checkpoint(emb_npy_sink *s) {
    const char *path = store(s);
    return path == NULL ? EMBED_OK : emb_file_fail(path, "cannot write");
}

/* The later one of the two slots that are whole; number 0 if there is none. */
static struct slot read_state(int fd) {
    struct slot best = {0};
    for (off_t i = 0; i < 2; i++) {
        struct slot s;
        if (pread(fd, &s, sizeof s, i * (off_t)sizeof s) == (ssize_t)sizeof s &&
            s.magic == STATE_MAGIC && s.checksum == checksum(&s) && s.number > best.number)
            best = s;
    }
    return best;
}

static uint64_t size_of(const char *path) {
    struct stat info;
    return lstat(path, &info) == 0 && S_ISREG(info.st_mode) ? (uint64_t)info.st_size : 0;
}

/* The directory that holds `path`, for emb_free. */
static embed_status directory_of(const emb_env *env, const char *path, char **out) {
    const char *slash = strrchr(path, '/');
    if (slash == NULL || slash == path)
        return emb_strdup(env, slash == NULL ? "." : "/", 1, out);
    return emb_strdup(env, path, (size_t)(slash - path), out);
}

static embed_status take_lock(emb_npy_sink *s) {
    if (flock(s->fd, LOCK_EX | LOCK_NB) == 0)
        return EMBED_OK;
    return errno == EWOULDBLOCK
               ? emb_fail(EMBED_ERR_IO, "%s: another process is writing it", s->partial)
               : emb_file_fail(s->partial, "cannot lock");
}

static embed_status begin(emb_npy_sink *s) {
    embed_status st = EMBED_OK;
    char header[EMB_NPY_HEADER_BYTES];
    s->fd = open(s->partial, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (s->fd < 0 && errno == EEXIST)
        return emb_fail(EMBED_ERR_IO, "%s: left by an earlier run; resume it, or remove it",
                        s->partial);
    if (s->fd < 0)
        return emb_file_fail(s->partial, "cannot create");
    s->created = 1;
    EMB_TRY(take_lock(s));
    if (unlink(s->state) != 0 && errno != ENOENT)
        return emb_file_fail(s->state, "cannot remove");
    s->state_fd = open(s->state, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (s->state_fd < 0)
        return emb_file_fail(s->state, "cannot create");
    emb_npy_make_header(header, s->now.rows, s->now.width);
    EMB_TRY(emb_durable_write_at(s->fd, header, sizeof header, 0, s->partial));
    EMB_TRY(checkpoint(s));
    EMB_TRY(emb_durable_sync_dir(s->dir));
fail:
    return st;
}

/* What a run without a usable state left is of no use. */
static embed_status begin_afresh(emb_npy_sink *s) {
    if (unlink(s->partial) != 0 && errno != ENOENT)
        return emb_file_fail(s->partial, "cannot remove");
    return begin(s);
}

static embed_status go_on(emb_npy_sink *s) {
    embed_status st = EMBED_OK;
    s->fd = open(s->partial, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (s->fd >= 0)
        EMB_TRY(take_lock(s));
    else if (errno != ENOENT)
        return emb_file_fail(s->partial, "cannot open");
    s->state_fd = open(s->state, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    const struct slot was = s->state_fd >= 0 ? read_state(s->state_fd) : (struct slot){0};
    if (was.number > 0 && (memcmp(was.identity, s->now.identity, sizeof was.identity) != 0 ||
                           was.rows != s->now.rows || was.width != s->now.width))
        return emb_fail(EMBED_ERR_MISMATCH,
                        "%s: begun with another list, model or way of making rows; remove it to "
                        "start anew",
                        s->partial);
    s->finished = was.number > 0 && was.done == was.rows && s->fd < 0 &&
                  size_of(s->path) == bytes_until(s, was.rows);
    if (s->finished) {
        s->now = was;
        return EMBED_OK;
    }
    if (was.number == 0 || s->fd < 0 || size_of(s->partial) < bytes_until(s, was.done)) {
        emb_file_close(s->fd);
        emb_file_close(s->state_fd);
        s->fd = s->state_fd = -1;
        return begin_afresh(s);
    }
    if (ftruncate(s->fd, (off_t)bytes_until(s, was.done)) != 0)
        return emb_file_fail(s->partial, "cannot truncate");
    s->now = was;
    s->safe = was.done;
fail:
    return st;
}

static embed_status add_suffix(const emb_env *env, const char *path, const char *suffix,
                               char **out) {
    size_t n;
    void *text;
    *out = NULL;
    embed_status st = emb_add(strlen(path), strlen(suffix) + 1, "path", &n);
    if (st == EMBED_OK)
        st = emb_alloc(env, n, &text);
    if (st != EMBED_OK)
        return st;
    (void)snprintf(text, n, "%s%s", path, suffix);
    *out = text;
    return EMBED_OK;
}

embed_status emb_npy_sink_open(emb_npy_sink **out, const emb_env *env, const char *path,
                               uint64_t rows, uint32_t width, const uint8_t identity[16],
                               int32_t resume, uint64_t *done) {
    embed_status st = EMBED_OK;
    emb_npy_sink *s = NULL;
    size_t bytes;
    *out = NULL;
    *done = 0;
    EMB_TRY(emb_new(env, sizeof *s, (void **)&s));
    s->env = *env;
    s->fd = s->state_fd = -1;
    s->row_bytes = width * sizeof(float);
    s->now = (struct slot){.magic = STATE_MAGIC, .rows = rows, .width = width};
    memcpy(s->now.identity, identity, sizeof s->now.identity);
    EMB_TRY(emb_durable_check_target(path));
    EMB_TRY(emb_mul(rows, s->row_bytes, path, &bytes));
    EMB_TRY(emb_add(bytes, EMB_NPY_HEADER_BYTES, path, &bytes));
    EMB_TRY(emb_strdup(env, path, strlen(path), &s->path));
    EMB_TRY(directory_of(env, path, &s->dir));
    EMB_TRY(add_suffix(env, path, ".partial", &s->partial));
    EMB_TRY(add_suffix(env, path, ".partial.state", &s->state));
    EMB_TRY(resume ? go_on(s) : begin(s));
    s->checkpoint = emb_clock_seconds();
    *done = s->now.done;
    *out = s;
    return EMBED_OK;
fail:
    emb_npy_sink_close(s, s != NULL && s->created);
    return st;
}

embed_status emb_npy_sink_write(emb_npy_sink *s, const float *rows, size_t n) {
    embed_status st = EMBED_OK;
    const uint64_t at = bytes_until(s, s->now.done);
    if (s->finished || n > s->now.rows - s->now.done)
        return emb_fail(EMBED_ERR_INTERNAL, "%s: too many rows", s->partial);
    EMB_TRY(emb_durable_write_at(s->fd, rows, n * s->row_bytes, at, s->partial));
    s->now.done += n;
    /* The disk starts on it now, so that a checkpoint has little left to wait for. */
    (void)sync_file_range(s->fd, (off64_t)at, (off64_t)(n * s->row_bytes), SYNC_FILE_RANGE_WRITE);
    if (emb_clock_seconds() - s->checkpoint >= CHECKPOINT_SECONDS)
        EMB_TRY(checkpoint(s));
fail:
    return st;
}

embed_status emb_npy_sink_finish(emb_npy_sink *s) {
    embed_status st = EMBED_OK;
    if (s->now.done != s->now.rows)
        return emb_fail(EMBED_ERR_INTERNAL, "%s: %llu of %llu rows", s->partial,
                        (unsigned long long)s->now.done, (unsigned long long)s->now.rows);
    if (!s->finished) {
        EMB_TRY(checkpoint(s));
        EMB_TRY(emb_durable_check_target(s->path));
        if (rename(s->partial, s->path) != 0)
            return emb_file_fail(s->path, "cannot rename to it");
        s->finished = 1;
    }
    EMB_TRY(emb_durable_sync_dir(s->dir));
    if (unlink(s->state) != 0 && errno != ENOENT)
        return emb_file_fail(s->state, "cannot remove");
fail:
    return st;
}

void emb_npy_sink_close(emb_npy_sink *s, int discard) {
    if (s == NULL)
        return;
    const emb_env env = s->env;
    const int ours = s->fd >= 0 && s->state_fd >= 0 && !s->finished;
    if (ours && discard) {
        (void)unlink(s->partial);
        (void)unlink(s->state);
    } else if (ours && s->now.done > s->safe) {
        (void)store(s); /* as much as there is; quietly, since something else went wrong before */
    }
    emb_file_close(s->fd);
    emb_file_close(s->state_fd);
    emb_free(&env, s->path);
    emb_free(&env, s->partial);
    emb_free(&env, s->state);
    emb_free(&env, s->dir);
    emb_free(&env, s);
}
