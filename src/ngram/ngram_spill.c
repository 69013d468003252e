#define _GNU_SOURCE
#include "ngram/ngram_spill.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/durable.h"
#include "io/file.h"

#define NAME "temporary file in " /* what a nameless one is called in messages */

/* File systems without nameless files get a name for a moment. */
static int open_named(const emb_env *env, const char *dir) {
    char *path;
    if (emb_file_join(env, dir, ".embed-ngrams-XXXXXX", &path) != EMBED_OK)
        return -1;
    const int fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0)
        (void)unlink(path);
    emb_free(env, path);
    return fd;
}

embed_status emb_ngram_spill_open(emb_ngram_spill *s, const emb_env *env, const char *dir,
                                  const char *beside) {
    embed_status st = EMBED_OK;
    size_t bytes;
    *s = (emb_ngram_spill){.fd = -1};
    if (dir != NULL)
        st = emb_strdup(env, dir, strlen(dir), &s->dir);
    else {
        size_t n = strlen(beside);
        while (n > 1 && beside[n - 1] == '/')
            n--;
        while (n > 0 && beside[n - 1] != '/')
            n--;
        st = emb_strdup(env, n > 0 ? beside : ".", n > 0 ? n : 1, &s->dir);
    }
    EMB_TRY(st);
    s->fd = open(s->dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (s->fd < 0)
        s->fd = open_named(env, s->dir);
    if (s->fd < 0) {
        st = emb_file_fail(s->dir, "cannot make a temporary file");
        goto fail;
    }
    EMB_TRY(emb_add(strlen(s->dir), sizeof NAME, "path", &bytes));
    EMB_TRY(emb_alloc(env, bytes, (void **)&s->name));
    (void)snprintf(s->name, bytes, NAME "%s", s->dir);
    return EMBED_OK;
fail:
    emb_ngram_spill_close(s, env);
    return st;
}

void emb_ngram_spill_close(emb_ngram_spill *s, const emb_env *env) {
    emb_file_close(s->fd);
    emb_free(env, s->dir);
    emb_free(env, s->name);
    *s = (emb_ngram_spill){.fd = -1};
}

embed_status emb_ngram_spill_add(emb_ngram_spill *s, const emb_ngram_fgram *grams, size_t n) {
    const embed_status st =
        emb_durable_write_at(s->fd, grams, n * sizeof *grams, s->rows * sizeof *grams, s->name);
    s->rows += st == EMBED_OK ? n : 0;
    return st;
}

embed_status emb_ngram_spill_read(const emb_ngram_spill *s, uint64_t first, size_t n,
                                  emb_ngram_fgram *out) {
    return emb_file_read_at(s->fd, s->name, first * sizeof *out, out, n * sizeof *out);
}
